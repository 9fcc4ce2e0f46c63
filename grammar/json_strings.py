"""What may stand between the quotes of a JSON string: free text, patterns, formats, lengths, keys that are not taken.

Every spelling that JSON has is admitted (characters themselves, short escapes, \\u escapes, surrogate pairs); a lone
surrogate is not, since no text contains it.  Lengths count characters, whatever their spelling."""

from __future__ import annotations

import json
from collections.abc import Iterable

from . import char_classes as chars
from . import char_writers
from . import regex
from . import regex_syntax as syntax
from .regex_characters import Dialect
from .regex_tree import Chars, Node, Repeat
from .errors import RegexError, SchemaError
from .expressions import INFINITE, NOTHING, Expressions
from .json_formats import ANNOTATION_FORMATS, FORMATS
from .schema_shapes import StringLimits


class StringWriter:
    """Expressions for the inside of JSON strings, in one store."""

    def __init__(self, expressions: Expressions) -> None:
        self._e = expressions
        self._write = char_writers.AnyJsonWriter(expressions)
        self._parsed: dict[tuple[str, Dialect], Node] = {}
        self._bodies: dict[StringLimits, int] = {}
        self._keys: dict[frozenset[str], int] = {}

    @property
    def character(self) -> int:
        return self._write(chars.ALL)

    def body(self, limits: StringLimits) -> int:
        """Texts within the limits; NOTHING if there is none."""
        known = self._bodies.get(limits)
        if known is None:
            known = self._bodies[limits] = self._body(limits)
        return known

    def matches(self, limits: StringLimits, text: str) -> bool:
        e = self.body(limits)
        for byte in json.dumps(text)[1:-1].encode():
            e = next((left for members, left in self._e.derivatives(e) if members >> byte & 1), NOTHING)
        return self._e.nullable[e]

    def meet(self, a: StringLimits, b: StringLimits) -> bool:
        """Whether some text is within both limits."""
        return self.body(a.within(b)) != NOTHING

    def other_keys(self, taken: Iterable[str]) -> int:
        """Texts that are none of `taken`, in whatever spelling."""
        names = frozenset(taken)
        known = self._keys.get(names)
        if known is None:
            anything = self._e.repeat(self.character, 0)
            known = self._keys[names] = self._e.both(
                (anything,), self._e.alternative(map(self._spelled, sorted(names)))
            )
        return known

    def _spelled(self, text: str) -> int:
        """One text in all its spellings; a lone surrogate has none."""
        return self._e.sequence(*(self._write(chars.of_text(c)) for c in text))

    def _body(self, limits: StringLimits) -> int:
        if limits.least > limits.most:
            return NOTHING
        least, most = limits.least, limits.most
        parts = []
        for pattern, pointer in limits.patterns:
            node = self._parse(pattern, "ecma", pointer, "pattern")
            between = regex.between_anchors(node)
            if between is not None:
                node = between
                if isinstance(node, Repeat) and isinstance(node.item, Chars):
                    # One class repeated: its count is narrowed to the lengths.
                    low, high = max(node.least, least), min(node.most, most)
                    if low > high:
                        return NOTHING
                    node = Repeat(node.item, low, high)
                low, high = regex.character_lengths(node)
                if low >= least and high <= most:
                    least, most = 0, INFINITE  # the pattern alone sees to the lengths
            parts.append(self._matching(node, pattern, pointer, search=between is None))
        for name, pointer in limits.formats:
            if name in FORMATS:
                node = self._parse(FORMATS[name], "python", pointer, "format")
                low, high = regex.character_lengths(node)
                if low >= least and high <= most:
                    least, most = 0, INFINITE
                parts.append(self._matching(node, FORMATS[name], pointer, search=False))
            elif name not in ANNOTATION_FORMATS:
                raise SchemaError("is no format that can be enforced", pointer=pointer, keyword="format", value=name,
                                  hint="Enforced: " + ", ".join(sorted(FORMATS)) + ".")  # fmt: skip
        if (least, most) != (0, INFINITE) or not parts:
            parts.append(self._e.repeat(self.character, least, most))
        return self._e.both(parts)

    def _parse(self, pattern: str, dialect: Dialect, pointer: str, keyword: str) -> Node:
        known = self._parsed.get((pattern, dialect))
        if known is None:
            try:
                known = syntax.parse(pattern, dialect)
            except RegexError as error:
                raise _as_schema_error(error, pointer) from error
            self._parsed[pattern, dialect] = known
        return known

    def _matching(self, node: Node, pattern: str, pointer: str, *, search: bool) -> int:
        self._e.budget.place = pointer
        try:
            return regex.matching(node, pattern, self._e, self._write, search=search)
        except RegexError as error:
            raise _as_schema_error(error, pointer) from error


def _as_schema_error(error: RegexError, pointer: str) -> SchemaError:
    return SchemaError(
        f"{error.message} at offset {error.offset} of the pattern",
        pointer=pointer,
        keyword="pattern",
        value=error.pattern,
        hint=str(error).partition("\n")[2].strip("\n"),
    )
