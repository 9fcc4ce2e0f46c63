"""Errors cross from one process to another: a pool whose worker raises one must get it, and not break or wait."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251  # it is what pools of processes do
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, ScriptedBackend

S = ft.ProgramState
BROKEN = ft.RequestRefused("prompt is too long", field="prompt")


class Stubborn(Exception):
    """Pickled gladly, and not to be read again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("stubborn")


def generates(s: S) -> None:
    s += ft.gen("x")


def forks(s: S) -> None:
    branches = s.fork(2)
    branches += ft.gen("x")
    branches.join()


def typed(s: S) -> None:
    @dataclass
    class Local:  # no other process finds it, so the node is left behind
        n: int

    s += ft.gen("x", type=Local)
    s["x"]


def missing(s: S) -> None:
    s["nothing"]


def refused(s: S) -> None:
    s += ft.gen("x", regex="(")


def raised(func: Callable[..., Any], answer: Any = BROKEN, **options: Any) -> ft.ProgramError:
    with pytest.raises(ft.ProgramError) as caught:
        ft.function(func).run(backend=ScriptedBackend(answer), **options)
    return caught.value


def batch_failed() -> ft.BatchErrors:
    with pytest.raises(ft.BatchErrors) as caught:
        ft.function(generates).run_batch([{}, {}], backend=ScriptedBackend(Stubborn(1, 2)))
    return caught.value


ERRORS: list[Callable[[], ft.ProgramError]] = [
    lambda: raised(generates),
    lambda: raised(generates, Stubborn(1, 2)),
    lambda: raised(generates, HANG, timeout=0.01),
    lambda: raised(forks),
    lambda: raised(forks, Stubborn(1, 2)),
    lambda: raised(typed, "no object"),
    lambda: raised(missing),
    lambda: raised(refused),
    batch_failed,
]


@pytest.mark.parametrize("make", ERRORS)
def test_a_pickled_error_says_what_it_said_and_where(make: Callable[[], ft.ProgramError]) -> None:
    error = make()
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert getattr(again, "source", None) == getattr(error, "source", None)
    assert str(copy.copy(error)) == str(error)


def test_a_pickled_group_has_its_errors_by_index_and_none_for_the_states() -> None:
    error = batch_failed()
    again = pickle.loads(pickle.dumps(error))
    assert list(again.errors) == [0, 1]
    assert list(again.errors.values()) == list(again.exceptions)
    assert [str(each) for each in again.exceptions] == [str(each) for each in error.exceptions]
    assert again.states is None
    assert len(error.states) == 2


def test_what_can_not_be_pickled_is_left_behind_and_the_text_is_not() -> None:
    again = pickle.loads(pickle.dumps(raised(generates, Stubborn(1, 2))))
    assert again.cause is None
    assert "failed: stubborn" in str(again)
