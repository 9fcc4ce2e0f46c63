"""Radix tree from token prefixes to KV pages.

Here: match, insert, lock, expect, evict.  Not here: tensors, page allocation, requests.
Imported by runtime; imports nothing of ours but this package.  One thread: the engine loop's.
After RadixAttention (Zheng et al. 2023, arXiv:2312.07104).

The tree owns the pages it was given by insert, until evict or clear hand them back.  A request that goes on reading
pages of the tree holds a lock on the node where its prefix ends:

    match = tree.match(prompt)                            # recency moves, nothing else
    held = tree.lock(match)                               # may split: exactly match.length tokens are pinned
    ...                                                   # compute a chunk into pages of its own
    added = tree.extend(held, chunk_tokens, chunk_pages)  # the tree's from now on; all but added.duplicates
    held = tree.move_lock(held, added.node)               # visits only the new nodes
    tree.unlock(held)                                     # may now be evicted, least recently used first

Who knows that a prefix will be used again says so (`expect`): such prefixes go last, the farthest next use first.  Who
knows that it won't says so too (`retire`): such go first of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from itertools import count
from types import MappingProxyType

from .answers import Insertion, Match
from .events import Cleared, Evicted, Listener, Split, Stored, Watchers
from .eviction import RETIRED, EvictionQueue, is_candidate, is_forsaken
from .next_use import ExpectedUse, arrive, leave, move_up
from .node import EMPTY, IntArray, RadixNode, concatenated, frozen_copy, page_key, path_up, walk
from .refusals import require_held, require_int32, require_present, require_run


class RadixCache:
    """Token prefixes and the KV pages that hold them, shared by all requests; one tree per namespace.

    Token and page arguments are one-dimensional int32 arrays and are copied; anything else raises ValueError.
    Only whole pages are cached, so lengths are multiples of `page_size`, in tokens.
    """

    def __init__(self, page_size: int = 1) -> None:
        if page_size < 1:
            raise ValueError(f"page_size: wanted at least 1 token, got {page_size}")
        self._page_size = page_size
        self._roots: dict[bytes, RadixNode] = {}  # those with a child, a lock or a use
        self._queue = EvictionQueue()
        self._expected: dict[Hashable, ExpectedUse] = {}
        self._watchers = Watchers()
        self._node_ids = count()
        self._use_numbers = count()
        self._tick = 0
        self._retired_tick = RETIRED
        self._num_cached_pages = 0
        self._num_locked_pages = 0

    # What it holds

    @property
    def page_size(self) -> int:
        """Tokens per page."""
        return self._page_size

    @property
    def num_cached_pages(self) -> int:
        """Pages the tree owns.  O(1)."""
        return self._num_cached_pages

    @property
    def num_locked_pages(self) -> int:
        """Those of them that a lock pins.  O(1)."""
        return self._num_locked_pages

    @property
    def num_evictable_pages(self) -> int:
        """Those of them that evict could return now.  O(1)."""
        return self._num_cached_pages - self._num_locked_pages

    @property
    def roots(self) -> Mapping[bytes, RadixNode]:
        """The root of each namespace that holds something: a read-only view."""
        return MappingProxyType(self._roots)

    def nodes(self) -> Iterator[RadixNode]:
        """Every node, roots included, parents before children.  A walk over the tree: for tests and people."""
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    # Looking up

    def match(self, tokens: IntArray, namespace: bytes = b"") -> Match:
        """The longest cached prefix of `tokens`, in whole pages.  Touches recency and changes nothing else.

        A node in which the match ends early is touched as a whole.
        """
        require_int32("tokens", tokens)
        self._tick += 1
        node = self._root_or_new(namespace)
        node.last_used = self._tick
        length = 0
        pages: list[IntArray] = []
        for child, num_shared in walk(node, tokens, self._page_size):
            child.last_used = self._tick
            node = child
            length += num_shared
            pages.append(child.pages[: num_shared // self._page_size])
        self._queue.repair()
        return Match(node, length, concatenated(pages))

    def prefix_tokens(self, tokens: IntArray, namespace: bytes = b"") -> int:
        """How many leading tokens are cached, without touching recency: for plans, policies and `explain`."""
        require_int32("tokens", tokens)
        root = self._roots.get(namespace)
        return 0 if root is None else sum(num_shared for _, num_shared in walk(root, tokens, self._page_size))

    # Adding

    def insert(self, tokens: IntArray, pages: IntArray, namespace: bytes = b"") -> Insertion:
        """Give the tree the pages that hold `tokens`, a whole prefix from its first token on.

        Where the tree has a prefix of them already its own pages stay, and given pages that differ come back as
        `duplicates`.  May split a node.  The tree owns the rest from here on: page ids must be new to it.
        Raises ValueError unless len(tokens) == len(pages) * page_size.
        """
        require_run(tokens, pages, self._page_size)
        return self._extend(self._root_or_new(namespace), tokens, pages)

    def extend(self, node: RadixNode, tokens: IntArray, pages: IntArray) -> Insertion:
        """insert, for tokens that follow the prefix `node` stands for: visits nothing above but to touch recency."""
        require_run(tokens, pages, self._page_size)
        require_present(node)
        return self._extend(node, tokens, pages)

    # Pinning

    def lock(self, target: Match | RadixNode) -> RadixNode:
        """Pin a matched prefix, or the prefix of a node, for one running request.

        Returns the node where the prefix ends exactly: give it to unlock, extend or move_lock.  Splits the node in
        which a match ends early, so that nothing beyond the match is pinned.
        Raises ValueError for a match or node that has been evicted since: match again.
        """
        node = self._node_of(target)
        for pinned in path_up(node):
            self._pin(pinned)
        node.holders += 1
        return node

    def unlock(self, node: RadixNode) -> None:
        """Give up one lock on `node`.  Its path counts as used until now.

        Raises ValueError, and changes nothing, where no lock ends at this node.
        """
        require_held(node)
        self._tick += 1
        node.holders -= 1
        for pinned in path_up(node):
            pinned.last_used = self._tick
            pinned.lock_count -= 1
            if pinned.lock_count == 0:
                self._num_locked_pages -= len(pinned.pages)
        self._reconsider(node)
        self._queue.repair()

    def move_lock(self, held: RadixNode, target: Match | RadixNode) -> RadixNode:
        """Give up one lock on `held` for one on `target`; no page on both paths is unlocked in between.

        Returns what lock(target) would.  Where target lies below held, as after extend, only the nodes between
        are visited.
        """
        require_held(held)
        node = self._node_of(target)
        above: RadixNode | None = node
        while above is not None and above is not held:
            self._pin(above)
            above = above.parent
        node.holders += 1
        if above is held:
            held.holders -= 1
        else:
            self.unlock(held)
        return node

    # Knowing what comes next

    def expect(self, use: Hashable, tokens: IntArray, at: float, namespace: bytes = b"") -> None:
        """Announce that `tokens` will be matched at the time `at`: what is cached of them is kept before all that
        nobody expects, and before what is expected later.  Pages cached from now on along these tokens are meant too.

        use      what the caller calls it; announcing it again replaces what was announced before
        tokens   the prefix known so far; copied, unless the array is read-only
        at       on any clock that grows and that all callers share; a guess is better than silence
        Touches no recency.  May split a node, so that nothing beyond the tokens is kept.  An announcement lasts until
        it is replaced or forgotten, whatever the time.  Walks the path once; O(log n) besides.
        """
        require_int32("tokens", tokens)
        if math.isnan(at):
            raise ValueError("at: wanted a time, got nan")
        self.forget(use)
        root = self._attached(self._root_or_new(namespace))
        whole = tokens[: len(tokens) - len(tokens) % self._page_size]
        kept = frozen_copy(whole) if whole.flags.writeable else whole
        expected = ExpectedUse(id=use, tokens=kept, at=at, number=next(self._use_numbers), node=root)
        self._expected[use] = expected
        arrive(expected, self._last_cached(root, kept), self._page_size)

    def forget(self, use: Hashable) -> None:
        """The use has happened, or won't.  No harm where it is unknown."""
        expected = self._expected.pop(use, None)
        if expected is not None:
            leave(expected, self._page_size)
            self._reconsider(expected.node)

    def retire(self, tokens: IntArray, start: int, namespace: bytes = b"") -> None:
        """As far as the caller knows nobody will use `tokens` again beyond the first `start`: they go before all else.

        From the end of what is cached of them upwards, as far as nothing else hangs on it: a lock, an announced use, or
        another branch that is not retired itself.  Whoever uses them again all the same brings them back.
        May split a node.
        """
        require_int32("tokens", tokens)
        root = self._roots.get(namespace)
        if root is None:
            return
        self._retired_tick += 1
        above = self._last_cached(root, tokens[:start])
        node = self._last_cached(above, tokens[above.end :])
        while node is not above and is_forsaken(node):
            if node.last_used >= 0:
                node.last_used = self._retired_tick
                self._reconsider(node)
            assert node.parent is not None
            node = node.parent

    # Taking away

    def evict(self, num_pages: int) -> IntArray:
        """Take up to `num_pages` unlocked pages out of the tree; the caller owns them from here on.

        Leaves go first: retired ones; then those that nobody expects to use, least recently used first; then the
        others, the farthest next use first.  A leaf goes from its end: when fewer pages than it has are wanted, the
        rest of it stays.
        Returns int32 page ids, fewer than asked for only if no more are unlocked.
        O(log n) per leaf, amortised.
        """
        if num_pages < 0:
            raise ValueError(f"num_pages: wanted 0 or more, got {num_pages}")
        taken: list[IntArray] = []
        num_missing = num_pages
        while num_missing > 0:
            leaf = self._queue.pop()
            if leaf is None:
                break
            pages = self._trim(leaf, num_missing)
            num_missing -= len(pages)
            taken.append(pages)
        return concatenated(taken)

    def clear(self) -> IntArray:
        """Take out every page that is not locked; locked prefixes stay.  Returns int32 page ids."""
        pages = self.evict(self.num_evictable_pages)
        self._watchers.tell(lambda: Cleared(len(pages)))
        return pages

    # Watching

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every event from now on, on the tree's thread; returns the call that ends it.

        A listener must not change the tree.  One that raises is logged with its traceback and unsubscribed.
        """
        return self._watchers.add(listener)

    # How

    def _extend(self, node: RadixNode, tokens: IntArray, pages: IntArray) -> Insertion:
        node = self._attached(node)
        self._tick += 1
        for above in path_up(node):
            above.last_used = self._tick
        already_present = 0
        present_pages: list[IntArray] = []
        for child, num_shared in walk(node, tokens, self._page_size):
            node = child if num_shared == len(child.tokens) else self._split(child, num_shared)
            node.last_used = self._tick
            already_present += num_shared
            present_pages.append(node.pages)
        num_present_pages = already_present // self._page_size
        present = concatenated(present_pages)
        given = pages[:num_present_pages]
        if already_present < len(tokens):
            node = self._add_leaf(node, tokens[already_present:], pages[num_present_pages:])
        self._reconsider(node)  # an empty insert leaves no root behind
        self._queue.repair()
        return Insertion(
            node=node,
            already_present=already_present,
            pages=concatenated([present, pages[num_present_pages:]]),
            duplicates=given[given != present],
        )

    def _add_leaf(self, parent: RadixNode, tokens: IntArray, pages: IntArray) -> RadixNode:
        leaf = RadixNode(
            id=next(self._node_ids),
            namespace=parent.namespace,
            tokens=frozen_copy(tokens),
            pages=frozen_copy(pages),
            parent=parent,
            end=parent.end + len(tokens),
            last_used=self._tick,
        )
        parent.children[page_key(leaf.tokens, 0, self._page_size)] = leaf
        self._num_cached_pages += len(leaf.pages)
        parent_id = None if parent.is_root else parent.id
        self._watchers.tell(lambda: Stored(leaf.id, parent_id, leaf.namespace, leaf.tokens, leaf.pages))
        if parent.uses is not None:
            for use in parent.uses.going_on_with(page_key(tokens, 0, self._page_size)):
                leave(use, self._page_size)
                arrive(use, self._last_cached(parent, use.tokens[parent.end :]), self._page_size)
        self._queue.add(leaf)
        return leaf

    def _split(self, node: RadixNode, num_tokens: int) -> RadixNode:
        """Cut `node` after its first `num_tokens`; it stays the lower part.  Returns the new upper part."""
        parent = node.parent
        assert parent is not None
        assert 0 < num_tokens < len(node.tokens)
        assert num_tokens % self._page_size == 0
        num_pages = num_tokens // self._page_size
        upper = RadixNode(
            id=next(self._node_ids),
            namespace=node.namespace,
            tokens=frozen_copy(node.tokens[:num_tokens]),
            pages=frozen_copy(node.pages[:num_pages]),
            parent=parent,
            end=node.start + num_tokens,
            last_used=node.last_used,
            lock_count=node.lock_count,  # every lock below passes through it; none ends there
        )
        node.tokens = frozen_copy(node.tokens[num_tokens:])
        node.pages = frozen_copy(node.pages[num_pages:])
        node.parent = upper
        upper.children[page_key(node.tokens, 0, self._page_size)] = node
        parent.children[page_key(upper.tokens, 0, self._page_size)] = upper
        self._watchers.tell(lambda: Split(node.id, upper.id, node.namespace, num_tokens))
        return upper

    def _trim(self, leaf: RadixNode, max_pages: int) -> IntArray:
        """Take up to `max_pages` from the end of a leaf that was just popped, and the leaf with its last page."""
        num_kept = max(0, len(leaf.pages) - max_pages)
        pages = leaf.pages[num_kept:]
        self._num_cached_pages -= len(pages)
        if num_kept > 0:
            remaining_tokens = num_kept * self._page_size
            leaf.end = leaf.start + remaining_tokens
            if leaf.uses is not None:
                leaf.uses.lose_pages(page_key(leaf.tokens, remaining_tokens, self._page_size))
            leaf.tokens = frozen_copy(leaf.tokens[:remaining_tokens])
            leaf.pages = frozen_copy(leaf.pages[:num_kept])
            self._queue.add(leaf)
        else:
            remaining_tokens = 0
            parent = leaf.parent
            assert parent is not None
            del parent.children[page_key(leaf.tokens, 0, self._page_size)]
            leaf.parent = None
            leaf.pages = EMPTY
            move_up(leaf, parent, self._page_size)
            self._reconsider(parent)
        self._watchers.tell(lambda: Evicted(leaf.id, leaf.namespace, pages, remaining_tokens))
        return pages

    def _pin(self, node: RadixNode) -> None:
        if node.lock_count == 0:
            self._num_locked_pages += len(node.pages)
        node.lock_count += 1

    def _root_or_new(self, namespace: bytes) -> RadixNode:
        """The root of a namespace; a new one is kept once it has a child, lock or use: looking up leaves no trace."""
        root = self._roots.get(namespace)
        if root is None:
            root = RadixNode(
                id=next(self._node_ids),
                namespace=namespace,
                tokens=EMPTY,
                pages=EMPTY,
                parent=None,
                end=0,
                last_used=self._tick,
            )
        return root

    def _attached(self, node: RadixNode) -> RadixNode:
        """`node` itself, or the root its namespace has by now."""
        return self._roots.setdefault(node.namespace, node) if node.is_root else node

    def _reconsider(self, node: RadixNode) -> None:
        """A lock, a child or a use is gone: the node may have become a candidate, go earlier, or be needed no more."""
        if is_candidate(node):
            self._queue.add(node)
        elif node.is_root and not node.children and node.lock_count == 0 and node.uses is None:
            self._roots.pop(node.namespace, None)

    def _last_cached(self, above: RadixNode, tokens: IntArray) -> RadixNode:
        """The node that ends the longest cached prefix of `tokens`, which follow `above`; splits to make it so."""
        node = above
        for child, num_shared in walk(above, tokens, self._page_size):
            node = child if num_shared == len(child.tokens) else self._split(child, num_shared)
        return node

    def _node_of(self, target: Match | RadixNode) -> RadixNode:
        """The node that ends exactly where target does; splits for a match that ends early."""
        if isinstance(target, RadixNode):
            require_present(target)
            return self._attached(target)
        node, length = target.node, target.length
        if node.is_evicted or length > node.end:
            raise ValueError(f"the match of {length} tokens is stale, its end has been evicted: match again")
        while node.parent is not None and length <= node.start:  # split since: the match ends in an upper part
            node = node.parent
        return self._attached(node) if length == node.end else self._split(node, length - node.start)
