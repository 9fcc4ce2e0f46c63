"""Call: what a user asks of one generation, checked once; and how it becomes messages.

Imported by the Engine facade; no torch.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from ..errors import ContextLengthExceeded, InvalidRequest
from ..sampling_params import MAX_TOP_LOGPROBS, SamplingParams, require_text
from .messages import ModelInfo, Submit, SubmitScore
from .token_trie import TokenTrie

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
        ebnf: str | None = None,
        structural_tag: str | Mapping[str, Any] | None = None,
        return_logprob: bool = False,
        logprob_start_len: int = -1,
        top_logprobs_num: int = 0,
        cache_salt: str = "",
        request_id: str | None = None,
    ) -> Call:
        """From what `Engine.stream` takes. Raises InvalidRequest naming the field."""
        _require_int("top_logprobs_num", top_logprobs_num, 0, MAX_TOP_LOGPROBS)
        _require_int("logprob_start_len", logprob_start_len, -1, 2**31)
        if not isinstance(return_logprob, bool):
            raise InvalidRequest("return_logprob", f"got {return_logprob!r:.60}, wanted true or false")
        require_text("cache_salt", cache_salt)
        if isinstance(sampling_params, SamplingParams):
            params = sampling_params.checked()
        else:
            params = SamplingParams.from_dict(sampling_params or {})
        if regex is not None:
            require_text("regex", regex)
            params = _with(params, regex=regex)
        if json_schema is not None:
            params = _with(params, json_schema=_json_text("json_schema", json_schema))
        if ebnf is not None:
            require_text("ebnf", ebnf)
            params = _with(params, ebnf=ebnf)
        if structural_tag is not None:
            params = _with(params, structural_tag=_json_text("structural_tag", structural_tag))
        return cls(
            params,
            return_logprob,
            logprob_start_len if return_logprob and logprob_start_len >= 0 else None,
            top_logprobs_num,
            cache_salt.encode(),
            request_id,
        )

    def fitted(self, prompt: list[int], info: ModelInfo) -> Call:
        """The call as the model can serve it for this prompt: max_new_tokens capped by the context.

        Raises InvalidRequest for an empty or too long prompt, or token ids that the model does not have."""
        params = self.params
        if not prompt:
            raise InvalidRequest("prompt", "is empty; a model needs at least one token to go on from")
        if len(prompt) + (params.max_new_tokens > 0) > info.context_length:
            raise ContextLengthExceeded(len(prompt), info.context_length)
        _require_ids("prompt", prompt, info)
        _require_ids("logit_bias", params.logit_bias, info)
        _require_ids("stop_token_ids", params.stop_token_ids, info)
        most = info.context_length - len(prompt)
        if params.max_new_tokens > most:
            params = _with(params, max_new_tokens=most, min_new_tokens=min(params.min_new_tokens, most))
        return replace(self, params=params)

    def at_the_end(self) -> Call:
        """The same call for a reader who waits for the whole output."""
        return replace(self, live=False)

    def submit(self, request_id: int, prompt: list[int], index: int) -> Submit:
        """The message that starts output `index` of this call's n; each has its own seed, made from the call's."""
        params = self.params
        if params.n > 1:
            seed = None if params.seed is None else (params.seed + index * _SEED_STEP) % 2**64
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


def scoring(
    request_id: int, prompt: list[int], continuations: list[list[int]], info: ModelInfo, cache_salt: str
) -> SubmitScore:
    """The message that scores continuations. Raises InvalidRequest for what the model can't compute."""
    require_text("cache_salt", cache_salt)
    for i, continuation in enumerate(continuations):
        if not continuation:
            raise InvalidRequest("continuations", f"number {i} is empty; there is nothing to score")
    _require_ids("prompt", prompt, info)
    for continuation in continuations:
        _require_ids("continuations", continuation, info)
    longest = len(prompt) + max(map(len, continuations), default=0)
    if longest > info.context_length:
        raise ContextLengthExceeded(longest, info.context_length)
    return SubmitScore(request_id, prompt, TokenTrie.of(continuations), cache_salt.encode())


def _require_ids(field: str, ids: Collection[int], info: ModelInfo) -> None:
    if ids and not (min(ids) >= 0 and max(ids) < info.vocab_size):
        raise InvalidRequest(field, f"token ids must lie from 0 to {info.vocab_size - 1}")


def _require_int(field: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(field, f"got {value!r:.60}, wanted an integer from {low} to {high}")


def _json_text(field: str, value: str | Mapping[str, Any] | bool) -> str:
    if not isinstance(value, str):
        try:
            value = json.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(field, f"is not JSON: {error}") from None
    require_text(field, value)
    return value


def _with(params: SamplingParams, **changes: Any) -> SamplingParams:
    return msgspec.structs.replace(params, **changes)
