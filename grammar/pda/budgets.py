"""Walks that count tokens: how many complete a set at most, which tokens lead to sets that few enough complete.

What is said of a set is the sum of its parts, each spelled by itself: what is left of the terminal, and the nodes of
its frames.  token_budget.py finds these figures when a loop asks for them, and uses this module alone."""

from __future__ import annotations

import numpy as np

from ..jit import jit
from ..rules import DISTINCT, SCOPE
from ..trie_kernels import (
    FULL,
    LONGEST_PLAIN,
    ends_of,
    first_token_of,
    node_byte_of,
    node_depth_of,
    plain_ascii_of,
    plain_of,
    plain_rows_of,
    token_ids_of,
)
from .interning import longer_text
from .memory import (
    ACCEPTING,
    ACCEPTS,
    DONE,
    KEPT_TEXTS,
    KNOWN,
    LOOKED_AT,
    LOOP,
    NEED,
    NEED_BYTE,
    NEED_LITERAL_TOKENS,
    NEED_NODE_TOKENS,
    NEED_ROW,
    NEED_STATE_TOKENS,
    NEEDED,
    NEEDED_BYTE,
    Int32,
    Int64,
    UInt8,
    counts_of,
    dfa_cost_of,
    dfa_flags_of,
    dfa_level_of,
    dfa_next_of,
    dfa_tokens_of,
    dfa_wide_of,
    frame_tokens_of,
    frames_of,
    items_of,
    level_ends_of,
    lit_byte_of,
    lit_flags_of,
    lit_tokens_of,
    node_tokens_of,
    seen_of,
)
from .steps import step
from .walks import CUT_SHORT, set_bits

MANY = 1 << 28  # more tokens than any budget
APART = 4  # tokens by which a text is longer that must not be one of some others: said of each, checked later


@jit("int64(int64[::1], int64)")
def frame_tokens(m: Int64, frame: int) -> int:
    """Tokens that the nodes of a frame and those below it take, at most; -1: something is needed."""
    if frame == 0:
        return 0
    known = frame_tokens_of(m)
    if known[frame] > 0:
        return int(known[frame]) - 1
    at, total = frame, 0
    while at != 0 and known[at] == 0:
        node = frames_of(m)[at, 0]
        if node_tokens_of(m)[node] == 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_NODE_TOKENS, node
            return -1
        total += node_tokens_of(m)[node] - 1
        if frames_of(m)[at, 2] == DISTINCT and frames_of(m)[at, 3] != 0:
            total += APART
        at = frames_of(m)[at, 1]
    if at != 0:
        total += known[at] - 1
    result = min(total, MANY)
    at = frame
    while at != 0 and known[at] == 0:
        known[at] = min(total, MANY) + 1
        total -= node_tokens_of(m)[frames_of(m)[at, 0]] - 1
        if frames_of(m)[at, 2] == DISTINCT and frames_of(m)[at, 3] != 0:
            total -= APART
        at = frames_of(m)[at, 1]
    return int(result)


@jit("boolean(int64[::1], int64, int64)")
def is_new(m: Int64, frame: int, text: int) -> bool:
    """Whether the text of a `distinct` node is surely no beginning of one that its scope has seen.

    Of a text and its beginning, the beginning was made first."""
    while frames_of(m)[frame, 2] != SCOPE:
        frame = frames_of(m)[frame, 1]
    entry = frames_of(m)[frame, 3]
    while entry != 0:
        if seen_of(m)[entry, 0] >= text:
            return False
        entry = seen_of(m)[entry, 1]
    return True


@jit("int64(int64[::1], int64, int64)")
def rest_tokens(m: Int64, frame: int, text: int) -> int:
    """Tokens that the frames of an item take at most, and more where its own text may not be one of some others."""
    rest = frame_tokens(m, frame)
    if rest >= 0 and text != 0 and not is_new(m, frame, text):
        rest += APART
    return int(rest)


@jit("int64(int64[::1], int64, int64, int64, int64)")
def tokens_of(m: Int64, begin: int, end: int, enough: int, spells: int) -> int:
    """Tokens that complete the set items[begin:end], at most; not looked at closely once they are `enough`.

    spells: every byte is a token.   -1: something is needed"""
    best = np.int64(MANY)
    for i in range(begin, end):
        state = items_of(m)[i, 0]
        rest = rest_tokens(m, items_of(m)[i, 1], items_of(m)[i, 2])
        if rest < 0:
            return -1
        if state < 0:
            own = lit_tokens_of(m)[-state]
            if own == 0:
                counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_LITERAL_TOKENS, -state
                return -1
            own -= 1
        else:
            own = dfa_cost_of(m)[state]
            if not spells or (own > 1 and own + rest > enough):
                own = dfa_tokens_of(m)[state]
                if own == 0:
                    counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_STATE_TOKENS, state
                    return -1
                own -= 1
        best = min(best, own + rest)
        if best <= enough:
            break
    return int(best)


@jit("int64(int64[::1], int64, int64, int64, int64)")
def wide_tokens(m: Int64, begin: int, end: int, level: int, lacking: int) -> int:
    """Tokens that complete a set after up to `level` plain characters, at most; MANY if it does not admit them all.

    lacking: bytes of the last character that may be yet to come     -1: something is needed"""
    best = np.int64(MANY)
    for i in range(begin, end):
        state = items_of(m)[i, 0]
        if state > 0 and dfa_level_of(m)[state] >= level:
            rest = frame_tokens(m, items_of(m)[i, 1])
            if rest < 0:
                return -1
            text = items_of(m)[i, 2]
            if text != 0 and not is_new(m, items_of(m)[i, 1], text):
                rest += APART
            best = min(best, dfa_wide_of(m)[state] + lacking + rest)
    return int(best)


@jit("boolean(int64[::1], int64, int64)")
def is_loop(m: Int64, begin: int, end: int) -> bool:
    """Whether plain ASCII characters lead a set of one item back to itself, but for its text."""
    if end - begin != 1:
        return False
    state = items_of(m)[begin, 0]
    if state <= 0:
        return False
    flags = dfa_flags_of(m)
    if flags[state] & LOOKED_AT == 0 and flags[state] & KNOWN:
        flags[state] |= LOOKED_AT | LOOP
        for byte in range(0x20, 0x7F):
            if byte != 0x22 and byte != 0x5C and dfa_next_of(m)[state, byte] != state:
                flags[state] &= ~np.uint8(LOOP)
    return bool(flags[state] & LOOP)


@jit("int64(int64[:, ::1], int64, int64)")
def group_of(groups: Int64, used: int, key: int) -> int:
    """Where a set with this key belongs in the hash table `groups` [size, 2] (key, number or 0); -1: full."""
    mask = len(groups) - 1
    at = (key ^ (key >> 17)) & mask
    while groups[at, 1] != 0 and groups[at, 0] != key:
        at = (at + 1) & mask
    if groups[at, 1] == 0 and 2 * used >= len(groups):
        return -1
    return int(at)


@jit("int64(int64[::1], int64[:, ::1], int32[:, ::1], int64, int64, int64)")
def number_of(m: Int64, groups: Int64, found: Int32, key: int, token: int, needed: int) -> int:
    """The number of a set that a token leads to, a new one if it is new; 0 if there are too many."""
    counts = counts_of(m)
    at = group_of(groups, counts[DONE], key)
    if at < 0:
        return 0
    if groups[at, 1] == 0:
        groups[at, 0], groups[at, 1] = key, counts[DONE]
        found[counts[DONE], 0], found[counts[DONE], 1] = token, needed
        counts[DONE] += 1
    return int(groups[at, 1])


@jit("int64(int64[::1], int64, int64, int64)")
def moved(m: Int64, begin: int, end: int, byte: int) -> int:
    """As `step`, for sets in which nothing is completed; -1 for others, and where something is needed."""
    items, dfa_next, dfa_flags = items_of(m), dfa_next_of(m), dfa_flags_of(m)
    if 2 * end - begin >= len(items):
        return -1
    top = end
    for j in range(begin, end):
        state = items[j, 0]
        if state < 0:
            if lit_byte_of(m)[-state] != byte:
                continue
            if lit_flags_of(m)[-state]:
                return -1
            items[top, 0] = state - 1
        else:
            target = dfa_next[state, byte]
            if target == 0 and dfa_flags[state] & KNOWN:
                continue
            if target <= 0 or dfa_flags[target] & ACCEPTING:
                return -1
            items[top, 0] = target
        text = items[j, 2]
        if text != 0:
            text = longer_text(m, text, byte)
            if text < 0:
                return -1
        items[top, 1], items[top, 2] = items[j, 1], text
        top += 1
    return top


@jit("int64(int64[::1], int64, int64, int64)")
def set_key(m: Int64, begin: int, end: int, accepts: int) -> int:
    """A number for a set: the same for the same set, in whatever order."""
    key = np.uint64(accepts)
    for i in range(begin, end):
        h = np.uint64(items_of(m)[i, 0]) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(items_of(m)[i, 1]) * np.uint64(
            0xC2B2AE3D27D4EB4F
        )
        h ^= np.uint64(items_of(m)[i, 2]) * np.uint64(0x165667B19E3779F9)
        h ^= h >> np.uint64(29)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(32)
        key += h
    return int(np.int64(key))


@jit("int64(int64[::1], int64[::1], int64, int64, int64, int32[::1], int32[::1], int64[:, ::1], int32[:, ::1], int64)")
def walk_within(
    m: Int64,
    tries: Int64,
    which: int,
    limit: int,
    reach: int,
    row: Int32,
    of_token: Int32,
    groups: Int64,
    found: Int32,
    resume_at: int,
) -> int:
    """Set the bits of the tokens of a trie after which at most `limit` tokens complete the set items[0:level_ends[0]].

    Tokens after which it takes more, up to `reach`, are told apart by the set they lead to.
    of_token  [tokens] int32, zeros at first: a number from 1 on, the same for the same set; 0 for other tokens
    found     [most groups, 2] int32: one k of each number, how many tokens it takes
    groups    see group_of; DONE counts the numbers used, 1 at first; KEPT_TEXTS: 1 if every byte is a token
    Returns the node to resume at where something is needed, or the number of nodes."""
    counts, level_ends = counts_of(m), level_ends_of(m)
    node_byte, node_depth, ends = node_byte_of(tries, which), node_depth_of(tries, which), ends_of(tries, which)
    first_token, token_ids = first_token_of(tries, which), token_ids_of(tries, which)
    plain, plain_ascii = plain_of(tries, which), plain_ascii_of(tries, which)
    nodes, spells = len(node_byte), counts[KEPT_TEXTS]
    i = resume_at
    while i < nodes:
        depth = node_depth[i]
        begin, end = level_ends[depth - 2] if depth > 1 else 0, level_ends[depth - 1]
        if plain[i] >= 0 and limit >= 0:
            after = ends[i]
            wide = wide_tokens(m, begin, end, plain[i], 0 if plain_ascii[i] else CUT_SHORT)
            if wide < 0:
                return i
            if wide <= limit:
                set_bits(row, token_ids, first_token[i], first_token[after])
                i = after
                continue
            if plain_ascii[i] and is_loop(m, begin, end):
                needed = tokens_of(m, begin, end, limit, spells)
                if needed < 0:
                    return i
                text = items_of(m)[begin, 2]
                if needed <= limit and text == 0:
                    set_bits(row, token_ids, first_token[i], first_token[after])
                elif needed <= reach and text == 0:
                    number = number_of(m, groups, found, set_key(m, begin, end, 0), first_token[i], needed)
                    of_token[first_token[i] : first_token[after]] = number
                if text != 0 and not is_new(m, items_of(m)[begin, 1], text):
                    needed -= APART  # most texts on from here are new
                if text == 0 or needed > limit:
                    i = after
                    continue
        accepts = np.int64(0)
        top = moved(m, begin, end, node_byte[i])
        if top < 0:
            top = step(m, begin, end, node_byte[i])
            if top < 0:
                return i
            accepts = counts[ACCEPTS]
        if top == end and accepts == 0:
            i = ends[i]
            continue
        first, last = first_token[i], first_token[i + 1]
        if first < last:
            needed = np.int64(0)
            if accepts == 0:
                needed = tokens_of(m, end, top, limit, spells)
                if needed < 0:
                    return i
            if needed <= limit:
                set_bits(row, token_ids, first, last)
            elif needed <= reach:
                number = number_of(m, groups, found, set_key(m, end, top, accepts), first, needed)
                of_token[first:last] = number
        if top == end:
            i = ends[i]
            continue
        level_ends[depth] = top
        i += 1
    return nodes


@jit("int64(int64[::1], int64[::1], int64, int32[::1], int64)")
def all_plain(m: Int64, tries: Int64, size: int, row: Int32, limit: int) -> int:
    """1, and the bits of plain tokens set, if at most `limit` complete the set items[0:size] after any of them; else 0.

    -1: something is needed"""
    longest = tries[LONGEST_PLAIN]
    wide = wide_tokens(m, 0, size, longest, CUT_SHORT)
    if wide < 0:
        return -1
    if wide > limit or longest == 0:
        return 0
    rows, words = plain_rows_of(tries, 0), len(row)
    row[:] = rows[longest * words : (longest + 1) * words]
    return 1


@jit("int64(int64[::1], int64[::1], int64, int32[::1], int32[:, ::1], int64[::1])")
def next_states(m: Int64, tries: Int64, state: int, mark: Int32, found: Int32, at: Int64) -> int:
    """Where one token takes a state of a terminal: written to found[0:at[1]] as (state, a token's index).

    mark  [states] int32, zeros at first     at  int64 [2]: node to resume at, number found; zeros at first
    Returns -1 where something is needed, else 0."""
    node_byte, node_depth, ends = node_byte_of(tries, FULL), node_depth_of(tries, FULL), ends_of(tries, FULL)
    first_token, stack = first_token_of(tries, FULL), found[len(found) - 512 :, 0]
    plain_ascii = plain_ascii_of(tries, FULL)
    stack[0] = state
    i = at[0]
    while i < len(node_byte):
        depth = node_depth[i]
        if depth >= 511:
            i = ends[i]
            continue
        before = stack[depth - 1]
        if dfa_flags_of(m)[before] & KNOWN == 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_ROW, before
            at[0] = i
            return -1
        if plain_ascii[i] and dfa_flags_of(m)[before] & LOOP:
            i = ends[i]
            continue
        target = dfa_next_of(m)[before, node_byte[i]]
        if target < 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_BYTE, before
            counts_of(m)[NEEDED_BYTE] = node_byte[i]
            at[0] = i
            return -1
        if target == 0 or target >= len(mark):
            i = ends[i]
            continue
        if first_token[i] < first_token[i + 1] and mark[target] == 0 and at[1] < len(found) - 512:
            mark[target] = 1
            found[at[1], 0], found[at[1], 1] = target, first_token[i]
            at[1] += 1
        stack[depth] = target
        i += 1
    at[0] = i
    return 0


@jit("void(int64[::1], uint8[::1], int32[:, ::1])")
def spell(tries: Int64, text: UInt8, spelled: Int32) -> None:
    """spelled[i]: the fewest tokens that spell text[i:], and the index of the first of them.   [len(text) + 1, 2] int32

    MANY where it cannot be spelled."""
    node_byte, ends = node_byte_of(tries, FULL), ends_of(tries, FULL)
    first_token = first_token_of(tries, FULL)
    size = len(text)
    roots = np.full(256, len(node_byte), dtype=np.int32)
    root = 0
    while root < len(node_byte):
        roots[node_byte[root]] = root
        root = ends[root]
    spelled[size, 0], spelled[size, 1] = 0, -1
    for i in range(size - 1, -1, -1):
        best, token = np.int64(MANY), np.int64(-1)
        at, end, j = np.int64(roots[text[i]]), len(node_byte), i
        while j < size:
            while at < end and node_byte[at] != text[j]:
                at = ends[at]
            if at >= end:
                break
            j += 1
            if first_token[at] < first_token[at + 1] and spelled[j, 0] + 1 <= best and spelled[j, 0] < MANY:
                best, token = spelled[j, 0] + 1, first_token[at]
            end = ends[at]
            at += 1
        spelled[i, 0], spelled[i, 1] = best, token
