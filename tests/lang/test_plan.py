"""A graph as an engine takes it: the prompts that a run would send, said once where several share them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import forktree as ft
from forktree.lang.backends.protocol import ChatFormat, GenerateRequest
from forktree.lang.options import SamplingOptions
from forktree.lang.plan import Plan, make_plan, merge_plans
from forktree.runtime.engine.program_plan import ProgramPlan
from tests.support.scripted_backend import CHATML, ScriptedBackend, text_of

S = ft.ProgramState
NO_OPTIONS = SamplingOptions()


def plan_of(func: Any, *args: Any, chat: ChatFormat | None = CHATML, **options: Any) -> Plan:
    program = func if isinstance(func, ft.Program) else ft.function(func)
    plan = make_plan(program.trace(*args), chat, SamplingOptions(**options))
    if plan.nodes:
        ProgramPlan.read(plan.wire())  # an engine takes it
    return plan


def prompts(plan: Plan, arguments: Mapping[str, str] = {}, answer: str = "[{}.{}]") -> dict[Any, str]:
    """What each call's prompt spells, by its position, where output k of node i says [i.k]."""
    texts: list[str] = []
    found = {}
    for i, node in enumerate(plan.nodes):
        text = texts[node.after] if node.after >= 0 else ""
        for piece in node.pieces:
            if isinstance(piece, str):
                text += piece
            elif "argument" in piece:
                text += arguments[piece["argument"]]
            else:
                text += answer.format(piece["node"], piece.get("output", 0))
        if node.kind != "text":
            found[node.position] = text
            text += answer.format(i, 0)
        texts.append(text)
    return found


def test_a_chain_is_nodes_after_one_another() -> None:
    def program(s: S) -> None:
        s += "a" + ft.gen("x", max_tokens=3, stop=".") + "b" + s["x"]
        s += ft.select("y", ["p", "q"], temperature=0.5, seed=9)

    def program_too(s: S) -> None:
        s += "a" + ft.gen("x", max_tokens=3, stop=".")
        s += "b" + s["x"] + ft.select("y", ["p", "q"], temperature=0.5, seed=9)

    assert plan_of(program).nodes == ()  # it reads what it has yet to add
    plan = plan_of(program_too)
    assert plan.whole
    assert plan.num_calls == 2
    assert prompts(plan) == {((), 0): "a", ((), 1): "a[0.0]b[0.0]"}
    gen, select = plan.wire()["nodes"]
    assert gen["sampling"]["max_new_tokens"] == 3
    assert gen["sampling"]["stop"] == ["."]
    assert gen["sampling"]["n"] == 1
    assert (select["choices"], select["temperature"], select["seed"]) == (["p", "q"], 0.5, 9)


def test_text_before_a_fork_is_said_once() -> None:
    def program(s: S) -> None:
        s += "shared"
        forks = s.fork(3)
        forks += lambda i: f" {i}" + ft.gen("x")
        forks.join()
        s += " end" + ft.gen("y")

    plan = plan_of(program)
    assert [node.kind for node in plan.nodes] == ["text", "gen", "gen", "gen", "gen"]
    assert [node.after for node in plan.nodes] == [-1, 0, 0, 0, 0]
    assert prompts(plan) == {
        ((1, 0), 0): "shared 0",
        ((1, 1), 0): "shared 1",
        ((1, 2), 0): "shared 2",
        ((), 1): "shared end",
    }
    assert plan.forks == {(1,)}
    assert plan.dependents == ((1, 2, 3, 4), (), (), (), ())


def test_branches_appended_keep_their_tokens() -> None:
    def program(s: S) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join("concate_and_append")
        s += ft.gen("y")

    last = plan_of(program).wire()["nodes"][-1]
    assert last["pieces"] == [{"node": 0, "as_tokens": True}, {"node": 1, "as_tokens": True}]


def test_roles_become_the_models_own_text_and_its_end_of_turn_stops_a_gen() -> None:
    def program(s: S) -> None:
        s += ft.user("hi") + ft.assistant(ft.gen("x"))
        s += ft.system("late") + ft.user("more") + ft.assistant(ft.gen("y", stop="\n"))

    plan = plan_of(program)
    begin = "<s><|im_start|>system\nBe nice.<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert plan.nodes[0].pieces == (begin,)
    assert plan.wire()["nodes"][0]["sampling"]["stop"] == ["<|im_end|>"]
    assert plan.wire()["nodes"][1]["sampling"]["stop"] == ["\n", "<|im_end|>"]
    assert plan_of(program, ignore_eos=True).wire()["nodes"][0]["sampling"]["stop"] == []
    assert not plan_of(program, chat=None).nodes  # it can't be told what a role adds


def test_a_plan_ends_where_the_graph_is_open() -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        assert s["x"]
        s += ft.gen("y")

    plan = plan_of(program)
    assert (plan.num_calls, plan.whole) == (1, False)


def test_the_runs_options_and_seed_are_in_every_node() -> None:
    def program(s: S) -> None:
        s += ft.gen("x") + ft.gen("y", temperature=0.1, seed=4)

    first, second = plan_of(program, temperature=0.9, seed=1, n=2, return_logprob=True).wire()["nodes"]
    assert first["sampling"]["temperature"] == 0.9
    assert second["sampling"]["temperature"] == 0.1
    assert second["sampling"]["seed"] == 4
    assert first["sampling"]["seed"] not in (None, 1, 4)
    assert first["sampling"]["n"] == 2
    assert first["return_logprob"]
    assert (first["logprob_start_len"], first["top_logprobs_num"]) == (-1, 0)


# ---- against what runs send


def random_program(seed: int) -> Any:
    """What it does depends on `seed`; what it says depends on its argument too."""

    def program(s: S, q: str) -> None:
        draw = random.Random(seed)
        in_roles = draw.random() < 0.3

        def say(state: S, text: str) -> None:
            state += ft.user(text) if in_roles else text

        def ask(state: S, node: ft.Node) -> None:
            state += ft.assistant("So: " + node) if in_roles else node

        def walk(state: S, depth: int) -> None:
            names: list[str] = []
            for _ in range(draw.randrange(1, 5)):
                step = draw.randrange(6 if depth < 2 else 4)
                if step == 0:
                    say(state, draw.choice(["a", "bb", ""]) + q[: draw.randrange(4)])
                elif step == 1:
                    names.append(f"v{depth}.{len(names)}")  # joined, branches' would be lists
                    ask(state, ft.gen(names[-1], n=draw.choice([None, None, 3])))
                elif step == 2 and names:
                    say(state, "(" + last_text(state[draw.choice(names)]) + ")")
                elif step == 3:
                    ask(state, ft.select("pick", ["x", "yy"]))
                elif step >= 4:
                    forks = state.fork(draw.randrange(1, 4))
                    for branch in forks:
                        walk(branch, depth + 1)
                    forks.join("gather_variable" if in_roles or step == 4 else "concate_and_append")

        walk(s, 0)

    return ft.function(program, trace=False)


def last_text(value: Any) -> str:
    """A text, or the last one in lists of them; branches that did not define a variable have None there."""
    if isinstance(value, list):
        return next((found for each in reversed(value) if (found := last_text_of(each)) is not None), "none")
    return str(value)


def last_text_of(value: Any) -> str | None:
    return None if value is None else last_text(value)


def sent(program: ft.Program, argument: str) -> list[str]:
    """The prompts that a run sends, where every output is the same."""

    def answer(prompt: str, request: GenerateRequest) -> str:
        return "<out>"

    backend = ScriptedBackend(answer, choices=lambda prompt, choices: choices[0])
    program.run(argument, backend=backend)
    return sorted([text_of(each.prompt) for each in backend.requests] + [str(prompt) for prompt, _ in backend.scored])


def planned(plan: Plan, arguments: Mapping[str, str]) -> list[str]:
    outputs = ["x" if node.kind == "select" else "<out>" for node in plan.nodes]
    found: list[str] = []
    texts: list[str] = []
    for i, node in enumerate(plan.nodes):
        text = texts[node.after] if node.after >= 0 else ""
        for piece in node.pieces:
            if isinstance(piece, str):
                text += piece
            else:
                text += arguments[piece["argument"]] if "argument" in piece else outputs[piece["node"]]
        if node.kind != "text":
            found += [text] * node.more.get("sampling", {}).get("n", 1)
            text += outputs[i]
        texts.append(text)
    return sorted(found)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.text("abc\u00e9", max_size=5), min_size=1, max_size=4))
def test_plans_and_merged_plans_spell_what_each_run_sends(seed: int, items: Sequence[str]) -> None:
    program = random_program(seed)
    plans = [plan_of(program, item) for item in items]
    expected = [sent(program, item) for item in items]
    assert all(plan.whole for plan in plans)
    assert [planned(plan, {}) for plan in plans] == expected
    if not plans[0].nodes:
        return
    seen: list[int] = []
    for merged in merge_plans(plans):
        read = ProgramPlan.read(merged.plan.wire())
        assert len(merged.runs) == len(merged.arguments)
        for run, arguments in zip(merged.runs, merged.arguments, strict=True):
            assert read.check_arguments(arguments, 0) == arguments
            assert planned(merged.plan, arguments) == expected[run]
            assert merged.plan.positions == plans[run].positions
        seen += merged.runs
    assert sorted(seen) == list(range(len(items)))


def test_merged_runs_share_what_their_texts_begin_with_and_stand_next_to_their_like() -> None:
    def program(s: S, q: str) -> None:
        s += "Question: " + q + "\nAnswer:" + ft.gen("x") + " so" + ft.gen("y")

    merged = merge_plans([plan_of(program, q) for q in ("cat", "dog", "car", "cow")])
    assert len(merged) == 1
    assert merged[0].plan.nodes[0].pieces == ("Question: ", {"argument": "0.0"})
    assert merged[0].plan.nodes[1].pieces == (" so",)
    assert merged[0].runs == (2, 0, 3, 1)
    assert [each["0.0"] for each in merged[0].arguments] == [f"{q}\nAnswer:" for q in ("car", "cat", "cow", "dog")]


def test_equal_runs_have_no_arguments_and_unlike_ones_no_common_plan() -> None:
    def program(s: S, q: str) -> None:
        s += q + ft.gen("x", max_tokens=len(q))

    merged = merge_plans([plan_of(program, q) for q in ("aa", "aa", "bbb")])
    assert [each.runs for each in merged] == [(0, 1), (2,)]
    assert merged[0].arguments == ({}, {})
    assert merge_plans([]) == []
