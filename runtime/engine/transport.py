"""Two ways to reach an engine: a process of its own, or a thread of this one. Same messages either way.

Here: Transport, what a client needs; ProcessTransport (the default); ThreadTransport (debugging and tests).
Imported by client.py; torch is loaded only on the engine's side.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Protocol

import msgspec
import zmq

from ..config import EngineConfig
from ..errors import EngineDead, ForktreeRuntimeError
from .messages import ClientMessage, Close, EngineMessage

Receive = Callable[[list[EngineMessage]], None]
OnDeath = Callable[[str], None]

POLL_MS = 100  # how soon the end of the engine process is noticed
CLOSE_SECONDS = 10.0
SEND_MS = 1000  # an engine that runs takes a message at once
OMP_SPINS = "3000"  # at a barrier of torch or numba; they spin far longer by default, and a busy machine crawls

_CHILD = (
    "import json, sys; setup = json.loads(sys.stdin.readline()); sys.path[:] = setup['sys_path'];"
    "from forktree.runtime.engine.process import main; main(setup)"
)


class Transport(Protocol):
    """Carries messages to one engine. `receive` and `on_death` are called on a thread of the transport's own."""

    def start(self, receive: Receive, on_death: OnDeath) -> None: ...

    def send(self, message: ClientMessage) -> None: ...

    def close(self) -> None: ...

    @property
    def pid(self) -> int: ...


class ProcessTransport:
    """Starts the engine process and talks to it over private unix sockets; the process ends when this one does."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._owner = os.getpid()
        self._encode = msgspec.msgpack.Encoder().encode
        self._send_lock = threading.Lock()
        self._closing = threading.Event()
        self._resources = ExitStack()  # undone in reverse: sockets, context, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def start(self, receive: Receive, on_death: OnDeath) -> None:
        folder = tempfile.mkdtemp(prefix="forktree-")  # mode 0700: nobody else can connect
        self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
        context = zmq.Context()
        self._resources.callback(context.term)
        self._outbox = self._socket(context, zmq.PUSH, f"{folder}/to-engine")
        inbox = self._socket(context, zmq.PULL, f"{folder}/from-engine")
        setup = {"sys_path": [str(path) for path in sys.path], "folder": folder, "config": self._config.to_dict()}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_stderr() else None,
            env={"GOMP_SPINCOUNT": OMP_SPINS, **os.environ},
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(setup).encode() + b"\n")
        self._process.stdin.flush()  # kept open: the engine ends when it reads the end of the file
        self._thread = threading.Thread(
            target=self._receive, args=(inbox, receive, on_death), name="forktree-client", daemon=True
        )
        self._thread.start()

    def send(self, message: ClientMessage) -> None:
        """Raises EngineDead in a process that was forked off: the sockets belong to the one that started the engine."""
        if os.getpid() != self._owner:
            raise EngineDead("this engine was started by another process; start one here")
        data = self._encode(message)
        with self._send_lock:
            if not self._closing.is_set() and self._outbox.poll(SEND_MS, zmq.POLLOUT):
                self._outbox.send(data)  # else the engine is gone, which the receiving thread reports

    def close(self) -> None:
        """Ask the engine to end, make sure it does, and remove every trace of it."""
        if self._closing.is_set() or os.getpid() != self._owner:
            return
        if self._process is not None and self._process.poll() is None:
            self.send(Close())
        with self._send_lock:
            self._closing.set()
        if self._process is not None:
            _end(self._process)
        if self._thread is None:
            self._resources.close()
        elif threading.current_thread() is not self._thread:
            self._thread.join()  # it undoes the resources, wherever close was called

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def _socket(self, context: zmq.Context[zmq.Socket[bytes]], kind: int, path: str) -> zmq.Socket[bytes]:
        socket = context.socket(kind)
        self._resources.callback(socket.close, linger=0)
        socket.set_hwm(0)  # bounded by max_queued_requests instead
        try:
            socket.bind(f"ipc://{path}")
        except zmq.ZMQError as error:
            raise ForktreeRuntimeError(
                f"can't open a socket at {path}: {error}. Set TMPDIR to a shorter path"
            ) from None
        return socket

    def _receive(self, inbox: zmq.Socket[bytes], receive: Receive, on_death: OnDeath) -> None:
        assert self._process is not None
        decode = msgspec.msgpack.Decoder(list[EngineMessage]).decode
        try:
            while not self._closing.is_set():
                if inbox.poll(POLL_MS):
                    receive(decode(inbox.recv()))
                elif (code := self._process.poll()) is not None and not self._closing.is_set():
                    on_death(_how_it_ended(code))
                    break
        except Exception as error:
            on_death(f"its answers can't be read: {type(error).__name__}: {error}")
            raise
        finally:
            self._closing.wait()  # the outbox is in use until then
            with self._send_lock:
                self._resources.close()


class ThreadTransport:
    """Runs the engine on a thread of this process."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: Callable[[ClientMessage], None] | None = None

    def start(self, receive: Receive, on_death: OnDeath) -> None:
        self._thread = threading.Thread(target=self._run, args=(receive, on_death), name="forktree-engine", daemon=True)
        self._thread.start()

    def send(self, message: ClientMessage) -> None:
        loop, handle = self._loop, self._handle
        if loop is not None and handle is not None:
            with suppress(RuntimeError):  # the loop has just closed: the engine has ended
                loop.call_soon_threadsafe(handle, message)

    def close(self) -> None:
        self.send(Close())
        if threading.current_thread() is not self._thread:
            self._thread.join(CLOSE_SECONDS)

    @property
    def pid(self) -> int:
        return os.getpid()

    def _run(self, receive: Receive, on_death: OnDeath) -> None:
        from .process import start_core

        async def serve() -> None:
            core = start_core(self._config, receive)
            if core is None:
                return
            self._loop, self._handle = asyncio.get_running_loop(), core.handle
            await core.run()

        try:
            asyncio.run(serve())
        except Exception as error:
            on_death(f"its loop ended with {type(error).__name__}: {error}")
            raise
        else:
            on_death("it has ended")  # no news to whoever closed it
        finally:
            self._loop = self._handle = None  # lets go of the model


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close what the engine watches, wait for it, and kill it if that takes too long."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(CLOSE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _has_stderr() -> bool:
    """Notebooks and windowed programs may have no real one."""
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _how_it_ended(code: int) -> str:
    return f"the engine process was killed by signal {-code}" if code < 0 else f"the engine process ended with {code}"
