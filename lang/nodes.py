"""The nodes of a program: frozen values that say what is to happen and where the user wrote it.

Here: Text, Gen, Select, RoleBegin, RoleEnd, Fork and Concat, and the file and line of the user's code.
Not here: running them (executor), checking what users pass (api).  Imports nothing of ours but what a node holds."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import greenlet  # type: ignore[import-untyped, unused-ignore]  # no stubs are published

from .choices import ChoicesMethod
from .errors import ArgumentError
from .options import SamplingOptions
from .reasoning import ReasoningTags

_OURS = ("forktree.lang", "forktree.cli")


class SourceLine(NamedTuple):
    """A line of the user's code; prints as demo.py:12, as editors and terminals recognise it."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def caller_line(not_in: str = "") -> SourceLine:
    """The innermost line outside forktree, and outside the folder `not_in`: frames of this package, and of what drives
    it, are skipped."""
    frame, running = sys._getframe(1), None
    while frame.f_globals.get("__name__", "").startswith(_OURS) or (
        not_in and frame.f_code.co_filename.startswith(not_in)
    ):
        outer = frame.f_back  # asked for last: it makes an object of a frame, which lives as long as the frame
        if outer is None:  # code of ours in a greenlet: whoever drives it has called it
            running = greenlet.getcurrent() if running is None else running.parent
            outer = running.parent.gr_frame if running.parent is not None else None
        if outer is None:
            break
        frame = outer
    file, line = frame.f_code.co_filename, frame.f_lineno
    known = _lines.get((file, line))
    if known is None:
        known = _lines[file, line] = SourceLine(file, line)
    return known


_lines: dict[tuple[str, int], SourceLine] = {}
"""Each line once, however often it runs: as many as the user's code has lines that write to a program."""


@dataclass(frozen=True, slots=True)
class Node:
    """One thing that a program does; `"a" + node + "b"` and `node + node` make a Concat."""

    source: SourceLine

    @property
    def label(self) -> str:
        """As errors name it: gen("answer")."""
        return type(self).__name__.lower()

    def __add__(self, other: object) -> Concat:
        return Concat.of((self, other), self.source)

    def __radd__(self, other: object) -> Concat:
        return Concat.of((other, self), self.source)

    def __str__(self) -> str:
        """Nobody means to prompt with a node's repr, which is what an f-string would make of it."""
        raise ArgumentError(
            f"{self.label} has no text yet, so it can't be part of a string at {caller_line()}: "
            f'add it with +, as in "..." + {self.label}'
        )

    def __format__(self, spec: str) -> str:
        return str(self)


@dataclass(frozen=True, slots=True)
class Text(Node):
    text: str


@dataclass(frozen=True, slots=True)
class Gen(Node):
    """Generate.  `name` is None for an unnamed gen, whose text is appended and can't be read by name."""

    name: str | None
    options: SamplingOptions
    extra_stops: tuple[str, ...] = ()  # on top of the stops of gen or run: where a number ends
    value_type: object = None  # the variable is a value of this type; options.json_schema is its schema
    timeout: float | None = None  # seconds, from when its turn in its branch comes
    reasoning: ReasoningTags | None = None  # thoughts between these are no part of the variable

    @property
    def label(self) -> str:
        return f'gen("{self.name}")' if self.name is not None else "gen()"


@dataclass(frozen=True, slots=True)
class Select(Node):
    """Pick one of `choices` by how likely each is here."""

    name: str | None
    choices: tuple[str, ...]
    temperature: float
    method: ChoicesMethod
    seed: int | None = None
    timeout: float | None = None

    @property
    def label(self) -> str:
        return f'select("{self.name}")' if self.name is not None else "select()"


@dataclass(frozen=True, slots=True)
class RoleBegin(Node):
    role: str

    @property
    def label(self) -> str:
        return f"{self.role}_begin()"


@dataclass(frozen=True, slots=True)
class RoleEnd(Node):
    role: str

    @property
    def label(self) -> str:
        return f"{self.role}_end()"


@dataclass(frozen=True, slots=True)
class Fork(Node):
    size: int

    @property
    def label(self) -> str:
        return f"fork({self.size})"


@dataclass(frozen=True, slots=True)
class Concat(Node):
    """Nodes one after the other; never holds another Concat."""

    nodes: tuple[Node, ...]

    @staticmethod
    def of(items: Iterable[object], source: SourceLine) -> Concat:
        return Concat(source, tuple(node for item in items for node in flatten(item, source)))

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def flatten(item: object, source: SourceLine) -> tuple[Node, ...]:
    """What `s += item` may be: text, a node, or a list or tuple of these.  Raises ArgumentError for anything else."""
    if isinstance(item, str):
        return (Text(source, checked_text(item)),)
    if isinstance(item, Concat):
        return item.nodes
    if isinstance(item, Node):
        return (item,)
    if isinstance(item, (list, tuple)):
        return tuple(node for each in item for node in flatten(each, source))
    hint = (
        "call str() on it"
        if isinstance(item, (int, float, bool))
        else "wanted text, gen(), select(), a role or a list of these"
    )
    raise ArgumentError(f"{kind_of(item)} can't be added to a program at {source}: {hint}")


def checked_text(text: str) -> str:
    """Text that a model can be given; half a surrogate pair is no character, and nothing could encode it."""
    if str.isascii(text):  # str's own: a subclass, such as the text of a trace, may have another
        return text
    try:
        str.encode(text)
    except UnicodeEncodeError as error:
        raise ArgumentError(
            f"the text at {caller_line()} has a lone surrogate, {text[error.start]!r}, at offset {error.start}: "
            f"it is no character; read its source with errors='replace', or leave it out"
        ) from None
    return text


def kind_of(item: object) -> str:
    """a dict, an int, None."""
    if item is None:
        return "None"
    name = type(item).__name__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
