"""Small arrays and trees for the tests beside this file."""

from __future__ import annotations

import numpy as np

from forktree.radix_cache import IntArray, RadixCache, RadixNode


def ints(*values: int) -> IntArray:
    return np.array(values, dtype=np.int32)


def run(first: int, num_values: int) -> IntArray:
    """num_values consecutive numbers from first on."""
    return np.arange(first, first + num_values, dtype=np.int32)


def contents(tree: RadixCache) -> dict[tuple[bytes, tuple[int, ...]], int]:
    """What the tree holds, with no tree in it: (namespace, every cached prefix in whole pages) -> its last page."""
    found = {}
    for node in tree.nodes():
        prefix = prefix_of(node)
        for page_number, page in enumerate(node.pages.tolist(), start=1):
            found[node.namespace, prefix[: node.start + page_number * tree.page_size]] = page
    return found


def prefix_of(node: RadixNode) -> tuple[int, ...]:
    """Every token from the root to the end of node."""
    runs: list[list[int]] = []
    above: RadixNode | None = node
    while above is not None:
        runs.append(above.tokens.tolist())
        above = above.parent
    return tuple(token for tokens in reversed(runs) for token in tokens)
