"""match, insert, extend, lock, unlock, move_lock: one behaviour each."""

from __future__ import annotations

import re

import numpy as np
import pytest

from forktree.radix_cache import RadixCache, check, render

from .builders import contents, ints, prefix_of, run


def shape(tree: RadixCache) -> list[tuple[int, list[int], list[int], int]]:
    """All of a tree but recency."""
    return [(node.id, node.tokens.tolist(), node.pages.tolist(), node.lock_count) for node in tree.nodes()]


# match


def test_match_in_an_empty_tree_finds_nothing_and_leaves_no_trace() -> None:
    tree = RadixCache()
    match = tree.match(ints(1, 2, 3), b"tenant")
    assert (match.length, match.pages.tolist(), match.node.is_root) == (0, [], True)
    assert dict(tree.roots) == {}


def test_match_returns_the_pages_of_the_whole_prefix_across_nodes() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    tree.insert(ints(1, 2, 4, 5), ints(10, 11, 14, 15))
    match = tree.match(ints(1, 2, 4, 5, 6))
    assert (match.length, match.pages.tolist()) == (4, [10, 11, 14, 15])
    assert match.pages.dtype == np.int32
    assert prefix_of(match.node) == (1, 2, 4, 5)


def test_match_that_ends_inside_a_node_names_that_node_and_does_not_split_it() -> None:
    tree = RadixCache()
    added = tree.insert(ints(1, 2, 3, 4), ints(10, 11, 12, 13))
    before = shape(tree)
    match = tree.match(ints(1, 2, 9))
    assert (match.node, match.length, match.pages.tolist()) == (added.node, 2, [10, 11])
    assert shape(tree) == before


def test_match_touches_every_node_it_used_and_no_other() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    other = tree.insert(ints(1, 2, 4), ints(10, 11, 14)).node
    before = other.last_used
    match = tree.match(ints(1, 2, 3))
    assert match.node.last_used > before
    assert match.node.parent is not None
    assert match.node.parent.last_used == match.node.last_used
    assert other.last_used == before


def test_pages_of_a_match_may_be_written_by_the_caller() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    tree.match(ints(1, 2)).pages[0] = 99
    assert tree.match(ints(1, 2)).pages.tolist() == [10, 11]


def test_match_is_a_multiple_of_the_page_size() -> None:
    tree = RadixCache(page_size=4)
    tree.insert(run(0, 12), ints(10, 11, 12))
    lengths = {num_tokens: tree.match(run(0, num_tokens)).length for num_tokens in (0, 3, 4, 7, 8, 12, 15)}
    assert lengths == {0: 0, 3: 0, 4: 4, 7: 4, 8: 8, 12: 12, 15: 12}


def test_a_page_that_differs_in_its_last_token_is_not_shared() -> None:
    tree = RadixCache(page_size=4)
    tree.insert(ints(1, 1, 1, 1, 2, 2, 2, 2), ints(10, 11))
    match = tree.match(ints(1, 1, 1, 1, 2, 2, 2, 9))
    assert (match.length, match.pages.tolist()) == (4, [10])


def test_prefix_tokens_agrees_with_match_and_does_not_touch_recency() -> None:
    tree = RadixCache(page_size=2)
    node = tree.insert(run(0, 8), run(10, 4)).node
    before = node.last_used
    assert tree.prefix_tokens(run(0, 7)) == 6
    assert tree.prefix_tokens(run(0, 7), b"other") == 0
    assert node.last_used == before


def test_namespaces_do_not_see_each_other() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11), b"a")
    tree.insert(ints(1, 2), ints(20, 21), b"b")
    assert tree.match(ints(1, 2), b"a").pages.tolist() == [10, 11]
    assert tree.match(ints(1, 2), b"b").pages.tolist() == [20, 21]
    assert tree.match(ints(1, 2)).length == 0
    check(tree)


# insert and extend


def test_insert_says_what_was_there_and_which_pages_the_caller_still_owns() -> None:
    tree = RadixCache()
    first = tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    assert (first.already_present, first.duplicates.tolist()) == (0, [])
    second = tree.insert(ints(1, 2, 4), ints(10, 21, 22))  # 10 was matched, 21 computed twice, 22 is new
    assert (second.already_present, second.pages.tolist(), second.duplicates.tolist()) == (2, [10, 11, 22], [21])
    assert prefix_of(second.node) == (1, 2, 4)
    assert tree.num_cached_pages == 4
    check(tree)


def test_insert_splits_at_a_page_and_never_inside_one() -> None:
    tree = RadixCache(page_size=4)
    tree.insert(ints(1, 1, 1, 1, 2, 2, 2, 2), ints(10, 11))
    tree.insert(ints(1, 1, 1, 1, 2, 2, 2, 9), ints(20, 21))
    assert contents(tree) == {
        (b"", (1, 1, 1, 1)): 10,
        (b"", (1, 1, 1, 1, 2, 2, 2, 2)): 11,
        (b"", (1, 1, 1, 1, 2, 2, 2, 9)): 21,
    }
    check(tree)


def test_insert_of_a_cached_prefix_ends_in_a_node_of_its_own() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    added = tree.insert(ints(1, 2), ints(20, 21))
    assert (added.already_present, added.pages.tolist(), added.duplicates.tolist()) == (2, [10, 11], [20, 21])
    assert (prefix_of(added.node), added.node.end) == ((1, 2), 2)
    check(tree)


def test_a_split_node_stays_the_lower_part() -> None:
    tree = RadixCache()
    lower = tree.insert(ints(1, 2, 3, 4), ints(10, 11, 12, 13)).node
    upper = tree.insert(ints(1, 2), ints(10, 11)).node
    assert (lower.tokens.tolist(), lower.pages.tolist(), lower.parent) == ([3, 4], [12, 13], upper)
    assert (upper.tokens.tolist(), upper.pages.tolist()) == ([1, 2], [10, 11])
    assert (lower.start, lower.end, upper.end) == (2, 4, 2)


def test_insert_copies_its_arguments() -> None:
    tree = RadixCache()
    tokens, pages = ints(1, 2), ints(10, 11)
    tree.insert(tokens, pages)
    tokens[:], pages[:] = 7, 7
    assert tree.match(ints(1, 2)).pages.tolist() == [10, 11]


def test_inserting_nothing_leaves_no_trace() -> None:
    tree = RadixCache()
    added = tree.insert(ints(), ints(), b"tenant")
    assert (added.already_present, added.pages.tolist(), added.node.is_root) == (0, [], True)
    assert dict(tree.roots) == {}
    check(tree)


def test_extend_goes_on_below_a_node_and_counts_only_its_own_tokens() -> None:
    tree = RadixCache()
    prompt = tree.insert(ints(1, 2), ints(10, 11)).node
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    added = tree.extend(prompt, ints(3, 4), ints(22, 23))
    assert (added.already_present, added.pages.tolist(), added.duplicates.tolist()) == (1, [12, 23], [22])
    assert prefix_of(added.node) == (1, 2, 3, 4)
    assert prompt.last_used == added.node.last_used, "the prefix was used as well"
    check(tree)


def test_extend_starts_a_tree_from_the_root_that_a_match_returned() -> None:
    tree = RadixCache()
    root = tree.match(ints(1, 2), b"tenant").node
    tree.insert(ints(5), ints(9), b"tenant")  # meanwhile the namespace got a root of its own
    tree.extend(root, ints(1, 2), ints(10, 11))
    assert tree.match(ints(1, 2), b"tenant").pages.tolist() == [10, 11]
    assert tree.match(ints(5), b"tenant").pages.tolist() == [9]
    check(tree)


def test_a_prompt_stored_chunk_by_chunk_is_one_prefix() -> None:
    tree = RadixCache(page_size=4)
    prompt = run(0, 40)
    held = tree.lock(tree.match(prompt))
    for start in range(0, 40, 8):
        added = tree.extend(held, prompt[start : start + 8], run(start // 4, 2))
        held = tree.move_lock(held, added.node)
        assert (held.end, tree.num_locked_pages) == (start + 8, start // 4 + 2)
        check(tree)
    assert tree.match(prompt).pages.tolist() == list(range(10))


# lock and unlock


def test_lock_pins_the_path_to_the_root_and_unlock_frees_it() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    branch = tree.insert(ints(1, 2, 4), ints(10, 11, 14)).node
    held = tree.lock(branch)
    assert held is branch
    assert (tree.num_cached_pages, tree.num_locked_pages, tree.num_evictable_pages) == (4, 3, 1)
    check(tree)
    tree.unlock(held)
    assert (tree.num_cached_pages, tree.num_locked_pages, tree.num_evictable_pages) == (4, 0, 4)
    check(tree)


def test_locking_a_match_that_ends_inside_a_node_pins_exactly_the_match() -> None:
    tree = RadixCache()
    lower = tree.insert(ints(1, 2, 3, 4), ints(10, 11, 12, 13)).node
    held = tree.lock(tree.match(ints(1, 2, 9)))
    assert (prefix_of(held), held.lock_count, lower.lock_count) == ((1, 2), 1, 0)
    assert lower.parent is held
    assert (tree.num_locked_pages, tree.num_evictable_pages) == (2, 2)
    check(tree)


def test_splitting_a_locked_node_keeps_its_lock_on_both_parts() -> None:
    tree = RadixCache()
    held = tree.lock(tree.insert(ints(1, 2, 3), ints(10, 11, 12)).node)
    upper = tree.insert(
        ints(
            1,
        ),
        ints(10),
    ).node
    assert (upper.lock_count, upper.holders, held.lock_count, held.holders) == (1, 0, 1, 1)
    check(tree)
    tree.unlock(held)
    assert (upper.lock_count, held.lock_count, tree.num_locked_pages) == (0, 0, 0)
    check(tree)


def test_two_locks_on_one_node_need_two_unlocks() -> None:
    tree = RadixCache()
    node = tree.insert(ints(1), ints(10)).node
    tree.lock(node)
    tree.lock(node)
    tree.unlock(node)
    assert tree.num_locked_pages == 1
    tree.unlock(node)
    assert tree.num_locked_pages == 0
    check(tree)


def test_a_match_stays_good_when_its_node_is_split_before_it_is_locked() -> None:
    tree = RadixCache()
    tree.insert(run(1, 6), run(10, 6))
    early, late = tree.match(run(1, 2)), tree.match(run(1, 5))
    tree.insert(run(1, 4), run(10, 4))
    assert prefix_of(tree.lock(early)) == (1, 2)
    assert prefix_of(tree.lock(late)) == (1, 2, 3, 4, 5)
    check(tree)


def test_an_empty_match_can_be_locked_and_keeps_its_namespace_until_unlocked() -> None:
    tree = RadixCache()
    match = tree.match(ints(1), b"tenant")
    held = tree.lock(match)
    assert tree.match(ints(1), b"tenant").node is held
    check(tree)
    tree.unlock(held)
    assert dict(tree.roots) == {}
    assert tree.lock(match) is held, "a root does not go stale"


def test_locking_an_old_root_locks_the_one_that_took_its_place() -> None:
    tree = RadixCache()
    old = tree.match(ints(1), b"tenant").node
    new = tree.insert(ints(1), ints(10), b"tenant").node.parent
    held = tree.lock(old)
    assert held is new
    tree.unlock(held)
    check(tree)


def test_locking_a_match_whose_end_was_evicted_is_refused() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2, 3), ints(10, 11, 12))
    whole, part = tree.match(ints(1, 2, 3)), tree.match(ints(1, 2))
    tree.evict(1)
    with pytest.raises(ValueError, match="the match of 3 tokens is stale, its end has been evicted"):
        tree.lock(whole)
    assert prefix_of(tree.lock(part)) == (1, 2)
    check(tree)


def test_a_node_that_was_evicted_can_be_neither_locked_nor_extended() -> None:
    tree = RadixCache()
    node = tree.insert(ints(1, 2), ints(10, 11)).node
    tree.evict(2)
    assert node.is_evicted
    for use in (lambda: tree.lock(node), lambda: tree.extend(node, ints(3), ints(12))):
        with pytest.raises(ValueError, match="no longer in the tree"):
            use()
    assert tree.num_cached_pages == 0
    check(tree)


def test_unlocking_what_is_not_locked_is_refused_and_changes_nothing() -> None:
    tree = RadixCache()
    prompt = tree.insert(ints(1), ints(10)).node
    held = tree.lock(tree.insert(ints(1, 2), ints(10, 11)).node)
    for node in (prompt, tree.insert(ints(3), ints(13)).node):  # one on a locked path, one not locked at all
        before = shape(tree)
        with pytest.raises(ValueError, match="no lock ends at this node"):
            tree.unlock(node)
        with pytest.raises(ValueError, match="no lock ends at this node"):
            tree.move_lock(node, held)
        assert shape(tree) == before
    tree.unlock(held)
    with pytest.raises(ValueError, match="no lock ends at this node"):
        tree.unlock(held)
    check(tree)


@pytest.mark.parametrize("target", ["below", "same", "above", "beside"])
def test_move_lock_pins_the_target_and_only_it(target: str) -> None:
    tree = RadixCache()
    above = tree.insert(ints(1), ints(10)).node
    held = tree.insert(ints(1, 2), ints(10, 11)).node
    nodes = {
        "above": above,
        "same": held,
        "below": tree.insert(ints(1, 2, 3), ints(10, 11, 12)).node,
        "beside": tree.insert(ints(1, 4, 5), ints(10, 14, 15)).node,
    }
    tree.lock(held)
    moved = tree.move_lock(held, nodes[target])
    assert moved is nodes[target]
    assert tree.num_locked_pages == moved.end
    check(tree)
    tree.unlock(moved)
    assert tree.num_locked_pages == 0
    check(tree)
    assert len(tree.clear()) == 5


def test_move_lock_to_a_match_inside_the_held_node_splits_it() -> None:
    tree = RadixCache()
    held = tree.lock(tree.insert(run(1, 4), run(10, 4)).node)
    moved = tree.move_lock(held, tree.match(run(1, 3)))
    assert (prefix_of(moved), tree.num_locked_pages, held.lock_count) == ((1, 2, 3), 3, 0)
    check(tree)


# what is refused


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([1, 2], "tokens: wanted a one-dimensional int32 array, got list"),
        (np.array([1, 2]), "tokens: wanted a one-dimensional int32 array, got int64 [2]"),
        (np.zeros((1, 2), np.int32), "tokens: wanted a one-dimensional int32 array, got int32 [1, 2]"),
    ],
)
def test_tokens_of_another_type_or_shape_are_refused(tokens: object, message: str) -> None:
    tree = RadixCache()
    for use in (tree.match, tree.prefix_tokens, lambda wrong: tree.insert(wrong, ints(1, 2))):
        with pytest.raises(ValueError, match=re.escape(message)):
            use(tokens)  # type: ignore[arg-type]


def test_pages_that_do_not_fit_the_tokens_are_refused() -> None:
    tree = RadixCache(page_size=4)
    with pytest.raises(ValueError, match=re.escape("tokens: wanted 2 pages of 4 tokens = 8, got 7")):
        tree.insert(run(0, 7), ints(1, 2))
    with pytest.raises(ValueError, match=re.escape("pages: wanted a one-dimensional int32 array, got int64 [1]")):
        tree.insert(run(0, 4), np.array([1]))  # type: ignore[arg-type]
    assert dict(tree.roots) == {}


def test_a_page_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="page_size: wanted at least 1 token, got 0"):
        RadixCache(page_size=0)


# the tree as text, and the check


def test_render_draws_the_tree_with_the_most_recently_used_first() -> None:
    tree = RadixCache(page_size=2)
    tree.insert(ints(1, 1, 2, 2, 3, 3), ints(10, 11, 12))
    tree.insert(ints(1, 1, 4, 4), ints(10, 17))
    tree.lock(tree.insert(ints(5, 5, 6, 6), ints(20, 30), b"b").node)
    assert render(tree, max_tokens=2) == (
        "6 pages of 2 tokens cached, 2 locked, 4 evictable\n"
        "namespace b''\n"
        "└─ [1 1]  2 tokens, pages 10, used 2\n"
        "   ├─ [4 4]  2 tokens, pages 17, used 2\n"
        "   └─ [2 2] ...  4 tokens, pages 11-12, used 1\n"
        "namespace b'b'\n"
        "└─ [5 5] ...  4 tokens, pages 20,30, used 3, locked 1"
    )


def test_render_shows_text_and_stops_at_max_nodes() -> None:
    tree = RadixCache()
    for token in (104, 105, 106):
        tree.insert(ints(token), ints(token))
    drawn = render(tree, detokenize=lambda tokens: "".join(map(chr, tokens.tolist())), max_nodes=2)
    assert drawn.splitlines()[1:] == ["namespace b''", "├─ 'j'  1 token, pages 106, used 3", "... and 2 more nodes"]


def test_check_names_every_broken_rule() -> None:
    tree = RadixCache()
    node = tree.insert(ints(1, 2), ints(10, 11)).node
    tree.insert(ints(3), ints(10))
    node.lock_count = 1
    with pytest.raises(AssertionError) as broken:
        check(tree)
    message = str(broken.value)
    assert "pages are in the tree twice: [10]" in message
    assert "lock_count 1, but 0 held here and 0 below" in message
    assert "num_locked_pages says 0, the nodes hold 2" in message
