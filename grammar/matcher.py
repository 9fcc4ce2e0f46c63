"""One request's place in a grammar: fill_mask, advance, rollback, forced bytes, tokens needed, finished.

Not here: building masks (token_mask.py), which grammar a request has (the runtime).  A matcher belongs to one thread at
a time; matchers of one grammar may be used from different threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .errors import GrammarError, GrammarTooComplex

if TYPE_CHECKING:
    from .compiler import Grammar
    from .explain import Explanation
    from .interface import AnyMatcher
    from .pda.automaton import Configuration

Int32 = npt.NDArray[np.int32]


class Matcher:
    """Where one output stands.  Grammar.matcher() makes one; tokens move it, rollback takes them back."""

    __slots__ = ("_history", "grammar")

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        # before the first token, and after each token; None after EOS
        self._history: list[Configuration | None] = [grammar.start]

    @property
    def num_tokens(self) -> int:
        """Tokens taken so far, EOS included."""
        return len(self._history) - 1

    @property
    def terminated(self) -> bool:
        """EOS was taken."""
        return self._history[-1] is None

    @property
    def complete(self) -> bool:
        """The text so far is a member: the output may end here."""
        at = self._history[-1]
        return at is None or at.accepting

    @property
    def finished(self) -> bool:
        """Nothing but EOS may follow, or EOS was taken."""
        at = self._history[-1]
        return at is None or (at.accepting and not len(at.items))

    def mask(self, tokens_left: int | None = None) -> Int32:
        """int32 [num_words], read-only: what fill_mask writes, without a copy."""
        return self.grammar.mask(self._history[-1], tokens_left)

    def fill_mask(self, row: Int32, tokens_left: int | None = None) -> bool:
        """Write which tokens may come next.  False: all of them, and `row` is untouched.

        row          int32 [num_words], C-contiguous: bit i % 32 of word i // 32 (lowest first) is 1 if token i is
                     allowed, bits past the vocabulary are 0.  EOS ids are 1 exactly where the text so far is complete.
        tokens_left  how many tokens may still be produced, this one included, EOS not counted.  If given, only tokens
                     after which the text can be completed within the rest are allowed, for as long as there are any
                     (TokenBudget.mask_within says how exact that is).
        Raises GrammarError if no token of the vocabulary can follow, GrammarTooComplex if the budget runs out."""
        mask = self.grammar.mask(self._history[-1], tokens_left)
        if mask is self.grammar.everything:
            return False
        row[:] = mask
        return True

    def advance(self, token_id: int) -> None:
        """Take one token.  GrammarError if it is not allowed here, and nothing changes."""
        at = self._history[-1]
        if at is None:
            raise GrammarError(f"token {token_id} after the end of the output")
        after = at.next.get(token_id)
        self._history.append(self.grammar.after(at, token_id) if after is None else after)

    def try_advance(self, token_id: int) -> bool:
        """As `advance`; False if the token is not allowed here."""
        at = self._history[-1]
        if at is None:
            return False
        after = at.next.get(token_id)
        if after is None:
            try:
                after = self.grammar.after(at, token_id)
            except GrammarTooComplex:
                raise
            except GrammarError:
                return False
        self._history.append(after)
        return True

    def rollback(self, n: int) -> None:
        """Take back the last `n` tokens, EOS among them if it was one."""
        if not 0 <= n <= self.num_tokens:
            raise GrammarError(f"cannot roll back {n} tokens: {self.num_tokens} were taken")
        if n:
            del self._history[-n:]

    def forced_bytes(self) -> bytes:
        """The bytes that must come next; b"" where there is a choice or the text may end."""
        at = self._history[-1]
        return b"" if at is None else self.grammar.forced_bytes(at)

    def forced(self) -> list[int]:
        """Tokens that must come next, [] if there is a choice; see forced.py for which spelling."""
        at = self._history[-1]
        return [] if at is None else self.grammar.forced(at)

    def tokens_needed(self, limit: int | None = None) -> int:
        """Tokens that complete the text for sure, EOS not counted; the fewest, or few more.

        limit: more time is taken where that seems to be more than `limit`, to find a way of up to so many."""
        at = self._history[-1]
        return 0 if at is None else self.grammar.tokens_needed(at, limit)

    def explain(self, token_id: int, tokens_left: int | None = None) -> Explanation:
        """Why a token may or may not come next; for people, so it may take some milliseconds."""
        return self.grammar.explain(self._history[-1], token_id, tokens_left)

    def explain_text(self, text: str | bytes) -> Explanation:
        """As `explain`, of any text."""
        return self.grammar.explain(self._history[-1], text.encode() if isinstance(text, str) else text)


def fill_masks(
    matchers: Sequence[AnyMatcher | None],
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
        if matcher is None:
            rows[i].fill(-1)
            constrained.append(False)
            continue
        mask = matcher.mask(None if tokens_left is None else tokens_left[i])
        rows[i] = mask
        constrained.append(mask is not matcher.grammar.everything)
    return constrained
