"""Regular expressions over bytes as hash-consed values, and their derivatives.

Here: building expressions, `derivatives(e)` (what is left of e after each byte), emptiness and shortest completions.
Not here: how alternatives are joined (alternatives.py), intersections (intersections.py), pattern syntax (regex.py),
schemas (json_schema.py), recursion (rules.py), numbered states (pda/states.py), counters too large to matter
(horizon.py).

An expression is an int into one `Expressions`; equal structure is the same int, so a derivative is an automaton state
as it stands, and a counted repetition is one expression with a number in it instead of thousands of states.
Every expression but NOTHING has at least one member; what cannot be completed becomes NOTHING when it is built.

After Brzozowski 1964 (derivatives), Owens, Reppy & Turon 2009 (hash-consing, similarity, byte classes).
One store belongs to one grammar; not thread-safe, its automaton's lock guards it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import residues
from .alternatives import Alternatives
from .byte_sets import ALL_BYTES, Row, byte_set, split
from .intersections import Intersections
from .kinds import (
    ALTERNATIVE,
    BOTH,
    BYTES,
    CHARACTER,
    CONCAT,
    EMPTY,
    EMPTY_KIND,
    INFINITE,
    LITERAL,
    NOTHING,
    NOTHING_KIND,
    REPEAT,
    RESIDUE,
    WORDS,
)
from .limits import Budget
from .plain_levels import PlainLevels
from .word_lists import WordList

__all__ = [
    "ALL_BYTES", "ALTERNATIVE", "CONCAT", "EMPTY", "INFINITE", "NOTHING", "REPEAT", "Expressions", "Row", "byte_set",
]  # fmt: skip

LITERAL_CHUNK = 32  # bytes: a derivative copies the rest of its literal, so literals are kept short


class Expressions:
    """One store of expressions.  alphabet: the bytes that strings may have; whatever needs others is NOTHING.

    Per expression e, each list at [e]:

    kind       which of the constants above           parts     its arguments, by kind (see the constructors)
    nullable   whether the empty string is a member   shortest  bytes of a shortest member"""

    def __init__(self, budget: Budget, alphabet: int = ALL_BYTES) -> None:
        self.budget, self.alphabet = budget, alphabet
        self.kind: list[int] = []
        self.parts: list[Any] = []
        self.nullable: list[bool] = []
        self.shortest: list[int] = []
        self._ids: dict[tuple[int, Any], int] = {}
        self._rows: dict[int, Row] = {}
        self._concats: dict[tuple[int, int], int] = {}
        self.wholes: set[int] = set()
        self._word_lists: list[WordList] = []
        self._word_list_of: dict[frozenset[bytes], int] = {}
        self._remembered: dict[str, dict[Any, Any]] = {}
        self._alternatives, self._intersections = Alternatives(self), Intersections(self)
        self._plain_levels = PlainLevels(self)
        self._intern(NOTHING_KIND, ())
        self._intern(EMPTY_KIND, ())
        self.any_byte = self.bytes_in(ALL_BYTES)

    def __len__(self) -> int:
        return len(self.kind)

    def remembered(self, name: str) -> dict[Any, Any]:
        """What writers of expressions have written into this store, by name; a copy of the store has it too."""
        return self._remembered.setdefault(name, {})

    def copied(self, budget: Budget) -> Expressions:
        """A store that begins with all that this one has."""
        copy = object.__new__(Expressions)
        for name, value in vars(self).items():
            if isinstance(value, (Alternatives, Intersections, PlainLevels)):
                value = value.copied(copy)
            elif isinstance(value, (dict, list, set)):
                value = value.copy()
            setattr(copy, name, value)
        copy.budget = budget
        copy._remembered = {name: known.copy() for name, known in self._remembered.items()}
        return copy

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
        if self.alphabet != ALL_BYTES and not all(self.alphabet >> byte & 1 for byte in text):
            return NOTHING
        if len(text) <= LITERAL_CHUNK:
            return self._intern(LITERAL, text) if text else EMPTY
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

    def words(self, texts: Iterable[bytes]) -> int:
        """One of many texts, in memory and time for the texts alone.   parts: (number of the list, first, last, depth)

        The words from `first` up to `last`, their first `depth` bytes taken away; the list is not looked into."""
        kept = frozenset(texts)
        number = self._word_list_of.get(kept)
        if number is None:
            allowed = bytes(byte for byte in range(256) if self.alphabet >> byte & 1)
            number = self._word_list_of[kept] = len(self._word_lists)
            self._word_lists.append(WordList(word for word in kept if not word.translate(None, allowed)))
        return self._words(number, 0, len(self._word_lists[number].words), 0)

    def _words(self, number: int, first: int, last: int, depth: int) -> int:
        if last - first > 1:
            return self._intern(WORDS, (number, first, last, depth))
        return self.literal(self._word_lists[number].words[first][depth:]) if last > first else NOTHING

    def alternative(self, items: Iterable[int]) -> int:
        """Any of the items.   parts: sorted tuple, two or more, none of them an alternative"""
        return self._alternatives.alternative(items)

    def with_words(self, items: set[int]) -> set[int]:
        """The same items for `alternative`; where very many are texts, one list of words instead of them."""
        return self._alternatives.with_words(items)

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

        The one constructor that searches."""
        return self._intersections.both(items, minus)

    def declare_whole(self, e: int) -> None:
        """Promise that whatever is intersected with `e`, or stands before it beside it, are texts of its characters.

        `e` repeats one character out of all.  Then `e` adds nothing to an intersection, and in e|xe only e is left."""
        self.wholes.add(e)

    def characters(self, character: int, least: int, most: int) -> int:
        """`least` to `most` of one character out of all; only as a part of `both`, beside texts of such characters."""
        return self.repeat(self._intern(CHARACTER, character), least, most)

    def residue(self, modulus: int, places: int) -> int:
        """Digits (one point among them allowed) whose value * 10**places is a whole multiple of `modulus`.

        parts: a state of residues.py
        Only as a part of `both`: by itself it says nothing of the shape of a number."""
        return self._residue((modulus, places, -1, 0))

    def _residue(self, state: residues.State) -> int:
        return NOTHING if residues.bytes_needed(state) is None else self._intern(RESIDUE, state)

    # ---- what is left after a byte -----------------------------------------------------------------------------

    def derivatives(self, e: int) -> Row:
        """For each byte that may come next, what is left of `e` after it."""
        row = self._rows.get(e)
        if row is None:
            row = self._rows[e] = self._derive(e)
        return row

    def plain_level(self, e: int) -> int:
        """A number m such that every sequence of up to m plain characters (plain_levels.py) leaves something of `e`."""
        return self._plain_levels.level(e)

    def plain_part(self, e: int) -> int:
        """The member of `e` that has its plain level: no plain characters make its shortest strings longer."""
        while self.kind[e] == ALTERNATIVE:
            e = max(self.parts[e], key=self.plain_level)
        return e

    def _derive(self, e: int) -> Row:
        kind, parts = self.kind[e], self.parts[e]
        if kind == LITERAL:
            return ((1 << parts[0], self._intern(LITERAL, parts[1:]) if len(parts) > 1 else EMPTY),)
        if kind == BYTES:
            return ((parts, EMPTY),)
        if kind == CONCAT:
            head, tail = parts
            pairs = [(members, self.concat(left, tail)) for members, left in self.derivatives(head)]
            while self.nullable[head]:  # along the chain for as long as its heads can be empty
                if self.kind[tail] != CONCAT:
                    pairs += self.derivatives(tail)
                    break
                head, tail = self.parts[tail]
                pairs += [(members, self.concat(left, tail)) for members, left in self.derivatives(head)]
            return self._joined(pairs)
        if kind == ALTERNATIVE:
            return self._joined([pair for item in parts for pair in self.derivatives(item)])
        if kind == REPEAT:
            body, least, most = parts
            again = self.repeat(body, max(0, least - 1), most if most >= INFINITE else most - 1)
            return self._joined([(members, self.concat(left, again)) for members, left in self.derivatives(body)])
        if kind == BOTH:
            return self._joined(self._intersections.derivatives(e))
        if kind == CHARACTER:  # what is left of a character is known for that, too
            row = self.derivatives(parts)
            return tuple((s, left if left == EMPTY else self._intern(CHARACTER, left)) for s, left in row)
        if kind == WORDS:
            number, first, last, depth = parts
            branches = self._word_lists[number].branches(first, last, depth)
            return tuple((1 << b.byte, self._words(number, b.first, b.last, depth + 1)) for b in branches)
        if kind == RESIDUE:
            pairs = [(1 << byte[0], self._residue(state)) for byte, state in residues.steps(parts)]
            return self._joined([pair for pair in pairs if pair[1] != NOTHING])
        return ()

    def _joined(self, pairs: list[tuple[int, int]]) -> Row:
        """Pairs whose sets may overlap -> a row: where sets overlap, either rest may follow."""
        if len(pairs) < 2:
            return tuple(pairs)
        union = 0
        row: dict[int, int] = {}
        for members, left in pairs:
            if union & members:
                break
            union |= members
            row[left] = row.get(left, 0) | members
        else:
            return tuple((members, left) for left, members in row.items())
        by_set: dict[int, list[int]] = {}
        for members, left in pairs:
            by_set.setdefault(members, []).append(left)
        row = {}
        for members, lefts in (split(by_set) if len(by_set) > 1 else by_set).items():
            if len(lefts) == 1:
                left = lefts[0]
            elif len(lefts) == 2:
                left = self._alternatives.pair(*lefts)
            else:
                left = self._alternatives.alternative(lefts)
            row[left] = row.get(left, 0) | members
        return tuple((members, left) for left, members in row.items())

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
            if kind == REPEAT and second in self.wholes:
                body, least, most = self.parts[head]
                if least < most:  # what is more than the least, `second` takes
                    return self.concat(self.repeat(body, least, least), tail)
            elif self.kind[second] == kind:
                a, b = self.parts[head], self.parts[second]
                if kind == LITERAL:
                    if len(a) + len(b) <= LITERAL_CHUNK:
                        return self._concat_one(self._intern(LITERAL, a + b), rest)
                elif a[0] == b[0]:
                    joined = self.repeat(a[0], a[1] + b[1], min(INFINITE, a[2] + b[2]))
                    return self._concat_one(joined, rest)
        return self._intern(CONCAT, (head, tail))

    # ---- interning ---------------------------------------------------------------------------------------------

    def head_and_tail(self, e: int) -> tuple[int, int]:
        """`e` as a concatenation."""
        return self.parts[e] if self.kind[e] == CONCAT else (e, EMPTY)

    def literal_and_rest(self, e: int) -> tuple[bytes, int]:
        """The bytes that `e` begins with as it is written, and what follows them."""
        found: list[bytes] = []
        while e != EMPTY:
            head, tail = self.head_and_tail(e)
            if self.kind[head] != LITERAL:
                break
            found.append(self.parts[head])
            e = tail
        return b"".join(found), e

    def single_bytes(self, e: int) -> int:
        """The set if `e` is one byte of a set, else the empty set."""
        kind = self.kind[e]
        if kind == BYTES:
            return int(self.parts[e])
        if kind == LITERAL and len(self.parts[e]) == 1:
            return 1 << int(self.parts[e][0])
        return 0

    def alternative_of(self, members: tuple[int, ...]) -> int:
        return self._intern(ALTERNATIVE, members)

    def intersection(self, items: tuple[int, ...], minus: int) -> int:
        e = self._ids.get((BOTH, (items, minus)))
        if e is None:
            e = self._intern(BOTH, (items, minus))
            self._intersections.register(e)
        return e

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
            return self._intersections.attributes(*parts)
        if kind == CHARACTER:
            return nullable[parts], shortest[parts]
        if kind == WORDS:
            number, first, last, depth = parts
            words = self._word_lists[number]
            return words.ends(first, depth), words.shortest(first, last, depth)
        if kind == RESIDUE:
            needed = residues.bytes_needed(parts)
            return needed == 0, INFINITE if needed is None else needed
        return (True, 0) if kind == EMPTY_KIND else (False, INFINITE)
