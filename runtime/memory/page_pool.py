"""Free KV pages, by integer id: take and give back.

Here: the free list and nothing else; which request or tree node owns a taken page is theirs to know.
Imported by the scheduler; numpy only. One thread: the engine loop's.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PageArray = NDArray[np.int32]


class PagePool:
    """`num_pages` pages with ids 0 .. num_pages-1; every page is either free or taken."""

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise ValueError(f"num_pages: got {num_pages}, wanted at least 1")
        self.num_pages = num_pages
        self._stack = np.arange(num_pages - 1, -1, -1, dtype=np.int32)  # the next page to take lies on top
        self._is_free = np.ones(num_pages, dtype=np.bool_)
        self.num_free = num_pages

    def take(self, count: int) -> PageArray:
        """`count` free pages, int32 [count]. Raises ValueError if there are fewer: ask `num_free` first."""
        if not 0 <= count <= self.num_free:
            raise ValueError(f"asked for {count} pages, {self.num_free} of {self.num_pages} are free")
        pages = self._stack[self.num_free - count : self.num_free][::-1].copy()
        self.num_free -= count
        self._is_free[pages] = False
        return pages

    def give_back(self, pages: PageArray) -> None:
        """Make `pages` free again. Raises ValueError, changing nothing, if one is free already or named twice."""
        if len(pages) == 0:
            return
        if self._is_free[pages].any() or len(np.unique(pages)) != len(pages):
            raise ValueError(f"pages given back twice among {pages.tolist()[:16]}")
        self._is_free[pages] = True
        self._stack[self.num_free : self.num_free + len(pages)] = pages
        self.num_free += len(pages)
