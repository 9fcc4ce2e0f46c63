"""A small HTTP server on a thread of its own, which answers as a test says and remembers what it was asked."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

from aiohttp import web


class WireServer:
    """Answers with `reply(body)` per request: JSON, a list of events to stream, or nothing for ever (None); records
    bodies, headers and connections that were cut."""

    def __init__(self) -> None:
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire-server")
        self.forget()

    def forget(self) -> None:
        self.bodies: list[tuple[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.num_disconnected = 0
        self.num_waiting = 0
        self.reply: Any = lambda body: {}
        self.info: dict[str, Any] = {}

    def start(self) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        if request.path.startswith("/v1/programs"):  # a server that runs no programs, as all were once
            return web.json_response({"error": {"message": "There is no such path."}}, status=404)
        self.bodies.append((f"{request.method} {request.path}", body))
        self.headers.append(dict(request.headers))
        if request.path == "/get_model_info":
            return web.json_response(self.info)
        if request.path in ("/flush_cache", "/server_info"):
            return web.json_response({"status": "ok"})
        reply = self.reply(body)
        if isinstance(reply, web.StreamResponse):
            return reply
        if reply is None:
            return await self._wait_for_ever()
        if isinstance(reply, list):
            return await self._stream(request, reply)
        return web.json_response(reply)

    async def _wait_for_ever(self) -> web.StreamResponse:
        self.num_waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.num_disconnected += 1
        raise AssertionError

    async def _stream(self, request: web.Request, events: list[Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            if event is None:
                return await self._wait_for_ever()
            await response.write(
                event if isinstance(event, bytes) else b"data: " + json.dumps(event).encode() + b"\n\n"
            )
        return response
