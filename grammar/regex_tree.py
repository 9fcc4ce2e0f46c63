"""Syntax trees of patterns, as both dialects give them.  Who makes them: regex_syntax.py; what they match: regex.py."""

from __future__ import annotations

from dataclasses import dataclass

from .char_classes import Ranges


@dataclass(frozen=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence_:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    item: Node
    least: int
    most: int  # INFINITE: no bound


@dataclass(frozen=True)
class Anchor:
    """The start or the end of the text."""

    at_start: bool
    offset: int
    before_newline: bool = False  # also before a newline that ends the text: Python's $
    lines: bool = False  # also after, or before, any line end
    line_ends: Ranges = ()


@dataclass(frozen=True)
class Boundary:
    r"""\b: one side is a character of `word`, the other is none.   negated: \B; in_empty: an empty text has \B, too"""

    word: Ranges
    negated: bool
    offset: int
    in_empty: bool


@dataclass(frozen=True)
class Look:
    """(?=...) and its kin: what follows, or (behind) what comes before, is or (negated) is not `item`."""

    item: Node
    behind: bool
    negated: bool
    offset: int


Assertion = Anchor | Boundary | Look
Node = Chars | Sequence_ | Choice | Repeat | Assertion


def first_assertion(node: Node) -> Assertion | None:
    """The assertion that stands first in the pattern, if there is one."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Assertion):
            return node
        if isinstance(node, Repeat):
            waiting.append(node.item)
        elif not isinstance(node, Chars):
            waiting.extend(reversed(node.items))
    return None
