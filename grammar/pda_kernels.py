"""The compiled loops of the pushdown automaton: close, step, walk the vocabulary.  Used by pda.py alone.

A configuration is a set of items (state, frame, text).  A state above 0 is a row of `dfa_next`; below 0 it is a
position in the pool of literals.  A frame is a node to return to on top of another frame, hash-consed, 0 at the
bottom.  A text is what a `distinct` node has written so far, hash-consed byte by byte, 0 outside of such nodes.

Kernels never build anything: where a row or a node's edges are missing they say so (`needed`) and are called again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import rules
from .trie_kernels import Trie

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

ACCEPTING, KNOWN, FINAL = 1, 2, 4  # dfa_flags; FINAL: nothing can follow
LAST, QUIET = 1, 2  # lit_flags
NO_NEED, NEED_ROW, NEED_NODE, NEED_FUEL, NEED_FRAMES, NEED_TEXTS, NEED_SEEN, NEED_ITEMS, NEED_VISITED = range(9)
(FRAMES, TEXTS, SEEN, NEED, NEEDED, LOWEST, STAMP, ACCEPTS, FUEL, FURTHEST, SIZE, DONE, VISITED, KEPT_FRAMES, KEPT_TEXTS, KEPT_SEEN, BITS) = range(17)  # of `counts`
EMPTY_TEXT = 1

END, TERMINAL, LITERAL, SILENT = rules.END, rules.TERMINAL, rules.LITERAL, rules.SILENT
RULE, SCOPE, DISTINCT, DISTINCT_END = rules.RULE, rules.SCOPE, rules.DISTINCT, rules.DISTINCT_END
EMPTY = rules.EMPTY


class Memory(NamedTuple):
    """All that the kernels read and write, of fixed size: untouched pages of it cost nothing.

    dfa_next     [states, 256] int32: next state, 0 for none        dfa_flags  [states] uint8
    dfa_level    [states] int32: plain characters that may follow for sure   dfa_cost [states] int32: bytes to the end
    lit_byte     [positions] uint8      lit_flags  [positions] uint8      lit_left [positions] int32: bytes to the end
    edge_start   [nodes] int32: into edges     edge_count [nodes] int32: their number + 1, 0: not known yet    node_cost [nodes] int32
    edges        [edges, 3] int32: op, state or node, node that follows
    frames       [frames, 4] int32: node to return to, frame below, kind, what it remembers (texts seen; text outside)
    frame_depth, frame_cost  [frames] int32          texts  [texts, 2] int32: text before the last byte, that byte
    seen         [lists, 2] int32: a text, the list before it
    *_table      hash tables of the three, a power of two long; 0: free
    items        [items, 3] int32: a stack of sets, each on top of those it was made from
    work         [items, 3] int32: nodes to close           visited  [size, 4] int32: what a step has met, by its stamp
    counts       int64: how much of the arrays is used, what is needed, results
    """

    dfa_next: Int32
    dfa_flags: UInt8
    dfa_level: Int32
    dfa_cost: Int32
    lit_byte: UInt8
    lit_flags: UInt8
    lit_left: Int32
    edge_start: Int32
    edge_count: Int32
    node_cost: Int32
    edges: Int32
    frames: Int32
    frame_depth: Int32
    frame_cost: Int32
    texts: Int32
    seen: Int32
    frame_table: Int32
    text_table: Int32
    seen_table: Int32
    items: Int32
    work: Int32
    visited: Int32
    counts: Int64

    @property
    def table(self) -> Int64:
        """int64 [2 * arrays]: address and length of each, all that kernels are given: unpacking so many arrays would cost
        more than most calls do.  Good for as long as the arrays are kept."""
        return np.array([part for array in self for part in (array.ctypes.data, len(array))], dtype=np.int64)


def _jit(function: Any) -> Any:
    return numba.njit(cache=True, nogil=True)(function)


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(_context: Any, address: Any) -> Any:
    """An address as a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


def _array(index: int, dtype: Any, width: int) -> Any:
    """A compiled function that finds one array of Memory by the table of addresses (see Memory.table)."""
    if width:

        def find(m: Int64) -> Any:
            return numba.carray(_pointer(m[2 * index]), (m[2 * index + 1], width), dtype)

    else:

        def find(m: Int64) -> Any:
            return numba.carray(_pointer(m[2 * index]), m[2 * index + 1], dtype)

    return numba.njit(find)


_dfa_next = _array(0, np.int32, 256)
_dfa_flags = _array(1, np.uint8, 0)
_dfa_level = _array(2, np.int32, 0)
_dfa_cost = _array(3, np.int32, 0)
_lit_byte = _array(4, np.uint8, 0)
_lit_flags = _array(5, np.uint8, 0)
_lit_left = _array(6, np.int32, 0)
_edge_start = _array(7, np.int32, 0)
_edge_count = _array(8, np.int32, 0)
_node_cost = _array(9, np.int32, 0)
_edges = _array(10, np.int32, 3)
_frames = _array(11, np.int32, 4)
_frame_depth = _array(12, np.int32, 0)
_frame_cost = _array(13, np.int32, 0)
_texts = _array(14, np.int32, 2)
_seen = _array(15, np.int32, 2)
_frame_table = _array(16, np.int32, 0)
_text_table = _array(17, np.int32, 0)
_seen_table = _array(18, np.int32, 0)
_items = _array(19, np.int32, 3)
_work = _array(20, np.int32, 3)
_visited = _array(21, np.int32, 4)
_counts = _array(22, np.int64, 0)


@_jit
def push_frame(m: Int64, node: int, below: int, kind: int, extra: int) -> int:
    """The frame (node, below, kind, extra), made if it is new; -1 if there is no room."""
    mask = len(_frame_table(m)) - 1
    at = (node * 0x9E3779B1 + below * 0x85EBCA77 + kind * 0x27D4EB2F + extra * 0x165667B1) & 0x7FFFFFFFFFFF
    at = (at ^ (at >> 15)) & mask
    while True:
        frame = _frame_table(m)[at]
        if frame == 0:
            break
        f = _frames(m)[frame]
        if f[0] == node and f[1] == below and f[2] == kind and f[3] == extra:
            return frame
        at = (at + 1) & mask
    frame = _counts(m)[FRAMES]
    if frame >= len(_frames(m)):
        _counts(m)[NEED] = NEED_FRAMES
        return -1
    _counts(m)[FRAMES] = frame + 1
    _frames(m)[frame, 0] = node
    _frames(m)[frame, 1] = below
    _frames(m)[frame, 2] = kind
    _frames(m)[frame, 3] = extra
    _frame_depth(m)[frame] = _frame_depth(m)[below] + 1
    _frame_cost(m)[frame] = _frame_cost(m)[below] + _node_cost(m)[node]
    _frame_table(m)[at] = frame
    return int(frame)


@_jit
def pair_of(table: Int32, pairs: Int32, counts: Int64, counter: int, a: int, b: int) -> int:
    """The index of the pair (a, b), made if it is new; -1 if there is no room."""
    mask = len(table) - 1
    at = (a * 0x9E3779B1 + b * 0x85EBCA77) & 0x7FFFFFFFFFFF
    at = (at ^ (at >> 15)) & mask
    while True:
        index = table[at]
        if index == 0:
            break
        if pairs[index, 0] == a and pairs[index, 1] == b:
            return index
        at = (at + 1) & mask
    index = counts[counter]
    if index >= len(pairs):
        counts[NEED] = NEED_TEXTS if counter == TEXTS else NEED_SEEN
        return -1
    counts[counter] = index + 1
    pairs[index, 0] = a
    pairs[index, 1] = b
    table[at] = index
    return int(index)


@_jit
def longer_text(m: Int64, text: int, byte: int) -> int:
    return pair_of(_text_table(m), _texts(m), _counts(m), TEXTS, text, byte)


@_jit
def is_first(m: Int64, a: int, b: int, c: int) -> bool:
    """Whether the step that has the present stamp meets (a, b, c) for the first time; VISITED counts what it met."""
    mask = len(_visited(m)) - 1
    stamp = np.int32(_counts(m)[STAMP])
    at = (a * 0x9E3779B1 + b * 0x85EBCA77 + c * 0x27D4EB2F) & 0x7FFFFFFFFFFF
    at = (at ^ (at >> 15)) & mask
    for _ in range(len(_visited(m))):
        v = _visited(m)[at]
        if v[3] != stamp:
            v[0], v[1], v[2], v[3] = a, b, c, stamp
            _counts(m)[VISITED] += 1
            return True
        if v[0] == a and v[1] == b and v[2] == c:
            return False
        at = (at + 1) & mask
    return False


@_jit
def item_tag(state: int) -> int:
    """A number below 0 for the state of an item, to tell items from nodes in `visited`."""
    return -2 * state if state > 0 else 2 * state - 1


@_jit
def forget_pairs(table: Int32, pairs: Int32, first: int, last: int) -> None:
    """Take pairs first to last - 1 out of their hash table, the youngest first, which leaves it as it was before."""
    mask = len(table) - 1
    for index in range(last - 1, first - 1, -1):
        at = (pairs[index, 0] * 0x9E3779B1 + pairs[index, 1] * 0x85EBCA77) & 0x7FFFFFFFFFFF
        at = (at ^ (at >> 15)) & mask
        while table[at] != index:
            at = (at + 1) & mask
        table[at] = 0


@_jit
def forget(m: Int64, frames: int, texts: int, seen: int) -> None:
    """Drop the frames, texts and lists from these numbers on: a walk of the vocabulary leaves nothing behind."""
    mask = len(_frame_table(m)) - 1
    for frame in range(_counts(m)[FRAMES] - 1, frames - 1, -1):
        f = _frames(m)[frame]
        at = (f[0] * 0x9E3779B1 + f[1] * 0x85EBCA77 + f[2] * 0x27D4EB2F + f[3] * 0x165667B1) & 0x7FFFFFFFFFFF
        at = (at ^ (at >> 15)) & mask
        while _frame_table(m)[at] != frame:
            at = (at + 1) & mask
        _frame_table(m)[at] = 0
    forget_pairs(_text_table(m), _texts(m), texts, _counts(m)[TEXTS])
    forget_pairs(_seen_table(m), _seen(m), seen, _counts(m)[SEEN])
    _counts(m)[FRAMES], _counts(m)[TEXTS], _counts(m)[SEEN] = frames, texts, seen


@_jit
def rehash_frames(m: Int64) -> None:
    """Fill an empty frame_table."""
    count, _counts(m)[FRAMES] = _counts(m)[FRAMES], 1
    for frame in range(1, count):
        f = _frames(m)[frame]
        push_frame(m, f[0], f[1], f[2], f[3])


@_jit
def rehash_pairs(table: Int32, pairs: Int32, counts: Int64, counter: int, first: int) -> None:
    """Fill an empty table of pairs."""
    count, counts[counter] = counts[counter], first
    for index in range(first, count):
        pair_of(table, pairs, counts, counter, pairs[index, 0], pairs[index, 1])


@_jit
def next_stamp(m: Int64) -> None:
    _counts(m)[VISITED] = 0
    _counts(m)[STAMP] += 1
    if _counts(m)[STAMP] >= 2**31 - 1:
        _visited(m)[:] = 0
        _counts(m)[STAMP] = 1


@_jit
def end_distinct(m: Int64, frame: int, text: int) -> int:
    """The frame to go on with when the text of the distinct node of `frame` is complete; -1: it is not new; -2: need.

    Frames between it and its scope are made again on top of the scope that has now seen the text."""
    scope = _frames(m)[frame, 1]
    between = 0
    while _frames(m)[scope, 2] != SCOPE:
        scope = _frames(m)[scope, 1]
        between += 1
    if _frame_depth(m)[scope] < _counts(m)[LOWEST]:
        _counts(m)[LOWEST] = _frame_depth(m)[scope]
    entry = _frames(m)[scope, 3]
    while entry != 0:
        if _seen(m)[entry, 0] == text:
            return -1
        entry = _seen(m)[entry, 1]
    longer = pair_of(_seen_table(m), _seen(m), _counts(m), SEEN, text, _frames(m)[scope, 3])
    if longer < 0:
        return -2
    result = push_frame(m, _frames(m)[scope, 0], _frames(m)[scope, 1], SCOPE, longer)
    for i in range(between - 1, -1, -1):
        if result < 0:
            return -2
        f = _frames(m)[frame, 1]
        for _ in range(i):
            f = _frames(m)[f, 1]
        result = push_frame(m, _frames(m)[f, 0], result, _frames(m)[f, 2], _frames(m)[f, 3])
    return -2 if result < 0 else result


@_jit
def joined_text(m: Int64, outer: int, inner: int) -> int:
    """The text `outer` followed by the bytes of `inner`; -1: no room."""
    length, at = 0, inner
    while at != EMPTY_TEXT:
        length += 1
        at = _texts(m)[at, 0]
    for i in range(length - 1, -1, -1):
        at = inner
        for _ in range(i):
            at = _texts(m)[at, 0]
        outer = longer_text(m, outer, _texts(m)[at, 1])
        if outer < 0:
            return -1
    return outer


@_jit
def close(m: Int64, top: int, pending: int) -> int:
    """Turn the `pending` entries of `work` (node, frame, text; node 0: return to the frame) into items.

    Items are written from `top` on; returns the new top, or -1 where something is needed."""
    while pending > 0:
        pending -= 1
        w = _work(m)[pending]
        node, frame, text = w[0], w[1], w[2]
        if node == 0:
            if _frame_depth(m)[frame] < _counts(m)[LOWEST]:
                _counts(m)[LOWEST] = _frame_depth(m)[frame]
            if frame == 0:
                _counts(m)[ACCEPTS] = 1
                continue
            node = _frames(m)[frame, 0]
            if _frames(m)[frame, 2] != DISTINCT:
                frame = _frames(m)[frame, 1]
        if not is_first(m, node, frame, text):
            continue
        _counts(m)[FUEL] -= 1
        count = _edge_count(m)[node] - 1
        if 2 * (_counts(m)[VISITED] + count + 1) > len(_visited(m)):
            _counts(m)[NEED] = NEED_VISITED
            return -1
        if count < 0:
            _counts(m)[NEED], _counts(m)[NEEDED] = NEED_NODE, node
            return -1
        if _counts(m)[FUEL] < 0:
            _counts(m)[NEED] = NEED_FUEL
            return -1
        if top + count >= len(_items(m)) or pending + 2 * count >= len(_work(m)):
            _counts(m)[NEED] = NEED_ITEMS
            return -1
        first = _edge_start(m)[node]
        for i in range(first, first + count):
            op, target, then = _edges(m)[i, 0], _edges(m)[i, 1], _edges(m)[i, 2]
            if op == END:
                _work(m)[pending, 0], _work(m)[pending, 1], _work(m)[pending, 2] = 0, frame, text
                pending += 1
                continue
            if op == DISTINCT_END:
                after = end_distinct(m, frame, text)
                if after == -2:
                    return -1
                if after >= 0:
                    outer = _frames(m)[frame, 3]
                    if outer != 0:
                        outer = joined_text(m, outer, text)
                        if outer < 0:
                            return -1
                    _work(m)[pending, 0], _work(m)[pending, 1], _work(m)[pending, 2] = then, after, outer
                    pending += 1
                continue
            if op == SCOPE:
                above = push_frame(m, then, frame, SCOPE, 0)
            elif op == DISTINCT:
                above = push_frame(m, then, frame, DISTINCT, text)
            elif then == EMPTY:
                above = frame
            else:
                above = push_frame(m, then, frame, 0, 0)
            if above < 0:
                return -1
            if op == TERMINAL or op == LITERAL or op == SILENT:
                if is_first(m, item_tag(target), above, text):
                    _items(m)[top, 0], _items(m)[top, 1], _items(m)[top, 2] = target, above, text
                    top += 1
                if target > 0 and _dfa_flags(m)[target] & ACCEPTING:
                    _work(m)[pending, 0], _work(m)[pending, 1], _work(m)[pending, 2] = 0, above, text
                    pending += 1
            else:
                inner = EMPTY_TEXT if op == DISTINCT else text
                _work(m)[pending, 0], _work(m)[pending, 1], _work(m)[pending, 2] = target, above, inner
                pending += 1
    return top


@_jit
def step(m: Int64, begin: int, end: int, byte: int) -> int:
    """The set items[begin:end] after one more byte, written from `end` on; returns its end, or -1: something is needed.

    ACCEPTS tells whether the whole text may end there."""
    _counts(m)[ACCEPTS] = 0
    top, pending = end, 0
    several = end - begin > 1
    if 2 * end - begin >= len(_items(m)):
        _counts(m)[NEED] = NEED_ITEMS
        return -1
    if 2 * (end - begin) > len(_visited(m)):
        _counts(m)[NEED] = NEED_VISITED
        return -1
    if several:
        next_stamp(m)
    _counts(m)[FUEL] -= end - begin
    for i in range(begin, end):
        state, frame, text = _items(m)[i, 0], _items(m)[i, 1], _items(m)[i, 2]
        if state < 0:
            if _lit_byte(m)[-state] != byte:
                continue
            flags = _lit_flags(m)[-state]
            target, ends, goes_on = state - 1, flags & LAST != 0, flags & LAST == 0
            quiet = flags & QUIET != 0
        else:
            if _dfa_flags(m)[state] & KNOWN == 0:
                _counts(m)[NEED], _counts(m)[NEEDED] = NEED_ROW, state
                return -1
            target = _dfa_next(m)[state, byte]
            if target == 0:
                continue
            flags = _dfa_flags(m)[target]
            ends, goes_on, quiet = flags & ACCEPTING != 0, flags & FINAL == 0, False
        if text != 0 and not quiet:
            text = longer_text(m, text, byte)
            if text < 0:
                return -1
        if goes_on:
            if not several or is_first(m, item_tag(target), frame, text):
                _items(m)[top, 0], _items(m)[top, 1], _items(m)[top, 2] = target, frame, text
                top += 1
        if ends:
            _work(m)[pending, 0], _work(m)[pending, 1], _work(m)[pending, 2] = 0, frame, text
            pending += 1
    if pending > 0:
        if not several:
            next_stamp(m)
        return int(close(m, top, pending))
    return top


@_jit
def start(m: Int64, node: int) -> int:
    """The set in which a text of `node` begins, written to items[0:result]; -1: something is needed."""
    next_stamp(m)
    _counts(m)[ACCEPTS] = 0
    _work(m)[0, 0], _work(m)[0, 1], _work(m)[0, 2] = node, 0, 0
    return int(close(m, 0, 1))


@_jit
def sort_items(m: Int64, begin: int, end: int) -> None:
    """Put a set in its canonical order."""
    for i in range(begin + 1, end):
        a, b, c = _items(m)[i, 0], _items(m)[i, 1], _items(m)[i, 2]
        j = i - 1
        while j >= begin and (
            _items(m)[j, 0] > a
            or (_items(m)[j, 0] == a and (_items(m)[j, 1] > b or (_items(m)[j, 1] == b and _items(m)[j, 2] > c)))
        ):
            _items(m)[j + 1, 0], _items(m)[j + 1, 1], _items(m)[j + 1, 2] = _items(m)[j, 0], _items(m)[j, 1], _items(m)[j, 2]
            j -= 1
        _items(m)[j + 1, 0], _items(m)[j + 1, 1], _items(m)[j + 1, 2] = a, b, c


@_jit
def advance(m: Int64, size: int, text: UInt8, done: int) -> int:
    """The set items[0:size] after the bytes text[done:], left sorted in items[0:result].

    0: nothing can follow, and ACCEPTS tells whether the text may end there.  -1: something is needed; then SIZE and
    DONE are what to call with again."""
    for i in range(done, len(text)):
        top = step(m, 0, size, text[i])
        if top < 0:
            _counts(m)[SIZE], _counts(m)[DONE] = size, i
            return -1
        new_size = top - size
        for j in range(new_size):
            _items(m)[j, 0], _items(m)[j, 1], _items(m)[j, 2] = _items(m)[size + j, 0], _items(m)[size + j, 1], _items(m)[size + j, 2]
        size = new_size
        if size == 0:
            if i < len(text) - 1:
                _counts(m)[ACCEPTS] = 0
            return 0
    sort_items(m, 0, size)
    return int(size)


@_jit
def set_bits(row: Int32, token_ids: Int32, begin: int, end: int) -> None:
    for k in range(begin, end):
        token = token_ids[k]
        row[token >> 5] |= np.int32(1) << np.int32(token & 31)


@_jit
def highest_level(m: Int64, begin: int, end: int) -> int:
    level = 0
    for i in range(begin, end):
        state = _items(m)[i, 0]
        if state > 0 and _dfa_level(m)[state] > level:
            level = _dfa_level(m)[state]
    return level


@_jit
def cost_of(m: Int64, begin: int, end: int) -> int:
    """Bytes of a shortest completion of a set."""
    cost = 2**31 - 1
    for i in range(begin, end):
        state = _items(m)[i, 0]
        own = _dfa_cost(m)[state] if state > 0 else _lit_left(m)[-state]
        cost = min(cost, own + _frame_cost(m)[_items(m)[i, 1]])
    return cost


@_jit
def find_mask(
    m: Int64, full: Trie, rest: Trie, plain_rows: Int32, row: Int32, level_ends: Int32, size: int, resume_at: int
) -> int:
    """Set the bits of all tokens that may follow the set items[0:size].

    plain_rows  [longest plain token + 1, words] int32: tokens of so many plain characters at most
    level_ends  [deepest + 1] int32: where the set after each byte of the node being visited ends
    resume_at   0 at first
    Returns -1 when done, or the node to resume at, where something is needed.  FURTHEST becomes the greatest number of
    bytes that a shortest completion has after an allowed token, SIZE that before it, LOWEST the depth of the deepest
    frame that was returned to, BITS the number of tokens.  Frames and texts that only the walk needed are forgotten."""
    counts = _counts(m)
    level, longest = highest_level(m, 0, size), len(plain_rows) - 1
    sliced = level >= longest or (level > 0 and size == 1)
    if resume_at == 0:
        counts[LOWEST], counts[FURTHEST], counts[SIZE] = 2**30, 0, cost_of(m, 0, size)
        counts[KEPT_FRAMES], counts[KEPT_TEXTS], counts[KEPT_SEEN] = counts[FRAMES], counts[TEXTS], counts[SEEN]
        level_ends[0] = size
        if sliced:
            row[:] = plain_rows[min(level, longest)]
            counts[FURTHEST] = counts[SIZE]
    trie = rest if sliced else full
    node = walk(m, trie, row, level_ends, resume_at)
    if node < len(trie.node_byte):
        return node
    forget(m, counts[KEPT_FRAMES], counts[KEPT_TEXTS], counts[KEPT_SEEN])
    bits = 0
    for word in row:
        left = np.uint32(word)
        while left:
            left &= left - np.uint32(1)
            bits += 1
    counts[BITS] = bits
    return -1


@_jit
def walk(m: Int64, trie: Trie, row: Int32, level_ends: Int32, resume_at: int) -> int:
    """The loop of find_mask over one trie; returns the node to resume at, or the number of nodes.

    Most bytes move a set without completing anything: that is done right here, the rest by `step`."""
    node_byte, node_depth, ends, first_token = trie.node_byte, trie.node_depth, trie.ends, trie.first_token
    plain, token_ids = trie.plain, trie.token_ids
    items, dfa_next, dfa_flags, dfa_level = _items(m), _dfa_next(m), _dfa_flags(m), _dfa_level(m)
    lit_byte, lit_flags = _lit_byte(m), _lit_flags(m)
    nodes, room = len(node_byte), len(_items(m))
    counts = _counts(m)
    i = resume_at
    while i < nodes:
        depth = node_depth[i]
        byte = node_byte[i]
        begin = level_ends[depth - 2] if depth > 1 else 0
        end = level_ends[depth - 1]
        simple = 2 * end - begin < room
        if plain[i] >= 0:
            level = 0
            for j in range(begin, end):
                state = items[j, 0]
                if state > 0:
                    level = max(level, dfa_level[state])
            if level >= plain[i]:
                after = ends[i]
                set_bits(row, token_ids, first_token[i], first_token[after])
                counts[FURTHEST] = max(counts[FURTHEST], cost_of(m, begin, end))
                i = after
                continue
        top, accepts = end, np.int64(0)
        if simple:
            for j in range(begin, end):
                state = items[j, 0]
                if state < 0:
                    if lit_byte[-state] != byte:
                        continue
                    if lit_flags[-state] & LAST or items[j, 2] != 0:
                        simple = False
                        break
                    items[top, 0] = state - 1
                else:
                    target = dfa_next[state, byte]
                    if target == 0 and dfa_flags[state] & KNOWN:
                        continue
                    if target == 0 or dfa_flags[target] & ACCEPTING or items[j, 2] != 0:
                        simple = False
                        break
                    items[top, 0] = target
                items[top, 1], items[top, 2] = items[j, 1], 0
                top += 1
        if not simple:
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


@_jit
def set_key(m: Int64, begin: int, end: int, accepts: int) -> int:
    """A number for a set: the same for the same set, in whatever order."""
    key = np.uint64(accepts)
    for i in range(begin, end):
        h = np.uint64(_items(m)[i, 0]) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(_items(m)[i, 1]) * np.uint64(
            0xC2B2AE3D27D4EB4F
        )
        h ^= np.uint64(_items(m)[i, 2]) * np.uint64(0x165667B19E3779F9)
        h ^= h >> np.uint64(29)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        h ^= h >> np.uint64(32)
        key += h
    return np.int64(key)


@_jit
def walk_ends(m: Int64, trie: Trie, keys: Int64, level_ends: Int32, resume_at: int) -> int:
    """For every token of the trie, what set it leads to: keys[k] for token token_ids[k]; -1 where it may not follow.

    Otherwise as `walk`, but without its shortcuts."""
    nodes = len(trie.node_byte)
    i = resume_at
    while i < nodes:
        depth = trie.node_depth[i]
        end = level_ends[depth - 1]
        top = step(m, level_ends[depth - 2] if depth > 1 else 0, end, trie.node_byte[i])
        if top < 0:
            return i
        accepts = _counts(m)[ACCEPTS]
        if top == end and accepts == 0:
            i = trie.ends[i]
            continue
        if trie.first_token[i] < trie.first_token[i + 1]:
            key = set_key(m, end, top, accepts)
            for k in range(trie.first_token[i], trie.first_token[i + 1]):
                keys[k] = key if key != -1 else 0
        if top == end:
            i = trie.ends[i]
            continue
        level_ends[depth] = top
        i += 1
    return nodes


@_jit
def only_byte(m: Int64, size: int) -> int:
    """The one byte that may follow the set items[0:size]; -1 if several may; -2: something is needed."""
    found = -1
    for i in range(size):
        state = _items(m)[i, 0]
        if state < 0:
            byte = np.int64(_lit_byte(m)[-state])
            if found >= 0 and found != byte:
                return -1
            found = byte
            continue
        if _dfa_flags(m)[state] & KNOWN == 0:
            _counts(m)[NEED], _counts(m)[NEEDED] = NEED_ROW, state
            return -2
        for byte in range(256):
            if _dfa_next(m)[state, byte] != 0:
                if found >= 0 and found != byte:
                    return -1
                found = byte
    return found


@_jit
def forced(m: Int64, size: int, out: UInt8, done: int) -> int:
    """Bytes that must come after the set items[0:size], written to out[done:]; returns how many there are then.

    -1: something is needed; SIZE and DONE are what to call with again.  Afterwards items[0:SIZE] is the set after
    them."""
    while done < len(out):
        byte = only_byte(m, size)
        if byte == -1:
            break
        if byte >= 0:
            top = step(m, 0, size, byte)
        if byte == -2 or top < 0:
            _counts(m)[SIZE], _counts(m)[DONE] = size, done
            return -1
        out[done] = byte
        done += 1
        new_size = top - size
        for j in range(new_size):
            _items(m)[j, 0], _items(m)[j, 1], _items(m)[j, 2] = _items(m)[size + j, 0], _items(m)[size + j, 1], _items(m)[size + j, 2]
        size = new_size
        if size == 0 or _counts(m)[ACCEPTS] != 0:
            break
    _counts(m)[SIZE] = size
    return done
