"""From one configuration to the next: byte by byte, nodes closed to items.

Loops never build anything: where a row or a node's edges are missing they say so (NEED) and are called again.
Used inside of this package, and by token_mask.py."""

from __future__ import annotations

from ..jit import jit
from ..rules import DISTINCT, DISTINCT_END, EMPTY, END, LITERAL, SCOPE, SILENT, TERMINAL
from .interning import is_first, item_tag, longer_text, next_stamp, pair_of, push_frame
from .memory import (
    ACCEPTING,
    ACCEPTS,
    DONE,
    EMPTY_TEXT,
    FINAL,
    FUEL,
    KNOWN,
    LAST,
    LOWEST,
    NEED,
    NEED_BYTE,
    NEED_FUEL,
    NEED_ITEMS,
    NEED_NODE,
    NEED_ROW,
    NEED_VISITED,
    NEEDED,
    NEEDED_BYTE,
    QUIET,
    SEEN,
    SIZE,
    VISITED,
    Int64,
    UInt8,
    counts_of,
    dfa_cost_of,
    dfa_flags_of,
    dfa_next_of,
    edge_count_of,
    edge_start_of,
    edges_of,
    frame_cost_of,
    frame_depth_of,
    frames_of,
    items_of,
    lit_byte_of,
    lit_flags_of,
    lit_left_of,
    seen_of,
    seen_table_of,
    texts_of,
    visited_of,
    work_of,
)

CHEAP = 3  # to move so many items, as a power of two, is the work that one node to close is


@jit("int64(int64[::1], int64, int64)")
def end_distinct(m: Int64, frame: int, text: int) -> int:
    """The frame to go on with when the text of the distinct node of `frame` is complete; -1: it is not new; -2: need.

    Frames between it and its scope are made again on top of the scope that has now seen the text."""
    scope = frames_of(m)[frame, 1]
    between = 0
    while frames_of(m)[scope, 2] != SCOPE:
        scope = frames_of(m)[scope, 1]
        between += 1
    if frame_depth_of(m)[scope] < counts_of(m)[LOWEST]:
        counts_of(m)[LOWEST] = frame_depth_of(m)[scope]
    entry = frames_of(m)[scope, 3]
    while entry != 0:
        counts_of(m)[FUEL] -= 1
        if seen_of(m)[entry, 0] == text:
            return -1
        entry = seen_of(m)[entry, 1]
    longer = pair_of(seen_table_of(m), seen_of(m), counts_of(m), SEEN, text, frames_of(m)[scope, 3])
    if longer < 0:
        return -2
    result = push_frame(m, frames_of(m)[scope, 0], frames_of(m)[scope, 1], SCOPE, longer)
    for i in range(between - 1, -1, -1):
        if result < 0:
            return -2
        f = frames_of(m)[frame, 1]
        for _ in range(i):
            f = frames_of(m)[f, 1]
        result = push_frame(m, frames_of(m)[f, 0], result, frames_of(m)[f, 2], frames_of(m)[f, 3])
    return -2 if result < 0 else result


@jit("int64(int64[::1], int64, int64)")
def joined_text(m: Int64, outer: int, inner: int) -> int:
    """The text `outer` followed by the bytes of `inner`; -1: no room."""
    length, at = 0, inner
    while at != EMPTY_TEXT:
        length += 1
        at = texts_of(m)[at, 0]
    counts_of(m)[FUEL] -= length * length // 8
    if counts_of(m)[FUEL] < 0:
        counts_of(m)[NEED] = NEED_FUEL
        return -1
    for i in range(length - 1, -1, -1):
        at = inner
        for _ in range(i):
            at = texts_of(m)[at, 0]
        outer = longer_text(m, outer, texts_of(m)[at, 1])
        if outer < 0:
            return -1
    return outer


@jit("int64(int64[::1], int64, int64)")
def close(m: Int64, top: int, pending: int) -> int:
    """Turn the `pending` entries of `work` (node, frame, text; node 0: return to the frame) into items.

    Items are written from `top` on; returns the new top, or -1 where something is needed."""
    while pending > 0:
        pending -= 1
        w = work_of(m)[pending]
        node, frame, text = w[0], w[1], w[2]
        if node == 0:
            if frame_depth_of(m)[frame] < counts_of(m)[LOWEST]:
                counts_of(m)[LOWEST] = frame_depth_of(m)[frame]
            if frame == 0:
                counts_of(m)[ACCEPTS] = 1
                continue
            node = frames_of(m)[frame, 0]
            if frames_of(m)[frame, 2] != DISTINCT:
                frame = frames_of(m)[frame, 1]
        if not is_first(m, node, frame, text):
            continue
        counts_of(m)[FUEL] -= 1
        count = edge_count_of(m)[node] - 1
        if 2 * (counts_of(m)[VISITED] + count + 1) > len(visited_of(m)):
            counts_of(m)[NEED] = NEED_VISITED
            return -1
        if count < 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_NODE, node
            return -1
        if counts_of(m)[FUEL] < 0:
            counts_of(m)[NEED] = NEED_FUEL
            return -1
        if top + count >= len(items_of(m)) or pending + 2 * count >= len(work_of(m)):
            counts_of(m)[NEED] = NEED_ITEMS
            return -1
        first = edge_start_of(m)[node]
        for i in range(first, first + count):
            op, target, then = edges_of(m)[i, 0], edges_of(m)[i, 1], edges_of(m)[i, 2]
            if op == END:
                work_of(m)[pending, 0], work_of(m)[pending, 1], work_of(m)[pending, 2] = 0, frame, text
                pending += 1
                continue
            if op == DISTINCT_END:
                after = end_distinct(m, frame, text)
                if after == -2:
                    return -1
                if after >= 0:
                    outer = frames_of(m)[frame, 3]
                    if outer != 0:
                        outer = joined_text(m, outer, text)
                        if outer < 0:
                            return -1
                    work_of(m)[pending, 0], work_of(m)[pending, 1], work_of(m)[pending, 2] = then, after, outer
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
            if op in (TERMINAL, LITERAL, SILENT):
                if is_first(m, item_tag(target), above, text):
                    items_of(m)[top, 0], items_of(m)[top, 1], items_of(m)[top, 2] = target, above, text
                    top += 1
                if target > 0 and dfa_flags_of(m)[target] & ACCEPTING:
                    work_of(m)[pending, 0], work_of(m)[pending, 1], work_of(m)[pending, 2] = 0, above, text
                    pending += 1
            else:
                inner = EMPTY_TEXT if op == DISTINCT else text
                work_of(m)[pending, 0], work_of(m)[pending, 1], work_of(m)[pending, 2] = target, above, inner
                pending += 1
    return top


@jit("int64(int64[::1], int64, int64, int64)")
def step(m: Int64, begin: int, end: int, byte: int) -> int:
    """The set items[begin:end] after one more byte, written from `end` on; returns its end, or -1: something is needed.

    ACCEPTS tells whether the whole text may end there."""
    counts_of(m)[ACCEPTS] = 0
    top, pending = end, 0
    several = end - begin > 1
    if 2 * end - begin >= len(items_of(m)):
        counts_of(m)[NEED] = NEED_ITEMS
        return -1
    if 2 * (end - begin) > len(visited_of(m)):
        counts_of(m)[NEED] = NEED_VISITED
        return -1
    if several:
        next_stamp(m)
    counts_of(m)[FUEL] -= 1 + ((end - begin) >> CHEAP)
    if counts_of(m)[FUEL] < 0:
        counts_of(m)[NEED] = NEED_FUEL
        return -1
    for i in range(begin, end):
        state, frame, text = items_of(m)[i, 0], items_of(m)[i, 1], items_of(m)[i, 2]
        if state < 0:
            if lit_byte_of(m)[-state] != byte:
                continue
            flags = lit_flags_of(m)[-state]
            target, ends, goes_on = state - 1, flags & LAST != 0, flags & LAST == 0
            quiet = flags & QUIET != 0
        else:
            if dfa_flags_of(m)[state] & KNOWN == 0:
                counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_ROW, state
                return -1
            target = dfa_next_of(m)[state, byte]
            if target == 0:
                continue
            if target < 0:
                counts_of(m)[NEED], counts_of(m)[NEEDED], counts_of(m)[NEEDED_BYTE] = NEED_BYTE, state, byte
                return -1
            flags = dfa_flags_of(m)[target]
            ends, goes_on, quiet = flags & ACCEPTING != 0, flags & FINAL == 0, False
        if text != 0 and not quiet:
            text = longer_text(m, text, byte)
            if text < 0:
                return -1
        if goes_on and (not several or is_first(m, item_tag(target), frame, text)):
            items_of(m)[top, 0], items_of(m)[top, 1], items_of(m)[top, 2] = target, frame, text
            top += 1
        if ends:
            work_of(m)[pending, 0], work_of(m)[pending, 1], work_of(m)[pending, 2] = 0, frame, text
            pending += 1
    if pending > 0:
        if not several:
            next_stamp(m)
        return int(close(m, top, pending))
    return top


@jit("int64(int64[::1], int64)")
def start(m: Int64, node: int) -> int:
    """The set in which a text of `node` begins, written to items[0:result]; -1: something is needed."""
    next_stamp(m)
    counts_of(m)[ACCEPTS] = 0
    work_of(m)[0, 0], work_of(m)[0, 1], work_of(m)[0, 2] = node, 0, 0
    return int(close(m, 0, 1))


@jit("void(int64[::1], int64, int64)")
def sort_items(m: Int64, begin: int, end: int) -> None:
    """Put a set in its canonical order."""
    items = items_of(m)
    gap = 1
    while 9 * gap < end - begin:
        gap = 3 * gap + 1
    while gap > 0:  # Shell's way: few items mostly, but they may be thousands
        for i in range(begin + gap, end):
            state, frame, text = items[i, 0], items[i, 1], items[i, 2]
            j = i
            while j >= begin + gap:
                before = items[j - gap]
                if before[0] < state or (before[0] == state and (before[1], before[2]) <= (frame, text)):
                    break
                items[j, 0], items[j, 1], items[j, 2] = before[0], before[1], before[2]
                j -= gap
            items[j, 0], items[j, 1], items[j, 2] = state, frame, text
        gap //= 3


@jit("int64(int64[::1], int64, int64)")
def cost_of(m: Int64, begin: int, end: int) -> int:
    """Bytes of a shortest completion of a set."""
    cost = 2**31 - 1
    for i in range(begin, end):
        state = items_of(m)[i, 0]
        own = dfa_cost_of(m)[state] if state > 0 else lit_left_of(m)[-state]
        cost = min(cost, own + frame_cost_of(m)[items_of(m)[i, 1]])
    return cost


@jit("int64(int64[::1], int64, uint8[::1], int64)")
def advance(m: Int64, size: int, text: UInt8, done: int) -> int:
    """The set items[0:size] after the bytes text[done:], left sorted in items[0:result].

    0: nothing can follow, and ACCEPTS tells whether the text may end there.  -1: something is needed; then SIZE and
    DONE are what to call with again."""
    for i in range(done, len(text)):
        top = step(m, 0, size, text[i])
        if top < 0:
            counts_of(m)[SIZE], counts_of(m)[DONE] = size, i
            return -1
        new_size = top - size
        for j in range(new_size):
            items_of(m)[j, 0], items_of(m)[j, 1], items_of(m)[j, 2] = (
                items_of(m)[size + j, 0],
                items_of(m)[size + j, 1],
                items_of(m)[size + j, 2],
            )
        size = new_size
        if size == 0:
            if i < len(text) - 1:
                counts_of(m)[ACCEPTS] = 0
            return 0
    sort_items(m, 0, size)
    return int(size)


@jit("int64(int64[::1], int64)")
def only_byte(m: Int64, size: int) -> int:
    """The one byte that may follow the set items[0:size]; -1 if several may; -2: something is needed."""
    found = -1
    for i in range(size):
        state = items_of(m)[i, 0]
        if state < 0:
            byte = int(lit_byte_of(m)[-state])
            if found >= 0 and found != byte:
                return -1
            found = byte
            continue
        if dfa_flags_of(m)[state] & KNOWN == 0:
            counts_of(m)[NEED], counts_of(m)[NEEDED] = NEED_ROW, state
            return -2
        for other in range(256):
            if dfa_next_of(m)[state, other] != 0:
                if found >= 0 and found != other:
                    return -1
                found = other
    return found


@jit("int64(int64[::1], int64, uint8[::1], int64)")
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
            counts_of(m)[SIZE], counts_of(m)[DONE] = size, done
            return -1
        out[done] = byte
        done += 1
        new_size = top - size
        for j in range(new_size):
            items_of(m)[j, 0], items_of(m)[j, 1], items_of(m)[j, 2] = (
                items_of(m)[size + j, 0],
                items_of(m)[size + j, 1],
                items_of(m)[size + j, 2],
            )
        size = new_size
        if size == 0 or counts_of(m)[ACCEPTS] != 0:
            break
    counts_of(m)[SIZE] = size
    return done
