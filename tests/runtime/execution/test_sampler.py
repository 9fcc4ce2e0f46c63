"""Sampling from logits that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from forktree.runtime.execution.sampler import TokenMasks, gumbel_noise, sample, score_prompt
from forktree.runtime.execution.step_inputs import PromptRows, SampleRow
from forktree.runtime.sampling_params import SamplingParams

LAST = torch.zeros(4, dtype=torch.int64)


def row(*, seed: int = 0, position: int = 0, history: list[int] | None = None, **fields: object) -> SampleRow:
    options = {name: fields.pop(name) for name in ("num_prompt", "pending", "banned", "top") if name in fields}
    return SampleRow(
        params=SamplingParams(**fields),  # type: ignore[arg-type]
        seed=seed,
        position=position,
        slot=0,
        history=None if history is None else np.array(history, np.int32),
        num_prompt=options.get("num_prompt", 0),  # type: ignore[arg-type]
        pending=bool(options.get("pending", False)),
        banned=options.get("banned", ()),  # type: ignore[arg-type]
        num_top_logprobs=options.get("top"),  # type: ignore[arg-type]
    )


def draw(logits: list[float], it: SampleRow, mask: list[int] | None = None) -> int:
    masks = None
    if mask is not None:
        masks = TokenMasks([0], np.array([[sum(1 << i for i in mask)]], np.int32))
    token_ids, failures, _ = sample(torch.tensor([logits]), [it], masks, LAST)
    assert not failures
    return token_ids[0]


def frequencies(logits: list[float], num_draws: int = 4000, **fields: object) -> list[float]:
    counts = np.zeros(len(logits))
    for position in range(num_draws):
        counts[draw(logits, row(position=position, **fields))] += 1
    return list(counts / num_draws)


def test_greedy_takes_the_most_likely_token() -> None:
    assert draw([0.0, 3.0, 1.0], row(temperature=0.0)) == 1


@pytest.mark.slow
def test_draws_follow_the_probabilities() -> None:
    probs = [0.1, 0.2, 0.3, 0.4]
    assert frequencies(list(np.log(probs))) == pytest.approx(probs, abs=0.03)


@pytest.mark.slow
def test_temperature_sharpens() -> None:
    squared = np.array([0.1, 0.2, 0.3, 0.4]) ** 2
    got = frequencies(list(np.log([0.1, 0.2, 0.3, 0.4])), temperature=0.5)
    assert got == pytest.approx(list(squared / squared.sum()), abs=0.03)


@pytest.mark.slow
def test_top_k_top_p_and_min_p_cut_the_tail() -> None:
    logits = list(np.log([0.4, 0.3, 0.2, 0.1]))
    assert frequencies(logits, 1000, top_k=2)[2:] == [0, 0]
    assert frequencies(logits, 1000, top_p=0.5)[2:] == [0, 0], "0.4 alone is less than 0.5, so the second is kept"
    assert frequencies(logits, 1000, top_p=0.39)[1:] == [0, 0, 0]
    assert frequencies(logits, 1000, min_p=0.6)[2:] == [0, 0]


def test_the_same_seed_and_position_draw_the_same_token_in_any_batch() -> None:
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(1))
    rows = [row(seed=i * 7, position=i) for i in range(5)]
    together, _, _ = sample(logits.clone(), rows, None, LAST)
    alone = [sample(logits[i : i + 1].clone(), [rows[i]], None, LAST)[0][0] for i in range(5)]
    assert together == alone


def test_the_noise_is_gumbel_and_independent_over_seeds_positions_and_tokens() -> None:
    tokens = np.arange(200)
    noise = np.array([[gumbel_noise(seed, position, tokens) for position in range(20)] for seed in range(20)])
    assert noise.mean() == pytest.approx(0.5772, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.05)
    for a, b in ((noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1]), (noise[..., 1:], noise[..., :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.02
    assert len(np.unique(noise)) == noise.size


@pytest.mark.slow
def test_a_draw_does_not_turn_on_rounding_errors_in_other_logits() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 50_000, generator=generator) * 2
    flips = 0
    for position in range(300):
        it = row(seed=5, position=position, temperature=1.5)
        shaken = logits + torch.randn(1, 50_000, generator=generator) * 5e-6
        flips += sample(logits.clone(), [it], None, LAST)[0] != sample(shaken, [it], None, LAST)[0]
    assert flips == 0


def test_repetition_penalty_counts_prompt_and_output() -> None:
    logits = [2.0, 1.9, -1.0]
    assert draw(logits, row(temperature=0.0, repetition_penalty=1.5, history=[0], num_prompt=1)) == 1
    assert draw([-1.0, -1.2], row(temperature=0.0, repetition_penalty=1.5, history=[0], num_prompt=1)) == 1


def test_frequency_and_presence_penalties_count_the_output_only() -> None:
    logits = [1.0, 0.5]
    assert draw(logits, row(temperature=0.0, presence_penalty=1.0, history=[0], num_prompt=1)) == 0
    assert draw(logits, row(temperature=0.0, presence_penalty=1.0, history=[1, 0], num_prompt=1)) == 1
    assert draw(logits, row(temperature=0.0, frequency_penalty=0.3, history=[0], num_prompt=0)) == 0
    assert draw(logits, row(temperature=0.0, frequency_penalty=0.3, history=[0, 0], num_prompt=0)) == 1


def test_a_token_that_is_still_on_the_device_is_penalised_too() -> None:
    last = torch.tensor([0, 0, 0, 0])
    it = row(temperature=0.0, presence_penalty=1.0, history=[1], num_prompt=1, pending=True)
    assert sample(torch.tensor([[1.0, 0.5]]), [it], None, last)[0] == [1]


def test_logit_bias_and_banned_tokens_decide() -> None:
    assert draw([1.0, 0.0], row(temperature=0.0, logit_bias={1: 5.0})) == 1
    assert draw([1.0, 0.0], row(temperature=0.0, banned=(0,))) == 1


def test_a_mask_leaves_only_its_tokens() -> None:
    logits = [5.0, 4.0, 3.0, 2.0]
    assert draw(logits, row(temperature=0.0), mask=[2, 3]) == 2
    assert {draw(logits, row(position=i), mask=[1, 3]) for i in range(50)} == {1, 3}


def test_a_row_without_an_allowed_token_fails_alone() -> None:
    logits = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    masks = TokenMasks([0], np.array([[0]], np.int32))
    token_ids, failures, _ = sample(logits, [row(temperature=0.0), row(temperature=0.0)], masks, LAST)
    assert token_ids[1] == 1
    assert list(failures) == [0]
    assert "no token may come next" in failures[0].message


def test_a_row_of_nans_fails_alone() -> None:
    logits = torch.tensor([[float("nan"), 2.0], [1.0, 2.0]])
    token_ids, failures, _ = sample(logits, [row(), row(temperature=0.0)], None, LAST)
    assert token_ids[1] == 1
    assert "NaN" in failures[0].message
    assert failures[0].corrupt


def test_logprobs_are_the_models_own_whatever_bends_the_choice() -> None:
    probs = np.array([0.5, 0.3, 0.2])
    it = row(temperature=0.0, logit_bias={2: 9.0}, top=2)
    token_ids, _, logprobs = sample(torch.tensor(np.log(probs)[None]), [it], None, LAST)
    assert token_ids == [2]
    assert logprobs[0] is not None
    assert np.exp(logprobs[0].logprob) == pytest.approx(0.2)
    assert [(round(float(np.exp(value)), 3), id) for value, id in logprobs[0].top] == [(0.5, 0), (0.3, 1)]


def test_prompt_scores_belong_to_their_spans() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]))
    rows = [
        PromptRows(1, np.array([0]), np.array([1]), 0),
        PromptRows(2, np.array([0, 1]), np.array([0, 1]), 1),
    ]
    scores = score_prompt(logits, rows)
    assert [[round(float(np.exp(s.logprob)), 3) for s in span] for span in scores] == [[0.5], [0.25, 0.9]]
    assert scores[1][0].top[0][1] == 1


def test_several_tokens_may_be_scored_at_one_position() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]))
    rows = [PromptRows(2, np.array([0, 0, 1, 1]), np.array([2, 0, 0, 2]), 0)]
    (scores,) = score_prompt(logits, rows)
    assert [(s.token_id, round(float(np.exp(s.logprob)), 3)) for s in scores] == [
        (2, 0.5),
        (0, 0.2),
        (0, 0.6),
        (2, 0.1),
    ]
