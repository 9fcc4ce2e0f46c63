"""Many programs in one thread.

Here: run_many, the hub that gives the thread to whichever program can go on, and its twin for event loops.
Not here: what a program is (program), how one waits (waiting)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

from .loop import loop_thread
from .waiting import ProgramGreenlet, Promise, until_done_async

__all__ = ["run_coroutines", "run_many", "run_many_async"]

Body = Callable[[], Any]
_AT_ONCE = 32  # programs that go on before the others of an event loop get their turn: some milliseconds


def run_many(bodies: Iterable[Body], limit: int, *, in_order: bool = False) -> Iterator[tuple[int, Promise]]:
    """Run all, at most `limit` at a time; yield index and outcome of each as it ends (in_order: as they stand).

    Leaving early ends the programs that are still running.  May itself run inside a program of another batch."""
    hub = _Hub()
    waiting_in_order: dict[int, Promise] = {}
    next_index = 0
    remaining = enumerate(bodies)
    exhausted = False
    try:
        while not exhausted or hub.running:
            while not exhausted and len(hub.running) + len(waiting_in_order) < limit:
                index, body = next(remaining, (-1, None))
                if body is None:
                    exhausted = True
                else:
                    hub.start(index, body)
            hub.wait()
            for index, outcome in hub.turn():
                if not in_order:
                    yield index, outcome
                    continue
                waiting_in_order[index] = outcome
                while next_index in waiting_in_order:
                    yield next_index, waiting_in_order.pop(next_index)
                    next_index += 1
    finally:
        hub.kill()


async def run_many_async(bodies: Iterable[Body], limit: int) -> AsyncIterator[tuple[int, Promise]]:
    """The same in an event loop, in the order they end: one task drives all, and gives way to others between turns."""
    hub = _Hub()
    remaining = enumerate(bodies)
    exhausted = False
    try:
        while not exhausted or hub.running:
            for _ in range(_AT_ONCE):
                if exhausted or len(hub.running) >= limit:
                    break
                index, body = next(remaining, (-1, None))
                if body is None:
                    exhausted = True
                else:
                    hub.start(index, body)
            await hub.wait_async()
            for ended in hub.turn(_AT_ONCE):
                yield ended
    finally:
        hub.kill()


class _Hub:
    """The programs of one batch, and which of them can go on."""

    def __init__(self) -> None:
        self.running: dict[ProgramGreenlet, int] = {}
        self._ready: deque[ProgramGreenlet] = deque()
        self._idle: Promise | None = None  # the hub waits on it; done by whoever makes a program ready

    def start(self, index: int, body: Body) -> None:
        program = ProgramGreenlet(body)
        self.running[program] = index
        self._ready.append(program)

    def turn(self, most: int | None = None) -> Iterator[tuple[int, Promise]]:
        """Let every program that can go on do so, or `most` of them.  Yields those that end."""
        num_ready = len(self._ready)
        for _ in range(num_ready if most is None else min(most, num_ready)):
            program = self._ready.popleft()
            waits_for = program.resume()
            if waits_for is None:
                yield self.running.pop(program), program.outcome
            else:
                waits_for.add_callback(_Wake(self, program))

    def wait(self) -> None:
        """Until one can go on, if any runs."""
        if self._must_wait():
            self._idle = Promise()
            if not self._ready:  # again: it may have come before _idle was there
                loop_thread().until_done(self._idle)
            self._idle = None

    async def wait_async(self) -> None:
        """The same; the loop gets a turn in any case."""
        if self._must_wait():
            self._idle = Promise()
            if not self._ready:
                await until_done_async(self._idle)
            self._idle = None
        else:
            await asyncio.sleep(0)

    def wake(self, program: ProgramGreenlet) -> None:
        """Any thread."""
        self._ready.append(program)
        idle = self._idle  # once: the hub may take it back in between
        if idle is not None:
            idle.set()

    def kill(self) -> None:
        for program in list(self.running):
            program.kill()
        self.running.clear()

    def _must_wait(self) -> bool:
        return bool(self.running) and not self._ready


class _Wake:
    __slots__ = ("_hub", "_program")

    def __init__(self, hub: _Hub, program: ProgramGreenlet) -> None:
        self._hub, self._program = hub, program

    def __call__(self) -> None:
        self._hub.wake(self._program)


async def run_coroutines(
    bodies: Iterable[Callable[[], Awaitable[Any]]], limit: int
) -> AsyncIterator[tuple[int, Promise]]:
    """The same for coroutines, which need a task each."""
    remaining = enumerate(bodies)
    running: set[asyncio.Task[tuple[int, Promise]]] = set()

    async def run(index: int, body: Callable[[], Awaitable[Any]]) -> tuple[int, Promise]:
        outcome = Promise()
        try:
            outcome.set(await body())
        except Exception as error:
            outcome.fail(error)
        return index, outcome

    try:
        while True:
            while len(running) < limit:
                index, body = next(remaining, (-1, None))
                if body is None:
                    break
                running.add(asyncio.create_task(run(index, body)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
