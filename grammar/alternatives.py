"""The canonical form of alternatives: equal heads, equal tails, sets of bytes and counted repetitions are joined.

ab|ac = a(b|c), ac|bc = [ab]c, a{2}|a{3} = a{2,3}.  What is alike becomes one expression, which keeps automata small; it
is no minimisation.  Here: what `Expressions.alternative` does.  Not here: other kinds (expressions.py)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .byte_sets import merged_intervals
from .kinds import ALTERNATIVE, CONCAT, EMPTY, NOTHING, REPEAT

if TYPE_CHECKING:
    from .expressions import Expressions

FACTOR_DEPTH = 3
MANY = 200  # literals that are kept as a list of words


class Alternatives:
    """The alternatives of one store.   parts of one: sorted tuple of two or more, none of them an alternative"""

    def __init__(self, store: Expressions) -> None:
        self._e = store
        self._known: dict[tuple[int, int], int] = {}

    def copied(self, store: Expressions) -> Alternatives:
        copy = Alternatives(store)
        copy._known = self._known.copy()
        return copy

    def pair(self, a: int, b: int) -> int:
        """a|b; asked most often, so remembered."""
        if a == b:
            return a
        known = self._known.get((a, b))
        if known is None:
            known = self._known[a, b] = self.alternative((a, b))
        return known

    def alternative(self, items: Iterable[int], depth: int = FACTOR_DEPTH) -> int:
        """Any of the items.

        depth: how far common heads are looked for in the tails of common heads.  Without a bound, alternatives of
        large schemas would be multiplied out to their ends, which derivatives may never ask for."""
        e = self._e
        flat: set[int] = set()
        for item in items:
            if e.kind[item] == ALTERNATIVE:
                flat.update(e.parts[item])
            elif item != NOTHING:
                flat.add(item)
        if len(flat) < 2:
            return flat.pop() if flat else NOTHING
        if len(flat) > MANY:
            flat = self.with_words(flat)
        if e.wholes:
            flat = self._without_held(flat)
        heads: list[int] = []  # what all items begin with
        while len(flat) > 1 and depth > 0:
            e.budget.tick()
            flat, by_head = self._factored(flat, depth)
            if len(by_head) != 1 or EMPTY in flat:
                break
            (head, tails), *_ = by_head.items()
            heads.append(head)
            flat = set()
            for tail in tails:
                flat.update(e.parts[tail] if e.kind[tail] == ALTERNATIVE else (tail,))
        members = tuple(sorted(flat))
        result = members[0] if len(members) == 1 else e.alternative_of(members)
        for head in reversed(heads):
            result = e.concat(head, result)
        return result

    def with_words(self, items: set[int]) -> set[int]:
        """Many literals before the same rest as one list of words before it: comparing them all takes long."""
        e = self._e
        by_rest: dict[int, list[tuple[int, bytes]]] = {}
        result: set[int] = set()
        for item in items:
            text, rest = e.literal_and_rest(item)
            if text:
                by_rest.setdefault(rest, []).append((item, text))
            else:
                result.add(item)
        for rest, found in by_rest.items():
            if len(found) > MANY:
                result.add(e.concat(e.words(text for _, text in found), rest))
            else:
                result.update(item for item, _ in found)
        return result

    def _without_held(self, items: set[int]) -> set[int]:
        """Items without those that `whole` (see Expressions.declare_whole) or `whole` and a rest hold: x whole rest."""
        e = self._e
        holding = {item for item in items if e.head_and_tail(item)[0] in e.wholes}
        if not holding:
            return items
        kept = set()
        for item in items:
            e.budget.tick()
            suffix = item
            while e.kind[suffix] == CONCAT:
                suffix = e.parts[suffix][1]
                if suffix in holding:
                    break
            else:
                kept.add(item)
        return kept

    def _factored(self, items: set[int], depth: int) -> tuple[set[int], dict[int, list[int]]]:
        """Items with equal heads joined (ab|ac = a(b|c)), then sets of bytes and repetitions before equal tails.

        Returns the new items and, for the caller's loop over a common head, heads with their tails."""
        e = self._e
        by_head: dict[int, list[int]] = {}
        for item in items:
            head, tail = e.head_and_tail(item)
            by_head.setdefault(head, []).append(tail)
        if len(by_head) == 1 and len(items) > 1:
            return items, by_head
        sets: dict[int, list[int]] = {}
        repeats: dict[tuple[int, int], list[int]] = {}
        result: set[int] = set()
        for head, tails in by_head.items():
            tail = tails[0] if len(tails) == 1 else self.alternative(tails, depth - 1)
            if e.single_bytes(head):
                sets.setdefault(tail, []).append(head)
            elif e.kind[head] == REPEAT:
                repeats.setdefault((e.parts[head][0], tail), []).append(head)
            else:
                result.add(e.concat(head, tail))
        for tail, heads in sets.items():
            if len(heads) > 1:
                members = 0
                for head in heads:
                    members |= e.single_bytes(head)
                heads = [e.bytes_in(members)]
            result.add(e.concat(heads[0], tail))
        for (body, tail), heads in repeats.items():
            for least, most in merged_intervals([e.parts[head][1:] for head in heads]):
                result.add(e.concat(e.repeat(body, least, most), tail))
        if EMPTY in result:
            for item in [i for i in result if e.kind[i] == REPEAT and e.parts[i][1] == 1]:
                result.remove(item)
                result.add(e.repeat(e.parts[item][0], 0, e.parts[item][2]))
            if any(e.nullable[item] for item in result if item != EMPTY):
                result.discard(EMPTY)
        flat: set[int] = set()
        for item in result:
            flat.update(e.parts[item] if e.kind[item] == ALTERNATIVE else (item,))
        return flat, by_head
