"""What a running program tells the cache, against a cache that only listens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from forktree.runtime.engine.program_plan import ProgramPlan
from forktree.runtime.engine.program_uses import ItemUses
from forktree.runtime.engine.prompt_text import PromptText


class Listening:
    def __init__(self, *, short: bool = True) -> None:
        self.pages_are_short = short
        self.expected: dict[Hashable, list[tuple[list[int], float]]] = {}
        self.retired: list[tuple[list[int], int]] = []

    def expect(self, owner: Hashable, uses: Sequence[tuple[Any, float]], namespace: bytes = b"") -> None:
        self.expected[owner] = [(tokens.tolist(), distance) for tokens, distance in uses]

    def forget(self, owner: Hashable) -> None:
        self.expected.pop(owner, None)

    def retire(self, tokens: Any, num_shared: int, namespace: bytes = b"") -> None:
        assert tokens.dtype == np.int32
        self.retired.append((tokens.tolist(), num_shared))


class Letters:
    """A token is a character."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]

    def with_bos(self, ids: list[int]) -> list[int]:
        return ids

    def require_length(self, num_characters: int) -> None:
        return None


def text(of: str) -> PromptText:
    return PromptText(Letters()).with_text(of)  # type: ignore[arg-type]


def ids(of: str) -> list[int]:
    return [ord(character) for character in of]


JUDGE = ProgramPlan.read(
    {
        "version": 1,
        "whole": True,
        "nodes": [
            {"kind": "text", "pieces": ["essay"]},
            {"kind": "gen", "after": 0, "pieces": ["a"], "sampling": {"max_new_tokens": 30}},
            {"kind": "gen", "after": 0, "pieces": ["b"], "sampling": {"max_new_tokens": 50}},
            {"kind": "gen", "after": 0, "pieces": [{"node": 1}, {"node": 2}], "sampling": {"max_new_tokens": 5}},
        ],
    }
)


def test_a_trunk_is_announced_while_what_goes_on_from_it_waits_for_its_branches() -> None:
    cache = Listening()
    uses = ItemUses(cache, "me", JUDGE, b"")
    uses.ended(0, text("essay"), others_go_on=True)
    uses.begun(1)
    uses.begun(2)
    uses.ended(1, text("essay a 1"), others_go_on=True)
    assert cache.expected["me"] == [(ids("essay"), 50.0)]  # the last gen waits for the longer of the two branches
    uses.ended(2, text("essay b 2"), others_go_on=True)
    uses.begun(3)
    uses.ended(3, text("essay 1 2 so"), others_go_on=False)
    assert cache.expected["me"] == []
    uses.over()


def test_what_nobody_goes_on_from_is_done_with_but_for_the_end_of_the_program() -> None:
    cache = Listening()
    uses = ItemUses(cache, "me", JUDGE, b"")
    uses.ended(1, text("essay a 1"), others_go_on=True)
    uses.ended(3, text("essay 1 2 so"), others_go_on=False)
    assert cache.retired == [(ids("essay a 1"), len("essay"))]


def test_nothing_is_done_with_where_the_program_goes_on_beyond_the_plan() -> None:
    cache = Listening()
    ItemUses(cache, "me", ProgramPlan(JUDGE.nodes, whole=False), b"").ended(1, text("x"), others_go_on=True)
    assert cache.retired == []


def test_nothing_is_said_while_pages_are_plenty_and_nothing_stays_said() -> None:
    cache = Listening(short=False)
    uses = ItemUses(cache, "me", JUDGE, b"")
    uses.ended(0, text("essay"), others_go_on=True)
    uses.over()
    assert (cache.expected, cache.retired) == ({}, [])
