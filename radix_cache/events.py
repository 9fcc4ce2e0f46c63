"""What happened to a tree, for those who watch it: router, metrics, the live tree view.

Here: the events and their delivery.  Not here: when they happen (tree.py).

Stored, Split and Evicted tell every change: a watcher that applies them in order, from an empty tree, holds the same
nodes.  Nodes are named by id, arrays are read-only and never change: an event may be kept, or sent to another process.
A namespace's root has no event of its own; it is where `parent_id` is None.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .node import IntArray

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Stored:
    """A new leaf."""

    node_id: int
    parent_id: int | None  # None: below the root of `namespace`
    namespace: bytes
    tokens: IntArray  # of the new node only
    pages: IntArray


@dataclass(frozen=True)
class Split:
    """A node was cut in two: `node_id` goes on as the lower part, `upper_id` is new and stands above it."""

    node_id: int
    upper_id: int
    namespace: bytes
    upper_tokens: int  # the first so many tokens of the node are now the upper part's


@dataclass(frozen=True, eq=False)
class Evicted:
    """Pages left the tree from the end of a leaf; where no token remains, the node is gone."""

    node_id: int
    namespace: bytes
    pages: IntArray  # those that left
    remaining_tokens: int


@dataclass(frozen=True)
class Cleared:
    """`clear` is done: a summary that follows the Evicted of every node it took."""

    num_pages: int


CacheEvent: TypeAlias = "Stored | Split | Evicted | Cleared"
Listener: TypeAlias = Callable[[CacheEvent], None]


class Watchers:
    """Those who listen to one tree."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> Callable[[], None]:
        """Returns the call that ends it; calling that twice does no harm."""
        self._listeners.append(listener)
        return lambda: self._remove(listener)

    def tell(self, make_event: Callable[[], CacheEvent]) -> None:
        """Call every listener; the event is made only if there is one.

        A listener that raises is logged with its traceback and dropped: this runs in the middle of insert and evict,
        and a watcher's fault must not cost the pages that the caller is about to be given.
        """
        if not self._listeners:
            return
        event = make_event()
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("listener %r failed on %r and is no longer called", listener, type(event).__name__)
                self._remove(listener)

    def _remove(self, listener: Listener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)
