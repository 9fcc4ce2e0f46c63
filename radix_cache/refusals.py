"""What a tree's caller can get wrong: each raises ValueError that says what was wanted and what to do.

Imported by tree.py.
"""

from __future__ import annotations

import numpy as np

from .node import IntArray, RadixNode


def require_int32(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
        got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name}: wanted a one-dimensional int32 array, got {got}")


def require_run(tokens: IntArray, pages: IntArray, page_size: int) -> None:
    """Raises unless these pages hold these tokens."""
    require_int32("tokens", tokens)
    require_int32("pages", pages)
    if len(tokens) != len(pages) * page_size:
        raise ValueError(
            f"tokens: wanted {len(pages)} pages of {page_size} tokens = {len(pages) * page_size}, got {len(tokens)}"
        )


def require_present(node: RadixNode) -> None:
    if node.is_evicted:
        raise ValueError(f"{node!r} is no longer in the tree: match again")


def require_held(node: RadixNode) -> None:
    if node.holders < 1:
        raise ValueError(f"{node!r}: no lock ends at this node; unlock the node that lock returned, once")
