"""Regular expressions over bytes as hash-consed values, and their derivatives.

Here: building expressions, `derivatives(e)` (what is left of e after each byte), emptiness and shortest completions.
Not here: pattern syntax (regex.py), schemas (json_schema.py), numbered states and tables (automaton.py), counters too
large to matter (horizon.py).

An expression is an int into one `Expressions`; equal structure is the same int, so a derivative is an automaton state
as it stands, and a counted repetition is one expression with a number in it instead of thousands of states.  Rules let
expressions recur (a JSON value holds JSON values): concatenation nests to the right, so the tail is the stack.
Every expression but NOTHING has at least one member; what cannot be completed becomes NOTHING when it is built.

After Brzozowski 1964 (derivatives), Owens, Reppy & Turon 2009 (hash-consing, similarity, byte classes), and, for
intersections, A* over the product of the parts (Hart, Nilsson & Raphael 1968).
One store belongs to one grammar; not thread-safe, its automaton's lock guards it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Any

from .limits import Budget

INFINITE = 1 << 60  # "no upper bound": of a repetition, of a length
ALL_BYTES = (1 << 256) - 1  # a set of bytes is an int; bit b is byte b
NOTHING, EMPTY = 0, 1  # no string at all; the empty string
FACTOR_DEPTH = 3
LITERAL_CHUNK = 32  # bytes: a derivative copies the rest of its literal, so literals are kept short

(NOTHING_KIND, EMPTY_KIND, BYTES, LITERAL, CONCAT, ALTERNATIVE, REPEAT, BOTH, RULE, RESIDUE) = range(10)

Row = tuple[tuple[int, int], ...]  # (set of bytes, what is left after one of them); sets disjoint, no NOTHING


def byte_set(*ranges: tuple[int, int]) -> int:
    """The set of all bytes in the given inclusive ranges."""
    result = 0
    for first, last in ranges:
        result |= (1 << (last + 1)) - (1 << first)
    return result


class Expressions:
    """One store of expressions.  alphabet: the bytes that strings may have; whatever needs others is NOTHING.

    Per expression e, each list at [e]:


    kind       which of the constants above           parts     its arguments, by kind (see the constructors)
    nullable   whether the empty string is a member   shortest  bytes of a shortest member
    """

    def __init__(self, budget: Budget, alphabet: int = ALL_BYTES) -> None:
        self.budget, self.alphabet = budget, alphabet
        self.kind: list[int] = []
        self.parts: list[Any] = []
        self.nullable: list[bool] = []
        self.shortest: list[int] = []
        self.rules: list[int | None] = []  # bodies, by rule number; None while one is being built
        self._ids: dict[tuple[int, Any], int] = {}
        self._rows: dict[int, Row] = {}
        self._concats: dict[tuple[int, int], int] = {}
        self._both_rows: dict[int, list[tuple[int, int]]] = {}  # rows of intersections, not yet rid of dead ends
        self._unresolved: set[int] = set()  # intersections whose `shortest` is not known yet
        self._rules_settled = True
        self._intern(NOTHING_KIND, ())
        self._intern(EMPTY_KIND, ())
        self.any_byte = self.bytes_in(ALL_BYTES)

    def __len__(self) -> int:
        return len(self.kind)

    # ---- constructors: each returns the canonical expression --------------------------------------------------

    def bytes_in(self, members: int) -> int:
        """One byte of the set.   parts: the set (two bytes or more; one byte is a literal)"""
        members &= self.alphabet
        if members == 0:
            return NOTHING
        if members & (members - 1) == 0:
            return self._intern(LITERAL, bytes((members.bit_length() - 1,)))
        return self._intern(BYTES, members)

    def literal(self, text: bytes) -> int:
        """Exactly these bytes.   parts: bytes, 1 to LITERAL_CHUNK of them"""
        if not all(self.alphabet >> byte & 1 for byte in text):
            return NOTHING
        result = EMPTY
        chunks = [text[i : i + LITERAL_CHUNK] for i in range(0, len(text), LITERAL_CHUNK)]
        for chunk in reversed(chunks):
            result = self.concat(self._intern(LITERAL, chunk), result)
        return result

    def concat(self, first: int, rest: int) -> int:
        """`first` then `rest`.   parts: (head, tail); the head is no concatenation"""
        if first == NOTHING or rest == NOTHING:
            return NOTHING
        if first == EMPTY:
            return rest
        if rest == EMPTY:
            return first
        known = self._concats.get((first, rest))
        if known is not None:
            return known
        chain: list[tuple[int, int]] = []  # (a suffix of `first`, its head), outermost first
        suffix = first
        result = -1
        while self.kind[suffix] == CONCAT:
            head, tail = self.parts[suffix]
            chain.append((suffix, head))
            suffix = tail
            result = self._concats.get((suffix, rest), -1)
            if result >= 0:
                break
        if result < 0:
            result = self._concat_one(suffix, rest)
            self._concats[suffix, rest] = result
        for suffix, head in reversed(chain):
            result = self._concat_one(head, result)
            self._concats[suffix, rest] = result
        return result

    def sequence(self, *items: int) -> int:
        result = EMPTY
        for item in reversed(items):
            result = self.concat(item, result)
        return result

    def alternative(self, items: Iterable[int], depth: int = FACTOR_DEPTH) -> int:
        """Any of the items.   parts: sorted tuple, two or more, none of them an alternative

        depth: how far common heads are looked for in the tails of common heads.  Without a bound, alternatives of
        large schemas would be multiplied out to their ends, which derivatives may never ask for."""
        flat: set[int] = set()
        for item in items:
            if self.kind[item] == ALTERNATIVE:
                flat.update(self.parts[item])
            elif item != NOTHING:
                flat.add(item)
        if len(flat) < 2:
            return flat.pop() if flat else NOTHING
        heads: list[int] = []  # what all items begin with
        while len(flat) > 1 and depth > 0:
            self.budget.tick()
            flat, by_head = self._factored(flat, depth)
            if len(by_head) != 1 or EMPTY in flat:
                break
            (head, tails), *_ = by_head.items()
            heads.append(head)
            flat = set()
            for tail in tails:
                flat.update(self.parts[tail] if self.kind[tail] == ALTERNATIVE else (tail,))
        members = tuple(sorted(flat))
        result = members[0] if len(members) == 1 else self._intern(ALTERNATIVE, members)
        for head in reversed(heads):
            result = self.concat(head, result)
        return result

    def optional(self, item: int) -> int:
        return self.alternative((EMPTY, item))

    def repeat(self, body: int, least: int, most: int = INFINITE) -> int:
        """`body`, `least` to `most` times.   parts: (body, least, most)"""
        if most == 0 or body == EMPTY:
            return EMPTY
        if body == NOTHING:
            return EMPTY if least == 0 else NOTHING
        if self.kind[body] == ALTERNATIVE and self.parts[body][0] == EMPTY:  # EMPTY sorts first
            body, least = self.alternative(self.parts[body][1:]), 0
        elif self.nullable[body]:
            least = 0
        if least == most == 1:
            return body
        if self.kind[body] == REPEAT:
            inner, low, high = self.parts[body]
            # k rounds give [k*low, k*high]; these join up without a gap if they do from the first k on
            joins = low <= 1 if least == 0 else (least + 1) * low <= least * high + 1
            if joins or least == most:
                return self.repeat(inner, least * low, min(INFINITE, most * high))
        return self._intern(REPEAT, (body, least, most))

    def both(self, items: Iterable[int], minus: int = NOTHING) -> int:
        """What is in all of the items and not in `minus`.   parts: (sorted tuple of items, minus)

        No part may hold a rule.  The one constructor that searches."""
        result = self._both_unresolved(items, minus)
        return result if self._resolve(result) else NOTHING

    def residue(self, modulus: int, places: int) -> int:
        """Digits (one point among them allowed) whose value * 10**places is a whole multiple of `modulus`.

        parts: (modulus, places, digits after the point so far or -1 before it, remainder)
        Only as a part of `both`: by itself it says nothing of the shape of a number."""
        return self._intern(RESIDUE, (modulus, places, -1, 0))

    def new_rule(self) -> int:
        """An expression for a body given later by `set_rule`; the body is never nullable.   parts: rule number"""
        self._rules_settled = False
        self.rules.append(None)
        return self._intern(RULE, len(self.rules) - 1)

    def set_rule(self, rule: int, body: int) -> None:
        assert not self.nullable[body], "a rule that can be empty could recur without end"
        self.rules[self.parts[rule]] = body

    def settle_rules(self) -> list[int]:
        """Once all bodies are set: fix every attribute that depends on them.  Returns the rules without a member."""
        if self._rules_settled:
            return []
        everything = [e for e, kind in enumerate(self.kind) if kind != BOTH]  # no intersection holds a rule
        changed = True
        while changed:  # lengths only fall, and a level of recursion settles in each pass
            changed = False
            for e in everything:
                shortest = self._attributes(self.kind[e], self.parts[e])[1]
                changed = changed or shortest != self.shortest[e]
                self.shortest[e] = shortest
        self._rules_settled = True
        return [e for e in everything if self.kind[e] == RULE and self.shortest[e] >= INFINITE]

    # ---- what is left after a byte -----------------------------------------------------------------------------

    def derivatives(self, e: int) -> Row:
        """For each byte that may come next, what is left of `e` after it."""
        row = self._rows.get(e)
        if row is None:
            row = self._rows[e] = self._derive(e)
        return row

    def _derive(self, e: int) -> Row:
        kind, parts = self.kind[e], self.parts[e]
        if kind == LITERAL:
            return ((1 << parts[0], self._intern(LITERAL, parts[1:]) if len(parts) > 1 else EMPTY),)
        if kind == BYTES:
            return ((parts, EMPTY),)
        if kind == CONCAT:
            pairs: list[tuple[int, int]] = []
            while True:  # along the chain for as long as its heads can be empty
                if self.kind[e] != CONCAT:
                    pairs += self.derivatives(e)
                    break
                head, tail = self.parts[e]
                row = self.derivatives(head)
                pairs += [(members, self.concat(left, tail)) for members, left in row]
                if not self.nullable[head]:
                    break
                e = tail
            return self._joined(pairs)
        if kind == ALTERNATIVE:
            return self._joined([pair for item in parts for pair in self.derivatives(item)])
        if kind == REPEAT:
            body, least, most = parts
            again = self.repeat(body, max(0, least - 1), most if most >= INFINITE else most - 1)
            return self._joined([(members, self.concat(left, again)) for members, left in self.derivatives(body)])
        if kind == BOTH:
            return self._joined([(s, left) for s, left in self._both_row(e) if self._resolve(left)])
        if kind == RULE:
            body = self.rules[parts]
            assert body is not None, "a rule is used before its body is known"
            return self.derivatives(body)
        if kind == RESIDUE:
            return self._derive_residue(*parts)
        return ()

    def _derive_residue(self, modulus: int, places: int, after_point: int, remainder: int) -> Row:
        pairs: list[tuple[int, int]] = []
        if after_point < 0:
            pairs.append((1 << ord("."), self._intern(RESIDUE, (modulus, places, 0, remainder))))
        for digit in range(10 if after_point < places else 1):
            if after_point >= places:  # only zeros can follow
                left = (modulus, places, after_point, remainder)
            else:
                position = after_point + 1 if after_point >= 0 else -1
                left = (modulus, places, position, (remainder * 10 + digit) % modulus)
            pairs.append((1 << (ord("0") + digit), self._intern(RESIDUE, left)))
        return self._joined(pairs)

    def _joined(self, pairs: list[tuple[int, int]]) -> Row:
        """Pairs whose sets may overlap -> a row: where sets overlap, either rest may follow."""
        if len(pairs) < 2:
            return tuple(pairs)
        by_set: dict[int, list[int]] = {}
        union = 0
        disjoint = True
        for members, left in pairs:
            same = by_set.get(members)
            if same is not None:
                same.append(left)
                continue
            disjoint = disjoint and not union & members
            union |= members
            by_set[members] = [left]
        if not disjoint:
            by_set = _split(by_set)
        row: dict[int, int] = {}
        for members, lefts in by_set.items():
            left = lefts[0] if len(lefts) == 1 else self.alternative(lefts)
            row[left] = row.get(left, 0) | members
        return tuple((members, left) for left, members in row.items())

    def plain_level(self, e: int) -> int:
        if self.kind[e] == CONCAT:
            return self.plain_level(self.parts[e][0])
        if self.kind[e] != REPEAT:
            return 0
        body, _, most = self.parts[e]
        row = self.derivatives(body)
        if all(any(members >> byte & 1 and left == EMPTY for members, left in row) for byte in b" az~") and any(
            members >> 0xE4 & 1 for members, left in row
        ):
            return most
        return 0

    # ---- canonical forms ---------------------------------------------------------------------------------------

    def _concat_one(self, head: int, tail: int) -> int:
        """`head` (no concatenation) then `tail`, with neighbouring literals and repetitions joined."""
        if tail == EMPTY:
            return head
        if head == EMPTY:
            return tail
        kind = self.kind[head]
        if kind in (LITERAL, REPEAT):
            second, rest = self.parts[tail] if self.kind[tail] == CONCAT else (tail, EMPTY)
            if self.kind[second] == kind:
                a, b = self.parts[head], self.parts[second]
                if kind == LITERAL:
                    if len(a) + len(b) <= LITERAL_CHUNK:
                        return self._concat_one(self._intern(LITERAL, a + b), rest)
                elif a[0] == b[0]:
                    joined = self.repeat(a[0], a[1] + b[1], min(INFINITE, a[2] + b[2]))
                    return self._concat_one(joined, rest)
        return self._intern(CONCAT, (head, tail))

    def _factored(self, items: set[int], depth: int) -> tuple[set[int], dict[int, list[int]]]:
        """Items with equal heads joined (ab|ac = a(b|c)), then sets of bytes and repetitions before equal tails.

        Returns the new items and, for the caller's loop over a common head, heads with their tails."""
        by_head: dict[int, list[int]] = {}
        for item in items:
            head, tail = self.parts[item] if self.kind[item] == CONCAT else (item, EMPTY)
            by_head.setdefault(head, []).append(tail)
        if len(by_head) == 1 and len(items) > 1:
            return items, by_head
        sets: dict[int, list[int]] = {}
        repeats: dict[tuple[int, int], list[int]] = {}
        result: set[int] = set()
        for head, tails in by_head.items():
            tail = tails[0] if len(tails) == 1 else self.alternative(tails, depth - 1)
            kind = self.kind[head]
            if kind == BYTES or (kind == LITERAL and len(self.parts[head]) == 1):
                sets.setdefault(tail, []).append(head)
            elif kind == REPEAT:
                repeats.setdefault((self.parts[head][0], tail), []).append(head)
            else:
                result.add(self.concat(head, tail))
        for tail, heads in sets.items():
            if len(heads) > 1:
                members = 0
                for head in heads:
                    part = self.parts[head]
                    members |= 1 << part[0] if self.kind[head] == LITERAL else part
                heads = [self.bytes_in(members)]
            result.add(self.concat(heads[0], tail))
        for (body, tail), heads in repeats.items():
            for least, most in _merged_intervals([self.parts[head][1:] for head in heads]):
                result.add(self.concat(self.repeat(body, least, most), tail))
        if EMPTY in result:
            for item in [i for i in result if self.kind[i] == REPEAT and self.parts[i][1] == 1]:
                result.remove(item)
                result.add(self.repeat(self.parts[item][0], 0, self.parts[item][2]))
        if EMPTY in result and any(self.nullable[item] for item in result if item != EMPTY):
            result.discard(EMPTY)
        flat: set[int] = set()
        for item in result:
            flat.update(self.parts[item] if self.kind[item] == ALTERNATIVE else (item,))
        return flat, by_head

    # ---- intersections -----------------------------------------------------------------------------------------

    def _both_unresolved(self, items: Iterable[int], minus: int) -> int:
        flat: set[int] = set()
        for item in items:
            if item == NOTHING:
                return NOTHING
            if self.kind[item] == BOTH and self.parts[item][1] == NOTHING:
                flat.update(self.parts[item][0])
            else:
                flat.add(item)
        if EMPTY in flat:
            return EMPTY if all(self.nullable[i] for i in flat) and not self.nullable[minus] else NOTHING
        members = tuple(sorted(flat))
        if len(members) == 1 and minus == NOTHING:
            return members[0]
        return self._intern(BOTH, (members, minus))

    def _both_row(self, e: int) -> list[tuple[int, int]]:
        """Derivatives of an intersection, dead ends included."""
        row = self._both_rows.get(e)
        if row is not None:
            return row
        items, minus = self.parts[e]
        product: list[tuple[int, tuple[int, ...]]] = [(ALL_BYTES, ())]
        for item in items:
            product = [
                (common, (*lefts, left))
                for members, lefts in product
                for others, left in self.derivatives(item)
                if (common := members & others)
            ]
        row = []
        for members, lefts in product:
            for others, taken in self.derivatives(minus):
                common = members & others
                if common:
                    row.append((common, self._both_unresolved(lefts, taken)))
                    members ^= common
            if members:
                row.append((members, self._both_unresolved(lefts, NOTHING)))
        self._both_rows[e] = row
        return row

    def _resolve(self, e: int) -> bool:
        """Whether `e` has a member; finds an intersection's shortest one first."""
        if e not in self._unresolved:
            return self.shortest[e] < INFINITE
        # A*: a shortest member of the intersection is no shorter than that of any part.
        distance = {e: 0}
        parent: dict[int, int] = {}
        heap = [(self.shortest[e], 0, e)]
        while heap:
            total, so_far, state = heapq.heappop(heap)
            if so_far > distance[state]:
                continue
            if state not in self._unresolved or self.nullable[state]:
                self._settle(state, total - so_far)
                while state != e:
                    state = parent[state]
                    self._settle(state, total - distance[state])
                return True
            self.budget.tick()
            for _, left in self._both_row(state):
                if left == NOTHING or self.shortest[left] >= INFINITE:
                    continue
                if so_far + 1 < distance.get(left, INFINITE):
                    distance[left] = so_far + 1
                    parent[left] = state
                    heapq.heappush(heap, (so_far + 1 + self.shortest[left], so_far + 1, left))
        for state in distance:  # all that can be reached from e, and no member among it
            if state in self._unresolved:
                self._settle(state, INFINITE)
        return False

    def _at_least(self, e: int) -> int:
        return self.shortest[e]  # of an unresolved intersection: a lower bound

    def _settle(self, e: int, shortest: int) -> None:
        if e in self._unresolved:
            self._unresolved.discard(e)
            self.shortest[e] = shortest

    # ---- interning ---------------------------------------------------------------------------------------------

    def _intern(self, kind: int, parts: Any) -> int:
        key = (kind, parts)
        known = self._ids.get(key)
        if known is not None:
            return known
        self.budget.tick()
        e = len(self.kind)
        nullable, shortest = self._attributes(kind, parts)
        self._ids[key] = e
        self.kind.append(kind)
        self.parts.append(parts)
        self.nullable.append(nullable)
        self.shortest.append(shortest)
        if kind == BOTH:
            self._unresolved.add(e)
        return e

    def _attributes(self, kind: int, parts: Any) -> tuple[bool, int]:
        """(nullable, shortest).  Of an intersection, `shortest` is a lower bound until it is resolved."""
        nullable, shortest = self.nullable, self.shortest
        if kind == CONCAT:
            a, b = parts
            return nullable[a] and nullable[b], min(INFINITE, shortest[a] + shortest[b])
        if kind == LITERAL:
            return False, len(parts)
        if kind == BYTES:
            return False, 1
        if kind == ALTERNATIVE:
            return any(nullable[i] for i in parts), min(shortest[i] for i in parts)
        if kind == REPEAT:
            body, least, _ = parts
            return least == 0 or nullable[body], min(INFINITE, least * shortest[body])
        if kind == BOTH:
            items, minus = parts
            empty = all(nullable[i] for i in items) and not nullable[minus]
            return empty, max(0 if empty else 1, *(shortest[i] for i in items))
        if kind == RULE:
            known = self.rules[parts] if parts < len(self.rules) else None
            return False, INFINITE if known is None else shortest[known]
        if kind == RESIDUE:
            modulus, places, after_point, remainder = parts
            return remainder * 10 ** (places - max(0, after_point)) % modulus == 0, 0
        return (True, 0) if kind == EMPTY_KIND else (False, INFINITE)


def _split(by_set: dict[int, list[int]]) -> dict[int, list[int]]:
    """Overlapping sets -> disjoint ones, each with the values of all sets that it was part of."""
    result: list[tuple[int, list[int]]] = []
    for members, values in by_set.items():
        pieces: list[tuple[int, list[int]]] = []
        for others, held in result:
            common = members & others
            if common:
                pieces.append((common, held + values))
                members ^= common
                others ^= common
            if others:
                pieces.append((others, held))
        if members:
            pieces.append((members, values))
        result = pieces
    return dict(result)


def _merged_intervals(intervals: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    if len(intervals) == 1:
        return list(intervals)
    merged: list[tuple[int, int]] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
