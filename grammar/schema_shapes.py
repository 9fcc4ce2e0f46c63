"""What schemas ask of the values of one JSON type, and what several ask of them at once.

Here: places of schemas, limits per type, their intersections.  Not here: reading keywords (schema_limits.py), $ref,
allOf, not and their like (schema_algebra.py), texts (json_schema.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .errors import SchemaError
from .expressions import INFINITE

if TYPE_CHECKING:
    from .number_limits import NumberLimits
    from .schema_document import Resource

KINDS = ("null", "boolean", "number", "string", "array", "object")  # of values; an integer is a number


class Located:
    """A schema at its place, or its negation.  Interned by the document: the same place is the same object.

    pointer   JSON pointer as URI fragment, behind the URI of its document if that is not the main one
    resource  what references in it start from          scope   the resources entered on the way here, for $dynamicRef
    negated   the values that do not satisfy it         opposite   the other one of the two, once it has been asked for
    """

    __slots__ = ("negated", "opposite", "pointer", "resource", "schema", "scope")

    def __init__(
        self, schema: Any, pointer: str, resource: Resource | None, scope: tuple[Resource, ...], negated: bool = False
    ) -> None:
        self.schema, self.pointer, self.resource, self.scope, self.negated = schema, pointer, resource, scope, negated
        self.opposite: Located | None = None

    def negation(self) -> Located:
        if self.opposite is None:
            self.opposite = Located(self.schema, self.pointer, self.resource, self.scope, not self.negated)
            self.opposite.opposite = self
        return self.opposite

    def __repr__(self) -> str:
        return f"{'not ' if self.negated else ''}{self.pointer}"


TRUE, FALSE = Located(True, "#", None, ()), Located(False, "#", None, ())
TRUE.opposite, FALSE.opposite = FALSE, TRUE

Conjunction: TypeAlias = tuple[Located, ...]  # all of these hold; () for any value
NO_VALUE: Conjunction = (FALSE,)


@dataclass(frozen=True, slots=True)
class StringLimits:
    """Texts within all of these.   least, most: characters;   patterns, not_patterns: (pattern, pointer);
    formats, not_formats: (name, pointer);   excluded: texts that are not within"""

    least: int = 0
    most: int = INFINITE
    patterns: tuple[tuple[str, str], ...] = ()
    formats: tuple[tuple[str, str], ...] = ()
    not_patterns: tuple[tuple[str, str], ...] = ()
    not_formats: tuple[tuple[str, str], ...] = ()
    excluded: frozenset[str] = frozenset()

    def within(self, other: StringLimits) -> StringLimits:
        if other == ANY_STRING:
            return self
        if self == ANY_STRING:
            return other
        return StringLimits(
            max(self.least, other.least),
            min(self.most, other.most),
            union(self.patterns, other.patterns),
            union(self.formats, other.formats),
            union(self.not_patterns, other.not_patterns),
            union(self.not_formats, other.not_formats),
            self.excluded | other.excluded,
        )

    def outside(self) -> list[StringLimits]:
        """The texts that are not within, as disjoint pieces; those of `excluded` are left out."""
        pieces: list[StringLimits] = []
        so_far = StringLimits(excluded=self.excluded)
        if self.least:
            pieces.append(StringLimits(most=self.least - 1, excluded=self.excluded))
            so_far = so_far.within(StringLimits(least=self.least))
        if self.most < INFINITE:
            pieces.append(so_far.within(StringLimits(least=self.most + 1)))
            so_far = so_far.within(StringLimits(most=self.most))
        for atom, negation in self._atoms():
            pieces.append(so_far.within(negation))
            so_far = so_far.within(atom)
        return pieces

    def _atoms(self) -> list[tuple[StringLimits, StringLimits]]:
        """Patterns and formats one by one, each with its negation."""
        found = []
        for x in self.patterns:
            found.append((StringLimits(patterns=(x,)), StringLimits(not_patterns=(x,))))
        for x in self.not_patterns:
            found.append((StringLimits(not_patterns=(x,)), StringLimits(patterns=(x,))))
        for x in self.formats:
            found.append((StringLimits(formats=(x,)), StringLimits(not_formats=(x,))))
        for x in self.not_formats:
            found.append((StringLimits(not_formats=(x,)), StringLimits(formats=(x,))))
        return found


ANY_STRING = StringLimits()


class Claim(NamedTuple):
    """So many of the items from number `start` on satisfy a schema."""

    at: Located
    start: int
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class ArrayLimits:
    """prefix: what the first items must satisfy;  rest: all further ones;  least, most: how many
    unique: pointer of the schema that wants all items to differ, or "" """

    prefix: tuple[Conjunction, ...] = ()
    rest: Conjunction = ()
    least: int = 0
    most: int = INFINITE
    claims: tuple[Claim, ...] = ()
    unique: str = ""

    def within(self, other: ArrayLimits) -> ArrayLimits:
        count = max(len(self.prefix), len(other.prefix))
        prefix = tuple(meet(self.item(i), other.item(i)) for i in range(count))
        return ArrayLimits(
            prefix,
            meet(self.rest, other.rest),
            max(self.least, other.least),
            min(self.most, other.most),
            union(self.claims, other.claims),
            self.unique or other.unique,
        )

    def item(self, i: int) -> Conjunction:
        return self.prefix[i] if i < len(self.prefix) else self.rest


class Named(NamedTuple):
    """What the value of one property must satisfy.   chain: of properties that come in a fixed order, or "" """

    conjunction: Conjunction
    chain: str = ""


class KeyRule(NamedTuple):
    """Of a property whose name is within `keys`: what its value satisfies."""

    keys: StringLimits
    conjunction: Conjunction


@dataclass(frozen=True, slots=True)
class ObjectLimits:
    """named: properties by name, those of a chain in the order in which they are written;  required: names
    rules: hold for every property;  needs: each holds for some property;  least, most: how many properties
    implied: (name, names): where the one is, the others are"""

    named: tuple[tuple[str, Named], ...] = ()
    required: tuple[str, ...] = ()
    rules: tuple[KeyRule, ...] = ()
    needs: tuple[KeyRule, ...] = ()
    least: int = 0
    most: int = INFINITE
    implied: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def within(self, other: ObjectLimits) -> ObjectLimits:
        if not self.named or not other.named:
            named = self.named or other.named
        else:
            merged = dict(self.named)
            for name, theirs in other.named:
                mine = merged.get(name)
                if mine is None:
                    merged[name] = theirs
                    continue
                both = Named(meet(mine.conjunction, theirs.conjunction), mine.chain or theirs.chain)
                if theirs.chain and not mine.chain:
                    del merged[name]  # its place is where the chain names it
                merged[name] = both
            named = tuple(merged.items())
        return ObjectLimits(
            named,
            union(self.required, other.required),
            union(self.rules, other.rules),
            union(self.needs, other.needs),
            max(self.least, other.least),
            min(self.most, other.most),
            union(self.implied, other.implied),
        )


@dataclass(frozen=True, slots=True)
class PlainLimits:
    """Of null and booleans: the values themselves."""

    allowed: frozenset[bool | None]

    def within(self, other: PlainLimits) -> PlainLimits:
        return PlainLimits(self.allowed & other.allowed)


Limits: TypeAlias = "PlainLimits | NumberLimits | StringLimits | ArrayLimits | ObjectLimits"


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What a schema has looked at in a value, for unevaluatedProperties and unevaluatedItems.

    names, patterns: properties;  count: the first items;  items: those that satisfy one of these;  everything: all"""

    names: frozenset[str] = frozenset()
    patterns: tuple[tuple[str, str], ...] = ()
    count: int = 0
    items: Conjunction = ()
    everything: bool = False

    def joined(self, other: Evaluated) -> Evaluated:
        return Evaluated(
            self.names | other.names,
            union(self.patterns, other.patterns),
            max(self.count, other.count),
            union(self.items, other.items),
            self.everything or other.everything,
        )


UNSEEN = Evaluated()


class Shape(NamedTuple):
    """One alternative of a place, for values of one kind.   values: if not None, all that are allowed"""

    limits: Any  # Limits of the kind
    values: tuple[Any, ...] | None = None
    evaluated: Evaluated = UNSEEN

    def within(self, other: Shape) -> Shape | None:
        """What both admit; None where they show that this is nothing."""
        limits = self.limits.within(other.limits)
        if is_void(limits):
            return None
        if self.values is None or other.values is None:
            values = other.values if self.values is None else self.values
        else:
            keys = {value_key(v) for v in other.values}
            values = tuple(v for v in self.values if value_key(v) in keys)
            if not values:
                return None
        evaluated = self.evaluated
        if other.evaluated is not UNSEEN:
            evaluated = other.evaluated if evaluated is UNSEEN else evaluated.joined(other.evaluated)
        return Shape(limits, values, evaluated)


Shapes: TypeAlias = Sequence[Shape]


class EndlessReference(SchemaError):
    """A schema whose meaning is asked for while it is being worked out."""


def is_void(limits: Limits) -> bool:
    """Whether limits show, without a look at what they refer to, that nothing is within."""
    if isinstance(limits, ObjectLimits):
        if limits.least > limits.most or len(limits.required) > limits.most:
            return True
        if limits.required:
            named = dict(limits.named)
            return any(n in named and is_false(named[n].conjunction) for n in limits.required)
        return False
    if isinstance(limits, ArrayLimits):
        if limits.least > limits.most or any(is_false(p) for p in limits.prefix[: limits.least]):
            return True
        if is_false(limits.rest) and limits.least > len(limits.prefix):
            return True
        return any(c.least > c.most or (c.least and c.at.schema is False) for c in limits.claims)
    if isinstance(limits, StringLimits):
        return limits.least > limits.most or any(p in limits.not_patterns for p in limits.patterns)
    if isinstance(limits, PlainLimits):
        return not limits.allowed
    return limits.is_empty()


def is_false(conjunction: Conjunction) -> bool:
    return len(conjunction) == 1 and conjunction[0].schema is False


def meet(a: Conjunction, b: Conjunction) -> Conjunction:
    """All of both; the schema false alone if they show that no value satisfies them."""
    if not b or a is b:
        return a
    if not a:
        return b
    if is_false(b):
        return b
    result = list(a)
    for at in b:
        if at not in a:
            if at.opposite in a:
                return NO_VALUE
            result.append(at)
    return a if is_false(a) else tuple(result)


def union(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
    """Both, without repetition, in order."""
    if not b or a is b:
        return a
    if not a:
        return b
    return (*a, *(y for y in b if y not in a))


def join(pointer: str, name: str) -> str:
    """The pointer of a member: RFC 6901 escapes."""
    if "~" in name or "/" in name:
        name = name.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{name}"


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


def value_key(value: Any) -> Any:
    """Equal for values that JSON Schema calls equal: 1 is 1.0, true is not 1, members have no order."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return ("plain", str(value))
    if isinstance(value, (int, float)):
        return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
    if isinstance(value, list):
        return ("array", *map(value_key, value))
    return ("object", frozenset((name, value_key(v)) for name, v in value.items()))
