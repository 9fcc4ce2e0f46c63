"""JSON arrays as rules.  How many items there are, how many of them count for `contains`, and which of finitely many
values have been used (uniqueItems) stands in the keys of rules."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from .expressions import INFINITE
from .json_layout import Style
from .rules import NEVER
from .schema_shapes import TRUE, ArrayLimits, Conjunction, is_false, meet

if TYPE_CHECKING:
    from .json_schema import SchemaWriter

MAX_COUNTED = 20_000  # items times counts, where items are counted by what they hold


class State(NamedTuple):
    """position: number of items, as far as it matters;  counts: per claim;  used: bits of values"""

    position: int
    counts: tuple[int, ...]
    used: int = 0


class ValuesLeft(NamedTuple):
    """sizes: bytes of unused values cheaper than any other item, the cheapest first;  sums: of the first n of them;
    infinite: bytes of the cheapest other item"""

    sizes: list[int]
    sums: list[int]
    infinite: int


class ArrayPlan:
    """One alternative of an array."""

    def __init__(self, limits: ArrayLimits, canonical: bool, writer: SchemaWriter, pointer: str) -> None:
        self._writer, self.limits, self._rules = writer, limits, writer.rules
        self.pointer = pointer
        self.is_void = False
        most = limits.most
        prefix = limits.prefix
        for i in range(min(len(prefix), most)):
            if is_false(prefix[i]):
                most = i
                break
        else:
            if is_false(limits.rest):
                most = min(most, len(prefix))
        self._most = most
        self.is_void = limits.least > most
        starts = [claim.start for claim in limits.claims]
        last = max(1, len(prefix), limits.least, *starts) if starts else max(1, len(prefix), limits.least)
        self._cap = most if most < INFINITE else last  # beyond it, positions are alike
        self.unique = bool(limits.unique) and most > 1
        self.canonical = canonical or self.unique
        if self.unique and limits.claims:
            writer.refuse_unique(limits.unique, "together with contains")
        if self.unique and limits.least > 1:
            self._rules.is_crowded = True
        self._values: dict[bytes, int] = {}  # text -> its bit, of the values that can be used up
        self._needs: dict[Style, dict[tuple[int, tuple[int, ...]], int]] = {}
        self._unique_needs: dict[tuple[Style, int, int], int] = {}
        if self.unique:
            writer.unique.check_comparable({limits.item(i) for i in range(min(len(prefix) + 1, most))}, limits.unique)
        self.start = State(0, (0,) * len(limits.claims))

    def _inner(self, style: Style) -> Style:
        return self._writer.layout.inside(Style(self.canonical, style.depth))

    # ---- items -------------------------------------------------------------------------------------------------

    def _options(self, position: int, counts: tuple[int, ...]) -> list[tuple[Conjunction, tuple[int, ...]]]:
        """What the next item may be, with the counts after it."""
        result: list[tuple[Conjunction, tuple[int, ...]]] = [(self.limits.item(position), counts)]
        for i, claim in enumerate(self.limits.claims):
            count, bounded = counts[i], claim.most < INFINITE
            if position < claim.start or (not bounded and count >= claim.least):
                continue
            this: Conjunction = () if claim.at is TRUE else (claim.at,)
            split = []
            for conjunction, after in result:
                more = (*after[:i], count + 1, *after[i + 1 :])
                if not bounded or count < claim.most:
                    split.append((meet(conjunction, this), more))
                split.append((meet(conjunction, (claim.at.negation(),) if bounded else ()), after))
            result = split
        return [option for option in dict.fromkeys(result) if not is_false(option[0])]

    def _may_close(self, state: State) -> bool:
        return state.position >= self.limits.least and self._satisfied(state.counts)

    def _satisfied(self, counts: tuple[int, ...]) -> bool:
        return all(n >= claim.least for n, claim in zip(counts, self.limits.claims, strict=True))

    def _next(self, position: int) -> int:
        return min(position + 1, self._cap)

    # ---- lengths -----------------------------------------------------------------------------------------------

    def size(self, style: Style) -> int:
        """Bytes of a shortest text; INFINITE if there is none."""
        if self.is_void:
            return INFINITE
        inner = self._inner(style)
        return min(2 if self._may_close(self.start) else INFINITE, self._size_with_more(self.start, inner, True))

    def _size_with_more(self, state: State, inner: Style, opening: bool) -> int:
        """Of an item, all that must follow it, and the closing bracket."""
        if self._most < INFINITE and state.position >= self._most:
            return INFINITE
        shortest, layout = self._rules.shortest, self._writer.layout
        first = 1 + shortest[layout.first(inner)] if opening else 0
        needed = self._needed_with_more(state, inner)
        return INFINITE if needed >= INFINITE else min(INFINITE - 1, first + needed + shortest[layout.last(inner)] + 1)

    def _needed_with_more(self, state: State, inner: Style) -> int:
        """Of one item and of all (with commas) that must follow it."""
        if self.unique:
            values = self._values_left(state, inner)
            return min((size + self._needed_unique(after, inner, values, size)
                        for size, after in self._unique_sizes(state, inner)), default=INFINITE)  # fmt: skip
        position = self._next(state.position)
        return min(
            (
                self._writer.size(conjunction, inner) + self._needed(position, counts, inner)
                for conjunction, counts in self._options(state.position, state.counts)
            ),
            default=INFINITE,
        )

    def _tail_size(self, state: State, inner: Style, values: ValuesLeft | None = None, size: int = 0) -> int:
        if self.unique:
            needed = self._needed_unique(state, inner, values, size)
        else:
            needed = self._needed(state.position, state.counts, inner)
        if needed >= INFINITE:
            return INFINITE
        return min(INFINITE - 1, needed + self._rules.shortest[self._writer.layout.last(inner)] + 1)

    def _needed(self, position: int, counts: tuple[int, ...], inner: Style) -> int:
        """Bytes of the items, each behind a comma, that must follow."""
        if not counts:
            limits = self.limits
            comma = self._rules.shortest[self._writer.layout.comma(inner)]
            total = 0
            for i in range(position, min(len(limits.prefix), limits.least)):
                total += comma + self._writer.size(limits.prefix[i], inner)
            rest = limits.least - max(position, len(limits.prefix))
            if rest > 0:
                total += rest * (comma + self._writer.size(limits.rest, inner))
            return min(total, INFINITE)
        table = self._needs.get(inner)
        if table is None:
            table = self._counted_needs(inner)
            if not self._writer.is_measuring:
                self._needs[inner] = table
        return table.get((position, counts), INFINITE)

    def _counted_needs(self, inner: Style) -> dict[tuple[int, tuple[int, ...]], int]:
        """`_needed` of every position and all counts, from the last backwards."""
        claims, writer = self.limits.claims, self._writer
        comma = self._rules.shortest[writer.layout.comma(inner)]
        all_counts: list[tuple[int, ...]] = [()]
        for claim in claims:
            top = claim.most if claim.most < INFINITE else claim.least
            all_counts = [(*counts, n) for counts in all_counts for n in range(top, -1, -1)]
            if len(all_counts) * (self._cap + 1) > MAX_COUNTED:
                writer.too_complex(f"more than {MAX_COUNTED:,} counts of items", self.pointer)
        table: dict[tuple[int, tuple[int, ...]], int] = {}
        for position in range(self._cap, -1, -1):
            for counts in all_counts:  # each after those that it can grow to
                self._rules.expressions.budget.tick()
                best = 0 if self._may_close(State(position, counts)) else INFINITE
                if best and not (self._most < INFINITE and position >= self._most):
                    after = self._next(position)
                    for conjunction, more in self._options(position, counts):
                        rest = table.get((after, more), INFINITE)
                        if rest < best:
                            best = min(best, comma + writer.size(conjunction, inner) + rest)
                table[position, counts] = min(best, INFINITE)
        return table

    def _unique_sizes(self, state: State, inner: Style) -> list[tuple[int, State]]:
        finite, infinite = self._writer.unique.divided(self.limits.item(state.position), inner)
        position = self._next(state.position)
        result = [
            (size, State(position, (), state.used | 1 << self._bit(text)))
            for text, size in finite.items()
            if not state.used >> self._bit(text) & 1
        ]
        if infinite < INFINITE:
            result.append((infinite, State(position, (), state.used)))
        return result

    def _bit(self, text: bytes) -> int:
        return self._values.setdefault(text, len(self._values))

    def _values_left(self, state: State, inner: Style) -> ValuesLeft | None:
        """Of a state after the prefix."""
        if state.position < len(self.limits.prefix):
            return None
        self._rules.expressions.budget.tick()
        finite, infinite = self._writer.unique.divided(self.limits.rest, inner)
        left = (size for text, size in finite.items() if not state.used >> self._bit(text) & 1)
        sizes = sorted(size for size in left if size < infinite)
        return ValuesLeft(sizes, [0, *accumulate(sizes)], min(infinite, INFINITE))

    def _needed_unique(self, state: State, inner: Style, values: ValuesLeft | None = None, size: int = INFINITE) -> int:
        """Bytes of the items, each behind a comma, that must follow.

        values, size: those left before the last item, and the last item's bytes; they save time"""
        position, least = state.position, self.limits.least
        if position >= least:
            return 0
        comma = self._rules.shortest[self._writer.layout.comma(inner)]
        if position >= len(self.limits.prefix):
            if values is None:
                values, size = self._values_left(state, inner), INFINITE
            assert values is not None
            count = least - position
            # The last item was one of the values, and those that must follow are the cheapest others.
            among = bisect_left(values.sizes, size) < min(count, len(values.sizes))
            end = min(count + among, len(values.sizes))
            others = count - (end - among)
            if others and values.infinite >= INFINITE:
                return INFINITE
            return min(INFINITE, count * comma + values.sums[end] - size * among + others * values.infinite)
        key = (inner, position, state.used)
        known = self._unique_needs.get(key)
        if known is None:
            self._rules.expressions.budget.tick()
            known = min((comma + size + self._needed_unique(after, inner)
                         for size, after in self._unique_sizes(state, inner)), default=INFINITE)  # fmt: skip
            if not self._writer.is_measuring:
                self._unique_needs[key] = known
        return min(known, INFINITE)

    # ---- texts -------------------------------------------------------------------------------------------------

    def node(self, style: Style) -> int:
        rules, layout = self._rules, self._writer.layout
        inner = self._inner(style)
        some = rules.sequence(layout.first(inner), self._items(self.start, inner))
        empty = rules.sequence(layout.gap, rules.literal(b"]")) if self._may_close(self.start) else NEVER
        node = rules.sequence(rules.literal(b"["), rules.choice((some, empty)))
        return rules.scope(node) if self.unique else node

    def _tail(self, state: State, inner: Style, values: ValuesLeft | None = None, size: int = 0) -> int:
        """What follows an item."""

        def build() -> int:
            rules, layout = self._rules, self._writer.layout
            close = rules.sequence(layout.last(inner), rules.literal(b"]")) if self._may_close(state) else NEVER
            return rules.choice((close, rules.sequence(layout.comma(inner), self._items(state, inner))))

        return self._rules.rule(("items", self, inner, state), build, self._tail_size(state, inner, values, size))

    def _items(self, state: State, inner: Style) -> int:
        """One item at least, and what follows it."""
        if self._most < INFINITE and state.position >= self._most:
            return NEVER
        rules, writer = self._rules, self._writer
        options = []
        if self.unique:
            conjunction = self.limits.item(state.position)
            finite, infinite = writer.unique.divided(conjunction, inner)
            position, values = self._next(state.position), self._values_left(state, inner)
            for text, size in finite.items():
                if not state.used >> self._bit(text) & 1:
                    after = State(position, (), state.used | 1 << self._bit(text))
                    value = rules.distinct(writer.unique.value_node(text, inner))
                    options.append(rules.sequence(value, self._tail(after, inner, values, size)))
            if infinite < INFINITE:
                value = rules.distinct(writer.unique.infinite_part(conjunction, inner))
                options.append(rules.sequence(value, self._tail(State(position, (), state.used), inner)))
            return rules.choice(options)
        for conjunction, counts in self._options(state.position, state.counts):
            after = State(self._next(state.position), counts)
            options.append(rules.sequence(writer.place(conjunction, inner), self._tail(after, inner)))
        return rules.choice(options)
