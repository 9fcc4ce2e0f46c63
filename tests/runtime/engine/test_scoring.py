"""Score calls over a device whose log-probabilities depend on what the pages hold."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktree.runtime.errors import EngineOverloaded, ForktreeRuntimeError, RequestFailed
from tests.support.checked_scheduler import check_pages
from tests.support.loop_rig import Rig, both_loops, rig
from tests.support.scripted_executor import expected_logprobs, expected_output

PROMPT = [50, 51, 52, 53, 54]
BRANCHING = [[1], [1, 2], [1, 2, 3, 4], [1, 2, 3, 5], [1, 9, 9], [7, 8], [7, 8], [6], [6, 5, 4, 3, 2, 1]]
POLICIES = ["lpm", "dfs", "fcfs"]


def num_followed(continuations: Sequence[Sequence[int]]) -> int:
    """Beginnings of continuations that another token follows: what there is to compute after the prompt."""
    return len({tuple(each[:n]) for each in continuations for n in range(1, len(each))})


def expected(prompt: list[int], continuations: Sequence[Sequence[int]]) -> list[list[float]]:
    return [expected_logprobs(prompt, list(each)) for each in continuations]


@both_loops
@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize("chunk", [None, 7, 1])
def test_each_continuation_gets_the_scores_it_would_get_alone(overlap: bool, page_size: int, chunk: int | None) -> None:
    it = rig(overlap=overlap, page_size=page_size, prefill_chunk=chunk)
    it.score(PROMPT, BRANCHING)
    it.run()
    assert it.scores[1] == expected(PROMPT, BRANCHING)


@both_loops
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("fields", [{}, {"prefill_chunk": 2}, {"step_tokens": 3}, {"max_running_requests": 1}])
def test_every_token_is_computed_once_whatever_the_order(overlap: bool, policy: str, fields: dict[str, int]) -> None:
    it = rig(overlap=overlap, policy=policy, **fields)
    it.score(PROMPT, BRANCHING)
    it.run()
    assert it.scores[1] == expected(PROMPT, BRANCHING)
    counters = it.scheduler.counters
    assert counters.computed_prompt_tokens == it.executor.num_computed == len(PROMPT) + num_followed(BRANCHING)
    assert (counters.prompt_tokens, counters.cached_tokens) == (len(PROMPT) + num_followed(BRANCHING), 0)


def test_a_call_fits_into_one_step() -> None:
    it = rig()
    it.score(PROMPT, BRANCHING)
    it.run()
    assert it.scheduler.counters.steps == 1


@both_loops
def test_single_tokens_cost_the_prompt_and_nothing_else(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.score(PROMPT, [[1], [2], [3]])
    it.run()
    assert it.executor.num_computed == len(PROMPT)


@both_loops
@pytest.mark.parametrize("page_size", [4, 16])
def test_larger_pages_cost_each_further_chain_less_than_a_page(overlap: bool, page_size: int) -> None:
    it = rig(overlap=overlap, page_size=page_size)
    it.score(PROMPT, BRANCHING)
    it.run()
    num_chains = 4  # 1 2 3, 1 9, 6 5 4 3 2 and 7
    least = len(PROMPT) + num_followed(BRANCHING)
    assert least <= it.executor.num_computed <= least + (num_chains - 1) * (page_size - 1)


@both_loops
def test_a_cached_prompt_is_computed_in_its_last_token_only(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.submit(PROMPT, 0)
    it.score(PROMPT, BRANCHING)
    it.run()
    assert it.executor.num_computed == len(PROMPT) + 1 + num_followed(BRANCHING)
    assert it.scores[1] == expected(PROMPT, BRANCHING)


@both_loops
def test_without_a_prompt_nothing_predicts_the_first_tokens(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.score([], BRANCHING)
    it.score([], [[1], [2]])
    it.run()
    assert it.scores[1] == expected([], BRANCHING)
    assert it.scores[2] == [[0.0], [0.0]]
    assert it.executor.num_computed == num_followed(BRANCHING)


@both_loops
def test_without_prefix_cache_scores_are_the_same(overlap: bool) -> None:
    it = rig(overlap=overlap, prefix_cache=False)
    it.score(PROMPT, BRANCHING)
    it.run()
    assert it.scores[1] == expected(PROMPT, BRANCHING)
    assert it.scheduler.pool.num_free == 64


def test_namespaces_share_nothing() -> None:
    it = rig()
    for namespace in (b"", b"salt"):
        it.score(PROMPT, BRANCHING, namespace=namespace)
    it.run()
    assert it.scores[1] == it.scores[2] == expected(PROMPT, BRANCHING)
    assert it.executor.num_computed == 2 * (len(PROMPT) + num_followed(BRANCHING))


@both_loops
@pytest.mark.parametrize("page_size", [1, 4])
def test_retraction_changes_no_score(overlap: bool, page_size: int) -> None:
    it = rig(overlap=overlap, page_size=page_size, num_pages=40 // page_size, prefill_chunk=3)
    long = [[branch, *range(100, 124)] for branch in range(3)]
    it.submit([90, 91], 30)
    it.submit([80, 81], 30)
    for _ in range(2):
        it.score(PROMPT, long)
    it.score([40, 41, 42], long)
    outputs = it.run()
    assert outputs[1].token_ids == expected_output([90, 91], 30)
    assert it.scores[1] == it.scores[2] == expected(PROMPT, long)
    assert it.scores[3] == expected([40, 41, 42], long)
    assert it.scheduler.counters.retractions > 0, "the test means to run out of pages"


@both_loops
@pytest.mark.parametrize("num_turns", [0, 1, 2, 5])
def test_an_abort_ends_the_whole_call_and_gives_its_pages_back(overlap: bool, num_turns: int) -> None:
    it = rig(overlap=overlap, step_tokens=2)

    async def then_abort() -> None:
        call_id = it.score(PROMPT, BRANCHING)
        for _ in range(num_turns):
            await asyncio.sleep(0)
        it.scoring.abort(call_id)
        it.scoring.abort(call_id)

    it.run(then_abort)
    assert isinstance(it.scores[1], RequestFailed)
    assert it.scheduler.idle
    assert it.scheduler.num_running_pages == 0
    it.scoring.abort(99)


@both_loops
def test_a_failed_step_ends_the_call_once_and_the_next_is_served(overlap: bool) -> None:
    it = rig(overlap=overlap, step_tokens=3)
    it.executor.fail_at = 2
    it.score(PROMPT, BRANCHING)

    async def then_again() -> None:
        while 1 not in it.scores:
            await asyncio.sleep(0)
        it.score(PROMPT, BRANCHING)

    it.run(then_again)
    failed = it.scores[1]
    assert isinstance(failed, RequestFailed)
    assert "step 2 failed" in str(failed)
    assert it.scores[2] == expected(PROMPT, BRANCHING)


@both_loops
def test_numbers_that_are_none_fail_the_call_and_stay_out_of_the_cache(
    overlap: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    it = rig(overlap=overlap)
    monkeypatch.setattr("tests.support.scripted_executor.next_logprob", lambda prefix, token_id: float("nan"))
    it.score(PROMPT, BRANCHING)
    it.run()
    failed = it.scores[1]
    assert isinstance(failed, RequestFailed)
    assert "NaN" in str(failed)
    assert it.scheduler.tree.num_cached_pages == 0


def test_a_call_counts_once_in_the_queue_and_a_full_queue_refuses_all_of_it() -> None:
    it = rig(max_queued_requests=1)
    it.score(PROMPT, BRANCHING)
    it.score(PROMPT, BRANCHING)
    assert isinstance(it.scores[2], EngineOverloaded)
    it.run()
    assert it.scores[1] == expected(PROMPT, BRANCHING)


def _continuations(rng: random.Random) -> list[list[int]]:
    return [[rng.randrange(3) for _ in range(rng.randrange(1, 9))] for _ in range(rng.randrange(1, 7))]


async def _storm(
    it: Rig, rng: random.Random, num_moves: int, asked: dict[int, tuple[list[int], list[list[int]]]]
) -> None:
    """Random score calls and generations over a few trees of prompts, aborts and flushes, with steps in between."""
    for _ in range(num_moves):
        move = rng.random()
        live = [call_id for call_id in it.calls if call_id not in it.scores]
        prompt = [rng.randrange(2) * 50 + i for i in range(rng.randrange(0, 15))]
        if move < 0.02 and live:
            it.scoring.abort(rng.choice(live))
        elif move < 0.04:
            it.scheduler.flush()
        elif move < 0.2 and prompt and it.num_unfinished < 12:
            it.submit(prompt, rng.randrange(0, 22))
        elif move < 0.8 and len(live) < 6:
            continuations = _continuations(rng)
            asked[it.score(prompt, continuations)] = prompt, continuations
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)


def _assert_scores(it: Rig, asked: dict[int, tuple[list[int], list[list[int]]]]) -> None:
    for call_id, (prompt, continuations) in asked.items():
        found = it.scores[call_id]
        if not isinstance(found, ForktreeRuntimeError):
            assert found == expected(prompt, continuations), f"call {call_id} got other scores than it would alone"


@pytest.mark.slow
@both_loops
@pytest.mark.parametrize("page_size", [1, 4])
def test_thousands_of_random_moves_lose_no_page_and_change_no_score(overlap: bool, page_size: int) -> None:
    it = rig(overlap=overlap, num_pages=36 // page_size, page_size=page_size, step_tokens=24, prefill_chunk=7)
    asked: dict[int, tuple[list[int], list[list[int]]]] = {}
    it.run(lambda: _storm(it, random.Random(page_size), 3000, asked))
    _assert_scores(it, asked)
    scored = [found for found in it.scores.values() if not isinstance(found, ForktreeRuntimeError)]
    assert len(scored) > 100
    assert it.scheduler.num_running_pages == 0
    assert it.scheduler.counters.retractions > 0
    assert it.scheduler.counters.evicted_pages > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    overlap=st.booleans(),
    page_size=st.sampled_from([1, 2, 5]),
    num_tokens=st.integers(36, 120),
    step_tokens=st.integers(1, 40),
    chunk=st.none() | st.integers(1, 9),
    max_running=st.integers(1, 9),
    cache=st.booleans(),
    policy=st.sampled_from(POLICIES),
)
@pytest.mark.slow
def test_any_configuration_gives_each_call_the_scores_it_would_get_alone(
    seed: int,
    overlap: bool,
    page_size: int,
    num_tokens: int,
    step_tokens: int,
    chunk: int | None,
    max_running: int,
    cache: bool,
    policy: str,
) -> None:
    it = rig(
        overlap=overlap,
        page_size=page_size,
        num_pages=-(-num_tokens // page_size),
        step_tokens=step_tokens,
        prefill_chunk=chunk,
        max_running_requests=max_running,
        prefix_cache=cache,
        policy=policy,
    )
    asked: dict[int, tuple[list[int], list[list[int]]]] = {}
    it.run(lambda: _storm(it, random.Random(seed), 40, asked))
    _assert_scores(it, asked)
    check_pages(it.scheduler)


@given(
    continuations=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8),
    policy=st.sampled_from(POLICIES),
    chunk=st.none() | st.integers(1, 4),
    max_running=st.integers(1, 4),
)
@settings(max_examples=50, deadline=None)
def test_the_bound_holds_for_any_set(
    continuations: list[list[int]], policy: str, chunk: int | None, max_running: int
) -> None:
    it = rig(policy=policy, prefill_chunk=chunk, max_running_requests=max_running, num_pages=256)
    it.score(PROMPT, continuations)
    it.run()
    assert it.scores[1] == expected(PROMPT, continuations)
    assert it.executor.num_computed == len(PROMPT) + num_followed(continuations)
