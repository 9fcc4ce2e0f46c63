"""Announced uses: who will come back for which prefix, and when.

Here: a use, and the uses that stand at one node.  Not here: announcing (tree.py), the order of eviction (eviction.py).

A use stands at exactly one node: the one that ends the longest cached prefix of its tokens.  It moves down when the
tree gains more of its tokens and up when it loses some, so the uses that stand at a leaf are all that its pages are
known to be wanted for, and the soonest of them is the leaf's next use.  Nothing has to be kept for the nodes above:
they can't be evicted before the leaf is, and by then its uses have moved up to them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable

from .node import IntArray, PageKey, RadixNode, page_key


class ExpectedUse:
    """One announced use of a prefix."""

    __slots__ = ("at", "id", "node", "number", "tokens")

    id: Hashable  # what the one who announced it calls it
    tokens: IntArray  # int32, read-only: the whole prefix, in whole pages
    at: float  # when, on the announcer's clock
    number: int  # unique in its tree: orders uses of the same time
    node: RadixNode  # where it stands

    def __init__(self, *, id: Hashable, tokens: IntArray, at: float, number: int, node: RadixNode) -> None:
        self.id = id
        self.tokens = tokens
        self.at = at
        self.number = number
        self.node = node


class NodeUses:
    """The uses that stand at one node; never empty: the node drops it with the last of them.

    Kept in order of time, for eviction, and by the page that each wants next, so that a new child finds those that go
    on with it without a look at the others: a thousand programs may wait at the end of one system prompt.
    """

    __slots__ = ("_by_next_page", "_in_order")

    def __init__(self) -> None:
        self._in_order: list[tuple[float, int, ExpectedUse]] = []
        self._by_next_page: dict[PageKey, set[ExpectedUse]] = {}

    def __len__(self) -> int:
        return len(self._in_order)

    @property
    def soonest(self) -> float:
        return self._in_order[0][0]

    def in_order(self) -> list[ExpectedUse]:
        """Soonest first."""
        return [use for _, _, use in self._in_order]

    def going_on_with(self, key: PageKey) -> list[ExpectedUse]:
        """Those whose next page has this key, soonest first."""
        return sorted(self._by_next_page.get(key, ()), key=_place)

    def add(self, use: ExpectedUse, next_page: PageKey) -> None:
        insort(self._in_order, (use.at, use.number, use))
        self._by_next_page.setdefault(next_page, set()).add(use)

    def remove(self, use: ExpectedUse, next_page: PageKey) -> None:
        del self._in_order[bisect_left(self._in_order, (use.at, use.number))]
        same_page = self._by_next_page[next_page]
        same_page.remove(use)
        if not same_page:
            del self._by_next_page[next_page]

    def lose_pages(self, next_page: PageKey) -> None:
        """Pages left the end of the node: the first of them is what every use wants next."""
        self._by_next_page = {next_page: set().union(*self._by_next_page.values())}


def arrive(use: ExpectedUse, node: RadixNode, page_size: int) -> None:
    """From now on `use` stands at `node`."""
    use.node = node
    if node.uses is None:
        node.uses = NodeUses()
    node.uses.add(use, next_page(use, page_size))


def leave(use: ExpectedUse, page_size: int) -> None:
    """`use` stands at its node no longer."""
    uses = use.node.uses
    assert uses is not None
    uses.remove(use, next_page(use, page_size))
    if not uses:
        use.node.uses = None


def move_up(evicted: RadixNode, parent: RadixNode, page_size: int) -> None:
    """All that stood at an evicted leaf stands at its parent."""
    uses, evicted.uses = evicted.uses, None
    if uses is not None:
        for use in uses.in_order():
            arrive(use, parent, page_size)


def next_page(use: ExpectedUse, page_size: int) -> PageKey:
    """The key of the first page that `use` misses where it stands; b"" if it misses none."""
    return page_key(use.tokens, use.node.end, page_size)


def _place(use: ExpectedUse) -> tuple[float, int]:
    return use.at, use.number
