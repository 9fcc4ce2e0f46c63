"""Not more requests at a time than a backend likes: the others wait here, in the order they came.

Here: admitted, which puts the queue of its backend before it.  Not here: how many a backend takes (its
`max_in_flight`).  Imported by the executor.

A request waits for nothing but requests that are already running, so programs that hold one never wait for each other,
however their forks are nested.  All of it happens on the background loop."""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from .backends.protocol import Backend, Chunk, GenerateRequest, Prompt, Score

__all__ = ["Requests", "admitted"]


def admitted(backend: Backend) -> Requests:
    """The backend's calls, each when its turn has come; the backend itself if it says no bound."""
    limit = getattr(backend, "max_in_flight", None)
    return backend if limit is None else _Admitted(backend, limit)


class Requests(Protocol):
    """The calls of a Backend that make work for it."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]: ...

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]: ...

    async def commit(self, prompt: Prompt) -> None: ...


class _Admitted:
    __slots__ = ("_backend", "_limit")

    def __init__(self, backend: Backend, limit: int) -> None:
        self._backend, self._limit = backend, limit

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        async with self._turn(), aclosing(self._backend.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        async with self._turn():
            return await self._backend.score(prompt, continuations)

    async def commit(self, prompt: Prompt) -> None:
        async with self._turn():
            await self._backend.commit(prompt)

    def _turn(self) -> _Line:
        line = _lines.get(id(self._backend))
        if line is None:
            line = _lines[id(self._backend)] = _Line(self._backend, self._limit)
        return line


class _Line:
    """The requests of one backend: how many run, and who waits.  `async with line` is one request."""

    __slots__ = ("_backend", "_limit", "_num_running", "_waiting")

    def __init__(self, backend: Backend, limit: int) -> None:
        self._backend, self._limit = backend, limit
        self._num_running = 0
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()  # one that is cancelled leaves at once

    async def __aenter__(self) -> None:
        if self._num_running < self._limit:
            self._num_running += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting.pop(turn, None)
            else:  # its turn came in the same moment
                self._pass_on()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popitem(last=False)
            if not turn.done():
                turn.set_result(None)
                return
        self._num_running -= 1
        if not self._num_running:
            del _lines[id(self._backend)]


_lines: dict[int, _Line] = {}  # by the id of the backend, which its line keeps alive; only while something runs

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lines.clear)  # what ran there does not run here
