"""The free list of KV pages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktree.runtime.memory.page_pool import PagePool


def test_taken_pages_differ_and_come_back() -> None:
    pool = PagePool(5)
    a, b = pool.take(2), pool.take(3)
    assert sorted([*a, *b]) == [0, 1, 2, 3, 4]
    assert pool.num_free == 0
    pool.give_back(b)
    assert sorted(pool.take(3)) == sorted(b)


def test_more_than_there_are_is_refused_and_takes_none() -> None:
    pool = PagePool(3)
    with pytest.raises(ValueError, match="asked for 4 pages, 3 of 3 are free"):
        pool.take(4)
    assert pool.num_free == 3


@pytest.mark.parametrize("pages", [[0, 0], [2]])
def test_giving_back_twice_is_refused_and_changes_nothing(pages: list[int]) -> None:
    pool = PagePool(3)
    pool.take(2)
    with pytest.raises(ValueError, match="given back twice"):
        pool.give_back(np.array(pages, np.int32))
    assert pool.num_free == 1


@given(st.lists(st.integers(-6, 6), max_size=60))
def test_no_page_is_free_and_taken_at_once(moves: list[int]) -> None:
    pool = PagePool(10)
    taken: list[int] = []
    for move in moves:
        if move >= 0:
            count = min(move, pool.num_free)
            taken += pool.take(count).tolist()
        else:
            back, taken = taken[:-move], taken[-move:]
            pool.give_back(np.array(back, np.int32))
        assert len(set(taken)) == len(taken) == 10 - pool.num_free
