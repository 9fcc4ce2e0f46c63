"""Programs that run next to the scheduler, on real weights: the same tokens as programs that ask for every gen."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.local import LocalBackend
from forktree.lang.loop import loop_thread
from forktree.lang.purity import why_not_foreseeable
from tests.support.scripted_backend import settle

pytest.importorskip("torch")
pytestmark = pytest.mark.slow

S = ft.ProgramState
EXAMPLES = Path(__file__).parents[2] / "examples"
TOKENS = 4


class Counted(LocalBackend):
    """Counts what is asked one by one, and the programs."""

    def __init__(self, engine: ft.Engine) -> None:
        super().__init__(engine)
        self.num_programs = self.num_calls = 0

    def run_program(self, *args: Any, **kwargs: Any) -> Any:
        self.num_programs += 1
        return super().run_program(*args, **kwargs)

    def generate(self, request: Any) -> Any:
        self.num_calls += 1
        return super().generate(request)

    async def score(self, *args: Any) -> Any:
        self.num_calls += 1
        return await super().score(*args)


def tree_of_thought(s: S, q: str) -> None:
    s += f"Question: {q}\nLet us think step by step.\n"
    frontier = [s]
    for level in range(2):
        grown: list[S] = []
        for state in frontier:
            for number, branch in enumerate(state.fork(2)):
                branch += f"Step {level}, idea {number}:" + ft.gen("thought", max_tokens=TOKENS) + "\n"
                grown.append(branch)
        frontier = grown
    s["thoughts"] = [branch["thought"] for branch in frontier]
    s += "So" + ft.gen("so", max_tokens=TOKENS)


def few_shot(s: S, q: str) -> None:
    for singular, plural in (("cat", "cats"), ("mouse", "mice")):
        s += f"Singular: {singular}\nPlural: {plural}\n\n"
    s += f"Singular: {q}\nPlural:" + ft.gen("plural", max_tokens=TOKENS, stop=["\n", "s "]) + "\n"
    s += "Again:" + s["plural"] + ft.gen("again", max_tokens=TOKENS, stop=".")


def roles(s: S, q: str) -> None:
    s += ft.system("You answer in one word.")
    s += ft.user(f"Name a {q}.")
    s += ft.assistant(ft.gen("name", max_tokens=TOKENS))
    s += ft.user("Another one?")
    s += ft.assistant("Maybe " + ft.gen("other", max_tokens=TOKENS) + ", or not.")
    s["said"] = s.messages()[-1]["content"]


def constrained(s: S, q: str) -> None:
    s += (
        f"A {q} costs "
        + ft.gen_int("price", max_tokens=4)
        + " coins, weighs "
        + ft.gen("weight", regex="[0-9]{1,2} (kg|g)")
    )
    schema = {"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}
    s += ". As JSON: " + ft.gen("json", json_schema=schema, max_tokens=16)


def three_outputs(s: S, q: str) -> None:
    s += f"I like the {q} because" + ft.gen("why", n=3, max_tokens=TOKENS)
    s += "\nAlso:" + s["why"][2] + "\nAnd" + ft.gen("and", max_tokens=TOKENS)


def choices(s: S, q: str) -> None:
    s += f"The {q} is"
    for method in (
        ft.token_length_normalized,
        ft.greedy_token_selection,
        ft.unconditional_likelihood_normalized,
        ft.exact_probability,
    ):
        s += ft.select(method.name, [" blue", " very blue", " red", " a colour"], choices_method=method) + ", and"
    s += ft.select("drawn", [" big", " small", " old"], temperature=1.5, seed=5) + ft.gen("so", max_tokens=TOKENS)


def joined(s: S, q: str) -> None:
    s += f"Two words about the {q}:"
    forks = s.fork(2)
    forks += lambda i: f" {i + 1}." + ft.gen("word", max_tokens=3)
    forks.join("concate_and_append")
    s += " In short:" + ft.gen("short", max_tokens=TOKENS)


def logprobs(s: S, q: str) -> None:
    s += f"The {q}" + ft.gen("a", max_tokens=3, return_logprob=True, top_logprobs_num=2, logprob_start_len=0)
    s += ft.gen("b", max_tokens=3, return_logprob=True)


def without_outputs(s: S, q: str) -> None:
    s += q + ft.gen("a", max_tokens=0) + q + ft.gen("b", max_tokens=0) + ft.gen("c", max_tokens=TOKENS)


PROGRAMS = [tree_of_thought, few_shot, roles, constrained, three_outputs, choices, joined, logprobs, without_outputs]
OPTIONS: list[dict[str, Any]] = [{"temperature": 0.0}, {"temperature": 0.8, "seed": 7}]

each_program = pytest.mark.parametrize("func", PROGRAMS, ids=lambda func: func.__name__)
each_options = pytest.mark.parametrize("options", OPTIONS, ids=["greedy", "seeded"])


def what_it_said(state: Any) -> dict[str, Any]:
    names = [name for name in state._shared.slots if not name.startswith("#")]
    metas = [state.get_meta_info(name) or {} for name in names]
    return {
        "text": state.text(),
        "values": {name: rounded(state[name]) for name in names},
        "ids": [meta.get("output_ids") for meta in metas],
        "of each": [[each["output_ids"] for each in meta.get("outputs", ())] for meta in metas],
        "prompts": [meta.get("prompt_tokens") for meta in metas],
        "finish": [meta.get("finish_reason") for meta in metas],
    }


def rounded(value: Any) -> Any:
    """Probabilities differ in their last digits with what else is in a step."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value


def check_pages(engine: ft.Engine) -> None:
    """Nothing runs, and every page is free or cached."""
    deadline = time.monotonic() + 10
    while True:
        stats = engine.stats()
        if not stats.requests_running + stats.requests_waiting + stats.pages_running:
            break
        assert time.monotonic() < deadline, stats
    assert stats.pages_free + stats.pages_cached == stats.pages_total
    assert not engine._client._programs
    assert not engine._client._sinks
    settle()
    assert not [task for task in loop_thread().tasks if "_follow" in repr(task)]


@each_program
@each_options
def test_a_program_run_ahead_has_the_tokens_of_one_that_asks_for_each_gen(
    engine: ft.Engine, func: Callable[..., Any], options: dict[str, Any]
) -> None:
    expected = what_it_said(ft.function(func, trace=False).run("sky", backend=engine, **options))
    backend = Counted(engine)
    assert what_it_said(ft.function(func, trace=True).run("sky", backend=backend, **options)) == expected
    assert (backend.num_programs, backend.num_calls) == (1, 0)
    check_pages(engine)


@pytest.mark.parametrize("func", [roles, constrained, three_outputs], ids=lambda func: func.__name__)
def test_so_has_a_batch_in_every_way_to_run_one(engine: ft.Engine, func: Callable[..., Any]) -> None:
    items = [{"q": q} for q in ("sky", "old tower", "sky")]
    options: dict[str, Any] = {"temperature": 0.7, "seed": 3}
    without = ft.function(func, trace=False).run_batch(items, backend=engine, **options)
    expected = [what_it_said(state) for state in without]
    backend, program = Counted(engine), ft.function(func, trace=True)
    assert [what_it_said(state) for state in program.run_batch(items, backend=backend, **options)] == expected
    assert (backend.num_programs, backend.num_calls) == (1, 0)
    found = asyncio.run(program.arun_batch(items, backend=backend, **options))
    assert [what_it_said(state) for state in found] == expected
    streamed = program.stream("old tower", backend=backend, **options)
    assert "".join(streamed) == expected[1]["text"]
    assert what_it_said(streamed) == expected[1]
    assert backend.num_calls == 0
    check_pages(engine)


def test_and_the_engine_process_says_the_same(engine: ft.Engine, process_engine: ft.Engine) -> None:
    for func in (roles, choices, joined):
        expected = what_it_said(ft.function(func, trace=False).run("sky", backend=engine, temperature=0.0))
        backend = Counted(process_engine)
        assert what_it_said(ft.function(func, trace=True).run("sky", backend=backend, temperature=0.0)) == expected
        assert (backend.num_programs, backend.num_calls) == (1, 0)
    check_pages(process_engine)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, next(EXAMPLES.glob(f"*{name}.py")))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["quickstart", "few_shot", "parallel_fork", "rag", "llm_judge", "json_extraction"])
def test_the_examples_say_the_same_either_way(engine: ft.Engine, name: str) -> None:
    module = load(name)
    program = next(each for each in vars(module).values() if isinstance(each, ft.Program))
    assert program.foresee is None
    given: dict[str, dict[str, Any]] = {
        "few_shot": {"words": ["cat", "mouse"]},
        "llm_judge": {"replies": ["Press the red button.", "It depends."]},
        "rag": {"question": "When does it open?", "sentences": ["It opens at nine.", "The door is blue."]},
    }
    arguments = given.get(name) or dict.fromkeys(program.arg_names, "the sky")
    backend = Counted(engine)
    states = []
    for trace in (False, True):
        same = ft.Program(program.func, trace=trace)
        states.append(what_it_said(same.run(backend=backend, temperature=0, seed=1, max_new_tokens=16, **arguments)))
    assert states[0] == states[1]
    assert backend.num_programs <= 1  # none for a single gen
    check_pages(engine)


def test_a_gen_with_nothing_before_it_is_the_same_error_either_way(engine: ft.Engine) -> None:
    def program(s: S) -> None:
        s += ft.gen("a") + ft.gen("b")

    for trace in (False, True):
        with pytest.raises(ft.GenerationError, match=r'gen\("a"\) at .* prompt: is empty'):
            ft.function(program, trace=trace).run(backend=engine)
    check_pages(engine)


# ---- ends


def test_what_is_cancelled_half_way_gives_its_pages_back(engine: ft.Engine) -> None:
    def long(s: S, q: str) -> None:
        s += q + ft.gen("a", max_tokens=4, ignore_eos=True)
        forks = s.fork(3)
        forks += ft.gen("b", max_tokens=2000, ignore_eos=True)
        forks.join()
        s += ft.gen("c", max_tokens=2000, ignore_eos=True)

    program = ft.function(long, trace=True)
    state = program.stream("The sky", backend=engine)
    assert state["a"]
    state.cancel()
    check_pages(engine)

    state = program.stream("The sea", backend=engine)
    del state
    check_pages(engine)

    async def cancelled() -> None:
        task = asyncio.ensure_future(program.arun("The tower", backend=engine))
        while not engine.stats().requests_running:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    check_pages(engine)

    with pytest.raises((ft.DeadlineExceeded, ft.BranchErrors)):  # of the join that it interrupts
        program.run("The end", backend=engine, timeout=0.3)
    check_pages(engine)


def test_ends_of_items_and_nodes_leave_the_rest_of_a_program_as_it_was(engine: ft.Engine) -> None:
    nodes = [
        {"kind": "text", "pieces": ["The ", {"argument": "q"}]},
        {"kind": "gen", "after": 0, "pieces": [" is"], "sampling": {"max_new_tokens": 6, "temperature": 0}},
        {"kind": "gen", "after": 0, "pieces": [" has"], "sampling": {"max_new_tokens": 3000, "ignore_eos": True}},
        {"kind": "gen", "after": 1, "pieces": [" So"], "sampling": {"max_new_tokens": 6, "temperature": 0}},
    ]
    plan = {"version": 1, "nodes": nodes}
    short = {"version": 1, "nodes": [nodes[0], nodes[1], {**nodes[3], "after": 1}]}
    expected = {
        (event.item, {2: 3}.get(event.node, event.node)): event.delta.text
        for event in engine.run_program(short, [{"q": "sky"}])
        if event.delta is not None
    }

    async def main() -> tuple[dict[tuple[int, int], str], list[int]]:
        found: dict[tuple[int, int], str] = {}
        over: list[int] = []
        call = engine.arun_program(plan, [{"q": q} for q in ("sky", "sea", "sand")], stream=False)
        call.abort(2)  # before it has started
        async for event in call:
            if event.node < 0:
                over.append(event.item)
            elif event.delta is not None:
                found[event.item, event.node] = event.delta.text
                if (event.item, event.node) == (0, 3):
                    call.abort(0, 2)
                elif event.item == 1:
                    call.abort(1)
        return found, over

    found, over = asyncio.run(main())
    assert {key: text for key, text in found.items() if key[0] == 0} == expected
    assert sorted(over) == [0, 1, 2]
    assert not [key for key in found if key[0] == 2]
    check_pages(engine)


def test_a_call_that_is_aborted_whole_or_dropped_ends(engine: ft.Engine) -> None:
    plan = {
        "version": 1,
        "nodes": [{"kind": "gen", "pieces": ["x"], "sampling": {"max_new_tokens": 3000, "ignore_eos": True}}],
    }

    async def main() -> int:
        call = engine.arun_program(plan, [{}] * 3)
        num_over = 0
        async for event in call:
            num_over += event.node < 0
            if event.node >= 0:
                call.abort()
        async for _ in engine.arun_program(plan):
            break  # and nobody closes it
        return num_over

    assert asyncio.run(main()) == 3
    check_pages(engine)


@pytest.mark.parametrize(
    "nodes",
    [
        [{"kind": "text", "pieces": ["a"]}, {"kind": "gen", "pieces": [{"node": 0}]}],
        [{"kind": "gen", "pieces": ["a"]}, {"kind": "text", "pieces": [{"node": 0, "output": 3}]}],
        [{"kind": "gen", "pieces": ["a"], "return_logprob": True, "top_logprobs_num": -4}],
    ],
)
def test_a_bad_plan_is_refused_and_the_engine_lives(process_engine: ft.Engine, nodes: list[dict[str, Any]]) -> None:
    from forktree.runtime import InvalidRequest

    with pytest.raises(InvalidRequest, match=r"plan\.nodes"):
        process_engine.run_program({"version": 1, "nodes": nodes})
    assert process_engine.generate("a", {"max_new_tokens": 1}).text is not None
    check_pages(process_engine)


def test_the_programs_of_this_file_that_only_write_are_foreseen_by_themselves() -> None:
    assert [why_not_foreseeable(func) for func in PROGRAMS if func is not tree_of_thought] == [None] * 8
