"""States of terminals: expressions numbered, their rows of `dfa_next` filled in when a loop asks for them.

Here: what makes rows cheap.  A string of up to n characters has a state for each count, each with entries for the rare
bytes too, beginnings of escapes and of longer characters: these are worked out one by one.  A text that is none of some
words has the row of any text, but for the bytes with which a word goes on.

Used by automaton.py alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..byte_sets import Row, byte_set
from ..errors import GrammarTooComplex
from ..kinds import BOTH, CONCAT, EMPTY, INFINITE, LITERAL, NOTHING, REPEAT, WORDS
from . import memory

if TYPE_CHECKING:
    from .automaton import Pushdown

MAX_COST = 1 << 28  # bytes; longer shortest texts all count as this long
EAGER = 3  # entries of a row that are always worked out at once

Piece = tuple[int, int, int]  # a set of bytes; what is left after one of them: the second and then the third


class States:
    """The states of one automaton.   base: those of one whose store of expressions was copied; they are taken over"""

    def __init__(self, automaton: Pushdown, base: States | None = None) -> None:
        self._automaton, self._e = automaton, automaton.rules.expressions
        self._shortest_steps: dict[int, tuple[bytes, int]] = {}  # see shortest_text
        self._pieces: dict[int, list[Piece]] = {}  # of states whose rows are not worked out in full
        if base is None:
            self._state_of: dict[int, int] = {}
            self._expression_of = [-1]
            self._columns: dict[int, npt.NDArray[np.intp]] = {}
        else:
            self._state_of, self._expression_of = base._state_of.copy(), base._expression_of.copy()
            self._columns = base._columns
            self._pieces = base._pieces.copy()
            self._take_over(base)

    def _take_over(self, base: States) -> None:
        count = len(self._expression_of)
        old, new = base._automaton.memory, {}
        for name in memory.BY_STATE:
            rows = getattr(old, name)
            new[name] = np.zeros((128 + count, *rows.shape[1:]), rows.dtype)
            new[name][:count] = rows[:count]
        self._automaton.replace(**new)

    def __len__(self) -> int:
        return len(self._expression_of)

    def state_of(self, expression: int) -> int:
        """The state of an expression, numbered if it is new."""
        state = self._state_of.get(expression)
        if state is None:
            state = self._state_of[expression] = len(self._expression_of)
            if state >= len(self._automaton.memory.dfa_flags):
                self._automaton.grow(*memory.BY_STATE)
            self._expression_of.append(expression)
            e, views = self._e, self._automaton.views
            final = memory.FINAL if expression == EMPTY else 0
            views["dfa_flags"][state] = (memory.ACCEPTING if e.nullable[expression] else 0) | final
            views["dfa_cost"][state] = min(MAX_COST, e.shortest[expression])
            views["dfa_level"][state] = min(MAX_COST, e.plain_level(expression))
            views["dfa_wide"][state] = min(MAX_COST, e.shortest[e.plain_part(expression)])
        return state

    def expression_of(self, state: int) -> int:
        return self._expression_of[state]

    # ---- rows -----------------------------------------------------------------------------------------------------

    def expand(self, state: int) -> None:
        """Make the row of a state."""
        expression = self._expression_of[state]
        kind = self._e.kind[expression]
        try:
            if kind == BOTH and self._expand_exclusion(state, expression):
                return
            pieces = self._pieces_of(expression) if kind in (CONCAT, REPEAT) else None
            if pieces is None:
                row = [(members, self.state_of(left)) for members, left in self._e.derivatives(expression)]
            else:
                self._pieces[state] = pieces
                row = [
                    (members, self.state_of(self._e.concat(left, then)) if left == EMPTY or then == EMPTY else -1)
                    for members, left, then in pieces
                ]
        except RecursionError:
            raise GrammarTooComplex("is nested too deeply", place=self._e.budget.place) from None
        line = self._automaton.memory.dfa_next[state]  # only now: numbering states may have moved it
        for members, target in row:
            line[self._columns_of(members)] = target
        self._automaton.memory.dfa_flags[state] |= memory.KNOWN

    def expand_byte(self, state: int, byte: int) -> None:
        """Work out what follows one byte that `expand` has left open."""
        members, left, then = next(piece for piece in self._pieces[state] if piece[0] >> byte & 1)
        target = self.state_of(self._e.concat(left, then))
        self._automaton.memory.dfa_next[state, self._columns_of(members)] = target

    def _pieces_of(self, expression: int) -> list[Piece] | None:
        """The row of a repetition, alone or before something else; None if it is not one.

        Where both may begin with the same bytes, what follows these is put together at once."""
        e = self._e
        head, tail = e.head_and_tail(expression)
        if e.kind[head] != REPEAT:
            return None
        body, least, most = e.parts[head]
        row = e.derivatives(body)
        if e.nullable[body] or len(row) <= EAGER:
            return None
        again = e.concat(e.repeat(body, max(0, least - 1), most if most >= INFINITE else most - 1), tail)
        pieces = [(members, left, again) for members, left in row]
        if least == 0 and tail != EMPTY:
            for members, left in e.derivatives(tail):
                apart = []
                for others, round_left, then in pieces:
                    common = members & others
                    members &= ~common
                    if common:
                        left_of_both = e.alternative((e.concat(round_left, then), left))
                        apart.append((common, left_of_both, EMPTY))
                    if others != common:
                        apart.append((others & ~common, round_left, then))
                pieces = apart
                if members:
                    pieces.append((members, left, EMPTY))
                if len(pieces) > 4 * len(row):
                    return None
        return pieces

    def _expand_exclusion(self, state: int, expression: int) -> bool:
        """The row of a text that is none of some words; False if the expression is something else."""
        e = self._e
        items, minus = e.parts[expression]
        if len(items) != 1 or e.kind[minus] not in (LITERAL, WORDS):
            return False
        whole = self.state_of(items[0])
        flags = self._automaton.memory.dfa_flags
        if not flags[whole] & memory.KNOWN:
            self.expand(whole)
        if whole in self._pieces:
            self._pieces[state] = self._pieces[whole]
        line = self._automaton.memory.dfa_next[whole].copy()
        for members, left in e.derivatives(minus):
            for byte in _bytes_in(members):
                if line[byte] < 0:
                    self.expand_byte(whole, byte)
                    line[byte] = self._automaton.memory.dfa_next[whole, byte]
                if line[byte]:
                    rest = e.both((self._expression_of[line[byte]],), left)
                    line[byte] = 0 if rest == NOTHING else self.state_of(rest)
        self._automaton.memory.dfa_next[state] = line
        self._automaton.memory.dfa_whole[state] = whole
        self._automaton.memory.dfa_flags[state] |= memory.KNOWN
        return True

    def _columns_of(self, members: int) -> npt.NDArray[np.intp]:
        columns = self._columns.get(members)
        if columns is None:
            bits = np.unpackbits(np.frombuffer(members.to_bytes(32, "little"), dtype=np.uint8), bitorder="little")
            columns = self._columns[members] = np.flatnonzero(bits)
        return columns

    # ---- the shortest way on --------------------------------------------------------------------------------------

    def shortest_text(self, state: int) -> bytes:
        """The bytes of one shortest completion, always the same way on from the same state."""
        text, shortest, steps = bytearray(), self._e.shortest, self._shortest_steps
        expression = self._expression_of[state]
        while not self._e.nullable[expression]:
            step = steps.get(expression)
            if step is None:
                literal, rest = self._e.literal_and_rest(expression)
                if not literal:
                    row: Row = self._e.derivatives(expression)
                    members, rest = min(row, key=lambda pair: (shortest[pair[1]], _preference(pair[0])))
                    literal = bytes((_preference(members)[1],))
                step = steps[expression] = literal, rest
            text += step[0]
            expression = step[1]
        return bytes(text)


_GRAPHIC = byte_set((0x21, 0x7E))


def _bytes_in(members: int) -> list[int]:
    found = []
    while members:
        low = members & -members
        found.append(low.bit_length() - 1)
        members ^= low
    return found


def _preference(members: int) -> tuple[int, int]:
    """Orders sets of bytes by their plainest byte: graphic ASCII before the rest; (rank, that byte)."""
    graphic = members & _GRAPHIC
    chosen = graphic or members
    return (0 if graphic else 1, (chosen & -chosen).bit_length() - 1)
