"""separate_reasoning: thoughts and answers told apart."""

from __future__ import annotations

from typing import Any

import pytest

import forktree as ft
from forktree.lang.reasoning import ReasoningTags, tags_of
from tests.support.scripted_backend import ScriptedBackend


@pytest.mark.parametrize(
    ("model_type", "text", "thoughts", "answer"),
    [
        (None, "<think>hm</think>\n\nyes", "hm", "yes"),
        (None, "yes", "", "yes"),
        (None, "<think>hm, cut", "hm, cut", ""),
        (None, "no <think> here", "", "no <think> here"),
        ("qwen3", "<think>\n\n</think>\n\n4", "", "4"),
        ("qwen3", "hm</think>4", "hm", "4"),
        ("deepseek-r1", "hm</think>4", "hm", "4"),
        ("deepseek-r1", "hm, cut", "hm, cut", ""),
        ("kimi", "\u25c1think\u25b7hm\u25c1/think\u25b74", "hm", "4"),
    ],
)
def test_an_output_is_cut_by_the_tags_of_its_model(
    model_type: str | None, text: str, thoughts: str, answer: str
) -> None:
    assert tags_of(model_type, "a test").split(text) == (thoughts, answer)


def test_the_variable_and_the_text_go_on_without_the_thoughts() -> None:
    @ft.function
    def program(s: Any) -> None:
        s += ft.user("2 + 2?")
        s += ft.assistant(ft.separate_reasoning(ft.gen("sum"), model_type="qwen3"))
        s += ft.user("Sure?")
        s += ft.assistant(ft.gen("sure"))

    backend = ScriptedBackend(["<think>two and two</think>4", "Yes."])
    state = program.run(backend=backend)
    assert (state["sum"], state["sum_reasoning_content"], state["sure"]) == ("4", "two and two", "Yes.")
    assert state.messages()[1] == {"role": "assistant", "content": "4"}
    assert "two and two" not in backend.prompts[-1]


def test_a_gen_that_fails_fails_its_thoughts_too() -> None:
    @ft.function
    def program(s: Any) -> None:
        s += ft.separate_reasoning("x" + ft.gen("a"))
        with pytest.raises(ft.GenerationError, match=r'gen\("a"\)'):
            _ = s["a_reasoning_content"]

    program.run(backend=ScriptedBackend(ft.BackendError("no")))


def test_what_is_traced_ends_where_thoughts_are_told_apart() -> None:
    @ft.function
    def program(s: Any) -> None:
        s += "x" + ft.separate_reasoning(ft.gen("a"))

    graph = program.trace()
    assert graph.open is not None
    assert "thoughts" in graph.open.reason
    assert ReasoningTags().split("") == ("", "")
