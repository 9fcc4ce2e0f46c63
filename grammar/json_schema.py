"""JSON Schema -> an expression over the bytes of JSON text.

What is enforced, ignored and refused stands in json_keywords.py; nothing is enforced by half.  Declared choices, within
which every valid value can be written and nothing else:
- white space: at most one blank after ',' and ':', none elsewhere;
- properties come in the order of the schema's text, then those only named in `required`, then all others; those
  not required may be left out.  As in JSON itself, a property that the schema does not name may be written twice;
- names, enum and const values are written plainly (no \\u escape that is not needed), other strings in any way;
- numbers as json_numbers.py says; formats as json_formats.py says; `pattern` is ECMA-262 and may match anywhere;
- missing additionalProperties means any, as in the standard; recursion ($ref, any JSON value) has no bound."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .errors import SchemaError
from .expressions import INFINITE, NOTHING, Expressions
from .json_numbers import NumberWriter
from .json_strings import StringWriter
from .schema_document import Document
from .schema_shapes import (
    FRACTION,
    INTEGER,
    ArrayLimits,
    Conjunction,
    Located,
    ObjectLimits,
    Shape,
    StringLimits,
)

MAX_COUNTED = 20_000  # properties times minProperties or maxProperties


def compile_schema(text: str, expressions: Expressions) -> int:
    """The JSON texts that the schema (given as JSON text) admits; never NOTHING.  Raises SchemaError."""
    return _SchemaWriter(json.loads(text), expressions).write()


class _SchemaWriter:
    def __init__(self, root: Any, expressions: Expressions) -> None:
        self._e = e = expressions
        self._strings = StringWriter(e)
        self._numbers = NumberWriter(e)
        self._document = Document(root, matches_string=self._strings.matches, strings_meet=self._strings_meet)
        blank = e.optional(e.literal(b" "))
        self._comma = e.concat(e.literal(b","), blank)
        self._colon = e.concat(e.literal(b":"), blank)
        self._quote = e.literal(b'"')
        self._pointer = "#"  # of the schema being written
        self._known: dict[tuple[str, ...], int] = {}
        self._rules: dict[tuple[str, ...], int] = {}  # of those conjunctions that were met inside themselves
        self._open: dict[tuple[str, ...], None] = {}
        self._shapes: dict[int, tuple[Shape, int]] = {}  # by identity; the shape is kept so that its id is not reused

    def write(self) -> int:
        root = self._document.root
        result = self._conjunction((root,))
        endless = self._e.settle_rules()
        rules = {rule: key for key, rule in self._rules.items()}
        for rule in endless:
            pointer = rules[rule][-1] if rules[rule] else "#"
            raise SchemaError("every value of this schema would have to hold another one without end", pointer=pointer)
        if result == NOTHING:
            raise SchemaError("no value satisfies this schema", pointer="#", value=root.schema)
        return result

    def _conjunction(self, conjunction: Conjunction) -> int:
        """Texts of the values that satisfy all of these schemas; inside itself, a rule that stands for them."""
        key = tuple(located.pointer for located in conjunction)
        if key in self._known:
            return self._known[key]
        if key in self._open:
            if key not in self._rules:
                self._rules[key] = self._e.new_rule()
            return self._rules[key]
        target = self._plain_reference(conjunction)
        if target is not None:
            result = self._conjunction((target,))
            self._known[key] = result
            return result
        self._open[key] = None
        outer, self._pointer = self._pointer, key[-1] if key else self._pointer
        self._e.budget.place = self._pointer
        result = self._e.alternative([self._shape(s) for s in self._document.alternatives(conjunction)])
        self._pointer = outer
        del self._open[key]
        if key in self._rules:
            self._e.set_rule(self._rules[key], result)
        self._known[key] = result
        return result

    def _plain_reference(self, conjunction: Conjunction) -> Located | None:
        """The target of a schema that is nothing but a $ref: it shares the target's expression."""
        if len(conjunction) != 1 or not isinstance(conjunction[0].schema, dict):
            return None
        schema, pointer = conjunction[0]
        reference = schema.get("$ref")
        if not isinstance(reference, str) or set(schema) - {"$ref", "title", "description", "default"}:
            return None
        target = self._document.resolve(reference, pointer)
        return None if isinstance(target.schema, dict) and "$ref" in target.schema else target

    def _shape(self, shape: Shape) -> int:
        known = self._shapes.get(id(shape))
        if known is None:
            result = self._e.alternative(self._values(shape) if shape.constants is not None else self._types(shape))
            known = self._shapes[id(shape)] = (shape, result)
        return known[1]

    def _values(self, shape: Shape) -> list[int]:
        return [self._value(v) for v in shape.constants or () if self._document.admits(shape, v)]

    def _strings_meet(self, a: StringLimits, b: StringLimits) -> bool:
        return not self._strings.is_empty(a.within(b))

    def _types(self, shape: Shape) -> list[int]:
        e, options = self._e, []
        for kind in sorted(shape.types):
            if kind == "null":
                options.append(e.literal(b"null"))
            elif kind == "boolean":
                options += [e.literal(b"true"), e.literal(b"false")]
            elif kind == FRACTION:
                options.append(self._numbers.literal_text(shape.number))
            elif kind == INTEGER:
                if FRACTION not in shape.types:
                    options.append(self._numbers.literal_text(replace(shape.number, whole=True)))
            elif kind == "string":
                options.append(self._strings.literal_text(shape.string))
            elif kind == "array":
                options.append(self._array(shape.array))
            else:
                options.append(self._object(shape.object))
        return options

    # ---- arrays and objects ------------------------------------------------------------------------------------

    def _array(self, limits: ArrayLimits) -> int:
        e = self._e
        if limits.least > limits.most:
            return NOTHING
        close = e.literal(b"]")
        count = min(len(limits.prefix), limits.most)
        rest = self._conjunction(limits.rest) if limits.most > count else NOTHING
        most = INFINITE if limits.most >= INFINITE else limits.most - max(count, 1)
        more = e.concat(e.repeat(e.concat(self._comma, rest), max(0, limits.least - max(count, 1)), most), close)
        if count == 0:
            first = e.concat(rest, more)
            return e.concat(e.literal(b"["), e.alternative((first, close) if limits.least == 0 else (first,)))
        for i in range(count - 1, -1, -1):  # `more`: what may follow i + 1 items
            item = e.concat(self._conjunction(limits.prefix[i]), more)
            if i > 0:
                item = e.concat(self._comma, item)
            more = e.alternative((item, close) if i >= limits.least else (item,))
        return e.concat(e.literal(b"["), more)

    def _object(self, limits: ObjectLimits) -> int:
        e = self._e
        if limits.least > limits.most:
            return NOTHING
        named = dict(limits.properties)
        required = set(limits.required)
        entries: list[tuple[int, bool]] = []  # (name, colon and value; required)
        for name in (*named, *(n for n in limits.required if n not in named)):
            value = self._conjunction(named.get(name, limits.rest))
            if value != NOTHING:
                entries.append((e.sequence(self._plain(name), self._colon, value), name in required))
            elif name in required:
                return NOTHING
        rest = self._conjunction(limits.rest)
        if rest != NOTHING:
            taken = frozenset((*named, *limits.required))
            rest = e.sequence(self._strings.key(StringLimits(excluded=taken)), self._colon, rest)
        if len(required) < limits.least or (limits.most < len(entries) or (rest != NOTHING and limits.most < INFINITE)):
            return self._counted_object(limits, entries, rest, len(required))
        close = e.literal(b"}")
        more = e.concat(e.repeat(e.concat(self._comma, rest), 0), close)  # what may follow once a property is written
        none = e.alternative((e.concat(rest, more), close))  # ... while there is none yet
        for entry, is_required in reversed(entries):
            first, next_ = e.concat(entry, more), e.sequence(self._comma, entry, more)
            none = first if is_required else e.alternative((first, none))
            more = next_ if is_required else e.alternative((next_, more))
        return e.concat(e.literal(b"{"), none)

    def _counted_object(
        self, limits: ObjectLimits, entries: Sequence[tuple[int, bool]], rest: int, required: int
    ) -> int:
        """An object whose minProperties or maxProperties says more than its required properties do."""
        e, most = self._e, limits.most
        if rest != NOTHING and limits.least > required + 1:
            # A name that the schema does not know may come twice, and would be counted twice.
            raise SchemaError(
                "cannot be enforced together with properties that the schema does not name",
                pointer=self._pointer,
                keyword="minProperties",
                value=limits.least,
                hint="Name the properties and set additionalProperties to false.",
            )
        cap = limits.least if most >= INFINITE else most  # beyond it, counts are alike
        if cap * (len(entries) + 1) > MAX_COUNTED:
            raise SchemaError("too many properties to count", pointer=self._pointer, keyword="minProperties", value=cap)
        close = e.literal(b"}")

        def entry_at(count: int, entry: int) -> int:
            return e.concat(self._comma, entry) if count else entry

        ends = []  # by number of properties written: what may follow when no named one is left
        for count in range(cap + 1):
            if rest == NOTHING:
                ends.append(close if count >= limits.least else NOTHING)
                continue
            low, high = max(0, limits.least - count), INFINITE if most >= INFINITE else most - count
            if count:
                ends.append(e.concat(e.repeat(e.concat(self._comma, rest), low, high), close))
            else:
                again = e.repeat(e.concat(self._comma, rest), max(0, low - 1), high if high >= INFINITE else high - 1)
                some = e.sequence(rest, again, close) if high else NOTHING
                ends.append(e.alternative((some, close) if low == 0 else (some,)))
        for entry, is_required in reversed(entries):
            after = list(ends)
            for count in range(cap + 1):
                full = count == cap and most < INFINITE
                with_it = NOTHING if full else e.concat(entry_at(count, entry), after[min(count + 1, cap)])
                ends[count] = with_it if is_required else e.alternative((with_it, after[count]))
        return e.concat(e.literal(b"{"), ends[0])

    # ---- values as they stand ----------------------------------------------------------------------------------

    def _value(self, value: Any) -> int:
        """The texts of one value: its own order and plain spelling, a blank where one may be."""
        e = self._e
        if isinstance(value, dict):
            members = [e.sequence(self._plain(name), self._colon, self._value(v)) for name, v in value.items()]
            return e.sequence(e.literal(b"{"), *self._separated(members), e.literal(b"}"))
        if isinstance(value, list):
            return e.sequence(e.literal(b"["), *self._separated([self._value(v) for v in value]), e.literal(b"]"))
        if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
            return e.alternative((e.literal(b"%d" % int(value)), e.literal(json.dumps(value).encode())))
        return self._plain(value)

    def _plain(self, value: str | float | None) -> int:
        text = json.dumps(value, ensure_ascii=False)
        try:
            return self._e.literal(text.encode())
        except UnicodeEncodeError:  # half of a surrogate pair: no output can contain it
            return NOTHING

    def _separated(self, items: list[int]) -> list[int]:
        return [part for i, item in enumerate(items) for part in ((self._comma, item) if i else (item,))]
