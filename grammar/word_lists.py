"""A finite set of byte strings as a trie that is never built: a node is a range of the sorted list and a depth.

Here: what may follow at a node, in time proportional to that.  Not here: expressions (expressions.py)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Branch(NamedTuple):
    """The words that go on with one byte: those from `first` up to `last`."""

    byte: int
    first: int
    last: int


class WordList:
    """Words sorted by their bytes.   Words first..last-1 share their first `depth` bytes wherever a node is named."""

    def __init__(self, words: Iterable[bytes]) -> None:
        self.words = sorted(words)
        self.bytes_used = frozenset(b"".join(self.words))
        self._lengths = np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))

    def ends(self, first: int, depth: int) -> bool:
        """Whether the node is a word."""
        return len(self.words[first]) == depth

    def shortest(self, first: int, last: int, depth: int) -> int:
        """Bytes to the nearest word of the node."""
        return int(self._lengths[first:last].min()) - depth

    def branches(self, first: int, last: int, depth: int) -> list[Branch]:
        words, found = self.words, []
        if len(words[first]) == depth:
            first += 1
        while first < last:
            byte = words[first][depth]
            if words[last - 1][depth] == byte:
                end = last
            else:
                end = bisect_left(words, words[first][:depth] + bytes((byte + 1,)), first, last)
            found.append(Branch(byte, first, end))
            first = end
        return found
