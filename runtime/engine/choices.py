"""How a select that runs in the engine picks one of its choices, from exact log-probabilities.

The language decides in the same way where it runs a program itself, and a test holds the two to each other: they may
not import one another.  Imported by program_plan.py and programs.py; standard library only."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

LogProbs = Sequence[float]
Weigh = Callable[[Sequence[Sequence[int]], Sequence[LogProbs], Sequence[LogProbs]], tuple[int, list[float]]]


def decide(
    token_ids: Sequence[Sequence[int]],
    logprobs: Sequence[LogProbs],
    alone: Sequence[LogProbs],
    *,
    method: str | None,
    temperature: float,
    seed: int | None,
) -> int:
    """The index of the choice taken.

    token_ids, logprobs   per choice its tokens and their log-probabilities after the prompt
    alone                 the same with nothing before them, for the method that asks for it
    method                a name in METHODS; None: token_length_normalized at temperature 0, else exact_probability
    """
    greedy = temperature <= 1e-5
    name = method or ("token_length_normalized" if greedy else "exact_probability")
    best, log_weights = METHODS[name](token_ids, logprobs, alone)
    if greedy:
        return best
    weights = _softmax([each / temperature for each in log_weights])
    return random.Random(seed).choices(range(len(token_ids)), weights)[0]


def needs_alone(method: str | None) -> bool:
    return method == "unconditional_likelihood_normalized"


def _by_mean(
    ids: Sequence[Sequence[int]], logprobs: Sequence[LogProbs], alone: Sequence[LogProbs]
) -> tuple[int, list[float]]:
    return _best_of([_mean(each) for each in logprobs])


def _by_sum(
    ids: Sequence[Sequence[int]], logprobs: Sequence[LogProbs], alone: Sequence[LogProbs]
) -> tuple[int, list[float]]:
    return _best_of([math.fsum(each) for each in logprobs])


def _by_gain(
    ids: Sequence[Sequence[int]], logprobs: Sequence[LogProbs], alone: Sequence[LogProbs]
) -> tuple[int, list[float]]:
    return _best_of([_mean(each) - _mean(other) for each, other in zip(logprobs, alone, strict=True)])


def _token_by_token(
    ids: Sequence[Sequence[int]], logprobs: Sequence[LogProbs], alone: Sequence[LogProbs]
) -> tuple[int, list[float]]:
    """A walk that always takes the likeliest next token; a choice that ends where others go on counts with its mean."""
    log_weights = [0.0] * len(ids)

    def step(choice: int, depth: int) -> float:
        return logprobs[choice][depth] if depth < len(logprobs[choice]) else _mean(logprobs[choice])

    best = 0
    left = [(list(range(len(ids))), 0, 0.0, True)]  # choices alike up to a depth, and whether the walk came there
    while left:  # thousands of choices may each begin with the one before: too deep for calls of calls
        choices, depth, log_weight, is_taken = left.pop()
        groups: dict[object, list[int]] = {}
        while len(choices) > 1:
            groups = {}
            for choice in choices:
                groups.setdefault(ids[choice][depth] if depth < len(ids[choice]) else "end", []).append(choice)
            if len(groups) > 1 or "end" in groups:
                break
            depth += 1
        if len(choices) == 1 or len(groups) == 1:
            for choice in choices:
                log_weights[choice] = log_weight - math.log(len(choices))
            best = choices[0] if is_taken else best
            continue
        values = [max(step(choice, depth) for choice in group) for group in groups.values()]
        winner = values.index(max(values))
        for position, (group, share) in enumerate(zip(groups.values(), _softmax(values), strict=True)):
            weight = log_weight + (math.log(share) if share > 0 else -math.inf)
            left.append((group, depth + 1, weight, is_taken and position == winner))
    return best, log_weights


METHODS: dict[str, Weigh] = {
    "exact_probability": _by_sum,
    "token_length_normalized": _by_mean,
    "unconditional_likelihood_normalized": _by_gain,
    "greedy_token_selection": _token_by_token,
}


def _best_of(log_weights: list[float]) -> tuple[int, list[float]]:
    return log_weights.index(max(log_weights)), log_weights


def _mean(values: LogProbs) -> float:
    return sum(values) / len(values)


def _softmax(log_weights: Sequence[float]) -> list[float]:
    highest = max(log_weights)
    if highest == -math.inf:
        return [1.0 / len(log_weights)] * len(log_weights)
    weights = [math.exp(each - highest) for each in log_weights]
    total = sum(weights)
    return [weight / total for weight in weights]
