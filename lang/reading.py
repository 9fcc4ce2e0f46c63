"""Reading a state: variables, text, messages, meta info, at once or piece by piece.

Here: StateReader, and Shared, which all handles of one branch have in common.  Not here: adding to a state, forks
(state)."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

from .chat import RoleTracker
from .errors import ArgumentError, MissingVariable, ProgramCancelled
from .events import StreamEvent
from .executor import Branch, Slot
from .feed import Feed
from .loop import loop_thread
from .nodes import caller_line
from .operations import Finish, Read
from .waiting import Promise, until_done_async

__all__ = ["Shared", "StateReader"]

Piece = tuple[str, dict[str, Any]]  # text, meta info


class Shared:
    """What all handles of one branch share; when the last of them is gone nobody can read the branch, and it is
    cancelled."""

    __slots__ = (
        "__weakref__",
        "_parent",
        "body_error",
        "branch",
        "closed",
        "num_unnamed",
        "return_value",
        "roles",
        "slots",
    )

    def __init__(
        self, branch: Branch, slots: dict[str, Slot], roles: RoleTracker, *, parent: Shared | None = None
    ) -> None:
        self.branch, self.slots, self.roles = branch, slots, roles
        self._parent = weakref.ref(parent) if parent is not None else None  # weak: it may be dropped while this goes on
        self.closed: str | None = None  # why nothing can be added any more
        self.return_value: Any = None
        self.body_error: BaseException | None = None  # what the program's own code raised
        self.num_unnamed = 0

    def __del__(self) -> None:
        branch = getattr(self, "branch", None)
        if branch is not None and not branch.settled:
            branch.cancel("the program was abandoned")

    def of_child(self, branch: Branch) -> Shared:
        """What a branch of a fork begins with."""
        return Shared(branch, dict(self.slots), self.roles.copy(), parent=self)

    def descends_from(self, other: Shared) -> bool:
        parent = self._parent() if self._parent is not None else None
        return parent is not None and (parent is other or parent.descends_from(other))

    def end(self, why: str) -> Promise:
        """Nothing more will be added; done when all is."""
        self.closed = why
        ended = Finish(self.branch, last=True)
        self.branch.ask(ended)
        return ended


class StateReader:
    """The reading half of a ProgramState."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    # ---- at once

    def get_var(self, name: str) -> Any:
        """The variable's value, as soon as it has one.  Raises MissingVariable, or the error that kept it from
        getting one."""
        return self._get(self._slot(name))

    def __getitem__(self, name: str) -> Any:
        return self._get(self._slot(name))

    def __contains__(self, name: object) -> bool:
        """Is it defined, or will it be by what was added so far?"""
        return name in self._shared.slots

    def get_meta_info(self, name: str) -> dict[str, Any] | None:
        """How a variable came about: token counts, finish reason, log-probabilities, its text before it was read as
        gen's type; for select the distribution over its choices."""
        slot = self._slot(name)
        self._until_done(slot)
        if slot.error is not None:
            self._raise(slot.error)
        return slot.meta

    def text(self) -> str:
        """Everything written so far, once it is."""
        return str(self._read(lambda branch: branch.text.text()))

    def messages(self) -> list[dict[str, str]]:
        """The closed messages: role and content."""
        found: list[dict[str, str]] = self._read(lambda branch: branch.conversation.as_list())
        return found

    def sync(self) -> None:
        """Wait until everything added so far is done or has failed."""
        self._run_body(None)
        done = Finish(self._shared.branch, last=False)
        self._shared.branch.ask(done)
        self._until_done(done)

    def error(self) -> BaseException | None:
        """What went wrong, once everything added so far is done; None if nothing did."""
        self.sync()
        self._shared.branch.error_seen = True
        return self._shared.body_error or self._shared.branch.error

    @property
    def ret_value(self) -> Any:
        """What the program's function returned."""
        self._run_body(None)
        if self._shared.body_error is not None:
            self._raise(self._shared.body_error)
        return self._shared.return_value

    def cancel(self) -> None:
        """Stop what this program generates, or on a branch of a fork what it and its own branches do; from any thread.
        Requests end on the backend, and what is not done yet can't be read any more."""
        branch, source = self._shared.branch, caller_line()
        if branch.fork is None:
            branch.run.cancel(f"the program was cancelled at {source}")
        else:
            fork, index = branch.fork
            branch.cancel_below(f"branch {index} of the fork at {fork.source} was cancelled at {source}")

    # ---- piece by piece

    def text_iter(self, var_name: str | None = None) -> Iterator[str]:
        """The text, or one variable, in pieces as they come; in one piece if the program does not stream."""
        for step in self._pieces(var_name):
            if isinstance(step, Promise):
                self._until_done(step)
            elif step[0]:
                yield step[0]

    def stream(self, var_name: str | None = None) -> Iterator[str]:
        """text_iter under the name of what it does."""
        return self.text_iter(var_name)

    async def text_async_iter(self, var_name: str | None = None, return_meta_data: bool = False) -> AsyncIterator[Any]:
        """The same for coroutines.  With return_meta_data, pairs of text and meta info (log-probabilities are of the
        piece alone)."""
        for step in self._pieces(var_name, one_by_one=return_meta_data):
            if isinstance(step, Promise):
                await self._until_done_async(step)
            elif return_meta_data:
                yield step
            elif step[0]:
                yield step[0]

    def stream_partial(self, var_name: str) -> Iterator[Any]:
        """A variable while it is written, as the value so far: after every piece of text, and at last as it is.

        Of a gen with a type that is a value of the type with what has come: open objects of classes are Drafts, texts
        grow, everything else is there once it is complete (see forktree.grammar.PartialParser).  Of another gen whose
        text is JSON, dicts and lists.  The value is live: the next piece changes it."""
        for step in self._partial_values(var_name):
            if isinstance(step, Promise):
                self._until_done(step)
            else:
                yield step[0]

    async def astream_partial(self, var_name: str) -> AsyncIterator[Any]:
        """The same for coroutines."""
        for step in self._partial_values(var_name):
            if isinstance(step, Promise):
                await self._until_done_async(step)
            else:
                yield step[0]

    def _partial_values(self, var_name: str) -> Iterator[Promise | tuple[Any]]:
        from forktree.grammar import GrammarError, PartialParser

        yield from self._body_steps(var_name)
        slot = self._known_slot(var_name)
        reader = slot.reader
        parser = PartialParser({} if reader is None else reader.wanted)
        for step in self._pieces(var_name):
            if isinstance(step, Promise):
                yield step
                continue
            try:
                yield (parser.feed(step[0]),)
            except GrammarError as error:
                if reader is None:
                    raise ArgumentError(
                        f"stream_partial({var_name!r}) reads JSON: give the gen a type or a json_schema "
                        f"(at {caller_line()}): {error}"
                    ) from error
                break  # what its type makes of the text is said below
        yield slot
        value = self._get(slot)
        yield (parser.end() if reader is None else value,)

    def events(self) -> Iterator[StreamEvent]:
        """Everything that a streamed program does, branches of forks included: pieces of text, variables with their
        values, errors.  For one reader; at the end it raises what the program raised."""
        for step in self._event_steps():
            if isinstance(step, Promise):
                self._until_done(step)
            else:
                yield step

    async def aevents(self) -> AsyncIterator[StreamEvent]:
        """The same for coroutines."""
        for step in self._event_steps():
            if isinstance(step, Promise):
                await self._until_done_async(step)
            else:
                yield step

    def _event_steps(self) -> Iterator[Promise | StreamEvent]:
        log = self._shared.branch.run.events
        if log is None:
            raise ArgumentError(f"events are kept for a program that was started with stream(...) (at {caller_line()})")
        while True:
            closed = log.closed  # before taking: what was there when it closed is still taken
            while (event := log.take()) is not None:
                yield event
            if closed:
                break
            self._let_body_go_on()
            yield log.changed()
        yield from self._body_steps(None)
        error = self._shared.body_error or self._shared.branch.error
        if error is not None:
            self._raise(error)

    def __iter__(self) -> Iterator[str]:
        return self.text_iter()

    def __aiter__(self) -> AsyncIterator[str]:
        return self.text_async_iter()

    def _pieces(self, var_name: str | None, *, one_by_one: bool = False) -> Iterator[Promise | Piece]:
        """Pieces as they come, and in between what to wait for: the caller knows how."""
        if var_name is not None:
            yield from self._body_steps(var_name)
            slot = self._known_slot(var_name)
            if slot.feed is not None:
                yield from _follow(slot.feed, one_by_one)
            yield slot
            if slot.feed is None and slot.error is None:
                yield slot.text(), slot.meta or {}
            self._get(slot)  # the error, if it has none or is not of its type
        elif self._shared.branch.feed is not None:
            yield from _follow(self._shared.branch.feed, one_by_one)
            yield from self._body_steps(None)
            error = self._shared.body_error or self._shared.branch.error
            if error is not None:
                self._raise(error)
        else:
            yield self.text(), {}

    # ---- waiting and failing

    def _body_steps(self, name: str | None) -> Iterator[Promise]:
        """What to wait for while the program's own code has yet to run: as far as it defines `name`, or to its end.
        Here it has run."""
        return iter(())

    def _let_body_go_on(self) -> None:
        """If the program's own code can, it does: branches that go on for long must not hold it up."""

    def _run_body(self, name: str | None) -> None:
        for promise in self._body_steps(name):
            self._until_done(promise)

    def _slot(self, name: str) -> Slot:
        self._run_body(name)
        return self._known_slot(name)

    def _known_slot(self, name: str) -> Slot:
        slot = self._shared.slots.get(name)
        if slot is None:
            if self._shared.body_error is not None:
                self._raise(self._shared.body_error)
            known = [each for each in self._shared.slots if not each.startswith("#")]
            raise MissingVariable(name, known, caller_line())
        return slot

    def _read(self, look: Callable[[Branch], Any]) -> Any:
        self._run_body(None)
        read = Read(look)
        self._shared.branch.ask(read)
        return self._get(read)

    def _get(self, promise: Promise) -> Any:
        self._until_done(promise)
        if promise.error is not None:
            self._raise(promise.error)
        return promise.result()

    def _raise(self, error: BaseException) -> NoReturn:
        self._shared.branch.error_seen = True
        if isinstance(error, ProgramCancelled) and self._shared.body_error is not None:
            error = self._shared.body_error  # it was cancelled because of this
        raise error.with_traceback(None)

    def _check_may_block(self) -> None:
        """Raises where waiting would stop an event loop (async_state)."""

    def _until_done(self, promise: Promise) -> None:
        loop_thread().until_done(promise)

    async def _until_done_async(self, promise: Promise) -> None:
        loop_thread().refuse_own_thread()
        await until_done_async(promise)


def _follow(feed: Feed, one_by_one: bool) -> Iterator[Promise | Piece]:
    position = 0
    while True:
        closed = feed.closed  # before the pieces: what was there when it closed is still read
        pieces = feed.pieces[position:]
        position += len(pieces)
        if one_by_one:
            yield from ((text, meta or {}) for text, meta in pieces)
        elif pieces:
            yield "".join(text for text, _ in pieces), {}
        if not pieces:
            if closed:
                return
            yield feed.changed(position)
