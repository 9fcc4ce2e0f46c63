"""Which leaf goes first: the unlocked leaves of a tree, in order of when they will be wanted, as far as that is known.

Here: the order.  Not here: removing nodes, counting pages (tree.py), who announces what (next_use.py).

First go retired leaves, which nobody wants any more; then those of which nothing is known, least recently used first;
then those that somebody expects to use, the farthest next use first.  Where every use is announced, with its true time,
that is Bélády's optimum (1966): a prefix is used no later than what stands below it, so the page with the farthest next
use is always at the end of a leaf.

A heap that is repaired when an entry reaches the top:
  - a node that would now go later (it was used since, or is expected sooner) is put back at its new place;
  - a node that was locked or got a child since is dropped, and queued again when it is an unlocked leaf again.
So an entry may be too early, never too late: a node that would now go earlier, because it was retired or a use of it
was given up or put off, is queued a second time at once, and its old entry is dropped when it comes up.  Each repair is
paid for by the one use, lock, insert or announcement that made it necessary: O(log n) amortised, without a walk over
the tree.  Every use of the tree repairs a few entries, so that no eviction finds the repairs of an hour before it.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TypeAlias

from .node import RadixNode

REPAIRS_PER_USE = 8  # at most as many entries go out of date by one match or unlock, save on very deep paths
FEW_ENTRIES = 64  # below which the heap is not worth sweeping

RETIRED = -(1 << 62)  # ticks from here up to 0 are those of retired nodes, which so are less recent than any other

Place: TypeAlias = tuple[bool, float, int]
"""Smaller goes first: (whether a use is expected, the soonest of them negated, last_used)."""


class EvictionQueue:
    """Candidates for eviction, in order."""

    def __init__(self) -> None:
        self._heap: list[tuple[Place, int, RadixNode]] = []  # (place when queued, tie, node)
        self._queued: dict[RadixNode, Place] = {}  # where its valid entry is; every other entry of the node is dropped
        self._ties = count()  # keeps nodes themselves from being compared

    def __len__(self) -> int:
        """Entries held, candidates and those not yet dropped."""
        return len(self._heap)

    def queued_at(self, node: RadixNode) -> Place | None:
        """Where in the order the node was put; None if it is not queued."""
        return self._queued.get(node)

    def add(self, node: RadixNode) -> None:
        """`node` has become an unlocked leaf, or is one and might go earlier now; no harm if it does not."""
        place, queued_at = place_of(node), self._queued.get(node)
        if queued_at is None or place < queued_at:
            self._queued[node] = place
            heapq.heappush(self._heap, (place, next(self._ties), node))
            if len(self._heap) > FEW_ENTRIES + 2 * len(self._queued):
                self._heap = [(place, next(self._ties), node) for node, place in self._queued.items()]
                heapq.heapify(self._heap)

    def pop(self) -> RadixNode | None:
        """Take out the unlocked leaf that goes first; None if every leaf is locked."""
        while self._repair_top():
            pass
        if not self._heap:
            return None
        _, _, node = heapq.heappop(self._heap)
        del self._queued[node]
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
        if self._queued.get(node) != queued_at:
            heapq.heappop(self._heap)
        elif not is_candidate(node):
            heapq.heappop(self._heap)
            del self._queued[node]
        elif (place := place_of(node)) != queued_at:
            self._queued[node] = place
            heapq.heapreplace(self._heap, (place, next(self._ties), node))
        else:
            return False
        return True


def is_candidate(node: RadixNode) -> bool:
    """May this node's pages be taken now?"""
    return node.lock_count == 0 and not node.children and node.parent is not None


def place_of(node: RadixNode) -> Place:
    """Where a leaf stands in the order as of now."""
    uses = node.uses
    return (False, 0.0, node.last_used) if uses is None else (True, -uses.soonest, node.last_used)


def is_forsaken(node: RadixNode) -> bool:
    """Would nobody but the caller miss this node, as far as is known?"""
    return node.lock_count == 0 and node.uses is None and all(child.last_used < 0 for child in node.children.values())
