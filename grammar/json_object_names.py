"""The names of one object's properties sorted out: those in a fixed order, those in any, and classes of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .expressions import INFINITE
from .rules import NEVER
from .schema_shapes import Conjunction, ObjectLimits, StringLimits, is_false, is_void, meet

if TYPE_CHECKING:
    from .json_schema import JsonOptions, SchemaWriter

MAX_LISTED_NAMES = 64  # names of a pattern that are written one by one
MAX_CLASSES = 64  # into which patterns may divide the names of one object
MAX_NEEDS = 8


class Member(NamedTuple):
    """A property.   key: node of its name, with quotes;   needs: bits of those needs that it may satisfy
    number: within its plan"""

    key: int
    conjunction: Conjunction
    required: bool
    needs: int
    number: int


def order_of(limits: ObjectLimits, order: str) -> str:
    """Of one object's properties: "auto" is decided."""
    if order != "auto":
        return order
    return "schema" if {name for name, _ in limits.named} <= set(limits.required) else "any"


def keeps_implied(limits: ObjectLimits, canonical: bool, options: JsonOptions) -> bool:
    """Whether an object's plan keeps account of implied properties itself: where all come in any order, uncounted."""
    counted = limits.least > len(limits.required) or limits.most < INFINITE
    return not (canonical or limits.needs or counted) and order_of(limits, options.order) == "any"


class ObjectNames:
    def __init__(self, limits: ObjectLimits, canonical: bool, writer: SchemaWriter, pointer: str) -> None:
        self._writer, self.limits, self.canonical, self.pointer = writer, limits, canonical, pointer
        self._rules = writer.rules
        self.loose: list[Member] = []
        self.bits: dict[str, int] = {}  # of the loose ones
        self.free: list[Member] = []  # classes of names
        self.names: dict[str, Conjunction] = {}  # of the chains' members
        self.is_void = False
        self._chains: dict[str, list[Member]] = {}
        self._numbers = 0
        self._sort_names()
        # Each chain has a fixed order; members of two chains come in any.
        self.chains: list[list[Member]] = list(self._chains.values())

    def _sort_names(self) -> None:
        limits, algebra = self.limits, self._writer.algebra
        named = dict(limits.named)
        required = set(limits.required)
        if len(limits.needs) > MAX_NEEDS:
            self._writer.too_complex(f"more than {MAX_NEEDS} properties must exist", self.pointer)
        names = dict.fromkeys((*named, *limits.required))
        for rule in (*limits.rules, *limits.needs):
            for name in rule.keys.excluded:
                names.setdefault(name)
        for name, others in limits.implied:
            names.update(dict.fromkeys((name, *others)))
        mode = order_of(limits, self._writer.options.order)
        if mode == "required-first":
            names = dict.fromkeys(sorted(names, key=lambda name: name not in required))
        for name in names:
            conjunction = algebra.judge.value_of(limits, named, name)
            if is_false(conjunction):
                self.is_void = self.is_void or name in required
                continue
            chain = named[name].chain if name in named and mode != "any" else ""
            self._add_name(name, conjunction, name in required, "#" if self.canonical else chain)
        self._divide(frozenset(names))

    def _add_name(self, name: str, conjunction: Conjunction, required: bool, chain: str) -> None:
        key = self._writer.name_text(name)
        if key == NEVER:
            self.is_void = self.is_void or required
            return
        needs = 0
        for i, need in enumerate(self.limits.needs):
            if name not in need.keys.excluded and self._writer.algebra.matches_string(need.keys, name):
                needs |= 1 << i
        member = Member(key, conjunction, required, needs, self._new_number())
        if chain:
            self._chains.setdefault(chain, []).append(member)
            self.names[name] = conjunction
        else:
            self.bits[name] = 1 << len(self.loose)
            self.loose.append(member)

    def _divide(self, names: frozenset[str]) -> None:
        """The names that are not given, in classes with one meaning each."""
        algebra = self._writer.algebra
        if any(is_false(r.conjunction) and r.keys == StringLimits(excluded=r.keys.excluded) for r in self.limits.rules):
            return  # whatever it excludes is given
        classes: list[tuple[StringLimits, Conjunction, int]] = [(StringLimits(excluded=names), (), 0)]
        rules = sorted(self.limits.rules, key=lambda rule: not is_false(rule.conjunction))
        tasks = [(rule.keys, rule.conjunction, 0) for rule in rules]
        tasks += [(need.keys, (), 1 << i) for i, need in enumerate(self.limits.needs)]
        for keys, conjunction, needs in tasks:
            divided = []
            for limits, value, owed in classes:
                self._writer.rules.expressions.budget.tick()
                inside = limits.within(keys)
                if is_void(inside) or algebra.no_string(inside):
                    divided.append((limits, value, owed))
                    continue
                both = meet(value, conjunction)
                if not is_false(both):
                    divided.append((inside, both, owed | needs))
                for piece in keys.outside():
                    outside = limits.within(piece)
                    if not is_void(outside) and not algebra.no_string(outside):
                        divided.append((outside, value, owed))
            classes = divided
            if len(classes) > MAX_CLASSES:
                self._writer.too_complex(f"patterns divide names into more than {MAX_CLASSES} classes", self.pointer)
        for limits, value, owed in classes:
            listed = self._writer.few_strings(limits, MAX_LISTED_NAMES)
            if listed is not None:
                for name in listed:
                    self._add_name(name, value, False, "#" if self.canonical else "")
                continue
            key = self._rules.terminal(self._writer.strings.literal_text(limits, canonical=True))
            if key != NEVER:
                self.free.append(Member(key, value, False, owed, self._new_number()))

    def _new_number(self) -> int:
        self._numbers += 1
        return self._numbers
