"""Intersections and differences of expressions: their derivatives, rid of dead ends by search.

Here: what `Expressions.both` asks.  Not here: other kinds (expressions.py).  An intersection is built before it is
known whether it has a member; whoever hands one out resolves it first.
After A* over the product of the parts (Hart, Nilsson & Raphael 1968)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .byte_sets import Row
from .kinds import BOTH, CHARACTER, EMPTY, INFINITE, NOTHING, REPEAT

if TYPE_CHECKING:
    from .expressions import Expressions


class Intersections:
    """The intersections of one store.   parts of one: (sorted tuple of items, what is taken away)"""

    def __init__(self, store: Expressions) -> None:
        self._e = store
        self._rows: dict[int, list[tuple[int, int]]] = {}  # not yet rid of dead ends
        self._unresolved: set[int] = set()  # whose `shortest` is a lower bound still

    def both(self, items: Iterable[int], minus: int) -> int:
        """The intersection, or NOTHING if it has no member."""
        result = self._unresolved_both(items, minus)
        return result if self._resolve(result) else NOTHING

    def derivatives(self, e: int) -> list[tuple[int, int]]:
        return [(members, left) for members, left in self._row(e) if self._resolve(left)]

    def attributes(self, items: tuple[int, ...], minus: int) -> tuple[bool, int]:
        """(nullable, a lower bound of `shortest`)"""
        nullable, shortest = self._e.nullable, self._e.shortest
        empty = not nullable[minus] and all(nullable[i] for i in items)
        return empty, max(0 if empty else 1, *(shortest[i] for i in items))

    def register(self, e: int) -> None:
        """A new intersection: whether its lower bound is exact is seen at once or not at all."""
        store = self._e
        items, minus = store.parts[e]
        bound = store.shortest[e]
        exact = store.nullable[e] or bound >= INFINITE
        # All that is taken away is longer than a shortest member.
        exact = exact or (len(items) == 1 and store.shortest[minus] > bound)
        exact = exact or (len(items) == 2 and minus == NOTHING and self._is_bound(*items))
        if not exact:
            self._unresolved.add(e)

    def _is_bound(self, a: int, b: int) -> bool:
        """Whether one part only bounds the number of characters, and shortest members of the other are well below."""
        store = self._e
        for bound, other in ((a, b), (b, a)):
            head, tail = store.head_and_tail(bound)
            if store.kind[head] == CHARACTER and tail != EMPTY:
                head, tail = store.head_and_tail(tail)
            if store.kind[head] == REPEAT and tail == EMPTY:
                body, least, most = store.parts[head]
                if store.kind[body] == CHARACTER and least == 0 and store.shortest[other] <= most:
                    return True
        return False

    def _unresolved_both(self, items: Iterable[int], minus: int) -> int:
        flat: set[int] = set()
        wholes = self._e.wholes
        for item in items:
            if item == NOTHING:
                return NOTHING
            if self._e.kind[item] == BOTH and self._e.parts[item][1] == NOTHING:
                flat.update(self._e.parts[item][0])
            else:
                flat.add(item)
        if EMPTY in flat:
            nullable = self._e.nullable
            return EMPTY if all(nullable[i] for i in flat) and not nullable[minus] else NOTHING
        if len(flat) > 1 and wholes & flat:
            flat = flat - wholes or {next(iter(flat))}
        if minus in wholes or minus in flat:
            return NOTHING
        members = tuple(sorted(flat))
        if len(members) == 1 and minus == NOTHING:
            return members[0]
        return self._e.intersection(members, minus)

    def _row(self, e: int) -> list[tuple[int, int]]:
        row = self._rows.get(e)
        if row is None:
            items, minus = self._e.parts[e]
            product = self._product([self._e.derivatives(item) for item in items])
            taken = self._e.derivatives(minus)
            row = self._rows[e] = self._difference(product, taken)
        return row

    def _product(self, rows: list[Row]) -> list[tuple[int, tuple[int, ...]]]:
        product: list[tuple[int, tuple[int, ...]]] = [(members, (left,)) for members, left in rows[0]]
        for row in rows[1:]:
            product = [
                (common, (*lefts, left))
                for members, lefts in product
                for others, left in row
                if (common := members & others)
            ]
        return product

    def _difference(self, product: list[tuple[int, tuple[int, ...]]], taken: Row) -> list[tuple[int, int]]:
        row = []
        union = 0
        for others, _ in taken:
            union |= others
        for members, lefts in product:
            touched = members & union
            if touched:
                for others, left in taken:
                    common = touched & others
                    if common:
                        row.append((common, self._unresolved_both(lefts, left)))
                        touched ^= common
                        if not touched:
                            break
                members &= ~union
            if members:
                row.append((members, self._unresolved_both(lefts, NOTHING)))
        return row

    def _resolve(self, e: int) -> bool:
        """Whether `e` has a member; finds an intersection's shortest one first."""
        shortest = self._e.shortest
        if e not in self._unresolved:
            return shortest[e] < INFINITE
        # A*: a shortest member of the intersection is no shorter than that of any part.
        distance = {e: 0}
        parent: dict[int, int] = {}
        heap = [(shortest[e], 0, e)]
        while heap:
            total, so_far, state = heapq.heappop(heap)
            so_far = -so_far
            if so_far > distance[state]:
                continue
            if state not in self._unresolved:
                self._settle(state, total - so_far)
                while state != e:
                    state = parent[state]
                    self._settle(state, total - distance[state])
                return True
            self._e.budget.tick()
            for _, left in self._row(state):
                if shortest[left] >= INFINITE:
                    continue
                if so_far + 1 < distance.get(left, INFINITE):
                    distance[left] = so_far + 1
                    parent[left] = state
                    heapq.heappush(heap, (so_far + 1 + shortest[left], -so_far - 1, left))
        for state in distance:  # all that can be reached from e, and no member among it
            self._settle(state, INFINITE)
        return False

    def _settle(self, e: int, shortest: int) -> None:
        if e in self._unresolved:
            self._unresolved.discard(e)
            self._e.shortest[e] = shortest
