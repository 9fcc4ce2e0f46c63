"""What a place in a JSON value may hold: schemas that must (or must not) be satisfied at once -> alternatives.

A *conjunction* of schemas, some of them negated, equals for each kind of value a list of `Shape`s, each of which says
all it has to say; `not` is pushed inwards, oneOf becomes one member and the negations of those that it could meet,
unevaluated* becomes a rule of the alternative that knows what has been evaluated.  What stands in members and items
stays an unread conjunction, so recursive documents are no problem, and nothing is worked out before it is entered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from .errors import GrammarTooComplex, SchemaError
from .limits import Budget
from .number_limits import NumberLimits, exact
from .schema_document import Document
from .schema_limits import TOP, LimitsReader, absent, constants_by_kind, is_integer_only, names_kind, outside, present
from .schema_plain import KINDS_OF
from .schema_shapes import (
    KINDS,
    NO_VALUE,
    TRUE,
    UNSEEN,
    ArrayLimits,
    Claim,
    Conjunction,
    Evaluated,
    KeyRule,
    Located,
    Named,
    ObjectLimits,
    PlainLimits,
    Shape,
    StringLimits,
    is_false,
    is_void,
    kind_of,
    meet,
    value_key,
)

MAX_SHAPES = 512  # alternatives that one place may have
MAX_DEPTH = 120  # references and combinations in each other, before anything is written
MAX_DISJOINT_DEPTH = 3  # levels of members in which alternatives are told apart

ANYTHING = {kind: Shape(TOP[kind]) for kind in KINDS}
Shapes = Sequence[Shape]
_ANYTHINGS = tuple(ANYTHING.values())
_Tags = dict[str, frozenset[Any]]  # required property -> keys of the values it may have
_REFERENCES = frozenset(("$ref", "$dynamicRef", "$recursiveRef"))
_COMBINING = _REFERENCES | frozenset((
    "allOf", "anyOf", "oneOf", "not", "if", "properties", "propertyNames", "dependentRequired", "dependentSchemas",
    "dependencies",
))  # fmt: skip


class Algebra:
    """matches_string(limits, text) and no_string(limits) come from whoever has automata."""

    def __init__(
        self,
        document: Document,
        budget: Budget,
        *,
        matches_string: Callable[[StringLimits, str], bool],
        no_string: Callable[[StringLimits], bool],
        assert_formats: bool,
        annotate: bool,
    ) -> None:
        self._document, self._budget = document, budget
        self.matches_string, self.no_string = matches_string, no_string
        self._annotate = annotate  # whether the document asks what has been evaluated
        self._limits = LimitsReader(document, assert_formats=assert_formats, annotate=annotate)
        self._shapes: dict[tuple[Conjunction, str], tuple[Shape, ...]] = {}
        self._expanded: dict[tuple[Located, str], Shapes] = {}
        self._open: dict[tuple[Located, str], None] = {}
        self._constants: dict[int, dict[str, tuple[Any, ...]] | None] = {}

    # ---- conjunctions ------------------------------------------------------------------------------------------

    def kinds(self, conjunction: Conjunction) -> tuple[str, ...]:
        """The kinds of values that may satisfy a conjunction, as far as `type` says."""
        kinds: tuple[str, ...] = KINDS
        if len(conjunction) == 1 and not conjunction[0].negated and isinstance(conjunction[0].schema, dict):
            schema = conjunction[0].schema
            only = schema.get("type")
            if only.__class__ is str and "$ref" not in schema and "nullable" not in schema:
                return KINDS_OF[only]
        for at in conjunction:
            types = at.schema.get("type") if isinstance(at.schema, dict) and not at.negated else None
            if types is not None and "$ref" not in at.schema:
                nullable = at.schema.get("nullable") is True
                kinds = tuple(k for k in kinds if names_kind(types, k) or (nullable and k == "null"))
        return kinds

    def shapes(self, conjunction: Conjunction, kind: str) -> tuple[Shape, ...]:
        """The alternatives for values of a kind, without those evidently empty; constants only if they fit."""
        key = (conjunction, kind)
        known = self._shapes.get(key)
        if known is None:
            found: list[Shape] = [ANYTHING[kind]]
            try:
                for at in conjunction:
                    found = self._product(found, self._expand(at, kind), at)
            except _EndlessReference as error:
                if self._open:
                    raise
                raise SchemaError(error.message, pointer=error.pointer, keyword=error.keyword) from None
            known = self._shapes[key] = tuple(fit for shape in found if (fit := self._fitting(shape, kind)) is not None)
        return known

    def _fitting(self, shape: Shape, kind: str) -> Shape | None:
        if shape.values is None or shape.limits == TOP[kind]:
            return shape
        values = tuple(v for v in shape.values if self.admits(shape, v))
        return shape._replace(limits=TOP[kind], values=values) if values else None

    def _product(self, left: Shapes, right: Shapes, at: Located) -> list[Shape]:
        """What is in one of the left and in one of the right."""
        if len(right) == 1 and right[0] in _ANYTHINGS:
            return list(left)
        if len(left) == 1 and left[0] in _ANYTHINGS:
            return list(right)
        result = []
        for a in left:
            for b in right:
                self._budget.tick()
                both = a.within(b)
                if both is not None:
                    result.append(both)
        return self._bounded(result, at)

    def _bounded(self, shapes: list[Shape], at: Located) -> list[Shape]:
        if len(shapes) > 1 and all(shape.values is None for shape in shapes):
            shapes = list(dict.fromkeys(shapes))
        if len(shapes) > MAX_SHAPES:
            raise GrammarTooComplex(f"more than {MAX_SHAPES} alternatives", place=at.pointer)
        return shapes

    # ---- one schema --------------------------------------------------------------------------------------------

    def _expand(self, at: Located, kind: str) -> Shapes:
        if not isinstance(at.schema, dict):
            return [ANYTHING[kind]] if at.schema else []
        key = (at, kind)
        known = self._expanded.get(key)
        if known is not None:
            return known
        if key in self._open:
            raise _EndlessReference("a reference that leads back to itself", pointer=at.pointer, keyword="$ref")
        if len(self._open) > MAX_DEPTH:
            raise GrammarTooComplex(f"combinations are nested more than {MAX_DEPTH} deep", place=at.pointer)
        self._open[key] = None
        try:
            if at.negated:  # what fails evaluates nothing
                result: Shapes = [shape._replace(evaluated=UNSEEN) for shape in self._negative(at, kind)]
            else:
                result = self._positive(at, kind)
        finally:
            del self._open[key]
        self._expanded[key] = result
        return result

    def _positive(self, at: Located, kind: str) -> Shapes:
        schema, document = at.schema, self._document
        assert at.resource is not None
        draft = at.resource.draft
        if draft <= 7 and "$ref" in schema:
            return self._expand(document.resolve(at, "$ref"), kind)
        types = schema.get("type")
        if types is not None and not names_kind(types, kind):
            return [ANYTHING[kind]] if kind == "null" and schema.get("nullable") is True else []
        values = self._values(schema, kind)
        if values == ():
            return []
        limits = self._limits.inside(at, kind)
        if is_void(limits):
            return []
        own = Shape(limits, values, self._limits.evaluated(at, kind))
        steps = [k for k in schema if k in _COMBINING]
        if not steps:
            return self._finished([own], at, kind)
        shapes: list[Shape] = [ANYTHING[kind]]
        for keyword in steps if "properties" in steps else ["properties", *steps]:
            # In the order of the schema's text, since that is the order in which properties will be written.
            if keyword == "properties":
                shapes = self._product(shapes, [own], at)
                continue
            value = schema[keyword]
            if keyword == "allOf":
                for i, member in enumerate(value):
                    shapes = self._product(shapes, self._expand(document.child(at, member, "allOf", str(i)), kind), at)
            elif keyword in ("anyOf", "oneOf"):
                members = [document.child(at, m, keyword, str(i)) for i, m in enumerate(value)]
                options = [self._discriminated(self._expand(m, kind), schema, kind) for m in members]
                if keyword == "anyOf":
                    shapes = self._product(shapes, self._any_of(options, at, kind), at)
                else:
                    context = self._product(shapes, [own], at)
                    shapes = self._one_of(shapes, context, members, options, at, kind)
            else:
                for options_of_one in self._conditions(at, keyword, kind):
                    shapes = self._product(shapes, options_of_one, at)
            if not shapes:
                return []
        return self._finished(shapes, at, kind)

    def _conditions(self, at: Located, keyword: str, kind: str) -> list[Shapes]:
        """What a keyword that refers or depends asks for: all of these, each a list of alternatives."""
        schema, document = at.schema, self._document
        value = schema[keyword]
        if keyword in _REFERENCES:
            return [self._expand(document.resolve(at, keyword), kind)]
        if keyword == "not":
            return [self._expand(document.child(at, value, "not").negation(), kind)]
        if keyword == "if":
            if not self._annotate and "then" not in schema and "else" not in schema:
                return []
            condition = document.child(at, value, "if")
            then, other = (document.child(at, schema.get(k, True), k) for k in ("then", "else"))
            yes = self._product(self._expand(condition, kind), self._expand(then, kind), at)
            no = self._product(self._expand(condition.negation(), kind), self._expand(other, kind), at)
            return [self._bounded([*yes, *no], at)]
        if kind == "object" and keyword == "propertyNames":
            return [[Shape(limits)] for limits in self._names(document.child(at, value, keyword).negation())]
        if kind == "object":
            return [
                [Shape(absent(name)), *self._product([Shape(present(name))], needed, at)]
                for name, needed in self._dependents(at, keyword)
            ]
        return []

    def _dependents(self, at: Located, keyword: str) -> list[tuple[str, Shapes]]:
        """dependentRequired, dependentSchemas, dependencies: (property, what must hold where it is present)."""
        result: list[tuple[str, Shapes]] = []
        for name, wanted in at.schema[keyword].items():
            if isinstance(wanted, list):
                if wanted:
                    result.append((name, [Shape(present(*dict.fromkeys(wanted)))]))
            else:
                needed = self._document.child(at, wanted, keyword, name)
                if needed is not TRUE:
                    result.append((name, self._expand(needed, "object")))
        return result

    def _names(self, forbidden: Located) -> list[ObjectLimits]:
        """That no property has a name which satisfies a schema."""
        result = []
        for shape in self.shapes((forbidden,), "string"):
            if shape.values is not None:
                result += [absent(name) for name in shape.values]
            else:
                result.append(ObjectLimits(rules=(KeyRule(shape.limits, NO_VALUE),)))
        return result

    def _finished(self, shapes: list[Shape], at: Located, kind: str) -> Shapes:
        """With unevaluatedProperties or unevaluatedItems, which look at what all other keywords have evaluated."""
        keyword = "unevaluatedProperties" if kind == "object" else "unevaluatedItems" if kind == "array" else ""
        if keyword not in at.schema:
            return shapes
        others = self._document.conjunction(at, at.schema[keyword], keyword)
        result = []
        for shape in shapes:
            seen = shape.evaluated
            more: ObjectLimits | ArrayLimits | None = None
            if others and not seen.everything:
                if kind == "object":
                    keys = StringLimits(not_patterns=seen.patterns, excluded=seen.names)
                    more = ObjectLimits(rules=(KeyRule(keys, others),))
                else:
                    rest = others
                    if seen.items:
                        options = [*(x.schema for x in seen.items), *(x.schema for x in others)]
                        rest = (self._document.made({"anyOf": options}, at),)
                    more = ArrayLimits(prefix=((),) * seen.count, rest=rest)
            both = shape if more is None else shape.within(Shape(more))
            if both is not None:
                result.append(both._replace(evaluated=Evaluated(everything=True)))
        return result

    def _values(self, schema: dict[str, Any], kind: str) -> tuple[Any, ...] | None:
        key = id(schema)
        if key not in self._constants:
            self._constants[key] = constants_by_kind(schema)
        by_kind = self._constants[key]
        if by_kind is None:
            return None
        values = by_kind.get(kind, ())
        if kind == "number" and is_integer_only(schema):
            values = tuple(v for v in values if exact(v).denominator == 1)
        return values

    # ---- anyOf, oneOf ------------------------------------------------------------------------------------------

    def _discriminated(self, shapes: Shapes, schema: dict[str, Any], kind: str) -> Shapes:
        """OpenAPI's discriminator, which pydantic writes: the property that it names is required."""
        found = schema.get("discriminator") if kind == "object" else None
        name = found.get("propertyName") if isinstance(found, dict) else found
        if not isinstance(name, str):
            return shapes
        wanted = Shape(present(name))
        return [both for shape in shapes if (both := shape.within(wanted)) is not None]

    def _any_of(self, options: list[Shapes], at: Located, kind: str) -> list[Shape]:
        if not self._annotate or kind not in ("array", "object"):
            if any(ANYTHING[kind] in option for option in options):
                return [ANYTHING[kind]]
            return self._bounded([shape for option in options for shape in option], at)
        result: list[Shape] = []  # with what any subset of the members has evaluated
        for option in options:
            together = [
                both
                for a in result
                for b in option
                if a.evaluated.joined(b.evaluated) != a.evaluated and (both := a.within(b)) is not None
            ]
            result = self._bounded([*result, *option, *together], at)
        return result

    def _one_of(
        self, shapes: Shapes, context: Shapes, members: list[Located], options: list[Shapes], at: Located, kind: str
    ) -> list[Shape]:
        """`shapes`, each within one member and outside of all others that it could meet."""
        groups = [self._product(context, option, at) for option in options]
        tags = [[self._tags(shape, kind) for shape in group] for group in groups]
        result: list[Shape] = []
        for i, option in enumerate(options):
            if not groups[i]:
                continue
            mine = self._product(shapes, option, at)
            for j, group in enumerate(groups):
                if i != j and self._may_meet(groups[i], tags[i], group, tags[j], kind):
                    mine = self._product(mine, self._expand(members[j].negation(), kind), at)
            result += mine
            self._bounded(result, at)
        return self._bounded(result, at)

    def _may_meet(self, a: Shapes, a_tags: list[_Tags], b: Shapes, b_tags: list[_Tags], kind: str) -> bool:
        for x, x_tags in zip(a, a_tags, strict=True):
            for y, y_tags in zip(b, b_tags, strict=True):
                self._budget.tick()
                if any(name in y_tags and not values & y_tags[name] for name, values in x_tags.items()):
                    continue
                if not self.disjoint(x, y, kind):
                    return True
        return False

    def _tags(self, shape: Shape, kind: str) -> _Tags:
        """Required properties that have one of a few constants: by these most members of oneOf can be told apart."""
        tags: _Tags = {}
        if kind == "object" and shape.values is None:
            named = dict(shape.limits.named)
            for name in shape.limits.required:
                for at in named[name].conjunction if name in named else ():
                    if isinstance(at.schema, dict) and not at.negated and "$ref" not in at.schema:
                        constants = constants_by_kind(at.schema)
                        if constants is not None:
                            tags[name] = frozenset(value_key(v) for values in constants.values() for v in values)
        return tags

    def disjoint(self, a: Shape, b: Shape, kind: str, depth: int = MAX_DISJOINT_DEPTH) -> bool:
        """Whether no value satisfies both; False also where that cannot be told."""
        both = a.within(b)
        return both is None or self._evidently_empty(both, kind, depth)

    def _evidently_empty(self, shape: Shape, kind: str, depth: int) -> bool:
        try:
            if shape.values is not None:
                return not any(self.admits(shape, value) for value in shape.values)
            limits = shape.limits
            if kind == "string":
                return not limits.not_formats and self.no_string(limits)
            if kind == "array" and depth:
                sure = range(min(limits.least, max(len(limits.prefix), 1)))
                return any(self._nothing(limits.item(i), depth) for i in sure)
            if kind == "object" and depth:
                named = dict(limits.named)
                return any(self._nothing(self.value_of(limits, named, name), depth) for name in limits.required)
        except _EndlessReference:  # one that is being worked out
            pass
        return False

    def _nothing(self, conjunction: Conjunction, depth: int) -> bool:
        if len(conjunction) < 2 and not is_false(conjunction):
            return False  # what is empty by itself shows when it is written
        return all(
            self._evidently_empty(shape, kind, depth - 1)
            for kind in self.kinds(conjunction)
            for shape in self.shapes(conjunction, kind)
        )

    # ---- not ---------------------------------------------------------------------------------------------------

    def _negative(self, at: Located, kind: str) -> Shapes:
        """What one of the keywords at least rules out."""
        schema, document = at.schema, self._document
        positive = at.negation()
        assert at.resource is not None
        if at.resource.draft <= 7 and "$ref" in schema:
            return self._expand(document.resolve(positive, "$ref").negation(), kind)
        types = schema.get("type")
        if types is not None and not names_kind(types, kind):
            return [] if kind == "null" and schema.get("nullable") is True else [ANYTHING[kind]]
        values = self._values(schema, kind)
        if values == ():
            return [ANYTHING[kind]]
        unevaluated = {"object": "unevaluatedProperties", "array": "unevaluatedItems"}.get(kind, "")
        if schema.get(unevaluated, True) not in (True, {}):
            return self._outside_all(self._expand(positive, kind), kind, positive)
        result: list[Shape] = []
        if values is not None:
            result += self._none_of(values, kind, positive)
        result += self._outside(Shape(self._limits.inside(positive, kind)), kind, positive)
        for keyword in schema:
            if keyword in _COMBINING and keyword != "properties":
                result += self._negated_combination(positive, keyword, kind)
        if ANYTHING[kind] in result:
            return [ANYTHING[kind]]
        return self._bounded(result, at)

    def _outside(self, shape: Shape, kind: str, at: Located) -> Shapes:
        if shape.values is not None:
            return self._none_of(tuple(v for v in shape.values if self.admits(shape, v)), kind, at)
        return [Shape(limits) for limits in outside(shape.limits, at.pointer) if not is_void(limits)]

    def _outside_all(self, shapes: Shapes, kind: str, at: Located) -> Shapes:
        result: list[Shape] = [ANYTHING[kind]]
        for shape in shapes:
            result = self._product(result, self._outside(shape, kind, at), at)
        return result

    def _negated_combination(self, at: Located, keyword: str, kind: str) -> Shapes:
        schema, document = at.schema, self._document
        value = schema[keyword]
        if keyword in _REFERENCES:
            return self._expand(document.resolve(at, keyword).negation(), kind)
        if keyword == "not":
            return self._expand(document.child(at, value, "not"), kind)
        if keyword == "if":
            condition = document.child(at, value, "if")
            then, other = (document.child(at, schema.get(k, True), k) for k in ("then", "else"))
            yes = self._product(self._expand(condition, kind), self._expand(then.negation(), kind), at)
            return [*yes, *self._product(self._expand(condition.negation(), kind),
                                         self._expand(other.negation(), kind), at)]  # fmt: skip
        if keyword in ("allOf", "anyOf", "oneOf"):
            members = [document.child(at, m, keyword, str(i)) for i, m in enumerate(value)]
            if keyword == "allOf":
                return [shape for m in members for shape in self._expand(m.negation(), kind)]
            none: list[Shape] = [ANYTHING[kind]]
            for member in members:
                none = self._product(none, self._expand(member.negation(), kind), at)
            if keyword == "oneOf":
                for a, b in combinations(members, 2):
                    both = self._product(self._expand(a, kind), self._expand(b, kind), at)
                    none += [shape for shape in both if not self._evidently_empty(shape, kind, MAX_DISJOINT_DEPTH)]
                    self._bounded(none, at)
            return none
        if kind != "object":
            return []
        if keyword == "propertyNames":
            result: list[Shape] = []
            for shape in self.shapes((document.child(at, value, keyword).negation(),), "string"):
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
                failing = self._expand(document.child(at, wanted, keyword, name).negation(), kind)
            result += self._product([Shape(present(name))], failing, at)
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
            result = self._product(result, [Shape(piece) for piece in pieces], at)
        return result

    def _other_than(self, value: Any, at: Located) -> Conjunction:
        return (self._document.made({"const": value}, at).negation(),)

    # ---- values ------------------------------------------------------------------------------------------------

    def value_of(self, limits: ObjectLimits, named: dict[str, Named], name: str) -> Conjunction:
        """What the value of one property must satisfy.   named: dict(limits.named)"""
        own = named.get(name)
        result: Conjunction = () if own is None else own.conjunction
        for rule in limits.rules:
            if name not in rule.keys.excluded and self.matches_string(rule.keys, name):
                result = meet(result, rule.conjunction)
        return result

    def admits(self, shape: Shape, value: Any) -> bool:
        """Whether a value of the shape's kind is within its limits, its constants not considered."""
        limits = shape.limits
        if isinstance(limits, PlainLimits):
            return value in limits.allowed
        if isinstance(limits, StringLimits):
            return self.matches_string(limits, value)
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
            return fits and all(
                any(self.matches_string(need.keys, n) and self.satisfies(need.conjunction, v) for n, v in value.items())
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
            for shape in self.shapes(conjunction, kind)
        )


class _EndlessReference(SchemaError):
    """A schema whose meaning is asked for while it is being worked out."""
