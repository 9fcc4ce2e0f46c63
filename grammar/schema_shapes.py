"""What one schema asks of a value, type by type, and what several ask of it at once.

Here: limits, their intersection, the limits that a schema object's own keywords set.  Not here: $ref, allOf, anyOf,
oneOf (schema_document.py), expressions (json_schema.py)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, NamedTuple

from .errors import SchemaError
from .expressions import INFINITE
from .json_keywords import refuse
from .json_numbers import MAX_DIGITS, MAX_MODULUS, NumberLimits, exact, has_few_digits, modulus_of


class Located(NamedTuple):
    """A schema and where it stands in the document: a JSON pointer as URI fragment, "#" for the whole."""

    schema: Any
    pointer: str


Conjunction = tuple[Located, ...]

# "number" is split in two, so that types can be intersected: integers, and numbers that are none.
INTEGER, FRACTION = "integer", "fraction"
ALL_TYPES = frozenset(("null", "boolean", INTEGER, FRACTION, "string", "array", "object"))


@dataclass(frozen=True)
class StringLimits:
    """All of these hold.   least, most: characters; patterns, not_patterns: (pattern, pointer); formats, not_formats:
    (name, pointer); excluded: texts that are not meant."""

    least: int = 0
    most: int = INFINITE
    patterns: tuple[tuple[str, str], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    not_patterns: tuple[tuple[str, str], ...] = ()
    not_formats: tuple[tuple[str, str], ...] = ()
    excluded: frozenset[str] = frozenset()

    def within(self, other: StringLimits) -> StringLimits:
        return StringLimits(
            max(self.least, other.least),
            min(self.most, other.most),
            _union(self.patterns, other.patterns),
            _union(self.formats, other.formats),
            _union(self.not_patterns, other.not_patterns),
            _union(self.not_formats, other.not_formats),
            self.excluded | other.excluded,
        )


@dataclass(frozen=True)
class ArrayLimits:
    """prefix: what the first items must satisfy; rest: all further ones; least, most: how many."""

    prefix: tuple[Conjunction, ...] = ()
    rest: Conjunction = ()
    least: int = 0
    most: int = INFINITE

    def within(self, other: ArrayLimits) -> ArrayLimits:
        count = max(len(self.prefix), len(other.prefix))
        prefix = tuple(_union(self.item(i), other.item(i)) for i in range(count))
        return ArrayLimits(
            prefix, _union(self.rest, other.rest), max(self.least, other.least), min(self.most, other.most)
        )

    def item(self, i: int) -> Conjunction:
        return self.prefix[i] if i < len(self.prefix) else self.rest


@dataclass(frozen=True)
class ObjectLimits:
    """properties: in the order in which they are written; rest: what every other property must satisfy."""

    properties: tuple[tuple[str, Conjunction], ...] = ()
    required: tuple[str, ...] = ()
    rest: Conjunction = ()
    least: int = 0
    most: int = INFINITE

    def within(self, other: ObjectLimits) -> ObjectLimits:
        mine, theirs = dict(self.properties), dict(other.properties)
        names = (*mine, *(name for name in theirs if name not in mine))
        properties = tuple((n, _union(mine.get(n, self.rest), theirs.get(n, other.rest))) for n in names)
        return ObjectLimits(
            properties,
            _union(self.required, other.required),
            _union(self.rest, other.rest),
            max(self.least, other.least),
            min(self.most, other.most),
        )


@dataclass(frozen=True)
class Shape:
    """One alternative.  Limits of a type hold for values of that type; constants, if any, list all values allowed."""

    types: frozenset[str] = ALL_TYPES
    constants: tuple[Any, ...] | None = None
    string: StringLimits = field(default_factory=StringLimits)
    number: NumberLimits = field(default_factory=NumberLimits)
    array: ArrayLimits = field(default_factory=ArrayLimits)
    object: ObjectLimits = field(default_factory=ObjectLimits)

    def within(self, other: Shape) -> Shape | None:
        """What both admit; None where their types or constants show that this is nothing."""
        types = self.types & other.types
        if self.constants is None or other.constants is None:
            constants = other.constants if self.constants is None else self.constants
        else:
            constants = tuple(v for v in self.constants if any(same_value(v, w) for w in other.constants))
        if not types or constants == ():
            return None
        return Shape(
            types,
            constants,
            self.string.within(other.string),
            self.number.within(other.number),
            self.array.within(other.array),
            self.object.within(other.object),
        )


def join(pointer: str, name: str) -> str:
    """The pointer of a member: RFC 6901 escapes."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def same_value(a: Any, b: Any) -> bool:
    """Equality as JSON Schema has it: 1 is 1.0, true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return exact(a) == exact(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_value(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_value(a[k], b[k]) for k in a)
    return type(a) is type(b) and bool(a == b)


def _union(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """Both, without repetition, in order; schemas are told apart by their pointers."""
    if not b or a is b:
        return a
    if not a:
        return b
    keys = {_identity(x) for x in a}
    return (*a, *(y for y in b if _identity(y) not in keys))


def _identity(x: Any) -> Any:
    return x.pointer if isinstance(x, Located) else x


# ---- one schema object's own keywords ---------------------------------------------------------------------------


def own_shape(schema: dict[str, Any], pointer: str) -> Shape:
    """What a schema object says itself, references and combinations left out.  Its keywords have been checked."""
    types = ALL_TYPES
    if "type" in schema:
        names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        types = frozenset(t for name in names for t in ((INTEGER, FRACTION) if name == "number" else (name,)))
    constants: tuple[Any, ...] | None = tuple(schema["enum"]) if "enum" in schema else None
    if "const" in schema:
        const = schema["const"]
        constants = (const,) if constants is None else tuple(v for v in constants if same_value(v, const))
    array = _array_limits(schema, pointer)
    if schema.get("uniqueItems") is True and "array" in types and array.most > 1 and constants is None:
        refuse("uniqueItems", True, pointer)
    if constants is not None and schema.get("uniqueItems") is True:
        constants = tuple(v for v in constants if not isinstance(v, list) or _all_different(v))
    return Shape(
        types,
        constants,
        _string_limits(schema, pointer, types),
        _number_limits(schema, pointer, types),
        array,
        _object_limits(schema, pointer),
    )


def _all_different(items: list[Any]) -> bool:
    return not any(same_value(a, b) for a, b in combinations(items, 2))


def _string_limits(schema: dict[str, Any], pointer: str, types: frozenset[str]) -> StringLimits:
    if "string" not in types:
        return StringLimits()
    least, most = _counts(schema, pointer, "minLength", "maxLength")
    patterns = ((schema["pattern"], pointer),) if "pattern" in schema else ()
    formats = ((schema["format"], pointer),) if "format" in schema else ()
    return StringLimits(least, most, patterns, formats)


def _number_limits(schema: dict[str, Any], pointer: str, types: frozenset[str]) -> NumberLimits:
    if not types & {INTEGER, FRACTION}:
        return NumberLimits()
    limits = NumberLimits()
    for keyword, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        strict = schema.get(exclusive)
        bounds = [(schema[keyword], strict is True)] if keyword in schema else []
        if strict is not None and not isinstance(strict, bool):
            bounds.append((strict, True))
        for value, is_open in bounds:
            bound = exact(value)
            if not has_few_digits(bound):
                refuse(keyword, value, pointer, f"has more than {MAX_DIGITS} digits")
            low = keyword == "minimum"
            limits = limits.within(NumberLimits(bound, is_open) if low else NumberLimits(None, False, bound, is_open))
    if limits.empty_range:
        raise SchemaError(
            "no number is within the bounds", pointer=pointer, keyword="minimum", value=schema.get("minimum")
        )
    if "multipleOf" in schema:
        multiple = exact(schema["multipleOf"])
        if not has_few_digits(multiple) or modulus_of(multiple, FRACTION not in types)[0] > MAX_MODULUS:
            why = f"is above {MAX_MODULUS:,} once its decimals are scaled away"
            refuse("multipleOf", schema["multipleOf"], pointer, why)
        limits = replace(limits, multiples=(multiple,))
    return limits


def _array_limits(schema: dict[str, Any], pointer: str) -> ArrayLimits:
    least, most = _counts(schema, pointer, "minItems", "maxItems")
    items = schema.get("items", True)
    listed, where = schema.get("prefixItems", []), "prefixItems"
    rest = Located(items, f"{pointer}/items")
    if isinstance(items, list):  # before draft 2020-12
        listed, where = items, "items"
        rest = Located(schema.get("additionalItems", True), f"{pointer}/additionalItems")
    prefix = tuple(_conjunction(Located(item, f"{pointer}/{where}/{i}")) for i, item in enumerate(listed))
    return ArrayLimits(prefix, _conjunction(rest), least, most)


def _object_limits(schema: dict[str, Any], pointer: str) -> ObjectLimits:
    least, most = _counts(schema, pointer, "minProperties", "maxProperties")
    named = schema.get("properties", {})
    properties = tuple((n, _conjunction(Located(s, join(f"{pointer}/properties", n)))) for n, s in named.items())
    rest = Located(schema.get("additionalProperties", True), f"{pointer}/additionalProperties")
    required = tuple(dict.fromkeys(schema.get("required", ())))
    return ObjectLimits(properties, required, _conjunction(rest), least, most)


def _conjunction(located: Located) -> Conjunction:
    return () if located.schema is True or located.schema == {} else (located,)


def _counts(schema: dict[str, Any], pointer: str, lower: str, upper: str) -> tuple[int, int]:
    least, most = int(schema.get(lower, 0)), int(schema[upper]) if upper in schema else INFINITE
    if least > most:
        raise SchemaError(f"is above {upper}, so that nothing is valid", pointer=pointer, keyword=lower, value=least)
    return least, most
