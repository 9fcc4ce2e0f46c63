"""When the requests of many programs run on one server, and what that server could have announced at each moment.

Here: traced programs in, the events of replay.py out. Not here: caches. Nothing of the engine imports this.

The server has a number of slots and serves first come, first served. A request takes a time that depends on its output
and not on what was cached, so that every policy replays the same events in the same order. The server announces what it
would know: its own queue, and for programs that run at the server the prefixes of the requests still to come, as far as
their text exists, for a time that it guesses from the mean lengths and pauses seen so far. It never looks ahead.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from .replay import End, Event, Expect, Retire, Start, TracedRequest

FIRST_GUESS_S = 2.0  # of a pause or a request of which none has been seen


@dataclass(frozen=True, eq=False)
class TracedProgram:
    """One instance of a program.

    kind        what all its instances are called
    arrival_s   when it reaches the server
    requests    in an order in which each follows those that it waits for
    num_static  leading tokens that every instance of the program begins with
    announces   False: a client sends the requests one by one, and the server knows none before it comes
    """

    kind: str
    arrival_s: float
    requests: tuple[TracedRequest, ...]
    num_static: int
    announces: bool = True


@dataclass(frozen=True)
class ServerModel:
    """How long requests take, and how many run at one time."""

    num_slots: int = 32
    prefill_s: float = 0.1
    token_s: float = 0.025

    def duration_s(self, request: TracedRequest) -> float:
        return self.prefill_s + self.token_s * request.num_output


def timeline(programs: Sequence[TracedProgram], server: ServerModel, *, pauses_known: bool = False) -> list[Event]:
    """The events of all programs, in order.

    pauses_known  announce the true length of each pause instead of a guess: what guessing costs, no server can do it"""
    return _Timeline(programs, server, pauses_known).run()


class _Status(Enum):
    UNSENT = 0  # waits for others
    PAUSED = 1  # those have ended; a tool or a person has not
    QUEUED = 2
    RUNNING = 3
    ENDED = 4


class _Mean:
    """Of what has been seen so far."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def see(self, value: float) -> None:
        self._sum += value
        self._count += 1

    @property
    def guess(self) -> float:
        return self._sum / self._count if self._count else FIRST_GUESS_S


@dataclass(eq=False)
class _Instance:
    """A program on its way."""

    program: TracedProgram
    status: list[_Status] = field(init=False)  # of each request
    since_s: list[float] = field(init=False)  # when it came to that
    announced: dict[int, tuple[int, float]] = field(default_factory=dict)  # what was last said of a request

    def __post_init__(self) -> None:
        self.status = [_Status.UNSENT] * len(self.program.requests)
        self.since_s = [self.program.arrival_s] * len(self.program.requests)

    def ready(self, index: int) -> bool:
        """Whether all that it waits for has ended."""
        return all(self.status[before] is _Status.ENDED for before in self.program.requests[index].after)

    def to_come(self) -> list[int]:
        """Requests not yet sent of which the program knows."""
        return [
            index
            for index, (request, status) in enumerate(zip(self.program.requests, self.status, strict=True))
            if status is _Status.PAUSED or (status is _Status.UNSENT and request.planned)
        ]

    def num_known(self, index: int) -> int:
        """How many tokens of its prompt exist by now."""
        request = self.program.requests[index]
        if request.parent is None:
            return request.num_known
        status, parent = self.status[request.parent], self.program.requests[request.parent]
        if status is _Status.ENDED:
            return request.num_known
        written = parent.num_prompt if status in (_Status.QUEUED, _Status.RUNNING) else self.num_known(request.parent)
        return min(request.num_known, written)


class _Timeline:
    """A simulation by events: what is due next comes from a heap, what waits for a slot from a queue."""

    def __init__(self, programs: Sequence[TracedProgram], server: ServerModel, pauses_known: bool) -> None:
        self._server, self._pauses_known = server, pauses_known
        self._due: list[tuple[float, int, str, _Instance, int]] = []
        self._ties = count()
        self._queue: deque[tuple[_Instance, int]] = deque()
        self._num_free = server.num_slots
        self._events: list[Event] = []
        self._pauses: dict[tuple[str, str], _Mean] = {}
        self._durations: dict[tuple[str, str], _Mean] = {}
        for program in programs:
            self._push(program.arrival_s, "arrive", _Instance(program), -1)

    def run(self) -> list[Event]:
        while self._due:
            now, _, what, instance, index = heapq.heappop(self._due)
            if what == "send":
                self._send(now, instance, index)
            else:
                if what == "end":
                    self._end(now, instance, index)
                self._pause_those_ready(now, instance)
                if instance.program.announces:
                    self._announce(now, instance)
            self._fill_slots(now)
        return self._events

    # -- what happens -------------------------------------------------------------------------------------------------

    def _pause_those_ready(self, now: float, instance: _Instance) -> None:
        for index, request in enumerate(instance.program.requests):
            if instance.status[index] is _Status.UNSENT and instance.ready(index):
                self._move(now, instance, index, _Status.PAUSED)
                self._push(now + request.pause_s, "send", instance, index)

    def _send(self, now: float, instance: _Instance, index: int) -> None:
        request = instance.program.requests[index]
        if request.pause_s:
            self._mean(self._pauses, instance, index).see(request.pause_s)
        self._move(now, instance, index, _Status.QUEUED)
        self._queue.append((instance, index))
        self._events.append(Expect(now, request, request.prompt, now))  # as the scheduler does with its own queue

    def _fill_slots(self, now: float) -> None:
        while self._num_free and self._queue:
            instance, index = self._queue.popleft()
            self._num_free -= 1
            request = instance.program.requests[index]
            self._move(now, instance, index, _Status.RUNNING)
            self._events.append(Start(now, request))
            self._push(now + self._server.duration_s(request), "end", instance, index)

    def _end(self, now: float, instance: _Instance, index: int) -> None:
        program, request = instance.program, instance.program.requests[index]
        self._num_free += 1
        self._mean(self._durations, instance, index).see(now - instance.since_s[index])
        self._move(now, instance, index, _Status.ENDED)
        self._events.append(End(now, request))
        unsent = (_Status.UNSENT, _Status.PAUSED)
        goes_on = any(
            other.parent == index and instance.status[i] in unsent for i, other in enumerate(program.requests)
        )
        if program.announces and not goes_on:
            self._events.append(Retire(now, request.tokens, program.num_static))

    # -- what the server says -----------------------------------------------------------------------------------------

    def _announce(self, now: float, instance: _Instance) -> None:
        ends: dict[int, float] = {}
        for index in instance.to_come():
            said = (instance.num_known(index), self._guess_send(now, instance, index, ends))
            if said[0] and instance.announced.get(index) != said:
                instance.announced[index] = said
                request = instance.program.requests[index]
                self._events.append(Expect(now, request, request.tokens[: said[0]], said[1]))

    def _guess_send(self, now: float, instance: _Instance, index: int, ends: dict[int, float]) -> float:
        """When the request will be sent: when the last of those before it has ended, and the pause is over."""
        request = instance.program.requests[index]
        ready = max((self._guess_end(now, instance, i, ends) for i in request.after), default=now)
        if instance.status[index] is _Status.PAUSED:
            ready = instance.since_s[index]
        if self._pauses_known or not request.pause_s:
            return ready + request.pause_s
        return ready + self._mean(self._pauses, instance, index).guess

    def _guess_end(self, now: float, instance: _Instance, index: int, ends: dict[int, float]) -> float:
        if index not in ends:
            status, since = instance.status[index], instance.since_s[index]
            duration = self._mean(self._durations, instance, index).guess
            if status is _Status.ENDED:
                ends[index] = since
            elif status is _Status.RUNNING:
                ends[index] = max(now, since + duration)
            elif status is _Status.QUEUED:
                ends[index] = now + duration
            else:
                ends[index] = self._guess_send(now, instance, index, ends) + duration
        return ends[index]

    # -- how ----------------------------------------------------------------------------------------------------------

    def _mean(self, means: dict[tuple[str, str], _Mean], instance: _Instance, index: int) -> _Mean:
        return means.setdefault((instance.program.kind, instance.program.requests[index].role), _Mean())

    def _move(self, now: float, instance: _Instance, index: int, status: _Status) -> None:
        instance.status[index], instance.since_s[index] = status, now

    def _push(self, at_s: float, what: str, instance: _Instance, index: int) -> None:
        heapq.heappush(self._due, (at_s, next(self._ties), what, instance, index))
