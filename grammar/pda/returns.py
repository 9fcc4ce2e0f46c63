"""What follows a frame, found once in a walk.

Where a terminal may end at every byte, as a name or a number does, each byte would close its frame anew, through as
many levels of rules as there are.  A walk writes an item (0, frame, 0) instead, which stands for all that follows the
frame, and looks into it for those bytes alone with which that can begin.

Used by walks.py alone."""

from __future__ import annotations

from ..jit import jit
from .interning import next_stamp
from .memory import (
    ACCEPTS,
    CLOSED,
    KNOWN,
    NEED,
    NEED_ITEMS,
    NEED_ROW,
    NEEDED,
    WALK,
    Int64,
    closed_first_of,
    closed_items_of,
    closed_of,
    counts_of,
    dfa_flags_of,
    dfa_next_of,
    items_of,
    lit_byte_of,
    work_of,
)
from .steps import close


@jit("int64(int64[::1], int64, int64)")
def find_closed(m: Int64, frame: int, top: int) -> int:
    """Find what follows a frame, if that is not known.  Items from `top` on are overwritten.

    1: it is in closed_items.  0: there is no room for it.  -1: something is needed."""
    counts, closed, items = counts_of(m), closed_of(m), items_of(m)
    if closed[frame, 0] == counts[WALK]:
        return 1
    counts[ACCEPTS] = 0
    next_stamp(m)
    work_of(m)[0, 0], work_of(m)[0, 1], work_of(m)[0, 2] = 0, frame, 0
    end = close(m, top, 1)
    if end < 0:
        return -1
    first = counts[CLOSED]
    if first + end - top > len(closed_items_of(m)):
        return 0
    begins = closed_first_of(m)[frame]
    begins[:] = 0
    for i in range(top, end):
        state = items[i, 0]
        if state < 0:
            byte = lit_byte_of(m)[-state]
            begins[byte >> 3] |= 1 << (byte & 7)
            continue
        if dfa_flags_of(m)[state] & KNOWN == 0:
            counts[NEED], counts[NEEDED] = NEED_ROW, state
            return -1
        for byte in range(256):
            if dfa_next_of(m)[state, byte] != 0:
                begins[byte >> 3] |= 1 << (byte & 7)
    for i in range(top, end):
        for j in range(3):
            closed_items_of(m)[first + i - top, j] = items[i, j]
    counts[CLOSED] = first + end - top
    closed[frame, 0], closed[frame, 1], closed[frame, 2] = counts[WALK], first, end - top
    closed[frame, 3] = counts[ACCEPTS]
    return 1


@jit("int64(int64[::1], int64, int64)")
def expand(m: Int64, begin: int, end: int) -> int:
    """Write the set items[begin:end] from `end` on, with all that its items (0, frame, 0) stand for.

    Returns its end, or -1: something is needed."""
    items, closed, top = items_of(m), closed_of(m), end
    for i in range(begin, end):
        count = 1
        if items[i, 0] == 0:
            count = closed[items[i, 1], 2]
        if top + count >= len(items):
            counts_of(m)[NEED] = NEED_ITEMS
            return -1
        if items[i, 0] != 0:
            items[top, 0], items[top, 1], items[top, 2] = items[i, 0], items[i, 1], items[i, 2]
        else:
            first = closed[items[i, 1], 1]
            for k in range(count):
                for j in range(3):
                    items[top + k, j] = closed_items_of(m)[first + k, j]
        top += count
    return int(top)
