"""SGLang's native endpoint /generate, and forktree's /score.

Here: replies whole and streamed, in the form SGLang's frontend reads: in a stream `text` and `output_ids` are
cumulative and log-probabilities are what is new.  Not here: the request (native_schema.py).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from ..errors import InvalidRequest
from .body import convert, present, read_object
from .errors import renamed
from .exchange import Choice, Exchange
from .http import EXCHANGE, SERVICE, reply
from .native_schema import Generate, parse_generate, prompts_of
from .openai_replies import finite
from .prompts import prompt_ids
from .sse import stream_events

if TYPE_CHECKING:
    from ..engine.messages import Timing, TokenLogprob
    from ..engine.results import Delta
    from .engine_api import ServingEngine

NOT_QUITE_ZERO = -1e-9  # SGLang's frontend drops log-probabilities that are exactly 0.0 when it compares choices

Triple = tuple[float | None, int, str | None]


async def generate(request: web.Request) -> web.StreamResponse:
    service, exchange = request.app[SERVICE], request[EXCHANGE]
    with service.admitted():
        body = await read_object(request, service.config.max_body_bytes, service.config.body_seconds)
        asked = await parse_generate(service, body)
        if asked.asked.stream:
            events = _events(asked, exchange, service.run(asked.jobs, exchange, asked.rid))
            return await stream_events(request, service, exchange, events, {"prompt": asked.field})
        with renamed({"prompt": asked.field}):
            done = await service.collect(asked.jobs, exchange, asked.rid)
    outputs = [_output(asked, exchange, i, choice, choice) for i, job in enumerate(done) for choice in job]
    return reply(outputs if asked.as_list else outputs[0])


async def _events(
    asked: Generate, exchange: Exchange, deltas: AsyncGenerator[tuple[int, Delta], None]
) -> AsyncGenerator[bytes, None]:
    seen = [[Choice() for _ in range(job.params.n)] for job in asked.jobs]
    firsts = [sum(job.params.n for job in asked.jobs[:i]) for i in range(len(asked.jobs))]
    async with aclosing(deltas):
        async for i, delta in deltas:
            choice = seen[i][delta.index]
            choice.add(delta)
            choice.text[:] = ["".join(choice.text)]
            if delta.text or delta.token_ids or delta.finish_reason or delta.prompt_logprobs:
                output = _output(asked, exchange, i, choice, delta)
                if asked.as_list:
                    output["index"] = firsts[i] + delta.index
                yield msgspec.json.encode(output)


def _output(asked: Generate, exchange: Exchange, job: int, choice: Choice, news: Choice | Delta) -> dict[str, Any]:
    """The choice as it stands, with the log-probabilities that are news."""
    meta = _meta(asked, exchange, job, choice)
    if asked.jobs[job].return_logprob:
        meta |= _input_logprobs(asked, job, news.prompt_logprobs or [])
        meta |= _output_logprobs(asked, job, news.logprobs)
        meta["output_token_logprobs_length"] = len(choice.token_ids)
    output: dict[str, Any] = {"text": "".join(choice.text), "output_ids": choice.token_ids, "meta_info": meta}
    if asked.asked.return_prompt_token_ids:
        output["prompt_token_ids"] = asked.jobs[job].prompt
    return output


def _meta(asked: Generate, exchange: Exchange, job: int, choice: Choice) -> dict[str, Any]:
    usage = choice.usage
    assert usage is not None
    meta: dict[str, Any] = {
        "id": asked.jobs[job].request_id,
        "finish_reason": _finish(choice, usage.completion_tokens),
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "forced_tokens": usage.forced_tokens,
    }
    if choice.finish_reason is not None:
        meta["kept_token_ids"] = choice.kept_token_ids
        meta |= timing_meta(choice.timing)
        meta["e2e_latency"] = time.monotonic() - exchange.arrived
    return meta


def timing_meta(timing: Timing | None) -> dict[str, float]:
    """SGLang's names where it has them; seconds."""
    if timing is None:
        return {}
    return {
        "queue_time": timing.queue_ms / 1000,
        "prefill_time": timing.prefill_ms / 1000,
        "decode_time": timing.decode_ms / 1000,
        "first_token_latency": (timing.queue_ms + timing.prefill_ms) / 1000,
        "computed_tokens": timing.computed_tokens,
    }


def _finish(choice: Choice, num_tokens: int) -> dict[str, Any] | None:
    if choice.finish_reason is None:
        return None
    if choice.finish_reason == "stop":
        return {"type": "stop", "matched": choice.matched}
    if choice.finish_reason == "length":
        return {"type": "length", "length": num_tokens}
    return {"type": choice.finish_reason, "message": "The request was aborted."}


def _input_logprobs(asked: Generate, job: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """[log-probability, id, text] from logprob_start_len on; for SGLang's select from the token after it."""
    if asked.legacy_input_logprobs:
        tokens = tokens[1:]
    triples = _triples(asked, tokens)
    if asked.legacy_input_logprobs:
        triples = [(min(value or 0.0, NOT_QUITE_ZERO), id, text) for value, id, text in triples]
    found: dict[str, Any] = {"input_token_logprobs": triples}
    if asked.jobs[job].top_logprobs_num:
        found["input_top_logprobs"] = _tops(asked, tokens)
    return found


def _output_logprobs(asked: Generate, job: int, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    found: dict[str, Any] = {"output_token_logprobs": _triples(asked, tokens)}
    if asked.jobs[job].top_logprobs_num:
        found["output_top_logprobs"] = _tops(asked, tokens)
    return found


def _triples(asked: Generate, tokens: Sequence[TokenLogprob]) -> list[Triple]:
    texts = asked.asked.return_text_in_logprobs
    return [
        (None if token.logprob is None else finite(token.logprob), token.token_id, token.text if texts else None)
        for token in tokens
    ]


def _tops(asked: Generate, tokens: Sequence[TokenLogprob]) -> list[list[Triple] | None]:
    texts = asked.asked.return_text_in_logprobs
    return [
        [(finite(value), id, text if texts else None) for value, id, text in token.top] if token.top else None
        for token in tokens
    ]


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    continuations: list[str]
    text: str | None = None
    input_ids: list[int | list[int]] | None = None
    prompt_parts: list[str | list[int]] | None = None
    unconditional: bool = False  # in place of a prompt: nothing stands before, no first token has a probability
    cache_salt: Annotated[str, msgspec.Meta(max_length=256)] = ""


async def score(request: web.Request) -> web.Response:
    """Log-probabilities of continuations of one prompt; all that they share is computed once."""
    service = request.app[SERVICE]
    with service.admitted() as engine:
        body = await read_object(request, service.config.max_body_bytes, service.config.body_seconds)
        asked = convert(present(body), ScoreRequest)
        if not 1 <= len(asked.continuations) <= service.config.max_prompts:
            given = len(asked.continuations)
            raise InvalidRequest("continuations", f"got {given}, wanted 1 to {service.config.max_prompts}")
        if not all(asked.continuations):
            raise InvalidRequest("continuations", "an empty text has no tokens to score")
        ids, field = await _scored_after(engine, asked)
        with renamed({"prompt": field}):
            scores = await engine.ascore(ids, asked.continuations, cache_salt=asked.cache_salt)
    found = [{"token_ids": each.token_ids, "logprobs": each.logprobs} for each in scores]
    return reply({"scores": found, "meta_info": timing_meta(scores[0].timing)})


async def _scored_after(engine: ServingEngine, asked: ScoreRequest) -> tuple[list[int] | None, str]:
    """The prompt's token ids, none for the beginning of a text, None for nothing at all; and the field they came in."""
    if asked.unconditional:
        given = {"text": asked.text, "input_ids": asked.input_ids, "prompt_parts": asked.prompt_parts}
        if any(prompt is not None for prompt in given.values()):
            raise InvalidRequest("unconditional", "there is a prompt; leave out one of them")
        return None, "unconditional"
    prompts, batch, field = prompts_of(asked.text, asked.input_ids, asked.prompt_parts)
    if batch:
        raise InvalidRequest(field, "wanted one prompt, got a list of them")
    return await prompt_ids(engine, prompts[0], field) if prompts[0] else [], field
