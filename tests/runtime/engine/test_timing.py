"""Where the time of a request went, and what it computed, as its last news tell."""

from __future__ import annotations

import time

import pytest

from forktree.runtime.engine.messages import Timing
from tests.support.loop_rig import Rig, both_loops, rig


def timings(it: Rig) -> list[Timing]:
    found = [output.timing for _, output in sorted(it.finished().items())]
    return [timing for timing in found if timing is not None]


@both_loops
def test_computed_tokens_of_all_requests_are_what_the_device_computed(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.submit([1, 2, 3, 4], 3)
    it.submit([1, 2, 3, 4], 3)
    it.submit([1, 2, 9], 0)
    it.run()
    found = timings(it)
    assert sum(timing.computed_tokens for timing in found) == it.scheduler.counters.computed_prompt_tokens == 4 + 1 + 1


@both_loops
def test_the_parts_are_the_time_from_the_start_to_the_end(overlap: bool) -> None:
    began = time.monotonic()
    it = rig(overlap=overlap)
    it.submit([1, 2, 3, 4], 3)
    it.submit([1, 2], 0)
    it.run()
    whole_ms = (time.monotonic() - began) * 1000
    generated, computed = timings(it)
    for timing in (generated, computed):
        assert min(timing.queue_ms, timing.prefill_ms, timing.decode_ms) >= 0
        assert timing.queue_ms + timing.prefill_ms + timing.decode_ms <= whole_ms
    assert generated.decode_ms > 0
    assert computed.decode_ms < generated.decode_ms, "it samples nothing, so there is nothing after its prompt"


def test_a_request_that_waits_for_room_says_so() -> None:
    it = rig(max_running_requests=1)
    it.submit([1, 2, 3, 4], 20)
    it.submit([5, 6, 7], 2)
    it.run()
    first, second = timings(it)
    assert second.queue_ms > first.queue_ms
    assert second.queue_ms >= first.prefill_ms


@both_loops
def test_a_request_aborted_in_the_queue_has_only_waited(overlap: bool) -> None:
    it = rig(overlap=overlap)
    it.submit([1, 2, 3, 4], 3)
    it.abort(1)
    it.run()
    (timing,) = timings(it)
    assert (timing.prefill_ms, timing.decode_ms, timing.computed_tokens) == (0.0, 0.0, 0)
    assert timing.queue_ms > 0


def test_two_requests_of_one_call_took_the_longer_of_each_part_and_computed_both() -> None:
    both = Timing(1.0, 5.0, 0.0, 3).beside(Timing(2.0, 4.0, 1.0, 4))
    assert both == Timing(2.0, 5.0, 1.0, 7)


@pytest.mark.parametrize("num_prompt", [0, 3])
def test_a_score_tells_what_all_of_its_chains_computed(num_prompt: int) -> None:
    it = rig()
    it.score(list(range(50, 50 + num_prompt)), [[1, 2, 3], [1, 9, 9], [4, 4]])
    it.run()
    (timing,) = it.score_timings.values()
    assert timing.computed_tokens == it.executor.num_computed == num_prompt + len({(1,), (1, 2), (1, 9), (4,)})
