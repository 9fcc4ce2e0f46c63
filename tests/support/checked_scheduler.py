"""A scheduler that proves at every step that no page is lost or owned twice."""

from __future__ import annotations

import numpy as np

from forktree.radix_cache import check
from forktree.runtime.request import Step
from forktree.runtime.scheduler import Scheduler


class CheckedScheduler(Scheduler):
    def plan(self) -> Step | None:
        step = super().plan()
        check_owners(self)
        if self.counters.steps % 8 == 0:
            check(self.tree)
        return step


def check_pages(scheduler: Scheduler) -> None:
    """The tree keeps its rules, and so do the pages."""
    check(scheduler.tree)
    check_owners(scheduler)


def check_owners(scheduler: Scheduler) -> None:
    """Every page belongs to the free list, a tree node or one request; the counts agree; shared pages are locked."""
    pool, tree = scheduler.pool, scheduler.tree
    owners = np.zeros(pool.num_pages, np.int64)
    owners[pool._is_free] += 1
    for node in tree.nodes():
        owners[node.pages] += 1
    for request in scheduler._holding.values():
        owners[request.pages[request.num_shared_pages : request.num_pages]] += 1
    assert (owners == 1).all(), f"pages with 0 or several owners: {np.flatnonzero(owners != 1).tolist()}"
    assert pool.num_free + tree.num_cached_pages + scheduler.num_running_pages == pool.num_pages
    for request in scheduler._holding.values():
        if request.node is not None:
            assert request.node.lock_count > 0
            assert request.node.end == request.num_shared_pages * tree.page_size
