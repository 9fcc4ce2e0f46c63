"""The plain and the overlapped loop over a device whose tokens depend on what the pages hold."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktree.grammar import Compiler, Constraint, GrammarTooComplex, Vocabulary
from forktree.runtime.engine.loop import Served
from forktree.runtime.engine.messages import Failed
from forktree.runtime.engine.output import OutputStream
from forktree.runtime.request import IntArray, Request
from forktree.runtime.sampling_params import SamplingParams
from tests.support.checked_scheduler import check_pages
from tests.support.loop_rig import NEVER, Rig, both_loops, rig
from tests.support.scripted_executor import expected_output


@both_loops
@pytest.mark.parametrize("page_size", [1, 4])
def test_a_request_gets_the_tokens_of_its_prefix(overlap: bool, page_size: int) -> None:
    it = rig(overlap=overlap, page_size=page_size)
    it.submit([1, 2, 3, 4, 5], 9)
    assert it.run()[1].token_ids == expected_output([1, 2, 3, 4, 5], 9)


@both_loops
def test_requests_that_arrive_together_prefill_their_common_prefix_once(overlap: bool) -> None:
    it = rig(overlap=overlap, num_pages=512, step_tokens=16)
    prefix = list(range(100))
    for i in range(8):
        it.submit([*prefix, 200 + i], 1)
    outputs = it.run()
    assert all(outputs[i + 1].token_ids == expected_output([*prefix, 200 + i], 1) for i in range(8))
    assert it.executor.num_computed == 100 + 8, "the prefix was computed more than once"
    assert [outputs[i].usage.cached_tokens for i in range(1, 9)].count(100) == 7


@both_loops
def test_a_finished_output_is_a_cached_prefix(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.submit([7, 8], 6)

    async def then_go_on() -> None:
        while not it.finished():
            await asyncio.sleep(0)
        it.submit([7, 8, *it.finished()[1].token_ids, 9], 2)

    second = it.run(then_go_on)[2]
    assert second.token_ids == expected_output([7, 8, *expected_output([7, 8], 6), 9], 2)
    assert second.usage.cached_tokens == 7, "all but the last output token, which was never computed"


@both_loops
def test_without_prefix_cache_nothing_is_kept(overlap: bool) -> None:
    it = rig(overlap=overlap, prefix_cache=False)
    for _ in range(3):
        it.submit([1, 2, 3], 2)
    outputs = it.run()
    assert {tuple(output.token_ids) for output in outputs.values()} == {tuple(expected_output([1, 2, 3], 2))}
    assert it.scheduler.counters.cached_tokens == 0
    assert it.scheduler.pool.num_free == 64


@both_loops
@pytest.mark.parametrize("page_size", [1, 4])
def test_too_few_pages_retract_the_youngest_and_change_no_token(overlap: bool, page_size: int) -> None:
    it = rig(overlap=overlap, num_pages=40 // page_size, page_size=page_size)
    prompts = [[i, i + 1, i + 2] for i in range(0, 50, 10)]
    for prompt in prompts:
        it.submit(prompt, 30)
    outputs = it.run()
    assert [outputs[i + 1].token_ids for i in range(5)] == [expected_output(prompt, 30) for prompt in prompts]
    assert it.scheduler.counters.retractions > 0, "the test means to run out of pages"


@both_loops
def test_an_end_of_sequence_token_drops_what_was_computed_past_it(overlap: bool) -> None:
    output = expected_output([5, 6], 8)
    it = rig(overlap=overlap)
    it.submit([5, 6], 8, eos=(output[3],))
    result = it.run()[1]
    assert (result.token_ids, result.finish_reason, result.matched) == (output[:4], "stop", output[3])


@both_loops
def test_a_prompt_of_no_output_only_fills_the_cache(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.submit([1, 2, 3], 0)
    result = it.run()[1]
    assert (result.token_ids, result.finish_reason, result.text) == ([], "length", "")
    assert it.scheduler.tree.num_cached_pages == 3


@both_loops
def test_a_step_that_fails_on_the_device_fails_its_requests_and_the_next_is_served(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.executor.fail_at = 3
    it.submit([1, 2, 3], 20)

    async def after_the_fire() -> None:
        while not it.news:
            await asyncio.sleep(0)
        it.prompts[1] = []
        it.submit([1, 2, 3], 4)

    async def main() -> None:
        task = asyncio.create_task(it.loop.run_overlapped() if overlap else it.loop.run_plain())
        await after_the_fire()
        while not it.finished():
            await asyncio.sleep(0)
        it.loop.close()
        await task

    asyncio.run(main())
    assert isinstance(it.news[0], Failed)
    assert it.finished()[2].token_ids == expected_output([1, 2, 3], 4)
    check_pages(it.scheduler)


class Stubborn:
    """A matcher that gives up, when asked for a mask or when told a token."""

    finished = False
    grammar = Compiler(Vocabulary([bytes([byte]) for byte in range(256)], [])).compile(Constraint.regex("(?s).*"))

    def __init__(self, *, at_mask: bool) -> None:
        self._at_mask = at_mask

    def mask(self, tokens_left: int | None = None) -> IntArray:
        if self._at_mask:
            raise GrammarTooComplex("too many states", place="the test")
        return self.grammar.everything

    def fill_mask(self, row: object, tokens_left: int | None = None) -> bool:
        self.mask(tokens_left)
        return False

    def advance(self, token_id: int) -> None:
        raise GrammarTooComplex("too many states", place="the test")

    def forced_bytes(self) -> bytes:
        return b""


@both_loops
@pytest.mark.parametrize("at_mask", [True, False])
def test_a_grammar_that_gives_up_fails_its_own_request_only(overlap: bool, at_mask: bool) -> None:
    it = rig(overlap=overlap)
    it.submit([1, 2, 3], 6)
    request = Request.create(99, [4, 5], SamplingParams(max_new_tokens=6), seed=0, eos_token_ids=NEVER)
    request.matcher = Stubborn(at_mask=at_mask)  # type: ignore[assignment]
    it.loop.start(Served(request, OutputStream(request, it.tokenizer, stream=False)))
    assert it.run()[1].token_ids == expected_output([1, 2, 3], 6)
    (failed,) = [message for message in it.news if isinstance(message, Failed)]
    assert (failed.request_id, failed.kind) == (99, "InvalidRequest")
    assert "too many states" in failed.args[1]


def _prompt(rng: random.Random) -> list[int]:
    """Prompts that often share prefixes: branches of a few trees."""
    tree, length = rng.randrange(3), rng.randrange(1, 18)
    prompt = [tree * 50 + i for i in range(length)]
    if rng.random() < 0.5:
        prompt += [200 + rng.randrange(3) for _ in range(rng.randrange(1, 5))]
    return prompt


async def _storm(it: Rig, rng: random.Random, num_moves: int) -> None:
    """Random submits, forks of finished outputs, aborts and cache flushes, with steps in between."""
    for _ in range(num_moves):
        move = rng.random()
        live = [i for i in it.prompts if i not in it.finished()]
        if move < 0.45 and len(live) < 24:
            it.submit(_prompt(rng), rng.randrange(0, 23))
        elif move < 0.6 and it.finished():
            parent = rng.choice(list(it.finished()))
            tokens = [*it.prompts[parent], *it.finished()[parent].token_ids][:26]
            for branch in range(rng.randrange(1, 4)):
                it.submit([*tokens, 240 + branch], rng.randrange(1, 6))
        elif move < 0.75 and live:
            it.abort(rng.choice(live))
        elif move < 0.78:
            it.scheduler.flush()
        for _ in range(rng.randrange(3)):
            await asyncio.sleep(0)


def _assert_outputs(it: Rig) -> None:
    for request_id, output in it.finished().items():
        expected = expected_output(it.prompts[request_id], len(output.token_ids))
        assert output.token_ids == expected, f"request {request_id} got other tokens than it would alone"
        assert output.finish_reason == "length" or request_id in it.aborted


@pytest.mark.slow
@both_loops
@pytest.mark.parametrize("page_size", [1, 4])
def test_two_thousand_random_moves_lose_no_page_and_change_no_token(overlap: bool, page_size: int) -> None:
    rng = random.Random(page_size)
    it = rig(overlap=overlap, num_pages=48 // page_size, page_size=page_size, step_tokens=24, prefill_chunk=7)
    it.run(lambda: _storm(it, rng, 2000))
    _assert_outputs(it)
    assert it.scheduler.num_running_pages == 0
    assert it.scheduler.counters.retractions > 0
    assert it.scheduler.counters.evicted_pages > 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    overlap=st.booleans(),
    page_size=st.sampled_from([1, 2, 5]),
    num_tokens=st.integers(44, 120),
    step_tokens=st.integers(1, 40),
    chunk=st.none() | st.integers(1, 9),
    max_running=st.integers(1, 9),
    cache=st.booleans(),
    policy=st.sampled_from(["lpm", "dfs", "fcfs"]),
)
@pytest.mark.slow
def test_any_configuration_gives_each_request_the_tokens_it_would_get_alone(
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
    it.run(lambda: _storm(it, random.Random(seed), 40))
    _assert_outputs(it)
