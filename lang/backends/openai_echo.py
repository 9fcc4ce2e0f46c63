"""Scores of continuations from completions that echo their prompt with log-probabilities.

Here: which of the echoed tokens belong to a continuation.  Pure functions; imports the protocol's Score only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BackendError
from .protocol import Score

__all__ = ["scores_from_echo"]


def scores_from_echo(
    prompt: str, continuations: Sequence[str], found: Sequence[Mapping[str, Any] | None]
) -> list[Score]:
    """One Score per continuation.

    Where a token reaches across the end of the prompt, in any of the texts, all are scored from where that token
    begins: they are then compared on the same characters.  Ids stand for equal tokens and are of no other use."""
    if len(found) != len(continuations):
        raise BackendError(f"the endpoint echoed {len(found)} of {len(continuations)} choices")
    echoes = [_tokens_of(each) for each in found]
    start = min((_token_start(tokens, len(prompt)) for tokens in echoes), default=0)
    ids: dict[str, int] = {}
    scores = []
    for tokens in echoes:
        own = [(text, logprob) for offset, text, logprob in tokens if offset >= start]
        if own and start == 0 and own[0][1] is None:
            own[0] = (own[0][0], 0.0)  # the first token of all: nothing predicts it
        if not own or any(logprob is None for _, logprob in own):
            raise BackendError("the endpoint gave no log-probability for some of a choice's tokens")
        numbers = tuple(ids.setdefault(text, len(ids)) for text, _ in own)
        scores.append(Score(numbers, tuple(float(logprob or 0.0) for _, logprob in own)))
    return scores


def _tokens_of(found: Mapping[str, Any] | None) -> list[tuple[int, str, float | None]]:
    """(character offset, text, log-probability) of every token."""
    if not found or not found.get("tokens"):
        raise BackendError("the endpoint does not echo log-probabilities: take echo=True away, and select with it")
    texts, logprobs = found["tokens"], found["token_logprobs"]
    offsets = found.get("text_offset")
    if not offsets:
        offsets = [sum(map(len, texts[:i])) for i in range(len(texts))]
    return list(zip(offsets, texts, logprobs, strict=True))


def _token_start(tokens: Sequence[tuple[int, str, float | None]], end_of_prompt: int) -> int:
    """Where the first token begins that lies after the prompt, or reaches across its end."""
    return min((offset for offset, text, _ in tokens if offset + len(text) > end_of_prompt), default=end_of_prompt)
