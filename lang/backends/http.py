"""Programs on a forktree server over HTTP.

Here: RuntimeEndpoint, which speaks /generate, /score and the info routes, and how a reply of /generate is read (shared
with the backend for SGLang's own servers).  Not here: connections and errors (http_client)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from ..errors import BackendError, BackendUnavailable
from .blocking import BlockingServerCalls
from .http_client import HttpClient, field_of
from .http_programs import HttpProgramCall
from .protocol import (
    EVERYTHING,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    Score,
    Timing,
    TokenLogprob,
    Usage,
)

__all__ = ["ReplyReader", "RuntimeEndpoint", "chat_format_of", "logprob_fields"]

_OURS = "a forktree server"


class RuntimeEndpoint(BlockingServerCalls):
    """A Backend that talks to `forktree serve`: ft.set_default_backend(ft.RuntimeEndpoint("http://localhost:30000")).

    api_key          sent as a bearer token
    verify           False: take any certificate; a path: trust the authorities in that file, as in SGLang
    chat_template_name
                     SGLang's, and without effect: roles are rendered by the served model's own template
    timeout          seconds in which the server must send something, None: no limit; the whole of a generation if it
                     does not stream
    connect_timeout  seconds to reach the server
    max_connections  requests at a time; more wait their turn here"""

    capabilities = EVERYTHING

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        verify: bool | str | None = None,
        chat_template_name: str | None = None,
        *,
        timeout: float | None = 600.0,
        connect_timeout: float | None = 10.0,
        max_connections: int = 256,
    ) -> None:
        self.max_in_flight = max_connections
        self._http = HttpClient(
            base_url,
            api_key=api_key,
            verify=verify,
            timeout=timeout,
            connect_timeout=connect_timeout,
            max_connections=max_connections,
        )
        self.base_url = self._http.base_url
        self.runs_programs = True
        self._info: ModelInfo | None = None

    @property
    def used(self) -> bool:
        """Has anything been asked of the server?"""
        return self._http.used

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        if self._info is None:
            found = await self._http.call_object("GET", "/get_model_info")
            name = found.get("served_model_name") or found.get("model_path") or self.base_url
            self._info = ModelInfo(
                str(name),
                int(found.get("context_length") or 0),
                chat_format_of(found.get("chat_format")),
                bos=(found["bos_token_id"],) if found.get("add_bos") else (),
                page_size=found.get("page_size") or 1,
                num_pages=found.get("num_pages") or 0,
            )
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        reader, body = ReplyReader(_OURS), _generate_body(request)
        if not request.stream:
            yield reader.read(await self._http.call_object("POST", "/generate", body))
            return
        async with aclosing(self._http.events("/generate", body)) as events:
            async for event in events:
                yield reader.read(event)

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        before = {"unconditional": True} if prompt is None else {"prompt_parts": _parts(prompt)}
        body = {**before, "continuations": list(continuations)}
        found = await self._http.call_object("POST", "/score", body)
        timing = timing_of(found.get("meta_info") or {})
        scores = field_of(found, "scores", _OURS)
        return [Score(tuple(each["token_ids"]), tuple(each["logprobs"]), timing) for each in scores]

    def run_program(
        self, plan: Mapping[str, Any], arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> HttpProgramCall:
        return HttpProgramCall(self._http, plan, arguments, stream=stream, on_missing=self._runs_none)

    def _runs_none(self) -> None:
        self.runs_programs = False

    async def commit(self, prompt: Prompt) -> None:
        body = {"prompt_parts": _parts(prompt), "sampling_params": SamplingParams(max_new_tokens=0).to_dict()}
        await self._http.call("POST", "/generate", body)

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        body = {"prompt": list(texts), "add_special_tokens": False}
        found = await self._http.call_object("POST", "/tokenize", body)
        tokens: list[list[int]] = field_of(found, "tokens", _OURS)
        return tokens

    async def clear_cache(self) -> bool:
        await self._http.call("POST", "/flush_cache")
        return True

    async def server_info(self) -> dict[str, Any]:
        return await self._http.call_object("GET", "/server_info")

    async def aclose(self) -> None:
        await self._http.aclose()


class ReplyReader:
    """Replies of /generate -> what is new in each: their text and ids are cumulative."""

    def __init__(self, server: str, not_cumulative: str = "") -> None:
        self._server, self._not_cumulative = server, not_cumulative
        self._text, self._num_ids, self._num_logprobs = "", 0, 0

    def read(self, event: Mapping[str, Any]) -> Chunk:
        text, ids = str(field_of(event, "text", self._server)), event.get("output_ids") or []
        meta = field_of(event, "meta_info", self._server)
        if not text.startswith(self._text):
            raise BackendError(
                f"the server does not stream cumulative text, so its pieces can't be put together{self._not_cumulative}"
            )
        finish = meta.get("finish_reason") or {}
        if finish.get("type") == "abort":
            raise BackendUnavailable(str(finish.get("message") or "the server aborted the request"))
        kept = meta.get("kept_token_ids")
        chunk = Chunk(
            text=text[len(self._text) :],
            token_ids=tuple(ids[self._num_ids :]),
            logprobs=self._new_logprobs(meta),
            prompt_logprobs=_logprobs(meta, "input"),
            finish_reason=finish.get("type"),
            matched=finish.get("matched"),
            kept_token_ids=tuple(kept) if kept is not None else None,
            usage=Usage(
                meta.get("prompt_tokens") or 0, meta.get("completion_tokens") or 0, meta.get("cached_tokens") or 0
            ),
            timing=timing_of(meta),
        )
        self._text, self._num_ids = text, max(self._num_ids, len(ids))
        return chunk

    def _new_logprobs(self, meta: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
        """Servers send those of the new tokens, and older ones of SGLang all of them every time: the total tells."""
        entries = _logprobs(meta, "output")
        total = meta.get("output_token_logprobs_length", meta.get("completion_tokens"))
        new = entries[self._num_logprobs :] if len(entries) == total else entries
        self._num_logprobs += len(new)
        return new


def logprob_fields(request: GenerateRequest) -> dict[str, Any]:
    """The part of a /generate body that asks for log-probabilities."""
    if not request.return_logprob:
        return {}
    return {
        "return_logprob": True,
        "logprob_start_len": request.logprob_start_len,
        "top_logprobs_num": request.top_logprobs_num,
        "return_text_in_logprobs": True,
    }


def timing_of(meta: Mapping[str, Any]) -> Timing | None:
    """Of a forktree server's last reply; others don't say what was computed."""
    names = ("queue_time", "prefill_time", "decode_time")
    if "computed_tokens" not in meta or not all(isinstance(meta.get(name), (int, float)) for name in names):
        return None
    queue_ms, prefill_ms, decode_ms = (meta[name] * 1000 for name in names)
    return Timing(queue_ms, prefill_ms, decode_ms, meta["computed_tokens"])


def chat_format_of(found: Any) -> ChatFormat | None:
    if not found:
        return None
    roles = {role: (prefix, suffix) for role, (prefix, suffix) in found["roles"].items()}
    return ChatFormat(found.get("bos", ""), found.get("default_system", ""), roles)


def _generate_body(request: GenerateRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_parts": _parts(request.prompt),
        "sampling_params": request.sampling.to_dict(),
        "stream": request.stream,
        **logprob_fields(request),
    }
    if request.request_id is not None:
        body["rid"] = request.request_id
    return body


def _parts(prompt: Prompt) -> list[str | list[int]]:
    return [part if isinstance(part, str) else list(part) for part in prompt]


def _logprobs(meta: Mapping[str, Any], side: str) -> tuple[TokenLogprob, ...]:
    entries = meta.get(f"{side}_token_logprobs") or []
    tops = meta.get(f"{side}_top_logprobs") or [None] * len(entries)
    return tuple(
        TokenLogprob(token_id, logprob, text, tuple((p, i, t) for p, i, t in top or ()))
        for (logprob, token_id, text), top in zip(entries, tops, strict=True)
    )
