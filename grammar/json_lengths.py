"""Shortest texts of places that hold places, which may recur.

A length starts as infinite and falls as those that it depends on become known; a shortest text never holds a place
inside of itself, so lengths stop falling and are then exact."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .expressions import INFINITE
from .json_layout import Style
from .schema_shapes import Conjunction

Place: TypeAlias = tuple[Conjunction, Style]

MAX_INDENTED = 24  # levels of required values looked at where every level has lengths of its own
SURE_LEVELS = 4  # of these, levels whose lengths are kept


class Measure:
    """The search for one place's length, and those of the places it depends on."""

    def __init__(self, start: Place, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._lengths: dict[Place, int] = {start: INFINITE}
        self._numbers: dict[Place, int] = {start: 0}  # in the order in which they were met
        self._new = [start]
        self._dependents: dict[Place, dict[Place, None]] = {start: {}}
        self._current = start
        self._first_level = start[1].depth
        self._was_cut = False

    def ask(self, place: Place) -> int:
        """The length of a place as far as it is known; the place being looked at is looked at again if it falls."""
        known = self._lengths.get(place)
        if known is None:
            if place[1].depth > self._first_level + MAX_INDENTED:
                self._was_cut = True
                return INFINITE
            known = self._lengths[place] = INFINITE
            self._numbers[place] = len(self._numbers)
            self._new.append(place)
            self._dependents[place] = {}
        self._dependents[place][self._current] = None
        return known

    def run(self, shortest: Callable[[Place], int]) -> None:
        again: list[tuple[int, int]] = []  # those met last first: they are most often parts of the others
        queued: set[int] = set()
        places: list[Place] = []
        while self._new or again:
            if self._new:
                place = self._new.pop()
            else:
                number = heapq.heappop(again)[1]
                queued.discard(number)
                if len(places) < len(self._numbers):
                    places = list(self._numbers)
                place = places[number]
            self._tick()
            self._current = place
            length = shortest(place)
            if length < self._lengths[place]:
                self._lengths[place] = length
                for dependent in self._dependents[place]:
                    number = self._numbers[dependent]
                    if number not in queued:
                        queued.add(number)
                        heapq.heappush(again, (-number, number))

    def found(self) -> Iterator[tuple[Place, int]]:
        for place, length in self._lengths.items():
            if not self._was_cut or place[1].depth <= self._first_level + SURE_LEVELS:
                yield place, length
