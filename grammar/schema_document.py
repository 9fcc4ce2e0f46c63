"""A schema document: references resolved, combinations worked out into alternatives.

A value must satisfy a *conjunction* of schemas (allOf, or a $ref beside other keywords); that equals a list of
alternative `Shape`s, each of which says all it has to say.  Children stay unread conjunctions, so a recursive document
is no problem.  Properties keep the order of the document's text."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import combinations
from typing import Any
from urllib.parse import unquote

from .errors import GrammarTooComplex, SchemaError
from .json_keywords import check_keywords, refuse
from .json_numbers import exact
from .schema_shapes import (
    FRACTION,
    INTEGER,
    Conjunction,
    Located,
    ObjectLimits,
    Shape,
    StringLimits,
    join,
    own_shape,
    same_value,
)

MAX_SHAPES = 512  # alternatives that one place may have
MAX_DISJOINT_DEPTH = 3  # levels of properties in which alternatives of oneOf are told apart


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
        own = own_shape(schema, pointer)
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
