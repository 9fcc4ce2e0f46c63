"""forktree.testing's ScriptedBackend with what only our own tests need: a BOS and a default system message in its chat
format, commits that fail, answers held back until so many requests run at once; and waiting for the background loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from forktree.lang import testing
from forktree.lang.backends.protocol import ChatFormat, GenerateRequest, Prompt
from forktree.lang.loop import loop_thread
from forktree.lang.testing import HANG as HANG
from forktree.lang.testing import Reply as Reply
from forktree.lang.testing import text_of as text_of

CHATML = ChatFormat.chatml("Be nice.", "<s>")


@dataclass
class ScriptedBackend(testing.ScriptedBackend):
    chat_format: ChatFormat | None = CHATML
    commit_error: Exception | None = None
    hold_for: int = 0  # nobody is answered before so many requests run at once
    _all_there: asyncio.Event | None = None

    async def _hold_back(self, request: GenerateRequest) -> None:
        if self.hold_for:
            self._all_there = self._all_there or asyncio.Event()
            if self.num_running >= self.hold_for:
                self._all_there.set()
            await self._all_there.wait()
        await super()._hold_back(request)

    async def commit(self, prompt: Prompt) -> None:
        await super().commit(prompt)
        if self.commit_error is not None:
            raise self.commit_error


def settle() -> None:
    """Let the background loop do what was posted to it."""

    async def some_turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    loop_thread().call(some_turns())


def wait_until(condition: Callable[[], bool]) -> None:
    """Until the background loop has made it true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        settle()
