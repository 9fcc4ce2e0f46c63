"""One run of a program: its arguments, its Run and its state; and many at once in an event loop.

Here: Call, which runs the program's code and then whatever that left to do.  Not here: which arguments it gets
(program), what shares a thread (batch)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextvars import Token
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, TypeVar

from .async_state import AsyncState
from .async_streaming import AsyncStreamedState
from .batch import run_coroutines, run_many_async
from .deadlines import start_timer
from .errors import BatchErrors, ProgramCancelled
from .executor import Run, running_run
from .foresight import ITEMS_AT_ONCE, plan_ahead
from .loop import loop_thread
from .operations import Finish
from .state import ProgramState
from .streaming import StreamedState
from .waiting import Promise, run_async, until_done_async

if TYPE_CHECKING:
    from .program import Program

__all__ = ["Call", "arun_all", "bodies_of", "states_of"]

T = TypeVar("T")


class Call:
    """One run of a program: its arguments, its Run and its state."""

    __slots__ = ("_before", "_program", "_stop_timer", "_timeout", "arguments", "group", "run", "state")

    def __init__(
        self, program: Program, arguments: inspect.BoundArguments, run: Run, timeout: float | None = None
    ) -> None:
        self._program, self.arguments, self.run, self._timeout = program, arguments, run, timeout
        self._stop_timer: Callable[[], None] | None = None
        self._before: Token[Run | None] | None = None
        self.group: Group | None = None  # of a batch, with which it is planned ahead
        self.state = (AsyncState if program.is_async else ProgramState).root(run)

    def plan_ahead(self) -> None:
        """With its batch, or by itself."""
        (self.group or Group(self._program, [self])).plan()

    def execute_ahead(self) -> ProgramState:
        self.plan_ahead()
        return self.execute()

    async def arun_ahead(self) -> ProgramState:
        if self.group is None or not self.group.is_planned:
            await run_async(self.plan_ahead)  # which may wait for the backend, and then gives way to the loop
        return await self.arun()

    def execute(self) -> ProgramState:
        """The program's code, in this thread, and then whatever it left to do."""
        shared = self.state._shared
        with self:
            shared.return_value = self._program.func(self.state, *self.arguments.args, **self.arguments.kwargs)
            loop_thread().until_done(self._returned())
            for promise in self._kept_branches():
                loop_thread().until_done(promise)
        self._raise_unseen()
        return self.state

    async def arun(self) -> ProgramState:
        """The same in this event loop; plain code gives way to it at every read."""
        if not self._program.is_async:
            state: ProgramState = await run_async(self.execute)
            return state
        shared = self.state._shared
        with self:
            shared.return_value = await self._program.func(self.state, *self.arguments.args, **self.arguments.kwargs)
            await until_done_async(self._returned())
            for promise in self._kept_branches():
                await until_done_async(promise)
        self._raise_unseen()
        return self.state

    def __enter__(self) -> None:
        """Around the program's code and the end of what it left: whatever leaves this, nothing goes on running."""
        run, outer = self.run, running_run.get()
        if outer is not None:
            outer.takes_along(run)
        if self._timeout is not None:
            self._stop_timer = start_timer(self._timeout, partial(run.expire, self._timeout, self._program.name))
        self._before = running_run.set(run)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            shared = self.state._shared
            ended_from_outside = not isinstance(error, Exception)  # GreenletExit, KeyboardInterrupt, CancelledError
            why = self.run.cancelled or "the program was abandoned"
            shared.body_error = ProgramCancelled(why) if ended_from_outside else error
            shared.closed = f"program {self._program.name!r} has failed"
            self.run.cancel(f"program {self._program.name!r} raised {type(error).__name__}")
        self.run.over = f"program {self._program.name!r} has {'failed' if error is not None else 'returned'}"
        if self._before is not None:
            running_run.reset(self._before)
        if self.run.events is not None:
            self.run.events.close()
        if self._stop_timer is not None:
            self._stop_timer()
        self.leave_ahead()

    def _returned(self) -> Promise:
        self.state._shared.roles.program_ends(self._program.name)
        return self.state._shared.end(f"program {self._program.name!r} has returned")

    def _kept_branches(self) -> Iterator[Promise]:
        """Branches that were not joined and that somebody can still read, a variable for one, end with the run."""
        for branch in self.run.branches():
            if branch.fork is not None and not branch.settled:
                done = Finish(branch, last=False)
                branch.ask(done)
                yield done

    def _raise_unseen(self) -> None:
        unseen = self.run.unseen_error()
        if unseen is not None:
            self.state._shared.body_error = unseen
            raise unseen

    def leave_ahead(self) -> None:
        """What runs ahead of this run is wanted no more."""
        ahead, self.run.ahead = self.run.ahead, None
        if ahead is not None:
            ahead.close()

    def stream(self) -> StreamedState:
        return StreamedState(self.state._shared, self.run, self._body)

    def astream(self) -> AsyncStreamedState:
        async def body() -> None:
            try:
                await self.arun()
            finally:
                self._close()

        return AsyncStreamedState(self.state._shared, self.run, body)

    def _body(self) -> None:
        try:
            self.execute()
        finally:
            self._close()

    def _close(self) -> None:
        shared = self.state._shared
        if shared.closed is None:
            shared.closed = f"program {self._program.name!r} has ended"


class Group:
    """Runs whose model calls are planned together: by the first of them, while the others wait."""

    def __init__(self, program: Program, calls: Sequence[Call]) -> None:
        self.calls = calls
        self._program = program
        self._begun = False
        self._planned = Promise()

    @property
    def is_planned(self) -> bool:
        return self._planned.done

    def plan(self) -> None:
        if self._begun:
            loop_thread().until_done(self._planned)
            return
        self._begun = True
        try:
            plan_ahead(self._program, [(call.run, call.arguments) for call in self.calls])
        finally:
            self._planned.set()


async def arun_all(program: Program, calls: Sequence[Call], limit: int, return_errors: bool) -> list[ProgramState]:
    outcomes: list[Promise | None] = [None] * len(calls)
    if program.is_async:
        ended = run_coroutines(bodies_of(program, calls, limit, Call.arun_ahead), limit)
    else:
        ended = run_many_async(bodies_of(program, calls, limit, Call.execute_ahead), limit)
    async for index, outcome in ended:
        outcomes[index] = outcome
    return states_of(calls, outcomes, return_errors)


def bodies_of(
    program: Program, calls: Sequence[Call], limit: int, run: Callable[[Call], T]
) -> Iterator[Callable[[], T]]:
    """What a batch runs, in groups that are planned ahead together: of no more than may be in flight."""
    size = min(limit, ITEMS_AT_ONCE)
    for first in range(0, len(calls), size):
        group = Group(program, calls[first : first + size])
        for call in group.calls:
            call.group = group
        try:
            # methods, not partials: those would keep half a kilobyte more of the C stack of every program that waits
            yield from (MethodType(run, call) for call in group.calls)
        except GeneratorExit:  # the batch was left: some have not begun, and never will
            for call in group.calls:
                call.leave_ahead()
            raise


def states_of(calls: Sequence[Call], outcomes: Sequence[Promise | None], return_errors: bool) -> list[ProgramState]:
    errors = {index: outcome.error for index, outcome in enumerate(outcomes) if outcome is not None and outcome.error}
    states = [call.state for call in calls]
    if errors and not return_errors:
        raise BatchErrors(errors, states)
    return states
