"""Jump-forward: the bytes that a state forces, and the tokens that may carry them.

A run of forced bytes is spelled greedily, longest token first.  It stops before a token that could be the beginning of
a longer allowed one reaching past the forced bytes: the model may prefer that one, so it is asked.  Whether greedy is
how the model's own tokenizer would have spelled the run is not considered here (the runtime heals the last token)."""

from __future__ import annotations

import numpy as np

from .automaton import Automaton
from .vocabulary import Vocabulary

MAX_FORCED_BYTES = 4096  # at a time; the rest is forced again afterwards


def forced_bytes(automaton: Automaton, state: int) -> tuple[bytes, int]:
    """The bytes that must come next, and the state after them."""
    text = bytearray()
    while len(text) < MAX_FORCED_BYTES:
        step = automaton.only_byte(state)
        if step is None:
            break
        text.append(step[0])
        state = step[1]
    return bytes(text), state


def forced_runs(automaton: Automaton, state: int) -> list[bytes]:
    """The runs of bytes that are forced on the shortest way from `state` to an end, as far as MAX_FORCED_BYTES."""
    runs, length = [bytearray()], 0
    while length < MAX_FORCED_BYTES:
        length += 1
        step = automaton.only_byte(state)
        if step is not None:
            runs[-1].append(step[0])
            state = step[1]
            continue
        if runs[-1]:
            runs.append(bytearray())
        step = automaton.nearest_byte(state)
        if step is None:
            break
        state = step[1]
    return [bytes(run) for run in runs if run]


def forced_tokens(automaton: Automaton, vocabulary: Vocabulary, state: int) -> list[int]:
    """Token ids that spell forced bytes; each is allowed after those before it."""
    text, after = forced_bytes(automaton, state)
    ids, longest = vocabulary.ids, vocabulary.longest
    tokens: list[int] = []
    at = 0
    while at < len(text):
        ends = range(min(len(text), at + longest), at, -1)
        end = next((e for e in ends if text[at:e] in ids), None)
        if end is None or reaches_past(automaton, vocabulary, text[at:], after):
            break
        tokens.append(ids[text[at:end]])
        at = end
    return tokens


def reaches_past(automaton: Automaton, vocabulary: Vocabulary, rest: bytes, after: int) -> bool:
    """Whether some token begins with `rest` and goes on in a way that the state `after` it allows."""
    trie = vocabulary.trie
    node, last = 0, len(trie.node_byte)
    for depth, byte in enumerate(rest, start=1):
        if depth > trie.deepest:
            return False
        while node < last and trie.node_byte[node] != byte:  # along the children of the node before
            node = int(trie.ends[node])
        if node >= last:
            return False
        node, last = node + 1, int(trie.ends[node])
    while node < last:  # any child that lives is part of some token
        if _some_token_lives(automaton, trie.node_byte, trie.node_depth, trie.ends, trie.first_token, node, after):
            return True
        node = int(trie.ends[node])
    return False


def _some_token_lives(
    automaton: Automaton,
    node_byte: np.ndarray[tuple[int], np.dtype[np.uint8]],
    node_depth: np.ndarray[tuple[int], np.dtype[np.int32]],
    ends: np.ndarray[tuple[int], np.dtype[np.int32]],
    first_token: np.ndarray[tuple[int], np.dtype[np.int32]],
    child: int,
    state: int,
) -> bool:
    """Whether a token at or below `child` leads from `state` (before the child's byte) to a live state."""
    base = int(node_depth[child])
    states = {base - 1: state}
    node, last = child, int(ends[child])
    while node < last:
        depth = int(node_depth[node])
        target = automaton.step(states[depth - 1], int(node_byte[node]))
        if target == 0:
            node = int(ends[node])
            continue
        if first_token[node] < first_token[node + 1]:
            return True
        states[depth] = target
        node += 1
    return False
