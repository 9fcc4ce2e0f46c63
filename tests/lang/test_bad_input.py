"""What a program's author can get wrong: each is a typed exception at the line that caused it, and nothing hangs."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import ScriptedBackend

HERE = r"test_bad_input\.py:\d+"


def run(body: Any, **options: Any) -> ft.ProgramState:
    return ft.function(body).run(backend=ScriptedBackend(), **options)


def test_an_unknown_variable() -> None:
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("answer")
        s["anwser"]

    with pytest.raises(ft.MissingVariable, match=rf"no variable 'anwser' at .*{HERE}; this state has: 'answer'"):
        run(program)


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_a_role_left_open_at_the_end(role: str) -> None:
    def program(s: ft.ProgramState) -> None:
        s += getattr(ft, f"{role}_begin")() + "text"

    message = rf"{role}_begin\(\) at .*{HERE}: the role is still open where program 'program' ends; .*{role}_end"
    with pytest.raises(ft.RoleError, match=message):
        run(program)


def test_a_role_left_open_by_an_async_program() -> None:
    async def program(s: ft.AsyncState) -> None:
        s += ft.user_begin()

    with pytest.raises(ft.RoleError, match="still open"):
        asyncio.run(ft.function(program).arun(backend=ScriptedBackend()))


def test_a_helper_may_leave_a_role_for_its_caller_to_close() -> None:
    helper = ft.function(lambda s: s.__iadd__(ft.assistant_begin() + ft.gen("x")))

    def program(s: ft.ProgramState) -> None:
        helper(s)
        s += ft.assistant_end()

    assert run(program).messages() == [{"role": "assistant", "content": "ok"}]


@pytest.mark.parametrize("node", [lambda: ft.gen("x"), lambda: ft.select("x", ["a", "b"])])
@pytest.mark.parametrize("before", [lambda: ft.user("Hi"), lambda: ft.user("Hi") + ft.assistant("Ho")])
def test_a_gen_between_messages_where_no_template_has_a_place_for_it(node: Any, before: Any) -> None:
    def program(s: ft.ProgramState) -> None:
        s += before()
        s += node()

    with pytest.raises(ft.RoleError, match=rf"x\"\) at .*{HERE} stands between messages, .*{HERE}: .*ft\.assistant\("):
        run(program)


def test_a_gen_after_text_of_the_programs_own_or_inside_any_role_is_its_own_business() -> None:
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("first") + ft.user("Hi" + ft.gen("more")) + "<|im_start|>assistant\n" + ft.gen("x")
        forks = s.fork(2)
        forks += ft.gen("y")

    assert run(program)["x"] == "ok"


def test_a_gen_of_a_branch_right_after_a_message_of_its_parent() -> None:
    def program(s: ft.ProgramState) -> None:
        s += ft.user("Hi")
        forks = s.fork(2)
        forks += ft.gen("x")

    with pytest.raises(ft.RoleError, match="stands between messages"):
        run(program)


def test_a_fork_of_a_finished_state() -> None:
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks.join()
        with pytest.raises(ft.StateClosed, match=rf"at .*{HERE}: this branch was joined at .*{HERE}"):
            forks[0].fork(2)

    state = run(program)
    with pytest.raises(ft.StateClosed, match=rf"nothing can be added at .*{HERE}: program 'program' has returned"):
        state.fork(2)


@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_a_group_that_is_joined_twice(mode: Any) -> None:
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join(mode)
        forks.join(mode)

    with pytest.raises(ft.StateClosed, match=rf"join at .*{HERE}: the branches of this fork were joined at .*{HERE}"):
        run(program)


def test_a_branch_that_goes_on_after_its_own_group_was_joined() -> None:
    def work(branch: ft.ProgramState, group: ft.ForkGroup) -> None:
        branch += ft.gen("x")
        group.join()
        branch += ft.gen("y")

    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        work(forks[0], forks)

    with pytest.raises(ft.StateClosed, match=rf"nothing can be added at .*{HERE}: this branch was joined at .*{HERE}"):
        run(program)


def test_coroutines_that_join_the_same_group() -> None:
    async def program(s: ft.AsyncState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        await asyncio.gather(forks.ajoin(), forks.ajoin())

    with pytest.raises(ft.StateClosed, match="were joined at"):
        run(program)


def test_a_branch_that_adds_the_state_it_was_forked_from() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "text"
        forks = s.fork(1)
        below = forks[0].fork(1)
        with pytest.raises(ft.ArgumentError, match=rf"can't add the state that it was forked from.*{HERE}"):
            forks[0] += s
        with pytest.raises(ft.ArgumentError, match="forked from"):
            below[0] += s
        with pytest.raises(ft.ArgumentError, match="can't be added to itself"):
            s += s
        forks[0] += "!"
        forks.join()

    assert run(program).text() == "text"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda: ft.image("cat.png"), "image: no vision model exists here yet"),
        (lambda: ft.video("cat.mp4", 8), "video: no vision model exists here yet"),
        (lambda: ft.separate_reasoning(ft.gen("x"), model_type="parrot"), "model_type: got 'parrot', wanted one of"),
        (lambda: ft.separate_reasoning(ft.gen("x", n=2)), r'gen\("x"\) has type= or n='),
        (lambda: ft.global_config.verbosity, r"global_config\.verbosity: nothing is set globally"),
        (lambda: setattr(ft.global_config, "enable_parallel_encoding", True), "global_config"),
    ],
)
def test_what_sglang_has_and_forktree_has_not_is_refused_where_it_is_used(use: Any, message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=rf"{message}.*{HERE}"):
        use()


def test_the_default_backend_is_part_of_the_global_config() -> None:
    backend = ScriptedBackend()
    ft.global_config.default_backend = backend
    assert ft.global_config.default_backend is backend
    assert ft.function(lambda s: s.__iadd__(ft.gen("x"))).run()["x"] == "ok"
    assert copy.copy(ft.global_config).default_backend is backend
