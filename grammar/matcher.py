"""One request's place in a grammar: fill_mask, advance, rollback, forced, finished.

Not here: building masks (token_mask.py), which grammar a request has (the runtime).  A matcher belongs to one thread at
a time; matchers of one grammar may be used from different threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .automaton import START
from .errors import GrammarError

if TYPE_CHECKING:
    from .compiler import Grammar

Int32 = npt.NDArray[np.int32]

TERMINATED = -1  # in the history: EOS was taken


class Matcher:
    """Where one output stands.  Grammar.matcher() makes one; tokens move it, rollback takes them back."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self._states = [START]  # before the first token, and after each token; TERMINATED after EOS

    @property
    def num_tokens(self) -> int:
        """Tokens taken so far, EOS included."""
        return len(self._states) - 1

    @property
    def terminated(self) -> bool:
        """EOS was taken."""
        return self._states[-1] == TERMINATED

    @property
    def complete(self) -> bool:
        """The text so far is a member: the output may end here."""
        state = self._states[-1]
        return state == TERMINATED or self.grammar.accepts_at(state)

    @property
    def finished(self) -> bool:
        """Nothing but EOS may follow, or EOS was taken."""
        state = self._states[-1]
        return state == TERMINATED or self.grammar.ends_at(state)

    def fill_mask(self, row: Int32, tokens_left: int | None = None) -> bool:
        """Write which tokens may come next.  False: all of them, and `row` is untouched.

        row          int32 [num_words], C-contiguous: bit i % 32 of word i // 32 (lowest first) is 1 if token i is
                     allowed, bits past the vocabulary are 0.  EOS ids are 1 exactly where the text so far is complete.
        tokens_left  how many tokens may still be produced, this one included, EOS not counted.  If given, only tokens
                     after which the text can be completed within the rest are allowed, for as long as there are any
                     (TokenMasks.mask_within says how exact that is).
        Raises GrammarError if no token of the vocabulary can follow, GrammarTooComplex if the budget runs out."""
        mask = self.grammar.mask(self._states[-1], tokens_left)
        if mask is self.grammar.everything:
            return False
        row[:] = mask
        return True

    def advance(self, token_id: int) -> None:
        """Take one token.  GrammarError if it is not allowed here, and nothing changes."""
        state = self._states[-1]
        if state == TERMINATED:
            raise GrammarError(f"token {token_id} after the end of the output")
        self._states.append(self.grammar.after(state, token_id))

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens, EOS among them if it was one."""
        if not 0 <= n <= self.num_tokens:
            raise GrammarError(f"cannot roll back {n} tokens: {self.num_tokens} were taken")
        if n:
            del self._states[-n:]

    def forced_bytes(self) -> bytes:
        """The bytes that must come next; b"" if there is a choice, or the text may end here."""
        state = self._states[-1]
        return b"" if state == TERMINATED else self.grammar.forced_bytes(state)

    def tokens_needed(self) -> int:
        """Tokens of a shortest completion from here, EOS not counted; 0 where the text may end."""
        state = self._states[-1]
        return 0 if state == TERMINATED else self.grammar.tokens_needed(state)

    def forced(self) -> list[int]:
        """Tokens that must come next, [] if there is a choice; see forced.py for which spelling."""
        state = self._states[-1]
        return [] if state == TERMINATED else self.grammar.forced(state)


def fill_masks(
    matchers: Sequence[Matcher | None],
    rows: Int32,
    tokens_left: Sequence[int | None] | None = None,
) -> list[bool]:
    """The masks of a whole step: row i is that of matchers[i].

    rows         int32 [B, num_words], every row is written; all bits of the vocabulary for a matcher that allows all
    matchers     None: no constraint; the row is set to all ones, bits past the vocabulary included
    tokens_left  as for Matcher.fill_mask, per row
    returns      per row, False if everything is allowed (that row need not be applied)"""
    constrained = []
    for i, matcher in enumerate(matchers):
        row = rows[i]
        if matcher is None:
            row.fill(-1)
            constrained.append(False)
            continue
        some = matcher.fill_mask(row, None if tokens_left is None else tokens_left[i])
        if not some:
            row[:] = matcher.grammar.everything
        constrained.append(some)
    return constrained
