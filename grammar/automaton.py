"""The byte automaton of one constraint: expressions as numbered states, rows of the table filled when first needed.

Here: state numbers, byte classes, the transition table that compiled loops read, shortest completions as bytes.
Not here: what an expression is (expressions.py), tokens (token_mask.py).  The owner's lock guards it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GrammarTooComplex
from .expressions import NOTHING, Expressions, Row, byte_set
from .limits import TOTAL_STATES

DEAD, START = 0, 1  # state numbers
UNKNOWN = -1  # a table entry that nobody has asked for yet

IntArray = npt.NDArray[np.int32]


class Automaton:
    """Deterministic, over bytes.  Every state but DEAD can still reach an accepting one.

    table        [capacity, num_classes] int32: next state, DEAD, or UNKNOWN (then `expand` fills the whole row)
    byte_class   [256] uint8: bytes that no state tells apart share a column
    expression   expression of each state; its number of bytes to acceptance is expressions.shortest
    """

    def __init__(self, expressions: Expressions, start: int, *, max_states: int = TOTAL_STATES) -> None:
        self.expressions = expressions
        self.max_states = max_states
        self.byte_class, num_classes = _byte_classes(expressions)
        self.expression = [NOTHING]
        self.accepting = [False]
        self.table: IntArray = np.full((64, num_classes), UNKNOWN, dtype=np.int32)
        self.table[DEAD] = DEAD
        self._state_of = {NOTHING: DEAD}
        self._columns: dict[int, npt.NDArray[np.intp]] = {}
        self._next: dict[int, tuple[int, int] | None] = {}
        self.state_of(start)

    @property
    def num_states(self) -> int:
        return len(self.expression)

    def state_of(self, expression: int) -> int:
        """The state of an expression, numbered if it is new."""
        state = self._state_of.get(expression)
        if state is None:
            state = len(self.expression)
            if state >= self.max_states:
                raise GrammarTooComplex(f"needs more than {self.max_states:,} states", place="the generated text")
            self._state_of[expression] = state
            self.expression.append(expression)
            self.accepting.append(self.expressions.nullable[expression])
            if state >= len(self.table):
                grown = np.full((2 * len(self.table), self.table.shape[1]), UNKNOWN, dtype=np.int32)
                grown[: len(self.table)] = self.table
                self.table = grown
        return state

    def expand(self, state: int) -> None:
        """Fill the state's row.  May replace `table` by a larger one."""
        if self.table[state, 0] != UNKNOWN:
            return
        row = self._row(state)
        targets = [(self._columns_of(members), self.state_of(left)) for members, left in row]
        line = np.zeros(self.table.shape[1], dtype=np.int32)
        for columns, target in targets:
            line[columns] = target
        self.table[state] = line

    def _row(self, state: int) -> Row:
        try:
            return self.expressions.derivatives(self.expression[state])
        except RecursionError:
            raise GrammarTooComplex("is nested too deeply", place="the generated text") from None

    def step(self, state: int, byte: int) -> int:
        target = int(self.table[state, self.byte_class[byte]])
        if target == UNKNOWN:
            self.expand(state)
            target = int(self.table[state, self.byte_class[byte]])
        return target

    def walk(self, state: int, text: bytes) -> int:
        for byte in text:
            state = self.step(state, byte)
            if state == DEAD:
                break
        return state

    def shortest(self, state: int) -> int:
        """Bytes of the shortest text that leads from `state` to an accepting one."""
        return self.expressions.shortest[self.expression[state]]

    def only_byte(self, state: int) -> tuple[int, int] | None:
        """(byte, next state) if exactly one byte may follow and the text cannot end here."""
        if self.accepting[state]:
            return None
        row = self._row(state)
        if len(row) != 1 or row[0][0] & (row[0][0] - 1):
            return None
        return row[0][0].bit_length() - 1, self.state_of(row[0][1])

    def has_next(self, state: int) -> bool:
        return bool(self._row(state))

    def nearest_byte(self, state: int) -> tuple[int, int] | None:
        """(byte, next state) on one shortest way to acceptance, always the same one; None where it is reached."""
        if self.accepting[state]:
            return None
        shortest = self.expressions.shortest
        row = self._row(state)
        members, left = min(row, key=lambda pair: (shortest[pair[1]], _preference(pair[0])))
        return _preference(members)[1], self.state_of(left)

    def _columns_of(self, members: int) -> npt.NDArray[np.intp]:
        columns = self._columns.get(members)
        if columns is None:
            bits = np.unpackbits(np.frombuffer(members.to_bytes(32, "little"), dtype=np.uint8), bitorder="little")
            columns = self._columns[members] = np.unique(self.byte_class[bits.astype(bool)]).astype(np.intp)
        return columns


def _preference(members: int) -> tuple[int, int]:
    """Orders sets of bytes by their plainest byte: graphic ASCII before the rest; (rank, that byte)."""
    graphic = members & _GRAPHIC
    chosen = graphic or members
    return (0 if graphic else 1, (chosen & -chosen).bit_length() - 1)


_GRAPHIC = byte_set((0x21, 0x7E))


def _byte_classes(expressions: Expressions) -> tuple[npt.NDArray[np.uint8], int]:
    """Bytes that are in the same sets of all expressions share a class; derivatives make no finer sets."""
    raw = b"".join(members.to_bytes(32, "little") for members in sorted(expressions.sets_of_bytes()))
    bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8).reshape(-1, 32), axis=1, bitorder="little")  # [sets, 256]
    numbers: dict[bytes, int] = {}
    classes = np.empty(256, dtype=np.uint8)
    columns: Any = np.ascontiguousarray(bits.T)
    for byte in range(256):
        classes[byte] = numbers.setdefault(columns[byte].tobytes(), len(numbers))
    return classes, len(numbers)
