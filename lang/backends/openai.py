"""Programs on any endpoint that speaks OpenAI's API: chat completions, or the older completions.

Here: OpenAI, what such an endpoint can't do (its capabilities), and requests and replies in its words.
Not here: connections and errors (http_client)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ..errors import ArgumentError, BackendError
from ..loop import loop_thread
from ..nodes import caller_line
from .http_client import HttpClient, field_of
from .openai_echo import scores_from_echo
from .protocol import (
    Capabilities,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    Score,
    TokenLogprob,
    Usage,
)

__all__ = ["OpenAI"]

_OPENAIS_OWN = "https://api.openai.com/v1"
_COMPLETION_MODELS = ("gpt-3.5-turbo-instruct", "davinci-002", "babbage-002")
_SERVER = "an OpenAI-compatible endpoint"

# What a state's text shows of roles; the endpoint is sent messages, and its own template makes a prompt of them.
_READABLE = ChatFormat("", "", {role: (f"{role}: ", "\n") for role in ("system", "user", "assistant")})

_SAMPLING = {  # ours -> theirs
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "logit_bias": "logit_bias",
    "seed": "seed",
}
_LOGPROBS = frozenset({"return_logprob", "top_logprobs_num"})
_COMMON_EXTENSIONS = {  # what vLLM, SGLang and forktree add, each under the same name
    "min_new_tokens": "min_tokens",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "stop_token_ids": "stop_token_ids",
    "ignore_eos": "ignore_eos",
}
_RARE_EXTENSIONS = {  # SGLang and forktree, partly; the tags and how JSON is written, forktree alone
    "regex": "regex",
    "ebnf": "ebnf",
    "structural_tag": "structural_tag",
    "white_space": "white_space",
    "order": "order",
    "stop_regex": "stop_regex",
    "json_schema": "response_format",  # on completions; on chats it is OpenAI's own
}
_MOST_STOPS = 4  # of OpenAI's own


class OpenAI:
    """A Backend on an OpenAI-compatible endpoint: ft.OpenAI("llama-3", base_url="http://localhost:8000/v1").

    model_name      as the endpoint knows it
    is_chat_model   True: messages; False: plain text (POST /completions); None: by the name, and mostly chat
    chat_template, is_azure
                    SGLang's; the first is without effect (the endpoint has its own), the second must stay False
    base_url        up to and including /v1
    api_key         sent as a bearer token; for OpenAI's own address the environment's OPENAI_API_KEY by default
    extensions      True: the endpoint also takes top_k, min_p, repetition_penalty, min_tokens, stop_token_ids and
                    ignore_eos, as vLLM, SGLang and forktree do.  Or the names it takes, among them regex, ebnf and
                    stop_regex, and json_schema on completions
    continues_turn  chat: the endpoint can go on from an assistant message that has begun (continue_final_message)
    echo            completions: the endpoint gives the log-probabilities of a prompt (echo), so that select works
    retries         how often a request that was turned away before it began (429 or 503, with Retry-After) is sent
                    again
    timeout, connect_timeout, max_connections, verify
                    as for RuntimeEndpoint

    What the endpoint can't do, select by log-probability for one, is refused at the line that adds it to a program."""

    def __init__(
        self,
        model_name: str,
        is_chat_model: bool | None = None,
        chat_template: object = None,
        is_azure: bool = False,
        *,
        base_url: str = _OPENAIS_OWN,
        api_key: str | None = None,
        extensions: bool | Collection[str] = False,
        continues_turn: bool = False,
        echo: bool = False,
        retries: int = 0,
        verify: bool | str | None = None,
        timeout: float | None = 600.0,
        connect_timeout: float | None = 10.0,
        max_connections: int = 256,
    ) -> None:
        given: object = model_name
        if not isinstance(given, str) or not given:
            raise ArgumentError(f"model_name: got {model_name!r}, wanted the model's name (at {caller_line()})")
        if is_azure:
            raise ArgumentError(
                f"is_azure: Azure's own API is not spoken; give its OpenAI-compatible base_url (at {caller_line()})"
            )
        self.model_name = model_name
        self._is_openais_own = base_url.rstrip("/") == _OPENAIS_OWN
        if api_key is None and self._is_openais_own:
            api_key = os.environ.get("OPENAI_API_KEY")
            if not api_key:
                raise ArgumentError(
                    f"api_key: {_OPENAIS_OWN} wants one, and OPENAI_API_KEY is not set; or give base_url of another "
                    f"endpoint (at {caller_line()})"
                )
        self.is_chat_model = model_name not in _COMPLETION_MODELS if is_chat_model is None else bool(is_chat_model)
        if echo and self.is_chat_model:
            raise ArgumentError(f"echo: chat endpoints have no such thing (at {caller_line()})")
        self._extensions = _extension_fields(extensions)
        self._echo, self._continues_turn = echo, continues_turn
        self.capabilities = self._find_capabilities(base_url)
        self.max_in_flight = max_connections
        self._http = HttpClient(
            base_url,
            api_key=api_key,
            verify=verify,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_connections=max_connections,
            retries=retries,
        )
        self.base_url = self._http.base_url
        self.token_usage = Usage()  # of all requests so far

    @property
    def used(self) -> bool:
        """Has anything been asked of the endpoint?"""
        return self._http.used

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        return ModelInfo(self.model_name, 0, _READABLE if self.is_chat_model else None)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        if request.sampling.max_new_tokens == 0:
            yield Chunk(finish_reason="length")  # nothing to ask for; endpoints want at least one token
            return
        path, body = self._body(request)
        reader = _Reader(self.is_chat_model)
        if request.stream:
            async with aclosing(self._http.events(path, body)) as events:
                async for event in events:
                    chunk = reader.delta(event)
                    if chunk is not None:
                        yield chunk
            chunk = reader.last()
        else:
            chunk = reader.whole(await self._http.call_object("POST", path, body))
        self._count(chunk.usage)
        yield chunk

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        """By echo; the endpoint computes the prompt again for every continuation it has not cached it for."""
        text = "".join(part for part in prompt or () if isinstance(part, str))
        body = {
            "model": self.model_name,
            "prompt": [text + each for each in continuations],
            "max_tokens": 0,
            "temperature": 0.0,
            "echo": True,
            "logprobs": 1,
        }
        found = await self._http.call_object("POST", "/completions", body)
        self._count(_usage(found.get("usage")))
        choices = sorted(field_of(found, "choices", _SERVER), key=lambda choice: int(choice.get("index", 0)))
        return scores_from_echo(text, continuations, [choice.get("logprobs") for choice in choices])

    async def commit(self, prompt: Prompt) -> None:
        """An endpoint has no call for this; it caches prefixes by itself, or not at all."""

    async def clear_cache(self) -> bool:
        return False

    async def server_info(self) -> dict[str, Any]:
        return await self._http.call_object("GET", "/models")

    async def aclose(self) -> None:
        await self._http.aclose()

    # ---- for users

    def get_model_name(self) -> str:
        return self.model_name

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        loop_thread().call(self.aclose())

    # ---- how

    def _find_capabilities(self, base_url: str) -> Capabilities:
        options = {*_SAMPLING, *_LOGPROBS, *self._extensions}
        if self.is_chat_model:
            options.add("json_schema")
        elsewhere = "ft.Runtime() and ft.RuntimeEndpoint(url) have it"
        extend = "if this endpoint takes it, say so with ft.OpenAI(..., extensions={})"
        return Capabilities(
            name=f"ft.OpenAI({self.model_name!r}) at {base_url}",
            options=frozenset(options),
            max_stops=_MOST_STOPS if self._is_openais_own else None,
            max_top_logprobs=20 if self.is_chat_model else 5,
            select=self._echo,
            unconditional_scores=False,
            token_ids=False,
            roles=self.is_chat_model,
            free_text=not self.is_chat_model,
            continues_turn=not self.is_chat_model or self._continues_turn,
            advice={
                "select": elsewhere + ("" if self.is_chat_model else "; or ft.OpenAI(..., echo=True)"),
                "roles": "write the prompt as text, or take a chat model (is_chat_model=True)",
                "continues_turn": "one gen per assistant message; or, where the endpoint can, continues_turn=True",
                **dict.fromkeys(_COMMON_EXTENSIONS, extend.format("True")),
                **{name: extend.format(f"('{name}',)") for name in _RARE_EXTENSIONS},
            },
        )

    def _body(self, request: GenerateRequest) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self.model_name, **self._sampling(request.sampling)}
        if request.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if not self.is_chat_model:
            if request.return_logprob:
                body["logprobs"] = request.top_logprobs_num or 1
            text = "".join(part for part in request.prompt if isinstance(part, str))
            return "/completions", {**body, "prompt": text}
        if request.return_logprob:
            body |= {"logprobs": True, "top_logprobs": request.top_logprobs_num}
        messages = request.messages or ()
        body["messages"] = [{"role": role, "content": content} for role, content in messages]
        if messages and messages[-1][0] == "assistant":
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        return "/chat/completions", body

    def _sampling(self, sampling: SamplingParams) -> dict[str, Any]:
        limit = "max_completion_tokens" if self.is_chat_model and self._is_openais_own else "max_tokens"
        body: dict[str, Any] = {limit: sampling.max_new_tokens, "temperature": sampling.temperature}
        values = sampling.to_dict()
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        for ours, theirs in _SAMPLING.items():
            # Endpoints with extensions have defaults of their own for what is left out; others may not know the field.
            if ours in values and (values[ours] != getattr(_DEFAULTS, ours) or (self._extensions and ours == "top_p")):
                body[theirs] = values[ours]
        for ours, theirs in self._extensions.items():
            if ours in values and ours != "json_schema":
                body[theirs] = values[ours]
        if sampling.json_schema is not None:
            schema = json.loads(sampling.json_schema)
            title = schema.get("title") if isinstance(schema, Mapping) else None
            name = re.sub(r"[^A-Za-z0-9_-]", "_", str(title or "output"))[:64]
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": name, "schema": schema, "strict": True},
            }
        return body

    def _count(self, usage: Usage) -> None:
        total = self.token_usage
        self.token_usage = Usage(
            total.prompt_tokens + usage.prompt_tokens,
            total.completion_tokens + usage.completion_tokens,
            total.cached_tokens + usage.cached_tokens,
        )


_DEFAULTS = SamplingParams()


def _extension_fields(extensions: bool | Collection[str]) -> dict[str, str]:
    """The options beyond OpenAI's that the endpoint takes: ours -> theirs."""
    if isinstance(extensions, bool):
        return dict(_COMMON_EXTENSIONS) if extensions else {}
    names = [extensions] if isinstance(extensions, str) else list(extensions)
    known = {**_COMMON_EXTENSIONS, **_RARE_EXTENSIONS}
    ours = {"min_tokens": "min_new_tokens", **{name: name for name in known}}  # gen says min_tokens, run min_new_tokens
    for name in names:
        if name not in ours:
            raise ArgumentError(
                f"extensions: got {name!r}, wanted True or some of {', '.join(sorted(ours))} (at {caller_line()})"
            )
    return {ours[name]: known[ours[name]] for name in names}


class _Reader:
    """Replies in OpenAI's words -> chunks."""

    def __init__(self, is_chat: bool) -> None:
        self._is_chat = is_chat
        self._finish: str | None = None
        self._matched: int | str | None = None
        self._usage = Usage()

    def whole(self, found: Mapping[str, Any]) -> Chunk:
        chunk = self.delta(found)
        end = self.last()
        if chunk is None:
            return end
        return Chunk(
            text=chunk.text,
            logprobs=chunk.logprobs,
            finish_reason=end.finish_reason,
            matched=end.matched,
            usage=end.usage,
        )

    def delta(self, event: Mapping[str, Any]) -> Chunk | None:
        """The text of an event; the finish reason is kept, since usage may follow it."""
        if event.get("usage"):
            self._usage = _usage(event["usage"])
        choices = field_of(event, "choices", _SERVER)
        if not choices:
            return None
        choice = choices[0]
        if choice.get("finish_reason"):
            self._finish = choice["finish_reason"]
            self._matched = choice.get("stop_reason", choice.get("matched_stop"))
        if self._is_chat:
            message = choice.get("delta") or choice.get("message") or {}
            if message.get("refusal"):
                raise BackendError(f"the model refused to answer: {message['refusal']}")
            text, logprobs = message.get("content") or "", _chat_logprobs(choice.get("logprobs"))
        else:
            text, logprobs = choice.get("text") or "", _completion_logprobs(choice.get("logprobs"))
        return Chunk(text=text, logprobs=logprobs, usage=self._usage) if text or logprobs else None

    def last(self) -> Chunk:
        if self._finish is None:
            raise BackendError("the output ended before it was finished")
        if self._finish not in ("stop", "length"):
            raise BackendError(f"the endpoint ended the output early: finish_reason {self._finish!r}")
        reason: Any = self._finish
        return Chunk(finish_reason=reason, matched=self._matched, usage=self._usage)


def _usage(found: Mapping[str, Any] | None) -> Usage:
    found = found or {}
    details = found.get("prompt_tokens_details") or {}
    return Usage(
        found.get("prompt_tokens") or 0, found.get("completion_tokens") or 0, details.get("cached_tokens") or 0
    )


def _chat_logprobs(found: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            None,
            entry["logprob"],
            entry["token"],
            tuple((top["logprob"], None, top["token"]) for top in entry.get("top_logprobs") or ()),
        )
        for entry in (found or {}).get("content") or ()
    )


def _completion_logprobs(found: Mapping[str, Any] | None) -> tuple[TokenLogprob, ...]:
    found = found or {}
    tokens, logprobs = found.get("tokens") or [], found.get("token_logprobs") or []
    tops = found.get("top_logprobs") or [None] * len(tokens)
    return tuple(
        TokenLogprob(None, logprob, token, tuple((value, None, text) for text, value in (top or {}).items()))
        for token, logprob, top in zip(tokens, logprobs, tops, strict=True)
    )
