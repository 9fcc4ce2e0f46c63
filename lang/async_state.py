"""The `s` of an `async def` program: what a ProgramState waits for, it awaits.

Here: AsyncState, AsyncForkGroup, and AsyncReader, their reading half.  Not here: running such programs (program,
async_streaming).  One event loop: the one that the program runs in.

Nothing here blocks that loop: a plain read of what is not there yet is a BlockingRead error, which names the awaitable
one.  Everything else, adding text, forking, roles, is as in a plain program, since none of it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, cast

from .errors import BlockingRead
from .executor import Branch
from .nodes import caller_line
from .operations import Finish, Read
from .reading import StateReader
from .state import ForkGroup, ProgramState
from .waiting import Promise, run_async

__all__ = ["AsyncForkGroup", "AsyncReader", "AsyncState"]


class AsyncReader(StateReader):
    """Reads that give way to the event loop; plain ones work for what is there already."""

    async def read(self, name: str) -> Any:
        """s[name]."""
        await self._run_body_async(name)
        return await self._get_async(self._known_slot(name))

    async def read_meta_info(self, name: str) -> dict[str, Any] | None:
        """s.get_meta_info(name)."""
        await self._run_body_async(name)
        await self._until_done_async(self._known_slot(name))
        return self.get_meta_info(name)

    async def read_text(self) -> str:
        """s.text()."""
        return str(await self._read_async(lambda branch: branch.text.text()))

    async def read_messages(self) -> list[dict[str, str]]:
        """s.messages()."""
        found: list[dict[str, str]] = await self._read_async(lambda branch: branch.conversation.as_list())
        return found

    async def read_error(self) -> BaseException | None:
        """s.error()."""
        await self.wait()
        self._shared.branch.error_seen = True
        return self._shared.body_error or self._shared.branch.error

    async def wait(self) -> None:
        """s.sync()."""
        await self._run_body_async(None)
        done = Finish(self._shared.branch, last=False)
        self._shared.branch.ask(done)
        await self._until_done_async(done)

    def sync(self) -> None:
        self._check_may_block()
        super().sync()

    def _check_may_block(self) -> None:
        """Once nothing more can come, what is left to do is done without the model: that wait is short."""
        if self._shared.closed is None:
            raise BlockingRead(
                f"a plain read at {caller_line()} would block the event loop: in an async program write "
                f'await s.read("name"), s.read_text(), s.read_messages(), s.read_meta_info("name"), s.read_error(), '
                f"s.wait(), forks.ajoin() or s.abest_of(...)"
            )

    def _until_done(self, promise: Promise) -> None:
        if not promise.done:
            self._check_may_block()
            super()._until_done(promise)

    def _read(self, look: Callable[[Branch], Any]) -> Any:
        """Refused even where it would be quick this time: whether a program works must not hang on that."""
        self._check_may_block()
        return super()._read(look)

    async def _run_body_async(self, name: str | None) -> None:
        for promise in self._body_steps(name):
            await self._until_done_async(promise)

    async def _read_async(self, look: Callable[[Branch], Any]) -> Any:
        await self._run_body_async(None)
        promise = Read(look)
        self._shared.branch.ask(promise)
        return await self._get_async(promise)

    async def _get_async(self, promise: Promise) -> Any:
        await self._until_done_async(promise)
        return self._get(promise)


class AsyncState(AsyncReader, ProgramState):
    """What an async program has written, and its variables.

    `s += text or node` returns at once, `await s.read("name")` waits for that variable only."""

    def fork(self, size: int = 1, position_ids_offset: object = None) -> AsyncForkGroup:
        return AsyncForkGroup.of(self, super().fork(size, position_ids_offset))

    async def abest_of(self, n: int, name: str, **options: Any) -> float:
        """s.best_of; its score gets plain states, and may read them plainly."""
        found: float = await run_async(partial(ProgramState(self._shared).best_of, n, name, **options))
        return found

    @asynccontextmanager
    async def acopy(self) -> AsyncIterator[AsyncState]:
        """`async with s.acopy() as branch:` for `with s.copy() as branch:`."""
        group = self.fork(1)
        try:
            yield group[0]
        except BaseException:
            group.abandon("its block was left by an exception")
            raise
        await group.ajoin()


class AsyncForkGroup(ForkGroup):
    """The branches of one fork of an async program."""

    @classmethod
    def of(cls, parent: AsyncState, group: ForkGroup) -> AsyncForkGroup:
        return cls(parent, [AsyncState(state._shared) for state in group.states], group.source)

    def __getitem__(self, index: int) -> AsyncState:
        return cast("AsyncState", super().__getitem__(index))

    def __iter__(self) -> Iterator[AsyncState]:
        return cast("Iterator[AsyncState]", super().__iter__())

    def join(self, mode: Literal["gather_variable", "concate_and_append"] = "gather_variable") -> None:
        self.src_state._check_may_block()
        super().join(mode)

    async def ajoin(self, mode: Literal["gather_variable", "concate_and_append"] = "gather_variable") -> None:
        """join, awaited."""
        for promise in self._ends(mode):
            await self.src_state._until_done_async(promise)
        self._bring_back(mode)
