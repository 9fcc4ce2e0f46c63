"""Tries of continuations and their chains, against plain lists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktree.runtime.engine.token_trie import ROOT, Chain, TokenTrie

continuations = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=12)


def beginnings(texts: list[list[int]]) -> set[tuple[int, ...]]:
    """Every beginning of every text, the whole text included, as a trie has nodes."""
    return {tuple(text[:n]) for text in texts for n in range(1, len(text) + 1)}


@given(continuations)
def test_a_trie_has_one_node_for_each_beginning_and_gives_the_continuations_back(texts: list[list[int]]) -> None:
    trie = TokenTrie.of(texts)
    assert len(trie.tokens) == len(trie.parents) == len(beginnings(texts))
    assert all(parent < node for node, parent in enumerate(trie.parents))
    assert trie.along(trie.tokens) == texts


@given(continuations, st.booleans())
def test_chains_compute_each_beginning_that_goes_on_once_and_ask_for_each_token_once(
    texts: list[list[int]], after_prompt: bool
) -> None:
    trie = TokenTrie.of(texts)
    computed: list[tuple[int, ...]] = []
    asked: list[tuple[int, ...]] = []
    for chain in trie.chains(after_prompt=after_prompt):
        sequence = (*chain.above, *chain.tokens)
        assert not chain.above or tuple(chain.above) in computed, "a chain comes after what is above it"
        computed += [sequence[:n] for n in range(len(chain.above) + 1, len(sequence) + 1)]
        first = len(sequence) + 1 - len(chain.asked)
        for length, nodes in enumerate(chain.asked, start=first):
            asked += [(*sequence[:length], trie.tokens[node]) for node in nodes]
    nodes = beginnings(texts)
    assert sorted(computed) == sorted({node[:-1] for node in nodes} - {()})
    assert sorted(asked) == sorted(node for node in nodes if after_prompt or len(node) > 1)


@given(continuations)
def test_chains_are_in_lexicographic_order(texts: list[list[int]]) -> None:
    chains = TokenTrie.of(texts).chains(after_prompt=True)
    sequences = [[*chain.above, *chain.tokens] for chain in chains]
    assert sequences == sorted(sequences)


def test_single_tokens_need_the_prompt_only() -> None:
    trie = TokenTrie.of([[7], [8], [7]])
    assert trie.chains(after_prompt=True) == [Chain([], [], [[0, 1]])]
    assert trie.chains(after_prompt=False) == []
    assert (trie.parents, trie.ends) == ([ROOT, ROOT], [0, 1, 0])


@pytest.mark.parametrize("depth", [5000])
def test_a_deep_trie_is_no_recursion(depth: int) -> None:
    trie = TokenTrie.of([[1] * depth, [1] * (depth - 1) + [2]])
    (chain,) = trie.chains(after_prompt=True)
    assert len(chain.tokens) == depth - 1
