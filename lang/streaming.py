"""A program whose code runs while its output is read along.

Here: StreamedState, what f.stream returns.  Its body is a greenlet of the thread that called f.stream; whoever reads,
drives it on. Not here: programs that run to their end first (program)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .errors import ProgramError
from .executor import Run
from .loop import loop_thread
from .nodes import caller_line
from .reading import Shared, StateReader
from .waiting import ProgramGreenlet, Promise, first_of, until_done_async

__all__ = ["StreamedState"]


class StreamedState(StateReader):
    """Read it like any state: pieces with text_iter or text_async_iter, whole values with [name]; each drives the
    program as far as needed.

    Dropping it ends the program and what it generates; so does cancelling or interrupting whoever waits for it."""

    def __init__(self, shared: Shared, run: Run, body: Callable[[], Any]) -> None:
        super().__init__(shared)
        self._driver = _Driver(body, run)
        weakref.finalize(self, self._driver.close).atexit = False

    def cancel(self) -> None:
        self._driver.close(f"the program was cancelled at {caller_line()}")

    def _body_steps(self, name: str | None) -> Iterator[Promise]:
        driver = self._driver
        while driver.waits_for is not None and (name is None or name not in self._shared.slots):
            yield driver.waits_for
            driver.advance()

    def _let_body_go_on(self) -> None:
        with self._ended_if_interrupted():
            self._driver.advance()

    def _until_done(self, promise: Promise) -> None:
        with self._ended_if_interrupted():
            while not promise.done:
                loop_thread().until_done(self._next_event(promise))
                if not promise.done:  # what is there is read first: the program's code may take its time
                    self._driver.advance()

    async def _until_done_async(self, promise: Promise) -> None:
        loop_thread().refuse_own_thread()
        with self._ended_if_interrupted():
            while not promise.done:
                await until_done_async(self._next_event(promise))
                if not promise.done:
                    self._driver.advance()

    def _next_event(self, promise: Promise) -> Promise:
        """Done when `promise` is, or when the body can go on."""
        waits_for = self._driver.waits_for
        return promise if waits_for is None else first_of((promise, waits_for))

    @contextmanager
    def _ended_if_interrupted(self) -> Iterator[None]:
        """Its traceback may keep this state alive for long, so that waiting to be dropped is not enough."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, Exception):  # CancelledError, KeyboardInterrupt, GreenletExit
                self.cancel()
            raise


class _Driver:
    """Resumes the body whenever what it waits for is there."""

    def __init__(self, body: Callable[[], Any], run: Run) -> None:
        self._greenlet = ProgramGreenlet(body)
        self._run = run
        self.waits_for = self._greenlet.resume()  # None: the body has ended

    def advance(self) -> None:
        while self.waits_for is not None and self.waits_for.done:
            if not self._greenlet.in_own_thread:
                raise ProgramError(
                    "a streamed program is driven by the thread that called stream(): read it there, "
                    "or use astream() in an event loop"
                )
            self.waits_for = self._greenlet.resume()

    def close(self, why: str = "the program was abandoned") -> None:
        """Any thread: stop what it generates; in its own, end the body where it waits."""
        if self.waits_for is not None:
            self._run.cancel(why)
            self._greenlet.kill()
            if self._greenlet.dead:
                self.waits_for = None
