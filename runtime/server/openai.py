"""OpenAI's endpoints: /v1/models, /v1/completions, /v1/chat/completions.

Here: from a parsed request to engine jobs, and from their deltas to replies or chunks.
Not here: the fields of requests (openai_schema.py) and of replies (openai_replies.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from msgspec import UNSET

from ..errors import InvalidRequest
from .body import read_object
from .errors import renamed
from .exchange import Choice, Job, new_id
from .http import EXCHANGE, SERVICE
from .openai_replies import (
    ChatChoice,
    ChatDelta,
    ChatMessage,
    CompletionChoice,
    Reply,
    chat_logprobs,
    completion_logprobs,
    encode,
    model_card,
    usage_of,
)
from .openai_schema import (
    DEFAULT_COMPLETION_TOKENS,
    ChatRequest,
    Common,
    CompletionRequest,
    names_of,
    parse_chat,
    parse_completion,
    sampling_params,
)
from .prompts import chat_ids, prompt_ids
from .service import Service
from .sse import stream_events

if TYPE_CHECKING:
    from ..engine.results import Delta


async def list_models(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    card = model_card(service.model_name, int(service.started), service.engine.info.context_length)
    return web.Response(body=encode({"object": "list", "data": [card]}), content_type="application/json")


async def get_model(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    service.check_model(request.match_info["model"])
    card = model_card(service.model_name, int(service.started), service.engine.info.context_length)
    return web.Response(body=encode(card), content_type="application/json")


async def completions(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    with service.admitted():
        config = service.config
        asked = parse_completion(await read_object(request, config.max_body_bytes, config.body_seconds))
        service.check_model(asked.model)
        with renamed(names_of(asked)):
            work = await _completion_work(service, asked)
        return await _answer(request, service, work)


async def chat_completions(request: web.Request) -> web.StreamResponse:
    service = request.app[SERVICE]
    with service.admitted():
        config = service.config
        asked = parse_chat(await read_object(request, config.max_body_bytes, config.body_seconds))
        service.check_model(asked.model)
        with renamed(names_of(asked)):
            work = await _chat_work(service, asked)
        return await _answer(request, service, work)


@dataclass
class _Work:
    """One request on its way: what the engine is asked, and what the reply needs to know about the question."""

    asked: CompletionRequest | ChatRequest
    jobs: list[Job]
    prompt_ids: list[list[int]]
    echoes: list[str] | None  # the text to repeat before each prompt's output
    reply_id: str
    created: int
    model: str

    @property
    def chat(self) -> bool:
        return isinstance(self.asked, ChatRequest)

    def reply(self, choices: Sequence[CompletionChoice | ChatChoice], chunk: bool) -> Reply:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return Reply(self.reply_id, kind, self.created, self.model, choices)


async def _completion_work(service: Service, asked: CompletionRequest) -> _Work:
    prompts = _prompts(asked.prompt)
    _check_counts(service, asked, len(prompts))
    limit = asked.asked_tokens()
    jobs: list[Job] = []
    all_ids: list[list[int]] = []
    for prompt in prompts:
        ids = await prompt_ids(service.engine, prompt, "prompt")
        max_tokens = _room(service, asked, ids, limit, DEFAULT_COMPLETION_TOKENS)
        wants = asked.logprobs is not None
        job = Job(
            ids,
            sampling_params(asked, max_tokens),
            new_id(),
            asked.cache_salt,
            return_logprob=wants,
            logprob_start_len=0 if wants and asked.echo else -1,
            top_logprobs_num=asked.logprobs or 0,
        )
        jobs.append(job)
        all_ids.append(ids)
    echoes = None
    if asked.echo:
        detokenize = service.engine.detokenize
        echoes = [p if isinstance(p, str) else await asyncio.to_thread(detokenize, p) for p in prompts]
    return _Work(asked, jobs, all_ids, echoes, f"cmpl-{new_id()}", int(time.time()), service.model_name)


async def _chat_work(service: Service, asked: ChatRequest) -> _Work:
    _check_counts(service, asked, 1)
    messages = [message.plain() for message in asked.messages]
    ids = await chat_ids(service.engine, messages)
    params = sampling_params(
        asked, _room(service, asked, ids, asked.asked_tokens(), service.engine.info.context_length)
    )
    job = Job(
        ids, params, new_id(), asked.cache_salt, return_logprob=asked.logprobs, top_logprobs_num=asked.top_logprobs
    )
    return _Work(asked, [job], [ids], None, f"chatcmpl-{new_id()}", int(time.time()), service.model_name)


async def _answer(request: web.Request, service: Service, work: _Work) -> web.StreamResponse:
    exchange = request[EXCHANGE]
    names = names_of(work.asked)
    if work.asked.stream:
        chunks = _chat_chunks if work.chat else _completion_chunks
        events = chunks(work, service.run(work.jobs, exchange, exchange.request_id))
        return await stream_events(request, service, exchange, events, names)
    with renamed(names):
        done = await service.collect(work.jobs, exchange, exchange.request_id)
    whole = _whole_chat(work, done) if work.chat else _whole_completion(work, done)
    return web.Response(body=encode(whole), content_type="application/json")


# Whole replies


def _whole_completion(work: _Work, done: list[list[Choice]]) -> Reply:
    asked = work.asked
    assert isinstance(asked, CompletionRequest)
    choices = []
    for i, job in enumerate(done):
        echo = work.echoes[i] if work.echoes else ""
        for j, choice in enumerate(job):
            reply = CompletionChoice(
                i * asked.n + j, echo + "".join(choice.text), None, choice.finish_reason, choice.matched
            )
            if asked.logprobs is not None:
                tokens = [*(choice.prompt_logprobs or ()), *choice.logprobs] if asked.echo else choice.logprobs
                reply.logprobs, _ = completion_logprobs(tokens, asked.logprobs, 0)
            if asked.return_token_ids:
                reply.token_ids, reply.prompt_token_ids = choice.token_ids, work.prompt_ids[i]
            choices.append(reply)
    whole = work.reply(choices, chunk=False)
    whole.usage = usage_of(done)
    return whole


def _whole_chat(work: _Work, done: list[list[Choice]]) -> Reply:
    asked = work.asked
    choices = []
    for j, choice in enumerate(done[0]):
        message = ChatMessage("".join(choice.text))
        reply = ChatChoice(j, message, finish_reason=choice.finish_reason, stop_reason=choice.matched)
        if asked.logprobs:
            reply.logprobs = chat_logprobs(choice.logprobs)
        if asked.return_token_ids:
            reply.token_ids = choice.token_ids
        choices.append(reply)
    whole = work.reply(choices, chunk=False)
    whole.usage = usage_of(done)
    if asked.return_token_ids:
        whole.prompt_token_ids = work.prompt_ids[0]
    return whole


# Chunks


async def _completion_chunks(
    work: _Work, deltas: AsyncGenerator[tuple[int, Delta], None]
) -> AsyncGenerator[bytes, None]:
    asked = work.asked
    assert isinstance(asked, CompletionRequest)
    seen = [[Choice() for _ in range(asked.n)] for _ in work.jobs]
    offsets: dict[int, int] = {}
    async with aclosing(deltas):
        async for i, delta in deltas:
            index = i * asked.n + delta.index
            first = seen[i][delta.index].usage is None
            seen[i][delta.index].usage = delta.usage
            text, tokens = delta.text, delta.logprobs
            if work.echoes:
                text = work.echoes[i] + text if first else text
                tokens = [*(delta.prompt_logprobs or ()), *tokens]
            choice = CompletionChoice(index, text, None, delta.finish_reason)
            if delta.finish_reason is not None:
                choice.stop_reason = delta.matched
            if asked.logprobs is not None and tokens:
                choice.logprobs, offsets[index] = completion_logprobs(tokens, asked.logprobs, offsets.get(index, 0))
            if asked.return_token_ids:
                choice.token_ids = delta.token_ids
                if first:
                    choice.prompt_token_ids = work.prompt_ids[i]
            if text or delta.finish_reason or choice.logprobs or (asked.return_token_ids and delta.token_ids):
                yield encode(_chunk(work, [choice]))
    if _wants_usage(asked):
        yield _usage_chunk(work, seen)


async def _chat_chunks(work: _Work, deltas: AsyncGenerator[tuple[int, Delta], None]) -> AsyncGenerator[bytes, None]:
    asked = work.asked
    seen = [[Choice() for _ in range(asked.n)]]
    async with aclosing(deltas):
        async for _, delta in deltas:
            if seen[0][delta.index].usage is None:
                opening = _chunk(work, [ChatChoice(delta.index, delta=ChatDelta("assistant", ""))])
                if asked.return_token_ids:
                    opening.prompt_token_ids = work.prompt_ids[0]
                yield encode(opening)
            seen[0][delta.index].usage = delta.usage
            choice = ChatChoice(delta.index, delta=ChatDelta(content=delta.text or UNSET))
            choice.finish_reason = delta.finish_reason
            if delta.finish_reason is not None:
                choice.stop_reason = delta.matched
            if asked.logprobs and delta.logprobs:
                choice.logprobs = chat_logprobs(delta.logprobs)
            if asked.return_token_ids:
                choice.token_ids = delta.token_ids
            if delta.text or delta.finish_reason or choice.logprobs or (asked.return_token_ids and delta.token_ids):
                yield encode(_chunk(work, [choice]))
    if _wants_usage(asked):
        yield _usage_chunk(work, seen)


def _chunk(work: _Work, choices: Sequence[CompletionChoice | ChatChoice]) -> Reply:
    chunk = work.reply(choices, chunk=True)
    if _wants_usage(work.asked):
        chunk.usage = None
    return chunk


def _usage_chunk(work: _Work, seen: list[list[Choice]]) -> bytes:
    chunk = work.reply([], chunk=True)
    chunk.usage = usage_of(seen)
    return encode(chunk)


def _wants_usage(asked: Common) -> bool:
    return asked.stream_options is not None and asked.stream_options.include_usage


# What is asked


def _prompts(prompt: str | list[str | int | list[int]]) -> list[str | list[int]]:
    """OpenAI's four forms: a text, token ids, several texts, several lists of token ids."""
    if isinstance(prompt, str):
        return [prompt]
    kinds = {type(part) for part in prompt}
    if kinds == {int}:
        return [msgspec.convert(prompt, list[int])]
    if kinds == {str} or kinds == {list}:
        return msgspec.convert(prompt, list[str | list[int]])
    what = "an empty list" if not kinds else "a mixed list"
    raise InvalidRequest("prompt", f"got {what}, wanted a text, token ids, or a list of texts or of lists of token ids")


def _check_counts(service: Service, asked: Common, num_prompts: int) -> None:
    config = service.config
    if not 1 <= asked.n <= config.max_choices:
        raise InvalidRequest("n", f"got {asked.n}, wanted 1 to {config.max_choices}")
    if num_prompts * asked.n > config.max_prompts:
        what = f"{num_prompts} prompts with {asked.n} choices each"
        raise InvalidRequest("prompt", f"got {what}, at most {config.max_prompts} outputs are made for one request")
    if asked.stream_options is not None and not asked.stream:
        raise InvalidRequest("stream_options", "only allowed when stream is true")


def _room(service: Service, asked: Common, ids: list[int], wanted: int | None, default: int) -> int:
    """The tokens to generate at most. More than the context holds is refused, as OpenAI does, not cut short."""
    context, num_prompt = service.engine.info.context_length, len(ids)
    room = context - num_prompt
    if wanted is None:
        return max(min(default, room), 1)  # no room at all: the engine says so
    if wanted > room and num_prompt < context:
        part = "messages" if isinstance(asked, ChatRequest) else "prompt"
        message = (
            f"This model's maximum context length is {context} tokens. However, you requested {num_prompt + wanted} "
            f"tokens ({num_prompt} in the {part}, {wanted} in the completion). Please reduce the length of the {part} "
            "or completion."
        )
        raise InvalidRequest("max_new_tokens", message, "context_length_exceeded")
    return wanted
