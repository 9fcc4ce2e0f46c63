"""The state of a program: text, variables, scopes, roles."""

from __future__ import annotations

from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import CHATML, Reply, ScriptedBackend


def run(body: Any, backend: ScriptedBackend, **options: Any) -> ft.ProgramState:
    return ft.function(body).run(backend=backend, **options)


def test_text_is_what_was_appended_in_order() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "Once "
        s += ft.gen("a") + " and " + ft.gen("b")
        s += ["! ", ("The ", ft.gen("c"))]

    state = run(program, ScriptedBackend(["upon", "after", "end"]))
    assert state.text() == "Once upon and after! The end"
    assert (state["a"], state["b"], state["c"]) == ("upon", "after", "end")


def test_a_gen_sees_everything_before_it_and_nothing_after() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "1 " + ft.gen("a") + " 2 "
        s += ft.gen("b") + " 3"

    backend = ScriptedBackend("x")
    run(program, backend)
    assert backend.prompts == ["1 ", "1 x 2 "]


def test_reading_waits_for_that_variable_only() -> None:
    def script(prompt: str, request: Any) -> Reply | str:
        return Reply("", hang=True) if prompt.endswith("second ") else "quick"

    def program(s: ft.ProgramState) -> str:
        s += "first " + ft.gen("a") + " second " + ft.gen("b")
        value = s["a"]
        s.cancel()
        s.error()
        return str(value)

    assert run(program, ScriptedBackend(script)).ret_value == "quick"


def test_variables_can_be_set_and_tested_for() -> None:
    def program(s: ft.ProgramState) -> None:
        assert "x" not in s
        s["x"] = 1
        s.set_var("y", [2])
        assert "x" in s
        assert "gen" not in s
        s += ft.gen("gen")
        assert "gen" in s  # it will be

    state = run(program, ScriptedBackend())
    assert (state["x"], state.get_var("y")) == (1, [2])


def test_a_variable_generated_twice_has_its_last_value() -> None:
    def program(s: ft.ProgramState) -> list[str]:
        seen = []
        for _ in range(3):
            s += ft.gen("x")
            seen.append(s["x"])
        return seen

    assert run(program, ScriptedBackend(["1", "2", "3"])).ret_value == ["1", "2", "3"]


def test_a_scope_is_a_variable_of_all_text_inside_it() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "before "
        with s.var_scope("inner"):
            s += "(" + ft.gen("x") + ")"
        s += " after"

    state = run(program, ScriptedBackend("mid"))
    assert state["inner"] == "(mid)"
    assert state.text() == "before (mid) after"


def test_roles_are_rendered_by_the_models_chat_format() -> None:
    def program(s: ft.ProgramState) -> None:
        s += ft.system("Be brief.")
        s += ft.user("Hi")
        s += ft.assistant("Oh: " + ft.gen("answer"))
        s += ft.user("Bye")

    backend = ScriptedBackend("hello")
    state = run(program, backend)
    opened = "<s><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nOh: "
    assert backend.prompts == [opened]
    assert state.text() == opened + "hello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
    assert state.messages() == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Oh: hello"},
        {"role": "user", "content": "Bye"},
    ]


def test_all_forms_of_a_role_give_the_same_text() -> None:
    def call_form(s: ft.ProgramState) -> None:
        s += ft.user("Hi")
        s += ft.assistant(ft.gen("answer"))

    def begin_and_end(s: ft.ProgramState) -> None:
        s += ft.user_begin() + "Hi" + ft.user_end()
        s += ft.assistant_begin()
        s += ft.gen("answer")
        s += ft.assistant_end()

    def blocks(s: ft.ProgramState) -> None:
        with s.user():
            s += "Hi"
        with s.assistant():
            s += ft.gen("answer")

    def methods(s: ft.ProgramState) -> None:
        s.user("Hi")
        s.assistant(ft.gen("answer"))

    states = [run(body, ScriptedBackend("hello")) for body in (call_form, begin_and_end, blocks, methods)]
    assert len({state.text() for state in states}) == 1
    assert {len(state.messages()) for state in states} == {2}


def test_a_role_without_content_is_an_empty_message() -> None:
    state = run(lambda s: s.__iadd__(ft.user()), ScriptedBackend())
    assert state.messages() == [{"role": "user", "content": ""}]


def test_without_a_system_message_the_models_default_comes_first() -> None:
    state = run(lambda s: s.__iadd__(ft.user("Hi")), ScriptedBackend())
    assert state.text().startswith("<s>" + CHATML.default_system + "<|im_start|>user")


def test_what_closes_a_turn_is_there_once_and_stops_the_generation() -> None:
    """The model ends its turn with the token that the suffix begins with; the engine leaves it out of the text."""

    def program(s: ft.ProgramState) -> None:
        s += ft.user("Hi")
        s += ft.assistant(ft.gen("answer", stop="END"))

    backend = ScriptedBackend(Reply("hello", matched=2))
    state = run(program, backend)
    assert state.text().endswith("assistant\nhello<|im_end|>\n")
    assert backend.requests[0].sampling.stop == ("END", "<|im_end|>")


def test_an_open_role_is_not_among_the_messages_yet() -> None:
    def program(s: ft.ProgramState) -> list[dict[str, str]]:
        s += ft.user("Hi") + ft.assistant_begin() + "Well"
        messages = s.messages()
        s += ft.assistant_end()
        return messages

    assert run(program, ScriptedBackend()).ret_value == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (lambda: ft.user_begin() + ft.assistant_begin(), "the user role opened at"),
        (lambda: ft.user_end() + "", "no role is open"),
        (lambda: ft.user_begin() + ft.assistant_end(), "the open role is user"),
    ],
)
def test_roles_that_do_not_nest_are_refused_at_once(nodes: Any, message: str) -> None:
    with pytest.raises(ft.RoleError, match=message) as caught:
        run(lambda s: s.__iadd__(nodes()), ScriptedBackend())
    assert "test_state.py:" in str(caught.value)


def test_a_model_without_chat_format_refuses_roles_and_says_so() -> None:
    def program(s: ft.ProgramState) -> None:
        s += ft.user("Hi")
        s += ft.assistant(ft.gen("x"))
        s["x"]

    with pytest.raises(
        ft.RoleError,
        match=r"user_begin\(\) at .*test_state\.py:\d+: model 'scripted' has no chat template, or one that",
    ):
        run(program, ScriptedBackend(chat_format=None))


def test_programs_without_roles_never_ask_for_the_chat_format() -> None:
    assert run(lambda s: s.__iadd__("plain " + ft.gen("x")), ScriptedBackend(chat_format=None)).text() == "plain ok"


@pytest.mark.parametrize("item", [5, None, 1.5, object(), {"a": 1}])
def test_what_is_not_text_or_a_node_is_refused_with_the_line(item: object) -> None:
    with pytest.raises(ft.ArgumentError, match=r"can't be added to a program at .*test_state\.py:\d+"):
        run(lambda s: s.__iadd__(item), ScriptedBackend())


def test_nothing_can_be_added_after_the_program_has_returned() -> None:
    state = run(lambda s: s.__iadd__("x"), ScriptedBackend())
    with pytest.raises(ft.StateClosed, match="has returned"):
        state += "more"
    with pytest.raises(ft.StateClosed, match="has returned"):
        state.fork(2)


def test_meta_info_is_sglangs() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "abc" + ft.gen("x", return_logprob=True, top_logprobs_num=1)

    meta = run(program, ScriptedBackend(Reply("de", matched=7))).get_meta_info("x")
    assert meta is not None
    assert meta["finish_reason"] == {"type": "stop", "matched": 7}
    assert (meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]) == (3, 2, 0)
    assert meta["output_token_logprobs"] == [[-0.5, ord("d"), None], [-0.5, ord("e"), None]]
    assert meta["output_top_logprobs"] == [[[-0.5, ord("d"), None]], [[-0.5, ord("e"), None]]]
    assert meta["output_ids"] == [ord("d"), ord("e")]


def test_several_outputs_are_a_list_and_the_first_goes_on() -> None:
    def program(s: ft.ProgramState) -> None:
        s += "n: " + ft.gen("x", n=3, seed=5) + "."

    backend = ScriptedBackend(lambda _, request: f"seed {request.sampling.seed}")
    state = run(program, backend)
    assert state["x"] == ["seed 5", "seed 6", "seed 7"]
    assert state.text() == "n: seed 5."
    meta = state.get_meta_info("x")
    assert meta is not None
    assert len(meta["outputs"]) == 3


@pytest.mark.parametrize(
    "make", [lambda node: f"hello {node}", str, lambda node: f"{node:>9}", lambda node: f"%s{'!'}" % node]
)
def test_a_node_inside_a_string_is_refused_where_it_is_written(make: Any) -> None:
    """Its repr went into the prompt, and nothing was generated."""

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += make(ft.gen("x"))

    with pytest.raises(ft.ArgumentError, match=r'gen\("x"\) .* at .*test_state\.py:\d+: add it with \+'):
        program.run(backend=ScriptedBackend())
    assert repr(ft.gen("x")).startswith("Gen(")


def test_a_plus_that_would_make_a_new_state_is_refused_with_what_to_write() -> None:
    with pytest.raises(ft.ArgumentError, match=r"write s \+= \.\.\. \(at .*test_state\.py:\d+\)"):
        ft.function(lambda s: s + "x").run(backend=ScriptedBackend())


def test_a_block_that_raises_closes_its_role_and_its_variable() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        try:
            with s.var_scope("part"), s.user():
                s += "half"
                s += str(1 / 0)
        except ZeroDivisionError:
            pass
        with s.assistant():
            s += ft.gen("x")

    state = program.run(backend=ScriptedBackend("yes"))
    assert [each["content"] for each in state.messages()] == ["half", "yes"]
    assert state["part"].endswith("half<|im_end|>\n")


def test_a_block_that_raises_after_its_role_was_closed_by_hand_raises_just_that() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        with s.user():
            s += ft.user_end()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        program.run(backend=ScriptedBackend())


@pytest.mark.parametrize("write", [lambda t: t, lambda t: ft.user(t), lambda t: t + ft.gen("x"), lambda t: [t]])
def test_half_a_surrogate_pair_is_refused_where_it_is_written(write: Any) -> None:
    """It failed far away, as an error of JSON or of the tokenizer."""

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += write("caf\u00e9 \ud83d")

    with pytest.raises(ft.ArgumentError, match=r"the text at .*test_state\.py:\d+ has a lone surrogate.*offset 5"):
        program.run(backend=ScriptedBackend())
    assert ft.function(lambda s: s.__iadd__("\U0001f600")).run(backend=ScriptedBackend()).text() == "\U0001f600"


def test_what_can_not_be_added_is_named_as_one_says_it() -> None:
    for item, said in ((3, "an int"), (None, "None can't"), ({}, "a dict")):
        with pytest.raises(ft.ArgumentError, match=said):
            ft.function(lambda s, item=item: s.__iadd__(item)).run(backend=ScriptedBackend())
