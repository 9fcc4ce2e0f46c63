"""Scores on real weights equal brute force: each continuation by itself, its whole text computed for it alone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest

from forktree.runtime import Engine
from forktree.runtime.errors import ContextLengthExceeded, InvalidRequest

PROMPT = "Question: What is the capital of France, and what is it known for?\nAnswer:"
SETS: dict[str, list[str]] = {
    "prefixes of each other": [" Par", " Paris", " Paris,", " Paris, known for", " Paris, known for the Eiffel Tower"],
    "unicode": [" Zürich", " 東京", " 東京タワー", " 🙂", " 🙂🙃", " Paris — la ville lumière", " Pariſ", "\u0301"],
    "one": [" Paris"],
    "single tokens and a duplicate": [" yes", " no", " yes", " maybe"],
    "long": [
        " Paris, which is known for " + "the Louvre and the Seine and " * 8 + ending
        for ending in ("art.", "food.", "it")
    ]
    + [" " + "I do not know. " * 12],
}


def brute_force(engine: Engine, prompt: str, continuation: str) -> list[float]:
    """By the log-probabilities of a prompt of its own, with a cache of its own."""
    head, tail = engine.tokenize(prompt), engine.tokenize(continuation)
    options: dict[str, Any] = {"return_logprob": True, "logprob_start_len": len(head), "cache_salt": continuation}
    done = engine.generate([*head, *tail], {"max_new_tokens": 0}, **options)
    assert done.prompt_logprobs is not None
    assert [entry.token_id for entry in done.prompt_logprobs] == tail
    return [entry.logprob for entry in done.prompt_logprobs if entry.logprob is not None]


def num_to_compute(engine: Engine, prompt: str, continuations: Sequence[str]) -> int:
    """The prompt's tokens and those of the trie that others follow."""
    tails = [engine.tokenize(each) for each in continuations]
    return len(engine.tokenize(prompt)) + len({tuple(tail[:n]) for tail in tails for n in range(1, len(tail))})


def assert_exact(engine: Engine, continuations: Sequence[str], *, slack_tokens: int = 0) -> None:
    engine.flush_cache()
    before = engine.stats().computed_prompt_tokens
    scores = engine.score(PROMPT, continuations)
    computed = engine.stats().computed_prompt_tokens - before
    least = num_to_compute(engine, PROMPT, continuations)
    assert least <= computed <= least + slack_tokens
    for continuation, score in zip(continuations, scores, strict=True):
        assert score.token_ids == engine.tokenize(continuation)
        assert score.logprobs == pytest.approx(brute_force(engine, PROMPT, continuation), abs=1e-4), continuation


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_scores_are_exact_and_every_token_is_computed_once(engine: Engine, name: str) -> None:
    assert_exact(engine, SETS[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"page_size": 16, "num_pages": 600},
        {"page_size": 16, "num_pages": 600, "overlap": False, "prefill_chunk": 7},
        {"overlap": False, "num_pages": 8192, "policy": "dfs"},
        {"prefill_chunk": 7, "num_pages": 8192, "step_tokens": 16, "max_running_requests": 2},
    ],
    ids=lambda config: " ".join(f"{name}={value}" for name, value in config.items()),
)
def test_scores_are_exact_however_they_are_computed(config: dict[str, Any]) -> None:
    with Engine(in_process=True, **config) as engine:
        for continuations in SETS.values():
            chains = len(continuations)  # at most
            assert_exact(engine, continuations, slack_tokens=(chains - 1) * (config.get("page_size", 1) - 1))
        stats = engine.stats()
        assert stats.pages_running == 0


@pytest.mark.slow
def test_scores_are_those_of_transformers(engine: Engine) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(engine.info.model_path, dtype=torch.float32)
    head = engine.tokenize(PROMPT)
    for continuations in SETS.values():
        for score in engine.score(PROMPT, continuations):
            with torch.inference_mode():
                logits = theirs(torch.tensor([[*head, *score.token_ids]])).logits[0, len(head) - 1 : -1]
            expected = torch.log_softmax(logits, -1).gather(1, torch.tensor(score.token_ids)[:, None])[:, 0]
            assert score.logprobs == pytest.approx(expected.tolist(), abs=1e-4)
            assert score.total == pytest.approx(math.fsum(expected.tolist()), abs=1e-3)


def test_without_a_prompt_first_tokens_count_nothing(engine: Engine) -> None:
    paris, rome = engine.score(None, [" Paris, France", " Rome"])
    done = engine.generate(paris.token_ids, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=0)
    assert done.prompt_logprobs is not None
    assert paris.logprobs == pytest.approx([entry.logprob or 0.0 for entry in done.prompt_logprobs], abs=1e-4)
    assert rome.logprobs == [0.0]
    assert engine.score(PROMPT, []) == []


@pytest.mark.slow
def test_salted_scores_share_nothing_with_others(engine: Engine) -> None:
    engine.flush_cache()
    before = engine.stats().computed_prompt_tokens
    for salt in ("", "mine", "mine"):
        engine.score(PROMPT, [" yes", " no"], cache_salt=salt)
    num_prompt = len(engine.tokenize(PROMPT))
    assert engine.stats().computed_prompt_tokens - before == num_prompt + num_prompt + 1


@pytest.mark.slow
def test_a_cancelled_score_gives_its_pages_back(engine: Engine) -> None:
    tails = [[1000 + i, *range(2000, 2040)] for i in range(3)]

    async def main() -> None:
        task = asyncio.create_task(engine.ascore(PROMPT, tails))
        while not (await engine.astats()).requests_running:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while (stats := await engine.astats()).requests_running:  # until the step in flight has landed
            await asyncio.sleep(0.005)
        assert (stats.requests_running, stats.requests_waiting, stats.pages_running) == (0, 0, 0)
        assert stats.pages_free + stats.pages_cached == stats.pages_total

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize(
    ("prompt", "continuations", "field"),
    [
        ("x", ["a", ""], "continuations"),
        ("x", [[]], "continuations"),
        ("x", [[10**6]], "continuations"),
        ("x", [[-1]], "continuations"),
        ("x", [["a"]], "continuations"),
        ([10**6], ["a"], "prompt"),
        (5, ["a"], "prompt"),
    ],
)
def test_what_can_not_be_scored_is_refused(engine: Engine, prompt: Any, continuations: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.score(prompt, continuations)
    assert refused.value.field == field
    assert len(engine.score("x", ["a"])) == 1


def test_a_continuation_over_the_context_is_refused(engine: Engine) -> None:
    with pytest.raises(ContextLengthExceeded):
        engine.score("x", [[5] * engine.info.context_length])
