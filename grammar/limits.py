"""The work that one constraint may cost, in expressions built and in seconds of processor time.

Here: the numbers, and the counting of what Python does.  What compiled loops do is counted in fuel of their own
(CALL_FUEL, see pda/automaton.py); what is kept is bounded in bytes."""

from __future__ import annotations

import time
from collections.abc import Callable

from .errors import CompilationCancelled, GrammarTooComplex

COMPILE_STEPS, COMPILE_SECONDS = 1_000_000, 0.8
CALL_STEPS, CALL_SECONDS = 500_000, 0.5  # of one call of a matcher, say for the states that a token mask explores
CALL_FUEL = 4_000_000  # items, nodes and bytes that the loops of one call may look at: some tenths of a second
LONGEST_SHORTEST = 200_000  # bytes of the shortest text of a constraint: no model would write more to the end
MAX_BYTES = 64 * 2**20  # of one automaton's memory
MAX_CONFIGURATIONS = 50_000  # of one grammar, before it forgets them and finds them again
MASK_BYTES = 64 * 2**20  # masks that one grammar keeps; the least recently used go first
CACHE_BYTES = 512 * 2**20  # grammars that one compiler keeps; the least recently used go first

TICKS = 256  # between two looks at the clock


class Budget:
    """Counts steps; every 256 of them looks at the clock.  Raises GrammarTooComplex naming `place`.

    Seconds are those of the thread that works: how busy the machine is does not decide what is too complex.
    cancelled: asked whenever the clock is looked at; work that nobody waits for ends with CompilationCancelled."""

    def __init__(
        self,
        steps: int = COMPILE_STEPS,
        seconds: float = COMPILE_SECONDS,
        clock: Callable[[], float] = time.thread_time,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self.place = "the start"
        self.cancelled = cancelled
        self._clock = clock
        self.renew(steps, seconds)
        self.look()

    def renew(self, steps: int, seconds: float) -> None:
        """Start again.  The seconds begin when the clock is first looked at, so that quick calls never ask for it."""
        self._steps_left, self._steps, self._seconds = steps, steps, seconds
        self._deadline: float | None = None

    def tick(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise GrammarTooComplex(f"needs more than {self._steps:,} states", place=self.place)
        if self._steps_left & (TICKS - 1) == 0:
            self.look()

    def look(self) -> None:
        """Look at the clock now: for what is slow and makes few steps."""
        now = self._clock()
        if self._deadline is None:
            self._deadline = now + self._seconds
        elif now > self._deadline:
            raise GrammarTooComplex(f"needs more than {self._seconds:g} s", place=self.place)
        if self.cancelled is not None and self.cancelled():
            raise CompilationCancelled
