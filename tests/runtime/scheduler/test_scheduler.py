"""What the scheduler plans: numbers only, no device."""

from __future__ import annotations

import numpy as np
import pytest

from forktree.runtime.config import EngineConfig
from forktree.runtime.errors import EngineOverloaded
from forktree.runtime.memory.page_pool import PagePool
from forktree.runtime.request import IllegalMove, IntArray, Request, State, Step
from forktree.runtime.sampling_params import SamplingParams
from forktree.runtime.scheduler import Scheduler
from forktree.runtime.scheduler.policy import MAX_PASSED_OVER
from tests.support.checked_scheduler import CheckedScheduler


def scheduler(**fields: object) -> Scheduler:
    defaults = {"num_pages": 100, "max_running_requests": 8, "step_tokens": 20}
    config = EngineConfig(**{**defaults, **fields})  # type: ignore[arg-type]
    assert config.num_pages is not None
    return CheckedScheduler(config, PagePool(config.num_pages))


def request(request_id: int, prompt: list[int], max_new_tokens: int = 4) -> Request:
    params = SamplingParams(max_new_tokens=max_new_tokens)
    return Request.create(request_id, prompt, params, seed=0, eos_token_ids=())


def ints(*values: int) -> IntArray:
    return np.array(values, np.int32)


def spans(step: Step | None) -> list[tuple[int, int, int]]:
    """(request, start, length) of each span."""
    assert step is not None
    return [(span.request.request_id, span.start, span.length) for span in step.spans]


def land(it: Scheduler, step: Step | None, token_id: int = 7) -> None:
    assert step is not None
    for span in step.spans:
        it.land(span, token_id if span.samples else None)


def test_a_prompt_longer_than_the_budget_is_prefilled_in_chunks() -> None:
    it = scheduler(step_tokens=20)
    it.add(request(1, list(range(50))))
    steps = [it.plan() for _ in range(3)]
    assert [spans(step) for step in steps] == [[(1, 0, 20)], [(1, 20, 20)], [(1, 40, 10)]]
    assert [step.spans[0].samples for step in steps if step] == [False, False, True]


def test_decode_comes_before_prefill_and_both_share_a_step() -> None:
    it = scheduler(step_tokens=10)
    it.add(request(1, [1, 2, 3]))
    land(it, it.plan())
    it.add(request(2, list(range(50, 80))))
    assert spans(it.plan()) == [(1, 3, 1), (2, 0, 9)]


def test_a_decode_step_can_be_planned_before_its_token_is_known() -> None:
    it = scheduler()
    it.add(request(1, [1, 2, 3]))
    first, second = it.plan(), it.plan()
    assert spans(second) == [(1, 3, 1)]
    land(it, first)
    land(it, second)


def test_a_lone_request_decodes_in_every_turn_of_the_overlapped_loop() -> None:
    it = scheduler()
    it.add(request(1, [1, 2, 3], max_new_tokens=12))
    in_flight = it.plan()
    for _ in range(11):
        following = it.plan()
        assert following is not None, "a turn without a step"
        land(it, in_flight)
        in_flight = following


def test_nothing_is_planned_past_max_new_tokens() -> None:
    it = scheduler()
    it.add(request(1, [1, 2, 3], max_new_tokens=2))
    assert spans(it.plan()) == [(1, 0, 3)]
    assert spans(it.plan()) == [(1, 3, 1)]
    assert it.plan() is None


def test_an_identical_prompt_in_the_same_step_computes_its_last_token_only() -> None:
    it = scheduler()
    it.add(request(1, [1, 2, 3, 4]))
    it.add(request(2, [1, 2, 3, 4]))
    step = it.plan()
    assert spans(step) == [(1, 0, 4), (2, 3, 1)]
    assert step is not None
    assert step.spans[1].write_from == 4, "its keys and values are in the first one's page; nobody may write there"


def test_a_request_waits_while_another_prefills_its_tokens_and_others_go_on() -> None:
    it = scheduler(step_tokens=30, prefill_chunk=10)
    prefix = list(range(25))
    it.add(request(1, [*prefix, 30]))
    it.add(request(2, [*prefix, 31]))
    it.add(request(3, [90, 91]))
    assert spans(it.plan()) == [(1, 0, 10), (3, 0, 2)]
    assert (1, 10, 10) in spans(it.plan())
    assert [span for span in spans(it.plan()) if span[0] in (1, 2)] == [(1, 20, 6), (2, 25, 1)]


def test_prompts_that_part_are_both_prefilled_from_where_they_part() -> None:
    it = scheduler(step_tokens=40)
    it.add(request(1, [1, 2, 3, 10, 11]))
    it.add(request(2, [1, 2, 3, 20, 21]))
    assert spans(it.plan()) == [(1, 0, 5), (2, 3, 2)]


def test_the_longest_match_enters_first() -> None:
    it = scheduler(max_running_requests=1, policy="lpm")
    it.add(request(1, [1, 2, 3, 4, 5], max_new_tokens=1))
    land(it, it.plan())
    it.finish(_only(it))
    it.add(request(2, [9, 9, 9]))
    it.add(request(3, [1, 2, 3, 4, 6]))
    assert spans(it.plan()) == [(3, 4, 1)]


def test_depth_first_order_takes_neighbours_of_the_tree_together() -> None:
    it = scheduler(policy="dfs", step_tokens=100)
    for i, prompt in enumerate([[5, 1], [1, 1], [5, 0], [1, 0]]):
        it.add(request(i, prompt))
    assert [span[0] for span in spans(it.plan())] == [3, 1, 2, 0]


def test_a_request_passed_over_for_long_goes_first_whatever_the_policy() -> None:
    it = scheduler(max_running_requests=1, policy="lpm")
    it.add(request(0, [1, 2, 3], max_new_tokens=1))
    land(it, it.plan())
    it.finish(_only(it))
    it.add(request(1, [9, 9]))
    served = []
    for i in range(2, 400):
        it.add(request(i, [1, 2, 3, i % 50], max_new_tokens=1))
        step = it.plan()
        served.append(spans(step)[0][0])
        land(it, step)
        it.finish(_only(it))
        if 1 in served:
            break
    assert 1 in served[-1:], "the request without a match starved"
    assert MAX_PASSED_OVER < len(served) <= MAX_PASSED_OVER + 4


def test_the_youngest_is_retracted_and_resumes_from_what_survives() -> None:
    it = scheduler(num_pages=26, step_tokens=50)
    old, young = request(1, [1, 2, 3, 4], 20), request(2, [5, 6, 7, 8], 20)
    it.add(old)
    land(it, it.plan())
    it.add(young)
    for _ in range(20):
        step = it.plan()
        land(it, step)
        if young.num_retractions:
            break
    assert (young.num_retractions, old.num_retractions) == (1, 0)
    assert young.state is State.QUEUED
    while old.num_output < 20:
        land(it, it.plan())
    it.finish(old)
    assert spans(it.plan())[0][0] == 2


def test_a_finished_request_with_a_step_in_flight_keeps_its_pages_until_it_lands() -> None:
    it = scheduler()
    it.add(request(1, [1, 2, 3]))
    first, second = it.plan(), it.plan()
    land(it, first)
    free = it.pool.num_free
    it.finish(_only(it))
    assert (it.pool.num_free, it.tree.num_evictable_pages) == (free, 0), "the step in flight still writes to them"
    assert it.tree.prefix_tokens(np.array([1, 2, 3], np.int32)) == 3, "who goes on from it finds its pages at once"
    assert second is not None
    assert it.land(second.spans[0], 5) is False
    assert it.num_running_pages == 0
    assert it.tree.num_evictable_pages == it.tree.num_cached_pages > 0
    assert it.idle


def test_finishing_twice_is_harmless_and_an_illegal_move_names_itself() -> None:
    it = scheduler()
    waiting = request(1, [1])
    it.add(waiting)
    it.finish(waiting)
    it.finish(waiting)
    with pytest.raises(IllegalMove, match="request 1 is ended, it can't become running"):
        waiting.move(State.RUNNING)


def test_a_full_queue_refuses_and_changes_nothing() -> None:
    it = scheduler(max_queued_requests=1)
    it.add(request(1, [1]))
    with pytest.raises(EngineOverloaded):
        it.add(request(2, [2]))
    assert it.num_waiting == 1


def test_namespaces_share_nothing() -> None:
    it = scheduler()
    salted = request(2, [1, 2, 3, 4])
    salted.namespace = b"salt"
    it.add(request(1, [1, 2, 3, 4]))
    it.add(salted)
    assert spans(it.plan()) == [(1, 0, 4), (2, 0, 4)]


def test_owed_prompt_logprobs_are_computed_again_on_a_hit_and_split_over_chunks() -> None:
    it = scheduler(step_tokens=4)
    it.add(request(1, list(range(10)), 0))
    while step := it.plan():
        land(it, step)
    it.finish(_only(it))
    scored = request(2, list(range(10)), 0)
    scored.logprob_next = 3
    it.add(scored)
    owed = []
    while step := it.plan():
        owed += [list(span.logprobs) for span in step.spans]
        land(it, step)
    assert owed == [[3, 4, 5, 6], [7, 8, 9]], "computing starts at position 2, whose logits predict token 3"


def run_alone(it: Scheduler, request_id: int, prompt: list[int]) -> int:
    """One request of one output token from start to end; how many tokens of its prompt it computed."""
    before = it.counters.computed_prompt_tokens
    lone = request(request_id, prompt, max_new_tokens=1)
    it.add(lone)
    while lone.needs_span:
        land(it, it.plan())
    it.finish(lone)
    return it.counters.computed_prompt_tokens - before


def test_what_a_program_expects_outlives_what_was_used_since() -> None:
    it = scheduler(num_pages=40, step_tokens=40)
    run_alone(it, 1, list(range(100, 120)))
    it.expect("program", [(ints(*range(100, 120)), 50)])
    for number in range(5):
        run_alone(it, 2 + number, list(range(200 + 20 * number, 220 + 20 * number)))
    assert run_alone(it, 9, list(range(100, 120))) == 1, "the last token only"
    it.forget("program")
    for number in range(2):
        run_alone(it, 10 + number, list(range(400 + 20 * number, 420 + 20 * number)))
    assert run_alone(it, 19, list(range(100, 120))) == 20, "forgotten, it was the least recently used"


def test_announcing_again_is_instead_of_all_that_was_announced_before() -> None:
    it = scheduler()
    for number in (1, 2, 3):
        run_alone(it, number, [number] * 4)
    it.expect("program", [(ints(1, 1, 1, 1), 5), (ints(2, 2, 2, 2), 6)])
    it.expect("program", [(ints(3, 3, 3, 3), 7)])
    assert [node.tokens[0] for node in it.tree.nodes() if node.uses] == [3]
    it.forget("program")
    it.forget("program")
    assert not any(node.uses for node in it.tree.nodes())


def test_a_distance_counts_from_the_step_at_which_it_is_announced() -> None:
    it = scheduler()
    it.expect("early", [(ints(1, 2), 2)])  # in step 2
    run_alone(it, 1, [1, 2, 3])
    run_alone(it, 2, [4, 5, 6])
    it.expect("late", [(ints(4, 5), 1)])  # in step 3
    uses = {node.uses.soonest for node in it.tree.nodes() if node.uses}
    assert (it.counters.steps, uses) == (2, {2, 3})


def test_the_prefix_of_a_waiting_request_is_expected_until_it_runs() -> None:
    it = scheduler(max_running_requests=1)
    run_alone(it, 1, [1, 2, 3])
    it.add(request(2, [7, 8]))
    land(it, it.plan())
    it.add(waiting := request(3, [1, 2, 3, 4]))
    assert [node.end for node in it.tree.nodes() if node.uses] == [3]
    it.finish(waiting)
    assert not any(node.uses for node in it.tree.nodes())


def test_what_a_program_is_done_with_goes_first() -> None:
    it = scheduler(num_pages=40, step_tokens=40)
    for number in (1, 2):
        run_alone(it, number, [9, 9, *range(100 * number, 100 * number + 15)])
    it.retire(ints(9, 9, *range(200, 215)), 2)
    run_alone(it, 3, list(range(300, 320)))
    assert run_alone(it, 4, [9, 9, *range(100, 115)]) == 1, "used before the other, but not done with"


def test_without_a_prefix_cache_announcements_say_nothing() -> None:
    it = scheduler(prefix_cache=False)
    it.expect("program", [(ints(1, 2), 1)])
    it.retire(ints(1, 2), 0)
    it.forget("program")
    assert (run_alone(it, 1, [1, 2, 3]), list(it.tree.nodes())) == (3, [])


def _only(it: Scheduler) -> Request:
    (held,) = it._holding.values()
    return held
