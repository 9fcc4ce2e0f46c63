"""The clocks of a scripted backend: one on which seconds pass, and one on which they are only counted.

Both live on the background loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools

__all__ = ["RealClock", "VirtualClock"]

_GRACE = 0.001  # real seconds in which the programs may ask for more, before virtual time goes on


class RealClock:
    """Seconds pass."""

    now = 0.0  # not counted: a real clock is on the wall

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class VirtualClock:
    """Whoever sleeps is woken in the order of the times, and the clock is then at that time.

    Time goes on when nothing has been asked of it for a moment: programs run in threads of their own, and the clock
    can't know what they are about to ask."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleeping, (self.now + seconds, next(self._numbers), woken))
        self._wait_a_moment()
        await woken

    def _wait_a_moment(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_GRACE, self._go_on)

    def _go_on(self) -> None:
        """To the next time at which somebody wakes."""
        self._timer = None
        while self._sleeping and self._sleeping[0][2].done():  # cancelled
            heapq.heappop(self._sleeping)
        if not self._sleeping:
            return
        self.now = self._sleeping[0][0]
        while self._sleeping and self._sleeping[0][0] <= self.now:
            _, _, woken = heapq.heappop(self._sleeping)
            if not woken.done():
                woken.set_result(None)
        if self._sleeping:
            self._wait_a_moment()
