"""Forks: what branches share, what joins bring back, when the cache is warmed."""

from __future__ import annotations

from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import GenerateRequest
from tests.support.scripted_backend import Reply, ScriptedBackend, text_of


def last_words(prompt: str, request: GenerateRequest) -> str:
    return f"<{prompt.split()[-1]}>"


@ft.function
def three_ways(s: ft.ProgramState) -> None:
    s += "Common part. "
    forks = s.fork(3)
    for i, branch in enumerate(forks):
        branch += f"branch {i} " + ft.gen("tip")
    forks.join()
    s += " | ".join(s["tip"])


def test_join_gathers_in_the_order_of_the_fork() -> None:
    state = three_ways.run(backend=ScriptedBackend(last_words))
    assert state["tip"] == ["<0>", "<1>", "<2>"]
    assert state.text() == "Common part. <0> | <1> | <2>"


def test_what_branches_share_is_computed_once_before_they_start() -> None:
    backend = ScriptedBackend(last_words)
    three_ways.run(backend=backend)
    assert backend.committed == ["Common part. "]
    assert backend.log == ["commit", "generate", "generate", "generate"]


def test_nothing_is_warmed_that_is_in_the_cache_or_used_once() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        for branch in s.fork(2):  # before any text
            branch += ft.gen("a")
        s += "text " + ft.gen("b")
        s.fork(1).join()  # one branch has nobody to share with
        s.fork(3).join()  # right after a gen all is cached
        s += " more"
        s.fork(2).join()
        s.fork(2).join()  # the same text again

    backend = ScriptedBackend()
    program.run(backend=backend)
    assert backend.committed == ["text ok more"]


def test_branches_run_at_the_same_time() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(50)
        forks += ft.gen("x")
        forks.join()

    assert program.run(backend=ScriptedBackend(hold_for=50))["x"] == ["ok"] * 50


def test_variables_of_the_parent_can_be_read_in_its_branches_with_their_meta_info() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> Any:
        s += ft.gen("before")
        branch = s.fork(2)[1]
        return branch["before"], branch.get_meta_info("before")["completion_tokens"]

    assert program.run(backend=ScriptedBackend("four")).ret_value == ("four", 4)


def test_branches_do_not_see_each_other_nor_what_the_parent_adds_later() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> list[str]:
        s += "a"
        forks = s.fork(2)
        s += "late"
        forks[0] += "0"
        forks[1] += "1"
        forks[0]["own"] = 1
        assert "own" not in forks[1]
        return [branch.text() for branch in forks]

    state = program.run(backend=ScriptedBackend())
    assert (state.ret_value, state.text()) == (["a0", "a1"], "alate")


def test_a_group_takes_a_node_a_list_or_a_function() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> list[str]:
        forks = s.fork(2)
        forks += "same "
        forks += ["x ", "y "]
        forks += lambda i: f"{i} " + ft.gen("g")
        forks.join()
        return [branch.text() for branch in forks]

    assert program.run(backend=ScriptedBackend("!")).ret_value == ["same x 0 !", "same y 1 !"]


def test_a_list_of_the_wrong_length_is_refused() -> None:
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ["a"]

    with pytest.raises(ft.ArgumentError, match="got 1 items for 2 branches"):
        ft.function(program).run(backend=ScriptedBackend())


def test_join_can_append_the_text_of_all_branches() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "start "
        forks = s.fork(2)
        forks += lambda i: f"[{i} " + ft.gen("g") + "]"
        forks.join("concate_and_append")
        s += " then " + ft.gen("end")

    backend = ScriptedBackend("ok")
    state = program.run(backend=backend)
    assert state.text() == "start [0 ok][1 ok] then ok"
    assert "g" not in state
    ids = (ord("o"), ord("k"))
    assert backend.requests[-1].prompt == ("start [0 ", ids, "][1 ", ids, "] then ")


def test_a_variable_that_only_some_branches_define_keeps_its_places() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks[1] += ft.gen("x")
        forks.join()

    assert program.run(backend=ScriptedBackend("v"))["x"] == [None, "v", None]


def test_join_gathers_what_branches_define_anew_and_leaves_the_rest_alone() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x") + ft.gen("y")
        forks = s.fork(2)
        forks[1] += ft.gen("x")
        forks.join()

    state = program.run(backend=ScriptedBackend(["first", "second", "third"]))
    assert (state["x"], state["y"]) == ([None, "third"], "second")


def test_a_second_round_of_forks_gathers_its_own_values() -> None:
    """The join took only names that the parent had not got: from the second round on, s["v"] was the first's."""

    @ft.function
    def program(s: ft.ProgramState) -> list[Any]:
        rounds = []
        for i in range(2):
            forks = s.fork(2)
            forks += f"round {i}" * (i + 1) + ft.gen("v")
            forks.join()
            branches = s.get_meta_info("v")["branches"]  # type: ignore[index]
            rounds.append((s["v"], [each["prompt_tokens"] for each in branches]))
        return rounds

    found = program.run(backend=ScriptedBackend(lambda prompt, _: prompt[-1])).ret_value
    assert found == [(["0", "0"], [7, 7]), (["1", "1"], [14, 14])]


def test_a_copy_lives_for_its_block() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "a "
        with s.copy() as other:
            other += ft.gen("x")
            assert other.text() == "a v"
        s += "b"

    state = program.run(backend=ScriptedBackend("v"))
    assert (state.text(), state["x"]) == ("a b", ["v"])


def test_a_copy_whose_block_raises_brings_nothing_back_and_the_program_goes_on() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        try:
            with s.copy() as other:
                other += ft.gen("x") + str(1 / 0)
        except ZeroDivisionError:
            s += "b"
        with pytest.raises(ft.StateClosed, match="left by an exception"):
            other += "more"

    state = program.run(backend=ScriptedBackend("v"))
    assert state.text() == "b"
    assert "x" not in state


def test_forks_of_forks_and_open_roles() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> list[list[str]]:
        s += ft.user("Q") + ft.assistant_begin()
        outer = s.fork(2)
        for i, branch in enumerate(outer):
            inner = branch.fork(2)
            inner += lambda j, i=i: f"{i}{j} " + ft.gen("leaf") + ft.assistant_end()
            inner.join()
        outer.join()
        s += ft.assistant_end()
        return s["leaf"]  # type: ignore[no-any-return]

    state = program.run(backend=ScriptedBackend(last_words))
    assert state.ret_value == [["<00>", "<01>"], ["<10>", "<11>"]]


def test_fork_refuses_what_is_no_number_of_branches() -> None:
    for size in (0, -1, True, 1.5, "2"):
        with pytest.raises(ft.ArgumentError, match="wanted 1 or more"):
            ft.function(lambda s, size=size: s.fork(size)).run(backend=ScriptedBackend())


def test_a_joined_branch_can_be_read_but_not_added_to() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join()
        assert forks[0]["x"] == "ok"
        forks[0] += "more"
        return "not reached"

    with pytest.raises(ft.StateClosed, match=r"this branch was joined at .*test_fork\.py:\d+"):
        program.run(backend=ScriptedBackend())


def test_join_refuses_an_unknown_mode() -> None:
    with pytest.raises(ft.ArgumentError, match="wanted gather_variable or concate_and_append"):
        ft.function(lambda s: s.fork(2).join("sideways")).run(backend=ScriptedBackend())


def test_prompts_keep_generated_tokens_and_merge_constant_text() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "a"
        s += "b"
        s += ft.gen("x")
        s += "c" + ft.gen("y")
        forks = s.fork(2)
        for branch in forks:
            branch += "d"
            branch += "e" + ft.gen("z")
        forks.join()

    backend = ScriptedBackend(["x", Reply("y!", exact=False), "z", "z"])
    program.run(backend=backend)
    first, second, third, _ = (request.prompt for request in backend.requests)
    assert first == ("ab",)
    assert second == ("ab", (ord("x"),), "c")
    assert third == ("ab", (ord("x"),), "c", "y!", "de")  # text where its tokens spell something else
    assert text_of(third) == "abxcy!de"


def test_a_branch_that_outlives_its_program_can_be_read_and_nothing_added() -> None:
    kept: list[ft.ProgramState] = []

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "x"
        kept.extend(s.fork(2))
        kept[0].__iadd__(ft.gen("a"))

    program.run(backend=ScriptedBackend("yes"))
    assert kept[0]["a"] == "yes"
    for branch in kept:
        with pytest.raises(ft.StateClosed, match="program 'program' has returned"):
            branch += ft.gen("late")
