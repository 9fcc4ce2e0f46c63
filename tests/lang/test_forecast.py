"""A prefix cache played through on tokens.  A token is a character here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import ChatFormat
from forktree.lang.forecast import Count, Forecast, Item, forecast, texts_to_tokenize
from forktree.lang.meta import ObservedOutput
from forktree.lang.options import SamplingOptions
from forktree.lang.plan import Plan, make_plan

CHAT = ChatFormat("", "", {"user": ("<", ">"), "assistant": ("(", ")")})
END = 0x29  # ")"


def plan_of(write: Any) -> Plan:
    plan = make_plan(ft.function(write).trace(), CHAT, SamplingOptions())
    assert plan.whole
    return plan


def play(items: Sequence[Item], bos: tuple[int, ...] = ()) -> Forecast:
    ids = {text: [ord(character) for character in text] for text in texts_to_tokenize(items)}
    return forecast(items, ids, bos)


def computed(
    write: Any, observed: Mapping[int, Sequence[ObservedOutput]] | None = None, *, warms_forks: bool = False
) -> list[int]:
    """Per plan node; nothing of it may depend on the outputs' lengths."""
    (nodes,) = play([Item(plan_of(write), {}, observed or {}, warms_forks)]).nodes
    assert all(node.computed.more == 0 for node in nodes)
    return [node.computed.known for node in nodes]


def output(text: str, *, ends: str = "", reason: str = "stop", kept: bool = True) -> ObservedOutput:
    """`ends`: what was sampled after the text."""
    ids = tuple(map(ord, text))
    return ObservedOutput(text, (*ids, *map(ord, ends)), ids if kept else None, reason)


# ---- generations


def test_a_prompt_is_computed_once_and_a_second_call_computes_what_is_new() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.gen("a") + "678" + ft.gen("b")

    assert computed(write) == [5, 3]


def test_a_call_whose_prompt_is_cached_computes_its_last_token() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.gen("a", n=3)

    assert computed(write) == [5 + 1 + 1]


def test_a_call_right_after_an_output_computes_its_last_token() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.gen("a") + ft.gen("b")

    assert computed(write) == [5, 1]


def test_a_stop_that_the_program_writes_back_is_cached() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12" + ft.gen("a", stop=[".", "\n"]) + "\nabc" + ft.gen("b")

    assert computed(write) == [2, 3]


def test_the_end_of_a_turn_is_cached_as_the_output_ended_with_it() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a")) + ft.user("So") + ft.assistant(ft.gen("b"))

    assert computed(write) == [len("<Hi>("), len("<So>(")]


def test_a_constrained_output_ends_with_what_it_spells() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a", regex="[a-z]+")) + ft.user("So") + ft.assistant(ft.gen("b"))

    assert computed(write) == [len("<Hi>("), len(")<So>(")]


# ---- once it is known how outputs ended


def two_turns(s: ft.ProgramState) -> None:
    s += ft.user("Hi") + ft.assistant(ft.gen("a", max_tokens=8)) + ft.user("So") + ft.assistant(ft.gen("b"))


@pytest.mark.parametrize(
    ("ended", "second"),
    [
        (output("yes", ends=")"), len("<So>(")),
        (output("yesyes!!", reason="length"), len("!)<So>(")),  # nothing was sampled after its last token
        (output("yesyes!", ends=")"), len(")<So>(")),  # the stop came as the last token that was allowed
        (output("yes", ends=")", kept=False), len("<So>(")),  # its text has the same tokens here
        (output("", ends=")"), len("<So>(")),
    ],
)
def test_how_an_output_ended_decides_what_is_cached_behind_it(ended: ObservedOutput, second: int) -> None:
    assert computed(two_turns, {0: [ended]}) == [5, second]


def test_text_that_was_cut_in_a_token_is_computed_from_there_on() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12" + ft.gen("a") + "34" + ft.gen("b")

    cut = ObservedOutput("hello", (ord("h"), 999), None, "stop")  # 999 spells "ello."
    assert computed(write, {0: [cut]}) == [2, len("ello34")]


# ---- forks


def fork_of_three(s: ft.ProgramState) -> None:
    s += "12345"
    for branch in s.fork(3):
        branch += "67" + ft.gen("a")


def test_branches_share_what_stands_before_the_fork() -> None:
    assert computed(fork_of_three) == [0, 7, 1, 1]


def test_a_client_warms_the_fork_and_pays_where_a_branch_adds_nothing() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345"
        for branch in s.fork(2):
            branch += ft.gen("a")

    assert computed(write, warms_forks=True) == [5, 1, 1]
    assert computed(write) == [0, 5, 1]


def test_an_output_written_again_as_text_is_computed_as_long_as_it_is() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12" + ft.gen("a", max_tokens=6)
        (branch,) = s.fork(1)
        branch += "again " + s["a"] + "." + ft.gen("b")

    (nodes,) = play([Item(plan_of(write), {})]).nodes
    assert nodes[1].computed == Count(len("again ."), 6)
    assert computed(write, {0: [output("yes", ends="x")]}) == [2, len("again yes.")]


# ---- choices


def test_a_select_computes_its_prompt_and_what_follows_another_token_in_its_choices() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.select("a", ["no", "never", "ne", "yes"]) + "!" + ft.gen("b")

    inner = {"n", "ne", "nev", "neve", "y", "ye"}
    assert computed(write) == [5 + len(inner), 2]  # the last token of the choice, and the text


def test_the_last_token_of_a_choice_is_cached_where_a_longer_choice_goes_through_it() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.select("a", ["ne", "never"]) + "!" + ft.gen("b")

    def chosen(text: str) -> ObservedOutput:
        ids = tuple(map(ord, text))
        return ObservedOutput(text, ids, ids, None)

    assert computed(write, {0: [chosen("ne")]}) == [5 + 4, 1]
    assert computed(write, {0: [chosen("never")]}) == [5 + 4, 2]


def test_an_unconditional_select_computes_its_choices_twice() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "12345" + ft.select("a", ["ab", "cd"], choices_method=ft.unconditional_likelihood_normalized)

    assert computed(write) == [5 + 2 + 2]


def test_a_select_at_the_beginning_has_one_token_before_it() -> None:
    assert computed(lambda s: s.__iadd__(ft.select("a", ["ab", "cd"]))) == [1 + 2]


# ---- batches and beginnings


@ft.function
def ask(s: ft.ProgramState, question: str) -> None:
    s += f"Q: {question} A:" + ft.gen("a")


def test_runs_of_a_batch_share_one_cache() -> None:
    plans = [make_plan(ask.trace(question), CHAT, SamplingOptions()) for question in ("why", "who", "why")]
    found = play([Item(plan, {}) for plan in plans])
    assert [nodes[0].computed.known for nodes in found.nodes] == [9, len("o A:"), 1]
    assert found.cached.known == 9 + 4, "each token once, outputs not counted"


def test_an_argument_that_is_open_has_no_tokens() -> None:
    plan = make_plan(ask.trace(), CHAT, SamplingOptions())
    ((node,),) = play([Item(plan, {})]).nodes
    assert node.prompt == Count(len("Q:  A:"))
    ((given,),) = play([Item(plan, {"question": "why"})]).nodes
    assert given.prompt == Count(len("Q: why A:"))


def test_a_prompt_of_text_begins_with_the_models_own_token_once() -> None:
    (nodes,) = play([Item(plan_of(lambda s: s.__iadd__("12" + ft.gen("a"))), {})], bos=(7,)).nodes
    assert nodes[0].prompt == Count(3)
    (nodes,) = play([Item(plan_of(lambda s: s.__iadd__("\x0712" + ft.gen("a"))), {})], bos=(7,)).nodes
    assert nodes[0].prompt == Count(3)
