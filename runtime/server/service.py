"""What every route shares: the engine, who is being served now, and whether new work is taken.

Here: admission, running engine requests for one HTTP request and following them, abort, draining.
Not here: any wire format, text (prompts.py).  One event loop owns all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar

from ..errors import InvalidRequest
from ..observe.metrics import ServerMetrics
from .config import ServerConfig
from .errors import Refused
from .exchange import Choice, Exchange, Job

if TYPE_CHECKING:
    from ..engine.program_plan import ProgramPlan
    from ..engine.results import Delta, ProgramEvent
    from .engine_api import ProgramCall, ServingEngine

T = TypeVar("T")
State = Literal["loading", "ready", "draining", "stopping"]
ABORT_GRACE_SECONDS = 2.0


class Service:
    """The server's state: loading -> ready -> draining -> stopping.  In `ready` only is new work taken."""

    def __init__(self, config: ServerConfig, engine: ServingEngine | None = None) -> None:
        self.config = config
        self.metrics = ServerMetrics()
        self.state: State = "loading"
        self.started = time.time()
        self._engine: ServingEngine | None = None
        self._live: dict[str, str] = {}  # engine request id -> the id the client knows it by
        self._programs: dict[str, ProgramCall] = {}  # by the id the client knows it by
        self._num_admitted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        if engine is not None:
            self.ready(engine)

    def ready(self, engine: ServingEngine) -> None:
        """The model is loaded."""
        self._engine = engine
        self.metrics.name_model(self.model_name)
        if self.state == "loading":
            self.state = "ready"

    @property
    def engine(self) -> ServingEngine:
        """The engine, or the 503 that says why there is none."""
        if self._engine is None:
            raise Refused(503, "The model is still being loaded.", "model_loading", retry_after=2)
        if not self._engine.is_alive:
            raise Refused(503, "The engine process has ended.", "engine_dead", retry_after=5)
        return self._engine

    @property
    def model_name(self) -> str:
        return self.config.served_model_name or self.engine.info.name

    def check_model(self, name: str | None) -> None:
        """Clients must name a model; `default` is this one, whatever it is."""
        if name not in (None, "", "default", self.model_name, self.engine.info.name):
            shown = str(name)[:64]
            message = f"The model {shown!r} does not exist. This server has {self.model_name!r}."
            raise Refused(404, message, "model_not_found", param="model")

    # Admission and the end

    @contextmanager
    def admitted(self) -> Iterator[ServingEngine]:
        """New work, or 503. Draining waits for everything inside."""
        if self.state in ("draining", "stopping"):
            raise Refused(503, "The server is shutting down.", "shutting_down", retry_after=5)
        engine = self.engine
        self._num_admitted += 1
        self._idle.clear()
        try:
            yield engine
        finally:
            self._num_admitted -= 1
            if not self._num_admitted:
                self._idle.set()

    async def drain(self, seconds: float) -> bool:
        """Take no new work and wait for the running; whether all of it finished in time. What did not is aborted."""
        self.state = "draining"
        if await _within(self._idle.wait(), seconds):
            return True
        self.state = "stopping"
        if self._engine is not None and self._engine.is_alive:
            for request_id in list(self._live):
                self._engine.abort(request_id)
            for program in self._programs.values():
                program.abort()
        await _within(self._idle.wait(), ABORT_GRACE_SECONDS)
        return False

    def abort(self, client_id: str | None) -> int:
        """Abort the requests and the program a client knows by this id, or all (None); how many. Unknown ids are no
        error."""
        found = [live for live, known_as in self._live.items() if client_id in (None, known_as, live)]
        for request_id in found:
            self.engine.abort(request_id)
        programs = [call for known_as, call in self._programs.items() if client_id in (None, known_as)]
        for call in programs:
            call.abort()
        return len(found) + len(programs)

    def is_live(self, request_id: str) -> bool:
        return request_id in self._live

    # Generation

    async def run(
        self, jobs: Sequence[Job], exchange: Exchange, known_as: str
    ) -> AsyncGenerator[tuple[int, Delta], None]:
        """Deltas of all jobs as they come, each with its job's index. Closing it aborts what still runs."""
        if len(jobs) == 1:
            async with aclosing(self._follow(jobs[0], exchange, known_as)) as deltas:
                async for delta in deltas:
                    yield 0, delta
            return
        async with aclosing(_merged([self._follow(job, exchange, known_as) for job in jobs])) as merged:
            async for item in merged:
                yield item

    async def collect(self, jobs: Sequence[Job], exchange: Exchange, known_as: str) -> list[list[Choice]]:
        """All choices of all jobs, finished."""
        done = [[Choice() for _ in range(job.params.n)] for job in jobs]
        async with aclosing(self.run(jobs, exchange, known_as)) as deltas:
            async for i, delta in deltas:
                done[i][delta.index].add(delta)
        return done

    # Programs

    async def run_program(
        self, program_id: str, plan: ProgramPlan, arguments: Sequence[Mapping[str, str]], *, stream: bool, salt: str
    ) -> AsyncGenerator[ProgramEvent, None]:
        """Events of a program as they come. Closing it ends the program."""
        if program_id in self._programs:
            raise InvalidRequest("program_id", "a program with this id is running", "duplicate_id")
        call = self.engine.arun_program(plan, arguments, stream=stream, cache_salt=salt)
        self._programs[program_id] = call
        try:
            async for event in call:
                if event.delta is not None:
                    self.metrics.count_output(event.delta)
                if event.node < 0 and self.state == "stopping":  # it may have ended before its end
                    raise Refused(503, "The server is shutting down.", "shutting_down", retry_after=5)
                yield event
        finally:
            del self._programs[program_id]
            await call.aclose()

    def abort_program(self, program_id: str, item: int | None, node: int | None) -> bool:
        """End a program or a part of it; whether there is one of this id."""
        call = self._programs.get(program_id)
        if call is not None:
            call.abort(item, node)
        return call is not None

    async def _follow(self, job: Job, exchange: Exchange, known_as: str) -> AsyncGenerator[Delta, None]:
        """One engine request: live until it ends, counted however it ends."""
        if job.request_id in self._live:
            raise InvalidRequest("rid", "a request with this id is running", "duplicate_id")
        timer = self.metrics.observe(exchange.arrived)
        exchange.timers.append(timer)
        self._live[job.request_id] = known_as
        outcome = "error"
        deltas = self.engine.astream(
            job.prompt,
            job.params,
            return_logprob=job.return_logprob,
            logprob_start_len=job.logprob_start_len,
            top_logprobs_num=job.top_logprobs_num,
            cache_salt=job.cache_salt,
            request_id=job.request_id,
        )
        try:
            async with aclosing(deltas):
                async for delta in deltas:
                    timer.prompt(delta.usage.prompt_tokens, delta.usage.cached_tokens)
                    timer.tokens(delta.index, len(delta.token_ids), delta.finish_reason)
                    if delta.finish_reason == "abort" and self.state == "stopping":
                        raise Refused(503, "The server is shutting down.", "shutting_down", retry_after=5)
                    yield delta
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "abort"  # the client has left
            raise
        finally:
            del self._live[job.request_id]
            timer.finish(outcome)


async def _within(awaitable: Awaitable[object], seconds: float) -> bool:
    """Whether it finished in time."""
    try:
        await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        return False
    return True


async def _merged(sources: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """Items of all sources as they come, with the source's index. The first error ends them all."""
    queue: asyncio.Queue[tuple[int, T] | BaseException | None] = asyncio.Queue(maxsize=256)

    async def pump(i: int, source: AsyncGenerator[T, None]) -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put((i, item))
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(pump(i, source)) for i, source in enumerate(sources)]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
