"""Sets of bytes as ints (bit b is byte b), rows of (set, value) pairs, and intervals of counts."""

from __future__ import annotations

from collections.abc import Sequence

ALL_BYTES = (1 << 256) - 1

Row = tuple[tuple[int, int], ...]  # (set of bytes, what is left after one of them); sets disjoint, no NOTHING


def byte_set(*ranges: tuple[int, int]) -> int:
    """The set of all bytes in the given inclusive ranges."""
    result = 0
    for first, last in ranges:
        result |= (1 << (last + 1)) - (1 << first)
    return result


def split(by_set: dict[int, list[int]]) -> dict[int, list[int]]:
    """Overlapping sets -> disjoint ones, each with the values of all sets that it was part of."""
    result: list[tuple[int, list[int]]] = []
    for members, values in by_set.items():
        pieces: list[tuple[int, list[int]]] = []
        for others, held in result:
            common = members & others
            if common:
                pieces.append((common, held + values))
                members ^= common
                others ^= common
            if others:
                pieces.append((others, held))
        if members:
            pieces.append((members, values))
        result = pieces
    return dict(result)


def merged_intervals(intervals: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals of whole numbers, joined where they touch."""
    if len(intervals) == 1:
        return list(intervals)
    merged: list[tuple[int, int]] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged
