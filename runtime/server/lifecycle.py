"""From a command to a serving process and back: bind, load, serve, drain, stop.

The socket is bound first, so a taken port is known at once and probes get 503 while the model loads.  The first SIGTERM
or SIGINT drains: /ready says 503, new work is refused, running requests finish within `drain_seconds`.  The second
stops at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from aiohttp import web

from .app import make_app
from .config import ServerConfig
from .errors import INTERNAL, Failure
from .http import SERVER_NAME
from .service import Service

if TYPE_CHECKING:
    from .engine_api import ServingEngine

logger = logging.getLogger("forktree.server")

KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 2.0  # to read on after refusing a body, so that the client gets to see the refusal
HANDLER_SECONDS = 0.5  # after draining only the last bytes of answers are on their way
CONNECTION: dict[str, Any] = {
    "auto_decompress": False,  # a small body must not become a large one; 415 says so
    "access_log": None,  # ours says more and less: counts, no query strings
    "keepalive_timeout": KEEPALIVE_SECONDS,
    "lingering_time": LINGER_SECONDS,
}
LOOK_SECONDS = 1.0  # between two looks at the engine
CLOSE_SECONDS = 10.0


class Server:
    """A Service on a socket.  `await start()`, then `await stop()`."""

    def __init__(self, config: ServerConfig, engine: ServingEngine | None = None) -> None:
        self.service = Service(config, engine)
        self._runner = web.AppRunner(
            make_app(self.service),
            handler_cancellation=True,  # a client that leaves ends its request, streamed or not
            shutdown_timeout=HANDLER_SECONDS,
        )
        self._listening: asyncio.Server | None = None
        self.address = ""

    async def start(self) -> None:
        """Raises OSError if the address can't be had."""
        config = self.service.config
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        try:
            self._listening = await loop.create_server(self._connection, config.host, config.port, backlog=1024)
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._listening.sockets[0].getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{port}"

    async def stop(self) -> None:
        """Close the sockets and every connection; handlers that still run are cancelled."""
        self.service.state = "stopping"
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()

    def _connection(self) -> web.RequestHandler:
        assert self._runner.server is not None
        return _Connection(self._runner.server, loop=asyncio.get_running_loop(), **CONNECTION)


class _Connection(web.RequestHandler):
    """aiohttp's side of one connection, with an answer of ours where bytes are no HTTP and no route is reached."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, None)  # logs it; raises if an answer is already on its way
        bad = Failure(400, "The request is not valid HTTP.", "invalid_http")
        response = (bad if status < 500 else INTERNAL).response()
        response.headers["Server"] = SERVER_NAME
        response.force_close()
        return response


def serve(
    config: ServerConfig,
    load: Callable[[], ServingEngine],
    on_ready: Callable[[Server, ServingEngine], None] | None = None,
) -> None:
    """Run until a signal asks to stop.  `load` makes the engine, in a thread, while probes are answered."""
    main = _serve(config, load, on_ready)
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


async def _serve(
    config: ServerConfig,
    load: Callable[[], ServingEngine],
    on_ready: Callable[[Server, ServingEngine], None] | None,
) -> None:
    signals = _Signals()
    server = Server(config)
    await server.start()
    engine: ServingEngine | None = None
    try:
        loading = asyncio.ensure_future(asyncio.to_thread(load))
        await _first_of(loading, signals.first)
        if not loading.done():
            logger.info("stopping before the model was loaded")
            await server.stop()
            signals.leave_at_once()
        engine = await loading
        server.service.ready(engine)
        if on_ready is not None:
            on_ready(server, engine)
        await _first_signal(signals, engine)
        drained = asyncio.ensure_future(server.service.drain(config.drain_seconds))
        logger.info("draining for up to %g s; a second signal stops at once", config.drain_seconds)
        await _first_of(drained, signals.second)
        drained.cancel()
    finally:
        await server.stop()
        if engine is not None and not await _closed(engine):
            logger.warning("the engine did not close within %g s", CLOSE_SECONDS)
            signals.leave_at_once()


async def _first_signal(signals: _Signals, engine: ServingEngine) -> None:
    """Wait for it, and say so once should the engine end before: from then on every answer is 503."""
    told = False
    while not signals.first.done():
        await asyncio.wait([signals.first], timeout=LOOK_SECONDS)
        if not engine.is_alive and not told and not signals.first.done():
            logger.error("the engine process has ended; every request is refused until this server is started again")
            told = True


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


async def _closed(engine: ServingEngine) -> bool:
    closing = asyncio.ensure_future(asyncio.to_thread(engine.close))
    await asyncio.wait([closing], timeout=CLOSE_SECONDS)
    return closing.done()


class _Signals:
    """SIGTERM and SIGINT as two futures: the first asks to stop, the second insists."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.first: asyncio.Future[None] = self._loop.create_future()
        self.second: asyncio.Future[None] = self._loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._loop.add_signal_handler(number, self._arrived)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(self._arrived))

    def _arrived(self) -> None:
        for future in (self.first, self.second):
            if not future.done():
                future.set_result(None)
                return

    def leave_at_once(self) -> NoReturn:
        """End although a thread is still busy in the engine, which Python would wait for. Asked for, so no failure."""
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
