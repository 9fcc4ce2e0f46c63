"""The vocabulary's trie walked from a configuration: which tokens may follow, and where they lead.

Used by token_mask.py."""

from __future__ import annotations

import numpy as np

from ..jit import jit
from ..trie_kernels import (
    FULL,
    LONGEST_PLAIN,
    REST,
    ends_of,
    first_token_of,
    node_byte_of,
    node_depth_of,
    plain_of,
    plain_rows_of,
    token_ids_of,
)
from .interning import forget, longer_text
from .memory import (
    ACCEPTING,
    ACCEPTS,
    CLOSED,
    FINAL,
    FRAMES,
    FUEL,
    FURTHEST,
    KEPT_FRAMES,
    KEPT_SEEN,
    KEPT_TEXTS,
    KNOWN,
    LAST,
    LOWEST,
    NEED,
    NEED_FUEL,
    NEED_ROW,
    NEEDED,
    PASS,
    QUIET,
    SEEN,
    SIZE,
    TEXTS,
    WALK,
    Int32,
    Int64,
    closed_first_of,
    closed_of,
    counts_of,
    dfa_flags_of,
    dfa_level_of,
    dfa_next_of,
    dfa_whole_of,
    dfa_wide_of,
    first_bytes_of,
    frame_cost_of,
    items_of,
    level_ends_of,
    lit_byte_of,
    lit_flags_of,
)
from .returns import expand, find_closed
from .steps import CHEAP, cost_of, step

MANY = 8  # items of a set, from which on to move them counts as work
CUT_SHORT = 3  # bytes that the last character of a plain token may lack


@jit("void(int32[::1], int32[::1], int64, int64)")
def set_bits(row: Int32, token_ids: Int32, begin: int, end: int) -> None:
    for k in range(begin, end):
        token = token_ids[k]
        row[token >> 5] |= np.int32(1) << np.int32(token & 31)


@jit("int64(int64[::1], int64, int64)")
def highest_level(m: Int64, begin: int, end: int) -> int:
    level = 0
    for i in range(begin, end):
        state = items_of(m)[i, 0]
        if state > 0 and dfa_level_of(m)[state] > level:
            level = dfa_level_of(m)[state]
    return level


@jit("int64(int64[::1], int64, int64, int64)")
def wide_cost(m: Int64, begin: int, end: int, level: int) -> int:
    """Bytes to the end at most, after up to `level` plain characters that an item of a set admits whichever they are.

    Not those of the whole set before: these may be of an item that does not admit them."""
    cost = 2**31 - 1
    for i in range(begin, end):
        state = items_of(m)[i, 0]
        if state <= 0:
            continue
        whole = dfa_whole_of(m)[state]
        if whole and dfa_level_of(m)[whole] >= level:
            cost = min(cost, dfa_wide_of(m)[whole] + frame_cost_of(m)[items_of(m)[i, 1]])
        if dfa_level_of(m)[state] >= level:
            cost = min(cost, dfa_wide_of(m)[state] + frame_cost_of(m)[items_of(m)[i, 1]])
    return cost


@jit("int64(int64[::1], int64[::1], int64, int64, int32[::1], int64)")
def walk(m: Int64, tries: Int64, which: int, firsts: int, row: Int32, resume_at: int) -> int:
    """The loop of find_mask over one trie; returns the node to resume at, or the number of nodes.

    firsts: only tokens that begin with a byte whose entry of `first_bytes` is this; -1: all tokens
    Most bytes move a set without completing anything: that is done right here, the rest by `step`."""
    node_byte, node_depth, ends = node_byte_of(tries, which), node_depth_of(tries, which), ends_of(tries, which)
    first_token, token_ids, plain = (
        first_token_of(tries, which),
        token_ids_of(tries, which),
        plain_of(tries, which),
    )
    items, dfa_next, dfa_flags, dfa_level = items_of(m), dfa_next_of(m), dfa_flags_of(m), dfa_level_of(m)
    lit_byte, lit_flags, level_ends, counts = lit_byte_of(m), lit_flags_of(m), level_ends_of(m), counts_of(m)
    closed, closed_first = closed_of(m), closed_first_of(m)
    nodes, room, first_bytes = len(node_byte), len(items), first_bytes_of(m)
    i = resume_at
    while i < nodes:
        depth = node_depth[i]
        byte = node_byte[i]
        if firsts >= 0 and depth == 1 and first_bytes[byte] != firsts:
            i = ends[i]
            continue
        begin = level_ends[depth - 2] if depth > 1 else 0
        end = level_ends[depth - 1]
        if end - begin > MANY:
            counts[FUEL] -= (end - begin) >> CHEAP
            if counts[FUEL] < 0:
                counts[NEED] = NEED_FUEL
                return i
        simple = end + 2 * (end - begin) < room
        top, accepts, level = end, np.int64(0), 0
        stands_for_more, is_last = False, False
        for j in range(begin, end):
            state = items[j, 0]
            if state == 0:
                stands_for_more = True
                if closed_first[items[j, 1], byte >> 3] >> (byte & 7) & 1:
                    simple = False
                continue
            if state < 0:
                if lit_byte[-state] != byte:
                    continue
                if not simple or lit_flags[-state] & QUIET:  # a byte that is not recorded
                    simple = False
                    continue
                is_last = lit_flags[-state] & LAST != 0
                goes_on = not is_last
                items[top, 0] = state - 1
            else:
                target = dfa_next[state, byte]
                if target == 0 and dfa_flags[state] & KNOWN:
                    continue
                level = max(level, dfa_level[state])
                if not simple or target <= 0:
                    simple = False
                    continue
                flags = dfa_flags[target]
                is_last, goes_on = flags & ACCEPTING != 0, flags & FINAL == 0
                items[top, 0] = target
            text, frame = items[j, 2], items[j, 1]
            if text != 0:
                text = longer_text(m, text, byte)
                if text < 0 or is_last:
                    simple = False
                    continue
            if goes_on:
                items[top, 1], items[top, 2] = frame, text
                top += 1
            if is_last:
                if frame == 0:
                    accepts, counts[LOWEST] = np.int64(1), 0  # the whole text may end
                    continue
                found = find_closed(m, frame, top)
                if found < 0:
                    return i
                if found == 0:
                    simple = False
                    continue
                if closed[frame, 3]:
                    accepts = np.int64(1)
                if closed[frame, 2]:
                    items[top, 0], items[top, 1], items[top, 2] = 0, frame, 0
                    top += 1
        if level > 0 and plain[i] >= 0 and level >= plain[i]:
            after = ends[i]
            set_bits(row, token_ids, first_token[i], first_token[after])
            counts[FURTHEST] = max(counts[FURTHEST], wide_cost(m, begin, end, plain[i]) + CUT_SHORT)
            i = after
            continue
        if not simple:
            if stands_for_more:
                whole = expand(m, begin, end)
                if whole < 0:
                    return i
                top = step(m, end, whole, byte)
                if top < 0:
                    return i
                for j in range(whole, top):
                    for k in range(3):
                        items[end + j - whole, k] = items[j, k]
                top -= whole - end
            else:
                top = step(m, begin, end, byte)
            if top < 0:
                return i
            accepts = counts[ACCEPTS]
        if top == end and accepts == 0:
            i = ends[i]
            continue
        first, last = first_token[i], first_token[i + 1]
        if first < last:
            set_bits(row, token_ids, first, last)
            if accepts == 0:
                counts[FURTHEST] = max(counts[FURTHEST], cost_of(m, end, top))
        if top == end:
            i = ends[i]
            continue
        level_ends[depth] = top
        i += 1
    return nodes


@jit("int64(int64[::1], int64, int64)")
def plain_but_for(m: Int64, size: int, longest: int) -> int:
    """Whether an item of items[0:size] admits all plain text but for some first bytes; these are then 1 in
    `first_bytes`, others 0.  -1: something is needed."""
    first_bytes = first_bytes_of(m)
    for i in range(size):
        state = items_of(m)[i, 0]
        if state < 0:
            continue
        if dfa_flags_of(m)[state] & KNOWN == 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_ROW, state
            return -1
        whole = dfa_whole_of(m)[state]
        if whole and dfa_level_of(m)[whole] >= longest:
            for byte in range(256):
                first_bytes[byte] = dfa_next_of(m)[state, byte] != dfa_next_of(m)[whole, byte]
            return 1
    return 0


@jit("void(int64[::1], int64[::1], int32[::1])")
def clear_first_bytes(m: Int64, tries: Int64, row: Int32) -> None:
    """Clear the bits of all tokens that begin with one of `first_bytes`."""
    node_byte, ends = node_byte_of(tries, FULL), ends_of(tries, FULL)
    first_token, token_ids = first_token_of(tries, FULL), token_ids_of(tries, FULL)
    i = 0
    while i < len(node_byte):
        if first_bytes_of(m)[node_byte[i]]:
            for k in range(first_token[i], first_token[ends[i]]):
                token = token_ids[k]
                row[token >> 5] &= ~(np.int32(1) << np.int32(token & 31))
        i = ends[i]


@jit("int64(int64[::1], int64[::1], int32[::1], int64, int64)")
def find_mask(m: Int64, tries: Int64, row: Int32, size: int, resume_at: int) -> int:
    """Set the bits of all tokens that may follow the set items[0:size].

    tries      see vocabulary.Tries.table          row  int32 [words], zeros at first
    resume_at  0 at first, then what the last call returned
    Returns -1 when done, or a number to resume with, where something is needed.  FURTHEST becomes the greatest number
    of bytes that a shortest completion has after an allowed token, SIZE that before it, LOWEST the depth of the deepest
    frame that was returned to.  Frames and texts that only the walk needed are forgotten.

    Plain tokens are not walked where an item admits them all, or all but those that begin with certain bytes."""
    counts = counts_of(m)
    level, longest = highest_level(m, 0, size), tries[LONGEST_PLAIN]
    if resume_at == 0:
        sliced = level >= longest or (level > 0 and size == 1)
        but_for = 0 if sliced else plain_but_for(m, size, longest)
        if but_for < 0:
            return 0
        counts[LOWEST], counts[FURTHEST], counts[SIZE] = 2**30, 0, cost_of(m, 0, size)
        counts[KEPT_FRAMES], counts[KEPT_TEXTS], counts[KEPT_SEEN] = counts[FRAMES], counts[TEXTS], counts[SEEN]
        level_ends_of(m)[0] = size
        counts[WALK] += 1
        counts[CLOSED] = 0
        counts[PASS] = 2 if sliced else 1 if but_for else 0
        if sliced or but_for:
            rows, words = plain_rows_of(tries, 0), len(row)
            first = (min(level, longest) if sliced else longest) * words
            row[:] = rows[first : first + words]
            needed = min(level, longest) if sliced else longest
            counts[FURTHEST] = wide_cost(m, 0, size, needed) + CUT_SHORT
        if but_for:
            clear_first_bytes(m, tries, row)
        resume_at = 1
    while True:
        which, firsts = FULL, -1
        if counts[PASS] == 1:
            firsts = 1
        elif counts[PASS] == 2:
            which = REST
        elif counts[PASS] == 3:
            which, firsts = REST, 0
        node = walk(m, tries, which, firsts, row, resume_at - 1)
        if node < len(node_byte_of(tries, which)):
            return int(node) + 1
        if counts[PASS] != 1:
            break
        counts[PASS], resume_at = 3, 1
    forget(m, counts[KEPT_FRAMES], counts[KEPT_TEXTS], counts[KEPT_SEEN])
    return -1
