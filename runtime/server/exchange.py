"""What one HTTP request becomes on its way through the server: an Exchange, its Jobs for the engine, their Choices.

Here: plain records.  Not here: who runs them (service.py).
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..observe.metrics import RequestTimer
from ..sampling_params import SamplingParams

if TYPE_CHECKING:
    from ..engine.messages import Timing, TokenLogprob, Usage
    from ..engine.results import Delta

SAFE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")  # what may stand in a log line and in a header


@dataclass(frozen=True)
class Job:
    """One request to the engine. An HTTP request with several prompts is several jobs."""

    prompt: list[int]
    params: SamplingParams
    request_id: str
    cache_salt: str = ""  # cached prefixes are shared within one salt only
    return_logprob: bool = False
    logprob_start_len: int = -1
    top_logprobs_num: int = 0


@dataclass
class Choice:
    """What one choice of a job has come to so far."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] | None = None
    finish_reason: str | None = None
    matched: int | str | None = None
    usage: Usage | None = None
    kept_token_ids: list[int] | None = None
    timing: Timing | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs or ())
        if delta.prompt_logprobs is not None:
            self.prompt_logprobs = [*(self.prompt_logprobs or ()), *delta.prompt_logprobs]
        self.finish_reason, self.matched = delta.finish_reason, delta.matched
        self.usage, self.kept_token_ids, self.timing = delta.usage, delta.kept_token_ids, delta.timing


@dataclass
class Exchange:
    """One HTTP request and its answer, for the log line; `timers` has one entry per engine request it led to."""

    request_id: str
    method: str
    route: str
    arrived: float = field(default_factory=time.monotonic)
    timers: list[RequestTimer] = field(default_factory=list)
    streamed_error: str | None = None

    def fields(self, status: int) -> dict[str, object]:
        """What the log says: counts and times, never text."""
        fields: dict[str, object] = {
            "method": self.method,
            "route": self.route,
            "status": status,
            "id": self.request_id,
        }
        if self.timers:
            fields["prompt_tokens"] = sum(timer.prompt_tokens for timer in self.timers)
            fields["cached_tokens"] = sum(timer.cached_tokens for timer in self.timers)
            fields["completion_tokens"] = sum(timer.completion_tokens for timer in self.timers)
            first = [timer.first_token for timer in self.timers if timer.first_token is not None]
            if first:
                fields["ttft_ms"] = round((min(first) - self.arrived) * 1000, 1)
            reasons = {choice.reason or "unfinished" for timer in self.timers for choice in timer.choices.values()}
            fields["finish"] = ",".join(sorted(reasons)) or "none"
        if self.streamed_error:
            fields["error"] = self.streamed_error
        fields["ms"] = round((time.monotonic() - self.arrived) * 1000, 1)
        return fields


def new_id() -> str:
    return uuid.uuid4().hex
