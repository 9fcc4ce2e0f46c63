"""The tree against a plain dictionary, under random operations, for page sizes 1 and 4.

The dictionary maps every cached prefix to its last page.  Eviction is compared, page by page, with a search of the
whole tree for the unlocked leaf that goes first, for which every announced prefix is compared with every leaf; events
are compared with a mirror that knows nothing else.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forktree.radix_cache import CacheEvent, Evicted, IntArray, Match, RadixCache, RadixNode, Split, Stored, check

from .builders import contents, ints, prefix_of

NUM_PAGES = 64
Prefix = tuple[bytes, tuple[int, ...]]

namespaces = st.sampled_from([b"", b"a"])
page_numbers = st.lists(st.integers(0, 2), max_size=8)  # which of three pages of tokens follows which


class Mirror:
    """The nodes of a tree as its events tell them."""

    def __init__(self) -> None:
        self.nodes: dict[int, tuple[int | None, bytes, list[int], list[int]]] = {}

    def __call__(self, event: CacheEvent) -> None:
        if isinstance(event, Stored):
            self.nodes[event.node_id] = (
                event.parent_id,
                event.namespace,
                event.tokens.tolist(),
                event.pages.tolist(),
            )
        elif isinstance(event, Split):
            parent_id, namespace, tokens, pages = self.nodes[event.node_id]
            at, page_at = event.upper_tokens, event.upper_tokens * len(pages) // len(tokens)
            self.nodes[event.upper_id] = (parent_id, namespace, tokens[:at], pages[:page_at])
            self.nodes[event.node_id] = (event.upper_id, namespace, tokens[at:], pages[page_at:])
        elif isinstance(event, Evicted):
            parent_id, namespace, tokens, pages = self.nodes.pop(event.node_id)
            assert pages[len(pages) - len(event.pages) :] == event.pages.tolist()
            if event.remaining_tokens:
                kept_pages = pages[: len(pages) - len(event.pages)]
                self.nodes[event.node_id] = (parent_id, namespace, tokens[: event.remaining_tokens], kept_pages)


class TreeAgainstDictionary(RuleBasedStateMachine):
    page_size: int

    def __init__(self) -> None:
        super().__init__()
        self.tree = RadixCache(self.page_size)
        self.mirror = Mirror()
        self.tree.subscribe(self.mirror)
        self.model: dict[Prefix, int] = {}
        self.free = list(range(NUM_PAGES))
        self.held: list[tuple[RadixNode, Prefix]] = []
        self.matches: list[tuple[Match, Prefix]] = []
        self.expected: dict[int, tuple[Prefix, float]] = {}

    # What the plain side says

    def tokens(self, numbers: list[int]) -> tuple[int, ...]:
        """Pages that differ only in their last token, so that a shared key decides nothing too early."""
        return tuple(token for number in numbers for token in [1] * (self.page_size - 1) + [number])

    def cached_prefix(self, namespace: bytes, tokens: tuple[int, ...]) -> tuple[int, ...]:
        length = 0
        while length + self.page_size <= len(tokens) and (namespace, tokens[: length + self.page_size]) in self.model:
            length += self.page_size
        return tokens[:length]

    def pages_of(self, namespace: bytes, tokens: tuple[int, ...]) -> list[int]:
        return [self.model[namespace, tokens[:end]] for end in range(self.page_size, len(tokens) + 1, self.page_size)]

    def locked_prefixes(self) -> set[Prefix]:
        return {
            (namespace, tokens[:end])
            for _, (namespace, tokens) in self.held
            for end in range(self.page_size, len(tokens) + 1, self.page_size)
        }

    def expected_eviction(self, num_pages: int) -> list[int]:
        """Search the whole tree for every single page."""
        gone: dict[RadixNode, int] = {}  # node -> pages taken from its end
        taken: list[list[int]] = []
        current: RadixNode | None = None
        while sum(map(len, taken)) < num_pages:
            leaves = [
                node
                for node in self.tree.nodes()
                if not node.is_root
                and node.lock_count == 0
                and gone.get(node, 0) < len(node.pages)
                and all(gone.get(child, 0) == len(child.pages) for child in node.children.values())
            ]
            if not leaves:
                break
            going = [(self.place(node, gone.get(node, 0)), node) for node in leaves]
            first = min(place for place, _ in going)
            best = [node for place, node in going if place == first]
            leaf = current if current in best else best[0]
            assert leaf is not None
            if leaf is not current:
                assert len(best) == 1, f"{best} go first alike"
                taken.append([])
                current = leaf
            gone[leaf] = gone.get(leaf, 0) + 1
            taken[-1].insert(0, int(leaf.pages[-gone[leaf]]))
        return [page for pages in taken for page in pages]

    def place(self, leaf: RadixNode, num_pages_gone: int) -> tuple[bool, float, int]:
        """The rule in plain words: unexpected before expected, the farthest next use first, then the least recent."""
        prefix = prefix_of(leaf)[: leaf.end - num_pages_gone * self.page_size]
        last_page = len(prefix) - self.page_size
        times = [
            at
            for (namespace, tokens), at in self.expected.values()
            if namespace == leaf.namespace and len(tokens) > last_page and tokens[: len(prefix)] == prefix
        ]
        return (True, -min(times), leaf.last_used) if times else (False, 0.0, leaf.last_used)

    def take(self, num_pages: int) -> list[int]:
        """Free pages, made free by eviction where they are short; fewer if all is locked."""
        if len(self.free) < num_pages:
            self.give_back(self.tree.evict(num_pages - len(self.free)))
        taken, self.free = self.free[:num_pages], self.free[num_pages:]
        return taken

    def give_back(self, pages: IntArray) -> None:
        evicted = set(pages.tolist())
        assert len(evicted) == len(pages)
        locked = self.locked_prefixes()
        for prefix in [prefix for prefix, page in self.model.items() if page in evicted]:
            assert prefix not in locked, f"page {self.model[prefix]} was evicted under a lock"
            evicted.remove(self.model.pop(prefix))
        assert not evicted, f"pages {evicted} were not in the tree"
        self.free += pages.tolist()

    # What happens

    @rule(numbers=page_numbers, extra=st.integers(0, 3), namespace=namespaces)
    def match(self, numbers: list[int], extra: int, namespace: bytes) -> None:
        tokens = self.tokens(numbers) + (1,) * (extra % self.page_size)
        expected = self.cached_prefix(namespace, tokens)
        before = [(node.id, node.tokens, node.pages, node.lock_count) for node in self.tree.nodes()]
        assert self.tree.prefix_tokens(ints(*tokens), namespace) == len(expected)
        match = self.tree.match(ints(*tokens), namespace)
        assert match.length == len(expected)
        assert match.pages.tolist() == self.pages_of(namespace, expected)
        assert prefix_of(match.node)[: match.length] == expected
        after = [(node.id, node.tokens, node.pages, node.lock_count) for node in self.tree.nodes()]
        assert len(before) == len(after)
        assert all(
            old[0] == new[0] and old[1] is new[1] and old[3] == new[3] for old, new in zip(before, after, strict=True)
        )
        self.matches = [*self.matches[-4:], (match, (namespace, expected))]

    @rule(numbers=page_numbers, namespace=namespaces, reuse=st.booleans())
    def insert(self, numbers: list[int], namespace: bytes, reuse: bool) -> None:
        tokens = self.tokens(numbers)
        own = self.take(len(numbers))
        tokens = tokens[: len(own) * self.page_size]
        present = self.cached_prefix(namespace, tokens)
        shared = self.pages_of(namespace, present)
        if reuse:  # as a request does that matched them
            self.free += own[: len(shared)]
            own[: len(shared)] = shared
        added = self.tree.insert(ints(*tokens), ints(*own), namespace)
        self.stored(namespace, tokens, 0, own, added.already_present, len(present))
        assert added.pages.tolist() == self.pages_of(namespace, tokens)
        assert added.duplicates.tolist() == ([] if reuse else own[: len(shared)])
        assert prefix_of(added.node) == tokens
        self.free += added.duplicates.tolist()

    @precondition(lambda self: self.held)
    @rule(numbers=page_numbers, which=st.integers(0, 99))
    def extend_and_move_the_lock(self, numbers: list[int], which: int) -> None:
        which %= len(self.held)
        node, (namespace, prefix) = self.held[which]
        own = self.take(len(numbers))
        tokens = prefix + self.tokens(numbers)[: len(own) * self.page_size]
        num_present = len(self.cached_prefix(namespace, tokens)) - len(prefix)
        added = self.tree.extend(node, ints(*tokens[len(prefix) :]), ints(*own))
        self.stored(namespace, tokens, len(prefix), own, added.already_present, num_present)
        assert added.pages.tolist() == self.pages_of(namespace, tokens)[len(prefix) // self.page_size :]
        assert added.duplicates.tolist() == own[: num_present // self.page_size]
        self.free += added.duplicates.tolist()
        self.held[which] = (self.tree.move_lock(node, added.node), (namespace, tokens))

    def stored(
        self, namespace: bytes, tokens: tuple[int, ...], start: int, own: list[int], present: int, expected: int
    ) -> None:
        assert present == expected
        for number in range(present // self.page_size, len(own)):
            self.model[namespace, tokens[: start + (number + 1) * self.page_size]] = own[number]

    @precondition(lambda self: self.matches)
    @rule(which=st.integers(0, 99))
    def lock_a_match_old_or_new(self, which: int) -> None:
        match, (namespace, prefix) = self.matches[which % len(self.matches)]
        if match.node.is_evicted or match.node.end < match.length:
            with pytest.raises(ValueError, match="match again"):
                self.tree.lock(match)
            return
        node = self.tree.lock(match)
        assert self.pages_of(namespace, prefix) == match.pages.tolist(), "a match that can be locked is still true"
        self.held.append((node, (namespace, prefix)))

    @rule(numbers=page_numbers, namespace=namespaces)
    def match_and_lock(self, numbers: list[int], namespace: bytes) -> None:
        prefix = self.cached_prefix(namespace, self.tokens(numbers))
        node = self.tree.lock(self.tree.match(ints(*self.tokens(numbers)), namespace))
        self.held.append((node, (namespace, prefix)))

    @precondition(lambda self: len(self.held) > 1)
    @rule(which=st.integers(0, 99), other=st.integers(0, 99))
    def move_a_lock_anywhere(self, which: int, other: int) -> None:
        which %= len(self.held)
        target, prefix = self.held[other % len(self.held)]
        self.held[which] = (self.tree.move_lock(self.held[which][0], target), prefix)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def unlock(self, which: int) -> None:
        node, _ = self.held.pop(which % len(self.held))
        self.tree.unlock(node)
        if all(other is not node for other, _ in self.held):
            with pytest.raises(ValueError, match="no lock ends at this node"):
                self.tree.unlock(node)

    @rule(
        use=st.integers(0, 5), numbers=page_numbers, extra=st.integers(0, 3), namespace=namespaces, at=st.integers(0, 9)
    )
    def expect(self, use: int, numbers: list[int], extra: int, namespace: bytes, at: int) -> None:
        tokens = self.tokens(numbers)
        before = {node.id: node.last_used for node in self.tree.nodes() if not node.is_root}
        self.tree.expect(use, ints(*tokens, *(1,) * (extra % self.page_size)), at, namespace)
        assert before.items() <= {node.id: node.last_used for node in self.tree.nodes()}.items()
        self.expected[use] = ((namespace, tokens), float(at))

    @rule(use=st.integers(0, 5))
    def forget(self, use: int) -> None:
        self.tree.forget(use)
        self.expected.pop(use, None)

    @rule(numbers=page_numbers, start=st.integers(0, 8), namespace=namespaces)
    def retire(self, numbers: list[int], start: int, namespace: bytes) -> None:
        tokens, start = self.tokens(numbers), start * self.page_size
        before = self.recency()
        kept = self.locked_prefixes() | {
            (space, prefix[:end]) for (space, prefix), _ in self.expected.values() for end in range(len(prefix) + 1)
        }
        self.tree.retire(ints(*tokens), start, namespace)
        after = self.recency()
        meant = {(namespace, tokens[:end]) for end in range(start + 1, len(tokens) + 1)}
        retired = {prefix for prefix, used in after.items() if used != before[prefix]}
        ends_of_uses = {(space, self.cached_prefix(space, prefix)) for (space, prefix), _ in self.expected.values()}
        assert retired <= meant - self.locked_prefixes() - ends_of_uses
        assert all(after[prefix] < 0 for prefix in retired)
        for space, prefix in (meant & after.keys()) - kept - retired:
            assert before[space, prefix] < 0 or any(
                used >= 0 or (other, longer) in kept
                for (other, longer), used in before.items()
                if other == space
                and len(longer) > len(prefix)
                and longer[: len(prefix)] == prefix
                and (other, longer) not in meant
            ), f"{prefix} is nobody's and was not retired"

    def recency(self) -> dict[Prefix, int]:
        """When each cached prefix, in whole pages, was last used."""
        return {
            (node.namespace, prefix_of(node)[:end]): node.last_used
            for node in self.tree.nodes()
            for end in range(node.start + self.page_size, node.end + 1, self.page_size)
        }

    @rule(num_pages=st.integers(0, 12))
    def evict(self, num_pages: int) -> None:
        expected = self.expected_eviction(num_pages)
        assert len(expected) == min(num_pages, self.tree.num_evictable_pages)
        evicted = self.tree.evict(num_pages)
        assert evicted.tolist() == expected
        self.give_back(evicted)

    @rule()
    def clear(self) -> None:
        self.give_back(self.tree.clear())
        assert set(self.model) == self.locked_prefixes()

    # What always holds

    @invariant()
    def the_tree_keeps_its_rules(self) -> None:
        check(self.tree)

    @invariant()
    def the_tree_holds_what_the_dictionary_holds(self) -> None:
        assert contents(self.tree) == self.model
        assert self.tree.num_locked_pages == len(self.locked_prefixes())

    @invariant()
    def every_page_has_one_owner(self) -> None:
        assert sorted([*self.free, *self.model.values()]) == list(range(NUM_PAGES))

    @invariant()
    def a_held_node_ends_where_its_request_does(self) -> None:
        for node, (namespace, prefix) in self.held:
            assert (node.namespace, prefix_of(node)) == (namespace, prefix)

    @invariant()
    def events_tell_everything(self) -> None:
        told = {
            node.id: (
                None if node.parent is None or node.parent.is_root else node.parent.id,
                node.namespace,
                node.tokens.tolist(),
                node.pages.tolist(),
            )
            for node in self.tree.nodes()
            if not node.is_root
        }
        assert self.mirror.nodes == told


class WithPagesOfOneToken(TreeAgainstDictionary):
    page_size = 1


class WithPagesOfFourTokens(TreeAgainstDictionary):
    page_size = 4


repeatable = settings(max_examples=150, stateful_step_count=50, deadline=None, derandomize=True, database=None)
TestWithPagesOfOneToken = pytest.mark.slow(WithPagesOfOneToken.TestCase)
TestWithPagesOfOneToken.settings = repeatable
TestWithPagesOfFourTokens = pytest.mark.slow(WithPagesOfFourTokens.TestCase)
TestWithPagesOfFourTokens.settings = repeatable


def test_the_common_prefix_of_two_runs_is_that_of_their_lists() -> None:
    from forktree.radix_cache.node import common_prefix_tokens

    random = np.random.default_rng(0)
    for _ in range(200):
        a, b = (random.integers(0, 2, size=random.integers(0, 6), dtype=np.int32) for _ in range(2))
        differ = [i for i, (x, y) in enumerate(zip(a.tolist(), b.tolist(), strict=False)) if x != y]
        assert common_prefix_tokens(a, b) == (differ[0] if differ else min(len(a), len(b))), f"{a} {b}"
