"""What the radix tree is made of: a node, and how runs of tokens are compared.

Here: RadixNode, page keys, the walk down a tree and up again.  Not here: any rule about locks, recency or eviction.
Imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .next_use import NodeUses

IntArray = npt.NDArray[np.int32]
PageKey = bytes
"""The bytes of one page of int32 tokens: equal exactly where the tokens are equal."""


class RadixNode:
    """A run of tokens below one parent, and the pages that hold it.  len(tokens) == len(pages) * page_size.

    Identity is stable and hashable: a node that is split stays the lower part (its last token and its children do not
    change), so whoever keeps a locked node keeps the end of its prefix.  An evicted node has no parent and keeps its
    tokens; a root has no parent and no tokens.  Only RadixCache writes to a node; both arrays are read-only.
    """

    __slots__ = (
        "children",
        "end",
        "holders",
        "id",
        "last_used",
        "lock_count",
        "namespace",
        "pages",
        "parent",
        "tokens",
        "uses",
    )

    id: int  # unique in its tree; what events call the node by
    namespace: bytes  # of the root above
    tokens: IntArray  # int32 [n]; this run only, not the whole prefix
    pages: IntArray  # int32 [n / page_size], page ids
    children: dict[PageKey, RadixNode]  # keyed by the child's first page of tokens
    parent: RadixNode | None  # None only for a root, and once evicted
    lock_count: int  # running requests that need this path: the holders here and in all nodes below
    holders: int  # those of them whose lock ends exactly here
    last_used: int  # logical tick, so tests need no clock; never below that of a child; negative once retired
    end: int  # tokens from the root to the end of this run: the length of the prefix this node stands for
    uses: NodeUses | None  # announced uses whose longest cached prefix ends here; None for none

    def __init__(
        self,
        *,
        id: int,
        namespace: bytes,
        tokens: IntArray,
        pages: IntArray,
        parent: RadixNode | None,
        end: int,
        last_used: int,
        lock_count: int = 0,
    ) -> None:
        self.id = id
        self.namespace = namespace
        self.tokens = tokens
        self.pages = pages
        self.children = {}
        self.parent = parent
        self.lock_count = lock_count
        self.holders = 0
        self.last_used = last_used
        self.end = end
        self.uses = None

    @property
    def start(self) -> int:
        """Tokens from the root to the beginning of this run."""
        return self.end - len(self.tokens)

    @property
    def is_root(self) -> bool:
        return self.parent is None and len(self.tokens) == 0

    @property
    def is_evicted(self) -> bool:
        """Gone from its tree: its pages belong to whoever called evict."""
        return self.parent is None and len(self.tokens) > 0

    def __repr__(self) -> str:
        state = "root, " if self.is_root else "evicted, " if self.is_evicted else ""
        return (
            f"RadixNode({state}id={self.id}, tokens [{self.start}, {self.end}), {len(self.pages)} pages, "
            f"{len(self.children)} children, lock_count={self.lock_count}, last_used={self.last_used})"
        )


def page_key(tokens: IntArray, start: int, page_size: int) -> PageKey:
    """The key under which a parent keeps the child whose run begins with tokens[start : start + page_size]."""
    return tokens[start : start + page_size].tobytes()


def common_prefix_tokens(a: IntArray, b: IntArray) -> int:
    """How many leading tokens a and b share, compared in bulk."""
    num_tokens = min(len(a), len(b))
    if num_tokens == 0:
        return 0
    differs = a[:num_tokens] != b[:num_tokens]
    first = int(differs.argmax())  # the first True, or 0 where there is none
    return first if differs[first] else num_tokens


def walk(node: RadixNode, tokens: IntArray, page_size: int) -> Iterator[tuple[RadixNode, int]]:
    """The nodes below `node` that spell a prefix of `tokens`, each with how many tokens it shares (whole pages).

    Only the last may share less than all it has.
    """
    position, end = 0, len(tokens) - len(tokens) % page_size
    while position < end:
        child = node.children.get(page_key(tokens, position, page_size))
        if child is None:
            return
        num_shared = common_prefix_tokens(child.tokens, tokens[position:end])
        num_shared -= num_shared % page_size
        ends_early = num_shared < len(child.tokens)  # asked before the yield: the receiver may split the child
        yield child, num_shared
        if ends_early:
            return
        node = child
        position += num_shared


def path_up(node: RadixNode) -> Iterator[RadixNode]:
    """`node` and everything above it, the root last."""
    above: RadixNode | None = node
    while above is not None:
        yield above
        above = above.parent


def concatenated(arrays: list[IntArray]) -> IntArray:
    """One new writable array."""
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int32)


def frozen_copy(array: IntArray) -> IntArray:
    """A private read-only copy: the caller may reuse its buffer, and events may share ours."""
    copy = array.copy()
    copy.setflags(write=False)
    return copy


EMPTY: IntArray = frozen_copy(np.empty(0, dtype=np.int32))
