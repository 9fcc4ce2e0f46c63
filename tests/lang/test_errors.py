"""Errors reach whoever reads, name the node and its line in the user's file, and nothing hangs."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import ScriptedBackend

BROKEN = ft.RequestRefused("prompt is too long", field="prompt", code="context_length_exceeded")


def here(offset: int = 0) -> str:
    """file:line of the caller, some lines on."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def failing_at(ending: str) -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: BROKEN if prompt.endswith(ending) else "fine")


def test_a_failed_gen_raises_at_the_read_with_node_line_and_cause() -> None:
    lines = []

    @ft.function
    def program(s: ft.ProgramState) -> None:
        lines.append(here(1))
        s += "bad " + ft.gen("answer")
        s["answer"]

    with pytest.raises(ft.GenerationError) as caught:
        program.run(backend=failing_at("bad "))
    error = caught.value
    assert str(error) == f'gen("answer") at {lines[0]} failed: prompt is too long'
    assert error.cause is BROKEN is error.__cause__
    assert error.node.label == 'gen("answer")'


def test_the_line_is_the_users_even_through_their_own_helpers_and_our_frames() -> None:
    lines = []

    def helper() -> Any:
        lines.append(here(1))
        return ft.assistant(ft.gen("x"))

    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(1)
        forks += lambda i: helper()
        forks[0]["x"]

    with pytest.raises(ft.GenerationError) as caught:
        program.run(backend=ScriptedBackend(BROKEN))
    assert str(caught.value.source) == lines[0]


def test_what_came_before_the_failure_can_be_read_and_what_came_after_fails_the_same() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> list[BaseException]:
        s += "good " + ft.gen("a") + "bad " + ft.gen("b") + ft.gen("c") + ft.select("d", ["x", "y"])
        assert s["a"] == "fine"
        caught = []
        for read in (lambda: s["b"], lambda: s["c"], lambda: s["d"], s.text, s.messages, lambda: s.get_meta_info("b")):
            with pytest.raises(ft.GenerationError) as info:
                read()
            caught.append(info.value)
        s.sync()  # waits, but is no read
        assert s.error() is caught[0]
        return caught

    backend = failing_at("bad ")
    caught = program.run(backend=backend).ret_value
    assert len(set(map(id, caught))) == 1
    assert len(backend.requests) == 2  # nothing runs after the failure


def test_an_error_that_the_program_handles_is_not_raised_again() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        s += "bad " + ft.gen("x")
        try:
            return str(s["x"])
        except ft.GenerationError:
            return "handled"

    assert program.run(backend=failing_at("bad ")).ret_value == "handled"


def test_an_error_that_nobody_read_is_raised_at_the_end_of_the_run() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "bad " + ft.gen("x")

    with pytest.raises(ft.GenerationError, match="prompt is too long"):
        program.run(backend=failing_at("bad "))


def test_the_errors_of_branches_that_nobody_joined_or_read_are_raised_at_the_end_of_the_run() -> None:
    """A kept branch may fail after the program has returned: its run ends when it does, and says so."""
    lines = []

    @ft.function
    def program(s: ft.ProgramState) -> None:
        lines.append(here(1))
        forks = s.fork(3)
        forks += ["good " + ft.gen("x"), "bad " + ft.gen("x"), "bad " + ft.gen("x")]
        s["keep"] = forks

    with pytest.raises(ft.BranchErrors, match="2 of 3 branches of the fork at") as caught:
        program.run(backend=failing_at("bad "))
    assert sorted(caught.value.errors) == [1, 2]
    assert lines[0] in str(caught.value)
    [state] = program.run_batch([{}], backend=failing_at("bad "), return_errors=True)
    assert isinstance(state.error(), ft.BranchErrors)
    assert state["keep"][0]["x"] == "fine"


def test_errors_of_kept_branches_that_the_program_saw_are_not_raised_again() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s["keep"] = forks = s.fork(2)
        forks += ["bad " + ft.gen("x"), "good " + ft.gen("x")]
        with pytest.raises(ft.GenerationError):
            forks[0]["x"]

    assert program.run(backend=failing_at("bad "))["keep"][1]["x"] == "fine"


def test_join_lists_every_branch_that_failed() -> None:
    lines = []

    @ft.function
    def program(s: ft.ProgramState) -> list[str]:
        lines.append(here(1))
        forks = s.fork(4)
        forks += [f"{word} " + ft.gen("x") for word in ("good", "bad", "good", "bad")]
        with pytest.raises(ft.BranchErrors) as caught:
            forks.join()
        error = caught.value
        assert sorted(error.errors) == [1, 3]
        assert [type(each) for each in error.exceptions] == [ft.GenerationError] * 2
        assert f"2 of 4 branches of the fork at {lines[0]} failed" in str(error)
        assert str(error).count('gen("x") at') == 2
        assert "x" not in s  # nothing half gathered
        s += "going on " + ft.gen("y")
        return [forks[0]["x"], forks[2]["x"], s["y"]]

    assert program.run(backend=failing_at("bad ")).ret_value == ["fine", "fine", "fine"]


def test_a_branch_that_fails_can_be_read_as_such_before_the_join() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ["good " + ft.gen("x"), "bad " + ft.gen("x")]
        assert forks[0].error() is None
        assert isinstance(forks[1].error(), ft.GenerationError)
        with pytest.raises(ft.GenerationError):
            forks[1]["x"]

    program.run(backend=failing_at("bad "))


def test_branches_of_a_parent_that_fails_fail_with_its_error() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "bad " + ft.gen("x")
        forks = s.fork(2)
        forks += ft.gen("y")
        with pytest.raises(ft.GenerationError, match=r'gen\("x"\)'):
            forks[1]["y"]
        forks.join()

    with pytest.raises(ft.GenerationError, match=r'gen\("x"\)'):
        program.run(backend=failing_at("bad "))


def test_a_failing_warm_up_names_the_fork() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "text"
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join()

    with pytest.raises(ft.GenerationError, match=r"fork\(2\) at .*prompt is too long"):
        program.run(backend=ScriptedBackend(commit_error=BROKEN))


def test_an_unknown_variable_is_missing_at_once_and_the_message_lists_the_known() -> None:
    lines = []

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("answer") + ft.gen()
        lines.append(here(1))
        s["anwser"]

    with pytest.raises(ft.MissingVariable) as caught:
        program.run(backend=ScriptedBackend())
    assert str(caught.value) == f"no variable 'anwser' at {lines[0]}; this state has: 'answer'"
    assert isinstance(caught.value, KeyError)
    state = ft.function(lambda s: None).run(backend=ScriptedBackend())
    with pytest.raises(ft.MissingVariable, match="this state has: none"):
        state["x"]
    with pytest.raises(ft.MissingVariable):
        state.get_meta_info("x")
    with pytest.raises(ft.MissingVariable):
        list(state.text_iter("x"))


def test_any_exception_of_a_backend_is_the_cause() -> None:
    class Odd(Exception):
        pass

    with pytest.raises(ft.GenerationError, match="Odd") as caught:
        ft.function(lambda s: s.__iadd__(ft.gen("x"))).run(backend=ScriptedBackend(Odd()))
    assert isinstance(caught.value.cause, Odd)


def test_an_output_that_is_cut_off_or_aborted_is_an_error_not_a_short_text() -> None:
    from tests.support.scripted_backend import Reply

    with pytest.raises(ft.GenerationError, match="aborted"):
        ft.function(lambda s: s.__iadd__(ft.gen("x"))).run(backend=ScriptedBackend(Reply("half", "abort")))


def test_the_programs_own_exception_comes_out_as_it_is_and_stops_what_runs() -> None:
    from tests.support.scripted_backend import HANG

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        raise ZeroDivisionError("mine")

    backend = ScriptedBackend(HANG)
    with pytest.raises(ZeroDivisionError, match="mine"):
        program.run(backend=backend)


def test_the_error_tree_is_the_one_that_is_documented() -> None:
    from forktree.lang import errors

    documented = inspect.getdoc(errors) or ""
    for name in errors.__all__:
        assert name in documented, name
    assert issubclass(ft.GenerationError, ft.ProgramError)
    assert issubclass(ft.RequestRefused, ft.BackendError)
    assert not issubclass(ft.BackendError, ft.ProgramError)


class Raises(ScriptedBackend):
    """Every call of it raises this."""

    error: BaseException

    async def generate(self, request: Any) -> Any:
        raise self.error
        yield

    async def score(self, prompt: Any, continuations: Any) -> Any:
        raise self.error

    async def commit(self, prompt: Any) -> None:
        raise self.error

    async def model_info(self) -> Any:
        raise self.error


def generates(s: ft.ProgramState) -> None:
    s += ft.gen("x")


def generates_several(s: ft.ProgramState) -> None:
    s += ft.gen("x", n=2)


def generates_in_time(s: ft.ProgramState) -> None:
    s += ft.gen("x", timeout=50)


def selects(s: ft.ProgramState) -> None:
    s += ft.select("x", ["a", "b"])


def forks(s: ft.ProgramState) -> None:
    s += "text"
    branches = s.fork(2)
    branches.join()


def begins_a_role(s: ft.ProgramState) -> None:
    s += ft.user("hi")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), pytest.fail.Exception("no")], ids=repr)
@pytest.mark.parametrize(
    "func", [generates, generates_several, generates_in_time, selects, forks, begins_a_role], ids=lambda f: f.__name__
)
def test_what_a_backend_raises_is_told_even_if_it_is_no_exception(func: Any, error: BaseException) -> None:
    """pytest.fail in a script, for one: it went past the loop, and the test waited for ever."""
    backend = Raises()
    backend.error = error
    with pytest.raises(ft.GenerationError) as caught:
        ft.function(func).run(backend=backend)
    assert caught.value.cause is error
    assert ft.function(generates).run(backend=ScriptedBackend("fine"))["x"] == "fine"  # the loop goes on for others
