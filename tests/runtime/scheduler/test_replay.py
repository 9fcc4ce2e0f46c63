"""The replay simulator against sets of prefixes, an exhaustive search, and the scheduler itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.runtime.config import EngineConfig
from forktree.runtime.memory.page_pool import PagePool
from forktree.runtime.request import IntArray, Request
from forktree.runtime.sampling_params import SamplingParams
from forktree.runtime.scheduler import Scheduler
from forktree.runtime.scheduler.replay import End, Event, Expect, Retire, Start, TracedRequest, replay, unlimited

prompts = st.lists(st.integers(0, 1), min_size=1, max_size=4)
repeatable = settings(deadline=None, derandomize=True, database=None)


def ints(*values: int) -> IntArray:
    return np.array(values, np.int32)


def traced(prompt: list[int], output: tuple[int, ...] = (7,)) -> TracedRequest:
    return TracedRequest(ints(*prompt, *output), len(prompt), "any", 0)


def one_by_one(requests: list[TracedRequest]) -> list[Event]:
    return [event for at, request in enumerate(requests) for event in (Start(at, request), End(at + 0.5, request))]


def test_a_request_computes_what_is_not_cached_and_always_its_last_token() -> None:
    same = traced([1, 2, 3, 4])
    events = one_by_one([same, replace(same), traced([1, 2, 9])])
    outcome = replay(events, 100, "lru")
    assert (outcome.prompt_tokens, outcome.computed_tokens) == (11, 4 + 1 + 1)
    assert outcome.hit_rate == 1 - 6 / 11


def test_outputs_are_cached_but_for_the_token_sampled_last() -> None:
    first = traced([1, 2], output=(3, 4, 5))
    outcome = unlimited(one_by_one([first, traced([1, 2, 3, 4, 5, 6])]))
    assert outcome.computed_tokens == 2 + 2, "5 was sampled and not computed, 6 is new"
    assert outcome.cached_pages == 6


def test_requests_that_run_at_one_time_must_fit_and_the_message_says_what_they_need() -> None:
    first, second = traced([1, 2, 3]), traced([4, 5, 6, 7])
    events: list[Event] = [Start(0, first), Start(1, second), End(2, first), End(3, second)]
    assert replay(events, 7, "lru").peak_running_pages == 7
    with pytest.raises(
        ValueError, match="num_pages: got 6; 7 are needed at one time, when a request of 5 tokens starts"
    ):
        replay(events, 6, "lru")


def test_what_the_server_announces_counts_for_next_use_and_not_for_lru() -> None:
    a, b, c = traced([1, 2, 3]), traced([4, 5, 6]), traced([7, 8, 9])
    again = replace(a)
    events = [
        *one_by_one([a])[:2],
        Expect(1, again, again.prompt, 9),
        *one_by_one([b, c]),
        *one_by_one([again]),
    ]
    lru, next_use, optimal = (replay(events, 6, policy) for policy in ("lru", "next_use", "optimal"))
    assert (lru.computed_tokens, next_use.computed_tokens, optimal.computed_tokens) == (12, 10, 10)
    assert (lru.evicted_pages, next_use.evicted_pages) == (6, 3)


def test_what_is_retired_goes_first() -> None:
    a, b, c = traced([1, 2, 3]), traced([4, 5, 6]), traced([7, 8, 9])
    events = [*one_by_one([a, b]), Retire(2, b.tokens, 0), *one_by_one([c, replace(a)])]
    assert [replay(events, 6, policy).computed_tokens for policy in ("lru", "next_use")] == [12, 10]


@pytest.mark.parametrize("page_size", [1, 4])
def test_recomputed_is_what_is_computed_beyond_the_first_time(page_size: int) -> None:
    random = np.random.default_rng(0)
    requests = [traced(random.integers(0, 2, random.integers(1, 12)).tolist(), (1, 0, 1)) for _ in range(60)]
    seen: set[tuple[int, ...]] = {()}
    first_time = 0
    for request in requests:
        tokens = tuple(request.tokens.tolist())
        ends = range(page_size, request.num_prompt + 1, page_size)
        known = max((end for end in ends if tokens[:end] in seen), default=0)
        first_time += request.num_prompt - min(known, request.num_prompt - 1)
        seen |= {tokens[:end] for end in range(page_size, len(tokens), page_size)}
    everything = unlimited(one_by_one(requests), page_size=page_size)
    assert everything.computed_tokens == first_time
    assert everything.cached_pages == len(seen) - 1
    assert everything.evicted_pages == 0
    cramped = replay(one_by_one(requests), -(-14 // page_size), "lru", page_size=page_size)
    assert cramped.computed_tokens > first_time
    assert cramped == replay(one_by_one(requests), -(-14 // page_size), "lru", page_size=page_size)


def fewest_computed(trace: list[list[int]], capacity: int) -> int:
    """By trying every choice of pages to give up, with none of the tree's rules: any prefix may go at any time."""
    costs: dict[frozenset[tuple[int, ...]], int] = {frozenset(): 0}
    for prompt in trace:
        wanted = frozenset(tuple(prompt[:end]) for end in range(1, len(prompt) + 1))
        after: dict[frozenset[tuple[int, ...]], int] = {}
        for cached, cost in costs.items():
            missing = sum(1 for prefix in wanted - cached if len(prefix) < len(prompt)) + 1
            others = sorted(cached - wanted)
            num_kept = min(len(others), capacity - len(wanted))
            for kept in combinations(others, num_kept):
                state = wanted.union(kept)
                after[state] = min(after.get(state, cost + missing), cost + missing)
        costs = after
    return min(costs.values())


@repeatable
@given(trace=st.lists(prompts, min_size=1, max_size=8), capacity=st.integers(4, 7))
def test_no_order_of_eviction_computes_fewer_tokens_than_the_optimum(trace: list[list[int]], capacity: int) -> None:
    events = one_by_one([traced(prompt) for prompt in trace])
    assert replay(events, capacity, "optimal").computed_tokens == fewest_computed(trace, capacity)


@repeatable
@given(
    trace=st.lists(prompts, min_size=1, max_size=20),
    said=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19), st.integers(0, 9)), max_size=20),
)
def test_the_optimum_is_never_behind_whatever_is_announced(
    trace: list[list[int]], said: list[tuple[int, int, int]]
) -> None:
    requests = [traced(prompt) for prompt in trace]
    events: list[Event] = []
    for number, request in enumerate(requests):
        for when, about, at in said:
            if when == number and about >= number and about < len(requests):
                events.append(Expect(number, requests[about], requests[about].prompt, at))
        events += [Start(number, request), End(number, request)]
    computed = {policy: replay(events, 6, policy).computed_tokens for policy in ("lru", "next_use", "optimal")}
    assert computed["optimal"] <= min(computed["lru"], computed["next_use"]), computed


@pytest.mark.parametrize("page_size", [1, 4])
def test_a_replay_computes_what_the_scheduler_computes(page_size: int) -> None:
    random = np.random.default_rng(1)
    texts = [random.integers(0, 50, 40, dtype=np.int32) for _ in range(4)]
    requests = []
    for _ in range(80):
        tokens = np.concatenate([texts[random.integers(4)][: random.integers(8, 40)], random.integers(0, 3, 5)])
        requests.append(TracedRequest(tokens.astype(np.int32), len(tokens) - 3, "any", 0))
    num_pages = 80 // page_size
    queued = [Expect(number, request, request.prompt, number) for number, request in enumerate(requests)]
    events = [event for pair in zip(queued, *[iter(one_by_one(requests))] * 2, strict=True) for event in pair]
    replayed = replay(events, num_pages, "next_use", page_size=page_size)

    config = EngineConfig(num_pages=num_pages, page_size=page_size, step_tokens=64)
    scheduler = Scheduler(config, PagePool(num_pages))
    for number, traced_request in enumerate(requests):
        params = SamplingParams(max_new_tokens=traced_request.num_output)
        prompt, output = np.split(traced_request.tokens, [traced_request.num_prompt])
        request = Request.create(number, prompt.tolist(), params, seed=0, eos_token_ids=())
        scheduler.add(request)
        for token in output.tolist():
            step = scheduler.plan()
            assert step is not None
            scheduler.land(step.spans[0], token)
        scheduler.finish(request)
    assert replayed.evicted_pages > 0
    assert scheduler.counters.computed_prompt_tokens == replayed.computed_tokens
    assert scheduler.tree.num_cached_pages == replayed.cached_pages
