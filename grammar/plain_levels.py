"""How many plain characters may follow in a string, whichever they are: what lets masks skip all tokens of plain text.

Plain: any character in UTF-8 but the quote, the backslash, controls, DEL and the two line separators that the dot of a
pattern leaves out (U+2028, U+2029).  What is said is a lower bound, read off
the structure of an expression: 0 is always true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .byte_sets import byte_set
from .kinds import ALTERNATIVE, CONCAT, REPEAT

if TYPE_CHECKING:
    from .expressions import Expressions

_ASCII = byte_set((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E))
_CONTINUATION = byte_set((0x80, 0xBF))
_LONGER = (  # RFC 3629, section 4: sets of the bytes of one character
    (byte_set((0xC2, 0xDF)), _CONTINUATION),
    (byte_set((0xE0, 0xE0)), byte_set((0xA0, 0xBF)), _CONTINUATION),
    (byte_set((0xE1, 0xE1), (0xE3, 0xEC), (0xEE, 0xEF)), _CONTINUATION, _CONTINUATION),
    (byte_set((0xE2, 0xE2)), byte_set((0x81, 0xBF)), _CONTINUATION),
    (byte_set((0xE2, 0xE2)), byte_set((0x80, 0x80)), byte_set((0x80, 0xA7), (0xAA, 0xBF))),
    (byte_set((0xED, 0xED)), byte_set((0x80, 0x9F)), _CONTINUATION),
    (byte_set((0xF0, 0xF0)), byte_set((0x90, 0xBF)), _CONTINUATION, _CONTINUATION),
    (byte_set((0xF1, 0xF3)), _CONTINUATION, _CONTINUATION, _CONTINUATION),
    (byte_set((0xF4, 0xF4)), byte_set((0x80, 0x8F)), _CONTINUATION, _CONTINUATION),
)


class PlainLevels:
    """The levels of the expressions of one store."""

    def __init__(self, store: Expressions) -> None:
        self._e = store
        self._levels: dict[int, int] = {}
        self._whole_characters: dict[int, bool] = {}

    def copied(self, store: Expressions) -> PlainLevels:
        copy = PlainLevels(store)
        copy._levels = self._levels.copy()
        copy._whole_characters = self._whole_characters.copy()
        return copy

    def level(self, e: int) -> int:
        """A number m such that every sequence of up to m plain characters leaves something of `e`.

        Read off repetitions of a single character, where strings get long; asked of every new state, so no more."""
        known = self._levels.get(e)
        if known is None:
            known = self._levels[e] = self._find(e)
        return known

    def _find(self, e: int) -> int:
        kind, best = self._e.kind[e], 0
        if kind == ALTERNATIVE:
            return max(self.level(item) for item in self._e.parts[e])
        while kind == CONCAT:
            head, e = self._e.parts[e]
            best = max(best, self._rounds(head))
            if not self._e.nullable[head]:
                return best
            kind = self._e.kind[e]
        return max(best, self._rounds(e))

    def _rounds(self, e: int) -> int:
        """Up to how many plain characters, whichever they are, are a member (0: none)."""
        if self._e.kind[e] != REPEAT:
            return 0
        body, _, most = self._e.parts[e]
        whole = self._whole_characters.get(body)
        if whole is None:
            whole = self._whole_characters[body] = self._has_all_characters(body)
        return int(most) if whole else 0

    def _has_all_characters(self, body: int) -> bool:
        """Whether every plain character by itself is a member."""
        if self._e.shortest[body] != 1:
            return False
        ascii_bytes = 0
        for members, left in self._e.derivatives(body):
            if self._e.nullable[left]:
                ascii_bytes |= members
        return not _ASCII & self._e.alphabet & ~ascii_bytes and all(self._has_product(body, sets) for sets in _LONGER)

    def _has_product(self, e: int, sets: tuple[int, ...]) -> bool:
        """Whether every choice of one byte out of each set is a member."""
        if not sets:
            return self._e.nullable[e]
        missing = sets[0] & self._e.alphabet  # no text has other bytes
        for members, left in self._e.derivatives(e):
            if members & sets[0]:
                if not self._has_product(left, sets[1:]):
                    return False
                missing &= ~members
        return missing == 0
