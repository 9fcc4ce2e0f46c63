"""Server-sent events: one line `data: <json>` per event, `data: [DONE]` last.

Here: the response, errors before and after the first byte, clients that do not read.  Not here: what an event says.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

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
BUFFER_BYTES = 64 * 1024  # unsent bytes of one client beyond which we wait for it, and in the end cut it off


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
        await response.write_eof()
        return response


class _Sender:
    """Writes events; waits only for a client that is far behind, and not for ever."""

    def __init__(self, request: web.Request, response: web.StreamResponse, stall_seconds: float) -> None:
        self._request, self._response, self._stall_seconds = request, response, stall_seconds

    async def __call__(self, event: bytes) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        write = self._response.write(b"data: " + event + b"\n\n")
        if transport.get_write_buffer_size() < BUFFER_BYTES:
            await write
            return
        try:
            await asyncio.wait_for(write, self._stall_seconds)
        except asyncio.TimeoutError:
            transport.abort()
            raise ConnectionResetError("the client does not read") from None
