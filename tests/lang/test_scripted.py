"""ft.testing.ScriptedBackend: what users test their programs with."""

from __future__ import annotations

import dataclasses
import time

import pytest

import forktree as ft
import forktree.lang.testing
import forktree.testing
from forktree.lang.backends.protocol import EVERYTHING
from forktree.testing import HANG, Reply, ScriptedBackend, ScriptError


@ft.function
def agent(s: ft.ProgramState, question: str) -> None:
    s += "Q: " + question + "\nThought: " + ft.gen("thought", stop="\n")
    s += "\nTool: " + ft.select("tool", ["search", "answer"])
    s += "\nAnswer: " + ft.gen("answer")


def test_gens_and_selects_are_answered_by_variable() -> None:
    backend = ScriptedBackend({"thought": "hm", "answer": "42"}, choices={"tool": "answer"})
    state = agent.run("6 x 7?", backend=backend)
    assert (state["thought"], state["tool"], state["answer"]) == ("hm", "answer", "42")
    assert backend.log == ["generate", "score", "generate"]
    assert backend.prompts[0] == "Q: 6 x 7?\nThought: "
    assert backend.scored == [("Q: 6 x 7?\nThought: hm\nTool: ", ("search", "answer"))]
    assert backend.requests[0].sampling.stop == ("\n",)


def test_a_variable_may_have_several_answers_in_order_and_endings_serve_where_no_variable_does() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        for _ in range(2):
            s += "step " + ft.gen("step")
        s += " so: " + ft.gen()

    assert program.run(backend=ScriptedBackend({"step": ["a", "b"], "so: ": "done"})).text() == "step astep b so: done"


def test_answers_in_order_and_by_function() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("a") + ft.gen("b")

    assert program.run(backend=ScriptedBackend(["x", "y"])).text() == "xy"
    assert program.run(backend=ScriptedBackend(lambda prompt, request: f"<{prompt}>")).text() == "<><<>>"


def test_choices_in_order_or_by_function_win_by_every_method() -> None:
    @ft.function
    def program(s: ft.ProgramState, method: ft.ChoicesMethod) -> None:
        s += "pick " + ft.select("a", ["x", "xy", "z"], choices_method=method)

    for method in (
        ft.token_length_normalized,
        ft.greedy_token_selection,
        ft.unconditional_likelihood_normalized,
    ):
        for choice in ("x", "xy", "z"):
            by_function = ScriptedBackend(choices=lambda prompt, choices, choice=choice: choice)
            assert program.run(method, backend=ScriptedBackend(choices=[choice]))["a"] == choice
            assert program.run(method, backend=by_function)["a"] == choice


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (ScriptedBackend({"other": "x"}), r"no answer for gen\('thought'\), whose prompt ends .*; it has .* 'other'"),
        (ScriptedBackend([]), "the script has 0 answers, and this is request 1; its prompt ends"),
        (ScriptedBackend("x", choices=["no"]), "the script chooses 'no', which is none of 'search', 'answer'"),
        (ScriptedBackend("x", choices={"a": "b"}), r"no answer for select\('tool'\)"),
    ],
)
def test_what_is_not_in_the_script_is_said(backend: ScriptedBackend, message: str) -> None:
    with pytest.raises(ft.GenerationError, match=message) as caught:
        agent.run("?", backend=backend)
    assert isinstance(caught.value.cause, ScriptError)


def test_failures_come_at_once_or_after_some_text() -> None:
    with pytest.raises(ft.GenerationError, match="down"):
        agent.run("?", backend=ScriptedBackend(ft.BackendUnavailable("down")))
    broken = ScriptedBackend(Reply("half a", error=ft.BackendError("cut off")))
    state = agent.stream("?", backend=broken)
    pieces = state.text_iter("thought")
    assert "half a".startswith(next(pieces))
    with pytest.raises(ft.GenerationError, match="cut off"):
        list(pieces)


def test_a_hanging_answer_ends_with_its_program() -> None:
    backend = ScriptedBackend(HANG)

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("a")
        s.cancel()

    with pytest.raises(ft.ProgramCancelled):
        program.run(backend=backend).text()
    assert backend.num_running == 0


def test_virtual_seconds_are_counted_along_the_critical_path() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += ft.gen("a")
        forks.join()
        s += ft.gen("b")

    backend = ScriptedBackend({"a": [Reply("x", seconds=30), "y", "z"], "b": "done"}, latency=10, clock="virtual")
    began = time.monotonic()
    assert program.run(backend=backend)["a"] == ["x", "y", "z"]
    assert backend.seconds == 40
    assert time.monotonic() - began < 5


def test_virtual_seconds_count_tokens_and_programs_run_side_by_side() -> None:
    @ft.function
    def program(s: ft.ProgramState, name: str) -> None:
        s += name + ft.gen("a", n=2) + " or " + ft.select("b", ["x", "y"])

    backend = ScriptedBackend({"1": "long" * 10, "2": "short"}, per_token=1, latency=2, clock="virtual")
    program.run_batch([("1",), ("2",)], backend=backend)
    assert backend.seconds == 2 + 40 + 2


def test_real_seconds_pass() -> None:
    began = time.monotonic()
    agent.run("?", backend=ScriptedBackend(latency=0.02))
    assert time.monotonic() - began >= 3 * 0.02


def test_what_a_backend_can_not_do_can_be_scripted_too() -> None:
    backend = ScriptedBackend(capabilities=dataclasses.replace(EVERYTHING, select=False, name="a plain endpoint"))
    with pytest.raises(ft.UnsupportedByBackend, match="a plain endpoint has no such thing"):
        agent.run("?", backend=backend)


def test_the_names_are_the_same_by_every_road() -> None:
    assert forktree.testing.ScriptedBackend is forktree.lang.testing.ScriptedBackend is ft.testing.ScriptedBackend
    assert forktree.testing.__all__ == forktree.lang.testing.__all__
