"""What a user of the engine gets: Delta while it runs, Completion at the end, Score for given continuations.

Imported by the engine facade, the server and the local backend; imports messages only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ForktreeRuntimeError
from .messages import Output, Timing, TokenLogprob, Usage


@dataclass(frozen=True)
class Delta:
    """What is new of one completion. `prompt_logprobs` come with the first, if asked for; the last has a finish_reason.

    kept_token_ids   with finish_reason: the output tokens that spell exactly the whole text, if a run of them does
    timing           with finish_reason
    """

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob]
    prompt_logprobs: list[TokenLogprob] | None
    usage: Usage
    finish_reason: str | None = None
    matched: int | str | None = None
    kept_token_ids: list[int] | None = None
    timing: Timing | None = None

    @classmethod
    def of(cls, index: int, news: Output) -> Delta:
        return cls(
            index=index,
            text=news.text,
            token_ids=news.token_ids,
            logprobs=news.logprobs,
            prompt_logprobs=news.prompt_logprobs,
            usage=news.usage,
            finish_reason=news.finish_reason,
            matched=news.matched,
            kept_token_ids=news.kept_token_ids,
            timing=news.timing,
        )


@dataclass(frozen=True)
class Completion:
    """One finished output. `finish_reason`: stop (`matched` says by what), length, or abort."""

    text: str
    token_ids: list[int]
    finish_reason: str
    matched: int | str | None
    usage: Usage
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    kept_token_ids: list[int] | None = None
    index: int = 0
    timing: Timing | None = None


@dataclass(frozen=True)
class Score:
    """Log-probabilities, in nats, of the tokens of one continuation after a prompt.  `timing` is the whole call's."""

    token_ids: list[int]
    logprobs: list[float]
    timing: Timing | None = None

    @property
    def total(self) -> float:
        return sum(self.logprobs)


@dataclass(frozen=True)
class ProgramEvent:
    """News of a running program: of one node of one item.  The first of a node comes when it begins, with its digest
    alone; the last of an item has node -1.

    digest   of the prompt that the node had: see PromptText.digest
    delta    what is new of one output of a gen (`delta.index` says which of its n)
    scores   of a select, one per choice; `alone`: the same without the prompt, where the method asks for it
    error    the node failed; what needs it will not run, the rest of the item does
    """

    item: int
    node: int
    digest: bytes = b""
    delta: Delta | None = None
    scores: list[Score] | None = None
    alone: list[Score] | None = None
    error: ForktreeRuntimeError | None = None


def gather(deltas: list[Delta]) -> Completion:
    """All the deltas of one completion, in order, as one."""
    last = deltas[-1]
    prompt = [token for delta in deltas for token in delta.prompt_logprobs or ()]
    asked = any(delta.prompt_logprobs is not None for delta in deltas)
    return Completion(
        text="".join(delta.text for delta in deltas),
        token_ids=[token for delta in deltas for token in delta.token_ids],
        finish_reason=last.finish_reason or "abort",
        matched=last.matched,
        usage=last.usage,
        logprobs=[token for delta in deltas for token in delta.logprobs],
        prompt_logprobs=prompt if asked else None,
        kept_token_ids=last.kept_token_ids,
        index=last.index,
        timing=last.timing,
    )
