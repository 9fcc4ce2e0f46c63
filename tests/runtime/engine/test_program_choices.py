"""Choices of programs that run in the engine: scored as Engine.score does, each token computed once."""

from __future__ import annotations

from typing import Any

import pytest

from forktree.runtime import Engine

PROMPT = "The Eiffel Tower is in"
CHOICES = [" Paris", " Paris, France", " Paris, France, Europe", " Oslo"]


def plan(**select: Any) -> dict[str, Any]:
    """A select, and a text that goes on from it."""
    node = {"kind": "select", "pieces": [PROMPT], "choices": CHOICES, **select}
    return {"version": 1, "nodes": [node, {"kind": "gen", "after": 0, "sampling": {"max_new_tokens": 1}}]}


def test_a_select_is_one_score_call_and_computes_every_token_once(engine: Engine) -> None:
    engine.flush_cache()
    before = engine.stats().computed_prompt_tokens
    engine.score(PROMPT, CHOICES)
    num_scored = engine.stats().computed_prompt_tokens - before
    events = engine.run_program(plan(), cache_salt="its own")
    (scores,) = [event.scores for event in events if event.scores is not None]
    assert [each.token_ids for each in scores] == [engine.tokenize(choice) for choice in CHOICES]
    for found, expected in zip(scores, engine.score(PROMPT, CHOICES), strict=True):
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    engine.flush_cache()
    before = engine.stats().computed_prompt_tokens
    engine.run_program({"version": 1, "nodes": plan()["nodes"][:1]}, cache_salt="its own")
    assert engine.stats().computed_prompt_tokens - before == num_scored


def test_a_method_that_compares_gets_scores_with_nothing_before_them(engine: Engine) -> None:
    events = engine.run_program(plan(method="unconditional_likelihood_normalized"))
    (event,) = [event for event in events if event.scores is not None]
    assert event.alone is not None
    assert event.scores is not None
    for found, expected in zip(event.alone, engine.score(None, CHOICES), strict=True):
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
        assert found.logprobs[0] == 0.0
    assert [len(each.logprobs) for each in event.alone] == [len(each.logprobs) for each in event.scores]


def test_a_choice_over_the_context_fails_its_node(engine: Engine) -> None:
    events = engine.run_program(plan(choices=[" word" * engine.info.context_length, " no"]))
    assert [event.node for event in events if event.error is not None] == [0]
    assert events[-1].node == -1
    assert engine.stats().requests_running == 0
