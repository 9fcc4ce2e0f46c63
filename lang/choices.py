"""How select picks one of its options: pure functions over exact token log-probabilities.

Here: exact probabilities over the options, SGLang's three methods, and drawing.
Not here: asking a model for scores (operations).  Imports the protocol's Score only.

A method ranks: it names the best option and gives one log weight per option.  At temperature 0 the best option is
taken, at temperature t one is drawn from softmax(log weights / t).  Whatever the method, the meta info has the exact
probabilities of the options beside the distribution that the method implies, softmax(log weights)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .backends.protocol import Score

__all__ = [
    "METHODS",
    "ChoicesMethod",
    "Ranking",
    "decide",
    "draws",
    "exact_probability",
    "greedy_token_selection",
    "softmax",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
]


@dataclass(frozen=True)
class Ranking:
    best: int
    log_weights: tuple[float, ...]


@dataclass(frozen=True)
class ChoicesMethod:
    """A named way to rank; `rank(scores, unconditional)` has unconditional scores only if it asked for them."""

    name: str
    rank: Callable[[Sequence[Score], Sequence[Score]], Ranking]
    needs_unconditional: bool = False

    def __call__(self, scores: Sequence[Score], unconditional: Sequence[Score] = ()) -> Ranking:
        return self.rank(scores, unconditional)

    def __repr__(self) -> str:
        return self.name


def draws(temperature: float) -> bool:
    """Whether an option is drawn at this temperature, or the best one taken."""
    return temperature > 1e-5


def softmax(log_weights: Sequence[float]) -> tuple[float, ...]:
    highest = max(log_weights)
    if highest == -math.inf:  # none can happen: all are equally (im)possible
        return tuple(1.0 / len(log_weights) for _ in log_weights)
    weights = [math.exp(each - highest) for each in log_weights]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _best(log_weights: Sequence[float]) -> int:
    return max(range(len(log_weights)), key=log_weights.__getitem__)  # the first of equals


def _by_probability(scores: Sequence[Score], unconditional: Sequence[Score]) -> Ranking:
    """log P(option | prompt).  P(option) is that of a text that begins with it: an option that is the beginning of
    another is never less likely than that one."""
    log_weights = tuple(math.fsum(score.logprobs) for score in scores)
    return Ranking(_best(log_weights), log_weights)


def _by_mean(scores: Sequence[Score], unconditional: Sequence[Score]) -> Ranking:
    """Mean log-probability per token, so that long options are not punished for their length."""
    log_weights = tuple(_mean(score.logprobs) for score in scores)
    return Ranking(_best(log_weights), log_weights)


def _by_gain_over_unconditional(scores: Sequence[Score], unconditional: Sequence[Score]) -> Ranking:
    """Mean of log p(token | prompt) - log p(token | nothing): how much the prompt speaks for the option, frequent or
    not."""
    log_weights = tuple(
        _mean(score.logprobs) - _mean(alone.logprobs) for score, alone in zip(scores, unconditional, strict=True)
    )
    return Ranking(_best(log_weights), log_weights)


def _token_by_token(scores: Sequence[Score], unconditional: Sequence[Score]) -> Ranking:
    """Walk the options token by token, always into the likeliest next token.

    Options that share their tokens so far stay together, whatever rounding did to their scores.  An option that ends
    where others go on competes there with its mean log-probability, as in SGLang.  The weights are those of the same
    walk with every step drawn."""
    log_weights = [0.0] * len(scores)
    best = 0
    left = [(list(range(len(scores))), 0, 0.0, True)]  # options alike up to a depth, and whether the walk came there
    while left:  # thousands of options may each begin with the one before: too deep for calls of calls
        options, depth, log_weight, is_taken = left.pop()
        groups: dict[object, list[int]] = {}
        while len(options) > 1:
            groups = {}
            for option in options:
                ids = scores[option].token_ids
                groups.setdefault(ids[depth] if depth < len(ids) else "end", []).append(option)
            if len(groups) > 1 or "end" in groups:
                break
            depth += 1
        if len(options) == 1 or len(groups) == 1:  # groups of one: the same option twice
            for option in options:
                log_weights[option] = log_weight - math.log(len(options))
            best = options[0] if is_taken else best
            continue
        values = [max(_step(scores[option], depth) for option in group) for group in groups.values()]
        winner = _best(values)
        for position, (group, probability) in enumerate(zip(groups.values(), softmax(values), strict=True)):
            weight = log_weight + (math.log(probability) if probability > 0 else -math.inf)
            left.append((group, depth + 1, weight, is_taken and position == winner))
    return Ranking(best, tuple(log_weights))


def _step(score: Score, depth: int) -> float:
    return score.logprobs[depth] if depth < len(score.logprobs) else _mean(score.logprobs)


exact_probability = ChoicesMethod("exact_probability", _by_probability)
token_length_normalized = ChoicesMethod("token_length_normalized", _by_mean)
greedy_token_selection = ChoicesMethod("greedy_token_selection", _token_by_token)
unconditional_likelihood_normalized = ChoicesMethod(
    "unconditional_likelihood_normalized", _by_gain_over_unconditional, needs_unconditional=True
)

METHODS = {
    method.name: method
    for method in (
        token_length_normalized,
        greedy_token_selection,
        unconditional_likelihood_normalized,
        exact_probability,
    )
}


def decide(
    choices: Sequence[str],
    scores: Sequence[Score],
    unconditional: Sequence[Score],
    method: ChoicesMethod,
    temperature: float,
    seed: int | None,
) -> tuple[int, dict[str, Any]]:
    """The index of the option taken, and what there is to know about it."""
    ranking = method(scores, unconditional)
    if not draws(temperature):
        index = ranking.best
    else:
        weights = softmax([each / temperature for each in ranking.log_weights])
        index = random.Random(seed).choices(range(len(choices)), weights)[0]
    sequence_logprobs = _by_probability(scores, ()).log_weights
    meta: dict[str, Any] = {
        "choice": choices[index],
        "choice_index": index,
        "choices": list(choices),
        "choices_method": method.name,
        "probabilities": list(softmax(sequence_logprobs)),  # exact P(option | prompt), over the options; sums to 1
        "distribution": list(softmax(ranking.log_weights)),  # of the method, at temperature 1; sums to 1
        "sequence_logprobs": list(sequence_logprobs),  # exact log P(option | prompt), not normalised over the options
        "normalized_prompt_logprobs": [_mean(score.logprobs) for score in scores],
        "input_token_logprobs": [
            [[logprob, token_id, None] for logprob, token_id in zip(score.logprobs, score.token_ids, strict=True)]
            for score in scores
        ],
        "output_token_logprobs": [[] for _ in scores],
        "completion_tokens": len(scores[index].token_ids),
    }
    if unconditional:
        meta["unconditional_token_logprobs"] = [list(score.logprobs) for score in unconditional]
        meta["normalized_unconditional_prompt_logprobs"] = list(ranking.log_weights)
    return index, meta
