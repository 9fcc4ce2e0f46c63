"""Texts of few tokens: what completes a terminal or a node, and the tokens that spell it.

Here: spelling a text in the fewest tokens, finding texts that take few.  Not here: whole outputs (token_budget.py)."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .pda import budgets
from .pda.automaton import Pushdown
from .pda.budgets import APART, MANY
from .pda.memory import ACCEPTING
from .rules import DISTINCT, DISTINCT_END, END, LITERAL, SILENT, TERMINAL, Edge
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

NEAR_BYTES, NEAR_EDGES = 3, 6  # edges of a node among which tokens decide: how much longer, how many
MAX_NODES, MASK_NODES = 400, 60  # nodes whose edges are looked at, for tokens_needed; for a mask
MAX_STATES, MASK_STATES = 24, 2  # states of a terminal from which all tokens are tried, for one; for a mask
LONGEST_SPELLED = 1 << 16  # bytes: no context holds a text as long in tokens
MAX_TARGETS = 1536  # states that the tokens after one state may lead to
LONGEST_TRIED, LONGEST_CHOSEN = 4000, 500  # bytes of texts of terminals, of nodes, of which there is a choice


class Spelling(NamedTuple):
    """One text of a node: its bytes, the fewest tokens that spell it, and how many `distinct` nodes it has."""

    text: bytes
    tokens: int
    distinct: int


class Spellings:
    """The spellings of one automaton's states and nodes in the tokens of one vocabulary."""

    def __init__(self, automaton: Pushdown, vocabulary: Vocabulary) -> None:
        self._automaton, self._vocabulary = automaton, vocabulary
        self._tries = vocabulary.trie
        self._of_node: dict[int, Spelling] = {}
        self._of_state: dict[int, bytes] = {}
        self._cut_short: set[int] = set()  # states for which a mask had no time
        self._left_to_try = 0  # states of terminals from which all tokens may yet be tried in this call
        self._left_to_explore = 0  # and nodes whose edges may yet be looked at

    def begin(self, *, for_mask: bool) -> None:
        """A new call: what it may spend on finding texts."""
        self._left_to_try = MASK_STATES if for_mask else 8 * MAX_STATES
        self._left_to_explore = MASK_NODES if for_mask else MAX_NODES

    def known_text(self, state: int) -> bytes:
        """What completes a terminal, in few tokens if such a text has been found."""
        return self._of_state.get(state) or self._automaton.states.shortest_text(state)

    def spelled(self, text: bytes) -> Int32:
        """See budgets.spell.  A text above LONGEST_SPELLED is taken to need more tokens than there are."""
        if len(text) > LONGEST_SPELLED:
            return np.full((1, 2), MANY, dtype=np.int32)
        spelled = np.zeros((len(text) + 1, 2), dtype=np.int32)
        budgets.spell(self._tries.table, np.frombuffer(bytearray(text), dtype=np.uint8), spelled)
        return spelled

    def fewest(self, text: bytes) -> int:
        return int(self.spelled(text)[0, 0])

    def tokens_in(self, spelled: Int32) -> tuple[int, ...]:
        ids, tokens = self._tries.full.token_ids, self._vocabulary.tokens
        result, at = [], 0
        while at < len(spelled) - 1:
            token_id = int(ids[spelled[at, 1]])
            result.append(token_id)
            at += len(tokens[token_id] or b"")
        return tuple(result)

    def of_node(self, node: int) -> Spelling:
        """A text of a node of few tokens: at each edge, the one that takes the fewest among those of few bytes."""
        known = self._of_node.get(node)
        if known is not None:
            return known
        waiting, on_the_way = [node], {node}
        while waiting:
            at = waiting[-1]
            if self._automaton.rules.shortest[at] > LONGEST_CHOSEN:
                self._of_node[waiting.pop()] = self._shortest_spelling(at)
                continue
            if self._left_to_explore <= 0:
                return self._shortest_spelling(node)
            self._left_to_explore -= 1
            edges = self._near_edges(at)
            parts = [part for edge in edges for part in self._parts(edge)]
            lacking = [part for part in parts if part not in self._of_node and part not in on_the_way]
            if lacking:
                waiting.append(lacking[0])
                on_the_way.add(lacking[0])
                continue
            on_the_way.discard(waiting.pop())
            # Never more than by the shortest text, which may have been said of the node before this one was found.
            best, shortest = self._best(at, edges), self._shortest_spelling(at)
            if shortest.tokens < best.tokens:
                best = Spelling(shortest.text, shortest.tokens, max(best.distinct, shortest.distinct))
            self._of_node[at] = best
        return self._of_node[node]

    def _shortest_spelling(self, node: int) -> Spelling:
        """The shortest text.  How many `distinct` nodes it has is not known but for some more than there can be."""
        text, rules = self._automaton.node_text(node), self._automaton.rules
        return Spelling(text, self.fewest(text), len(text) // 2 if rules.is_crowded else 0)

    def _near_edges(self, node: int) -> list[Edge]:
        """The edges by which a text is shortest, or hardly longer; none where it is empty."""
        rules, shortest = self._automaton.rules, self._automaton.rules.shortest
        if shortest[node] == 0:
            return []
        edges = sorted(
            (edge for edge in rules.edges(node) if edge[0] != END),
            key=lambda edge: shortest[edge[1]] + shortest[edge[2]],
        )
        longest = shortest[edges[0][1]] + shortest[edges[0][2]] + NEAR_BYTES
        return [edge for edge in edges[:NEAR_EDGES] if shortest[edge[1]] + shortest[edge[2]] <= longest]

    def _parts(self, edge: Edge) -> tuple[int, ...]:
        op, target, then = edge
        if op in (TERMINAL, LITERAL, SILENT, DISTINCT_END):
            return (then,)
        return target, then

    def _best(self, node: int, edges: list[Edge]) -> Spelling:
        rules, best = self._automaton.rules, None
        if not edges:
            return Spelling(b"", 0, 0)
        for op, target, then in edges:
            rest = self._of_node.get(then)
            if op == TERMINAL:
                first: Spelling | None = Spelling(
                    self.state_text(self._automaton.states.state_of(rules.parts[target])), 0, 0
                )
            elif op in (LITERAL, SILENT):
                first = Spelling(rules.parts[target], 0, 0)
            elif op == DISTINCT_END:
                first = Spelling(b"", 0, 0)
            else:
                first = self._of_node.get(target)
            if first is None or rest is None:
                continue  # a text that begins anew is longer
            text = first.text + rest.text
            distinct = first.distinct + rest.distinct + (op == DISTINCT)
            tokens = self.fewest(text)
            if best is None or (tokens + APART * distinct, len(text)) < (
                best.tokens + APART * best.distinct,
                len(best.text),
            ):
                best = Spelling(text, tokens, distinct)
        return self._shortest_spelling(node) if best is None or best.tokens >= MANY else best

    def state_text(self, state: int) -> bytes:
        """What completes a terminal from a state in few tokens."""
        known = self._of_state.get(state)
        if known is None:
            if state < 0:
                m = self._automaton.memory
                return m.lit_byte[-state : -state + int(m.lit_left[-state])].tobytes()
            if self._left_to_try <= 0 or (self._left_to_try <= MASK_STATES and state in self._cut_short):
                return self._automaton.states.shortest_text(state)
            known = self._find_state_text(state)
            if self._left_to_try <= 0:
                self._cut_short.add(state)
            else:
                self._of_state[state] = known
        return known

    def _find_state_text(self, state: int) -> bytes:
        """Dijkstra's search over the states of a terminal, of a few of them."""
        automaton = self._automaton
        best = automaton.states.shortest_text(state)
        fewest = self.fewest(best)
        if fewest < 2 or len(best) > LONGEST_TRIED:
            return best
        longest = self._vocabulary.longest
        texts = {state: (0, b"")}
        waiting = [(0, 0, state)]
        done = set()
        for _ in range(MAX_STATES):
            if not waiting or waiting[0][0] >= fewest or self._left_to_try <= 0:
                break
            _, _, at = heapq.heappop(waiting)
            if at in done:
                continue
            done.add(at)
            self._left_to_try -= 1
            tokens, text = texts[at]
            for target, token in self._next_states(at):
                if target in texts and texts[target][0] <= tokens + 1:
                    continue
                longer = text + token
                texts[target] = tokens + 1, longer
                m = automaton.memory
                if m.dfa_flags[target] & ACCEPTING:
                    if tokens + 1 < fewest:
                        best, fewest = longer, tokens + 1
                    continue
                cost = int(m.dfa_cost[target])
                heapq.heappush(waiting, (tokens + 1 - (-cost // longest), cost, target))
        return best

    def _next_states(self, state: int) -> list[tuple[int, bytes]]:
        automaton = self._automaton
        mark = np.zeros(len(automaton.memory.dfa_flags) + 1024, dtype=np.int32)
        found, at = np.zeros((MAX_TARGETS, 2), dtype=np.int32), np.zeros(2, dtype=np.int64)
        before = automaton.mark()
        while budgets.next_states(automaton.table, self._tries.table, state, mark, found, at):
            automaton.supply(before)
        ids, tokens = self._tries.full.token_ids, self._vocabulary.tokens
        return [(target, tokens[int(ids[k])] or b"") for target, k in found[: int(at[1])].tolist()]
