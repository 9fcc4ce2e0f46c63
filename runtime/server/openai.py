"""OpenAI's endpoints: /v1/models, /v1/completions, /v1/chat/completions.

Here: from a parsed request to engine jobs, and from their deltas to replies or chunks.
Not here: the fields of requests (openai_schema.py) and of replies (openai_replies.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from ..errors import InvalidRequest
from .body import read_object
from .constraint_fields import constraint_of
from .errors import Refused, renamed
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

ABORTED = 499  # nginx's "client closed request"; HTTP has no status of its own for it


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
    """One request on its way: what the engine is asked, and how its reply is put together."""

    asked: Common
    jobs: list[Job]
    reply_id: str
    created: int
    model: str
    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    def choice(self, i: int, j: int, choice: Choice) -> CompletionChoice | ChatChoice:
        """Choice j of prompt i, finished."""
        raise NotImplementedError

    def chunks(self, i: int, delta: Delta, first: bool) -> Iterator[Reply]:
        """What a delta of prompt i adds to the stream, but for its finish reason; `first` of its choice."""
        raise NotImplementedError

    def last(self, index: int, delta: Delta) -> CompletionChoice | ChatChoice:
        """The finish reason. It comes in a chunk without text, as OpenAI's does."""
        raise NotImplementedError

    def whole(self, done: list[list[Choice]]) -> Reply:
        choices = [self.choice(i, j, choice) for i, job in enumerate(done) for j, choice in enumerate(job)]
        return Reply(self.reply_id, self.whole_kind, self.created, self.model, choices, usage_of(done))

    def chunk(self, *choices: CompletionChoice | ChatChoice) -> Reply:
        usage = None if self.wants_usage else UNSET
        return Reply(self.reply_id, self.chunk_kind, self.created, self.model, choices, usage)

    @property
    def wants_usage(self) -> bool:
        return self.asked.stream_options is not None and self.asked.stream_options.include_usage


@dataclass
class _Completions(_Work):
    asked: CompletionRequest
    echoes: list[str] | None  # the text to repeat before each prompt's output
    whole_kind = chunk_kind = "text_completion"
    _offsets: dict[int, int] = field(default_factory=dict)  # by choice: where its next token begins in its text

    def choice(self, i: int, j: int, choice: Choice) -> CompletionChoice:
        asked = self.asked
        text = (self.echoes[i] if self.echoes else "") + "".join(choice.text)
        reply = CompletionChoice(i * asked.n + j, text, None, choice.finish_reason, choice.matched)
        if asked.logprobs is not None:
            tokens = [*(choice.prompt_logprobs or ()), *choice.logprobs] if asked.echo else choice.logprobs
            reply.logprobs, _ = completion_logprobs(tokens, asked.logprobs, 0)
        if asked.return_token_ids:
            reply.token_ids, reply.prompt_token_ids = choice.token_ids, self.jobs[i].prompt
        return reply

    def chunks(self, i: int, delta: Delta, first: bool) -> Iterator[Reply]:
        asked, index = self.asked, i * self.asked.n + delta.index
        text, tokens = delta.text, delta.logprobs
        if self.echoes:
            text = self.echoes[i] + text if first else text
            tokens = [*(delta.prompt_logprobs or ()), *tokens]
        choice = CompletionChoice(index, text)
        if asked.logprobs is not None and tokens:
            offset = self._offsets.get(index, 0)
            choice.logprobs, self._offsets[index] = completion_logprobs(tokens, asked.logprobs, offset)
        if asked.return_token_ids:
            choice.token_ids = delta.token_ids
            if first:
                choice.prompt_token_ids = self.jobs[i].prompt
        if text or choice.logprobs or (asked.return_token_ids and (first or delta.token_ids)):
            yield self.chunk(choice)

    def last(self, index: int, delta: Delta) -> CompletionChoice:
        token_ids: list[int] | UnsetType = [] if self.asked.return_token_ids else UNSET
        return CompletionChoice(index, "", None, delta.finish_reason, delta.matched, token_ids)


@dataclass
class _Chat(_Work):
    asked: ChatRequest
    whole_kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"

    def choice(self, i: int, j: int, choice: Choice) -> ChatChoice:
        message = ChatMessage("".join(choice.text))
        reply = ChatChoice(j, message, finish_reason=choice.finish_reason, stop_reason=choice.matched)
        if self.asked.logprobs:
            reply.logprobs = chat_logprobs(choice.logprobs)
        if self.asked.return_token_ids:
            reply.token_ids = choice.token_ids
        return reply

    def whole(self, done: list[list[Choice]]) -> Reply:
        reply = super().whole(done)
        if self.asked.return_token_ids:
            reply.prompt_token_ids = self.jobs[0].prompt
        return reply

    def chunks(self, i: int, delta: Delta, first: bool) -> Iterator[Reply]:
        asked = self.asked
        if first:
            opening = self.chunk(ChatChoice(delta.index, delta=ChatDelta("assistant", "")))
            if asked.return_token_ids:
                opening.prompt_token_ids = self.jobs[0].prompt
            yield opening
        choice = ChatChoice(delta.index, delta=ChatDelta(content=delta.text or UNSET))
        if asked.logprobs and delta.logprobs:
            choice.logprobs = chat_logprobs(delta.logprobs)
        if asked.return_token_ids:
            choice.token_ids = delta.token_ids
        if delta.text or choice.logprobs or (asked.return_token_ids and delta.token_ids):
            yield self.chunk(choice)

    def last(self, index: int, delta: Delta) -> ChatChoice:
        reply = ChatChoice(index, delta=ChatDelta(), finish_reason=delta.finish_reason, stop_reason=delta.matched)
        if self.asked.return_token_ids:
            reply.token_ids = []
        return reply


async def _completion_work(service: Service, asked: CompletionRequest) -> _Completions:
    prompts = _prompts(asked.prompt)
    _check_counts(service, asked, len(prompts))
    limit = asked.asked_tokens()
    # a constraint says itself when its output is whole
    constrained = constraint_of(asked) is not None
    default = service.engine.info.context_length if constrained else DEFAULT_COMPLETION_TOKENS
    jobs: list[Job] = []
    for prompt in prompts:
        ids = await prompt_ids(service.engine, prompt, "prompt")
        max_tokens = _room(service, asked, ids, limit, default)
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
    echoes = None
    if asked.echo:
        detokenize = service.engine.detokenize
        echoes = [p if isinstance(p, str) else await asyncio.to_thread(detokenize, p) for p in prompts]
    return _Completions(asked, jobs, f"cmpl-{new_id()}", int(time.time()), service.model_name, echoes)


async def _chat_work(service: Service, asked: ChatRequest) -> _Chat:
    _check_counts(service, asked, 1)
    messages = [message.plain() for message in asked.messages]
    ids = await chat_ids(service.engine, messages)
    params = sampling_params(
        asked, _room(service, asked, ids, asked.asked_tokens(), service.engine.info.context_length)
    )
    job = Job(
        ids, params, new_id(), asked.cache_salt, return_logprob=asked.logprobs, top_logprobs_num=asked.top_logprobs
    )
    return _Chat(asked, [job], f"chatcmpl-{new_id()}", int(time.time()), service.model_name)


async def _answer(request: web.Request, service: Service, work: _Work) -> web.StreamResponse:
    exchange = request[EXCHANGE]
    names = names_of(work.asked)
    if work.asked.stream:
        events = _events(work, service.run(work.jobs, exchange, exchange.request_id))
        return await stream_events(request, service, exchange, events, names)
    with renamed(names):
        done = await service.collect(work.jobs, exchange, exchange.request_id)
    for choice in (choice for job in done for choice in job):
        _refuse_abort(choice.finish_reason)
    return web.Response(body=encode(work.whole(done)), content_type="application/json")


async def _events(work: _Work, deltas: AsyncGenerator[tuple[int, Delta], None]) -> AsyncGenerator[bytes, None]:
    """Chunks with text, for each choice one with its finish reason, and in the end usage if it was asked for."""
    seen = [[Choice() for _ in range(work.asked.n)] for _ in work.jobs]
    async with aclosing(deltas):
        async for i, delta in deltas:
            _refuse_abort(delta.finish_reason)
            choice = seen[i][delta.index]
            first = choice.usage is None
            choice.usage = delta.usage
            for chunk in work.chunks(i, delta, first):
                yield encode(chunk)
            if delta.finish_reason is not None:
                yield encode(work.chunk(work.last(i * work.asked.n + delta.index, delta)))
    if work.wants_usage:
        chunk = work.chunk()
        chunk.usage = usage_of(seen)
        yield encode(chunk)


def _refuse_abort(finish_reason: str | None) -> None:
    """OpenAI's finish reasons have none for an aborted request: it gets an error, which clients don't take for an end.

    Not 409, on which OpenAI's own client would send the request again."""
    if finish_reason == "abort":
        raise Refused(ABORTED, "The request was aborted.", "request_aborted")


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
        part = names_of(asked)["prompt"]
        message = (
            f"This model's maximum context length is {context} tokens. However, you requested {num_prompt + wanted} "
            f"tokens ({num_prompt} in the {part}, {wanted} in the completion). Please reduce the length of the {part} "
            "or completion."
        )
        raise InvalidRequest("max_new_tokens", message, "context_length_exceeded")
    return wanted
