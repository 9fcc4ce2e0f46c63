"""The scheduler: requests and page counts in, Step out.

Here: who runs, which spans a step holds, who owns which page, who is retracted. Not here: tensors, text, time.
Imported by the engine loop; imports the page pool, the radix cache and request. One thread: the engine loop's.

Pages. A page is owned by the free list, by a tree node, or by one request: the first `num_shared_pages` of a request's
page table belong to the tree (locked by the request), the rest to the request.  free + cached + running == total.

Sharing in flight. Pages of known tokens enter the tree when their span is *planned*, not when it has run: steps run
in order, and within a step a layer's keys and values are written before any are read, so a request planned later, even
into the same step, may read them. A request whose next tokens another one is just prefilling waits for those.

After RadixAttention (Zheng et al. 2023, arXiv:2312.07104) and Orca's iteration-level scheduling (Yu et al. 2022).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Iterator, Sequence

import numpy as np

from forktree.radix_cache import Match, RadixCache

from ..config import EngineConfig
from ..errors import EngineOverloaded
from ..memory.page_pool import PagePool
from ..request import IntArray, Request, Span, State, Step
from .counters import Counters
from .policy import Candidate, order

POLICY_WINDOW = 128  # the oldest waiting requests, among which a policy chooses
DECODE_HEADROOM_TOKENS = 16  # kept free for each running request when another one is admitted


class Scheduler:
    """Owns requests, pages and the tree of one engine."""

    def __init__(self, config: EngineConfig, pool: PagePool) -> None:
        self._config = config
        self.pool = pool
        self.tree = RadixCache(config.page_size)
        self.counters = Counters()
        self._waiting: list[Request] = []  # by arrival
        self._holding: dict[int, Request] = {}  # requests that hold pages, by id
        self._free_slots = list(range(config.max_running_requests - 1, -1, -1))
        self._arrivals = 0
        self._queued_at: dict[int, int] = {}  # request id -> number of the step at which it was queued
        self._num_expected: dict[Hashable, int] = {}  # owner -> how many uses it has announced

    # -- requests in and out ------------------------------------------------------------------------------------------

    def add(self, *requests: Request) -> None:
        """Queue the new requests of one call. Raises EngineOverloaded, changing nothing, if the queue is full."""
        if len(self._waiting) >= self._config.max_queued_requests:
            raise EngineOverloaded(f"{len(self._waiting)} requests wait already; try again later")
        for request in requests:
            request.arrival = self._arrivals
            self._arrivals += 1
            self.counters.prompt_tokens += request.num_prompt - request.num_inherited
            self._queue(request)

    def finish(self, request: Request, *, keep: bool = True) -> None:
        """The request ends here, finished or aborted, in whatever state it is; doing it twice is harmless.

        keep   False: what it computed does not enter the cache"""
        request.keep = request.keep and keep
        if request.state in (State.ENDED, State.ENDING):
            return
        if request.state is State.QUEUED:
            self._unqueue(request)
            request.move(State.ENDED)
        elif request.steps_in_flight:
            if request.keep:
                self._share(request)  # whoever goes on from its output need not wait for the step in flight
            request.move(State.ENDING)
        else:
            self._release(request)
            request.move(State.ENDED)

    def land(self, span: Span, token_id: int | None, *, keep: bool = True) -> bool:
        """A span's step has run; `token_id` is what it sampled. False if the request had ended, which drops it.

        keep   False: what it computed does not enter the cache"""
        request = span.request
        request.keep = request.keep and keep
        request.steps_in_flight -= 1
        if request.state is State.ENDING:
            if not request.steps_in_flight:
                self._release(request)
                request.move(State.ENDED)
            return False
        if token_id is not None:
            request.append(token_id)
            self.counters.generated_tokens += 1
        return True

    def cut(self, request: Request, num_replaced: int, num_forced: int) -> None:
        """Drop the last `num_replaced` tokens, to be replaced by `num_forced` others (`force`).

        Only tokens that landed last may go: nobody shares them yet. Steps in flight may compute one of them: they run
        before any that is planned from now on, so those write over it, and what they sample is stale (Span.is_stale).
        """
        num_kept = request.num_tokens - num_replaced
        assert num_kept >= max(request.num_prompt, request.num_shared_pages * self._config.page_size)
        self.counters.generated_tokens -= num_replaced
        self.counters.saved_passes += max(1, num_forced - num_replaced) - request.num_pending  # what is new took one
        request.cut(num_kept)

    def force(self, request: Request, token_id: int) -> None:
        """One more token of the output that nothing samples; it enters the next span."""
        request.tokens[request.num_tokens] = token_id
        request.num_tokens += 1
        request.num_forced += 1
        self.counters.generated_tokens += 1
        self.counters.forced_tokens += 1

    def reset(self) -> list[Request]:
        """Forget every request and every cached page, after a step failed on the device. Returns the requests."""
        requests = [*self._waiting, *self._holding.values()]
        for request in requests:
            request.move(State.ENDED)
        self._waiting.clear()
        self._queued_at.clear()
        self._holding.clear()
        self._num_expected.clear()
        self._free_slots = list(range(self._config.max_running_requests - 1, -1, -1))
        self.pool = PagePool(self.pool.num_pages)
        self.tree = RadixCache(self._config.page_size)
        return requests

    def flush(self) -> None:
        """Give every cached page that no running request needs back to the pool."""
        self.pool.give_back(self.tree.clear())

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._holding)

    @property
    def num_running_pages(self) -> int:
        """Pages that requests own themselves, so neither free nor cached."""
        return sum(request.num_pages - request.num_shared_pages for request in self._holding.values())

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._holding

    # -- what comes next ----------------------------------------------------------------------------------------------

    def expect(self, owner: Hashable, uses: Sequence[tuple[IntArray, float]], namespace: bytes = b"") -> None:
        """What `owner` will ask for, for eviction to keep: in place of all that it announced before.

        For whoever runs programs beside this scheduler. The owner is one program instance; each use is a prefix it is
        going to send and how many steps from now. Announce when the program starts, and again whenever one of its
        requests has ended or something else has changed the list:

            scheduler.expect(instance, [(prefix known so far, steps until it is sent) for each request not yet sent])
            scheduler.add(request)                  # a queued request is expected by itself: leave it out from now on
            scheduler.expect(instance, [...])       # it ended: the others are nearer, and begin with its output
            scheduler.retire(tokens, num_static)    # nothing of the program goes on from the end of these tokens
            scheduler.forget(instance)              # the program ended, however it did

        A request in between counts with the tokens it is likely to produce, a step each; a pause (a tool, a person)
        with a guess, best the mean of those seen, in steps at the present rate. Uses with the same prefix are one: give
        the nearest. Prefixes are copied, unless the array is read-only. Costs one walk down the tree per use."""
        if not self._config.prefix_cache:
            return
        for number in range(len(uses), self._num_expected.pop(owner, 0)):
            self.tree.forget((owner, number))
        for number, (tokens, distance) in enumerate(uses):
            self.tree.expect((owner, number), tokens, self.counters.steps + distance, namespace)
        if uses:
            self._num_expected[owner] = len(uses)

    @property
    def pages_are_short(self) -> bool:
        """Whether announcements are worth their while: most pages are taken, so that some will be evicted soon."""
        return 2 * self.pool.num_free < self.pool.num_pages

    def forget(self, owner: Hashable) -> None:
        """Nothing more is expected of `owner`; doing it twice is harmless."""
        self.expect(owner, [])

    def retire(self, tokens: IntArray, num_shared: int, namespace: bytes = b"") -> None:
        """Nobody will go on from these tokens; beyond the first `num_shared` they may be evicted before all others.

        tokens       of a request that has ended, output included
        num_shared   those that other instances of the program begin with too"""
        self.tree.retire(tokens, num_shared, namespace)

    # -- planning -----------------------------------------------------------------------------------------------------

    def plan(self) -> Step | None:
        """The next step, or None if nothing can be computed before the steps in flight have landed.

        Decode tokens come first, then prefills that have begun, then waiting requests while pages last."""
        self._complete_retractions()
        spans: list[Span] = []
        budget = self._config.step_tokens
        for request in self._by_progress():
            if request.running and request.needs_span and budget > 0 and (span := self._plan_span(request, budget)):
                spans.append(span)
                budget -= span.length
        for request in self._admitted(budget):
            if span := self._plan_span(request, budget):
                spans.append(span)
                budget -= span.length
            if budget <= 0:
                break
        if not spans:
            return None
        self.counters.steps += 1
        return Step(self.counters.steps, spans)

    def _by_progress(self) -> list[Request]:
        """Those that hold pages: decoding before prefilling, older before younger."""
        return sorted(self._holding.values(), key=lambda r: (r.length - r.computed > 1, r.arrival))

    def _plan_span(self, request: Request, budget: int) -> Span | None:
        """The request's next span, its pages taken; None if pages are short, which retracts somebody."""
        prefilling = request.computed < request.num_admitted
        if prefilling:
            self._follow_tree(request)
        start = request.computed
        length = min(request.length - start, budget, self._config.prefill_chunk or budget)
        if not self._grow(request, start + length):
            return None
        num_shared_tokens = request.num_shared_pages * self._config.page_size
        samples = start + length == request.length and request.wants_token
        span = Span(
            request,
            start,
            length,
            write_from=max(start, num_shared_tokens),
            samples=samples,
            position=request.length - request.num_prompt,
            logprobs=self._owed_logprobs(request, start, length),
            revision=request.revision,
        )
        request.computed = span.end
        request.num_pending += int(samples)
        request.steps_in_flight += 1
        num_of_prompt = max(0, min(span.end, request.num_prompt) - start)
        request.num_computed_prompt += num_of_prompt
        self.counters.computed_prompt_tokens += num_of_prompt
        if prefilling:
            self._share(request)
        return span

    def _owed_logprobs(self, request: Request, start: int, length: int) -> range:
        if request.logprob_next is None:
            return range(0)
        owed = range(max(request.logprob_next, start + 1), min(start + length + 1, request.logprob_stop))
        if owed:
            request.logprob_next = owed.stop
        return owed

    # -- admission ----------------------------------------------------------------------------------------------------

    def _admitted(self, budget: int) -> Iterator[Request]:
        """Waiting requests, each moved to the running as it is yielded; the caller plans it before taking the next."""
        if budget <= 0 or not self._waiting or not self._free_slots:
            return
        for candidate in order(self._candidates(), self._config.policy):
            request = candidate.request
            if not self._free_slots:
                return
            match = self._match(request)
            if match is not None and self._is_being_prefilled(request, match):
                continue
            if not self._admit(request, match):
                return
            yield request

    def _candidates(self) -> list[Candidate]:
        by_match = self._config.policy == "lpm" and self._config.prefix_cache
        candidates = []
        for request in self._waiting[:POLICY_WINDOW]:
            num_matched = self.tree.prefix_tokens(request.known, request.namespace) if by_match else 0
            waited = self.counters.steps - self._queued_at[request.request_id]
            candidates.append(Candidate(request, num_matched, waited))
        return candidates

    def _is_being_prefilled(self, request: Request, match: Match) -> bool:
        """Whether a running request will prefill, from where `match` ends, the very page that `request` needs next."""
        size = self._config.page_size
        end = match.length + size
        if end > request.num_tokens:
            return False
        wanted = request.tokens[match.length : end]
        return any(
            other.node is match.node
            and other.running
            and other.num_shared_pages * size == match.length
            and other.computed < other.num_admitted
            and end <= other.num_admitted
            and np.array_equal(other.tokens[match.length : end], wanted)
            for other in self._holding.values()
        )

    def _admit(self, request: Request, match: Match | None) -> bool:
        """Lock the matched prefix and move the request to the running; False, changing nothing, if pages are short."""
        size = self._config.page_size
        num_matched = match.length if match else 0
        node = self.tree.lock(match) if match else None
        num_needed = -(-request.length // size) - num_matched // size
        headroom = len(self._holding) * -(-DECODE_HEADROOM_TOKENS // size)
        if self._holding and num_needed + headroom > self.pool.num_free + self.tree.num_evictable_pages:
            if node is not None:
                self.tree.unlock(node)
            return False
        self._unqueue(request)
        request.move(State.RUNNING)
        request.pages = np.empty(-(-len(request.tokens) // size), np.int32)
        if match is not None:
            request.pages[: len(match.pages)] = match.pages
        request.num_pages = request.num_shared_pages = num_matched // size
        request.node = node
        request.num_admitted = request.num_tokens
        request.computed = min(num_matched, request.least_recompute)
        request.slot = self._free_slots.pop()
        if request.num_cached is None:
            request.num_cached = min(request.computed, request.num_prompt)
            self.counters.cached_tokens += max(0, request.num_cached - request.num_inherited)
        self._holding[request.request_id] = request
        return True

    def _match(self, request: Request) -> Match | None:
        return self.tree.match(request.known, request.namespace) if self._config.prefix_cache else None

    def _follow_tree(self, request: Request) -> None:
        """Take over pages that others have computed meanwhile for this request's next tokens."""
        match = self._match(request)
        if match is None or (num_matched := len(match.pages)) <= request.num_shared_pages:
            return
        if request.num_pages > request.num_shared_pages and request.steps_in_flight:
            return  # a step in flight may name the pages that would be given back
        self._give_back(request, request.num_shared_pages, min(num_matched, request.num_pages))
        assert request.node is not None
        request.node = self.tree.move_lock(request.node, match)
        request.pages[:num_matched] = match.pages
        request.num_shared_pages = num_matched
        request.num_pages = max(request.num_pages, num_matched)
        request.computed = max(request.computed, min(match.length, request.least_recompute))

    def _share(self, request: Request) -> None:
        """Hand the whole pages of known tokens to the tree, so that others can match them from now on."""
        size = self._config.page_size
        num_whole = min(request.computed, request.num_tokens) // size
        if not self._config.prefix_cache or num_whole <= request.num_shared_pages:
            return
        tokens = request.tokens[: num_whole * size]
        if self.tree.prefix_tokens(tokens, request.namespace) > request.num_shared_pages * size:
            return  # a request retracted for our sake brought the same tokens; followed at the next span
        assert request.node is not None
        new = slice(request.num_shared_pages, num_whole)
        added = self.tree.extend(request.node, tokens[new.start * size :], request.pages[new])
        request.node = self.tree.move_lock(request.node, added.node)
        request.num_shared_pages = num_whole

    # -- pages --------------------------------------------------------------------------------------------------------

    def _grow(self, request: Request, end: int) -> bool:
        """Take the pages that `request` needs for its first `end` tokens. Where they are short, the youngest request is
        retracted; False: its pages come free only when the steps in flight have landed, so not in this step."""
        num_missing = -(-end // self._config.page_size) - request.num_pages
        while num_missing > 0 and not self._reserve(num_missing):
            if any(other.state is State.RETRACTING for other in self._holding.values()):
                return False
            victim = self._youngest(request)
            if victim.steps_in_flight:
                victim.move(State.RETRACTING)
                return False
            self._retract(victim)
            if victim is request:
                return False
        if num_missing > 0:
            request.pages[request.num_pages : request.num_pages + num_missing] = self.pool.take(num_missing)
            request.num_pages += num_missing
        return True

    def _reserve(self, count: int) -> bool:
        """Whether `count` pages are free, after evicting what it takes."""
        if (short := count - self.pool.num_free) > 0:
            evicted = self.tree.evict(short)
            self.counters.evicted_pages += len(evicted)
            self.pool.give_back(evicted)
        return count <= self.pool.num_free

    def _youngest(self, request: Request) -> Request:
        """Whom to retract so that `request` can go on: the youngest that runs, itself if there is none younger."""
        younger = [r for r in self._holding.values() if r.running and r.arrival > request.arrival]
        return max(younger, key=lambda r: r.arrival, default=request)

    def _complete_retractions(self) -> None:
        for request in [r for r in self._holding.values() if r.state is State.RETRACTING and not r.steps_in_flight]:
            self._retract(request)

    def _retract(self, request: Request) -> None:
        """Its pages stay in the tree, where they may be evicted; it queues again and resumes from what survives."""
        self._release(request)
        request.computed = 0
        request.num_retractions += 1
        self.counters.retractions += 1
        self._queue(request)

    def _release(self, request: Request) -> None:
        """Give up every page: whole pages of known tokens to the tree, the rest to the pool; no step in flight."""
        size = self._config.page_size
        num_whole = min(request.computed, request.num_tokens) // size
        if self._config.prefix_cache and request.keep and num_whole > request.num_shared_pages:
            inserted = self.tree.insert(
                request.tokens[: num_whole * size], request.pages[:num_whole], request.namespace
            )
            self._give_back(request, request.num_shared_pages, inserted.already_present // size)
        else:
            num_whole = request.num_shared_pages
        self._give_back(request, num_whole, request.num_pages)
        if request.node is not None:
            self.tree.unlock(request.node)
            request.node = None
        request.num_pages = request.num_shared_pages = 0
        request.pages = np.empty(0, np.int32)
        self._free_slots.append(request.slot)
        request.slot = -1
        del self._holding[request.request_id]

    def _give_back(self, request: Request, first: int, stop: int) -> None:
        self.pool.give_back(request.pages[first:stop])

    def _queue(self, request: Request) -> None:
        if request.state is not State.QUEUED:
            request.move(State.QUEUED)
        self._queued_at[request.request_id] = self.counters.steps
        if self._config.prefix_cache:
            known = request.known
            known.flags.writeable = False  # of this view: the tree may keep it, nobody writes below num_tokens
            self.tree.expect(request, known, self.counters.steps, request.namespace)
        insort(self._waiting, request, key=lambda r: r.arrival)

    def _unqueue(self, request: Request) -> None:
        self._waiting.remove(request)
        self.tree.forget(request)
        del self._queued_at[request.request_id]
