"""The compiled loops of this package.  Imported on the first use of a Vocabulary's trie, never by `import forktree`.

numba keeps them in its cache on disk; `forktree.grammar.warmup()` fills that cache before the first request."""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]


@numba.njit(cache=True, nogil=True)
def build_trie(text: UInt8, starts: Int32, node_byte: UInt8, node_depth: Int32, first_token: Int32) -> int:
    """Tokens in sorted order -> trie nodes in depth-first order; returns how many.

    text         [sum of lengths] uint8: all tokens one after the other     starts  [num_tokens + 1] int32 into it
    node_byte    [capacity] uint8, node_depth [capacity] int32: written; the root is left out, its children have depth 1
    first_token  [capacity + 1] int32: tokens first_token[i] : first_token[i + 1] end at node i; written
    """
    nodes = 0
    num_tokens = len(starts) - 1
    for token in range(num_tokens):
        begin, end = starts[token], starts[token + 1]
        common = 0
        if token > 0:
            before, before_end = starts[token - 1], starts[token]
            while (
                begin + common < end and before + common < before_end and text[begin + common] == text[before + common]
            ):
                common += 1
        for i in range(begin + common, end):
            node_byte[nodes] = text[i]
            node_depth[nodes] = i - begin + 1
            first_token[nodes] = token
            nodes += 1
    first_token[nodes] = num_tokens
    return nodes


@numba.njit(cache=True, nogil=True)
def subtree_ends(node_depth: Int32, ends: Int32, deepest: int) -> None:
    """ends[i]: the first node after i in depth-first order that is not below i.   [nodes] int32"""
    nodes = len(node_depth)
    next_at = np.full(deepest + 2, nodes, dtype=np.int32)  # per depth: the nearest later node that is no deeper
    for i in range(nodes - 1, -1, -1):
        depth = node_depth[i]
        end = next_at[depth]
        ends[i] = end
        for deeper in range(depth, deepest + 2):
            next_at[deeper] = i


@numba.njit(cache=True, nogil=True)
def walk_trie(
    table: Int32,
    byte_class: UInt8,
    node_byte: UInt8,
    node_depth: Int32,
    ends: Int32,
    first_token: Int32,
    token_ids: Int32,
    path: Int32,
    resume_at: int,
    wanted: UInt8,
    seen: UInt8,
    row: Int32,
) -> int:
    """Set the bit of every token that leads from path[0] to a live, wanted state.

    path       [deepest + 1] int32: state after each byte of the node being visited; path[0] is where tokens start
    resume_at  the node to go on with; 0 at first
    wanted     [1] or [states] uint8: 1 where a token may end; of length 1: everywhere
    seen       [states] uint8: set to 1 for every state in which some token ends; of length 1: not kept
    row        [words] int32: bit i % 32 of word i // 32 is set for token i; never cleared here
    Returns the node whose transition is not in the table yet (the state is path[depth - 1]), or the number of nodes."""
    nodes = len(node_byte)
    all_wanted, keep_seen = len(wanted) == 1, len(seen) > 1
    i = resume_at
    while i < nodes:
        depth = node_depth[i]
        state = table[path[depth - 1], byte_class[node_byte[i]]]
        if state <= 0:
            if state < 0:
                return i
            i = ends[i]
            continue
        path[depth] = state
        begin, end = first_token[i], first_token[i + 1]
        if begin < end:
            if keep_seen:
                seen[state] = 1
            if all_wanted or wanted[state] == 1:
                for k in range(begin, end):
                    token = token_ids[k]
                    row[token >> 5] |= np.int32(1) << np.int32(token & 31)
        i += 1
    return nodes


@numba.njit(cache=True, nogil=True)
def count_bits(row: Int32) -> int:
    """Bits set in a row of int32 words."""
    total = 0
    for word in row:
        bits = np.uint32(word)
        while bits:
            bits &= bits - np.uint32(1)
            total += 1
    return total
