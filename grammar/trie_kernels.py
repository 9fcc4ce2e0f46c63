"""The compiled loops of this package.  Imported on the first use of a Vocabulary's trie, never by `import forktree`.

numba keeps them in its cache on disk; `forktree.grammar.warmup()` fills that cache before the first request."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba.core import cgutils, types
from numba.extending import intrinsic

from .jit import jit

Int16 = npt.NDArray[np.int16]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]


class Trie(NamedTuple):
    """Tokens as a trie: in depth-first order, the root left out (see build_trie, subtree_ends, plain_suffixes)."""

    node_byte: UInt8
    node_depth: Int32
    ends: Int32
    first_token: Int32
    token_ids: Int32
    plain: Int32
    plain_ascii: UInt8


FULL, REST, PLAIN_ROWS = 0, 7, 14  # arrays of vocabulary.Tries.table
LONGEST_PLAIN = 30  # where it says how many characters the longest plain token has


@intrinsic
def pointer(_context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


def _array(index: int, dtype: Any) -> Any:
    """A compiled function that finds an array of a trie (FULL or REST) by the table of addresses (see Tries.table)."""

    def find(tries: Int64, which: int) -> Any:
        at = 2 * (which + index)
        return numba.carray(pointer(tries[at]), tries[at + 1], dtype)

    return numba.njit(find)


node_byte_of = _array(0, np.uint8)
node_depth_of = _array(1, np.int32)
ends_of = _array(2, np.int32)
first_token_of = _array(3, np.int32)
token_ids_of = _array(4, np.int32)
plain_of = _array(5, np.int32)
plain_ascii_of = _array(6, np.uint8)
plain_rows_of = _array(PLAIN_ROWS, np.int32)


@jit("int64(uint8[::1], int32[::1], uint8[::1], int32[::1], int32[::1])")
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


@jit("void(int32[::1], int32[::1], int64)")
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


@jit("uint8[::1](uint8[::1], int32[::1], int32[::1], int32[::1], int32[::1])")
def ascii_suffixes(text: UInt8, starts: Int32, node_depth: Int32, first_token: Int32, ends: Int32) -> UInt8:
    """[nodes] uint8: 1 if all that tokens at or below a node have from that node's byte on is plain ASCII."""
    result = np.ones(len(ends), dtype=np.uint8)
    for i in range(len(ends)):
        for t in range(first_token[i], first_token[ends[i]]):
            for p in range(starts[t] + node_depth[i] - 1, starts[t + 1]):
                b = text[p]
                if b < 0x20 or b == 0x22 or b == 0x5C or b >= 0x7F:
                    result[i] = 0
                    break
            if not result[i]:
                break
    return result


@jit("int16[::1](uint8[::1], int32[::1])")
def _plain_counts(text: UInt8, starts: Int32) -> Int16:
    """At [starts[t] + t + p]: characters of token t from its byte p on, -1 if that is not plain."""
    counts = np.full(len(text) + len(starts), -1, dtype=np.int16)
    for t in range(len(starts) - 1):
        begin, end = starts[t], starts[t + 1]
        length = end - begin
        counts[begin + t + length] = 0
        for p in range(length - 1, -1, -1):
            b = text[begin + p]
            if b < 0x80:
                size = 1 if b >= 0x20 and b != 0x22 and b != 0x5C and b != 0x7F else 0
            elif 0xC2 <= b < 0xE0:
                size = 2
            elif 0xE0 <= b < 0xF0:
                size = 3
            elif 0xF0 <= b < 0xF5:
                size = 4
            else:
                size = 0
            if size == 0:
                continue
            good = True
            for j in range(1, min(size, length - p)):
                c = text[begin + p + j]
                low, high = 0x80, 0xBF
                if j == 1:
                    if b == 0xE0:
                        low = 0xA0
                    elif b == 0xED:
                        high = 0x9F
                    elif b == 0xF0:
                        low = 0x90
                    elif b == 0xF4:
                        high = 0x8F
                good = good and low <= c <= high
            if b == 0xE2 and length - p > 2 and text[begin + p + 1] == 0x80 and 0xA8 <= text[begin + p + 2] <= 0xA9:
                good = False  # a line separator
            rest = counts[begin + t + min(length, p + size)]
            if good and rest >= 0:
                counts[begin + t + p] = rest + 1
    return counts


@jit("void(uint8[::1], int32[::1], int32[::1], int32[::1], int32[::1], int32[::1])")
def plain_suffixes(
    text: UInt8, starts: Int32, node_depth: Int32, first_token: Int32, ends: Int32, plain: Int32
) -> None:
    """plain[i]: the most characters that tokens at or below node i still have from that node's byte on, -1 unless all
    of them are plain (see plain_levels.py), of which the last character may be cut short.

    text, starts  tokens in the trie's order, one after the other; [num_tokens + 1] int32
    """
    counts = _plain_counts(text, starts)
    for i in range(len(plain)):
        most = 0
        for t in range(first_token[i], first_token[ends[i]]):
            rest = counts[starts[t] + t + node_depth[i] - 1]
            if rest < 0:
                most = -1
                break
            most = max(most, rest)
        plain[i] = most


@jit("int32[::1](uint8[::1], int32[::1])")
def plain_lengths(text: UInt8, starts: Int32) -> Int32:
    """[num_tokens] int32: characters of each token, -1 if it is not plain."""
    counts = _plain_counts(text, starts)
    result = np.empty(len(starts) - 1, dtype=np.int32)
    for t in range(len(result)):
        result[t] = counts[starts[t] + t]
    return result


@jit(
    types.int64(
        types.Array(types.uint8, 1, "C", readonly=True),
        types.uint8[::1],
        types.int32[::1],
        types.int32[::1],
        types.int32[::1],
    )
)
def fewest_tokens(text: UInt8, node_byte: UInt8, ends: Int32, first_token: Int32, needed: Int32) -> int:
    """How many tokens spell `text` at least; `many` if none do.

    needed  [len(text) + 1] int32, filled with `many`: what each beginning of the text takes; written"""
    roots = np.full(256, -1, dtype=np.int32)
    node = 0
    while node < len(node_byte):
        roots[node_byte[node]] = node
        node = ends[node]
    many = needed[0]
    needed[0] = 0
    for i in range(len(text)):
        if needed[i] == many:
            continue
        at, node = i, roots[text[i]]
        while node >= 0:
            at += 1
            if first_token[node + 1] > first_token[node] and needed[i] + 1 < needed[at]:
                needed[at] = needed[i] + 1
            child, end, node = node + 1, ends[node], -1
            if at < len(text):
                while child < end:
                    if node_byte[child] == text[at]:
                        node = child
                        break
                    child = ends[child]
    return int(needed[len(text)])
