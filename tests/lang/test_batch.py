"""Many programs at once: in order, in one thread, each with its own error."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import forktree as ft
from tests.support.scripted_backend import ScriptedBackend

BROKEN = ft.RequestRefused("no")


@ft.function
def echo(s: ft.ProgramState, word: str, tail: str = "") -> str:
    s += word + " " + ft.gen("x")
    return s["x"] + tail


def parrot() -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: BROKEN if prompt == "bad " else prompt.strip() + "!")


def test_states_come_back_in_order_for_dicts_and_tuples() -> None:
    states = echo.run_batch([{"word": "a"}, ("b",), ["c", "?"], {"tail": ".", "word": "d"}], backend=parrot())
    assert [state.ret_value for state in states] == ["a!", "b!", "c!?", "d!."]


def test_an_empty_batch_is_an_empty_list_even_without_a_backend() -> None:
    assert echo.run_batch([]) == []


@pytest.mark.slow
def test_two_thousand_programs_share_one_thread() -> None:
    backend = parrot()
    before = threading.active_count()
    states = echo.run_batch([{"word": str(i)} for i in range(2000)], num_threads=2000, backend=backend)
    assert [state.ret_value for state in states] == [f"{i}!" for i in range(2000)]
    assert threading.active_count() - before <= 1


def test_no_more_are_in_flight_than_allowed() -> None:
    backend = parrot()
    echo.run_batch([{"word": str(i)} for i in range(40)], num_threads=3, backend=backend)
    assert backend.most_running <= 3


@pytest.mark.slow
def test_ten_thousand_programs_can_be_in_flight() -> None:
    backend = ScriptedBackend(hold_for=10_000)
    before = threading.active_count()
    states = echo.run_batch([{"word": "w"}] * 10_000, num_threads=10_000, backend=backend)
    assert {state["x"] for state in states} == {"ok"}
    assert threading.active_count() - before <= 1


def test_one_failing_program_does_not_keep_the_others_from_their_end() -> None:
    items = [{"word": word} for word in ("a", "bad", "b", "bad")]
    with pytest.raises(ft.BatchErrors) as caught:
        echo.run_batch(items, backend=parrot())
    error = caught.value
    assert sorted(error.errors) == [1, 3]
    assert "2 of 4 programs failed" in str(error)
    assert 'program 1: GenerationError: gen("x") at' in str(error)
    assert [error.states[i].ret_value for i in (0, 2)] == ["a!", "b!"]


def test_errors_can_be_kept_in_the_states() -> None:
    states = echo.run_batch([("a",), ("bad",), ("b",)], return_errors=True, backend=parrot())
    assert [type(state.error()) for state in states] == [type(None), ft.GenerationError, type(None)]
    with pytest.raises(ft.GenerationError):
        _ = states[1].ret_value
    with pytest.raises(ft.GenerationError):
        states[1]["x"]


def test_the_programs_own_exceptions_are_its_error_too() -> None:
    @ft.function
    def program(s: ft.ProgramState, i: int) -> float:
        return 1 / i

    states = program.run_batch([(1,), (0,)], return_errors=True, backend=parrot())
    assert isinstance(states[1].error(), ZeroDivisionError)
    with pytest.raises(ft.BatchErrors, match="program 1: ZeroDivisionError"):
        program.run_batch([(1,), (0,)], backend=parrot())


def test_generator_style_yields_in_order_and_raises_in_its_place() -> None:
    states = echo.run_batch([(word,) for word in ("a", "b", "bad", "c")], generator_style=True, backend=parrot())
    assert [next(states).ret_value, next(states).ret_value] == ["a!", "b!"]
    with pytest.raises(ft.GenerationError):
        next(states)


def test_generator_style_does_not_run_far_ahead() -> None:
    backend = parrot()
    states = echo.run_batch([(str(i),) for i in range(100)], generator_style=True, num_threads=4, backend=backend)
    next(states)
    assert len(backend.requests) <= 8
    assert len(list(states)) == 99


def test_a_program_can_run_a_batch_of_others() -> None:
    @ft.function
    def outer(s: ft.ProgramState, word: str) -> str:
        inner = echo.run_batch([(f"{word}{i}",) for i in range(3)])
        s += word + " " + ft.gen("y")
        return ",".join(state.ret_value for state in inner) + ";" + s["y"]

    states = outer.run_batch([("a",), ("b",)], backend=parrot())
    assert [state.ret_value for state in states] == ["a0!,a1!,a2!;a!", "b0!,b1!,b2!;b!"]


def test_programs_see_the_context_variables_of_their_caller() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    @ft.function
    def program(s: ft.ProgramState) -> str:
        s += ft.gen("x")
        s["x"]
        seen = variable.get()
        variable.set("changed inside")
        return seen

    variable.set("outer")
    states = program.run_batch([{}] * 2, backend=parrot())
    assert [state.ret_value for state in states] == ["outer", "outer"]
    assert variable.get() == "outer"


def test_run_batch_works_inside_a_running_event_loop() -> None:
    async def notebook_cell() -> list[str]:
        return [state.ret_value for state in echo.run_batch([("a",), ("b",)], backend=parrot())]

    assert asyncio.run(notebook_cell()) == ["a!", "b!"]


def test_batches_run_in_several_threads_at_once() -> None:
    results: dict[int, list[str]] = {}

    def work(number: int) -> None:
        states = echo.run_batch([(f"{number}-{i}",) for i in range(20)], backend=parrot())
        results[number] = [state.ret_value for state in states]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [f"{number}-{i}!" for i in range(20)] for number in range(4)}


def test_the_progress_bar_goes_to_the_terminals_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    echo.run_batch([("a",)] * 3, progress_bar=True, backend=parrot())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "programs" in captured.err


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ([5], {}, "item 0 of the batch: wanted a dict or a tuple"),
        ([("a",), {"wrod": "b"}], {}, "item 1 of the batch: program 'echo' has no argument 'wrod'; it has word, tail"),
        ([("a", "b", "c")], {}, "item 0 of the batch: .*too many positional arguments"),
        ({"word": "a"}, {}, "run_batch takes a list of dicts or tuples, got a dict"),
        ([("a",)], {"word": "a"}, "run_batch has no option 'word'"),
        ([("a",)], {"num_threads": 0}, "num_threads: got 0"),
        (
            [("a",)],
            {"temperature": -1},
            r"temperature: got -1, wanted a number from 0 to 100 \(in echo.run_batch, .*test_batch\.py:\d+\)",
        ),
    ],
)
def test_wrong_batches_are_refused_before_anything_runs(
    batch: object, options: dict[str, object], message: str
) -> None:
    backend = parrot()
    with pytest.raises(ft.ArgumentError, match=message):
        echo.run_batch(batch, **options, backend=backend)  # type: ignore[arg-type]
    assert backend.requests == []
