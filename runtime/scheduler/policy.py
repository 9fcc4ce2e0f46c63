"""Which waiting request enters a step first: pure functions over what the scheduler knows.

Imported by the scheduler; imports numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import Policy
from ..request import Request

MAX_PASSED_OVER = 64  # steps after which a waiting request goes before every younger one, whatever the policy


@dataclass(frozen=True, eq=False)
class Candidate:
    """A waiting request as the policies see it."""

    request: Request
    num_matched: int  # tokens of its prefix that the tree holds
    num_waited: int  # steps since it was queued


def order(candidates: Sequence[Candidate], policy: Policy) -> list[Candidate]:
    """The candidates in the order in which they should enter; those that waited too long come first, oldest first."""
    key = _KEYS[policy]
    starved = sorted((c for c in candidates if c.num_waited > MAX_PASSED_OVER), key=_by_arrival)
    others = sorted((c for c in candidates if c.num_waited <= MAX_PASSED_OVER), key=key)
    return starved + others


def _by_arrival(candidate: Candidate) -> tuple[int]:
    return (candidate.request.arrival,)


def _by_match(candidate: Candidate) -> tuple[int, int]:
    """Longest prefix match first (RadixAttention, Zheng et al. 2023, section 3)."""
    return (-candidate.num_matched, candidate.request.arrival)


def _by_tokens(candidate: Candidate) -> tuple[bytes, int]:
    """Lexicographic order of the tokens is a depth-first walk of the prefix forest."""
    return (candidate.request.known.astype(">i4").tobytes(), candidate.request.arrival)


_KEYS: dict[Policy, Callable[[Candidate], tuple[object, ...]]] = {
    "fcfs": _by_arrival,
    "lpm": _by_match,
    "dfs": _by_tokens,
}
