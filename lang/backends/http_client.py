"""What backends that talk HTTP have in common: sessions, JSON calls, event streams, and statuses as errors.

Here: HttpClient.  Not here: what is asked and what an answer means (http, openai, sglang).  Nothing is retried, unless
a backend asks for it: a request that was refused would be again, and one that was cut off may have been done.  The
only file of lang that imports aiohttp."""

from __future__ import annotations

import asyncio
import email.utils
import json
import ssl
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ..errors import ArgumentError, BackendError, BackendTimeout, BackendUnavailable, RequestRefused
from ..loop import loop_thread
from ..nodes import caller_line

__all__ = ["HttpClient", "error_from", "field_of"]

_MAX_ERROR_BYTES = 64 * 1024
_LONGEST_WAIT = 60.0  # seconds that a server may ask us to wait before we try again


class HttpClient:
    """Calls to one server.

    verify           False: take any certificate; a path: trust the authorities in that file
    timeout          seconds in which the server must send something, None: no limit
    connect_timeout  seconds to reach the server
    max_connections  requests at a time; more wait their turn here
    retries          how often a request that the server was too busy to begin (429 or 503, with a Retry-After of at
                     most a minute) is sent again"""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        verify: bool | str | None = None,
        timeout: float | None = 600.0,
        connect_timeout: float | None = 10.0,
        max_connections: int = 256,
        retries: int = 0,
    ) -> None:
        if not str(base_url).startswith(("http://", "https://")):
            raise ArgumentError(
                f"base_url: got {base_url!r}, wanted something like http://localhost:30000 (at {caller_line()})"
            )
        self.used = False  # has anything been asked of the server?
        self.base_url = base_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_read=timeout, sock_connect=connect_timeout)
        self._max_connections, self._verify, self._retries = max_connections, _ssl_of(verify), retries
        self._sessions = _Sessions()
        weakref.finalize(self, self._sessions.close_soon).atexit = False
        loop_thread().close_at_exit(self)

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer; {} where there is none."""
        async with self.response(method, path, body) as response:
            data = await response.read()
        if not data:
            return {}
        try:
            return json.loads(data)
        except ValueError:
            raise BackendError(f"{self.base_url}{path} answered with no JSON: {data[:80]!r}") from None

    async def call_object(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        found = await self.call(method, path, body)
        if not isinstance(found, dict):
            shown = json.dumps(found)[:80]
            raise BackendError(f"{self.base_url}{path} answered with no JSON object: {shown}")
        return found

    async def events(self, path: str, body: Any) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON of every `data:` line up to [DONE]; lines may be of any length.  An error's event is raised."""
        async with self.response("POST", path, body) as response:
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
                    yield self._event(path, payload)

    @asynccontextmanager
    async def response(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.base_url + path
        self.used = True
        session = self._sessions.get(self._headers, self._timeout, self._max_connections)
        retries = self._retries
        try:
            while True:
                async with session.request(method, url, json=body, ssl=self._verify) as response:
                    if response.status == 200:
                        yield response
                        return
                    wait = _wait_before_retry(response) if retries else None
                    if wait is None:
                        raise _refusal(url, response.status, await response.content.read(_MAX_ERROR_BYTES))
                retries -= 1
                await asyncio.sleep(wait)
        except asyncio.TimeoutError:
            limits = f"timeout={self._timeout.sock_read} s, connect_timeout={self._timeout.sock_connect} s"
            raise BackendTimeout(f"{url} did not answer in time ({limits})") from None
        except aiohttp.ClientConnectionError as error:
            raise BackendUnavailable(f"{url} can't be reached, or closed the connection: {error}") from None
        except aiohttp.ClientError as error:
            raise BackendError(f"{url}: {error}") from None

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._sessions.close()

    def _event(self, path: str, payload: bytes) -> dict[str, Any]:
        try:
            event = json.loads(payload)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise BackendError(f"{self.base_url}{path} sent an event that is not a JSON object: {payload[:80]!r}")
        if event.get("error"):
            raise error_from(event["error"], 400 if _is_callers_fault(event["error"]) else 500)
        return event


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


def field_of(found: Mapping[str, Any], name: str, server: str) -> Any:
    if name not in found:
        raise BackendError(f"the server's answer has no {name!r}; is this {server}?")
    return found[name]


def _ssl_of(verify: bool | str | None) -> bool | ssl.SSLContext:
    if isinstance(verify, str):
        try:
            return ssl.create_default_context(cafile=verify)
        except OSError as error:
            raise ArgumentError(
                f"verify: can't read certificates from {verify!r}: {error} (at {caller_line()})"
            ) from None
    return verify is not False


def _wait_before_retry(response: aiohttp.ClientResponse) -> float | None:
    """Seconds, if the server was only too busy, says for how long, and that is bearable."""
    given = response.headers.get("Retry-After")
    if response.status not in (429, 503) or given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(given).timestamp() - time.time()
        except ValueError:
            return None
    return max(seconds, 0.0) if seconds <= _LONGEST_WAIT else None


def _refusal(url: str, status: int, body: bytes) -> BackendError:
    try:
        found = json.loads(body)
        error = found.get("error", found)
    except (ValueError, AttributeError):
        error = body.decode(errors="replace")[:500]
    return error_from(error if error else f"{url} answered with status {status}", status)


def error_from(error: Any, status: int) -> BackendError:
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
    return isinstance(error, Mapping) and error.get("type") in ("invalid_request_error", "BadRequestError")
