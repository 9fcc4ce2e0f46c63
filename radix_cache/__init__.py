"""The prefix tree over KV pages: which pages hold which token prefixes, who needs them, and which may go first.

Moves page ids, never tensors.  Imported by runtime; needs numpy only.
"""

from .answers import Insertion, Match
from .events import CacheEvent, Cleared, Evicted, Listener, Split, Stored
from .invariants import check
from .node import IntArray, RadixNode
from .render import render
from .tree import RadixCache

__all__ = [
    "CacheEvent",
    "Cleared",
    "Evicted",
    "Insertion",
    "IntArray",
    "Listener",
    "Match",
    "RadixCache",
    "RadixNode",
    "Split",
    "Stored",
    "check",
    "render",
]
