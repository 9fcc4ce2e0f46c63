"""Outputs within a number of tokens: which tokens leave enough of them to complete the text, and how many that takes.

Here: *plans*, tokens that complete a text, and masks that never allow a token after which there is none short enough.
Not here: masks without a limit (token_mask.py), the loops (pda/budgets.py).

A plan is found, not proven shortest: by what is left of the terminal and of each node that follows, each by its
shortest text and by one of few tokens, the whole spelled in the fewest tokens; where that is not enough, by a search of
what the masks allow.  A configuration keeps its plan; the next one on the way has what is left of it.  So whoever
begins with enough tokens for the plan never runs out of them, however good or bad the plans are.  The owner's lock
guards all of this."""

from __future__ import annotations

import heapq
from collections import OrderedDict

import numpy as np
import numpy.typing as npt

from .errors import GrammarTooComplex
from .expressions import INFINITE
from .limits import CALL_FUEL
from .pda import budgets
from .pda.automaton import Configuration
from .pda.budgets import APART, MANY
from .pda.memory import (
    DONE,
    FUEL,
    KEPT_TEXTS,
    NEED,
    NEED_LITERAL_TOKENS,
    NEED_NODE_TOKENS,
    NEED_STATE_TOKENS,
    NEEDED,
)
from .token_mask import TokenMasks
from .token_spellings import Spellings
from .trie_kernels import FULL, REST, Trie

Int32 = npt.NDArray[np.int32]

MAX_GROUPS = 1024  # sets that the tokens after one configuration may lead to, before some are left out as too late
CHECKED = 12  # of these, how many are looked at closely
MAX_SEARCHED, BRANCHES = 48, 6  # configurations that a search goes on from, and in how many ways from each
MAX_REPAIRS, MAX_BACK, MAX_TURNS, MAX_TRIED = 200, 12, 12, 24  # of texts that are not new: how often, how far back,
# how many ways at once, how many in all
BYTES_TRIED = (*range(0x21, 0x7F), 0x20, *range(0x20), *range(0x7F, 0x100))  # the plainest first
MOST_TOKENS = MANY // 16  # that matter of those left


class TokenBudget:
    """Masks within a number of tokens, of one automaton over one vocabulary."""

    def __init__(self, masks: TokenMasks) -> None:
        self._masks, self._automaton, self._vocabulary = masks, masks.automaton, masks.vocabulary
        self._tries = self._vocabulary.trie
        self._spells = self._vocabulary.spells_byte_by_byte
        self._kept: OrderedDict[tuple[Configuration, int], Int32] = OrderedDict()
        self._spellings = Spellings(self._automaton, self._vocabulary)
        self._searching = False

    # ---- masks --------------------------------------------------------------------------------------------------

    def is_ample(self, at: Configuration, tokens_left: int) -> bool:
        """Whether all tokens of the plain mask are known to leave enough tokens to complete the text."""
        if at.mask is None:
            return False
        bytes_needed = at.cost + at.mask.slack
        rules = self._automaton.rules
        if rules.is_crowded:
            bytes_needed = (1 + APART) * bytes_needed
        elif rules.has_distinct:
            bytes_needed += 2 * APART
        return bytes_needed < tokens_left

    def mask_within(self, at: Configuration, tokens_left: int) -> Int32:
        """As TokenMasks.mask, but only tokens after which `tokens_left - 1` more tokens can complete the text.

        If tokens_needed(at) <= tokens_left, there is such a token or the text is complete, and the same holds after
        any of them with one token less.  Not all such tokens are found where few tokens are left.  EOS is allowed
        where the text is complete.  If no token is quick enough, the plain mask is returned."""
        plain = self._masks.mask(at)
        tokens_left = min(tokens_left, MOST_TOKENS)
        if self.is_ample(at, tokens_left):
            return plain
        known = self._kept.get((at, tokens_left))
        if known is None:
            known = self._kept[at, tokens_left] = self._find_within(at, tokens_left, plain)
            if len(self._kept) > self._masks.max_kept:
                self._kept.popitem(last=False)
        return known

    @property
    def num_bytes(self) -> int:
        return 4 * self._vocabulary.num_words * len(self._kept)

    def forget(self) -> None:
        """Let go of all masks."""
        self._kept.clear()

    def _find_within(self, at: Configuration, tokens_left: int, plain: Int32) -> Int32:
        self._spellings.begin(for_mask=True)
        if self._needed(at, tokens_left) > tokens_left:
            return plain
        row, of_token, found, trie = self._walked(at, tokens_left - 1, tokens_left + tokens_left // 2 + 3)
        vocabulary = self._vocabulary
        order = np.argsort(found[1:, 1], kind="stable")[:CHECKED] + 1
        allowed = np.zeros(len(found), dtype=bool)
        for number in order.tolist():
            token = vocabulary.tokens[int(trie.token_ids[found[number, 0]])]
            assert token is not None
            after = self._automaton.advance(at, token)
            allowed[number] = after is not None and self._needed(after, tokens_left - 1) < tokens_left
        if allowed.any():
            bits = np.zeros(32 * vocabulary.num_words, dtype=np.uint8)
            bits[trie.token_ids[allowed[of_token]]] = 1
            row |= np.packbits(bits, bitorder="little").view(np.int32)
        if at.accepting:
            row |= vocabulary.eos_row
        else:
            first = at.plan[0]
            row.view(np.uint32)[first >> 5] |= np.uint32(1 << (first & 31))
            self._go_on(at)
        row.flags.writeable = False
        return row

    def _walked(self, at: Configuration, limit: int, reach: int) -> tuple[Int32, Int32, Int32, Trie]:
        """See budgets.walk_within."""
        automaton, table = self._automaton, self._tries.table
        row = np.zeros(self._vocabulary.num_words, dtype=np.int32)
        groups, found = np.zeros((2 * MAX_GROUPS, 2), dtype=np.int64), np.zeros((MAX_GROUPS + 1, 2), dtype=np.int32)
        size = automaton.load(at.items)
        counts = automaton.memory.counts
        counts[FUEL] = CALL_FUEL
        before = automaton.mark()
        while (plain := budgets.all_plain(automaton.table, table, size, row, limit)) < 0:
            self._supply(before)
        which, trie = (REST, self._tries.rest) if plain else (FULL, self._tries.full)
        of_token = np.zeros(len(trie.token_ids), dtype=np.int32)
        automaton.load(at.items)
        automaton.memory.level_ends[0] = size
        counts[DONE], counts[KEPT_TEXTS] = 1, self._spells
        node = 0
        while True:
            node = budgets.walk_within(automaton.table, table, which, limit, reach, row, of_token, groups, found, node)
            if node >= len(trie.node_byte):
                break
            self._supply(before)
        automaton.forget(before)
        return row, of_token, found[: int(counts[DONE])], trie

    def _supply(self, before: list[int]) -> None:
        """Fill in what the last loop said that it needs."""
        counts, views = self._automaton.memory.counts, self._automaton.views
        need, needed = int(counts[NEED]), int(counts[NEEDED])
        if need == NEED_STATE_TOKENS:
            tokens = self._spellings.fewest(self._spellings.known_text(needed))
            self._automaton.views["dfa_tokens"][needed] = min(MANY, tokens) + 1
        elif need == NEED_LITERAL_TOKENS:
            m = self._automaton.memory
            end = needed + int(m.lit_left[needed])
            spelled = self._spellings.spelled(m.lit_byte[needed:end].tobytes())
            m.lit_tokens[needed:end] = np.minimum(MANY, spelled[:-1, 0] if len(spelled) > 1 else MANY) + 1
        elif need == NEED_NODE_TOKENS:
            _, tokens, distinct = self._spellings.of_node(needed)
            views["node_tokens"][needed] = min(MANY, tokens + APART * distinct) + 1
        else:
            self._automaton.supply(before)

    # ---- plans --------------------------------------------------------------------------------------------------

    def tokens_needed(self, at: Configuration, limit: int | None = None) -> int:
        """Tokens of a plan that completes the text, EOS not counted; INFINITE if none is found.

        limit: search for a plan of so many tokens if the first one at hand takes more."""
        self._spellings.begin(for_mask=False)
        try:
            needed = self._needed(at, 0 if limit is None else limit)
            if limit is not None and needed > limit > at.searched:
                at.searched = limit
                self._search(at, limit)
        except GrammarTooComplex:
            if at.needed == INFINITE:
                raise
        return at.needed

    def _needed(self, at: Configuration, enough: int) -> int:
        """As `tokens_needed`, without a search, and no further once `enough` are."""
        if at.needed < 0:
            at.needed = INFINITE
            if at.accepting:
                at.needed, at.plan, at.effort = 0, (), 2
        if at.effort == 2 or at.needed <= enough:
            return at.needed
        items: list[list[int]] = at.items.tolist()
        if len(items) > 1:
            costs = [self._automaton.cost(at.items[i : i + 1]) for i in range(len(items))]
            items = [items[i] for i in sorted(range(len(items)), key=costs.__getitem__)]
        if at.effort == 0:
            at.effort = 1
            for item in items:
                self._try(at, self._automaton.shortest_text(item[0], item[1]))
        if at.needed > enough:
            at.effort = 2
            for item in items:
                self._try(at, self._text_of_few_tokens(item[0], item[1]))
            if at.needed == INFINITE and self._automaton.rules.has_distinct:
                text = self._new_text(at)
                if text is not None:
                    self._try(at, text)
        return at.needed

    def _try(self, at: Configuration, text: bytes) -> None:
        """Plan this text if that takes fewer tokens and it is new where a `distinct` node has written others."""
        spelled = self._spellings.spelled(text)
        tokens = int(spelled[0, 0])
        if tokens >= at.needed or tokens >= MANY:
            return
        if self._automaton.rules.has_distinct:
            after = self._automaton.advance(at, text)
            if after is None or not after.accepting:
                return
        at.needed, at.plan = tokens, self._spellings.tokens_in(spelled)

    def _go_on(self, at: Configuration) -> None:
        """Give what is left of a plan to the configuration after its first token."""
        token = self._vocabulary.tokens[at.plan[0]]
        after = None if token is None else self._automaton.advance(at, token)
        assert after is not None, "a plan does not begin with an allowed token"
        if not 0 <= after.needed < at.needed:
            after.needed, after.plan = at.needed - 1, at.plan[1:]

    def _text_of_few_tokens(self, state: int, frame: int) -> bytes:
        parts, frames = [self._spellings.state_text(state)], self._automaton.memory.frames
        while frame:
            parts.append(self._spellings.of_node(int(frames[frame, 0])).text)
            frames = self._automaton.memory.frames
            frame = int(frames[frame, 1])
        return b"".join(parts)

    # ---- texts that must be new ---------------------------------------------------------------------------------

    def _new_text(self, at: Configuration) -> bytes | None:
        """A text that completes a configuration whose shortest ones `distinct` nodes have written before.

        Where one says no, other bytes are tried instead, the last ones first."""
        path, text = [at], bytearray()
        for _ in range(MAX_REPAIRS):
            self._follow(path, text)
            if path[-1].accepting:
                return bytes(text)
            if not self._turn(path, text):
                return None
        return None

    def _follow(self, path: list[Configuration], text: bytearray) -> None:
        """Go on by a shortest text, as far as it goes."""
        items: list[list[int]] = path[-1].items.tolist()
        if len(items) > 1:
            costs = [self._automaton.cost(path[-1].items[i : i + 1]) for i in range(len(items))]
            items = [items[costs.index(min(costs))]]
        for state, frame, _ in items:
            for byte in self._automaton.shortest_text(state, frame):
                after = self._automaton.advance(path[-1], bytes((byte,)))
                if after is None:
                    return
                path.append(after)
                text.append(byte)

    def _turn(self, path: list[Configuration], text: bytearray) -> bool:
        """Leave a path that ends before a text that is not new for one that gets past it."""
        stuck = path[-1].cost
        for back in range(min(len(path), MAX_BACK)):
            first = len(path) - back
            level: list[tuple[Configuration, bytes]] = [(path[first - 1], b"")]
            tried = 0
            while level and tried < MAX_TRIED:
                tried += len(level)
                following = []
                for base, taken in level:
                    for byte in BYTES_TRIED:
                        after = self._automaton.advance(base, bytes((byte,)))
                        if after is None:
                            continue
                        way, more = [after], bytearray((*taken, byte))
                        self._follow(way, more)
                        if way[-1].accepting or way[-1].cost < stuck:
                            configurations = [path[first - 1]]
                            for one in more:
                                following_one = self._automaton.advance(configurations[-1], bytes((one,)))
                                assert following_one is not None
                                configurations.append(following_one)
                            path[first - 1 :] = configurations
                            text[first - 1 :] = more
                            return True
                        following.append((after, taken + bytes((byte,))))
                level = following[:MAX_TURNS]
        return False

    # ---- a search -----------------------------------------------------------------------------------------------

    def _search(self, start: Configuration, limit: int) -> None:
        """Find a plan of up to `limit` tokens, by what the tokens at hand lead to: the most promising first."""
        if self._searching:
            return
        self._searching = True
        try:
            self._go_on_searching(start, limit)
        finally:
            self._searching = False

    def _go_on_searching(self, start: Configuration, limit: int) -> None:
        best = limit + 1
        waiting: list[tuple[int, int, int, Configuration, tuple[int, ...]]] = []
        heapq.heappush(waiting, (0, 0, 0, start, ()))
        seen, number = {start}, 0
        for _ in range(MAX_SEARCHED):
            if not waiting:
                return
            _, _, _, at, path = heapq.heappop(waiting)
            room = best - 1 - len(path)
            if room <= 0:
                continue
            _, _, found, trie = self._walked(at, -1, MANY - 1)
            order = np.argsort(found[1:, 1], kind="stable")[: 2 * BRANCHES] + 1
            for token_id in trie.token_ids[found[order, 0]].tolist():
                after = self._automaton.advance(at, self._vocabulary.tokens[token_id] or b"")
                if after is None or after in seen:
                    continue
                seen.add(after)
                further = (*path, token_id)
                needed = self._needed(after, best - 1 - len(further))
                if len(further) + needed < best:
                    self._record(start, (*further, *after.plan))
                    return
                number += 1
                estimate = needed if needed < INFINITE else 2 * after.cost
                heapq.heappush(waiting, (len(further) + estimate, after.cost, number, after, further))

    def _record(self, at: Configuration, plan: tuple[int, ...]) -> None:
        """Keep a plan on all configurations on its way."""
        for i, token_id in enumerate(plan):
            if at.needed < 0 or at.needed > len(plan) - i:
                at.needed, at.plan = len(plan) - i, plan[i:]
            after = self._automaton.advance(at, self._vocabulary.tokens[token_id] or b"")
            assert after is not None, "a plan holds a token that is not allowed"
            at = after
        assert at.accepting, "a plan does not complete the text"
