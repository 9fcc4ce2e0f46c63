"""What running programs tell the cache: which prefixes they will come back to, how soon, and which are done with.

Here: ItemUses, of one item of a program.  Not here: what a use means to the tree (radix_cache), programs (programs.py).
Imported by programs.py; numpy only.  After KVFlow (Pan et al. 2025, arXiv:2507.07400), with the plan in place of hints.

A prefix is announced while nodes that go on from it wait for something else; one whose requests are in the engine's
queue needs no announcement.  Its distance is how many tokens are generated before the first of them, at most."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import numpy as np

from ..request import IntArray
from .program_plan import ProgramPlan
from .prompt_text import PromptText

MOST_USES = 8  # announced at a time; a program with more open ends keeps the nearest


class Announcements(Protocol):
    """The part of the scheduler that hears of uses."""

    @property
    def pages_are_short(self) -> bool: ...

    def expect(self, owner: Hashable, uses: Sequence[tuple[IntArray, float]], namespace: bytes = b"") -> None: ...

    def forget(self, owner: Hashable) -> None: ...

    def retire(self, tokens: IntArray, num_shared: int, namespace: bytes = b"") -> None: ...


class ItemUses:
    """Called as the nodes of one item begin and end."""

    def __init__(self, cache: Announcements, owner: Hashable, plan: ProgramPlan, namespace: bytes) -> None:
        self._cache, self._owner, self._plan, self._namespace = cache, owner, plan, namespace
        self._num_waiting = [
            len(followers) for followers in plan.followers
        ]  # that go on from a node and have not begun
        self._begun: set[int] = set()
        self._tokens: dict[int, IntArray] = {}  # of nodes that are done, while such wait
        self._now = 0  # the farthest start of a node that has begun
        self._announced = False
        self._num_shared: int | None = None  # counted when it is first asked for

    def begun(self, node: int) -> None:
        """It has its prompt, or never will; said twice, it counts once."""
        if node in self._begun:
            return
        self._begun.add(node)
        self._now = max(self._now, self._plan.starts[node])
        after = self._plan.nodes[node].after
        if after >= 0:
            self._num_waiting[after] -= 1
            if not self._num_waiting[after]:
                self._tokens.pop(after, None)

    def is_awaited(self, node: int) -> bool:
        """Whether nodes that go on from it have yet to begin."""
        return self._num_waiting[node] > 0

    def ended(self, node: int, end: PromptText, *, others_go_on: bool) -> None:
        """others_go_on: the program is not over, so what nobody goes on from is done with."""
        if not self._cache.pages_are_short:
            return
        if self.is_awaited(node):
            self._tokens[node] = _tokens(end)
        elif others_go_on and self._plan.whole and not self._plan.followers[node]:
            if self._num_shared is None:
                self._num_shared = self._count_shared(end)
            self._cache.retire(_tokens(end), self._num_shared, self._namespace)
        self._announce()

    def over(self) -> None:
        if self._announced:
            self._cache.forget(self._owner)

    def _announce(self) -> None:
        nearest = sorted(self._tokens, key=self._next_start)[:MOST_USES]
        uses = [(self._tokens[node], float(max(1, self._next_start(node) - self._now))) for node in nearest]
        self._announced = bool(uses)
        self._cache.expect(self._owner, uses, self._namespace)

    def _next_start(self, node: int) -> int:
        """Of those that go on from it and have not begun: they begin in this order."""
        return self._plan.follower_starts[node][-self._num_waiting[node]]

    def _count_shared(self, end: PromptText) -> int:
        """Tokens with which other runs of the program begin too: those of its first text, up to an argument."""
        first = self._plan.nodes[0].pieces[:1]
        return len(end.encoder.encode(first[0])) if first and isinstance(first[0], str) else 0


def _tokens(end: PromptText) -> IntArray:
    tokens = np.array(end.token_ids(), np.int32)
    tokens.setflags(write=False)
    return tokens
