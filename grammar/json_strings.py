r"""JSON strings, quotes included: free text, patterns, formats, lengths, names that are taken.

Free text of any length is admitted in every spelling that JSON has (characters themselves, short escapes, \u escapes,
surrogate pairs).  With a pattern, a format or names left out, and for names of properties, a text has one spelling:
that of json.dumps(text, ensure_ascii=False).  A lone surrogate is never admitted, since no text contains it.  Lengths
count characters, whatever their spelling."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from . import char_classes as chars
from . import regex
from .char_writers import AnyJsonWriter, JsonWriter, spelled_in_json
from .errors import RegexError, SchemaError
from .expressions import INFINITE, NOTHING, Expressions
from .json_formats import FORMATS
from .regex_characters import Dialect
from .regex_syntax import parse
from .regex_tree import Chars, Node, Repeat
from .schema_shapes import StringLimits


class StringWriter:
    """Expressions for JSON strings, in one store."""

    def __init__(self, expressions: Expressions) -> None:
        self._e = expressions
        self._canonical, self._any = JsonWriter(expressions), AnyJsonWriter(expressions)
        self._quote = expressions.literal(b'"')
        self._parsed: dict[tuple[str, Dialect], Node] = {}
        self._quoted: dict[tuple[StringLimits, bool], int] = expressions.remembered("strings")

    def literal_text(self, limits: StringLimits, canonical: bool = False) -> int:
        """Strings within the limits; NOTHING if there is none.   canonical: always in one spelling each"""
        canonical = canonical or limits != StringLimits(limits.least, limits.most)
        known = self._quoted.get((limits, canonical))
        if known is None:
            known = self._quoted[limits, canonical] = self._written(limits, canonical)
        return known

    def key(self, limits: StringLimits) -> int:
        """Names of properties within the limits."""
        return self.literal_text(limits, canonical=True)

    def constants(self, texts: Iterable[str]) -> int:
        """Exactly these texts, in their canonical spelling."""
        return self._e.words(b'"%s"' % spelled for spelled in map(spelled_in_json, texts) if spelled is not None)

    def is_empty(self, limits: StringLimits) -> bool:
        return self.literal_text(limits) == NOTHING

    def matches(self, limits: StringLimits, text: str) -> bool:
        if text in limits.excluded or not limits.least <= len(text) <= limits.most:
            return False
        spelled = spelled_in_json(text)
        if spelled is None:
            return False
        e = self.key(replace(limits, excluded=frozenset()))
        for byte in b'"%s"' % spelled:
            e = next((left for members, left in self._e.derivatives(e) if members >> byte & 1), NOTHING)
        return self._e.nullable[e]

    def count(self, limits: StringLimits, cap: int) -> int:
        """How many texts there are, or `cap` if there are more."""
        e = self.key(limits)
        found, ways = 0, {e: 1} if e != NOTHING else {}
        while ways:
            # Every way leads to another text, as what is left of an expression is never nothing.
            if found + sum(ways.values()) >= cap:
                return cap
            following: dict[int, int] = {}
            for state, times in ways.items():
                found += times * self._e.nullable[state]
                for members, left in self._e.derivatives(state):
                    following[left] = following.get(left, 0) + times * members.bit_count()
            ways = following
        return min(found, cap)

    def _written(self, limits: StringLimits, canonical: bool) -> int:
        if limits.least > limits.most:
            return NOTHING
        e = self._e
        body = self._body(limits) if canonical else e.repeat(self._any(chars.ALL), limits.least, limits.most)
        quoted = e.sequence(self._quote, body, self._quote)
        return e.both((quoted,), self.constants(limits.excluded)) if limits.excluded else quoted

    def _body(self, limits: StringLimits) -> int:
        """Texts within the limits, those that are excluded not yet left out, in their canonical spelling."""
        least, most = limits.least, limits.most
        parts, without = [], []
        for pattern, pointer in limits.patterns:
            node = self._parse(pattern, "ecma", pointer)
            if regex.character_lengths(node)[0] > most:
                return NOTHING
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
                node = self._parse(FORMATS[name].pattern, "python", pointer)
                low, high = regex.character_lengths(node)
                if low >= least and high <= most:
                    least, most = 0, INFINITE
                parts.append(self._matching(node, FORMATS[name].pattern, pointer, search=False))
        for pattern, pointer in limits.not_patterns:
            node = self._parse(pattern, "ecma", pointer)
            without.append(self._matching(node, pattern, pointer, search=True))
        for name, pointer in limits.not_formats:
            without.append(self._outside_format(name, pointer))
        if (least, most) != (0, INFINITE) or not parts:
            every = self._canonical(chars.ALL)
            parts.append(self._e.characters(every, least, most) if parts else self._e.repeat(every, least, most))
        return self._e.both(parts, self._e.alternative(without))

    def _outside_format(self, name: str, pointer: str) -> int:
        """What `not` takes away with a format: all texts, where the format says nothing of which are valid."""
        if name not in FORMATS:
            return self._e.repeat(self._canonical(chars.ALL), 0)
        if not FORMATS[name].exact:
            raise SchemaError("can be enforced, but not its opposite", pointer=pointer, keyword="format", value=name)
        node = self._parse(FORMATS[name].pattern, "python", pointer)
        return self._matching(node, FORMATS[name].pattern, pointer, search=False)

    def _parse(self, pattern: str, dialect: Dialect, pointer: str) -> Node:
        known = self._parsed.get((pattern, dialect))
        if known is None:
            try:
                known = parse(pattern, dialect)
            except RegexError as error:
                raise _as_schema_error(error, pointer) from error
            self._parsed[pattern, dialect] = known
        return known

    def _matching(self, node: Node, pattern: str, pointer: str, *, search: bool) -> int:
        self._e.budget.place = pointer
        try:
            return regex.matching(node, pattern, self._e, self._canonical, search=search)
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
