"""TokenTrie: continuations of one prompt merged where they begin alike, and how to compute them: as chains.

Here: numbers only. Not here: requests (scoring.py). Imported by both sides of the engine; msgspec only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

T = TypeVar("T")

ROOT = -1  # the prompt


@dataclass(frozen=True)
class Chain:
    """A path through the trie that is computed as one sequence: prompt, `above`, `tokens`.

    above    tokens before its own, which chains before it in the list compute
    tokens   its own
    asked    nodes whose log-probabilities are wanted after each of its last len(asked) tokens, in order; the first
             chain after a prompt has one more of these than tokens of its own: what may follow the prompt
    """

    above: list[int]
    tokens: list[int]
    asked: list[list[int]]


class TokenTrie(msgspec.Struct, frozen=True):
    """Continuations as a trie, each of its nodes one token.

    tokens    token id of each node
    parents   the node before each, always a lower number, or ROOT
    ends      the node at which each continuation ends, in the order of the continuations; several may end at one
    """

    tokens: list[int]
    parents: list[int]
    ends: list[int]

    @classmethod
    def of(cls, continuations: Sequence[Sequence[int]]) -> TokenTrie:
        """None of them may be empty."""
        trie = cls([], [], [])
        known: dict[tuple[int, int], int] = {}  # (node, next token) -> child
        for continuation in continuations:
            node = ROOT
            for token_id in continuation:
                child = known.setdefault((node, token_id), len(trie.tokens))
                if child == len(trie.tokens):
                    trie.tokens.append(token_id)
                    trie.parents.append(node)
                node = child
            trie.ends.append(node)
        return trie

    def along(self, values: Sequence[T]) -> list[list[T]]:
        """Per continuation, what its nodes have in `values` (one of each node), from its first token on."""
        return [[values[node] for node in self._path(end)] for end in self.ends]

    def chains(self, *, after_prompt: bool) -> list[Chain]:
        """The fewest chains that compute every node with children once. A leaf needs no computing, only the logits
        before it.

        after_prompt   whether something stands before the continuations; if not, nothing predicts their first tokens
        They are in lexicographic order, so each comes after those that compute what is above it, whether a scheduler
        goes by arrival or depth first."""
        children: list[list[int]] = [[] for _ in range(len(self.tokens) + 1)]  # the last is ROOT's
        for node, parent in enumerate(self.parents):
            children[parent].append(node)

        def going_on(node: int) -> list[int]:
            """Its children that have children, the largest token first."""
            return sorted((child for child in children[node] if children[child]), key=lambda n: -self.tokens[n])

        found: list[Chain] = []
        starts = [ROOT] if after_prompt and self.tokens else going_on(ROOT)
        while starts:
            node = starts.pop()
            chain = Chain(self._tokens_above(node), [], [])
            found.append(chain)
            while True:
                if node != ROOT:
                    chain.tokens.append(self.tokens[node])
                chain.asked.append(children[node])
                further = going_on(node)
                if not further:
                    break
                node = further.pop()
                starts += further
        return found

    def _tokens_above(self, node: int) -> list[int]:
        return [] if node == ROOT else [self.tokens[above] for above in self._path(self.parents[node])]

    def _path(self, node: int) -> list[int]:
        path = []
        while node != ROOT:
            path.append(node)
            node = self.parents[node]
        return path[::-1]
