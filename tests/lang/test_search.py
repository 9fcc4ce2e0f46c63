"""best_of and search: branches are scored on copies, the best goes on, losers are cancelled as soon as they lose."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

BROKEN = ft.RequestRefused("refused")


def in_turn(*answers: Any) -> Any:
    """A script that gives each gen named by its prompt's end the next answer."""
    remaining = iter(answers)
    return lambda prompt, request: next(remaining)


def test_best_of_goes_on_with_the_branch_of_the_highest_score() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> float:
        s += "Joke: "
        found = s.best_of(3, "joke", score=lambda b: len(b["joke"]), max_tokens=9)
        s += "."
        return found

    backend = ScriptedBackend(in_turn("ab", "abcd", "abc"))
    state = program.run(backend=backend)
    assert (state.text(), state["joke"], state.ret_value) == ("Joke: abcd.", "abcd", 4.0)
    assert {request.sampling.max_new_tokens for request in backend.requests} == {9}
    assert backend.committed == ["Joke: "]  # the shared prefix is computed once


def test_the_first_of_equals_wins_whatever_ends_first() -> None:
    state = ft.function(lambda s: s.best_of(3, "x", score=lambda b: 1)).run(backend=ScriptedBackend(in_turn(*"abc")))
    assert state["x"] == "a"


def test_without_a_score_the_likeliest_output_wins() -> None:
    backend = ScriptedBackend(in_turn("a", "b"))
    state = ft.function(lambda s: s.best_of(2, "x")).run(backend=backend)
    assert state.ret_value == -0.5
    assert all(request.return_logprob for request in backend.requests)


def test_a_judge_asks_the_model_on_a_copy_and_leaves_no_trace() -> None:
    @ft.function
    def judge(s: ft.ProgramState) -> int:
        s += " Rate: " + ft.gen("rating", type=int)
        return int(s["rating"])

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Q "
        s.best_of(2, "x", score=judge)
        s += "!"

    answers = iter("ab")
    script = {"a Rate: ": "3", "b Rate: ": "8"}
    backend = ScriptedBackend(lambda prompt, _: next(answers) if prompt == "Q " else script[prompt.removeprefix("Q ")])
    state = program.run(backend=backend)
    assert (state.text(), state["x"]) == ("Q b!", "b")
    assert "rating" not in state


def test_losers_are_cancelled_as_soon_as_one_is_good_enough() -> None:
    backend = ScriptedBackend(in_turn(HANG, "good", HANG))
    state = ft.function(lambda s: s.best_of(3, "x", score=lambda b: 1.0, good_enough=0.5)).run(backend=backend)
    assert state["x"] == "good"
    wait_until(lambda: backend.num_running == 0)
    assert backend.num_cancelled == 2


def test_branches_that_fail_lose_and_all_failing_is_an_error_with_the_line() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s.best_of(2, "x", score=lambda b: len(b["x"]))

    assert program.run(backend=ScriptedBackend(in_turn(BROKEN, "ok")))["x"] == "ok"
    with pytest.raises(ft.BranchErrors, match=r"2 of 2 branches of the fork at .*test_search\.py:\d+ failed"):
        program.run(backend=ScriptedBackend(BROKEN))


def test_a_mistake_in_a_score_is_not_taken_for_a_loss() -> None:
    backend = ScriptedBackend(in_turn("a", HANG))
    with pytest.raises(ZeroDivisionError):
        ft.function(lambda s: s.best_of(2, "x", score=lambda b: len(b["x"]) / 0)).run(backend=backend)
    wait_until(lambda: backend.num_running == 0)
    with pytest.raises(TypeError, match="score: got 'high', wanted a number"):
        ft.function(lambda s: s.best_of(2, "x", score=lambda b: "high")).run(backend=ScriptedBackend())


def test_a_seed_gives_every_branch_its_own() -> None:
    backend = ScriptedBackend()
    ft.function(lambda s: s.best_of(3, "x", seed=7, score=lambda b: 0)).run(backend=backend)
    assert sorted(request.sampling.seed or 0 for request in backend.requests) == [7, 8, 9]


def test_best_of_inside_a_role_stays_inside_its_message() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.user("Q")
        with s.assistant():
            s.best_of(2, "x", score=lambda b: ord(b["x"]))
        s += ft.user("More")

    state = program.run(backend=ScriptedBackend(in_turn("a", "b")))
    assert [message["content"] for message in state.messages()] == ["Q", "b", "More"]


def test_many_programs_of_a_batch_can_search_at_once() -> None:
    @ft.function
    def program(s: ft.ProgramState, i: int) -> None:
        s += f"{i}"
        s.best_of(3, "x", score=lambda b: 0)

    states = program.run_batch([(i,) for i in range(20)], backend=ScriptedBackend(lambda prompt, _: prompt + "!"))
    assert [state["x"] for state in states] == [f"{i}!" for i in range(20)]


def test_async_programs_await_it() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> float:
        s += "a"
        with pytest.raises(ft.BlockingRead):
            s.best_of(2, "x")
        return await s.abest_of(2, "x", score=lambda b: len(b["x"]))

    state = asyncio.run(program.arun(backend=ScriptedBackend(in_turn("b", "bcd"))))
    assert (state["x"], state.ret_value) == ("bcd", 3.0)


def test_the_line_is_the_users_wherever_the_branches_are_driven_from() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        await s.abest_of(2, "x")

    with pytest.raises(ft.BranchErrors) as caught:
        program.run(backend=ScriptedBackend(BROKEN))
    assert str(caught.value).count("test_search.py:") == 3  # the fork and both gens
    assert "waiting.py" not in str(caught.value)


def value(branch: ft.ProgramState) -> int:
    return int(branch.text() or 0)


def digits(prompt: str, _: object) -> str:
    """Children of one branch get 1, 2, 3: told apart by what was asked before."""
    asked[prompt] = asked.get(prompt, 0) + 1
    return str(asked[prompt])


asked: dict[str, int] = {}


@pytest.fixture(autouse=True)
def nothing_was_asked() -> None:
    asked.clear()


def test_search_keeps_the_best_branches_of_every_level() -> None:
    backend = ScriptedBackend(digits)
    program = ft.function(lambda s: ft.search(s, ft.gen("d"), value, width=3, depth=3, beam=2))
    state = program.run(backend=backend)
    assert (state.text(), state.ret_value, state["d"]) == ("333", 333.0, "3")
    assert sorted(set(backend.prompts)) == ["", "2", "3", "32", "33"]  # two kept branches per level


def test_search_expands_by_code_that_reads_and_prunes_before_it_scores() -> None:
    scored = []

    def expand(branch: ft.ProgramState) -> None:
        branch += ft.gen("d")
        branch["seen"] = branch["d"] * 2

    def score(branch: ft.ProgramState) -> int:
        scored.append(branch.text())
        return value(branch)

    @ft.function
    def program(s: ft.ProgramState) -> None:
        ft.search(s, expand, score, width=3, depth=2, prune=lambda b: b["d"] == "3")

    state = program.run(backend=ScriptedBackend(digits))
    assert (state.text(), state["seen"]) == ("22", "22")
    assert sorted(scored) == ["1", "2", "21", "22"]


def test_search_ends_when_it_is_good_enough_and_cancels_the_rest() -> None:
    def script(prompt: str, _: object) -> Any:
        answer = digits(prompt, _)
        return answer if prompt == "" or answer == "2" else Reply("", hang=True)

    backend = ScriptedBackend(script)
    state = ft.function(lambda s: ft.search(s, ft.gen("d"), value, depth=9, good_enough=32)).run(backend=backend)
    assert state.text() == "32"
    wait_until(lambda: backend.num_running == 0)


def test_a_level_without_survivors_ends_the_search_with_the_level_before() -> None:
    backend = ScriptedBackend(lambda prompt, request: digits(prompt, request) if len(prompt) < 2 else BROKEN)
    state = ft.function(lambda s: ft.search(s, ft.gen("d"), value, depth=5)).run(backend=backend)
    assert state.text() == "33"
    with pytest.raises(ft.BranchErrors, match="3 of 3 branches"):
        ft.function(lambda s: ft.search(s, ft.gen("d"), value, prune=lambda b: True)).run(backend=ScriptedBackend())


@pytest.mark.parametrize("wrong", [{"width": 0}, {"depth": 1.5}, {"beam": True}])
def test_numbers_of_a_search_are_checked_with_the_line(wrong: Any) -> None:
    program = ft.function(lambda s: ft.search(s, ft.gen("d"), value, **wrong))
    with pytest.raises(ft.ArgumentError, match=rf"search: {next(iter(wrong))}: got .*test_search\.py:\d+"):
        program.run(backend=ScriptedBackend())
