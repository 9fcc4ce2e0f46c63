"""What listeners are told, and that they cannot do harm."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from forktree.radix_cache import CacheEvent, Cleared, Evicted, RadixCache, Split, Stored, check

from .builders import ints


def plain(event: CacheEvent) -> tuple[Any, ...]:
    """An event without its arrays, to compare."""
    if isinstance(event, Stored):
        return "stored", event.node_id, event.parent_id, event.tokens.tolist(), event.pages.tolist()
    if isinstance(event, Split):
        return "split", event.node_id, event.upper_id, event.upper_tokens
    if isinstance(event, Evicted):
        return "evicted", event.node_id, event.pages.tolist(), event.remaining_tokens
    return "cleared", event.num_pages


def test_every_change_is_told_in_order() -> None:
    tree = RadixCache()
    events: list[CacheEvent] = []
    tree.subscribe(events.append)
    first = tree.insert(ints(1, 2, 3), ints(10, 11, 12), b"n").node
    second = tree.insert(ints(1, 4), ints(10, 14), b"n").node
    upper = second.parent
    assert upper is not None
    tree.evict(1)
    tree.clear()
    assert [plain(event) for event in events] == [
        ("stored", first.id, None, [1, 2, 3], [10, 11, 12]),
        ("split", first.id, upper.id, 1),
        ("stored", second.id, upper.id, [4], [14]),
        ("evicted", first.id, [12], 1),
        ("evicted", first.id, [11], 0),
        ("evicted", second.id, [14], 0),
        ("evicted", upper.id, [10], 0),
        ("cleared", 3),
    ]
    assert all(isinstance(event, Cleared) or event.namespace == b"n" for event in events)


def test_match_and_unlock_are_not_events() -> None:
    tree = RadixCache()
    tree.insert(ints(1, 2), ints(10, 11))
    events: list[CacheEvent] = []
    tree.subscribe(events.append)
    tree.unlock(tree.lock(tree.match(ints(1, 2))))
    assert events == []


def test_a_kept_event_does_not_change_with_the_tree() -> None:
    tree = RadixCache()
    events: list[CacheEvent] = []
    tree.subscribe(events.append)
    tree.insert(ints(1, 2), ints(10, 11))
    tree.evict(1)
    stored = events[0]
    assert isinstance(stored, Stored)
    assert (stored.tokens.tolist(), stored.pages.tolist()) == ([1, 2], [10, 11])
    with pytest.raises(ValueError, match="read-only"):
        stored.tokens[0] = 9


def test_unsubscribing_ends_the_events_and_may_be_done_twice() -> None:
    tree = RadixCache()
    events: list[CacheEvent] = []
    unsubscribe = tree.subscribe(events.append)
    unsubscribe()
    unsubscribe()
    tree.insert(ints(1), ints(10))
    assert events == []


def test_a_listener_that_raises_is_dropped_and_costs_no_page(caplog: pytest.LogCaptureFixture) -> None:
    tree = RadixCache()
    events: list[CacheEvent] = []

    def broken(event: CacheEvent) -> None:
        raise RuntimeError("boom")

    tree.insert(ints(1), ints(10))
    tree.insert(ints(2), ints(20))
    tree.subscribe(broken)
    tree.subscribe(events.append)
    with caplog.at_level(logging.ERROR):
        assert tree.evict(2).tolist() == [10, 20]
    assert len(events) == 2, "other listeners are called all the same"
    assert [
        record.getMessage().endswith("failed on 'Evicted' and is no longer called") for record in caplog.records
    ] == [True]
    check(tree)
