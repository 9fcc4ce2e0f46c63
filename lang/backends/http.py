"""Programs on a forktree server over HTTP.

Here: RuntimeEndpoint, which speaks /generate, /score and the info routes, and turns statuses into errors.  Nothing is
retried: a request that was refused would be again, and one that was cut off may have been done.  The only file of
lang that imports aiohttp."""

from __future__ import annotations

import asyncio
import json
import ssl
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ..errors import ArgumentError, BackendError, BackendTimeout, BackendUnavailable, RequestRefused
from ..loop import loop_thread
from ..nodes import caller_line
from .protocol import (
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

__all__ = ["RuntimeEndpoint"]

_MAX_ERROR_BYTES = 64 * 1024


class RuntimeEndpoint:
    """A Backend that talks to `forktree serve`: ft.set_default_backend(ft.RuntimeEndpoint("http://localhost:30000")).

    api_key          sent as a bearer token
    verify           False: take any certificate; a path: trust the authorities in that file, as in SGLang
    chat_template_name
                     SGLang's, and without effect: roles are rendered by the served model's own template
    timeout          seconds in which the server must send something, None: no limit; the whole of a generation if it
                     does not stream
    connect_timeout  seconds to reach the server
    max_connections  requests at a time; more wait their turn here"""

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
        if not str(base_url).startswith(("http://", "https://")):
            raise ArgumentError(
                f"base_url: got {base_url!r}, wanted something like http://localhost:30000 (at {caller_line()})"
            )
        self.used = False  # has anything been asked of the server?
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_read=timeout, sock_connect=connect_timeout)
        self._max_connections, self._verify = max_connections, _ssl_of(verify)
        self._sessions = _Sessions()
        weakref.finalize(self, self._sessions.close_soon).atexit = False
        loop_thread().close_at_exit(self)
        self._info: ModelInfo | None = None

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        if self._info is None:
            found = await self._call("GET", "/get_model_info")
            name = found.get("served_model_name") or found.get("model_path") or self.base_url
            self._info = ModelInfo(
                str(name), int(found.get("context_length") or 0), _chat_format(found.get("chat_format"))
            )
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        body = _generate_body(request)
        if not request.stream:
            yield _chunk(await self._call("POST", "/generate", body), "", 0)
            return
        text, num_ids = "", 0
        async with self._response("POST", "/generate", body) as response:
            async for event in _events(response):
                chunk = _chunk(event, text, num_ids)
                text += chunk.text
                num_ids += len(chunk.token_ids)
                yield chunk

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        before = {"unconditional": True} if prompt is None else {"prompt_parts": _parts(prompt)}
        body = {**before, "continuations": list(continuations)}
        found = await self._call("POST", "/score", body)
        return [Score(tuple(each["token_ids"]), tuple(each["logprobs"])) for each in _field(found, "scores")]

    async def commit(self, prompt: Prompt) -> None:
        body = {"prompt_parts": _parts(prompt), "sampling_params": SamplingParams(max_new_tokens=0).to_dict()}
        await self._call("POST", "/generate", body)

    async def clear_cache(self) -> bool:
        await self._call("POST", "/flush_cache")
        return True

    async def server_info(self) -> dict[str, Any]:
        return await self._call("GET", "/server_info")

    async def aclose(self) -> None:
        await self._sessions.close()

    # ---- for users

    def get_model_name(self) -> str:
        info: ModelInfo = loop_thread().call(self.model_info())
        return info.name

    def get_server_info(self) -> dict[str, Any]:
        info: dict[str, Any] = loop_thread().call(self.server_info())
        return info

    def flush_cache(self) -> bool:
        return bool(loop_thread().call(self.clear_cache()))

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        loop_thread().call(self.aclose())

    # ---- how

    async def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        async with self._response(method, path, body) as response:
            data = await response.read()
        if not data:
            return {}
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BackendError(
                f"{self.base_url}{path} answered with something that is not a JSON object: {data[:80]!r}"
            )
        return found

    @asynccontextmanager
    async def _response(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.base_url + path
        self.used = True
        session = self._sessions.get(self._headers, self._timeout, self._max_connections)
        try:
            async with session.request(method, url, json=body, ssl=self._verify) as response:
                if response.status != 200:
                    raise _refusal(url, response.status, await response.content.read(_MAX_ERROR_BYTES))
                yield response
        except asyncio.TimeoutError:
            limits = f"timeout={self._timeout.sock_read} s, connect_timeout={self._timeout.sock_connect} s"
            raise BackendTimeout(f"{url} did not answer in time ({limits})") from None
        except aiohttp.ClientConnectionError as error:
            raise BackendUnavailable(f"{url} can't be reached, or closed the connection: {error}") from None
        except aiohttp.ClientError as error:
            raise BackendError(f"{url}: {error}") from None


class _Sessions:
    """One client session per event loop: that of the background thread, which a forked process starts anew."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self, headers: Mapping[str, str], timeout: aiohttp.ClientTimeout, limit: int) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            self._loop = loop
            self._session = aiohttp.ClientSession(
                headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=limit)
            )
        return self._session

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def close_soon(self) -> None:
        if self._session is not None:
            loop_thread().post(lambda: loop_thread().spawn(self.close()))


def _ssl_of(verify: bool | str | None) -> bool | ssl.SSLContext:
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except OSError as error:
            raise ArgumentError(
                f"verify: can't read certificates from {verify!r}: {error} (at {caller_line()})"
            ) from None
    return verify is not False


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The JSON of every `data:` line up to [DONE]; lines may be of any length."""
    buffer = bytearray()
    async for data in response.content.iter_any():
        buffer += data
        while (end := buffer.find(b"\n")) >= 0:
            line = bytes(buffer[:end]).strip()
            del buffer[: end + 1]
            if not line.startswith(b"data:"):
                continue
            payload = line[5:].strip()
            if payload == b"[DONE]":
                return
            event = json.loads(payload)
            if "error" in event:
                raise _error_from(event["error"], 400 if _is_callers_fault(event["error"]) else 500)
            yield event


def _generate_body(request: GenerateRequest) -> dict[str, Any]:
    body: dict[str, Any] = {
        "prompt_parts": _parts(request.prompt),
        "sampling_params": request.sampling.to_dict(),
        "stream": request.stream,
    }
    if request.request_id is not None:
        body["rid"] = request.request_id
    if request.return_logprob:
        body["return_logprob"] = True
        body["logprob_start_len"] = request.logprob_start_len
        body["top_logprobs_num"] = request.top_logprobs_num
        body["return_text_in_logprobs"] = True
    return body


def _parts(prompt: Prompt) -> list[str | list[int]]:
    return [part if isinstance(part, str) else list(part) for part in prompt]


def _chunk(event: Mapping[str, Any], text_before: str, num_ids_before: int) -> Chunk:
    """What is new in a reply whose text and ids are cumulative and whose log-probabilities are not."""
    text, ids, meta = str(_field(event, "text")), event.get("output_ids") or [], _field(event, "meta_info")
    if not text.startswith(text_before):
        raise BackendError("the server does not stream cumulative text, so its pieces can't be put together")
    finish = meta.get("finish_reason") or {}
    if finish.get("type") == "abort":
        raise BackendUnavailable(str(finish.get("message") or "the server aborted the request"))
    kept = meta.get("kept_token_ids")
    return Chunk(
        text=text[len(text_before) :],
        token_ids=tuple(ids[num_ids_before:]),
        logprobs=_logprobs(meta, "output"),
        prompt_logprobs=_logprobs(meta, "input"),
        finish_reason=finish.get("type"),
        matched=finish.get("matched"),
        kept_token_ids=tuple(kept) if kept is not None else None,
        usage=Usage(meta.get("prompt_tokens") or 0, meta.get("completion_tokens") or 0, meta.get("cached_tokens") or 0),
    )


def _logprobs(meta: Mapping[str, Any], side: str) -> tuple[TokenLogprob, ...]:
    entries = meta.get(f"{side}_token_logprobs") or []
    tops = meta.get(f"{side}_top_logprobs") or [None] * len(entries)
    return tuple(
        TokenLogprob(token_id, logprob, text, tuple((p, i, t) for p, i, t in top or ()))
        for (logprob, token_id, text), top in zip(entries, tops, strict=True)
    )


def _chat_format(found: Any) -> ChatFormat | None:
    if not found:
        return None
    roles = {role: (prefix, suffix) for role, (prefix, suffix) in found["roles"].items()}
    return ChatFormat(found.get("bos", ""), found.get("default_system", ""), roles)


def _field(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        raise BackendError(f"the server's answer has no {name!r}; is this a forktree server?")
    return found[name]


def _refusal(url: str, status: int, body: bytes) -> BackendError:
    try:
        found = json.loads(body)
        error = found.get("error", found)
    except (ValueError, AttributeError):
        error = body.decode(errors="replace")[:500]
    return _error_from(error if error else f"{url} answered with status {status}", status)


def _error_from(error: Any, status: int) -> BackendError:
    if not isinstance(error, Mapping):
        error = {"message": str(error)}
    message = str(error.get("message") or error.get("detail") or error)
    if status < 500:
        return RequestRefused(
            message, field=str(error.get("param") or ""), code=str(error.get("code") or ""), status=status
        )
    if status in (502, 503, 504):
        return BackendUnavailable(f"{message} (status {status})")
    return BackendError(f"{message} (status {status})")


def _is_callers_fault(error: Any) -> bool:
    return isinstance(error, Mapping) and error.get("type") == "invalid_request_error"
