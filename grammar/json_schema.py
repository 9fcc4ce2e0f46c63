"""JSON Schema (drafts 4, 6, 7, 2019-09, 2020-12) -> rules over the bytes of JSON text.

All keywords that say which values are valid are enforced, or the schema is refused at its place; nothing is enforced by
half.  Declared choices, within which every valid value can be written and nothing else:
- white space as `JsonOptions.white_space` says; by default one blank at most after ',' and ':', none elsewhere;
- the properties of an object that requires all that it names come in the order of the schema's text, then all others;
  if it may go without some, they come in any order (`order` says otherwise);
- names, enum and const values are written plainly (no \\u escape that is not needed), and so are names that the
  schema does not know, so that none comes twice; other strings as json_strings.py says;
- numbers as json_numbers.py says; formats as json_formats.py says; `pattern` is ECMA-262 and may match anywhere;
- under uniqueItems, values are spelled in one way, and objects have at most one property that no schema names;
- where a string must fail a `format` of which only plain forms are enforced (json_formats.py), none is written;
- missing additionalProperties means any, as in the standard; recursion ($ref, any JSON value) has no bound.
Refused: what MAX_... constants bound; uniqueItems that is negated, or where equal values cannot be told by texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, NoReturn

from .errors import GrammarTooComplex
from .expressions import INFINITE, NOTHING
from .few_texts import few_texts
from .json_arrays import ArrayPlan
from .json_formats import FORMATS
from .json_keywords import refuse
from .json_layout import Layout, Style, WhiteSpace
from .json_lengths import Measure, Place
from .json_numbers import NumberWriter
from .json_object_names import keeps_implied
from .json_objects import ObjectPlan
from .json_spellings import spellings
from .json_strings import StringWriter
from .json_unique import UniqueItems
from .rules import NEVER, Rules
from .schema_algebra import MAX_SHAPES, Algebra
from .schema_checks import Checks, unsatisfiable
from .schema_document import Document, check_nesting
from .schema_limits import without_implied
from .schema_plain import Content, PlainLengths, content_of, is_plain
from .schema_shapes import (
    NO_VALUE,
    ArrayLimits,
    Conjunction,
    KeyRule,
    Named,
    ObjectLimits,
    PlainLimits,
    Shape,
    StringLimits,
    is_false,
)

Order = Literal["auto", "schema", "any", "required-first"]
Draft = Literal[4, 6, 7, 2019, 2020]

MAX_COMPOUND = 2_000  # constants of one place that are arrays or objects
FEW = 32  # constants that are written as one word list when they are more


@dataclass(frozen=True)
class JsonOptions:
    """order        of the properties that the schema names: as it does, any, or those required first; "auto" is as the
                 schema does where it requires all of them, else any
    white_space     "bounded", "compact", "any", ("pretty", blanks a level)
    assert_formats  whether `format` says which strings are valid
    draft           instead of what $schema says
    registry        schemas that $ref may name, by URI; nothing is ever fetched"""

    order: Order = "auto"
    white_space: WhiteSpace = "bounded"
    assert_formats: bool = True
    draft: Draft | None = None
    registry: Mapping[str, Any] = field(default_factory=dict)


def compile_schema(text: str, rules: Rules, options: JsonOptions | None = None) -> int:
    """The node of the JSON texts that the schema (given as JSON text) admits; never NEVER.

    Raises SchemaError, GrammarTooComplex."""
    rules.expressions.budget.place = "#"
    try:
        root = json.loads(text)
        return SchemaWriter(root, text, rules, options or JsonOptions()).write()
    except RecursionError:
        raise GrammarTooComplex("schemas are nested too deep", place="#") from None


class SchemaWriter:
    def __init__(self, root: Any, text: str, rules: Rules, options: JsonOptions) -> None:
        self.rules, self.options = rules, options
        self.strings = StringWriter(rules.expressions)
        self._numbers = NumberWriter(rules.expressions)
        if isinstance(root, dict):
            check_nesting(root)
        self._document = Document(root, text, options.registry, options.draft)
        self.algebra = Algebra(
            self._document,
            rules.expressions.budget,
            matches_string=self.strings.matches,
            no_string=self.strings.is_empty,
            assert_formats=options.assert_formats,
            annotate="unevaluated" in text or bool(options.registry),
        )
        resource = self._document.root.resource
        self._is_draft_4 = resource is not None and resource.draft == 4
        self.has_unique = '"uniqueItems"' in text
        self.layout = Layout(rules, options.white_space)
        self._plain = PlainLengths(self, self._document)
        self._by_content: dict[tuple[Content, bool], int] = {}
        self.unique = UniqueItems(self)
        self._measure: Measure | None = None  # while lengths are being found
        self._sizes: dict[Place, int] = {}
        self._places: dict[Place, int] = {}
        self._scalars: dict[tuple[Conjunction, bool], int] = {}
        self._plans: dict[tuple[Conjunction, bool], tuple[ObjectPlan | ArrayPlan, ...]] = {}
        self._names: dict[str, int] = {}
        self._constants: dict[int, ObjectLimits | ArrayLimits] = {}  # by id() of the value

    def write(self) -> int:
        root = self._document.root
        if isinstance(root.schema, dict):
            Checks(self, self._document).run(root)
        whole: Conjunction = () if root.schema is True else (root,)
        style = Style()
        if self.size(whole, style) >= INFINITE:
            raise unsatisfiable(self, self._document, root)
        return self.rules.sequence(self.layout.gap, self.place(whole, style), self.layout.gap)

    # ---- places ------------------------------------------------------------------------------------------------

    @property
    def is_measuring(self) -> bool:
        """Whether lengths are being found, so that those not known yet seem infinite."""
        return self._measure is not None

    def size(self, conjunction: Conjunction, style: Style) -> int:
        """Bytes of the shortest text of a place; INFINITE if it has none."""
        key = (conjunction, style)
        known = self._sizes.get(key)
        if known is not None:
            return known
        length = self._plain.length(conjunction)
        if length:
            self._sizes[key] = length
            return length
        if is_false(conjunction):
            return INFINITE
        if self._measure is not None:
            return self._measure.ask(key)
        self._measure = measure = Measure(key, self.rules.expressions.budget.tick)
        try:
            measure.run(self._shortest)
        finally:
            self._measure = None
        self._sizes.update(measure.found())
        return self._sizes[key]

    def _shortest(self, key: Place) -> int:
        """The shortest text of a place, as far as those of the places inside are known."""
        conjunction, style = key
        self._at(conjunction)
        scalars = self.scalars(conjunction, style.canonical)
        result = INFINITE if scalars == NOTHING else self.rules.expressions.shortest[scalars]
        if any(_may_be_empty(shape) for shape in self.containers(conjunction)):
            return min(result, 2)  # {} or [], whatever else may stand there
        return min(result, INFINITE, *(plan.size(style) for plan in self.plans(conjunction, style.canonical)))

    def _has_containers(self, conjunction: Conjunction) -> bool:
        kinds = self.algebra.kinds(conjunction)
        if "array" not in kinds and "object" not in kinds:
            return False
        return not conjunction or any(True for _ in self.containers(conjunction))

    def containers(self, conjunction: Conjunction) -> Iterator[Shape]:
        for kind in self.algebra.kinds(conjunction):
            if kind in ("array", "object"):
                yield from self.algebra.shapes(conjunction, kind)

    def place(self, conjunction: Conjunction, style: Style) -> int:
        """The node of the texts of all values that satisfy a conjunction."""
        key = (conjunction, style)
        known = self._places.get(key)
        if known is not None:
            return known
        size = self.size(conjunction, style)
        if size >= INFINITE:
            node = NEVER
        elif not self._has_containers(conjunction):
            node = self.rules.terminal(self.scalars(conjunction, style.canonical))
        else:
            node = self.rules.rule(("place", self, key), lambda: self._body(conjunction, style), size)
        self._places[key] = node
        self.begins(node, self.pointer_of(conjunction))
        return node

    def begins(self, node: int, pointer: str) -> None:
        """For explanations: which schema a node belongs to; "" where it belongs to several."""
        if self.rules.places.setdefault(node, (pointer, ""))[0] != pointer:
            self.rules.places[node] = ("", "")

    def _body(self, conjunction: Conjunction, style: Style) -> int:
        self._at(conjunction)
        scalars = self.scalars(conjunction, style.canonical)
        plans = self.plans(conjunction, style.canonical)
        if scalars == NOTHING and len(plans) == 1:
            return plans[0].node(style)  # there is some, as the place has a length
        options = [plan.node(style) for plan in plans if self.has_some(plan, style)]
        return self.rules.choice((self.rules.terminal(scalars), *options))

    def has_some(self, plan: ObjectPlan | ArrayPlan, style: Style) -> bool:
        return plan.size(style) < INFINITE

    def plans(self, conjunction: Conjunction, canonical: bool) -> tuple[ObjectPlan | ArrayPlan, ...]:
        """The alternatives for arrays and objects."""
        key = (conjunction, canonical)
        known = self._plans.get(key)
        if known is None:
            pointer = self.pointer_of(conjunction)
            found: list[ObjectPlan | ArrayPlan] = []
            for shape in self.containers(conjunction):
                every = self._all_limits(shape, conjunction, canonical)
                found += [self.plan_of(limits, canonical, pointer) for limits in every]
            known = self._plans[key] = tuple(plan for plan in found if not plan.is_void)
            if canonical and len(known) > 1:
                self.unique.check_order([plan for plan in known if isinstance(plan, ObjectPlan)], pointer)
        return known

    def plan_of(self, limits: ObjectLimits | ArrayLimits, canonical: bool, pointer: str) -> ObjectPlan | ArrayPlan:
        if isinstance(limits, ObjectLimits):
            return ObjectPlan(limits, canonical, self, pointer)
        return ArrayPlan(limits, canonical, self, pointer)

    def _all_limits(
        self, shape: Shape, conjunction: Conjunction, canonical: bool
    ) -> Iterable[ObjectLimits | ArrayLimits]:
        if shape.values is not None:
            if len(shape.values) > MAX_COMPOUND:
                self.too_complex(f"more than {MAX_COMPOUND:,} constant arrays or objects", self.pointer_of(conjunction))
            return map(self.constant, shape.values)
        limits = shape.limits
        if not isinstance(limits, ObjectLimits) or not limits.implied or keeps_implied(limits, canonical, self.options):
            return (limits,)
        found = tuple(islice(without_implied(limits), MAX_SHAPES + 1))
        if len(found) > MAX_SHAPES:
            why = f"more than {MAX_SHAPES} alternatives of properties that imply others in a fixed order"
            self.too_complex(why, self.pointer_of(conjunction))
        return found

    def constant(self, value: Any) -> ObjectLimits | ArrayLimits:
        """The limits that one array or object alone satisfies."""
        known = self._constants.get(id(value))
        if known is None:
            root = self._document.root
            if isinstance(value, list):
                items = tuple((self._document.made({"const": v}, root),) for v in value)
                known = ArrayLimits(items, NO_VALUE, len(value), len(value))
            else:
                named = tuple((n, Named((self._document.made({"const": v}, root),))) for n, v in value.items())
                rest = KeyRule(StringLimits(excluded=frozenset(value)), NO_VALUE)
                known = ObjectLimits(named, tuple(value), (rest,))
            self._constants[id(value)] = known
        return known

    # ---- strings, numbers, null, booleans ----------------------------------------------------------------------

    def scalars(self, conjunction: Conjunction, canonical: bool) -> int:
        """The expression of all values of a place that are no arrays and no objects."""
        key = (conjunction, canonical)
        known = self._scalars.get(key)
        if known is None:
            single = conjunction[0] if len(conjunction) == 1 and not conjunction[0].negated else None
            content = None if single is None else content_of(single.schema)
            if content is not None:
                known = self._by_content.get((content, canonical))
            if known is None:
                known = self._find_scalars(conjunction, canonical)
                if content is not None:
                    self._by_content[content, canonical] = known
            self._scalars[key] = known
        return known

    def _find_scalars(self, conjunction: Conjunction, canonical: bool) -> int:
        options = [
            self.scalar(shape, canonical)
            for kind in self.algebra.kinds(conjunction)
            if kind not in ("array", "object")
            for shape in self.algebra.shapes(conjunction, kind)
        ]
        return self.rules.expressions.alternative(options)

    def scalar(self, shape: Shape, canonical: bool) -> int:
        e = self.rules.expressions
        if shape.values is None:
            limits = shape.limits
            if isinstance(limits, StringLimits):
                if any(name in FORMATS and not FORMATS[name].exact for name, _ in limits.not_formats):
                    return NOTHING
                return self.strings.literal_text(limits, canonical=canonical)
            if isinstance(limits, PlainLimits):
                return e.alternative(e.literal(json.dumps(value).encode()) for value in limits.allowed)
            # In draft 4, a number that is written with a fraction or an exponent is no integer.
            return self._numbers.literal_text(
                limits, canonical=canonical or (limits.whole is True and self._is_draft_4)
            )
        canonical = canonical or (self._is_draft_4 and getattr(shape.limits, "whole", None) is True)
        texts = [text for value in shape.values for text in spellings(value, canonical)]
        return e.words(texts) if len(texts) > FEW else e.alternative(map(e.literal, texts))

    def name_text(self, name: str) -> int:
        """The node of a property's name, plainly written; NEVER if no text can contain it."""
        known = self._names.get(name)
        if known is None:
            texts = [b'"%s"' % name.encode()] if is_plain(name) else spellings(name, True)
            known = self._names[name] = next(map(self.rules.literal, texts), NEVER)
        return known

    def few_strings(self, limits: StringLimits, most: int) -> list[str] | None:
        """All strings within the limits; None if they are more than `most`."""
        if not limits.patterns and not limits.formats and limits.most > 1:
            return None
        e = self.strings.literal_text(limits, canonical=True)
        texts = few_texts(self.rules.expressions, e, most)
        return None if texts is None else [json.loads(text) for text in texts]

    # ---- errors ------------------------------------------------------------------------------------------------

    def refuse_unique(self, pointer: str, why: str) -> NoReturn:
        refuse("uniqueItems", True, pointer, f"cannot be enforced {why}")

    def too_complex(self, message: str, place: str) -> NoReturn:
        raise GrammarTooComplex(message, place=place)

    def pointer_of(self, conjunction: Conjunction) -> str:
        return conjunction[0].pointer if conjunction else "#"

    def _at(self, conjunction: Conjunction) -> None:
        if conjunction:
            self.rules.expressions.budget.place = conjunction[0].pointer


def _may_be_empty(shape: Shape) -> bool:
    """Whether an object without members, or an array without items, is within, as far as a quick look tells."""
    limits = shape.limits
    if shape.values is not None or limits.least:
        return False
    if isinstance(limits, ObjectLimits):
        return not limits.required and not limits.needs
    return not any(claim.least for claim in limits.claims)
