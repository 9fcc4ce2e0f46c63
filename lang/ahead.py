"""A program's model calls, run ahead of the program by the backend, and handed to it when it gets there.

Here: RunAhead (one plan, running on a backend), AheadOfRun (what of it belongs to one run).
Not here: plans (plan), when a run is planned (foresight).  All of it happens on the background loop,
save `start`.

What runs ahead is a forecast.  The program's own code runs as ever, and each of its gens and selects asks here first:
if the plan has a node at this position, with these options, whose prompt was the very one that the program would send,
its output is the program's; otherwise the program asks the backend itself, and what was foreseen wrongly is ended."""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Any

from .admission import Requests
from .backends.protocol import Chunk, GenerateRequest, ProgramBackend, ProgramCall, ProgramNews, Prompt, Score
from .errors import BackendError
from .loop import loop_thread
from .plan import Plan, Position

__all__ = ["AheadOfRun", "RunAhead", "prompt_digest"]

log = logging.getLogger("forktree.lang")


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
        self._task: asyncio.Task[None] | None = None
        positions = plan.positions
        self.items = [AheadOfRun(self, plan, positions, item) for item in range(len(arguments))]
        self._num_open = len(self.items)

    def start(self) -> None:
        """Any thread."""
        loop_thread().post(self._begin)

    # ---- on the loop

    def abort(self, item: int, node: int | None = None) -> None:
        if self._call is not None:
            self._call.abort(item, node)

    def leave(self, item: int) -> None:
        """This run wants nothing more; when none does the whole is ended."""
        self._num_open -= 1
        if self._num_open:
            self.abort(item)
        elif self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        try:
            self._call = self._backend.run_program(self._plan.wire(), self._arguments, stream=self._stream)
        except Exception as error:
            self._end(error)
        else:
            self._task = loop_thread().spawn(self._follow(self._call))

    async def _follow(self, call: ProgramCall) -> None:
        """Sort the news by run."""
        error: Exception | None = None
        try:
            async with aclosing(call):
                async for news in call:
                    self.items[news.item].take(news)
        except Exception as failure:
            error = failure
        finally:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        """An error of the whole is told to whom it leaves with half an output.  The others go on by themselves, and
        meet it there if it is there."""
        if error is not None:
            known = isinstance(error, BackendError)
            level = logging.INFO if known else logging.ERROR  # what a backend says, a run hears when it asks by itself
            log.log(level, "a program was not run ahead to its end: %s", error, exc_info=None if known else error)
        self._call = None
        for item in self.items:
            item.end(error)


class _NodeNews:
    """What came of one node so far."""

    __slots__ = ("alone", "chunks", "digest", "error", "scores")

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
        self._lost: set[int] = set()  # nodes that won't run to their end: given up, or after one that failed
        self._changed: asyncio.Event | None = None
        self._over = self._closed = False
        self._why: Exception | None = None  # it is over before its end

    # ---- what arrives

    def take(self, news: ProgramNews) -> None:
        if self._closed:
            return
        if news.node < 0:
            self.end(None)
            return
        node = self._news.setdefault(news.node, _NodeNews())
        node.digest = news.digest or node.digest
        if news.chunk is not None:
            node.chunks.setdefault(news.output, []).append(news.chunk)
        if news.scores is not None:
            node.scores, node.alone = list(news.scores), list(news.alone or ())
        if news.error is not None:
            node.error = news.error
            self._lose(self._plan.dependents[news.node])
        self._notify()

    def end(self, error: Exception | None) -> None:
        if not self._over:
            self._over, self._why = True, error
            self._notify()

    def close(self) -> None:
        """The run is over; any thread.  What it did not ask for is ended, and what came for it is let go."""
        loop_thread().post(self._close)

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ahead.leave(self._item)
            self._news.clear()
            self.end(None)

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
        if node is not None and (news := await self._news_of(node, request.prompt)) is not None:
            chunks = news.chunks.setdefault(output, [])
            num_taken, finished = 0, False
            try:
                while not finished:
                    if num_taken < len(chunks):
                        chunk = chunks[num_taken]
                        num_taken += 1
                        finished = chunk.finish_reason is not None
                        yield chunk
                    elif news.error is not None:
                        raise news.error
                    elif self._over:
                        break
                    else:
                        await self._wait()
            finally:
                if not finished and not self._over and news.error is None:  # nobody reads on
                    self._give_up(node)
                chunks.clear()
            if finished:
                return
            if num_taken:
                raise self._why or BackendError("the engine ended half way through an output")
        async with aclosing(backend.generate(request)) as own:
            async for chunk in own:
                yield chunk

    async def scores(
        self, prompt: Prompt, choices: Sequence[str], position: Position
    ) -> tuple[list[Score], list[Score]] | None:
        """Scores of the choices after the prompt, and alone where the method needs that; None: none came ahead."""
        node = self._node("select", position, lambda more: more["choices"] == list(choices))
        if node is None or (news := await self._news_of(node, prompt)) is None:
            return None
        try:
            while news.scores is None and news.error is None and not self._over:
                await self._wait()
        except asyncio.CancelledError:
            self._give_up(node)
            raise
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
        self._give_up(found)
        return None

    async def _news_of(self, node: int, prompt: Prompt) -> _NodeNews | None:
        """Of a node that had this prompt, once that can be told.  None: it had another, or failed before it had one."""
        try:
            while (news := self._news.get(node)) is None and not self._over and node not in self._lost:
                await self._wait()
        except asyncio.CancelledError:
            self._give_up(node)
            raise
        if news is not None and news.digest == prompt_digest(prompt):
            return news
        if news is not None:
            self._give_up(node)
        return None

    def _give_up(self, node: int) -> None:
        """It is not what the program asks for, and so is nothing that needs it."""
        if node not in self._lost:
            self._lose([node])
            self._ahead.abort(self._item, node)

    def _lose(self, nodes: Sequence[int]) -> None:
        stack = list(nodes)
        while stack:
            if (node := stack.pop()) not in self._lost:
                self._lost.add(node)
                stack += self._plan.dependents[node]
        self._notify()

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
    if planned != request.sampling.to_dict() or bool(more.get("return_logprob")) != request.return_logprob:
        return False
    if not request.return_logprob:
        return True
    return (more["logprob_start_len"], more["top_logprobs_num"]) == (
        request.logprob_start_len,
        request.top_logprobs_num,
    )
