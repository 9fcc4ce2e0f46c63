"""The work that one constraint may cost, in expressions built and in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import GrammarTooComplex

COMPILE_STEPS, COMPILE_SECONDS = 1_000_000, 10.0
CALL_STEPS, CALL_SECONDS = 500_000, 1.0  # of one call of a matcher, say for the states that a token mask explores


class Budget:
    """Counts steps; every 256 of them looks at the clock.  Raises GrammarTooComplex naming `place`."""

    def __init__(
        self, steps: int = COMPILE_STEPS, seconds: float = COMPILE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.place = "the start"
        self._clock = clock
        self.renew(steps, seconds)

    def renew(self, steps: int, seconds: float) -> None:
        self._steps_left, self._steps, self._seconds = steps, steps, seconds
        self._deadline = self._clock() + seconds

    def tick(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise GrammarTooComplex(f"needs more than {self._steps:,} states", place=self.place)
        if self._steps_left & 255 == 0 and self._clock() > self._deadline:
            raise GrammarTooComplex(f"needs more than {self._seconds:g} s", place=self.place)
