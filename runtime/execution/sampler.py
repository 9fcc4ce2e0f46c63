"""Logits -> tokens: biases, penalties, token masks, temperature, top-k, top-p, min-p, log-probabilities.

The noise of every draw is a function of (seed, position in the output, token) alone, so a request's text does not
depend on its batch.
Imported by the executor and its tests; torch. Runs on the executor's thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..request import IntArray
from .step_inputs import PromptRows, SampleRow

FloatArray = NDArray[np.float64]

_MASK64 = (1 << 64) - 1


@dataclass(frozen=True)
class Logprob:
    """log P(token) in nats under the model itself, before bias, penalties, mask, temperature; and the best others."""

    token_id: int
    logprob: float
    top: list[tuple[float, int]]


@dataclass(frozen=True)
class Failure:
    """Why no token could be drawn from a row. `corrupt`: the model computed no numbers; nothing of it may be cached."""

    message: str
    corrupt: bool


NOT_NUMBERS = Failure("the model's logits are not numbers (NaN)", corrupt=True)


@dataclass(frozen=True, eq=False)
class TokenMasks:
    """Masks for some of the sampled rows of a step. Bit i of word i // 32, lowest first: 1 = token i is allowed."""

    rows: list[int]  # indices among the sampled rows
    words: IntArray  # int32 [len(rows), ceil(vocabulary / 32)]


@dataclass(frozen=True, eq=False)
class StepResult:
    """What a step yields: a token for each span that samples, in order, and the prompt log-probabilities owed."""

    token_ids: list[int]
    failures: dict[int, Failure]  # by sampled row; its token id is meaningless
    logprobs: list[Logprob | None]
    prompt_logprobs: list[list[Logprob]]  # one list for each span that owed some


def gumbel_noise(seed: int, position: int, token_ids: NDArray[np.int64]) -> FloatArray:
    """Standard Gumbel noise for tokens, a function of (seed, position, token id) alone.

    token_ids   integers [n]
    returns     float64 [n]
    Hashed by SplitMix64 (Steele et al. 2014). Adding it to log-probabilities and taking the largest draws a token
    (Gumbel-max). Unlike a walk along the cumulative sum, a rounding error in one logit moves one score only, so the
    draw does not depend on batch mates, cache hits or chunks.
    """
    start = np.uint64(_mix((seed * 0xD1342543DE82EF95 + (position + 1) * 0x9E3779B97F4A7C15) & _MASK64))
    z = (token_ids.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    uniform = ((z >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), never at its ends
    noise: FloatArray = -np.log(-np.log(uniform))
    return noise


def _mix(z: int) -> int:
    """SplitMix64's finaliser, twice: neighbouring seeds and positions must not look alike."""
    for _ in range(2):
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
        z ^= z >> 31
    return z


def sample(
    logits: torch.Tensor, rows: list[SampleRow], masks: TokenMasks | None, last_tokens: torch.Tensor
) -> tuple[list[int], dict[int, Failure], list[Logprob | None]]:
    """One token per row of `logits`.

    logits        [R, V] fp32; changed in place
    rows          R descriptions
    last_tokens   [slots] int64: the token each slot sampled last; read where a row has a pending one
    returns       token ids, failures by row, log-probabilities where asked for
    """
    wanted = [i for i, row in enumerate(rows) if row.num_top_logprobs is not None]
    raw = torch.log_softmax(logits[wanted], dim=-1) if wanted else None
    for i, row in enumerate(rows):
        _adjust(logits[i], row, last_tokens)
    if masks is not None:
        allowed = unpack_mask(torch.from_numpy(masks.words), logits.shape[1])
        index = torch.tensor(masks.rows)
        logits[index] = logits[index].masked_fill_(~allowed, -torch.inf)
    best, token_ids = logits.max(dim=-1)
    failures = {i: _why(logits[i]) for i in (~torch.isfinite(best)).nonzero().flatten().tolist()}
    chosen: list[int] = token_ids.tolist()
    for i, row in enumerate(rows):
        if not row.params.greedy and i not in failures:
            chosen[i] = _draw(logits[i], row)
    logprobs: list[Logprob | None] = [None] * len(rows)
    if raw is not None:
        for at, i in enumerate(wanted):
            logprobs[i] = _logprob(raw[at], chosen[i], rows[i].num_top_logprobs or 0)
    return chosen, failures, logprobs


def score_prompt(logits: torch.Tensor, rows: list[PromptRows]) -> list[list[Logprob]]:
    """Log-probabilities of given tokens, from the logits [R, V] of the positions before them, span by span."""
    scored: list[list[Logprob]] = []
    first = 0
    for row in rows:
        logprobs = torch.log_softmax(logits[first : first + row.num_rows], dim=-1)
        tops = [_top(each, row.num_top) for each in logprobs]
        values = logprobs[torch.from_numpy(row.rows), torch.from_numpy(row.token_ids)]
        owed = zip(row.token_ids.tolist(), values.tolist(), row.rows.tolist(), strict=True)
        scored.append([Logprob(token_id, value, tops[at]) for token_id, value, at in owed])
        first += row.num_rows
    return scored


def unpack_mask(words: torch.Tensor, vocab_size: int) -> torch.Tensor:
    """int32 [B, W] -> bool [B, vocab_size]; tokens past the last word are not allowed."""
    bits = (words.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32)) & 1
    allowed = bits.flatten(1).bool()
    if allowed.shape[1] < vocab_size:
        allowed = torch.nn.functional.pad(allowed, (0, vocab_size - allowed.shape[1]))
    return allowed[:, :vocab_size]


def _adjust(logits: torch.Tensor, row: SampleRow, last_tokens: torch.Tensor) -> None:
    params = row.params
    if params.logit_bias:
        ids = torch.tensor(list(params.logit_bias))
        logits[ids] += torch.tensor(list(params.logit_bias.values()), dtype=logits.dtype)
    if row.history is not None:
        history = row.history
        if row.pending:
            history = np.append(history, last_tokens[row.slot].numpy())
        seen = torch.from_numpy(np.unique(history)).long()
        values = logits[seen]
        penalty = params.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
        output, counts = np.unique(history[row.num_prompt :], return_counts=True)
        penalties = torch.from_numpy(counts * params.frequency_penalty + params.presence_penalty)
        logits[torch.from_numpy(output).long()] -= penalties.to(logits.dtype)
    if row.banned:
        logits[list(row.banned)] = -torch.inf


def _draw(logits: torch.Tensor, row: SampleRow) -> int:
    """A token from what top-k, then top-p, then min-p leave."""
    params = row.params
    scaled = logits.double() / params.temperature
    if 0 < params.top_k < len(scaled):
        scaled[scaled < scaled.topk(params.top_k).values[-1]] = -torch.inf
    if params.top_p < 1.0 or params.min_p > 0.0:
        probs = torch.softmax(scaled, dim=-1)
        if params.top_p < 1.0:
            _keep_nucleus(probs, params.top_p)
        if params.min_p > 0.0:
            probs[probs < params.min_p * probs.max()] = 0.0
        scaled[probs == 0.0] = -torch.inf
    left = torch.isfinite(scaled).nonzero().flatten().numpy()
    scores = scaled.numpy()[left] + gumbel_noise(row.seed, row.position, left)
    return int(left[scores.argmax()])


def _keep_nucleus(probs: torch.Tensor, top_p: float) -> None:
    """Zero all but the fewest most probable tokens that hold `top_p` of the mass (Holtzman et al. 2019, 1904.09751)."""
    candidates = (probs > (1.0 - top_p) / len(probs)).nonzero().flatten()  # all the others hold less than 1 - top_p
    values, index = probs[candidates].sort(descending=True, stable=True)
    before = values.cumsum(dim=-1) - values
    kept = candidates[index[before < top_p]]
    values = probs[kept]
    probs.zero_()
    probs[kept] = values


def _logprob(logprobs: torch.Tensor, token_id: int, num_top: int) -> Logprob:
    return Logprob(token_id, float(logprobs[token_id]), _top(logprobs, num_top))


def _top(logprobs: torch.Tensor, count: int) -> list[tuple[float, int]]:
    if not count:
        return []
    values, ids = logprobs.topk(min(count, len(logprobs)))
    return list(zip(values.tolist(), ids.tolist(), strict=True))


def _why(logits: torch.Tensor) -> Failure:
    if torch.isnan(logits).any():
        return NOT_NUMBERS
    if torch.isposinf(logits).any():
        return Failure("a logit is infinite: repetition_penalty or logit_bias is too extreme for it", corrupt=False)
    return Failure("no token may come next: constraint, bias and min_new_tokens exclude each other", corrupt=False)
