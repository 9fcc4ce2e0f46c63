"""Call: what a user asks of one generation, checked once; and how it becomes messages.

Imported by the Engine facade; no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..errors import InvalidRequest
from ..sampling_params import SamplingParams
from .messages import Submit

MAX_TOP_LOGPROBS = 128
_SEED_STEP = 0x9E3779B97F4A7C15  # between the seeds of the n outputs of one call


@dataclass(frozen=True)
class Call:
    """One generation.

    logprob_start   first prompt position whose log-probability is wanted; None: none
    live            the reader wants every token as it comes, not only the end
    name            by which `Engine.abort` finds it
    """

    params: SamplingParams
    return_logprob: bool
    logprob_start: int | None
    num_top_logprobs: int
    namespace: bytes
    name: str | None
    live: bool = True

    @classmethod
    def make(
        cls,
        sampling_params: SamplingParams | Mapping[str, Any] | None = None,
        *,
        regex: str | None = None,
        json_schema: str | Mapping[str, Any] | bool | None = None,
        return_logprob: bool = False,
        logprob_start_len: int = -1,
        top_logprobs_num: int = 0,
        cache_salt: str = "",
        request_id: str | None = None,
    ) -> Call:
        """From what `Engine.stream` takes. Raises InvalidRequest naming the field."""
        if not 0 <= top_logprobs_num <= MAX_TOP_LOGPROBS:
            raise InvalidRequest("top_logprobs_num", f"got {top_logprobs_num}, wanted 0 to {MAX_TOP_LOGPROBS}")
        if logprob_start_len < -1:
            raise InvalidRequest(
                "logprob_start_len", f"got {logprob_start_len}, wanted a position or -1 for outputs only"
            )
        params = sampling_params
        if not isinstance(params, SamplingParams):
            params = SamplingParams.from_dict(params or {})
        if regex is not None:
            params = _with(params, regex=regex)
        if json_schema is not None:
            text = json_schema if isinstance(json_schema, str) else json.dumps(json_schema)
            params = _with(params, json_schema=text)
        return cls(
            params,
            return_logprob,
            logprob_start_len if return_logprob and logprob_start_len >= 0 else None,
            top_logprobs_num,
            cache_salt.encode(),
            request_id,
        )

    def at_the_end(self) -> Call:
        """The same call for a reader who waits for the whole output."""
        return replace(self, live=False)

    def submit(self, request_id: int, prompt: list[int], index: int) -> Submit:
        """The message that starts output `index` of this call's n; each has its own seed, made from the call's."""
        params = self.params
        if params.n > 1:
            seed = None if params.seed is None else (params.seed + index * _SEED_STEP) % 2**63
            params = _with(params, n=1, seed=seed)
        return Submit(
            request_id=request_id,
            prompt=prompt,
            params=params,
            stream=self.live,
            return_logprob=self.return_logprob,
            logprob_start=self.logprob_start,
            num_top_logprobs=self.num_top_logprobs,
            namespace=self.namespace,
        )


def scoring(num_prompt: int) -> Call:
    """The call that scores the tokens from position `num_prompt` on and generates nothing."""
    params = SamplingParams(max_new_tokens=0, temperature=0.0)
    return Call(params, True, num_prompt, 0, b"", None, live=False)


def _with(params: SamplingParams, **changes: Any) -> SamplingParams:
    return msgspec.structs.replace(params, **changes)
