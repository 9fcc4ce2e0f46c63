"""Frames, recorded texts and lists of them, each made once; what a step has met before.

Used inside of this package alone."""

from __future__ import annotations

import numpy as np

from ..jit import jit
from .memory import (
    FRAMES,
    FUEL,
    NEED,
    NEED_FRAMES,
    NEED_SEEN,
    NEED_TEXTS,
    SEEN,
    STAMP,
    TEXTS,
    VISITED,
    Int32,
    Int64,
    counts_of,
    frame_cost_of,
    frame_depth_of,
    frame_table_of,
    frame_tokens_of,
    frames_of,
    node_cost_of,
    seen_of,
    seen_table_of,
    text_table_of,
    texts_of,
    visited_of,
)


@jit("int64(int64)")
def item_tag(state: int) -> int:
    """A number below 0 for the state of an item, to tell items from nodes in `visited`."""
    return -2 * state if state > 0 else 2 * state - 1


@jit("boolean(int64[::1], int64, int64, int64)")
def is_first(m: Int64, a: int, b: int, c: int) -> bool:
    """Whether the step that has the present stamp meets (a, b, c) for the first time; VISITED counts what it met."""
    mask = len(visited_of(m)) - 1
    stamp = np.int32(counts_of(m)[STAMP])
    at = (a * 0x9E3779B1 + b * 0x85EBCA77 + c * 0x27D4EB2F) & 0x7FFFFFFFFFFF
    at = (at ^ (at >> 15)) & mask
    for _ in range(len(visited_of(m))):
        v = visited_of(m)[at]
        if v[3] != stamp:
            v[0], v[1], v[2], v[3] = a, b, c, stamp
            counts_of(m)[VISITED] += 1
            return True
        if v[0] == a and v[1] == b and v[2] == c:
            return False
        at = (at + 1) & mask
    return False


@jit("void(int64[::1])")
def next_stamp(m: Int64) -> None:
    counts_of(m)[VISITED] = 0
    counts_of(m)[STAMP] += 1
    if counts_of(m)[STAMP] >= 2**31 - 1:
        visited_of(m)[:] = 0
        counts_of(m)[STAMP] = 1


@jit("int64(int64[::1], int64, int64, int64, int64)")
def push_frame(m: Int64, node: int, below: int, kind: int, extra: int) -> int:
    """The frame (node, below, kind, extra), made if it is new; -1 if there is no room."""
    mask = len(frame_table_of(m)) - 1
    at = (node * 0x9E3779B1 + below * 0x85EBCA77 + kind * 0x27D4EB2F + extra * 0x165667B1) & 0x7FFFFFFFFFFF
    at = (at ^ (at >> 15)) & mask
    while True:
        frame = frame_table_of(m)[at]
        if frame == 0:
            break
        f = frames_of(m)[frame]
        if f[0] == node and f[1] == below and f[2] == kind and f[3] == extra:
            return int(frame)
        at = (at + 1) & mask
    frame = counts_of(m)[FRAMES]
    if frame >= len(frames_of(m)):
        counts_of(m)[NEED] = NEED_FRAMES
        return -1
    counts_of(m)[FRAMES] = frame + 1
    counts_of(m)[FUEL] -= 1
    frames_of(m)[frame, 0] = node
    frames_of(m)[frame, 1] = below
    frames_of(m)[frame, 2] = kind
    frames_of(m)[frame, 3] = extra
    frame_depth_of(m)[frame] = frame_depth_of(m)[below] + 1
    frame_cost_of(m)[frame] = frame_cost_of(m)[below] + node_cost_of(m)[node]
    frame_tokens_of(m)[frame] = 0
    frame_table_of(m)[at] = frame
    return int(frame)


@jit("int64(int32[::1], int32[:, ::1], int64[::1], int64, int64, int64)")
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
            return int(index)
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


@jit("int64(int64[::1], int64, int64)")
def longer_text(m: Int64, text: int, byte: int) -> int:
    return int(pair_of(text_table_of(m), texts_of(m), counts_of(m), TEXTS, text, byte))


@jit("void(int32[::1], int32[:, ::1], int64, int64)")
def forget_pairs(table: Int32, pairs: Int32, first: int, last: int) -> None:
    """Take pairs first to last - 1 out of their hash table, the youngest first, which leaves it as it was before."""
    mask = len(table) - 1
    for index in range(last - 1, first - 1, -1):
        at = (pairs[index, 0] * 0x9E3779B1 + pairs[index, 1] * 0x85EBCA77) & 0x7FFFFFFFFFFF
        at = (at ^ (at >> 15)) & mask
        while table[at] != index:
            at = (at + 1) & mask
        table[at] = 0


@jit("void(int64[::1], int64, int64, int64)")
def forget(m: Int64, frames: int, texts: int, seen: int) -> None:
    """Drop the frames, texts and lists from these numbers on: a walk of the vocabulary leaves nothing behind."""
    mask = len(frame_table_of(m)) - 1
    for frame in range(counts_of(m)[FRAMES] - 1, frames - 1, -1):
        f = frames_of(m)[frame]
        at = (f[0] * 0x9E3779B1 + f[1] * 0x85EBCA77 + f[2] * 0x27D4EB2F + f[3] * 0x165667B1) & 0x7FFFFFFFFFFF
        at = (at ^ (at >> 15)) & mask
        while frame_table_of(m)[at] != frame:
            at = (at + 1) & mask
        frame_table_of(m)[at] = 0
    forget_pairs(text_table_of(m), texts_of(m), texts, counts_of(m)[TEXTS])
    forget_pairs(seen_table_of(m), seen_of(m), seen, counts_of(m)[SEEN])
    counts_of(m)[FRAMES], counts_of(m)[TEXTS], counts_of(m)[SEEN] = frames, texts, seen


@jit("void(int64[::1])")
def rehash_frames(m: Int64) -> None:
    """Fill an empty frame_table."""
    count, counts_of(m)[FRAMES] = counts_of(m)[FRAMES], 1
    for frame in range(1, count):
        f = frames_of(m)[frame]
        push_frame(m, f[0], f[1], f[2], f[3])


@jit("void(int32[::1], int32[:, ::1], int64[::1], int64, int64)")
def rehash_pairs(table: Int32, pairs: Int32, counts: Int64, counter: int, first: int) -> None:
    """Fill an empty table of pairs."""
    count, counts[counter] = counts[counter], first
    for index in range(first, count):
        pair_of(table, pairs, counts, counter, pairs[index, 0], pairs[index, 1])
