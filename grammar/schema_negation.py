"""`not`: what fails a schema, pushed inwards until only limits are left."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

from .number_limits import NumberLimits, exact
from .schema_judge import MAX_DISJOINT_DEPTH, Judge
from .schema_limits import ANYTHING, TOP, absent, names_kind, outside, present
from .schema_one_of import OneOf, common_tags
from .schema_shapes import (
    ArrayLimits,
    Conjunction,
    KeyRule,
    Located,
    Named,
    ObjectLimits,
    PlainLimits,
    Shape,
    Shapes,
    StringLimits,
    is_void,
)

if TYPE_CHECKING:
    from .schema_algebra import Algebra


REFERENCES = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_COMBINATIONS = REFERENCES | frozenset((
    "allOf", "anyOf", "oneOf", "not", "if", "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
))  # fmt: skip


class Negation:
    def __init__(self, algebra: Algebra, judge: Judge, one_of: OneOf) -> None:
        self._algebra, self._judge, self._one_of = algebra, judge, one_of

    def negative(self, at: Located, kind: str) -> Shapes:
        """What one of the keywords at least rules out."""
        schema, document = at.schema, self._algebra.document
        positive = at.negation()
        assert at.resource is not None
        if at.resource.draft <= 7 and "$ref" in schema:
            return self._algebra.expand(document.resolve(positive, "$ref").negation(), kind)
        types = schema.get("type")
        if types is not None and not names_kind(types, kind):
            return [] if kind == "null" and schema.get("nullable") is True else [ANYTHING[kind]]
        values = self._algebra.values(schema, kind)
        if values == ():
            return [ANYTHING[kind]]
        unevaluated = {"object": "unevaluatedProperties", "array": "unevaluatedItems"}.get(kind, "")
        if schema.get(unevaluated, True) not in (True, {}):
            return self._outside_all(self._algebra.expand(positive, kind), kind, positive)
        result: list[Shape] = []
        if values is not None:
            result += self._none_of(values, kind, positive)
        result += self._outside(Shape(self._algebra.limits.inside(positive, kind)), kind, positive)
        for keyword in schema:
            if keyword in _COMBINATIONS:
                result += self._negated_combination(positive, keyword, kind)
        if ANYTHING[kind] in result:
            return [ANYTHING[kind]]
        return self._algebra.bounded(result, at)

    def _outside(self, shape: Shape, kind: str, at: Located) -> Shapes:
        if shape.values is not None:
            return self._none_of(tuple(v for v in shape.values if self._judge.admits(shape, v)), kind, at)
        return [Shape(limits) for limits in outside(shape.limits, at.pointer) if not is_void(limits)]

    def _outside_all(self, shapes: Shapes, kind: str, at: Located) -> Shapes:
        result: list[Shape] = [ANYTHING[kind]]
        for shape in shapes:
            result = self._algebra.product(result, self._outside(shape, kind, at), at)
        return result

    def _negated_combination(self, at: Located, keyword: str, kind: str) -> Shapes:
        schema, document = at.schema, self._algebra.document
        value = schema[keyword]
        if keyword in REFERENCES:
            return self._algebra.expand(document.resolve(at, keyword).negation(), kind)
        if keyword == "not":
            return self._algebra.expand(document.child(at, value, "not"), kind)
        if keyword == "if":
            condition = document.child(at, value, "if")
            then, other = (document.child(at, schema.get(k, True), k) for k in ("then", "else"))
            yes = self._algebra.product(
                self._algebra.expand(condition, kind), self._algebra.expand(then.negation(), kind), at
            )
            return [*yes, *self._algebra.product(self._algebra.expand(condition.negation(), kind),
                                         self._algebra.expand(other.negation(), kind), at)]  # fmt: skip
        if keyword in ("allOf", "anyOf", "oneOf"):
            members = [document.child(at, m, keyword, str(i)) for i, m in enumerate(value)]
            if keyword == "allOf":
                return [shape for m in members for shape in self._algebra.expand(m.negation(), kind)]
            tagged = [
                (m, common_tags([self._one_of.tags(shape, kind) for shape in self._algebra.expand(m, kind)]))
                for m in members
            ]
            none = self._one_of.outside_members([ANYTHING[kind]], tagged, at, kind)
            if keyword == "oneOf":
                for a, b in combinations(members, 2):
                    both = self._algebra.product(self._algebra.expand(a, kind), self._algebra.expand(b, kind), at)
                    none += [
                        shape for shape in both if not self._judge.evidently_empty(shape, kind, MAX_DISJOINT_DEPTH)
                    ]
                    self._algebra.bounded(none, at)
            return none
        if kind != "object":
            return []
        if keyword == "propertyNames":
            result: list[Shape] = []
            for shape in self._algebra.shapes((document.child(at, value, keyword).negation(),), "string"):
                if shape.values is not None:
                    result += [Shape(present(name)) for name in shape.values]
                else:
                    result.append(Shape(ObjectLimits(needs=(KeyRule(shape.limits, ()),))))
            return result
        result = []
        for name, wanted in value.items():
            if isinstance(wanted, list):
                failing: Shapes = [Shape(absent(other)) for other in wanted]
            else:
                failing = self._algebra.expand(document.child(at, wanted, keyword, name).negation(), kind)
            result += self._algebra.product([Shape(present(name))], failing, at)
        return result

    def _none_of(self, values: tuple[Any, ...], kind: str, at: Located) -> Shapes:
        """All values of a kind but these."""
        if kind == "string":
            return [Shape(StringLimits(excluded=frozenset(values)))]
        if kind == "number":
            return [Shape(NumberLimits(excluded=frozenset(map(exact, values))))]
        if kind in ("null", "boolean"):
            return [Shape(rest)] if (rest := PlainLimits(TOP[kind].allowed - set(values))).allowed else []  # type: ignore[union-attr]
        result: list[Shape] = [ANYTHING[kind]]
        for value in values:
            pieces: list[ArrayLimits] | list[ObjectLimits]
            if kind == "array":
                count = len(value)
                pieces = [ArrayLimits(least=count + 1)]
                if count:
                    pieces.append(ArrayLimits(most=count - 1))
                pieces += [ArrayLimits((*[()] * i, self._other_than(v, at)), least=i + 1) for i, v in enumerate(value)]
            else:
                pieces = [absent(name) for name in value]
                pieces += [
                    ObjectLimits(((name, Named(self._other_than(v, at))),), required=(name,))
                    for name, v in value.items()
                ]
                pieces.append(ObjectLimits(needs=(KeyRule(StringLimits(excluded=frozenset(value)), ()),)))
            result = self._algebra.product(result, [Shape(piece) for piece in pieces], at)
        return result

    def _other_than(self, value: Any, at: Located) -> Conjunction:
        return (self._algebra.document.made({"const": value}, at).negation(),)
