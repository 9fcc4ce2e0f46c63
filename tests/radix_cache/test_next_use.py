"""Announced uses: what they keep, what goes first among them, and what is done with."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from forktree.radix_cache import RadixCache, check, render

from .builders import contents, ints, run


def three_leaves() -> RadixCache:
    """[1], [2] and [3] in pages 11, 12 and 13, used in this order."""
    tree = RadixCache()
    for token in (1, 2, 3):
        tree.insert(ints(token), ints(10 + token))
    return tree


def order_of_eviction(tree: RadixCache) -> list[int]:
    check(tree)
    pages = [tree.evict(1).tolist() for _ in range(tree.num_evictable_pages)]
    check(tree)
    return [page for taken in pages for page in taken]


def test_what_nobody_expects_goes_first_then_the_farthest_next_use() -> None:
    tree = three_leaves()
    tree.expect("soon", ints(1), 5)
    tree.expect("later", ints(2), 9)
    assert order_of_eviction(tree) == [13, 12, 11]


def test_the_soonest_of_several_uses_counts() -> None:
    tree = three_leaves()
    tree.expect("a", ints(1), 5)
    tree.expect("b", ints(2), 3)
    tree.expect("c", ints(1), 2)
    assert order_of_eviction(tree) == [13, 12, 11]


def test_announcing_again_replaces_and_forgetting_ends_it() -> None:
    tree = three_leaves()
    for token in (1, 2, 3):
        tree.expect(token, ints(token), token)
    tree.expect(1, ints(1), 9)  # put off: now the farthest
    tree.forget(3)
    tree.forget(3)
    tree.forget("never announced")
    assert order_of_eviction(tree) == [13, 11, 12]


def test_a_use_of_the_longer_prefix_keeps_the_shorter_and_nothing_beside_it() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3, 4), ints(11, 12, 13, 14))
    tree.insert(ints(1, 2, 5), ints(11, 12, 15))
    tree.insert(ints(9), ints(19))
    tree.expect("use", ints(1, 2, 3), 5)  # cuts [3 4] in two: nobody expects the 4
    assert order_of_eviction(tree) == [14, 15, 19, 13, 12, 11]


def test_tokens_cached_after_the_announcement_are_kept_by_it() -> None:
    tree = RadixCache()
    tree.expect("far", ints(1, 2), 9)
    tree.expect("near", ints(3, 4), 1)
    tree.insert(ints(3, 4, 5), ints(13, 14, 15))
    tree.insert(ints(1), ints(11))
    tree.insert(ints(1, 2), ints(11, 12))
    tree.insert(ints(6), ints(16))
    assert order_of_eviction(tree) == [15, 16, 12, 11, 14, 13]


def test_an_evicted_part_is_kept_again_once_it_is_cached_again() -> None:
    tree = RadixCache(page_size=2)
    tree.insert(run(0, 8), run(10, 4))
    tree.expect("use", run(0, 7), 5)  # three whole pages
    assert tree.evict(3).tolist() == [13, 11, 12]  # the unexpected page, then the end of what is expected
    check(tree)
    tree.insert(run(0, 8), ints(10, 21, 22, 23))
    tree.insert(run(50, 2), ints(30))
    assert order_of_eviction(tree) == [23, 30, 22, 21, 10]


def test_a_use_in_one_namespace_keeps_nothing_in_another_and_its_root_goes_with_it() -> None:
    tree = RadixCache()
    tree.insert(ints(1), ints(11), b"a")
    tree.insert(ints(1), ints(12), b"b")
    tree.expect("use", ints(1), 5, b"a")
    assert order_of_eviction(tree) == [12, 11]
    assert list(tree.roots) == [b"a"]
    tree.forget("use")
    assert dict(tree.roots) == {}


def test_expecting_touches_no_recency_and_keeps_a_read_only_array_as_it_is() -> None:
    tree = three_leaves()
    prefix = ints(1)
    tree.expect("use", prefix, 5)
    prefix[0] = 2  # the tree has its own copy
    assert "expected at 5" in render(tree).splitlines()[-1]
    tree.forget("use")
    assert order_of_eviction(tree) == [11, 12, 13]


@pytest.mark.parametrize("tokens", [[1, 2], np.array([1, 2])])
def test_what_is_no_prefix_is_refused(tokens: object) -> None:
    with pytest.raises(ValueError, match="tokens: wanted a one-dimensional int32 array"):
        RadixCache().expect("use", tokens, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens: wanted a one-dimensional int32 array"):
        RadixCache().retire(tokens, 0)  # type: ignore[arg-type]


def test_a_time_that_is_no_number_is_refused_and_changes_nothing() -> None:
    tree = three_leaves()
    tree.expect("use", ints(1), 5)
    with pytest.raises(ValueError, match="at: wanted a time, got nan"):
        tree.expect("use", ints(2), math.nan)
    assert order_of_eviction(tree) == [12, 13, 11]


def test_retired_tokens_go_before_all_else_until_they_are_used_again() -> None:
    tree = three_leaves()
    tree.retire(ints(3), 0)
    tree.retire(ints(2), 0)
    tree.match(ints(3))
    assert order_of_eviction(tree) == [12, 11, 13]


def test_retiring_spares_what_others_share_or_hold_or_expect() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(11, 12, 13))
    tree.insert(ints(1, 2, 4), ints(11, 12, 14))
    tree.insert(ints(9), ints(19))
    held = tree.lock(tree.insert(ints(1, 5, 6), ints(11, 15, 16)).node)
    tree.expect("use", ints(1, 2, 4), 5)
    tree.retire(ints(1, 2, 3), 0)  # [1 2] has another branch
    tree.retire(ints(1, 2, 4), 0)  # expected
    tree.retire(ints(1, 5, 6), 0)  # locked
    tree.retire(ints(7, 7), 0)  # not there
    tree.retire(ints(1), 0, b"no such namespace")
    tree.unlock(held)
    assert order_of_eviction(tree) == [13, 19, 16, 15, 14, 12, 11]


def test_when_the_last_branch_is_retired_so_is_what_it_stood_on_but_not_what_all_share() -> None:
    tree = RadixCache()
    tree.insert(ints(8), ints(18))
    tree.insert(ints(1, 2, 3), ints(11, 12, 13))
    tree.insert(ints(1, 2, 4), ints(11, 12, 14))
    tree.retire(ints(1, 2, 3), 1)
    tree.retire(ints(1, 2, 4), 1)
    tree.retire(ints(1, 2), 0)  # again, from further up: [1] as well, and what is retired already keeps its place
    assert order_of_eviction(tree) == [13, 14, 12, 11, 18]


def test_retiring_again_from_further_down_leaves_a_child_no_more_recent_than_its_parent() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(11, 12, 13))
    tree.retire(ints(1, 2, 3), 0)
    tree.retire(ints(1, 2, 3), 2)
    check(tree)
    assert contents(tree) == {(b"", (1,)): 11, (b"", (1, 2)): 12, (b"", (1, 2, 3)): 13}


def test_putting_a_use_off_again_and_again_does_not_grow_the_queue() -> None:
    tree = three_leaves()
    for at in range(1000):
        tree.expect("use", ints(1), at)
        tree.evict(0)
    check(tree)  # bounds the queue by the number of nodes
    assert order_of_eviction(tree) == [12, 13, 11]


@pytest.mark.slow
def test_ten_thousand_uses_at_the_end_of_one_prefix_cost_microseconds_each() -> None:
    """Programs that wait with one system prompt and a question each; bounds are loose, a scan over the uses fails."""
    tree = RadixCache()
    num_programs = 10_000
    system = run(0, 1000)
    prompts = [np.append(system, ints(2000 + number)) for number in range(num_programs)]
    started = time.perf_counter()
    for number, prompt in enumerate(prompts):
        tree.expect(number, prompt, number % 97)
    tree.insert(system, system)
    for number, prompt in enumerate(prompts):
        tree.insert(prompt, np.append(system, ints(2000 + number)))
    for number in range(num_programs):
        tree.expect(number, prompts[number], -number)
    seconds = time.perf_counter() - started
    assert tree.evict(3).tolist() == [2000, 2001, 2002]
    started = time.perf_counter()
    assert len(tree.evict(num_programs)) == num_programs
    for number in range(num_programs):
        tree.forget(number)
    seconds += time.perf_counter() - started
    microseconds = 1e6 * seconds / (5 * num_programs)
    print(f"\n{num_programs} programs: {microseconds:.1f} us per announcement, insertion, eviction or forgetting")
    assert microseconds < 200
    check(tree)
