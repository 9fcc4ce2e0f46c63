"""Server-sent events: one line `data: <json>` per event, `data: [DONE]` last.

Here: the response, errors before and after the first byte, clients that do not read.  Not here: what an event says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any

from aiohttp import web

from .errors import renamed, told
from .exchange import Exchange
from .service import Service

logger = logging.getLogger("forktree.server")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would collect the events otherwise
}


async def stream_events(
    request: web.Request,
    service: Service,
    exchange: Exchange,
    events: AsyncGenerator[bytes, None],
    names: Mapping[str, str],
) -> web.StreamResponse:
    """Send `events`. An error before the first is raised, to become an HTTP status; a later one becomes an event.

    names   what the request calls the engine's fields, as in errors.renamed"""
    async with aclosing(events):
        with renamed(names):
            first = await anext(events)
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        send = _Sender(request, response, service.config.stall_seconds)
        await send(first)
        try:
            with renamed(names):
                async for event in events:
                    await send(event)
        except ConnectionError:
            raise
        except Exception as error:
            failure = told(error, exchange.request_id)
            exchange.streamed_error = failure.code
            await send(failure.body())
        await send(b"[DONE]")
        await send.end()
        return response


class _Sender:
    """Writes events. Each may wait for a client that is far behind, and not for ever."""

    def __init__(self, request: web.Request, response: web.StreamResponse, stall_seconds: float) -> None:
        self._request, self._response, self._stall_seconds = request, response, stall_seconds

    async def __call__(self, event: bytes) -> None:
        await self._in_time(self._response.write(b"data: " + event + b"\n\n"))

    async def end(self) -> None:
        await self._in_time(self._response.write_eof())

    async def _in_time(self, write: Coroutine[Any, Any, None]) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            write.close()
            raise ConnectionResetError("the client has left, or was cut off because it did not read")
        # Whether a write will wait cannot be told beforehand: it may be the one that fills the buffer, or meet one that
        # has drained in part and not resumed.  So each has its timer, which costs less than a task for each.
        cut_off = asyncio.get_running_loop().call_later(self._stall_seconds, transport.abort)
        try:
            await write
        finally:
            cut_off.cancel()
