"""Time limits: of one gen or select, and of a whole run.

Here: reading a timeout that a user passed, and bounding one awaitable.  Not here: what a run does when its time is up
(executor).  Imported by api, program and executor."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from .errors import ArgumentError, DeadlineExceeded
from .loop import loop_thread
from .nodes import Node

__all__ = ["read_timeout", "start_timer", "within"]


def read_timeout(value: object, where: object) -> float | None:
    """Seconds, or None for no limit."""
    if value is None:
        return None
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        seconds = math.nan
    else:
        seconds = float(value)
    if not 0 < seconds < math.inf:
        raise ArgumentError(f"timeout: got {value!r}, wanted seconds, more than 0, or None for no limit (in {where})")
    return seconds


async def within(seconds: float, awaitable: Awaitable[None], node: Node) -> None:
    """Await it for so long; then cancel it, wait until it has let go of the backend, and raise DeadlineExceeded.

    Not asyncio.wait_for: Python 3.10's loses a cancellation that comes in the moment of success."""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        await awaitable
    except asyncio.CancelledError:
        if not expired:
            raise
        if hasattr(task, "uncancel"):  # from Python 3.11 on: this cancellation was ours, and ends here
            task.uncancel()
        raise DeadlineExceeded(f"{node.label} at {node.source} did not end within its {seconds:g} s", node) from None
    finally:
        timer.cancel()


def start_timer(seconds: float, expire: Callable[[], None]) -> Callable[[], None]:
    """Any thread: run `expire` on the loop in so many seconds.  Call what this returns, and it will not."""
    timers: list[asyncio.TimerHandle] = []

    def start() -> None:
        timers.append(asyncio.get_running_loop().call_later(seconds, expire))

    def stop() -> None:
        loop_thread().post(lambda: timers.pop().cancel())

    loop_thread().post(start)
    return stop
