"""What a token can see of a configuration: its body, the key under which masks are kept.

Used by token_mask.py."""

from __future__ import annotations

import numpy as np

from ..jit import jit
from .memory import (
    KEY,
    LOWEST,
    ONE_STACK,
    SECOND_KEY,
    TAKEN,
    Int64,
    counts_of,
    dfa_clamp_of,
    dfa_taken_of,
    frame_depth_of,
    frames_of,
    items_of,
    work_of,
)


@jit("int64(int64[::1], int64)")
def clamp(m: Int64, size: int) -> int:
    """Give the items of items[0:size] their clamped states; TAKEN: the bytes that shortest texts lose by that.

    Returns -1, or the index of an item whose clamped state is not known."""
    items, taken = items_of(m), 0
    for i in range(size):
        if items[i, 0] > 0 and dfa_clamp_of(m)[items[i, 0]] == 0:
            return i
    for i in range(size):
        state = items[i, 0]
        if state > 0:
            taken = max(taken, dfa_taken_of(m)[state])
            items[i, 0] = dfa_clamp_of(m)[state]
    counts_of(m)[TAKEN] = taken
    return -1


@jit("void(int64[::1], int64)")
def see(m: Int64, size: int) -> None:
    """Write to work[0:size, 0] how many frames of each item a walk saw that returned to depth LOWEST."""
    lowest = counts_of(m)[LOWEST]
    for i in range(size):
        work_of(m)[i, 0] = max(0, frame_depth_of(m)[items_of(m)[i, 1]] - lowest + 1)


@jit("uint64(uint64, int64)")
def mixed(key: int, value: int) -> int:
    """splitmix64 (Steele, Lea & Flood 2014) of a key and one more number."""
    mix = np.uint64(key) ^ np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
    mix = (mix ^ (mix >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mix = (mix ^ (mix >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mix ^ (mix >> np.uint64(31))  # type: ignore[return-value]


@jit("void(int64[::1], int64, int64)")
def find_key(m: Int64, size: int, accepts: int) -> None:
    """KEY and SECOND_KEY: 128 bits for the states of items[0:size] and as many of their frames as work[0:size, 0] says.

    ONE_STACK: whether what is below these frames is the same for all items."""
    frames, counts = frames_of(m), counts_of(m)
    first, second = mixed(0, accepts), mixed(1, size)
    below, one_stack = -1, 1
    for i in range(size):
        state, frame, text = items_of(m)[i, 0], items_of(m)[i, 1], items_of(m)[i, 2]
        first, second = mixed(first, state), mixed(second, text)
        first, second = mixed(first, text), mixed(second, state)
        for _ in range(work_of(m)[i, 0]):
            if frame == 0:
                first, second = mixed(first, -1), mixed(second, -1)
                break
            for j in range(4):
                if j != 1:
                    first, second = mixed(first, frames[frame, j]), mixed(second, frames[frame, j])
            frame = frames[frame, 1]
        first, second = mixed(first, -2), mixed(second, -2)
        if below >= 0 and below != frame:
            one_stack = 0
        below = frame
    counts[KEY], counts[SECOND_KEY], counts[ONE_STACK] = np.int64(first), np.int64(second), one_stack
