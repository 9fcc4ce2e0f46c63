"""Schemas as shapes: what is left of a schema once $ref, allOf, anyOf and oneOf are worked out.

Here: reading a schema document, resolving references, intersecting what several schemas ask of one value, telling
alternatives apart.  Not here: expressions (json_schema.py).

A value must satisfy a *conjunction* of schemas (allOf, or a $ref beside other keywords); that equals a list of
alternative `Shape`s, each of which says all it has to say type by type.  Children stay unread conjunctions, so a
recursive document is no problem."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, NamedTuple
from urllib.parse import unquote

from .errors import GrammarTooComplex, SchemaError
from .expressions import INFINITE
from .json_keywords import check_keywords, refuse
from .json_numbers import MAX_DIGITS, MAX_MODULUS, NumberLimits, exact, has_few_digits, modulus_of

MAX_SHAPES = 512  # alternatives that one place may have
MAX_DISJOINT_DEPTH = 3  # levels of properties in which alternatives of oneOf are told apart


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
    """least, most: characters; patterns: (pattern, pointer); formats: (name, pointer)."""

    least: int = 0
    most: int = INFINITE
    patterns: tuple[tuple[str, str], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()

    def within(self, other: StringLimits) -> StringLimits:
        return StringLimits(
            max(self.least, other.least),
            min(self.most, other.most),
            _union(self.patterns, other.patterns),
            _union(self.formats, other.formats),
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


class Document:
    """One schema document.  `matches_string(limits, text)` and `strings_meet(a, b)` come from whoever has automata."""

    def __init__(
        self,
        root: Any,
        *,
        matches_string: Callable[[StringLimits, str], bool],
        strings_meet: Callable[[StringLimits, StringLimits], bool],
    ) -> None:
        self.root = Located(root, "#")
        self._matches_string, self._strings_meet = matches_string, strings_meet
        self._alternatives: dict[tuple[str, ...], tuple[Shape, ...]] = {}
        self._checked: set[str] = set()
        self._anchors: dict[str, str] = {}
        declared = root.get("$schema") if isinstance(root, dict) else None
        # Up to draft 7 everything beside $ref is ignored.
        self._ref_stands_alone = isinstance(declared, str) and any(f"draft-0{n}" in declared for n in range(3, 8))
        identifier = (root.get("$id") or root.get("id")) if isinstance(root, dict) else None
        self._identifier = identifier.partition("#")[0] if isinstance(identifier, str) else ""

    # ---- conjunctions -> shapes --------------------------------------------------------------------------------

    def alternatives(self, conjunction: Conjunction, path: frozenset[str] = frozenset()) -> tuple[Shape, ...]:
        """The shapes of a conjunction, without those evidently empty.  path: pointers being worked out here."""
        key = tuple(located.pointer for located in conjunction)
        known = self._alternatives.get(key)
        if known is None:
            shapes: list[Shape] = [Shape()]
            done: set[str] = set()
            for located in conjunction:
                shapes = self._narrowed(shapes, located, path, done)
            known = self._alternatives[key] = tuple(shapes)
        return known

    def _narrowed(self, shapes: list[Shape], located: Located, path: frozenset[str], done: set[str]) -> list[Shape]:
        """`shapes`, each within what one schema says."""
        schema, pointer = located
        if pointer in path:
            raise SchemaError("a reference that leads back to itself", pointer=pointer, keyword="$ref")
        if not shapes or pointer in done or schema is True:
            return shapes
        done.add(pointer)
        if schema is False:
            return []
        if not isinstance(schema, dict):
            raise SchemaError("a schema is an object or a boolean", pointer=pointer, value=schema)
        path = path | {pointer}
        if "$ref" in schema and self._ref_stands_alone:
            self._check({"$ref": schema["$ref"]}, pointer)
            return self._narrowed(shapes, self.resolve(schema["$ref"], pointer), path, done)
        self._check(schema, pointer)
        own = _own_shape(schema, pointer)
        # In the order of the schema's text, since that is the order in which properties will be written.
        steps = [k for k in schema if k in ("$ref", "allOf", "anyOf", "oneOf", "properties")]
        for keyword in steps if "properties" in steps else ["properties", *steps]:
            if keyword == "properties":
                shapes = [both for shape in shapes if (both := shape.within(own)) is not None]
            elif keyword == "$ref":
                shapes = self._narrowed(shapes, self.resolve(schema["$ref"], pointer), path, done)
            elif keyword == "allOf":
                for i, member in enumerate(schema["allOf"]):
                    shapes = self._narrowed(shapes, Located(member, f"{pointer}/allOf/{i}"), path, done)
            else:
                shapes = self._one_of_several(shapes, own, schema, keyword, pointer, path)
        return shapes

    def _one_of_several(
        self, shapes: list[Shape], own: Shape, schema: dict[str, Any], keyword: str, pointer: str, path: frozenset[str]
    ) -> list[Shape]:
        """`shapes`, each within each member of anyOf or oneOf."""
        members = [Located(m, f"{pointer}/{keyword}/{i}") for i, m in enumerate(schema[keyword])]
        options = self._with_discriminator([self.alternatives((m,), path) for m in members], schema)
        groups = [
            [both for shape in shapes for other in option if (both := shape.within(other)) is not None]
            for option in options
        ]
        if keyword == "oneOf":
            self._require_disjoint(
                [[both for shape in group if (both := shape.within(own)) is not None] for group in groups],
                schema,
                pointer,
            )
        if sum(map(len, groups)) > MAX_SHAPES:
            raise GrammarTooComplex(f"more than {MAX_SHAPES} alternatives", place=f"{pointer}/{keyword}")
        return [shape for group in groups for shape in group]

    def _check(self, schema: dict[str, Any], pointer: str) -> None:
        if pointer in self._checked:
            return
        check_keywords(schema, pointer)
        nested = schema.get("$id", schema.get("id"))
        if pointer != "#" and isinstance(nested, str) and not nested.startswith("#") and '"$ref"' in json.dumps(schema):
            raise SchemaError("references inside a schema with an $id of its own", pointer=pointer, keyword="$id",
                              value=nested, hint="Leave out the inner $id.")  # fmt: skip
        self._checked.add(pointer)

    def _with_discriminator(self, options: list[tuple[Shape, ...]], schema: dict[str, Any]) -> list[tuple[Shape, ...]]:
        """OpenAPI's discriminator, which pydantic writes: the property that it names is required."""
        found = schema.get("discriminator")
        name = found.get("propertyName") if isinstance(found, dict) else found
        if not isinstance(name, str):
            return options
        wanted = Shape(object=ObjectLimits(required=(name,)))
        return [tuple(both for s in option if (both := s.within(wanted)) is not None) for option in options]

    # ---- references --------------------------------------------------------------------------------------------

    def resolve(self, reference: str, pointer: str) -> Located:
        """The schema that a $ref at `pointer` names."""
        base, _, fragment = reference.partition("#")
        if base and base != self._identifier:
            raise SchemaError("a reference to another document", pointer=pointer, keyword="$ref", value=reference,
                              hint="Put the schema under $defs.")  # fmt: skip
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._anchored(fragment, reference, pointer)
        schema: Any = self.root.schema
        target = "#"
        for token in fragment.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(schema, dict) and name in schema:
                schema = schema[name]
            elif isinstance(schema, list) and name.isascii() and name.isdigit() and int(name) < len(schema):
                schema = schema[int(name)]
            else:
                raise SchemaError("names nothing in this document", pointer=pointer, keyword="$ref", value=reference)
            target = join(target, name)
        if not isinstance(schema, (dict, bool)):
            raise SchemaError("names something that is no schema", pointer=pointer, keyword="$ref", value=reference)
        return Located(schema, target)

    def _anchored(self, anchor: str, reference: str, pointer: str) -> Located:
        found = list(_anchors(self.root.schema, "#", anchor))
        if len(found) != 1:
            what = "names nothing in this document" if not found else "names several schemas"
            raise SchemaError(what, pointer=pointer, keyword="$ref", value=reference)
        return found[0]

    # ---- telling alternatives apart ----------------------------------------------------------------------------

    def _require_disjoint(self, groups: list[list[Shape]], schema: dict[str, Any], pointer: str) -> None:
        for (i, a), (j, b) in combinations(enumerate(groups), 2):
            if not all(self.disjoint(x, y) for x in a for y in b):
                why = f"members {i} and {j} are not provably disjoint"
                refuse("oneOf", schema["oneOf"], pointer, why)

    def disjoint(self, a: Shape, b: Shape, depth: int = MAX_DISJOINT_DEPTH) -> bool:
        """Whether no value satisfies both; False also where that cannot be told."""
        both = a.within(b)
        if both is None:
            return True
        if both.constants is not None:
            return not any(self.admits(both, value) for value in both.constants)
        return all(self._type_is_empty(kind, a, b, both, depth) for kind in both.types)

    def _type_is_empty(self, kind: str, a: Shape, b: Shape, both: Shape, depth: int) -> bool:
        """Whether no value of one type satisfies a and b, whose common shape is `both`."""
        if kind in (INTEGER, FRACTION):
            return both.number.empty_range
        if kind == "string":
            return both.string.least > both.string.most or not self._strings_meet(a.string, b.string)
        if depth == 0:
            return False
        if kind == "array":
            limits = both.array
            sure = range(min(limits.least, max(len(limits.prefix), 1)))
            return limits.least > limits.most or any(self._empty(limits.item(i), depth) for i in sure)
        if kind == "object":
            named = dict(both.object.properties)
            return any(self._empty(named.get(name, both.object.rest), depth) for name in both.object.required)
        return False

    def _empty(self, conjunction: Conjunction, depth: int) -> bool:
        """Whether evidently no value satisfies a conjunction: each alternative is disjoint from itself."""
        return all(self.disjoint(s, s, depth - 1) for s in self.alternatives(conjunction))

    # ---- values ------------------------------------------------------------------------------------------------

    def admits(self, shape: Shape, value: Any) -> bool:
        """Whether a value satisfies a shape, its constants not considered."""
        if value is None or isinstance(value, bool):
            return ("null" if value is None else "boolean") in shape.types
        if isinstance(value, (int, float)):
            number = exact(value)
            return (INTEGER if number.denominator == 1 else FRACTION) in shape.types and shape.number.admit(number)
        if isinstance(value, str):
            return "string" in shape.types and self._matches_string(shape.string, value)
        if isinstance(value, list):
            fits = "array" in shape.types and shape.array.least <= len(value) <= shape.array.most
            return fits and all(self.satisfies(shape.array.item(i), item) for i, item in enumerate(value))
        limits, named = shape.object, dict(shape.object.properties)
        fits = "object" in shape.types and limits.least <= len(value) <= limits.most
        return (
            fits
            and all(name in value for name in limits.required)
            and all(self.satisfies(named.get(name, limits.rest), item) for name, item in value.items())
        )

    def satisfies(self, conjunction: Conjunction, value: Any) -> bool:
        return any(
            (shape.constants is None or any(same_value(value, c) for c in shape.constants))
            and self.admits(shape, value)
            for shape in self.alternatives(conjunction)
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


def _anchors(schema: Any, pointer: str, anchor: str) -> list[Located]:
    found = []
    if isinstance(schema, dict):
        identifier = schema.get("$id", schema.get("id"))
        if schema.get("$anchor") == anchor or identifier == f"#{anchor}":
            found.append(Located(schema, pointer))
        for name, child in schema.items():
            if name not in ("enum", "const", "default", "examples"):
                found += _anchors(child, join(pointer, name), anchor)
    elif isinstance(schema, list):
        for i, child in enumerate(schema):
            found += _anchors(child, f"{pointer}/{i}", anchor)
    return found


# ---- one schema object's own keywords ---------------------------------------------------------------------------


def _own_shape(schema: dict[str, Any], pointer: str) -> Shape:
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
