"""ProgramCall: one program that runs in the engine, as its caller reads it.

Imported by the Engine facade; no torch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ..errors import ForktreeRuntimeError, InvalidRequest, make_error
from ..sampling_params import require_text
from .client import EngineClient
from .messages import ProgramNews, RunProgram, ScoredChoice, Timing
from .program_plan import ProgramPlan
from .results import Delta, ProgramEvent, Score

MAX_ITEMS = 4096
MAX_OUTPUTS = 2**20  # of one call: each has news, which waits for its reader


class ProgramCall:
    """An asynchronous iterator of ProgramEvents.  The program starts with the first read, and ends with aclose(), or
    when nobody holds this any more."""

    def __init__(
        self,
        client: EngineClient,
        plan: ProgramPlan | Mapping[str, Any],
        arguments: Sequence[Mapping[str, str]],
        *,
        stream: bool,
        cache_salt: str,
    ) -> None:
        plan = plan if isinstance(plan, ProgramPlan) else ProgramPlan.read(plan)
        if not isinstance(arguments, (list, tuple)) or not 1 <= len(arguments) <= MAX_ITEMS:
            raise InvalidRequest("arguments", f"wanted a list of 1 to {MAX_ITEMS:,} items, {{}} where there are none")
        if len(arguments) * plan.num_outputs > MAX_OUTPUTS:
            asked = f"{len(arguments):,} items of {plan.num_outputs:,} outputs each"
            raise InvalidRequest("arguments", f"got {asked}, wanted at most {MAX_OUTPUTS:,} outputs in all")
        items = [plan.check_arguments(item, i) for i, item in enumerate(arguments)]
        require_text("cache_salt", cache_salt)
        self._client = client
        self._message = RunProgram(client.new_id(), plan.nodes, items, stream, plan.whole, cache_salt.encode())
        self._unfinished = len(items)
        self._news: asyncio.Queue[ProgramNews | ForktreeRuntimeError] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._aborted: list[tuple[int | None, int | None]] = []  # before the start
        self._ended = False

    def __del__(self) -> None:
        """On the reader's loop: where a garbage collection runs, somebody may hold the transport."""
        loop: asyncio.AbstractEventLoop | None = getattr(self, "_loop", None)
        if loop is not None and not self._ended:
            with suppress(RuntimeError):  # it was closed
                loop.call_soon_threadsafe(partial(self._client.end_program, self._message.call_id, over=False))

    def __aiter__(self) -> ProgramCall:
        return self

    async def __anext__(self) -> ProgramEvent:
        if self._ended or not self._unfinished:
            await self.aclose()
            raise StopAsyncIteration
        if self._news is None:
            self._start()
        assert self._news is not None
        news = await self._news.get()
        if isinstance(news, ForktreeRuntimeError):
            await self.aclose()
            raise news
        if news.node < 0:
            self._unfinished -= 1
        return _event(news)

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        """End the program, one item of it, or one node of that item and what needs it; the events of the rest go on."""
        if self._news is None:
            self._aborted.append((item, node))
        elif not self._ended:
            self._client.abort_program(self._message.call_id, item, node)

    async def aclose(self) -> None:
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        self._client.end_program(self._message.call_id, over=self._news is None or not self._unfinished)

    def _start(self) -> None:
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[ProgramNews | ForktreeRuntimeError]()
        self._loop, self._news = loop, queue

        def put(news: ProgramNews | ForktreeRuntimeError) -> None:
            with suppress(RuntimeError):  # the reader's loop was closed under it: nobody is left to tell
                loop.call_soon_threadsafe(queue.put_nowait, news)

        self._client.run_program(self._message, put)
        for item, node in self._aborted:
            self.abort(item, node)


def _event(news: ProgramNews) -> ProgramEvent:
    return ProgramEvent(
        item=news.item,
        node=news.node,
        digest=news.digest,
        delta=Delta.of(news.output, news.delta) if news.delta is not None else None,
        scores=_scores(news.scores, news.timing),
        alone=_scores(news.alone, None),
        error=make_error(*news.error) if news.error is not None else None,
    )


def _scores(found: list[ScoredChoice] | None, timing: Timing | None) -> list[Score] | None:
    return None if found is None else [Score(each.token_ids, each.logprobs, timing) for each in found]
