"""Twenty prompts on the default model: the tokens of transformers, and the same ones however they are scheduled."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers import AutoModelForCausalLM

from forktree.runtime import Completion, Engine
from tests.support.default_prompts import PROMPTS

pytestmark = pytest.mark.slow

NUM_TOKENS = 64
NEAR_TIE = 1e-4  # a top-2 gap of the logits below which either token is right
PARAMS = {"max_new_tokens": NUM_TOKENS, "temperature": 0.0, "ignore_eos": True}


@dataclass(frozen=True)
class Truth:
    """What transformers says of our output: its logits before each of our tokens."""

    logits: torch.Tensor  # [NUM_TOKENS, vocab]
    token_ids: list[int]

    def assert_same(self, token_ids: list[int], what: str) -> None:
        """Equal tokens, or apart for the first time at a near tie of transformers' own logits."""
        for i, (ours, expected) in enumerate(zip(token_ids, self.token_ids, strict=True)):
            if ours != expected:
                gap = float(self.logits[i].max() - self.logits[i, ours])
                assert gap < NEAR_TIE, f"{what}: token {i} is {ours}, wanted {expected}; the gap is {gap:.2e}"
                return


@pytest.fixture(scope="module")
def alone(engine: Engine) -> list[Completion]:
    """Each prompt by itself, with an empty cache and the log-probabilities of its tokens."""
    completions = []
    for prompt in PROMPTS:
        engine.flush_cache()
        completions.append(engine.generate(prompt, PARAMS, return_logprob=True, top_logprobs_num=5))
    return completions


@pytest.fixture(scope="module")
def truths(engine: Engine, alone: list[Completion]) -> list[Truth]:
    """transformers on the same weights, fed our tokens: while ours are its greedy choice, that is its greedy output."""
    model = AutoModelForCausalLM.from_pretrained(engine.info.model_path, dtype=torch.float32)
    model.eval()
    truths = []
    with torch.inference_mode():
        for prompt, done in zip(PROMPTS, alone, strict=True):
            ids = [*engine.tokenize(prompt), *done.token_ids]
            logits = model(torch.tensor([ids]), logits_to_keep=NUM_TOKENS + 1).logits[0, :-1]
            truths.append(Truth(logits, logits.argmax(-1).tolist()))
    return truths


def test_some_prompts_are_long_and_some_are_unicode(engine: Engine) -> None:
    lengths = [len(engine.tokenize(prompt)) for prompt in PROMPTS]
    assert len(PROMPTS) == 20
    assert sum(length > 1000 for length in lengths) >= 3
    assert sum(not prompt.isascii() for prompt in PROMPTS) >= 4


def test_greedy_tokens_are_those_of_transformers(alone: list[Completion], truths: list[Truth]) -> None:
    for prompt, done, truth in zip(PROMPTS, alone, truths, strict=True):
        assert len(done.token_ids) == NUM_TOKENS
        truth.assert_same(done.token_ids, repr(prompt[:40]))


def test_log_probabilities_are_those_of_transformers(alone: list[Completion], truths: list[Truth]) -> None:
    worst = 0.0
    for done, truth in zip(alone, truths, strict=True):
        logprobs = torch.log_softmax(truth.logits, -1)
        for i, entry in enumerate(done.logprobs):
            for value, token_id, _ in entry.top:
                worst = max(worst, abs(value - float(logprobs[i, token_id])))
    assert worst < 1e-3, f"worst difference {worst:.2e}"


def test_streamed_prompt_logprobs_are_whole_when_the_prefill_is_chunked() -> None:
    params = {"max_new_tokens": 2, "temperature": 0.0}
    options = {"return_logprob": True, "logprob_start_len": 0}
    with Engine(in_process=True, prefill_chunk=7, num_pages=512) as other:
        deltas = list(other.stream(PROMPTS[1], params, **options))
        streamed = [entry.token_id for delta in deltas for entry in delta.prompt_logprobs or []]
        assert streamed == other.tokenize(PROMPTS[1])


def test_tokens_are_the_same_in_one_batch_and_from_the_cache(
    engine: Engine, alone: list[Completion], truths: list[Truth]
) -> None:
    engine.flush_cache()
    for what in ("one batch", "one batch, prefixes cached"):
        outputs = engine.generate(PROMPTS, PARAMS)
        _assert_same(outputs, alone, truths, what)
    assert all(done.usage.cached_tokens == done.usage.prompt_tokens - 1 for done in outputs)


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("prefill chunk 7", {"prefill_chunk": 7, "num_pages": 16384}),
        ("few pages", {"num_pages": 2200}),
        ("plain loop", {"overlap": False, "num_pages": 16384}),
        ("plain loop, few pages, large pages", {"overlap": False, "num_pages": 140, "page_size": 16}),
        ("reference attention", {"attention": "reference", "num_pages": 16384}),
    ],
)
def test_tokens_are_the_same_with(
    what: str, settings: dict[str, object], alone: list[Completion], truths: list[Truth]
) -> None:
    with Engine(in_process=True, **settings) as other:
        _assert_same(other.generate(PROMPTS, PARAMS), alone, truths, what)
        stats = other.stats()
    if "few pages" in what:
        assert stats.retractions > 0, "the test means to run out of pages"
    assert stats.pages_free + stats.pages_cached + stats.pages_running == stats.pages_total


def _assert_same(outputs: list[Completion], alone: list[Completion], truths: list[Truth], what: str) -> None:
    for prompt, done, expected, truth in zip(PROMPTS, outputs, alone, truths, strict=True):
        if done.token_ids != expected.token_ids:
            truth.assert_same(done.token_ids, f"{what}: {prompt[:40]!r}")
