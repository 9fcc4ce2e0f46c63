"""Which pages evict and clear return, and in what order."""

from __future__ import annotations

import time

import numpy as np
import pytest

from forktree.radix_cache import RadixCache, RadixNode, check

from .builders import contents, ints, run


def test_evict_takes_the_least_recently_used_leaf_first() -> None:
    tree = RadixCache()
    for token in (1, 2, 3):
        tree.insert(ints(token), ints(10 + token))
    tree.match(ints(1))
    assert [tree.evict(1).tolist() for _ in range(4)] == [[12], [13], [11], []]


def test_evict_takes_leaves_before_what_they_stand_on() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    tree.insert(ints(1, 3), ints(10, 12))
    tree.match(ints(1, 2))
    assert [tree.evict(1).tolist() for _ in range(3)] == [[12], [11], [10]]


def test_evict_takes_no_more_than_it_is_asked_for_from_the_end_of_a_leaf() -> None:
    tree = RadixCache(page_size=2)
    tree.insert(run(0, 8), ints(10, 11, 12, 13))
    assert tree.evict(3).tolist() == [11, 12, 13]
    assert tree.match(run(0, 8)).pages.tolist() == [10]
    check(tree)


def test_evict_returns_less_than_asked_for_only_when_the_rest_is_locked() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    tree.lock(tree.insert(ints(1, 3), ints(10, 12)).node)
    assert tree.evict(99).tolist() == [11]
    assert tree.evict(1).tolist() == []
    assert tree.num_cached_pages == tree.num_locked_pages == 2
    check(tree)


def test_evict_of_no_pages_takes_none_and_a_negative_number_is_refused() -> None:
    tree = RadixCache()
    tree.insert(ints(1), ints(10))
    assert tree.evict(0).tolist() == []
    with pytest.raises(ValueError, match="num_pages: wanted 0 or more, got -1"):
        tree.evict(-1)
    assert tree.num_cached_pages == 1


def test_a_prefix_counts_as_used_until_it_is_unlocked() -> None:
    tree = RadixCache()
    held = tree.lock(tree.insert(ints(1), ints(10)).node)
    tree.insert(ints(2), ints(20))
    tree.unlock(held)
    assert tree.evict(2).tolist() == [20, 10]


def test_a_leaf_that_was_locked_when_it_came_up_is_evicted_after_its_unlock() -> None:
    tree = RadixCache()
    held = tree.lock(tree.insert(ints(1), ints(10)).node)
    tree.insert(ints(2), ints(20))
    assert tree.evict(2).tolist() == [20]
    tree.unlock(held)
    assert tree.evict(2).tolist() == [10]
    check(tree)


def test_a_split_leaf_keeps_its_place_in_the_order() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    tree.insert(ints(3), ints(30))
    tree.lock(tree.match(ints(1, 9)))  # touches [1 2] as a whole, then cuts it
    assert tree.evict(2).tolist() == [30, 11]


def test_evict_crosses_namespaces_and_forgets_the_empty_ones() -> None:
    tree = RadixCache()
    tree.insert(ints(1), ints(10), b"a")
    tree.insert(ints(1), ints(20), b"b")
    assert tree.evict(1).tolist() == [10]
    assert list(tree.roots) == [b"b"]
    tree.insert(ints(1), ints(30), b"a")
    assert tree.match(ints(1), b"a").pages.tolist() == [30]
    check(tree)


def test_clear_returns_every_unlocked_page_and_keeps_locked_prefixes() -> None:
    tree = RadixCache(page_size=2)
    tree.insert(run(0, 8), run(10, 4))
    tree.insert(run(0, 4), run(10, 2), b"other")
    held = tree.lock(tree.match(run(0, 4)))
    assert sorted(tree.clear().tolist()) == [10, 11, 12, 13]
    assert contents(tree) == {(b"", (0, 1)): 10, (b"", (0, 1, 2, 3)): 11}
    check(tree)
    tree.unlock(held)
    assert sorted(tree.clear().tolist()) == [10, 11]
    assert dict(tree.roots) == {}
    check(tree)


def test_the_queue_does_not_grow_with_use() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    for _ in range(50):
        tree.unlock(tree.lock(tree.match(ints(1, 2))))
    tree.insert(ints(1, 3), ints(10, 12))
    check(tree)  # holds the queue to one entry per node
    assert tree.evict(3).tolist() == [11, 12, 10]


@pytest.mark.slow
def test_a_tree_of_100k_nodes_and_a_million_tokens_answers_at_once() -> None:
    """12,500 prompts of 4 shared and 92 own tokens, 8 nodes each; bounds are loose, but a walk over the tree fails."""
    tree = RadixCache(page_size=4)
    random = np.random.default_rng(0)
    num_prompts, next_page = 12_500, 0
    prompts = []
    for _ in range(num_prompts):
        prompt = random.integers(0, 50_000, size=96, dtype=np.int32)
        prompt[:4] = 7
        prompts.append(prompt)
        node: RadixNode = tree.match(prompt[:0]).node
        for start in range(0, 96, 12):
            pages = run(next_page, 3)
            added = tree.extend(node, prompt[start : start + 12], pages)
            next_page += 3
            node = added.node
    num_nodes = sum(1 for _ in tree.nodes())
    num_pages = tree.num_cached_pages
    assert num_nodes > 100_000
    assert num_pages * 4 > 1_000_000

    started = time.perf_counter()
    for prompt in prompts[:1000]:
        assert tree.match(prompt).length == 96
    match_ms = time.perf_counter() - started  # of 1000, so ms each
    assert match_ms < 0.5, f"{match_ms:.3f} ms per match over 8 nodes"

    for prompt in prompts:
        tree.match(prompt)  # puts every entry of the queue out of date
    started = time.perf_counter()
    first = tree.evict(1)
    first_ms = 1000 * (time.perf_counter() - started)
    started = time.perf_counter()
    for _ in range(1000):
        assert len(tree.evict(8)) == 8
    evict_ms = time.perf_counter() - started
    assert evict_ms < 0.5, f"{evict_ms:.3f} ms to evict 8 pages"
    assert first_ms < 100, f"{first_ms:.1f} ms for the first evict after every leaf was used"

    started = time.perf_counter()
    rest = tree.clear()
    clear_ms = 1000 * (time.perf_counter() - started)
    assert len(first) + 8000 + len(rest) == num_pages
    assert (tree.num_cached_pages, dict(tree.roots)) == (0, {})
    print(
        f"\n{num_nodes} nodes, {num_pages} pages of 4: match over 8 nodes {1000 * match_ms:.1f} us, "
        f"evict of 8 pages {1000 * evict_ms:.1f} us, first evict after all leaves were used {first_ms:.1f} ms, "
        f"clear {clear_ms:.0f} ms"
    )
