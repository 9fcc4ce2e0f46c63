"""Token masks: which tokens may follow in a state, as int32 words, 1 = allowed.

A mask is found by one walk of the vocabulary's trie in step with the automaton (after Willard & Louf 2023,
arXiv:2307.09702, but found when first needed) and kept, shared by all requests of the grammar and by all states that
differ only in counters too large for a token to notice.  The owner's lock guards it."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from .automaton import Automaton
from .errors import GrammarError
from .expressions import INFINITE
from .horizon import Horizon
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

CACHE_BYTES = 64 * 2**20  # masks kept per grammar; the oldest go first


class TokenMasks:
    """The masks of one automaton over one vocabulary."""

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary) -> None:
        from . import kernels

        self.automaton, self.vocabulary, self.trie = automaton, vocabulary, vocabulary.trie
        self._horizon = Horizon(automaton.expressions, self.trie.deepest)
        self._walk_trie = kernels.walk_trie
        self._masks: OrderedDict[int, Int32] = OrderedDict()  # by clamped expression; rows are read-only
        self._of_state: dict[int, int] = {}  # state -> its clamped expression
        self._max_masks = max(16, CACHE_BYTES // (4 * vocabulary.num_words + 1))
        self._path = np.zeros(self.trie.deepest + 1, dtype=np.int32)
        self._tokens_needed: dict[int, int] = {}  # state -> tokens to acceptance on a shortest way, INFINITE: cannot
        self._furthest_of: dict[int, int] = {}  # clamped expression -> see _furthest
        self._anywhere: UInt8 = np.ones(1, dtype=np.uint8)
        self._nowhere: UInt8 = np.zeros(1, dtype=np.uint8)

    def mask(self, state: int) -> Int32:
        """int32 [num_words], read-only: tokens after which the text can still be completed; EOS where it may end."""
        clamped = self._of_state.get(state)
        if clamped is None:
            clamped = self._horizon.clamped(self.automaton.expression[state])
            self._of_state[state] = clamped
        row = self._masks.get(clamped)
        if row is None:
            row = np.zeros(self.vocabulary.num_words, dtype=np.int32)
            start = self.automaton.state_of(clamped)
            self._walk(start, row, self._anywhere, self._nowhere)
            if self.automaton.accepting[start]:
                row |= self.vocabulary.eos_row
            if not row.any():
                raise GrammarError("no token of the vocabulary can come next, and the output is not complete")
            row.flags.writeable = False
            if np.array_equal(row, self.vocabulary.full_row):
                row = self.vocabulary.full_row
            self._masks[clamped] = row
            if len(self._masks) > self._max_masks:
                self._masks.popitem(last=False)
        return row

    def mask_within(self, state: int, tokens_left: int) -> Int32:
        """As `mask`, but only tokens after which `tokens_left - 1` more tokens can complete the text.

        Exact about what it allows: after an allowed token there is a completion of that many tokens, and the next call
        with one less allows its first token.  It may leave out a token whose only quick completion is not a shortest
        one in bytes.  EOS is allowed where the text is complete and needs no token.  If no token is quick enough, the
        text cannot be completed in time any more and the plain mask is returned."""
        plain = self.mask(state)
        if self.vocabulary.spells_byte_by_byte and self._furthest(state) < tokens_left:
            return plain
        ends = self._ends(state)
        late = [end for end in ends.tolist() if not self._completes_within(end, tokens_left - 1)]
        if not late or (len(late) == len(ends) and not self.automaton.accepting[state]):
            return plain
        wanted = np.ones(max(2, self.automaton.num_states), dtype=np.uint8)
        wanted[late] = 0
        row = np.zeros(self.vocabulary.num_words, dtype=np.int32)
        self._walk(state, row, wanted, self._nowhere)
        if self.automaton.accepting[state]:
            row |= self.vocabulary.eos_row
        return row

    def _furthest(self, state: int) -> int:
        """No token leads from `state` to one whose shortest completion is longer than this many bytes."""
        clamped = self._of_state[state]
        furthest = self._furthest_of.get(clamped)
        if furthest is None:
            ends = self._ends(self.automaton.state_of(clamped))
            furthest = max((self.automaton.shortest(end) for end in ends.tolist()), default=0)
            self._furthest_of[clamped] = furthest
        return furthest + self._horizon.taken_away(self.automaton.expression[state])

    def _ends(self, state: int) -> npt.NDArray[np.intp]:
        """The states in which some token ends that may follow in `state`."""
        row = np.zeros(self.vocabulary.num_words, dtype=np.int32)
        seen = self._walk(state, row, self._anywhere, np.zeros(max(2, len(self.automaton.table)), dtype=np.uint8))
        return np.flatnonzero(seen)

    def tokens_needed(self, state: int) -> int:
        """Tokens of the vocabulary that spell one fixed shortest completion of `state`, as few as can be; INFINITE
        if the vocabulary cannot spell it.

        Along that completion the figure falls by one with each token of its spelling, which is what makes
        `mask_within` safe from one call to the next."""
        way: list[int] = []  # states on the shortest way, and its bytes
        text = bytearray()
        at = state
        while at not in self._tokens_needed:
            step = self.automaton.nearest_byte(at)
            way.append(at)
            if step is None:
                self._tokens_needed[at] = 0
                way.pop()
                break
            text.append(step[0])
            at = step[1]
        needed = [0] * len(way) + [self._tokens_needed[at]]
        ids, longest = self.vocabulary.ids, self.vocabulary.longest
        spelled = bytes(text)
        for i in range(len(way) - 1, -1, -1):
            ends = range(i + 1, min(len(way), i + longest) + 1)
            best = min((needed[end] for end in ends if spelled[i:end] in ids), default=INFINITE)
            needed[i] = self._tokens_needed[way[i]] = min(INFINITE, best + 1)
        return self._tokens_needed[state]

    def _completes_within(self, state: int, tokens: int) -> bool:
        if self.vocabulary.spells_byte_by_byte and self.automaton.shortest(state) <= tokens:
            return True
        return self.tokens_needed(state) <= tokens

    def _walk(self, state: int, row: Int32, wanted: UInt8, seen: UInt8) -> UInt8:
        """One walk of the trie (see kernels.walk_trie), the table filled where it is asked for.  Returns `seen`."""
        automaton, trie, path = self.automaton, self.trie, self._path
        path[0] = state
        node = 0
        while True:
            node = self._walk_trie(
                automaton.table, automaton.byte_class, trie.node_byte, trie.node_depth, trie.ends, trie.first_token,
                trie.token_ids, path, node, wanted, seen, row,
            )  # fmt: skip
            if node >= len(trie.node_byte):
                return seen
            automaton.expand(int(path[trie.node_depth[node] - 1]))
            if 1 < len(seen) < len(automaton.table):
                seen = np.concatenate((seen, np.zeros(len(automaton.table) - len(seen), dtype=np.uint8)))
