"""The client's side of an engine: hands requests over, sorts the news by request, notices when the engine is gone.

Imported by the Engine facade; no torch. Safe to use from any thread.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from ..errors import EngineDead, ForktreeRuntimeError, make_error
from .messages import (
    PROTOCOL_VERSION,
    Abort,
    AbortProgram,
    AskStats,
    EngineMessage,
    EngineStats,
    Failed,
    Flush,
    ModelInfo,
    Output,
    ProgramNews,
    Progress,
    Ready,
    RunProgram,
    Scores,
    StartFailed,
    Stats,
    Submit,
    SubmitScore,
)
from .transport import Transport

log = logging.getLogger("forktree.engine")

News = Output | ForktreeRuntimeError
Sink = Callable[[News], None]
ProgramSink = Callable[[ProgramNews | ForktreeRuntimeError], None]
OnProgress = Callable[[str, float], None]


class EngineClient:
    """One engine, reached through a transport. `submit` gives each request a sink, called on the transport's thread."""

    def __init__(self, transport: Transport, on_progress: OnProgress) -> None:
        self._transport, self._on_progress = transport, on_progress
        self._lock = threading.RLock()  # a finalizer may close the engine on a thread that holds it
        self._sinks: dict[int, Sink] = {}
        self._programs: dict[int, ProgramSink] = {}
        self._calls: dict[int, Future[Any]] = {}
        self._ids = itertools.count(1)
        self._ready: Future[ModelInfo] = Future()
        self._dead: EngineDead | None = None

    def start(self) -> ModelInfo:
        """Start the engine and wait until it is ready. Raises what kept it from starting."""
        try:
            self._transport.start(self._receive, self._on_death)
            return self._ready.result()
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        return self._dead is None

    @property
    def pid(self) -> int:
        return self._transport.pid

    def new_id(self) -> int:
        return next(self._ids)

    def submit(self, message: Submit, sink: Sink) -> None:
        """Start a request; its sink gets Outputs, the last with a finish_reason, or one error. Raises EngineDead."""
        with self._lock:
            if self._dead is not None:
                raise EngineDead(str(self._dead))
            self._sinks[message.request_id] = sink
        try:
            self._transport.send(message)
        except BaseException:
            with self._lock:
                del self._sinks[message.request_id]
            raise

    def abort(self, request_id: int) -> None:
        """End a request; the sink hears no more of it. Unknown and finished ids are harmless."""
        with self._lock:
            known = self._sinks.pop(request_id, None)
        if known is not None:
            self._transport.send(Abort(request_id))

    def cancel(self, request_id: int) -> None:
        """End a request; its sink gets a last Output, with finish_reason "abort"."""
        self._transport.send(Abort(request_id))

    def run_program(self, message: RunProgram, sink: ProgramSink) -> None:
        """Start a program; its sink gets the news of its nodes, and one error if the engine dies.  Raises EngineDead.

        Somebody has to say when it is over: end_program."""
        with self._lock:
            if self._dead is not None:
                raise EngineDead(str(self._dead))
            self._programs[message.call_id] = sink
        try:
            self._transport.send(message)
        except BaseException:
            with self._lock:
                del self._programs[message.call_id]
            raise

    def abort_program(self, call_id: int, item: int | None = None, node: int | None = None) -> None:
        """End a program, or a part of it, as AbortProgram says; the sink goes on hearing of the rest."""
        self._transport.send(AbortProgram(call_id, item, node))

    def end_program(self, call_id: int, *, over: bool) -> None:
        """The sink hears no more.  over: nothing of the program runs any more, so nothing has to be ended."""
        with self._lock:
            known = self._programs.pop(call_id, None)
        if known is not None and not over and self.is_alive:
            self._transport.send(AbortProgram(call_id))

    def score(self, message: SubmitScore) -> Future[Scores]:
        """A log-probability for each node of the trie. Cancelling the future ends the request. Raises EngineDead."""
        request_id = message.request_id
        future = self._call(request_id)
        future.add_done_callback(lambda done: self._transport.send(Abort(request_id)) if done.cancelled() else None)
        self._transport.send(message)
        return future

    def stats(self) -> Future[EngineStats]:
        call_id = self.new_id()
        future = self._call(call_id)
        self._transport.send(AskStats(call_id))
        return future

    def flush(self) -> Future[None]:
        call_id = self.new_id()
        future = self._call(call_id)
        self._transport.send(Flush(call_id))
        return future

    def close(self) -> None:
        """End the engine; requests in flight fail with EngineDead."""
        self._end("the engine was closed")
        self._transport.close()

    def _call(self, call_id: int) -> Future[Any]:
        future = Future[Any]()
        with self._lock:
            if self._dead is not None:
                raise EngineDead(str(self._dead))
            self._calls[call_id] = future
        return future

    # -- on the transport's thread ------------------------------------------------------------------------------------

    def _receive(self, messages: list[EngineMessage]) -> None:
        for message in messages:
            if isinstance(message, Output):
                self._deliver(message.request_id, message, last=message.finish_reason is not None)
            elif isinstance(message, ProgramNews):
                with self._lock:
                    program = self._programs.get(message.call_id)
                if program is not None:
                    program(message)
            elif isinstance(message, Failed):
                self._fail(message.request_id, make_error(message.kind, message.args))
            elif isinstance(message, Progress):
                self._show(message)
            elif isinstance(message, Ready):
                assert message.version == PROTOCOL_VERSION, "client and engine come from one installation"
                self._ready.set_result(message.info)
            elif isinstance(message, StartFailed):
                self._ready.set_exception(make_error(message.kind, message.args))
            elif isinstance(message, Scores):
                self._answer(message.request_id, message)
            else:
                self._answer(message.call_id, message.stats if isinstance(message, Stats) else None)

    def _show(self, progress: Progress) -> None:
        """A callback that fails must not take the thread with it on which every answer arrives."""
        try:
            self._on_progress(progress.what, progress.fraction)
        except Exception:
            log.exception("on_progress failed")

    def _deliver(self, request_id: int, news: News, *, last: bool) -> None:
        with self._lock:
            sink = self._sinks.pop(request_id, None) if last else self._sinks.get(request_id)
        if sink is not None:  # None: aborted meanwhile
            sink(news)

    def _answer(self, call_id: int, result: Any) -> None:
        with self._lock:
            future = self._calls.pop(call_id, None)
        if future is not None and future.set_running_or_notify_cancel():
            future.set_result(result)

    def _fail(self, request_id: int, error: ForktreeRuntimeError) -> None:
        with self._lock:
            future = self._calls.pop(request_id, None)
        if future is None:
            self._deliver(request_id, error, last=True)
        elif future.set_running_or_notify_cancel():
            future.set_exception(error)

    def _on_death(self, how: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(EngineDead(f"{how} while it was starting; see its messages above"))
        self._end(how)

    def _end(self, why: str) -> None:
        with self._lock:
            if self._dead is not None:
                return
            self._dead = EngineDead(why)
            sinks, calls = [*self._sinks.values(), *self._programs.values()], list(self._calls.values())
            self._sinks.clear()
            self._programs.clear()
            self._calls.clear()
        for sink in sinks:
            sink(EngineDead(why))
        for future in calls:
            if future.set_running_or_notify_cancel():
                future.set_exception(EngineDead(why))
