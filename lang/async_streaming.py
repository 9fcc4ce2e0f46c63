"""An `async def` program whose code runs while its output is read along.

Here: AsyncStreamedState, what f.astream returns for such a program.  Its body is a task of the event loop that called
f.astream. Not here: plain programs (streaming), async programs that run to their end first (program)."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Awaitable, Callable, Iterator

from .async_state import AsyncReader
from .executor import Run
from .nodes import caller_line
from .reading import Shared
from .waiting import Promise, first_of

__all__ = ["AsyncStreamedState"]


class AsyncStreamedState(AsyncReader):
    """Read it piece by piece with text_async_iter, or whole values with read(name).

    Dropping it ends the program and what it generates; so does cancelling whoever waits for it."""

    def __init__(self, shared: Shared, run: Run, body: Callable[[], Awaitable[object]]) -> None:
        super().__init__(shared)
        self._body = _Body(body, run)
        weakref.finalize(self, self._body.end, "the program was abandoned").atexit = False

    def cancel(self) -> None:
        self._body.end(f"the program was cancelled at {caller_line()}")

    async def read_value(self) -> object:
        """What the program's function returned, once it has."""
        await self._run_body_async(None)
        return self.ret_value

    def _body_steps(self, name: str | None) -> Iterator[Promise]:
        """A variable that the body defines is looked for whenever the program's text has grown."""
        ended, feed = self._body.ended, self._shared.branch.feed
        assert feed is not None
        while not ended.done and (name is None or name not in self._shared.slots):
            if name is None or feed.closed:
                yield ended
            else:
                yield first_of((ended, feed.changed(len(feed.pieces))))

    async def _until_done_async(self, promise: Promise) -> None:
        try:
            await super()._until_done_async(promise)
        except asyncio.CancelledError:  # its traceback may keep this state alive for long: waiting to be dropped is
            self._body.end("the program was abandoned")  # not enough
            raise


class _Body:
    """The task, and how it ends."""

    def __init__(self, body: Callable[[], Awaitable[object]], run: Run) -> None:
        self.ended = ended = Promise()
        self._run = run
        self._loop = asyncio.get_running_loop()

        async def until_its_end() -> None:
            try:
                with contextlib.suppress(Exception):  # the state has it, and raises it where it is read
                    await body()
            finally:
                ended.set()

        self._task = self._loop.create_task(until_its_end())

    def end(self, why: str) -> None:
        """Any thread."""
        if not self.ended.done:
            self._run.cancel(why)
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks are gone
                self._loop.call_soon_threadsafe(self._task.cancel)
