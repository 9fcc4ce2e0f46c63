"""What stands for a value while a program is traced: text that may be written on, and whose inspection ends the trace.

Here: Reference (what is stood for), Placeholders (references <-> marks in text), TracedText, TracedValue, TraceEnds,
and ends_seen, which remembers an end that the program caught.
Not here: tracing (trace).  Imports errors and nodes only.

A traced text is a str that holds marks, so that it passes through +, f-strings and "".join as any text does, and the
program's text can be taken apart again afterwards.  Asking what is in it (==, len, split, in, as a key, ...) ends the
trace with the line that asked.  Code in C that reads a str without asking it (re, an f-string's result) sees the mark:
a trace is therefore a forecast, which a run checks, and never what a run is."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from .nodes import SourceLine, caller_line

_LIBRARY = os.path.dirname(os.__file__)  # a line of json.loads tells a user less than the line that called it

__all__ = ["Placeholders", "Reference", "TraceEnds", "TracedText", "TracedValue", "ends_seen"]

ends_seen: ContextVar[list[TraceEnds] | None] = ContextVar("forktree_trace_ends", default=None)
"""The ends of the trace that runs here; None where none runs.  A bare `except` can catch an end, not undo it."""

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # no characters, by Unicode's word: no text of a user has them


class TraceEnds(BaseException):
    """The program asks for something that only a run knows.  No Exception: a program's `except` must not stop it."""

    def __init__(self, reason: str, source: SourceLine | None = None) -> None:
        super().__init__(reason)
        self.reason, self.source = reason, source or caller_line(_LIBRARY)
        if (ends := ends_seen.get()) is not None:
            ends.append(self)


@dataclass(frozen=True)
class Reference:
    """An argument by name, an output by its node's id (of a gen's n, the one that `output` says), or what the chat
    format adds around a role."""

    kind: Literal["argument", "output", "format"]
    what: str | int
    output: int = 0
    shown: str = ""  # for people: gen("answer")


class Placeholders:
    """The references of one trace, and their marks.  The marks hold a random word: no text of a user has it, and what
    is left of a mark that was cut, escaped or put into other letters is found by it."""

    def __init__(self) -> None:
        self._word = "x" + secrets.token_hex(6)
        self._references: list[Reference] = []
        self._marks: dict[Reference, str] = {}
        self._opening = f"{_OPEN}{self._word}:"
        self._pattern = re.compile(f"{self._opening}([0-9]+){_CLOSE}")
        self._shown = re.compile(rf"(?:{_OPEN}|\\ufdd0){self._word}:([0-9]+)(?:{_CLOSE}|\\ufdd1)")  # a repr's, too

    def mark(self, reference: Reference) -> str:
        mark = self._marks.get(reference)
        if mark is None:
            mark = self._marks[reference] = f"{self._opening}{len(self._references)}{_CLOSE}"
            self._references.append(reference)
        return mark

    def text(self, reference: Reference) -> TracedText:
        return TracedText(self.mark(reference), reference.shown)

    def traced(self, value: Any) -> Any:
        """Text that holds marks, as text that ends the trace when it is inspected, in lists and dicts too; anything
        else as it is."""
        if isinstance(value, list):
            return [self.traced(each) for each in value]
        if isinstance(value, dict):
            return {key: self.traced(each) for key, each in value.items()}
        if type(value) is str and self._opening in value:
            first = next((piece for piece in self.pieces(value) if isinstance(piece, Reference)), None)
            return TracedText(value, first.shown if first else "the text")
        return value

    def pieces(self, text: str) -> Iterator[str | Reference]:
        """Text and references in turn, none empty.  Raises TraceEnds where a mark was cut or changed."""
        text, position = str.__str__(text), 0
        for match in self._pattern.finditer(text):
            yield from self._plain(text[position : match.start()])
            yield self._references[int(match[1])]
            position = match.end()
        yield from self._plain(text[position:])

    def holds_marks(self, text: str) -> bool:
        return any(isinstance(piece, Reference) for piece in self.pieces(text))

    def shown(self, text: str) -> str:
        """The text for people, with what its marks stand for."""
        return self._shown.sub(lambda match: f"{{{self._references[int(match[1])].shown}}}", text)

    def _plain(self, text: str) -> Iterator[str]:
        if _OPEN in text or _CLOSE in text or self._word in text.lower():
            raise TraceEnds("text that a run will generate was changed on the way")
        if text:
            yield text


class TracedText(str):
    """A str that may be written on, not looked into."""

    __slots__ = ("_shown",)
    _shown: str

    def __new__(cls, marked: str, shown: str) -> TracedText:
        self = super().__new__(cls, marked)
        self._shown = shown
        return self

    def __add__(self, other: object) -> Any:
        if not isinstance(other, str):
            return NotImplemented  # a node, which knows what to do with text before it
        return TracedText(str.__add__(self, other), self._shown)

    def __radd__(self, other: object) -> Any:
        if not isinstance(other, str):
            return NotImplemented
        return TracedText(str.__add__(other, str.__str__(self)), self._shown)

    def __mul__(self, times: Any) -> Any:
        return TracedText(str.__mul__(self, times), self._shown)

    __rmul__ = __mul__

    def __str__(self) -> str:
        return self

    def __format__(self, spec: str) -> str:
        return self if not spec else _refuse(self, f"is formatted as {spec!r}")

    def __repr__(self) -> str:
        return _refuse(self, "is shown by repr()")


class TracedValue:
    """A value that is no text, such as a parsed object: anything done with it ends the trace."""

    __slots__ = ("_shown",)

    def __init__(self, shown: str) -> None:
        object.__setattr__(self, "_shown", shown)


def _refuse(value: Any, what: str) -> NoReturn:
    raise TraceEnds(f"{object.__getattribute__(value, '_shown')} {what}")


def _refusing(name: str) -> Callable[..., NoReturn]:
    what = _SAID.get(name) or f"is asked for {name.strip('_')}"

    def method(self: Any, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self, what)

    method.__name__ = name
    return method


_SAID = {
    "__eq__": "is compared",
    "__ne__": "is compared",
    "__lt__": "is compared",
    "__le__": "is compared",
    "__gt__": "is compared",
    "__ge__": "is compared",
    "__hash__": "is looked up",
    "__bool__": "decides what comes next",
    "__len__": "is measured",
    "__iter__": "is walked through",
    "__contains__": "is searched",
    "__getitem__": "is cut",
    "__int__": "is made a number",
    "__float__": "is made a number",
    "__index__": "is made a number",
    "__call__": "is called",
    "__str__": "is made text",
    "__format__": "is made text",
    "__repr__": "is made text",
    "__getattr__": "is looked into",
    "__setattr__": "is changed",
    "__mod__": "is used as a pattern for text",
    "format": "is used as a pattern for text",
    "format_map": "is used as a pattern for text",
    "join": "is used as a separator",
}
_HARMLESS = {"__new__", "__init__", "__class__", "__doc__", "__getattribute__", "__setattr__", "__delattr__", "__dir__"}
_HARMLESS |= {"__init_subclass__", "__subclasshook__", "__sizeof__", "__reduce__", "__reduce_ex__", "__getstate__"}
_HARMLESS |= {"__add__", "__radd__", "__str__", "__format__", "__repr__", "__mul__", "__rmul__", "__rmod__"}

for _name in {*dir(str), "__bool__", "__int__", "__float__", "__index__"} - _HARMLESS:
    setattr(TracedText, _name, _refusing(_name))
for _name in (*_SAID, "__add__", "__radd__", "__sub__", "__mul__", "__truediv__", "__next__", "__enter__", "__await__"):
    if _name.startswith("__"):
        setattr(TracedValue, _name, _refusing(_name))
