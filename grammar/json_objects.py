"""JSON objects as rules.  What must be remembered while an object is written stands in the key of a rule: how far the
order of properties has got, which of the others have been written, what is still owed, how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from .expressions import INFINITE
from .json_layout import Style
from .json_object_names import Member, ObjectNames
from .rules import NEVER
from .schema_shapes import Conjunction, ObjectLimits, meet

if TYPE_CHECKING:
    from .json_schema import SchemaWriter


class State(NamedTuple):
    """positions: in the chains;  seen: bits of the unordered ones;  owed: bits of needs;  number: of members, as far
    as it matters;  full: whether there is no further room for names that the schema doesn't say"""

    positions: tuple[int, ...]
    seen: int
    owed: int
    number: int
    full: bool = False


class _Suffixes(NamedTuple):
    """By position in a chain: number and bytes of the required members from there on."""

    counts: list[int]
    totals: list[int]


class ObjectPlan(ObjectNames):
    """One alternative of an object."""

    def __init__(self, limits: ObjectLimits, canonical: bool, writer: SchemaWriter, pointer: str) -> None:
        super().__init__(limits, canonical, writer, pointer)
        self._suffixes: dict[Style, list[_Suffixes]] = {}
        self._cheapest: dict[Style, list[list[int]]] = {}
        self._costs: dict[Style, list[tuple[int, int]]] = {}
        self._required_loose = [i for i, m in enumerate(self.loose) if m.required]
        self._required_bits = sum(1 << i for i in self._required_loose)
        # Of implied properties: what a bit demands; a bit of its own stands for what cannot be there.
        impossible = 1 << len(self.loose)
        self._implied = [
            (self.bits[name], sum(self.bits.get(other, impossible) for other in dict.fromkeys(others)))
            for name, others in limits.implied
            if name in self.bits
        ]
        self._demands: dict[int, int] = {}
        members = [*self.loose, *(m for chain in self.chains for m in chain)]
        required = sum(m.required for m in members)
        self._least = limits.least if limits.least > required else 0
        self._most = limits.most if self.free or limits.most < len(members) else INFINITE
        if required > limits.most:
            self.is_void = True
        self._cap = self._least if self._most >= INFINITE else self._most  # beyond it, counts are alike
        self._unlimited = canonical or not self.free or limits.most - required <= 1
        if self.free and not self._unlimited and (self._least or limits.needs):
            self._rules.is_crowded = True
        self.start = State((0,) * len(self.chains), 0, (1 << len(limits.needs)) - 1, 0)
        self._end = tuple(map(len, self.chains))
        self._last_required = [max((i + 1 for i, m in enumerate(c) if m.required), default=0) for c in self.chains]

    # ---- lengths -----------------------------------------------------------------------------------------------

    def size(self, style: Style) -> int:
        """Bytes of a shortest text; INFINITE if there is none."""
        if self.is_void:
            return INFINITE
        inner = self._writer.layout.inside(style)
        return min(2 if self._may_close(self.start) else INFINITE, self._size_with_more(self.start, inner, True))

    def _size_with_more(self, state: State, inner: Style, opening: bool) -> int:
        """Of the members that must follow, one at least, and the closing bracket."""
        count, total = self._owed(state, inner, 1)
        if total >= INFINITE:
            return INFINITE
        shortest, layout = self._rules.shortest, self._writer.layout
        first = 1 + shortest[layout.first(inner)] if opening else 0
        return first + total + (count - 1) * shortest[layout.comma(inner)] + shortest[layout.last(inner)] + 1

    def _tail_size(self, state: State, inner: Style) -> int:
        shortest, layout = self._rules.shortest, self._writer.layout
        if self._may_close(state):
            return shortest[layout.last(inner)] + 1
        more = self._size_with_more(state, inner, False)
        return INFINITE if more >= INFINITE else shortest[layout.comma(inner)] + more

    def _cost(self, member: Member, inner: Style, ticked: int = 0) -> int:
        size = self._writer.size(self._value(member, ticked), inner)
        if size >= INFINITE:
            return INFINITE
        shortest = self._rules.shortest
        return shortest[member.key] + shortest[self._writer.layout.colon] + size

    def _value(self, member: Member, ticked: int) -> Conjunction:
        conjunction = member.conjunction
        for i, need in enumerate(self.limits.needs):
            if ticked >> i & 1:
                conjunction = meet(conjunction, need.conjunction)
        return conjunction

    def _demanded(self, seen: int) -> int:
        """Bits of the unordered members that must be there where those seen are."""
        if not self._implied:
            return self._required_bits
        known = self._demands.get(seen)
        if known is None:
            known, before = self._required_bits | seen, -1
            while known != before:
                before = known
                for bit, bits in self._implied:
                    known |= bits if known & bit else 0
            self._demands[seen] = known
        return known

    def _owed_with_implied(self, state: State, inner: Style, least: int) -> tuple[int, int]:
        """As `_owed`, where all members are unordered and their number does not matter otherwise."""
        demanded = self._demanded(state.seen) & ~state.seen
        if demanded or not least:
            return demanded.bit_count(), self._cost_of(demanded, inner)
        comma = self._rules.shortest[self._writer.layout.comma(inner)]
        best = (self._cheapest_free(state, inner), 1)
        for i in range(len(self.loose)):
            if not state.seen >> i & 1:
                added = self._demanded(state.seen | 1 << i) & ~state.seen
                number = added.bit_count() - 1
                best = min(best, (self._cost_of(added, inner) + number * comma, number + 1))
        return best[1], min(INFINITE, best[0] - (best[1] - 1) * comma)

    def _cost_of(self, bits: int, inner: Style) -> int:
        if bits >> len(self.loose):
            return INFINITE
        return min(INFINITE, sum(self._cost(m, inner) for i, m in enumerate(self.loose) if bits >> i & 1))

    def _owed(self, state: State, inner: Style, least: int) -> tuple[int, int]:
        """(number, bytes) of the shortest members that can complete the object from here, `least` at least."""
        if state.owed:
            if state.owed & (state.owed - 1) == 0 and not self._least and self._most >= INFINITE and not self.canonical:
                return self._owed_with_need(state, inner)
            return self._owed_with_needs(state, inner, least)
        if self._implied:
            return self._owed_with_implied(state, inner, least)
        suffixes = self._suffix_sums(inner)
        count = total = 0
        if suffixes is not None:
            for position, chain in zip(state.positions, suffixes, strict=True):
                count, total = count + chain.counts[position], total + chain.totals[position]
        else:
            for member in self._coming(state):
                if member.required:
                    count, total = count + 1, total + self._cost(member, inner)
        if self._required_bits & ~state.seen:
            for i in self._required_loose:
                if not state.seen >> i & 1:
                    count, total = count + 1, total + self._cost(self.loose[i], inner)
        extra = max(least - count, self._least - state.number - count)
        if state.number + count + max(0, extra) > self._most and self._most < INFINITE:
            return count, INFINITE
        if extra > 0 and total < INFINITE:
            if extra == 1 and suffixes is not None:
                costs = [c[at] for at, c in zip(state.positions, self._cheapest_optional(inner), strict=True)]
                costs.append(next((c for c, bit in self._loose_costs(inner) if not state.seen & bit), INFINITE))
            else:
                members = [*self._coming(state), *self._unseen(state)]
                costs = sorted(self._cost(m, inner) for m in members if not m.required)[:extra]
            free = self._cheapest_free(state, inner)
            room = 1 if self.canonical else extra
            costs = sorted([*costs, *[free] * room])
            if len(costs) < extra:
                return count, INFINITE
            count, total = count + extra, total + sum(costs[:extra])
        return count, min(total, INFINITE)

    def _coming(self, state: State) -> list[Member]:
        return [m for at, chain in zip(state.positions, self.chains, strict=True) for m in chain[at:]]

    def _unseen(self, state: State) -> list[Member]:
        return [m for i, m in enumerate(self.loose) if not state.seen >> i & 1]

    def _loose_costs(self, inner: Style) -> list[tuple[int, int]]:
        """(bytes, bit) of the optional ones among the unordered members, the cheapest first."""
        known = self._costs.get(inner)
        if known is None:
            known = self._costs[inner] = sorted(
                (self._cost(m, inner), 1 << i) for i, m in enumerate(self.loose) if not m.required
            )
        return known

    def _cheapest_free(self, state: State, inner: Style) -> int:
        return INFINITE if state.full else min((self._cost(m, inner) for m in self.free), default=INFINITE)

    def _owed_with_need(self, state: State, inner: Style) -> tuple[int, int]:
        """As `_owed`, where one need is left and the number of members does not matter otherwise."""
        number = total = 0
        cheapest, extra = INFINITE, 0  # bytes for the need, members added for it
        comma = self._rules.shortest[self._writer.layout.comma(inner)]
        for member in (*self._coming(state), *self._unseen(state), *(() if state.full else self.free)):
            self._rules.expressions.budget.tick()
            cost = self._cost(member, inner) if member.required else 0
            number, total = number + member.required, total + cost
            if member.needs & state.owed:
                more = self._cost(member, inner, state.owed) - cost + (0 if member.required else comma)
                if more < cheapest:
                    cheapest, extra = more, int(not member.required)
        total += cheapest - extra * comma
        return (0, INFINITE) if cheapest >= INFINITE or total >= INFINITE else (number + extra, total)

    def _owed_with_needs(self, state: State, inner: Style, least: int) -> tuple[int, int]:
        tick = self._rules.expressions.budget.tick
        best: dict[tuple[int, int], int] = {(state.owed, 0): 0}  # (needs, members) -> bytes
        members = [*self._coming(state), *self._unseen(state)]
        rounds = state.owed.bit_count() + max(least, self._least - state.number, 0)
        free = [] if state.full else self.free
        optional = [m for m in members if not m.required]
        if self.canonical and free:
            steps = [*((m, True) for m in members if m.required), *((m, False) for m in optional)]
            groups = [[m] for m, _ in steps] + [free]
        else:
            groups = [[m] for m in members] + [free] * (rounds if free else 0)
        enough = sum(m.required for m in members) + rounds
        for group in groups:
            must = len(group) == 1 and group[0].required
            after: dict[tuple[int, int], int] = {} if must else dict(best)
            for member in group:
                for (owed, number), total in best.items():
                    if number >= enough:
                        continue
                    for ticked in _subsets(owed & member.needs):
                        tick()
                        key, cost = (owed & ~ticked, number + 1), total + self._cost(member, inner, ticked)
                        if cost < after.get(key, INFINITE):
                            after[key] = cost
            best = after
        comma = self._rules.shortest[self._writer.layout.comma(inner)]
        found = [
            (total + number * comma, number)
            for (owed, number), total in best.items()
            if not owed and number >= max(least, self._least - state.number) and state.number + number <= self._most
        ]
        if not found:
            return 0, INFINITE
        total, number = min(found)
        return number, total - number * comma

    def _suffix_sums(self, inner: Style) -> list[_Suffixes] | None:
        """Of each chain.  None while lengths are being found: those of members may not be final then."""
        known = self._suffixes.get(inner)
        if known is None and not self._writer.is_measuring:
            known = self._suffixes[inner] = [self._suffixes_of(chain, inner) for chain in self.chains]
        return known

    def _suffixes_of(self, chain: list[Member], inner: Style) -> _Suffixes:
        counts, totals = [0], [0]
        for member in reversed(chain):
            counts.append(counts[-1] + member.required)
            totals.append(min(INFINITE, totals[-1] + self._cost(member, inner)) if member.required else totals[-1])
        return _Suffixes(counts[::-1], totals[::-1])

    def _cheapest_optional(self, inner: Style) -> list[list[int]]:
        """By chain and position in it: bytes of the cheapest optional member from there on."""
        known = self._cheapest.get(inner)
        if known is None:
            known = self._cheapest[inner] = []
            for chain in self.chains:
                cheapest = [INFINITE]
                for member in reversed(chain):
                    cost = cheapest[-1] if member.required else min(cheapest[-1], self._cost(member, inner))
                    cheapest.append(cost)
                known.append(cheapest[::-1])
        return known

    # ---- texts -------------------------------------------------------------------------------------------------

    def node(self, style: Style) -> int:
        rules, layout = self._rules, self._writer.layout
        inner = layout.inside(style)
        some = rules.sequence(layout.first(inner), self._members(self.start, inner))
        empty = rules.sequence(layout.gap, rules.literal(b"}")) if self._may_close(self.start) else NEVER
        node = rules.sequence(rules.literal(b"{"), rules.choice((some, empty)))
        return node if self._unlimited else rules.scope(node)

    def _may_close(self, state: State) -> bool:
        if state.owed or state.number < self._least:
            return False
        if self._demanded(state.seen) & ~state.seen:
            return False
        return self._past_required(state)

    def _past_required(self, state: State) -> bool:
        return all(at >= last for at, last in zip(state.positions, self._last_required, strict=True))

    def _tail(self, state: State, inner: Style) -> int:
        """What follows a member."""

        def build() -> int:
            rules, layout = self._rules, self._writer.layout
            close = rules.sequence(layout.last(inner), rules.literal(b"}")) if self._may_close(state) else NEVER
            return rules.choice((close, rules.sequence(layout.comma(inner), self._members(state, inner))))

        return self._rules.rule(("tail", self, inner, state), build, self._tail_size(state, inner))

    def _members(self, state: State, inner: Style) -> int:
        """One member at least, and what follows it."""

        def build() -> int:
            if len(self.chains) == 1 and not self.loose and state.positions < self._end:
                member = self.chains[0][state.positions[0]]
                later = state._replace(positions=(state.positions[0] + 1,))
                options = self._with(member, member.key, state, later, inner)
                if not member.required:
                    options.append(self._members(later, inner))  # one node for all states that come to it
                return self._rules.choice(options)
            return self._rules.choice([*self._known_members(state, inner), *self._free_members(state, inner)])

        return self._rules.rule(("members", self, inner, state), build, self._size_with_more(state, inner, False))

    def _known_members(self, state: State, inner: Style) -> Iterator[int]:
        for i, (start, chain) in enumerate(zip(state.positions, self.chains, strict=True)):
            for at in range(start, len(chain)):
                positions = (*state.positions[:i], at + 1, *state.positions[i + 1 :])
                yield from self._with(chain[at], chain[at].key, state, state._replace(positions=positions), inner)
                if chain[at].required:
                    break
        positions, seen, owed, number, full = state
        if self._most < INFINITE or owed:
            for i, member in enumerate(self.loose):
                if not seen >> i & 1:
                    yield from self._with(member, member.key, state, state._replace(seen=seen | 1 << i), inner)
            return
        number = min(number + 1, self._cap)
        for i, member in enumerate(self.loose):
            if not seen >> i & 1:
                later = State(positions, seen | 1 << i, owed, number, full)
                yield from self._member(member, member.key, 0, later, inner)

    def _free_members(self, state: State, inner: Style) -> Iterator[int]:
        """Once the chains have come to their ends."""
        if not state.full and self._past_required(state):
            later = state._replace(positions=self._end, full=self.canonical)
            for member in self.free:
                key = member.key if self._unlimited else self._rules.distinct(member.key)
                yield from self._with(member, key, state, later, inner)

    def _with(self, member: Member, key: int, state: State, later: State, inner: Style) -> list[int]:
        """The member, ticking off any of the needs that it may satisfy, and what follows it."""
        if self._most < INFINITE and state.number >= self._most:
            return []
        number = min(state.number + 1, self._cap)
        owed = state.owed & member.needs
        if not owed:
            later = later if later.number == number else later._replace(number=number)
            return self._member(member, key, 0, later, inner)
        options = []
        for ticked in _subsets(owed):
            after = later._replace(number=number, owed=state.owed & ~ticked)
            options += self._member(member, key, ticked, after, inner)
        return options

    def _member(self, member: Member, key: int, ticked: int, later: State, inner: Style) -> list[int]:
        """A list of one node, or of none.   later: the state behind the member"""
        rules, writer = self._rules, self._writer
        value = self._value(member, ticked) if ticked else member.conjunction
        size = writer.size(value, inner) + self._tail_size(later, inner)
        if size >= INFINITE:
            return []

        def build() -> int:
            return rules.sequence(writer.layout.colon, writer.place(value, inner), self._tail(later, inner))

        size = min(INFINITE - 1, rules.shortest[writer.layout.colon] + size)
        after = rules.rule(("value", self, inner, later, member.number, ticked), build, size)
        writer.begins(after, self.pointer)
        return [rules.sequence(key, after)]


def _subsets(bits: int) -> list[int]:
    found, subset = [0], 0
    while subset != bits:
        subset = (subset - bits) & bits
        found.append(subset)
    return found
