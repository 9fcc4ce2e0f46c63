"""Our HTTP server around an engine, on a thread of its own, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from forktree.runtime.server import Server, ServerConfig


@contextmanager
def serving_on_a_thread(engine: Any, **config: Any) -> Iterator[str]:
    """The server's address; the engine is somebody else's, and stays open."""
    server = Server(ServerConfig(**{"port": 0, **config}), _StaysOpen(engine))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server-of-a-test", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield server.address
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _StaysOpen:
    """An engine that outlives the server it is given to."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        return None
