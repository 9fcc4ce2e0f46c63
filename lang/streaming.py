"""A program whose code runs while its output is read along.

Here: StreamedState, what f.stream returns.  Its body is a greenlet of the thread that called f.stream; whoever reads,
drives it on. Not here: programs that run to their end first (program)."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from .errors import ProgramError
from .executor import Run
from .loop import loop_thread
from .reading import Shared, StateReader
from .waiting import ProgramGreenlet, Promise, first_of, until_done_async

__all__ = ["StreamedState"]


class StreamedState(StateReader):
    """Read it like any state: pieces with text_iter or text_async_iter, whole values with [name]; each drives the
    program as far as needed.

    Dropping it ends the program and what it generates."""

    def __init__(self, shared: Shared, run: Run, body: Callable[[], Any]) -> None:
        super().__init__(shared)
        self._driver = _Driver(body, run)
        weakref.finalize(self, self._driver.close).atexit = False

    def cancel(self) -> None:
        self._driver.close()

    def _body_steps(self, name: str | None) -> Iterator[Promise]:
        driver = self._driver
        while driver.waits_for is not None and (name is None or name not in self._shared.slots):
            yield driver.waits_for
            driver.advance()

    def _until_done(self, promise: Promise) -> None:
        while not promise.done:
            waits_for = self._driver.waits_for
            if waits_for is None:
                loop_thread().until_done(promise)
            else:
                loop_thread().until_done(first_of((promise, waits_for)))
                self._driver.advance()

    async def _until_done_async(self, promise: Promise) -> None:
        loop_thread().refuse_own_thread()
        while not promise.done:
            waits_for = self._driver.waits_for
            if waits_for is None:
                await until_done_async(promise)
            else:
                await until_done_async(first_of((promise, waits_for)))
                self._driver.advance()


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

    def close(self) -> None:
        """End the body where it waits, and stop what it generates."""
        if self.waits_for is not None:
            self._run.cancel("the program was abandoned")
            self._greenlet.kill()
            if self._greenlet.dead:
                self.waits_for = None
