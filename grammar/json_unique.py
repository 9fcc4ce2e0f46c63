"""uniqueItems: the values that can be used up, one by one, and all others, told apart by their texts."""

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING

from .expressions import INFINITE, NOTHING
from .few_texts import few_texts
from .json_arrays import ArrayPlan
from .json_layout import Style
from .json_objects import ObjectPlan
from .json_spellings import spellings
from .schema_shapes import ANY_STRING, Conjunction, Shape, StringLimits

if TYPE_CHECKING:
    from .json_schema import SchemaWriter

MAX_VALUES = 256  # of a place under uniqueItems, kept account of one by one


class UniqueItems:
    def __init__(self, writer: SchemaWriter) -> None:
        self._writer = writer
        self._divided: dict[tuple[Conjunction, Style], tuple[dict[bytes, int], int]] = {}
        self._compound: dict[bytes, ObjectPlan | ArrayPlan] = {}  # canonical texts of constants

    def divided(self, conjunction: Conjunction, style: Style) -> tuple[dict[bytes, int], int]:
        """Of a place in canonical style: bytes of each value that can be used up, by text; of the shortest other."""
        key = (conjunction, style)
        known = self._divided.get(key)
        if known is None:
            finite: dict[bytes, int] = {}
            infinite = INFINITE
            for kind in self._writer.algebra.kinds(conjunction):
                for shape in self._writer.algebra.shapes(conjunction, kind):
                    if kind in ("array", "object"):
                        for value in shape.values or ():
                            text = json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
                            plan = self._compound.get(text)
                            if plan is None:
                                limits = self._writer.constant(value)
                                plan = self._compound[text] = self._writer.plan_of(
                                    limits, True, self._writer.pointer_of(conjunction)
                                )
                            finite[text] = plan.size(style)
                        continue
                    texts = self._few(shape)
                    if texts is None:
                        infinite = min(
                            infinite, self._writer.rules.expressions.shortest[self._writer.scalar(shape, True)]
                        )
                    else:
                        finite.update((text, len(text)) for text in texts)
            for plan in self._infinite_plans(conjunction):
                infinite = min(infinite, plan.size(style))
            known = finite, infinite
            if not self._writer.is_measuring:
                self._divided[key] = known
        return known

    def value_node(self, text: bytes, style: Style) -> int:
        """The node of a value that `divided` lists."""
        plan = self._compound.get(text)
        return self._writer.rules.literal(text) if plan is None else plan.node(style)

    def _few(self, shape: Shape) -> list[bytes] | None:
        if shape.values is not None:
            return [text for value in shape.values for text in spellings(value, True)]
        e = self._writer.scalar(shape, True)
        if isinstance(shape.limits, StringLimits) and shape.limits == ANY_STRING:
            return None
        return [] if e == NOTHING else few_texts(self._writer.rules.expressions, e, MAX_VALUES)

    def _infinite_plans(self, conjunction: Conjunction) -> list[ObjectPlan | ArrayPlan]:
        constant = {
            id(self._writer.constant(value))
            for shape in self._writer.containers(conjunction)
            for value in shape.values or ()
        }
        return [plan for plan in self._writer.plans(conjunction, True) if id(plan.limits) not in constant]

    def infinite_part(self, conjunction: Conjunction, style: Style) -> int:
        """The node of those values that `divided` doesn't list."""
        _, size = self.divided(conjunction, style)

        def build() -> int:
            e = self._writer.rules.expressions
            scalars = [
                self._writer.scalar(shape, True)
                for kind in self._writer.algebra.kinds(conjunction)
                if kind not in ("array", "object")
                for shape in self._writer.algebra.shapes(conjunction, kind)
                if self._few(shape) is None
            ]
            plans = [
                plan.node(style) for plan in self._infinite_plans(conjunction) if self._writer.has_some(plan, style)
            ]
            return self._writer.rules.choice([self._writer.rules.terminal(e.alternative(scalars)), *plans])

        return self._writer.rules.rule(("infinite", self, conjunction, style), build, size)

    def check_comparable(self, items: set[Conjunction], pointer: str) -> None:
        """That equal items have equal texts even if they stand where different schemas hold."""
        plans = [plan for item in items for plan in self._writer.plans(item, True)]
        if len(items) > 1:
            self.check_order([plan for plan in plans if isinstance(plan, ObjectPlan)], pointer)

    def check_order(self, plans: list[ObjectPlan], pointer: str) -> None:
        for a, b in combinations(plans, 2):
            if self._writer.algebra.judge.disjoint(Shape(a.limits), Shape(b.limits), "object"):
                continue
            common = [name for name in a.names if name in b.names]
            if a.free or b.free or common != [name for name in b.names if name in a.names]:
                self._writer.refuse_unique(pointer, "where objects may be written in two orders")
            for name in common:
                x, y = a.names[name], b.names[name]
                if x != y and (self._writer.plans(x, True) or self._writer.plans(y, True)):
                    self._writer.refuse_unique(pointer, "where objects may be written in two orders")
