"""Whether a value satisfies schemas, and whether two alternatives evidently have none in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .number_limits import exact
from .schema_shapes import (
    ArrayLimits,
    Claim,
    Conjunction,
    EndlessReference,
    Named,
    ObjectLimits,
    PlainLimits,
    Shape,
    StringLimits,
    is_false,
    kind_of,
    meet,
    value_key,
)

if TYPE_CHECKING:
    from .schema_algebra import Algebra

MAX_DISJOINT_DEPTH = 3  # levels of members in which alternatives are told apart


class Judge:
    def __init__(self, algebra: Algebra) -> None:
        self._algebra = algebra

    def disjoint(self, a: Shape, b: Shape, kind: str, depth: int = MAX_DISJOINT_DEPTH) -> bool:
        """Whether no value satisfies both; False also where that cannot be told."""
        both = a.within(b)
        return both is None or self.evidently_empty(both, kind, depth)

    def evidently_empty(self, shape: Shape, kind: str, depth: int) -> bool:
        try:
            if shape.values is not None:
                return not any(self.admits(shape, value) for value in shape.values)
            limits = shape.limits
            if kind == "string":
                return not limits.not_formats and self._algebra.no_string(limits)
            if kind == "array" and depth:
                sure = range(min(limits.least, max(len(limits.prefix), 1)))
                return any(self._nothing(limits.item(i), depth) for i in sure)
            if kind == "object" and depth:
                named = dict(limits.named)
                return any(self._nothing(self.value_of(limits, named, name), depth) for name in limits.required)
        except EndlessReference:  # one that is being worked out
            pass
        return False

    def _nothing(self, conjunction: Conjunction, depth: int) -> bool:
        if len(conjunction) < 2 and not is_false(conjunction):
            return False  # what is empty by itself shows when it is written
        return all(
            self.evidently_empty(shape, kind, depth - 1)
            for kind in self._algebra.kinds(conjunction)
            for shape in self._algebra.shapes(conjunction, kind)
        )

    def value_of(self, limits: ObjectLimits, named: dict[str, Named], name: str) -> Conjunction:
        """What the value of one property must satisfy.   named: dict(limits.named)"""
        own = named.get(name)
        result: Conjunction = () if own is None else own.conjunction
        for rule in limits.rules:
            if name not in rule.keys.excluded and self._algebra.matches_string(rule.keys, name):
                result = meet(result, rule.conjunction)
        return result

    def admits(self, shape: Shape, value: Any) -> bool:
        """Whether a value of the shape's kind is within its limits, its constants not considered."""
        limits = shape.limits
        if isinstance(limits, PlainLimits):
            return value in limits.allowed
        if isinstance(limits, StringLimits):
            return self._algebra.matches_string(limits, value)
        if isinstance(limits, ArrayLimits):
            fits = limits.least <= len(value) <= limits.most
            fits = fits and all(self.satisfies(limits.item(i), item) for i, item in enumerate(value))
            if limits.unique and len(set(map(value_key, value))) < len(value):
                return False
            return fits and all(self._claim_holds(claim, value) for claim in limits.claims)
        if isinstance(limits, ObjectLimits):
            named = dict(limits.named)
            fits = limits.least <= len(value) <= limits.most and all(name in value for name in limits.required)
            fits = fits and all(self.satisfies(self.value_of(limits, named, n), v) for n, v in value.items())
            fits = fits and all(n in value for name, names in limits.implied if name in value for n in names)
            return fits and all(
                any(
                    self._algebra.matches_string(need.keys, n) and self.satisfies(need.conjunction, v)
                    for n, v in value.items()
                )
                for need in limits.needs
            )
        return bool(limits.admit(exact(value)))

    def _claim_holds(self, claim: Claim, value: list[Any]) -> bool:
        return claim.least <= sum(self.satisfies((claim.at,), item) for item in value[claim.start :]) <= claim.most

    def satisfies(self, conjunction: Conjunction, value: Any) -> bool:
        kind = kind_of(value)
        return any(
            (shape.values is None or any(value_key(value) == value_key(v) for v in shape.values))
            and self.admits(shape, value)
            for shape in self._algebra.shapes(conjunction, kind)
        )
