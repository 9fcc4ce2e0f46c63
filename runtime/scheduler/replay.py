"""The replay simulator: what a cache of a given size would have computed of a trace, without a model.

Here: the events of a trace, and their replay against the real radix tree and page pool. Not here: when events happen
(timeline.py), workloads (benchmarks). Nothing of the engine imports this.

A replay knows no tokens per second. The order of events is fixed by the trace, so that every policy is asked the same
questions; a request takes all its pages when it starts, holds a lock while it runs and leaves its whole pages in the
tree, as the scheduler does. Thousands of requests a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from forktree.radix_cache import RadixCache, RadixNode

from ..memory.page_pool import PagePool
from ..request import IntArray

ReplayPolicy = Literal["lru", "next_use", "optimal"]


@dataclass(frozen=True, eq=False)
class TracedRequest:
    """One request of a traced program.

    tokens      int32, read-only: the prompt and its output of at least one token
    num_prompt  how many of them are the prompt, at least one
    role        what all requests of this kind are called, in every instance of the program
    after       the requests of this program, by index, that have to end before it is sent; earlier ones only
    pause_s     seconds between that and its sending: a tool, a person; 0 if the program has nothing in between
    parent      the request, by index, from whose tokens it goes on; None: from the program's own text
    num_known   leading tokens of the prompt that it has from there
    planned     whether the program knows from its start that it will send it; False: only once those before have ended,
                as in an agent that may stop after every step
    """

    tokens: IntArray
    num_prompt: int
    role: str
    num_known: int
    after: tuple[int, ...] = ()
    pause_s: float = 0.0
    parent: int | None = None
    planned: bool = True

    @property
    def prompt(self) -> IntArray:
        return self.tokens[: self.num_prompt]

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt


@dataclass(frozen=True, eq=False)
class Start:
    """The request leaves the queue and runs."""

    at_s: float
    request: TracedRequest


@dataclass(frozen=True, eq=False)
class End:
    at_s: float
    request: TracedRequest


@dataclass(frozen=True, eq=False)
class Expect:
    """The server announces a use of `tokens`, as it guesses for `use_s`; in place of what it said of this request."""

    at_s: float
    request: TracedRequest
    tokens: IntArray
    use_s: float


@dataclass(frozen=True, eq=False)
class Retire:
    """As the server knows, nobody goes on from the end of these tokens; the first `num_shared` are others' too."""

    at_s: float
    tokens: IntArray
    num_shared: int


Event: TypeAlias = "Start | End | Expect | Retire"


@dataclass(frozen=True)
class Outcome:
    """What one replay came to."""

    prompt_tokens: int
    computed_tokens: int  # of them; those that were not in the cache, and the last one of a prompt that was
    evicted_pages: int
    cached_pages: int  # in the end
    peak_running_pages: int  # needed at one time by those that ran: no cache can be smaller

    @property
    def hit_rate(self) -> float:
        return 1 - self.computed_tokens / self.prompt_tokens


def replay(events: Sequence[Event], num_pages: int, policy: ReplayPolicy, *, page_size: int = 1) -> Outcome:
    """Run a trace against a cache of `num_pages`.

    lru       announcements are ignored
    next_use  the tree is told what the trace's server announces, when it announces it
    optimal   the tree is told, before the first event, every use that the trace holds: Bélády's optimum (1966)

    In what sense it is the optimum: the order of starts and ends is given, a request must have all its pages while it
    runs, and every page missed costs the same. Evicting by farthest next use is then the best that can be done, and a
    tree can always do it: a prefix is used whenever what follows it is, so the farthest page is at the end of a leaf.
    With pages of one token no order of eviction computes fewer tokens; with larger ones this holds but for the last
    page of a prompt, whose last token is computed in any case.

    Raises ValueError if the requests that run at one time don't fit."""
    cache = _ReplayedCache(num_pages, page_size)
    if policy == "optimal":
        unneeded = 1 if page_size == 1 else 0  # the last token of a prompt is computed, whether or not it is cached
        for number, event in enumerate(events):
            if isinstance(event, Start):
                cache.tree.expect(event.request, event.request.prompt[: event.request.num_prompt - unneeded], number)
    for event in events:
        if isinstance(event, Start):
            cache.start(event.request)
        elif isinstance(event, End):
            cache.end(event.request)
        elif policy == "next_use":
            if isinstance(event, Expect):
                cache.tree.expect(event.request, event.tokens, event.use_s)
            else:
                cache.tree.retire(event.tokens, event.num_shared)
    return cache.outcome()


def unlimited(events: Sequence[Event], *, page_size: int = 1) -> Outcome:
    """A cache that never evicts: it computes each token once, and `cached_pages` is the working set of the trace."""
    requests = [event.request for event in events if isinstance(event, Start)]
    return replay(events, sum(_num_pages(request, page_size) for request in requests), "lru", page_size=page_size)


class _ReplayedCache:
    """Pages and tree under the requests of a trace."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.tree = RadixCache(page_size)
        self._pool = PagePool(num_pages)
        self._running: dict[TracedRequest, tuple[RadixNode, IntArray]] = {}  # the locked node, pages after it
        self._prompt_tokens = self._computed_tokens = self._evicted_pages = self._peak_running_pages = 0

    def start(self, request: TracedRequest) -> None:
        """Match, lock, take the pages that are missing, and share those of the prompt, as it is planned."""
        size = self.tree.page_size
        match = self.tree.match(request.prompt)
        node = self.tree.lock(match)
        pages = self._take(_num_pages(request, size) - len(match.pages), request)
        num_shared = request.num_prompt // size - len(match.pages)
        new_tokens = request.tokens[match.length : match.length + num_shared * size]
        added = self.tree.extend(node, new_tokens, pages[:num_shared])
        self._running[request] = (self.tree.move_lock(node, added.node), pages[num_shared:])
        self.tree.forget(request)
        self._prompt_tokens += request.num_prompt
        self._computed_tokens += request.num_prompt - min(match.length, request.num_prompt - 1)

    def end(self, request: TracedRequest) -> None:
        """Whole pages of what was computed go to the tree; the last token was sampled, and nothing computed from it."""
        size = self.tree.page_size
        node, pages = self._running.pop(request)
        tokens = request.tokens[node.end : len(request.tokens) - 1]
        num_whole = len(tokens) // size
        added = self.tree.extend(node, tokens[: num_whole * size], pages[:num_whole])
        self.tree.unlock(self.tree.move_lock(node, added.node))
        self._pool.give_back(np.concatenate([added.duplicates, pages[num_whole:]]))

    def _take(self, count: int, request: TracedRequest) -> IntArray:
        if (short := count - self._pool.num_free) > 0:
            evicted = self.tree.evict(short)
            self._evicted_pages += len(evicted)
            self._pool.give_back(evicted)
        num_running = self._pool.num_pages - self._pool.num_free - self.tree.num_evictable_pages + count
        self._peak_running_pages = max(self._peak_running_pages, num_running)
        if count > self._pool.num_free:
            raise ValueError(
                f"num_pages: got {self._pool.num_pages}; {num_running} are needed at one time, when a request of "
                f"{len(request.tokens)} tokens starts beside {len(self._running)} others"
            )
        return self._pool.take(count)

    def outcome(self) -> Outcome:
        return Outcome(
            self._prompt_tokens,
            self._computed_tokens,
            self._evicted_pages,
            self.tree.num_cached_pages,
            self._peak_running_pages,
        )


def _num_pages(request: TracedRequest, page_size: int) -> int:
    """That it needs in the end, for all but the token sampled last."""
    return -(-(len(request.tokens) - 1) // page_size)
