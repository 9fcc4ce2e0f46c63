"""The one background event loop on which every backend call of this process happens (daemon thread "forktree-lang").

Here: post (any thread -> the loop), call (run a coroutine there and wait), clean-up at exit and after os.fork.
Not here: what runs on it (executor, backends).  User code never runs on it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from .errors import ProgramCancelled
from .waiting import Promise, until_done

__all__ = ["LoopThread", "loop_thread"]

_EXIT_SECONDS = 2.0  # what clean-up may take when the interpreter ends


class LoopThread:
    """Starts on first use; `post` is safe anywhere, inside a garbage collection too."""

    def __init__(self) -> None:
        self._inbox: deque[Callable[[], object]] = deque()
        self._scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self.tasks: set[asyncio.Task[None]] = set()  # kept until they end: asyncio itself keeps only weak references
        self._at_exit: weakref.WeakSet[Any] = weakref.WeakSet()

    def post(self, callback: Callable[[], object]) -> None:
        """Run `callback` on the loop, in order of posting.  Many posts in a row wake the loop once."""
        self._inbox.append(callback)
        if not self._scheduled:
            self._scheduled = True
            try:
                self._running().call_soon_threadsafe(self._run_inbox)
            except RuntimeError:  # the interpreter is ending and the loop is closed: nothing runs any more
                self._inbox.clear()

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop; wait for what it returns or raises."""
        promise = Promise()
        self.post(lambda: self.start(coroutine, promise))
        return self.wait(promise)

    def wait(self, promise: Promise) -> Any:
        self.until_done(promise)
        return promise.result()

    def until_done(self, promise: Promise) -> None:
        if not promise.done:
            self.refuse_own_thread()
            until_done(promise)

    def refuse_own_thread(self) -> None:
        if self._thread is not None and threading.get_ident() == self._thread.ident:
            raise RuntimeError("a program can't wait on forktree's own event loop thread: it would wait for itself")

    def start(self, coroutine: Coroutine[Any, Any, Any], promise: Promise) -> None:
        """On the loop: run a coroutine as a task that keeps its promise."""

        async def run() -> None:
            try:
                promise.set(await coroutine)
            except Exception as error:
                promise.fail(error)
            except asyncio.CancelledError:
                promise.fail(ProgramCancelled("the call was cancelled"))
                raise
            except BaseException as error:  # SystemExit, for one: whoever waits is told, and the loop goes on
                promise.fail(error)

        self.spawn(run())

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """On the loop: a task that is kept until it ends."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def close_at_exit(self, closable: Any) -> None:
        """`closable.aclose()` is awaited on the loop when the interpreter ends, if it is still alive then."""
        self._at_exit.add(closable)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            with self._start_lock:
                if self._loop is None:
                    loop = _new_loop()
                    self._thread = threading.Thread(target=self._run, args=(loop,), name="forktree-lang", daemon=True)
                    self._thread.start()
                    atexit.register(self._exit)
                    self._loop = loop
        return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
            except (
                SystemExit,
                KeyboardInterrupt,
            ):  # of one task, which has kept it: asyncio lets these two out as well
                continue
            return

    def _run_inbox(self) -> None:
        self._scheduled = False  # first: who posts from here on wakes the loop again
        while self._inbox:
            callback = self._inbox.popleft()
            try:
                callback()
            except Exception as error:  # ours to fix, and no reason for the others to wait for ever
                asyncio.get_running_loop().call_exception_handler({"message": "forktree callback", "exception": error})

    def _exit(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return

        async def close_all() -> None:
            tasks = list(self.tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for closable in list(self._at_exit):
                await asyncio.wait_for(closable.aclose(), _EXIT_SECONDS)

        with contextlib.suppress(Exception):  # the interpreter ends either way, and nobody is left to be told
            asyncio.run_coroutine_threadsafe(close_all(), loop).result(_EXIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_EXIT_SECONDS)
        if not thread.is_alive():
            loop.close()


def _new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed: a hop to its thread and back costs two thirds of that to asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_current = LoopThread()


def loop_thread() -> LoopThread:
    return _current


def _after_fork() -> None:
    """A forked child has the object but not the thread: it starts its own on first use."""
    global _current
    _current = LoopThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
