"""Which leaf goes first: the unlocked leaves of a tree in order of last use.

Here: the order.  Not here: removing nodes, counting pages (tree.py).

A heap with at most one entry per node, repaired when an entry reaches the top:
  - a node that was used since it was queued is put back under its new tick (ticks only grow, so an entry is never
    too late, only too early);
  - a node that was locked or got a child since is dropped, and queued again when it is an unlocked leaf again.
So the heap never outgrows the tree and needs no compaction, and each repair is paid for by the one use, lock or insert
that made it necessary: O(log n) amortised, without a walk over the tree.  Every use of the tree repairs a few entries,
so that no eviction finds the repairs of a whole hour before it.
"""

from __future__ import annotations

import heapq
from itertools import count

from .node import RadixNode

REPAIRS_PER_USE = 8  # at most as many entries go out of date by one match or unlock, save on very deep paths


class EvictionQueue:
    """Candidates for eviction, least recently used first."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, RadixNode]] = []  # (last_used when queued, tie, node)
        self._queued: set[RadixNode] = set()  # the nodes in _heap
        self._ties = count()  # keeps nodes themselves from being compared

    def __contains__(self, node: RadixNode) -> bool:
        return node in self._queued

    def __len__(self) -> int:
        """Entries held, candidates and those not yet dropped."""
        return len(self._heap)

    def add(self, node: RadixNode) -> None:
        """`node` has become an unlocked leaf; no harm where it is queued already."""
        if node not in self._queued:
            self._queued.add(node)
            heapq.heappush(self._heap, (node.last_used, next(self._ties), node))

    def pop(self) -> RadixNode | None:
        """Take out the least recently used unlocked leaf; None if every leaf is locked."""
        while self._repair_top():
            pass
        if not self._heap:
            return None
        _, _, node = heapq.heappop(self._heap)
        self._queued.remove(node)
        return node

    def repair(self) -> None:
        """Do a bounded share of the repairs that pop would have to do."""
        for _ in range(REPAIRS_PER_USE):
            if not self._repair_top():
                return

    def _repair_top(self) -> bool:
        """Whether the first entry was out of date; if so it no longer is the first."""
        if not self._heap:
            return False
        queued_at, _, node = self._heap[0]
        if not is_candidate(node):
            heapq.heappop(self._heap)
            self._queued.remove(node)
        elif node.last_used != queued_at:
            heapq.heapreplace(self._heap, (node.last_used, next(self._ties), node))
        else:
            return False
        return True


def is_candidate(node: RadixNode) -> bool:
    """May this node's pages be taken now?"""
    return node.lock_count == 0 and not node.children and node.parent is not None
