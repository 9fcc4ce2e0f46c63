"""A program's model calls, run ahead of the program by the backend, and handed to it when it gets there.

Here: RunAhead (one plan, running on a backend), AheadOfRun (what of it belongs to one run).
Not here: plans (plan), when a run is planned (foresight).  All of it happens on the background loop,
save `start`.

What runs ahead is a forecast.  The program's own code runs as ever, and each of its gens and selects asks here first:
if the plan has a node at this position, with these options, whose prompt was the very one that the program would send,
its output is the program's; otherwise the program asks the backend itself, and what was foreseen wrongly is ended."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Any

from .admission import Requests
from .backends.protocol import Chunk, GenerateRequest, ProgramBackend, ProgramCall, ProgramNews, Prompt, Score
from .loop import loop_thread
from .plan import Plan, Position

__all__ = ["AheadOfRun", "RunAhead", "prompt_digest"]


def prompt_digest(prompt: Prompt) -> bytes:
    """As ProgramNews.digest says."""
    digest = blake2b(digest_size=16)
    for part in prompt:
        if isinstance(part, str):
            data = part.encode()
            digest.update(b"T" + struct.pack("<I", len(data)) + data)
        else:
            digest.update(b"I" + struct.pack(f"<I{len(part)}i", len(part), *part))
    return digest.digest()


class RunAhead:
    """One plan on its way through a backend, for one run or a batch of them."""

    def __init__(
        self, backend: ProgramBackend, plan: Plan, arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> None:
        self._backend, self._plan, self._arguments, self._stream = backend, plan, arguments, stream
        self._call: ProgramCall | None = None
        self._positions = plan.positions
        self.items = [AheadOfRun(self, plan, self._positions, item) for item in range(len(arguments))]

    def start(self) -> None:
        """Any thread."""
        loop_thread().post(lambda: loop_thread().spawn(self._follow()))

    def abort(self, item: int, node: int | None = None) -> None:
        """On the loop."""
        if self._call is not None:
            self._call.abort(item, node)

    async def _follow(self) -> None:
        """Sort the news by run.  An error of the whole is nobody's: each run goes on by itself, and meets it there."""
        try:
            self._call = self._backend.run_program(self._plan.wire(), self._arguments, stream=self._stream)
            async with aclosing(self._call):
                async for news in self._call:
                    self.items[news.item].take(news)
        except Exception:
            pass
        finally:
            self._call = None
            for item in self.items:
                item.end()


class _NodeNews:
    """What came of one node so far."""

    __slots__ = ("alone", "chunks", "closed", "digest", "error", "scores")

    def __init__(self) -> None:
        self.digest = b""
        self.chunks: dict[int, list[Chunk]] = {}
        self.scores: list[Score] | None = None
        self.alone: list[Score] = []
        self.error: Exception | None = None


class AheadOfRun:
    """One run's share of a RunAhead."""

    def __init__(self, ahead: RunAhead, plan: Plan, positions: Mapping[Position, int], item: int) -> None:
        self._ahead, self._plan, self._positions, self._item = ahead, plan, positions, item
        self._forks = plan.forks
        self._news: dict[int, _NodeNews] = {}
        self._changed: asyncio.Event | None = None
        self._over = False

    # ---- what arrives

    def take(self, news: ProgramNews) -> None:
        if news.node < 0:
            self.end()
            return
        node = self._news.setdefault(news.node, _NodeNews())
        node.digest = news.digest or node.digest
        if news.chunk is not None:
            node.chunks.setdefault(news.output, []).append(news.chunk)
        if news.scores is not None:
            node.scores, node.alone = list(news.scores), list(news.alone or ())
        node.error = news.error or node.error
        self._notify()

    def end(self) -> None:
        self._over = True
        self._notify()

    def close(self) -> None:
        """The run is over; any thread.  What it did not ask for is ended."""
        if not self._over:
            loop_thread().post(lambda: None if self._over else self._ahead.abort(self._item))

    # ---- what the run asks for

    async def covers_fork(self, path: tuple[int, ...], number: int) -> bool:
        """Whether branches of this fork run ahead, so that nothing has to be made ready for them.  Told once there is
        news at all: a backend may have refused the whole."""
        if (*path, number) not in self._forks:
            return False
        while not self._news and not self._over:
            await self._wait()
        return bool(self._news)

    async def generate(
        self, backend: Requests, request: GenerateRequest, position: Position, output: int
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of one output: those that came ahead, if they answer this request, else the backend's own."""
        node = self._node("gen", position, lambda more: _same_sampling(more, request, output))
        if node is not None and await self._asked_the_same(node, request.prompt):
            finished = False
            try:
                async for chunk in self._chunks(node, output):
                    finished = chunk.finish_reason is not None
                    yield chunk
                if finished:
                    return
            except GeneratorExit:
                if not finished:
                    self._ahead.abort(self._item, node)
                raise
            except asyncio.CancelledError:
                self._ahead.abort(self._item, node)
                raise
            if self._started(node, output):
                return  # the engine ended half way; who reads this says so
        async with aclosing(backend.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def scores(
        self, prompt: Prompt, choices: Sequence[str], position: Position
    ) -> tuple[list[Score], list[Score]] | None:
        """Scores of the choices after the prompt, and alone where the method needs that; None: none came ahead."""
        node = self._node("select", position, lambda more: more["choices"] == list(choices))
        if node is None:
            return None
        try:
            if not await self._asked_the_same(node, prompt):
                return None
        except asyncio.CancelledError:
            self._ahead.abort(self._item, node)
            raise
        news = self._news[node]
        if news.error is not None:
            raise news.error
        return (news.scores, news.alone) if news.scores is not None else None

    # ---- how

    def _node(self, kind: str, position: Position, fits: Any) -> int | None:
        """The plan's node at this position; None, and that node ended, where it asks for something else."""
        found = self._positions.get(position)
        if found is None:
            return None
        planned = self._plan.nodes[found]
        if planned.kind == kind and fits(planned.more):
            return found
        self._ahead.abort(self._item, found)
        return None

    async def _asked_the_same(self, node: int, prompt: Prompt) -> bool:
        """Whether the node had this prompt, once that can be told; a node that never ran had none."""
        while (news := self._news.get(node)) is None and not self._over:
            await self._wait()
        if news is None:
            return False
        if news.error is not None and not news.digest:
            return True  # it failed before it had one
        if news.digest == prompt_digest(prompt):
            return True
        self._ahead.abort(self._item, node)
        return False

    async def _chunks(self, node: int, output: int) -> AsyncGenerator[Chunk, None]:
        news, position = self._news[node], 0
        while True:
            chunks = news.chunks.get(output, [])
            while position < len(chunks):
                chunk = chunks[position]
                position += 1
                yield chunk
                if chunk.finish_reason is not None:
                    return
            if news.error is not None:
                raise news.error
            if self._over:
                return
            await self._wait()

    def _started(self, node: int, output: int) -> bool:
        return bool(self._news[node].chunks.get(output))

    async def _wait(self) -> None:
        """Until there is news."""
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None


def _same_sampling(more: Mapping[str, Any], request: GenerateRequest, output: int) -> bool:
    """Whether a planned gen asks for what this request asks for, save for the prompt."""
    planned = dict(more["sampling"])
    if output >= planned.pop("n"):
        return False
    if planned.get("seed") is not None:
        planned["seed"] += output
    return planned == request.sampling.to_dict() and bool(more.get("return_logprob")) == request.return_logprob
