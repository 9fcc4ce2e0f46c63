"""The arrays of the pushdown automaton, and how compiled loops reach them.

A configuration is a set of items (state, frame, text).  A state above 0 is a row of `dfa_next`; below 0 it is a
position in the pool of literals.  A frame is a node to return to on top of another frame, hash-consed, 0 at the
bottom.  A text is what a `distinct` node has written so far, hash-consed byte by byte, 0 outside of such nodes.

Used inside of this package alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ..trie_kernels import pointer

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]

ACCEPTING, KNOWN, FINAL = 1, 2, 4  # dfa_flags; FINAL: nothing can follow
LOOKED_AT, LOOP = 8, 16  # dfa_flags of budgets.py; LOOP: plain ASCII characters lead back to this state
LAST, QUIET = 1, 2  # lit_flags
NEED_ROW, NEED_NODE, NEED_FUEL, NEED_FRAMES, NEED_TEXTS, NEED_SEEN, NEED_ITEMS, NEED_VISITED, NEED_BYTE = range(9)
NEED_STATE_TOKENS, NEED_LITERAL_TOKENS, NEED_NODE_TOKENS = range(9, 12)  # of budgets.py alone
(
    FRAMES,
    TEXTS,
    SEEN,
    NEED,
    NEEDED,
    LOWEST,
    STAMP,
    ACCEPTS,
    FUEL,
    FURTHEST,
    SIZE,
    DONE,
    VISITED,
    KEPT_FRAMES,
    KEPT_TEXTS,
    KEPT_SEEN,
    NEEDED_BYTE,
    PASS,
    KEY,
    SECOND_KEY,
    ONE_STACK,
    TAKEN,
    WALK,
    CLOSED,
) = range(24)  # of `counts`
EMPTY_TEXT = 1
BY_FRAME = ("frames", "frame_depth", "frame_cost", "frame_tokens", "closed", "closed_first")
BY_STATE = (
    "dfa_next", "dfa_flags", "dfa_level", "dfa_whole", "dfa_clamp", "dfa_taken", "dfa_cost", "dfa_wide", "dfa_tokens"
)  # fmt: skip


class Memory(NamedTuple):
    """All that the kernels read and write, of fixed size: untouched pages of it cost nothing.

    dfa_next     [states, 256] int32: next state, 0 for none, -1 where not worked out yet    dfa_flags  [states] uint8
    dfa_level    [states] int32: plain characters that may follow for sure   dfa_cost [states] int32: bytes to the end
    dfa_whole    [states] int32: a state with the same row but for some entries that lead to less; 0: none
    dfa_clamp    [states] int32: the state that no token tells from this one, its counters small (Horizon); 0: not known
    dfa_taken    [states] int32: bytes that shortest texts lose by that
    lit_byte     [positions] uint8      lit_flags  [positions] uint8      lit_left [positions] int32: bytes to the end
    edge_start   [nodes] int32: into edges      edge_count [nodes] int32: their number + 1, 0: not known yet
    node_cost    [nodes] int32: bytes of a shortest text
    edges        [edges, 3] int32: op, state or node, node that follows
    frames       [frames, 4] int32: node to return to, frame below, kind, what it remembers (texts seen; text outside)
    frame_depth, frame_cost  [frames] int32          texts  [texts, 2] int32: text before the last byte, that byte
    seen         [lists, 2] int32: a text, the list before it
    *_table      hash tables of the three, a power of two long; 0: free
    items        [items, 3] int32: a stack of sets, each on top of those it was made from
    work         [items, 3] int32: nodes to close           visited  [size, 4] int32: what a step has met, by its stamp
    level_ends   [longest token + 2] int32: in a walk, where the set after each byte of the present node ends
    first_bytes  [256] uint8: in a walk, 1 for bytes that are treated apart
    dfa_wide     [states] int32: bytes to the end at most, after up to `dfa_level` plain characters
    *_tokens     int32: tokens to the end at most, + 1; 0 where not known yet (token_budget.py)
    closed       [frames, 4] int32: what a walk has found to follow a frame: the walk's number, where in closed_items,
                 how many of them, whether the text may end            closed_first [frames, 32] uint8: with which bytes
    closed_items [items, 3] int32
    counts       int64: how much of the arrays is used, what is needed, results
    """

    dfa_next: Int32
    dfa_flags: UInt8
    dfa_level: Int32
    dfa_whole: Int32
    dfa_clamp: Int32
    dfa_taken: Int32
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
    level_ends: Int32
    first_bytes: UInt8
    closed: Int32
    closed_first: UInt8
    closed_items: Int32
    counts: Int64
    dfa_wide: Int32
    dfa_tokens: Int32
    lit_tokens: Int32
    node_tokens: Int32
    frame_tokens: Int32

    @property
    def table(self) -> Int64:
        """int64 [2 * arrays]: address and length of each, all that loops are given: unpacking so many arrays
        would cost more than most calls do.  Good for as long as the arrays are kept."""
        return np.array([part for array in self for part in (array.ctypes.data, len(array))], dtype=np.int64)


def _array(index: int, dtype: Any, width: int) -> Any:
    """A compiled function that finds one array of Memory by the table of addresses (see Memory.table)."""
    if width:

        def find(m: Int64) -> Any:
            return numba.carray(pointer(m[2 * index]), (m[2 * index + 1], width), dtype)

    else:

        def find(m: Int64) -> Any:
            return numba.carray(pointer(m[2 * index]), m[2 * index + 1], dtype)

    return numba.njit(find)


dfa_next_of = _array(0, np.int32, 256)
dfa_flags_of = _array(1, np.uint8, 0)
dfa_level_of = _array(2, np.int32, 0)
dfa_whole_of = _array(3, np.int32, 0)
dfa_clamp_of = _array(4, np.int32, 0)
dfa_taken_of = _array(5, np.int32, 0)
dfa_cost_of = _array(6, np.int32, 0)
lit_byte_of = _array(7, np.uint8, 0)
lit_flags_of = _array(8, np.uint8, 0)
lit_left_of = _array(9, np.int32, 0)
edge_start_of = _array(10, np.int32, 0)
edge_count_of = _array(11, np.int32, 0)
node_cost_of = _array(12, np.int32, 0)
edges_of = _array(13, np.int32, 3)
frames_of = _array(14, np.int32, 4)
frame_depth_of = _array(15, np.int32, 0)
frame_cost_of = _array(16, np.int32, 0)
texts_of = _array(17, np.int32, 2)
seen_of = _array(18, np.int32, 2)
frame_table_of = _array(19, np.int32, 0)
text_table_of = _array(20, np.int32, 0)
seen_table_of = _array(21, np.int32, 0)
items_of = _array(22, np.int32, 3)
work_of = _array(23, np.int32, 3)
visited_of = _array(24, np.int32, 4)
level_ends_of = _array(25, np.int32, 0)
first_bytes_of = _array(26, np.uint8, 0)
closed_of = _array(27, np.int32, 4)
closed_first_of = _array(28, np.uint8, 32)
closed_items_of = _array(29, np.int32, 3)
counts_of = _array(30, np.int64, 0)
dfa_wide_of = _array(31, np.int32, 0)
dfa_tokens_of = _array(32, np.int32, 0)
lit_tokens_of = _array(33, np.int32, 0)
node_tokens_of = _array(34, np.int32, 0)
frame_tokens_of = _array(35, np.int32, 0)
