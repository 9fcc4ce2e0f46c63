"""What a tree answers: to match, and to insert.

Here: plain values.  Not here: how they are found (tree.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from .node import IntArray, RadixNode


@dataclass(frozen=True, eq=False)
class Match:
    """The longest cached prefix of some tokens.  It holds nothing: good until the next evict or clear, unless locked.

    The prefix ends inside `node` or at its end; `node` is the root where nothing matched.
    """

    node: RadixNode
    length: int  # tokens; a multiple of the page size
    pages: IntArray  # int32 [length / page_size]: the pages of the whole prefix; the caller's own array


@dataclass(frozen=True, eq=False)
class Insertion:
    """Where inserted tokens are now.  Counts and arrays cover the tokens of this call only, not what was above."""

    node: RadixNode  # ends exactly with the inserted tokens
    already_present: int  # leading tokens that the tree had before; a multiple of the page size
    pages: IntArray  # int32 [len(tokens) / page_size]: the tree's pages for these tokens; the caller's own array
    duplicates: IntArray  # int32: those of the given pages that the tree did not take; the caller still owns them
