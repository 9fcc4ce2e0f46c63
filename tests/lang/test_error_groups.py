"""Errors of branches and of batches are groups: picked apart with except*, nested as the forks are, by index."""

from __future__ import annotations

import sys
import traceback
import types
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import ScriptedBackend

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")

BROKEN = ft.RequestRefused("refused")


def failing() -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: BROKEN if prompt.endswith("bad ") else "ok")


@ft.function
def joined(s: ft.ProgramState) -> None:
    forks = s.fork(3)
    forks += ["good " + ft.gen("x"), "bad " + ft.gen("x"), "bad " + ft.gen("x")]
    forks.join()


@ft.function
def kept(s: ft.ProgramState) -> None:
    outer = s.fork(2)
    outer += "text "
    inner = outer[1].fork(3)
    inner += ["good " + ft.gen("x"), "bad " + ft.gen("x"), "bad " + ft.gen("x")]
    s["keep"] = (outer, inner)


def caught(program: ft.Program, *args: Any, **options: Any) -> ft.ProgramErrors:
    with pytest.raises(ft.ProgramErrors) as info:
        program.run(*args, backend=failing(), **options)
    return info.value


def test_branch_errors_are_an_exception_group_that_knows_its_indices() -> None:
    error = caught(joined)
    assert isinstance(error, ft.BranchErrors)
    assert isinstance(error, ExceptionGroup)  # noqa: F821
    assert list(error.errors) == [1, 2]
    assert tuple(error.errors.values()) == error.exceptions
    assert str(error).splitlines()[0].startswith("2 of 3 branches of the fork at ")
    assert str(error).count('gen("x") at') == 2


def test_a_group_is_picked_apart_by_type() -> None:
    error: Any = caught(joined)
    matched, rest = error.split(ft.GenerationError)
    assert (len(matched.exceptions), rest) == (2, None)
    assert error.subgroup(ft.DeadlineExceeded) is None
    whole, rest = error.split(ft.BranchErrors)
    assert (whole, rest) == (error, None)


def test_except_star_takes_what_it_names() -> None:
    names: dict[str, Any] = {"ft": ft, "joined": joined, "failing": failing, "found": []}
    code = """
try:
    joined.run(backend=failing())
except* ft.GenerationError as group:
    found.extend(group.exceptions)
"""
    types.FunctionType(compile(code, "star.py", "exec"), names)()  # as text: Python 3.10 can't parse it
    assert [type(each) for each in names["found"]] == [ft.GenerationError] * 2


def test_a_fork_inside_a_branch_is_grouped_under_that_branch() -> None:
    error = caught(kept)
    assert isinstance(error, ft.BranchErrors)
    assert list(error.errors) == [1]
    inner = error.errors[1]
    assert isinstance(inner, ft.BranchErrors)
    assert list(inner.errors) == [1, 2]
    assert {type(each) for each in inner.exceptions} == {ft.GenerationError}


def test_programs_of_a_batch_nest_too() -> None:
    with pytest.raises(ft.BatchErrors) as info:
        joined.run_batch([{}] * 2, backend=failing())
    error: Any = info.value
    assert [sorted(each.errors) for each in error.errors.values()] == [[1, 2], [1, 2]]
    matched, rest = error.split(ft.GenerationError)
    assert rest is None
    assert [len(group.exceptions) for group in matched.exceptions] == [2, 2]


def test_failing_branches_of_several_forks_are_all_reported() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        first, second = s.fork(2), s.fork(2)
        first += ["good " + ft.gen("x"), "bad " + ft.gen("x")]
        second += ["bad " + ft.gen("x"), "good " + ft.gen("x")]
        s["keep"] = (first, second)

    error = caught(program)
    assert str(error).startswith("branches of 2 forks failed")
    assert [list(each.errors) for each in error.exceptions if isinstance(each, ft.BranchErrors)] == [[1], [0]]


def test_a_printed_group_shows_every_error_with_node_and_line() -> None:
    text = "".join(traceback.format_exception(caught(joined)))
    assert "+---------------- 2 ----------------" in text
    assert text.count('forktree.lang.errors.GenerationError: gen("x") at') == 2
    assert "test_error_groups.py:" in text
