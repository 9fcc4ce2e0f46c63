"""What OpenAI's endpoints answer, as typed structs, and how our choices become them.

Here: completion and chat objects and their stream chunks, log-probabilities, usage.  Not here: HTTP, generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

if TYPE_CHECKING:
    from ..engine.messages import TokenLogprob
    from .exchange import Choice

LOWEST = -9999.0  # OpenAI's stand-in for a log-probability of minus infinity, which JSON can't carry


class CachedTokens(msgspec.Struct):
    cached_tokens: int


class UsageReply(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionLogprobs(msgspec.Struct):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(msgspec.Struct):
    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


class ChatTop(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None


class ChatToken(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[ChatTop]


class ChatLogprobs(msgspec.Struct):
    content: list[ChatToken]
    refusal: None = None


class ChatMessage(msgspec.Struct):
    content: str
    role: str = "assistant"
    refusal: None = None


class ChatDelta(msgspec.Struct, omit_defaults=True):
    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChoice(msgspec.Struct):
    index: int
    message: ChatMessage | UnsetType = UNSET
    delta: ChatDelta | UnsetType = UNSET
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | UnsetType | None = UNSET
    token_ids: list[int] | UnsetType = UNSET


class Reply(msgspec.Struct):
    """A whole answer, or one chunk of it. In chunks `usage` is absent unless asked for; then null but in the last."""

    id: str
    object: str
    created: int
    model: str
    choices: Sequence[CompletionChoice | ChatChoice]
    usage: UsageReply | UnsetType | None = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


encode = msgspec.json.Encoder().encode


def usage_of(jobs: Iterable[Sequence[Choice]]) -> UsageReply:
    """Prompt tokens count once per prompt, however many choices it has; completion tokens count for each."""
    prompt = completion = cached = 0
    for choices in jobs:
        known = [choice.usage for choice in choices if choice.usage is not None]
        if known:
            prompt += known[0].prompt_tokens
            cached += min(usage.cached_tokens for usage in known)
            completion += sum(usage.completion_tokens for usage in known)
    return UsageReply(prompt, completion, prompt + completion, CachedTokens(cached))


def completion_logprobs(tokens: Sequence[TokenLogprob], top: int, offset: int) -> tuple[CompletionLogprobs, int]:
    """OpenAI's four parallel lists, and the offset at which the next ones go on."""
    offsets: list[int] = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    alternatives = [_alternatives(token) for token in tokens] if top else None
    values = [None if token.logprob is None else finite(token.logprob) for token in tokens]
    return CompletionLogprobs([token.text for token in tokens], values, alternatives, offsets), offset


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs(
        [
            ChatToken(
                token.text,
                finite(token.logprob or 0.0),
                _bytes(token.text),
                [ChatTop(text, finite(logprob), _bytes(text)) for logprob, _, text in token.top],
            )
            for token in tokens
        ]
    )


def model_card(name: str, created: int, context_length: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "forktree", "max_model_len": context_length}


def finite(logprob: float) -> float:
    return max(logprob, LOWEST)


def _alternatives(token: TokenLogprob) -> dict[str, float] | None:
    """Keyed by text, so of two tokens with one text the likelier stays; the sampled token is always there."""
    if token.logprob is None:
        return None
    found: dict[str, float] = {}
    for logprob, _, text in token.top:
        found.setdefault(text, finite(logprob))
    found.setdefault(token.text, finite(token.logprob))
    return found


def _bytes(text: str) -> list[int] | None:
    """A token that is part of a character has no text of its own, so its bytes are not told."""
    return None if "\ufffd" in text else list(text.encode())
