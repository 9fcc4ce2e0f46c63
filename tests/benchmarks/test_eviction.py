"""benchmarks.eviction, small: its traces repeat, and its two bars point where they should."""

from __future__ import annotations

import pytest

from benchmarks.eviction import SERVER, compare
from benchmarks.program_mix import KINDS, ProgramMix
from forktree.runtime.scheduler.replay import Expect, Start, unlimited
from forktree.runtime.scheduler.timeline import timeline


def test_a_seed_draws_the_same_programs_and_the_same_events_every_time() -> None:
    shares = dict.fromkeys(KINDS, 1.0)
    first, again, other = (
        timeline(ProgramMix(seed, plain_chats=0.5).programs(8, 5.0, shares), SERVER) for seed in (3, 3, 4)
    )
    assert [event.at_s for event in first] == [event.at_s for event in again] != [event.at_s for event in other]
    assert unlimited(first) == unlimited(again) != unlimited(other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_request_is_announced_with_tokens_that_it_begins_with(kind: str) -> None:
    shares = {**dict.fromkeys(KINDS, 0.0), kind: 1.0}
    events = timeline(ProgramMix(0, plain_chats=0.0).programs(2, 1.0, shares), SERVER)
    announced = {event.request: event for event in events if isinstance(event, Expect)}
    for event in events:
        if isinstance(event, Expect):
            assert event.tokens.tolist() == event.request.prompt[: len(event.tokens)].tolist()
    assert announced.keys() == {event.request for event in events if isinstance(event, Start)}


@pytest.mark.slow
def test_next_use_recomputes_less_than_lru_and_computes_hardly_more_than_the_optimum() -> None:
    run = compare(seed=11, capacity=0.25, plain_chats=0.0, num_programs=100)
    assert run.recomputed("lru") > 0.2 * run.first_time_tokens, "the cache is too large for a comparison"
    assert 0 < run.recomputed("optimum") <= run.recomputed("next use")
    assert run.saved >= 0.2, run
    assert run.computed_over_optimum("next use") <= 0.05, run
    assert run.recomputed_over_optimum("pauses known") <= 0.05, run
