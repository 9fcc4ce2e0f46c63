"""White space of JSON texts, and the style in which a value is written.

White space is silent (rules.py): two items are the same whatever blanks stand in them."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from .rules import EMPTY, Rules

WhiteSpace: TypeAlias = "Literal['bounded', 'compact', 'any'] | tuple[Literal['pretty'], int]"


class Style(NamedTuple):
    """canonical: equal values have equal texts;   depth: levels of brackets around, where that changes the text"""

    canonical: bool = False
    depth: int = 0


class Layout:
    """The nodes between the parts of arrays and objects."""

    def __init__(self, rules: Rules, white_space: WhiteSpace) -> None:
        self._rules = rules
        self._indent = white_space[1] if isinstance(white_space, tuple) else None
        self.is_indented = self._indent is not None
        self._breaks: dict[int, int] = {}
        blank = rules.literal(b" ", silent=True)
        self.gap = EMPTY  # where any white space may stand, if any may
        between = EMPTY
        if white_space == "any":
            blanks = rules.choice(rules.literal(b, silent=True) for b in (b" ", b"\n", b"\t", b"\r"))
            self.gap = between = rules.repeat(blanks, 0)
        elif white_space == "bounded":
            between = rules.optional(blank)
        self._between = between
        self.colon = rules.sequence(self.gap, rules.literal(b":"), blank if self._indent is not None else between)
        self._comma = rules.sequence(self.gap, rules.literal(b","), between)
        self.text_of_colon = b": " if self._indent is not None else b":" if between == EMPTY else b""

    def inside(self, style: Style) -> Style:
        """The style of what stands in brackets."""
        return style if self._indent is None else Style(style.canonical, style.depth + 1)

    def first(self, style: Style) -> int:
        """Between the opening bracket and the first part.   style: that of the parts"""
        return self._break(style.depth)

    def comma(self, style: Style) -> int:
        return self._comma if self._indent is None else self._rules.sequence(self._comma, self._break(style.depth))

    def last(self, style: Style) -> int:
        """Between the last part and the closing bracket."""
        return self._break(style.depth - 1)

    def _break(self, depth: int) -> int:
        if self._indent is None:
            return self.gap
        known = self._breaks.get(depth)
        if known is None:
            text = b"\n" + b" " * (self._indent * depth)
            known = self._breaks[depth] = self._rules.literal(text, silent=True)
        return known
