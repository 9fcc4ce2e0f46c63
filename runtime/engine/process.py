"""The engine's side of the wire: starts a core, feeds it what the client sends, ends when the client does.

`main` is what the engine process runs; ThreadTransport uses `start_core` alone. Imports torch through core.py.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from ..config import EngineConfig
from ..errors import ForktreeRuntimeError, describe_error
from ..models import resolve_model
from .messages import ClientMessage, Close, EngineMessage, Progress, StartFailed

GRACE_SECONDS = 5.0  # for running steps when the client has gone

log = logging.getLogger("forktree.engine")


def main(setup: dict[str, Any]) -> None:
    """Serve one client until it closes or is gone. `setup`: folder of the sockets, config."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the client decides
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    config = EngineConfig.from_dict(setup["config"])
    context = zmq.asyncio.Context()
    inbox = context.socket(zmq.PULL)
    outbox = zmq.Context(context).socket(zmq.PUSH)
    for socket, name in ((inbox, "to-engine"), (outbox, "from-engine")):
        socket.set_hwm(0)
        socket.connect(f"ipc://{setup['folder']}/{name}")
    encode = msgspec.msgpack.Encoder().encode

    def emit(messages: list[EngineMessage]) -> None:
        outbox.send(encode(messages))

    status = 0
    try:
        _runner()(_serve(config, setup["folder"], inbox, emit))
    except Exception:
        log.exception("the engine loop ended")
        status = 1
    outbox.close(linger=500)
    inbox.close(linger=0)
    context.term()
    os._exit(status)  # threads of numba and torch have nothing left to say


async def _serve(
    config: EngineConfig, folder: str, inbox: zmq.asyncio.Socket, emit: Callable[[list[EngineMessage]], None]
) -> None:
    core = start_core(config, emit)
    if core is None:
        return
    _collect_seldom()
    loop = asyncio.get_running_loop()
    threading.Thread(target=_watch_client, args=(loop, core.handle, folder), daemon=True).start()
    decode = msgspec.msgpack.Decoder(ClientMessage).decode

    async def receive() -> None:
        while True:
            core.handle(decode(await inbox.recv()))

    receiving = asyncio.ensure_future(receive())
    serving = asyncio.ensure_future(core.run())
    done, _ = await asyncio.wait({receiving, serving}, return_when=asyncio.FIRST_COMPLETED)
    receiving.cancel()
    for task in done:
        task.result()


def _collect_seldom() -> None:
    """Spare the engine most of the garbage collector's pauses.

    What it holds for long (the model, grammars and what outputs taught them) is many small objects: each full
    collection looks at all of them, and every request waits for a tenth of a second."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def start_core(config: EngineConfig, emit: Callable[[list[EngineMessage]], None]) -> Any:
    """A core that is ready to run, or None after telling the client why there is none."""
    try:
        files = resolve_model(config.model, on_progress=lambda what, fraction: emit([Progress(what, fraction)]))
        from .core import EngineCore  # torch takes seconds to load: a wrong path is told at once

        return EngineCore(config, files, emit)
    except ForktreeRuntimeError as error:
        emit([StartFailed(*describe_error(error))])
    except Exception as error:
        log.exception("the engine could not start")
        emit([StartFailed("ForktreeRuntimeError", [f"the engine could not start: {type(error).__name__}: {error}"])])
    return None


def _watch_client(loop: asyncio.AbstractEventLoop, handle: Callable[[ClientMessage], None], folder: str) -> None:
    """The client holds our standard input open; its end means that the client closed us or is gone."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    loop.call_soon_threadsafe(handle, Close())
    threading.Event().wait(GRACE_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)  # a client that was killed left it behind
    os._exit(1)


def _runner() -> Callable[[Any], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
