"""A real server on a free port around an engine, and a client for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from forktree.runtime.server import Server, ServerConfig
from tests.server.fake_engine import FakeEngine


@dataclass
class Api:
    """A server somewhere, as its clients see it."""

    http: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(path) as response:
            return response.status, await _body(response)

    async def post(self, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """Status and the decoded answer. `body` is sent as JSON, or as it is if it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.http.post(path, data=data, **options) as response:
            return response.status, await _body(response)

    async def stream(self, path: str, body: Any) -> list[Any]:
        """All events of an answer that must be a stream and end with [DONE]."""
        async with self.http.post(path, json=body | {"stream": True}) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            lines = [line.decode().strip() async for line in response.content]
        events = [line.removeprefix("data: ") for line in lines if line]
        assert all(line.startswith("data: ") for line in lines if line), lines
        assert events[-1] == "[DONE]", events[-1]
        return [json.loads(event) for event in events[:-1]]

    async def error(self, path: str, body: Any, status: int = 400) -> dict[str, Any]:
        """The error object of an answer that must have `status` and OpenAI's error shape, and nothing internal."""
        got, answer = await self.post(path, body)
        assert got == status, (got, answer)
        assert set(answer) == {"error"}
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        assert "Traceback" not in str(answer)
        error: dict[str, Any] = answer["error"]
        return error


@dataclass
class Client(Api):
    """A server of ours around a fake engine."""

    engine: FakeEngine
    server: Server


async def _body(response: aiohttp.ClientResponse) -> Any:
    return await response.json() if response.content_type == "application/json" else await response.text()


@asynccontextmanager
async def serving(engine: FakeEngine | None = None, *, loaded: bool = True, **config: Any) -> AsyncIterator[Client]:
    engine = engine or FakeEngine()
    server = Server(ServerConfig(**{"port": 0, **config}), engine if loaded else None)
    await server.start()
    try:
        async with aiohttp.ClientSession(server.address) as http:
            yield Client(http, engine, server)
    finally:
        await server.stop()
