"""Token masks: which tokens may come next, as int32 words, 1 = allowed.

A mask is found by one walk of the vocabulary's trie through the automaton (after Willard & Louf 2023,
arXiv:2307.09702, but found when first needed).  Tokens of plain text, most of a vocabulary, are not walked where a
string accepts them all.  Masks are kept by what the walk could see of a configuration, its *body*: the states and the
frames that were returned to, not the stack below them; so depth, schema and request share them.  The owner's lock
guards it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from .errors import GrammarError
from .expressions import INFINITE
from .horizon import Horizon
from .limits import CALL_FUEL, MASK_BYTES
from .pda.automaton import MAX_COST, Configuration, Pushdown
from .pda.bodies import clamp, find_key, see
from .pda.memory import FUEL, FURTHEST, KEY, ONE_STACK, SECOND_KEY, SIZE, TAKEN
from .pda.steps import sort_items
from .pda.walks import find_mask
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]


class MaskRow:
    """row: int32 [num_words], read-only; None: it had to make room, and is found again.
    slack: after no allowed token a shortest completion is longer, by more than this many tokens, than as many bytes as
    one has before it; INFINITE where that is not known."""

    __slots__ = ("row", "slack")

    def __init__(self, row: Int32, slack: int) -> None:
        self.row: Int32 | None = row
        self.slack = slack


class TokenMasks:
    """The masks of one automaton over one vocabulary."""

    def __init__(self, automaton: Pushdown, vocabulary: Vocabulary) -> None:
        self.automaton, self.vocabulary = automaton, vocabulary
        self._horizon = Horizon(automaton.expressions, vocabulary.longest)
        self._kept: OrderedDict[tuple[int, int], MaskRow] = OrderedDict()
        # states, and whether the text may end -> how many frames of each item a walk has seen
        self._depths: dict[tuple[bytes, bool], list[Int32]] = {}
        # of these, and as many of those within a number of tokens
        self.max_kept = max(64, MASK_BYTES // (4 * vocabulary.num_words + 1) // 2)
        self.walks = 0  # of the trie, for a mask
        self._tries = vocabulary.trie
        automaton.make_level_ends(vocabulary.longest)

    def mask(self, configuration: Configuration) -> Int32:
        """int32 [num_words], read-only: tokens after which the text can still be completed; EOS where it may end."""
        known = configuration.mask
        if known is None or known.row is None:
            configuration.mask = known = self._find(configuration)
        row = known.row
        assert row is not None  # the newest is not the one that goes
        return row

    def _find(self, configuration: Configuration) -> MaskRow:
        automaton = self.automaton
        size = automaton.load(configuration.items)
        while (unknown := clamp(automaton.table, size)) >= 0:
            self._clamp(int(automaton.memory.items[unknown, 0]))
        if size > 1:
            sort_items(automaton.table, 0, size)
        accepting = configuration.accepting
        m, counts = automaton.memory, automaton.memory.counts
        states = m.items[:size, 0].tobytes()
        depths = self._depths.setdefault((states, accepting), [])
        for seen in depths:
            m.work[:size, 0] = seen
            find_key(automaton.table, size, accepting)
            key = int(counts[KEY]), int(counts[SECOND_KEY])
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        row = self._walked(size)
        self.walks += 1
        if accepting:
            row |= self.vocabulary.eos_row
        elif not row.any():
            raise GrammarError("no token of the vocabulary can come next, and the output is not complete")
        if self.vocabulary.may_allow_all and np.array_equal(row, self.vocabulary.full_row):
            row = self.vocabulary.full_row
        row.flags.writeable = False
        slack = int(counts[FURTHEST]) - (0 if accepting else int(counts[SIZE])) + int(counts[TAKEN])
        m = automaton.memory
        see(automaton.table, size)
        seen = m.work[:size, 0].copy()
        find_key(automaton.table, size, accepting)
        if not any(np.array_equal(seen, known) for known in depths):
            depths.append(seen)
        mask = MaskRow(row, slack if counts[ONE_STACK] and self.vocabulary.spells_byte_by_byte else INFINITE)
        self._kept[int(counts[KEY]), int(counts[SECOND_KEY])] = mask
        if len(self._kept) > self.max_kept:
            self._kept.popitem(last=False)[1].row = None  # configurations hold it too
        return mask

    def _clamp(self, state: int) -> None:
        """Find the state that tokens cannot tell from this one."""
        automaton, expression = self.automaton, self.automaton.states.expression_of(state)
        clamped = self._horizon.clamped(expression)
        taken = 0 if clamped == expression else self._horizon.taken_away(expression)
        target = automaton.states.state_of(clamped)
        automaton.memory.dfa_clamp[state] = target
        automaton.memory.dfa_taken[state] = min(MAX_COST, taken)

    def _walked(self, size: int) -> Int32:
        """The row of the set items[0:size], EOS left out; see walks.find_mask for what else it finds."""
        automaton, tries = self.automaton, self._tries.table
        row = np.zeros(self.vocabulary.num_words, dtype=np.int32)
        automaton.memory.counts[FUEL] = CALL_FUEL
        before = automaton.mark()
        node = 0
        while True:
            node = find_mask(automaton.table, tries, row, size, node)
            if node < 0:
                return row
            automaton.supply(before)

    @property
    def num_bytes(self) -> int:
        return 4 * self.vocabulary.num_words * self.num_kept

    @property
    def num_kept(self) -> int:
        return len(self._kept)

    def forget(self) -> None:
        """Let go of all masks."""
        self._kept.clear()
        self._depths.clear()

    def some_follow(self, configuration: Configuration, texts: list[bytes]) -> bool:
        """Whether any of these texts may come next."""
        return any(self.automaton.advance(configuration, text) is not None for text in texts)
