"""A value that one thread waits for and another one delivers; and how a program waits without holding a thread.

Here: Promise, first_of, wait and until_done (block, or hand control to whoever drives this program), ProgramGreenlet,
run_async. Not here: the event loop (loop), many programs at once (batch).  Imports nothing of ours.

User code runs in the thread that called it.  A program that shares this thread with others is a greenlet: its `wait`
switches to its parent with the promise, and the parent switches back once the promise is done."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterable
from typing import Any

import greenlet  # type: ignore[import-untyped, unused-ignore]  # no stubs are published

__all__ = ["ProgramGreenlet", "Promise", "first_of", "run_async", "until_done", "until_done_async", "wait"]

_UNSET: Any = object()
_first_callback = threading.RLock()


class Promise:
    """Set once, by any thread; callbacks run in the thread that sets it.

    Hardly any locks: list.append and list.pop are atomic, and both sides empty the same list, so every callback runs
    exactly once.  The list is there from the first callback on, since most promises never have one and ten thousand
    programs have many promises; only making it takes a lock, one that a garbage collection there may take again."""

    __slots__ = ("_callbacks", "_error", "_value", "done")

    def __init__(self) -> None:
        self.done = False
        self._value: Any = _UNSET
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], object]] | None = None

    def set(self, value: Any = None) -> None:
        if not self.done:
            self._value = value
            self._finish()

    def fail(self, error: BaseException) -> None:
        if not self.done:
            self._error = error
            self._finish()

    @property
    def error(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        """The value, or the error raised.  Only when done."""
        if self._error is not None:
            raise self._error.with_traceback(None)
        return self._value

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Called once when done; at once if it is done already."""
        callbacks = self._callbacks
        if callbacks is None:
            new: list[Callable[[], object]] = []
            with _first_callback:
                callbacks = self._callbacks
                if callbacks is None:
                    callbacks = self._callbacks = new
        callbacks.append(callback)
        if self.done:
            self._call(callbacks)

    def _finish(self) -> None:
        self.done = True  # first: whoever adds a callback from here on calls it
        if self._callbacks is not None:
            self._call(self._callbacks)

    @staticmethod
    def _call(callbacks: list[Callable[[], object]]) -> None:
        while callbacks:
            try:
                callback = callbacks.pop()
            except IndexError:  # another thread took it
                return
            callback()


def first_of(promises: Iterable[Promise]) -> Promise:
    """Done as soon as one of them is; its value is None."""
    first = Promise()
    for promise in promises:
        promise.add_callback(first.set)
    return first


class ProgramGreenlet(greenlet.greenlet):  # type: ignore[misc, unused-ignore]
    """Runs `body` until it waits.  Whoever drives it calls `resume`, which returns the promise it waits for, or None
    at its end.

    No frame of the body may hold the greenlet itself: what a suspended stack holds is invisible to the garbage
    collector."""

    __slots__ = ("_thread", "outcome")

    def __init__(self, body: Callable[[], Any]) -> None:
        self.outcome = Promise()  # what the body returned or raised
        super().__init__(functools.partial(_run, body, self.outcome))
        self.gr_context = contextvars.copy_context()  # type: ignore[misc, unused-ignore]  # greenlet's own
        self._thread = threading.get_ident()

    def resume(self) -> Promise | None:
        self.parent = greenlet.getcurrent()  # type: ignore[misc, unused-ignore]
        waits_for: Promise | None = self.switch()
        return None if self.dead else waits_for

    def kill(self) -> None:
        """End the body where it waits: its finally blocks run, its except Exception blocks don't.  Only in its own
        thread."""
        if not self.dead and self.in_own_thread:
            self.parent = greenlet.getcurrent()
            self.throw(greenlet.GreenletExit)

    @property
    def in_own_thread(self) -> bool:
        return self._thread == threading.get_ident()


def _run(body: Callable[[], Any], outcome: Promise) -> None:
    try:
        outcome.set(body())
    except (Exception, greenlet.GreenletExit) as error:
        outcome.fail(error)
    # KeyboardInterrupt and SystemExit go on into the parent, which is the user's thread


def until_done(promise: Promise) -> None:
    """A program that is driven gives way to the others of its thread meanwhile; any other thread blocks."""
    while not promise.done:
        current = greenlet.getcurrent()
        if isinstance(current, ProgramGreenlet):
            parent = current.parent
            del current
            parent.switch(promise)
        else:
            there = threading.Lock()  # an Event would be a lock and four objects more
            there.acquire()
            promise.add_callback(there.release)
            there.acquire()


def wait(promise: Promise) -> Any:
    """The promise's value, or its error raised."""
    until_done(promise)
    return promise.result()


async def until_done_async(promise: Promise) -> None:
    """The same for a coroutine, on whichever event loop it runs."""
    if promise.done:
        return
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def set_once() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # that loop was closed meanwhile: nobody waits there any more
            loop.call_soon_threadsafe(set_once)

    promise.add_callback(wake)
    await future


async def run_async(body: Callable[[], Any]) -> Any:
    """Run a plain function in this event loop's thread; its waits become awaits.  Cancelling this ends the function
    where it waits."""
    program = ProgramGreenlet(body)
    try:
        waits_for = program.resume()
        while waits_for is not None:
            await until_done_async(waits_for)
            waits_for = program.resume()
    finally:
        program.kill()
    return program.outcome.result()
