"""Every rule of the tree in one place, for tests and debug runs: walks the whole tree."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .eviction import FEW_ENTRIES, is_candidate, place_of
from .next_use import ExpectedUse, next_page
from .node import PageKey, RadixNode, page_key, path_up
from .tree import RadixCache


def check(tree: RadixCache) -> None:
    """Raises AssertionError naming every broken rule and the node that breaks it."""
    broken = list(_broken_rules(tree))
    if broken:
        raise AssertionError(f"{len(broken)} broken rules of the radix tree:\n" + "\n".join(broken))


def _broken_rules(tree: RadixCache) -> Iterator[str]:
    nodes = list(tree.nodes())
    for namespace, root in tree.roots.items():
        yield from _broken_rules_of_root(namespace, root)
    for node in nodes:
        yield from _broken_rules_of_node(tree, node)
        yield from _broken_rules_of_uses(tree, node)

    ids = [node.id for node in nodes]
    if len(set(ids)) != len(ids):
        yield f"node ids are used twice: {sorted(ids)}"
    owned = np.concatenate([node.pages for node in nodes]) if nodes else np.empty(0, dtype=np.int32)
    page_ids, num_owners = np.unique(owned, return_counts=True)
    if (num_owners > 1).any():
        yield f"pages are in the tree twice: {page_ids[num_owners > 1].tolist()}"

    num_locked = sum(len(node.pages) for node in nodes if node.lock_count > 0)
    counts = {
        "num_cached_pages": (tree.num_cached_pages, len(owned)),
        "num_locked_pages": (tree.num_locked_pages, num_locked),
        "num_evictable_pages": (tree.num_evictable_pages, len(owned) - num_locked),
    }
    for name, (counted, actual) in counts.items():
        if counted != actual:
            yield f"{name} says {counted}, the nodes hold {actual}"
    if len(tree._queue) > FEW_ENTRIES + 2 * len(nodes):
        yield f"the eviction queue holds {len(tree._queue)} entries for {len(nodes)} nodes"
    num_standing = sum(len(node.uses) for node in nodes if node.uses is not None)
    if num_standing != len(tree._expected):
        yield f"{num_standing} uses stand at nodes, {len(tree._expected)} are expected"


def _broken_rules_of_root(namespace: bytes, root: RadixNode) -> Iterator[str]:
    if root.parent is not None or len(root.tokens) or len(root.pages) or root.end != 0:
        yield f"{root!r}: a root has no parent, no tokens and no pages"
    if root.namespace != namespace:
        yield f"{root!r}: kept under {namespace!r}, but belongs to {root.namespace!r}"
    if not root.children and root.lock_count == 0 and root.uses is None:
        yield f"{root!r}: a root with neither child, lock nor use is forgotten"


def _broken_rules_of_node(tree: RadixCache, node: RadixNode) -> Iterator[str]:
    page_size = tree.page_size
    if node.parent is not None:
        if len(node.tokens) == 0:
            yield f"{node!r}: a node holds at least one page"
        if len(node.tokens) != len(node.pages) * page_size:
            yield f"{node!r}: {len(node.tokens)} tokens in {len(node.pages)} pages of {page_size}"
        if node.end != node.parent.end + len(node.tokens):
            yield f"{node!r}: ends at {node.end}, its parent at {node.parent.end}"
        if node.last_used > node.parent.last_used:
            yield f"{node!r}: used at {node.last_used}, after its parent, used at {node.parent.last_used}"
        if node.namespace != node.parent.namespace:
            yield f"{node!r}: in {node.namespace!r} below a parent in {node.parent.namespace!r}"
    if node.tokens.dtype != np.int32 or node.pages.dtype != np.int32:
        yield f"{node!r}: tokens are {node.tokens.dtype}, pages {node.pages.dtype}; wanted int32"
    if node.tokens.flags.writeable or node.pages.flags.writeable:
        yield f"{node!r}: its arrays can be written to"
    num_held_below = sum(child.lock_count for child in node.children.values())
    if node.holders < 0 or node.lock_count != node.holders + num_held_below:
        yield f"{node!r}: lock_count {node.lock_count}, but {node.holders} held here and {num_held_below} below"
    if is_candidate(node):
        queued_at = tree._queue.queued_at(node)
        if queued_at is None:
            yield f"{node!r}: an unlocked leaf that eviction does not know of"
        elif queued_at > place_of(node):
            yield f"{node!r}: queued at {queued_at}, too late for {place_of(node)}"
    for key, child in node.children.items():
        if child.parent is not node:
            yield f"{child!r}: its parent is {child.parent!r}, but {node!r} holds it"
        if key != page_key(child.tokens, 0, page_size):
            yield f"{child!r}: kept under another key than its first page"


def _broken_rules_of_uses(tree: RadixCache, node: RadixNode) -> Iterator[str]:
    if node.uses is None:
        return
    uses = node.uses.in_order()
    if not uses:
        yield f"{node!r}: keeps a list of no uses"
    if [(use.at, use.number) for use in uses] != sorted((use.at, use.number) for use in uses):
        yield f"{node!r}: its uses are out of order"
    prefix = np.concatenate([above.tokens for above in reversed(list(path_up(node)))])
    by_next_page: dict[PageKey, set[ExpectedUse]] = {}
    for use in uses:
        if use.node is not node or tree._expected.get(use.id) is not use:
            yield f"{node!r}: the use {use.id!r} is not expected, or elsewhere"
        if not np.array_equal(use.tokens[: node.end], prefix):
            yield f"{node!r}: the use {use.id!r} stands on another path"
        key = next_page(use, tree.page_size)
        if key in node.children:
            yield f"{node!r}: the use {use.id!r} stands here, but goes on in {node.children[key]!r}"
        by_next_page.setdefault(key, set()).add(use)
    for key, same_page in by_next_page.items():
        if same_page != set(node.uses.going_on_with(key)):
            yield f"{node!r}: not every use that goes on with {key!r} is found by it"
