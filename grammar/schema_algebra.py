"""What a place in a JSON value may hold: schemas that must (or must not) be satisfied at once -> alternatives.

A *conjunction* of schemas, some of them negated, equals for each kind of value a list of `Shape`s, each of which says
all it has to say; `not` is pushed inwards, oneOf becomes one member and the negations of those that it could meet,
unevaluated* becomes a rule of the alternative that knows what has been evaluated.  What stands in members and items
stays an unread conjunction, so recursive documents are no problem, and nothing is worked out before it is entered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import GrammarTooComplex, SchemaError
from .limits import Budget
from .number_limits import NumberLimits, exact
from .schema_document import Document
from .schema_judge import Judge
from .schema_limits import (
    ANYTHING,
    ANYTHINGS,
    TOP,
    LimitsReader,
    absent,
    constants_by_kind,
    implied,
    is_integer_only,
    names_kind,
    present,
)
from .schema_negation import REFERENCES, Negation
from .schema_one_of import OneOf
from .schema_plain import KINDS_OF
from .schema_shapes import (
    KINDS,
    NO_VALUE,
    TRUE,
    UNSEEN,
    ArrayLimits,
    Conjunction,
    EndlessReference,
    Evaluated,
    KeyRule,
    Located,
    ObjectLimits,
    Shape,
    Shapes,
    StringLimits,
    is_void,
)

WHOLE = NumberLimits(whole=True)
MAX_SHAPES = 512  # alternatives that one place may have
MAX_DEPTH = 120  # references and combinations in each other, before anything is written

_COMBINING = REFERENCES | frozenset((
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
        self.document, self.budget = document, budget
        self.matches_string, self.no_string = matches_string, no_string
        self._annotate = annotate  # whether the document asks what has been evaluated
        self.limits = LimitsReader(document, assert_formats=assert_formats, annotate=annotate)
        self._shapes: dict[tuple[Conjunction, str], tuple[Shape, ...]] = {}
        self._expanded: dict[tuple[Located, str], Shapes] = {}
        self._open: dict[tuple[Located, str], None] = {}
        self._constants: dict[int, dict[str, tuple[Any, ...]] | None] = {}
        self.judge = Judge(self)
        self._one_of = OneOf(self, self.judge)
        self._negation = Negation(self, self.judge, self._one_of)

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
                    found = self.product(found, self.expand(at, kind), at)
            except EndlessReference as error:
                if self._open:
                    raise
                raise SchemaError(error.message, pointer=error.pointer, keyword=error.keyword) from None
            known = self._shapes[key] = tuple(fit for shape in found if (fit := self._fitting(shape, kind)) is not None)
        return known

    def _fitting(self, shape: Shape, kind: str) -> Shape | None:
        if shape.values is None or shape.limits == TOP[kind]:
            return shape
        values = tuple(v for v in shape.values if self.judge.admits(shape, v))
        # That only integers are wanted says how they are spelled in draft 4.
        whole = kind == "number" and shape.limits.whole is True
        return shape._replace(limits=WHOLE if whole else TOP[kind], values=values) if values else None

    def product(self, left: Shapes, right: Shapes, at: Located) -> list[Shape]:
        """What is in one of the left and in one of the right."""
        if len(right) == 1 and right[0] in ANYTHINGS:
            return list(left)
        if len(left) == 1 and left[0] in ANYTHINGS:
            return list(right)
        result = []
        for a in left:
            for b in right:
                self.budget.tick()
                both = a.within(b)
                if both is not None:
                    result.append(both)
        return self.bounded(result, at)

    def bounded(self, shapes: list[Shape], at: Located) -> list[Shape]:
        if len(shapes) > 1 and all(shape.values is None for shape in shapes):
            shapes = list(dict.fromkeys(shapes))
        if len(shapes) > MAX_SHAPES:
            raise GrammarTooComplex(f"more than {MAX_SHAPES} alternatives", place=at.pointer)
        return shapes

    # ---- one schema --------------------------------------------------------------------------------------------

    def expand(self, at: Located, kind: str) -> Shapes:
        if not isinstance(at.schema, dict):
            return [ANYTHING[kind]] if at.schema else []
        key = (at, kind)
        known = self._expanded.get(key)
        if known is not None:
            return known
        if key in self._open:
            raise EndlessReference("a reference that leads back to itself", pointer=at.pointer, keyword="$ref")
        if len(self._open) > MAX_DEPTH:
            raise GrammarTooComplex(f"combinations are nested more than {MAX_DEPTH} deep", place=at.pointer)
        self._open[key] = None
        try:
            if at.negated:  # what fails evaluates nothing
                result: Shapes = [shape._replace(evaluated=UNSEEN) for shape in self._negation.negative(at, kind)]
            else:
                result = self._positive(at, kind)
        finally:
            del self._open[key]
        self._expanded[key] = result
        return result

    def _positive(self, at: Located, kind: str) -> Shapes:
        schema, document = at.schema, self.document
        assert at.resource is not None
        draft = at.resource.draft
        if draft <= 7 and "$ref" in schema:
            return self.expand(document.resolve(at, "$ref"), kind)
        types = schema.get("type")
        if types is not None and not names_kind(types, kind):
            return [ANYTHING[kind]] if kind == "null" and schema.get("nullable") is True else []
        values = self.values(schema, kind)
        if values == ():
            return []
        limits = self.limits.inside(at, kind)
        if is_void(limits):
            return []
        own = Shape(limits, values, self.limits.evaluated(at, kind))
        steps = [k for k in schema if k in _COMBINING]
        if not steps:
            return self._finished([own], at, kind)
        shapes: list[Shape] = [ANYTHING[kind]]
        for keyword in steps if "properties" in steps else ["properties", *steps]:
            # In the order of the schema's text, since that is the order in which properties will be written.
            if keyword == "properties":
                shapes = self.product(shapes, [own], at)
                continue
            value = schema[keyword]
            if keyword == "allOf":
                for i, member in enumerate(value):
                    shapes = self.product(shapes, self.expand(document.child(at, member, "allOf", str(i)), kind), at)
            elif keyword in ("anyOf", "oneOf"):
                members = [document.child(at, m, keyword, str(i)) for i, m in enumerate(value)]
                options = [self._discriminated(self.expand(m, kind), schema, kind) for m in members]
                if keyword == "anyOf":
                    shapes = self.product(shapes, self._any_of(options, at, kind), at)
                else:
                    context = self.product(shapes, [own], at)
                    shapes = self._one_of.one_of(shapes, context, members, options, at, kind)
            else:
                for options_of_one in self._conditions(at, keyword, kind):
                    shapes = self.product(shapes, options_of_one, at)
            if not shapes:
                return []
        return self._finished(shapes, at, kind)

    def _conditions(self, at: Located, keyword: str, kind: str) -> list[Shapes]:
        """What a keyword that refers or depends asks for: all of these, each a list of alternatives."""
        schema, document = at.schema, self.document
        value = schema[keyword]
        if keyword in REFERENCES:
            return [self.expand(document.resolve(at, keyword), kind)]
        if keyword == "not":
            return [self.expand(document.child(at, value, "not").negation(), kind)]
        if keyword == "if":
            if not self._annotate and "then" not in schema and "else" not in schema:
                return []
            condition = document.child(at, value, "if")
            then, other = (document.child(at, schema.get(k, True), k) for k in ("then", "else"))
            yes = self.product(self.expand(condition, kind), self.expand(then, kind), at)
            no = self.product(self.expand(condition.negation(), kind), self.expand(other, kind), at)
            return [self.bounded([*yes, *no], at)]
        if kind == "object" and keyword == "propertyNames":
            return [[Shape(limits)] for limits in self._names(document.child(at, value, keyword).negation())]
        if kind == "object":
            return self._dependents(at, keyword)
        return []

    def _dependents(self, at: Located, keyword: str) -> list[Shapes]:
        """dependentRequired, dependentSchemas, dependencies: what must hold where a property is present."""
        result: list[Shapes] = []
        for name, wanted in at.schema[keyword].items():
            if isinstance(wanted, list):
                if wanted:
                    result.append([Shape(implied(name, tuple(dict.fromkeys(wanted))))])
                continue
            needed = self.document.child(at, wanted, keyword, name)
            if needed is not TRUE:
                present_too = self.product([Shape(present(name))], self.expand(needed, "object"), at)
                result.append([Shape(absent(name)), *present_too])
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
        if not keyword or keyword not in at.schema:
            return shapes
        others = self.document.conjunction(at, at.schema[keyword], keyword)
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
                        rest = (self.document.made({"anyOf": options}, at),)
                    more = ArrayLimits(prefix=((),) * seen.count, rest=rest)
            both = shape if more is None else shape.within(Shape(more))
            if both is not None:
                result.append(both._replace(evaluated=Evaluated(everything=True)))
        return result

    def values(self, schema: dict[str, Any], kind: str) -> tuple[Any, ...] | None:
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
            return self.bounded([shape for option in options for shape in option], at)
        result: list[Shape] = []  # with what any subset of the members has evaluated
        for option in options:
            together = [
                both
                for a in result
                for b in option
                if a.evaluated.joined(b.evaluated) != a.evaluated and (both := a.within(b)) is not None
            ]
            result = self.bounded([*result, *option, *together], at)
        return result
