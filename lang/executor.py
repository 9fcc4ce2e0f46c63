"""Runs the operations of a branch, in order, on the background loop.

Here: Run (what the branches of one program share), Branch (one ordered queue, one text), and what happens when one of
its operations fails. Not here: the operations themselves (operations), user code (state).  Imported by state and
operations.

A Branch lives on two sides.  Any thread: submit, cancel.  The loop: everything else.  It holds no reference to what
users hold, so that a state nobody can read any more is found out, and its generation stopped."""

from __future__ import annotations

import asyncio
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Protocol

from .admission import admitted
from .ahead import AheadOfRun
from .backends.protocol import EVERYTHING, Backend, Capabilities, ModelInfo, Place, Prompt, asked_from
from .chat import Conversation
from .deadlines import within
from .errors import DeadlineExceeded, GenerationError, ProgramCancelled, ProgramError
from .events import EventLog
from .failures import unseen_error
from .feed import Feed
from .loop import loop_thread
from .meta import Observed
from .nodes import Fork, Gen, Node, Select, SourceLine
from .options import SamplingOptions
from .prompt import BranchText
from .typed_values import TypedReader
from .waiting import Promise

__all__ = ["Branch", "Operation", "Run", "Slot", "running_run"]

_process_tag = os.urandom(6).hex()
_run_numbers = itertools.count(1)


class Slot(Promise):
    """A variable: known from the moment its node is submitted, done when it has its value."""

    __slots__ = ("feed", "meta", "reader")

    def __init__(self, *, stream: bool = False) -> None:
        super().__init__()
        self.meta: dict[str, Any] | None = None
        self.reader: TypedReader | None = None  # of a typed gen: what was set is text, and read as a value of its type
        self.feed: Feed | None = Feed() if stream else None

    def result(self) -> Any:
        value = super().result()
        return value if self.reader is None else self.reader.value(value, self.meta)

    def text(self) -> str:
        """What was generated, whatever it is read as."""
        return str(super().result())

    def fail(self, error: BaseException) -> None:
        super().fail(error)
        if self.feed is not None:
            self.feed.close(error)

    def set_constant(self, value: Any) -> None:
        """A value that did not come in pieces."""
        self.set(value)
        if self.feed is not None:
            self.feed.push(str(value))
            self.feed.close()


class Operation(Protocol):
    @property
    def node(self) -> Node | None:
        """What the user wrote, for errors."""

    def perform(self, branch: Branch) -> Coroutine[Any, Any, None] | None:
        """Do it on the loop, or return what is to be awaited.  An exception fails the branch."""

    def abandon(self, error: BaseException) -> None:
        """It will not be done, or failed half way: tell whoever waits for it."""


class Run:
    """One run of a program: its backend, its options, its branches."""

    __slots__ = (
        "__weakref__",
        "_branches",
        "_ended",
        "_inner",
        "_most_branches",
        "_num_requests",
        "ahead",
        "backend",
        "cancelled",
        "capabilities",
        "disturbed",
        "events",
        "id",
        "limits",
        "model",
        "observed",
        "options",
        "over",
        "requests",
        "stream",
        "tells_places",
    )

    def __init__(self, backend: Backend, options: SamplingOptions, *, stream: bool) -> None:
        self.backend, self.options, self.stream = backend, options, stream
        self.events = EventLog() if stream else None
        self.id = f"{_process_tag}-{next(_run_numbers)}"
        self.model: ModelInfo | None = None  # asked for when a role needs it
        self.ahead: AheadOfRun | None = None  # its model calls, where the backend runs them ahead of the program
        self.capabilities = backend.capabilities
        self.limits: Capabilities | None = None if self.capabilities == EVERYTHING else self.capabilities
        self.requests = admitted(backend)  # its calls that make work
        self.tells_places: bool = getattr(backend, "wants_places", False)
        self.cancelled: str | None = None  # why
        self.disturbed = False  # something has failed, or somebody wants it to end
        self._branches: list[weakref.ref[Branch]] = []  # by order of birth
        self._most_branches = 16  # before those that are gone are taken out
        self.observed: dict[tuple[tuple[int, ...], int], Observed] | None = None  # by plan.Position; for explain
        self.over: str | None = None  # why nothing can be added to any of its branches any more
        self._inner: weakref.WeakSet[Run] | None = None  # started by this program's code; most have none
        self._ended: Callable[[Branch], BaseException] | None = None  # from outside, and with what
        self._num_requests = 0

    def add(self, branch: Branch) -> None:
        if len(self._branches) >= self._most_branches:
            self._branches = [each for each in self._branches if each() is not None]
            self._most_branches = 2 * len(self._branches) + 16
        self._branches.append(weakref.ref(branch))

    def next_request_id(self) -> str:
        self._num_requests += 1
        return f"{self.id}-{self._num_requests}"

    async def fetch_model(self) -> ModelInfo:
        if self.model is None:
            self.model = await self.backend.model_info()
        return self.model

    def cancel(self, why: str) -> None:
        """Any thread: end all branches, and the runs that this program has started in its code."""
        self.cancelled, self.disturbed = self.cancelled or why, True
        loop_thread().post(lambda: self.end(lambda branch: ProgramCancelled(why)))

    def takes_along(self, inner: Run) -> None:
        """Any thread: from here on `inner` ends when this run is ended."""

        def take() -> None:
            if self._ended is not None:
                inner.end(self._ended)
            elif self._inner is None:
                self._inner = weakref.WeakSet((inner,))
            else:
                self._inner.add(inner)

        loop_thread().post(take)

    def expire(self, seconds: float, program: str) -> None:
        """On the loop: the time of the whole run is up."""

        def error(branch: Branch) -> DeadlineExceeded:
            node = branch.node
            at = f": {node.label} at {node.source} was not done" if node is not None else ""
            return DeadlineExceeded(f"program {program!r} did not end within its {seconds:g} s{at}", node)

        self.end(error)

    def end(self, error: Callable[[Branch], BaseException]) -> None:
        """On the loop: fail every branch with its error."""
        self._ended = error
        if self.ahead is not None:
            self.ahead.close()
        for branch in self.branches():
            branch.fail(error(branch))
        for inner in list(self._inner or ()):
            inner.end(error)

    def end_below(self, top: Branch, error: BaseException) -> None:
        """On the loop: fail this branch and those that were forked from it.  One that it has yet to fork fails with
        its fork."""
        for branch in self.branches():
            if branch is top or (top.path and branch.path[: len(top.path)] == top.path):
                branch.fail(error)

    def branches(self) -> list[Branch]:
        """Those that somebody can still read, the oldest first."""
        return [branch for each in self._branches if (branch := each()) is not None]

    def unseen_error(self) -> BaseException | None:
        """What went wrong and nobody was told."""
        return unseen_error(self.branches()) if self.disturbed else None


running_run: ContextVar[Run | None] = ContextVar("forktree_running_run", default=None)
"""The run whose program's code runs here: runs that it starts use its backend and end with it."""


class Branch:
    """One branch of a program: what it has written so far, and what it has still to do.

    What is queued is done in order, and the loop does it in one go as far as nothing has to be awaited; a task goes on
    from there.  Whether the other side has seen something is told without locks: each side first writes what it has to
    say and then reads what the other has said."""

    __slots__ = (
        "__weakref__",
        "_active",
        "_gated",
        "_inbox",
        "_interruptible",
        "_keep_alive",
        "_num_done",
        "_posted",
        "_task",
        "conversation",
        "error",
        "error_seen",
        "feed",
        "fork",
        "fork_start",
        "node",
        "num_nodes",
        "path",
        "run",
        "settled",
        "text",
    )

    def __init__(self, run: Run, *, fork: tuple[Fork, int] | None = None, keep_alive: object = None) -> None:
        self.run = run
        self.fork = fork  # which branch of which fork; None: the program's own
        self.text = BranchText() if fork is None else _NO_TEXT
        self.conversation = Conversation() if fork is None else _NO_CONVERSATION
        self.path: tuple[int, ...] = ()  # where in the tree of forks
        self.fork_start = 0  # characters: where it parted from its parent
        self.num_nodes = 0  # gens, selects and forks so far
        self.error: BaseException | None = None
        self.error_seen = False  # somebody was told
        self.node: Node | None = None  # what it waits for the backend to do
        self.settled = False  # the program has ended and nothing is left to do
        self.feed: Feed | None = Feed() if run.stream else None
        self._keep_alive = keep_alive  # the parent, which must get as far as the fork
        self._gated = fork is not None  # until the parent gets there
        self._inbox: list[Any] = []  # text and operations; what is done is None
        self._num_done = 0  # of the inbox
        self._active = False  # the loop is at it
        self._posted = False  # and if not, it has been told to
        self._task: asyncio.Task[None] | None = None
        self._interruptible = False  # the task awaits the backend
        run.add(self)

    # ---- any thread

    def submit(self, operation: str | Operation, *, start: bool = True) -> None:
        """Queue text or an operation; with start=False it is done together with the next one that starts."""
        self._inbox.append(operation)
        if start and not (self._active or self._gated or self._posted):
            self._posted = True
            loop_thread().post(self._start)

    def ask(self, operation: Operation) -> None:
        """submit, for an operation that only looks: where nothing is left to do before it, and nothing is about to end
        the run, it need not wait for the loop."""
        if self._gated or self._num_done < len(self._inbox) or self.run.disturbed:
            self.submit(operation)
        else:
            operation.perform(self)

    def cancel(self, why: str) -> None:
        if not self.settled:
            self.run.disturbed = True
            loop_thread().post(lambda: self.fail(ProgramCancelled(why)))

    def cancel_below(self, why: str) -> None:
        """It and the branches that were forked from it."""
        self.run.disturbed = True
        loop_thread().post(lambda: self.run.end_below(self, ProgramCancelled(why)))

    def child(self, node: Fork, index: int, keep_alive: object) -> Branch:
        """A branch that begins where `node`, submitted after this, stands."""
        return Branch(self.run, fork=(node, index), keep_alive=keep_alive)

    def joined(self, children: list[Branch], source: SourceLine) -> None:
        """The program has waited for these branches; a trace keeps that (trace)."""

    # ---- on the loop

    def _start(self) -> None:
        self._posted = False
        if not self._active and not self._gated:
            self._active = True
            coroutine = self._advance()
            if coroutine is not None:
                self._task = asyncio.get_running_loop().create_task(self._follow(coroutine))
                loop_thread().tasks.add(self._task)

    def _advance(self) -> Coroutine[Any, Any, None] | None:
        """Do what is queued; stop at what has to be awaited, and return that."""
        inbox = self._inbox
        while inbox:
            while self._num_done < len(inbox):
                operation = inbox[self._num_done]
                if type(operation) is str:
                    if self.error is None:
                        self.write(operation)
                elif self.error is not None:
                    operation.abandon(self.error)
                else:
                    try:
                        coroutine: Coroutine[Any, Any, None] | None = operation.perform(self)
                    except BaseException as error:
                        self._failed_at(operation, error)
                    else:
                        if coroutine is not None:
                            return coroutine
                self._tick_off()
            num_done, self._num_done = self._num_done, 0  # first, so that `ask` never takes what is left for done
            del inbox[:num_done]
            self._active = False
            if not inbox:
                break
            self._active = True  # something came in between
        return None

    async def _follow(self, coroutine: Coroutine[Any, Any, None] | None) -> None:
        """Await what the first operation of the inbox returned, and go on."""
        while coroutine is not None:
            operation: Operation = self._inbox[self._num_done]
            node = operation.node
            seconds = node.timeout if isinstance(node, Gen | Select) else None
            try:
                self.node, self._interruptible = node, True
                if self.error is not None:  # it failed before this task began
                    coroutine.close()
                    operation.abandon(self.error)
                elif seconds is None or node is None:
                    await coroutine
                else:
                    await within(seconds, coroutine, node)
            except asyncio.CancelledError:
                operation.abandon(self._failed(ProgramCancelled("the program was cancelled")))
            except GeneratorExit:  # the loop itself is gone
                raise
            except BaseException as error:  # SystemExit, or pytest.fail in a script: somebody waits for this one too
                self._failed_at(operation, error)
            finally:
                self.node, self._interruptible = None, False
            self._tick_off()
            coroutine = self._advance()
        if self._task is not None:
            loop_thread().tasks.discard(self._task)
            self._task = None

    def _tick_off(self) -> None:
        self._inbox[self._num_done] = None
        self._num_done += 1

    def _failed_at(self, operation: Operation, error: BaseException) -> None:
        node = operation.node
        if not isinstance(error, ProgramError) and node is not None:
            error = GenerationError(node, error)
        operation.abandon(self._failed(error))

    def prompt(self) -> Prompt:
        """All text so far, as the backend takes it."""
        if self.run.capabilities.token_ids:
            return self.text.prompt()
        text = self.text.text()
        return (text,) if text else ()

    def asks_for(self, node: Node, variable: str | None, index: int) -> None:
        """The calls of the backend that follow in this task are for this node."""
        if self.run.tells_places:
            asked_from.set(Place(variable, node.source, self.path, index, self.run.id))

    def write(self, text: str) -> None:
        """Constant text of the program."""
        self.text.add_constant(text)
        self.show(text)

    def show(self, text: str, meta: dict[str, Any] | None = None) -> None:
        """To whoever reads along."""
        if self.feed is not None and (text or meta):
            self.feed.push(text, meta)
        if self.run.events is not None and text:
            variable = self.node.name if isinstance(self.node, Gen | Select) else None
            self.run.events.text(self.path, variable, text)

    def open(self, parent: Branch, index: int) -> None:
        """A child starts where its parent stands."""
        self.text = parent.text.copy()
        self.conversation = parent.conversation.copy()
        self.path = (*parent.path, parent.num_nodes, index)
        self.fork_start = self.text.length
        self._ungate()

    def fail(self, error: BaseException) -> None:
        """From outside: cancelled, or the parent never reached the fork."""
        if self.settled:
            return
        self._failed(error)
        if self._task is not None and self._interruptible:
            self._interruptible = False  # once is enough
            self._task.cancel()
        self._ungate()

    def settle(self) -> None:
        self.settled = True
        if self.feed is not None:
            self.feed.close(self.error)

    def _failed(self, error: BaseException) -> BaseException:
        """The first error stays the branch's error."""
        if self.error is None:
            self.error, self.run.disturbed = error, True
            if self.feed is not None:
                self.feed.close(error)
        return self.error

    def _ungate(self) -> None:
        self._gated, self._keep_alive = False, None
        if self._inbox and not (self._active or self._posted):  # not from here: forks of forks would nest their calls
            self._posted = True
            loop_thread().post(self._start)


_NO_TEXT, _NO_CONVERSATION = BranchText(), Conversation()  # of a branch whose fork has yet to be reached
