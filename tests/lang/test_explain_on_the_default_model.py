"""What explain foresees is what the engine computes: many kinds of programs, run ahead, by the client, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import forktree as ft
from forktree.lang.explanation import Explanation

pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def check(it: Explanation) -> None:
    """To the token, but for what runs side by side: which of two calls computes a token that both end with."""
    assert it.foreseen is not None
    assert it.foreseen.more == 0
    assert it.planned_actual is not None
    assert abs(it.planned_actual - it.foreseen.known) <= 1, f"{it}"
    assert it.unplanned or it.actual_computed == it.planned_actual


def several_outputs(s: ft.ProgramState) -> None:
    s += "Some names for a cat:" + ft.gen("name", n=3, max_tokens=4, temperature=1.0, seed=1)
    s += "\nAnd for a dog:" + ft.gen("dog", max_tokens=4)


def forks_without_text(s: ft.ProgramState) -> None:
    s += "One two three four five"
    branches = s.fork(3)
    branches += ft.gen("next", max_tokens=3, temperature=0)
    branches.join()


def branches_appended(s: ft.ProgramState) -> None:
    s += "Two facts about cats.\n"
    branches = s.fork(2)
    for number, branch in enumerate(branches, 1):
        branch += f"{number}." + ft.gen("fact", max_tokens=12, stop="\n") + "\n"
    branches.join("concate_and_append")
    s += "In short:" + ft.gen("short", max_tokens=5)


def turns(s: ft.ProgramState) -> None:
    s += ft.system("Answer in a word.")
    for question in ("What is the capital of France?", "And of Italy?", "And of Spain?"):
        s += ft.user(question) + ft.assistant(ft.gen(max_tokens=3))  # some end by themselves, some by their length


def stop_inside_a_token(s: ft.ProgramState) -> None:
    s += "Count: 1, 2, 3," + ft.gen("count", max_tokens=12, stop="0") + " and so on." + ft.gen("more", max_tokens=3)


def choices(s: ft.ProgramState) -> None:
    s += "The capital of Italy is" + ft.select("a", [" Rome", " Rome, the eternal city", " London", " New York"])
    s += ". Its river is the" + ft.select(
        "b", [" Tiber", " Thames"], choices_method=ft.unconditional_likelihood_normalized
    )
    s += "." + ft.gen("more", max_tokens=3)


def typed(s: ft.ProgramState) -> None:
    s += ft.user("A colour as JSON, please.")
    s += ft.assistant(ft.gen("colour", json_schema='{"type": "object", "properties": {"name": {"enum": ["red"]}}}'))
    s += ft.user("Thanks. And a number?") + ft.assistant(ft.gen("number", regex="[0-9]"))
    s += ft.user("Bye.") + ft.assistant(ft.gen("bye", max_tokens=2))


def written_again(s: ft.ProgramState) -> None:
    s += "A cat is" + ft.gen("what", max_tokens=5)
    branches = s.fork(1)
    branches += f"\nSo {s['what']}, they say, and" + ft.gen("say", max_tokens=3)
    branches.join()


PROGRAMS = [
    several_outputs,
    forks_without_text,
    branches_appended,
    turns,
    stop_inside_a_token,
    choices,
    typed,
    written_again,
]


@pytest.fixture(scope="module")
def url(engine: ft.Engine) -> Iterator[str]:
    from tests.support.serving import serving_on_a_thread

    with serving_on_a_thread(engine) as url:
        yield url


@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__)
def test_run_ahead_by_the_engine(write: Callable[[ft.ProgramState], None], engine: ft.Engine) -> None:
    it = ft.function(write, trace=True).explain(backend=engine, analyze=True, temperature=0)
    assert it.is_ahead
    check(it)


@pytest.mark.parametrize("write", PROGRAMS, ids=lambda write: write.__name__)
def test_asked_for_by_the_program(write: Callable[[ft.ProgramState], None], engine: ft.Engine) -> None:
    it = ft.function(write, trace=False).explain(backend=engine, analyze=True, temperature=0)
    assert not it.is_ahead
    check_parts(it)


def check_parts(it: Explanation) -> None:
    """What is computed to warm a fork is told by no call: the whole run's count has it."""
    assert it.foreseen is not None
    assert it.actual_computed is not None
    assert abs(it.actual_computed - it.foreseen.known) <= 1, f"{it}"


def test_a_batch(engine: ft.Engine) -> None:
    @ft.function
    def ask(s: ft.ProgramState, country: str) -> None:
        s += f"Q: What is the capital of Peru?\nA: Lima\nQ: What is the capital of {country}?\nA:"
        s += ft.gen("city", max_tokens=4, stop="\n")

    countries = ["France", "Finland", "Spain", "France"]
    it = ask.explain_batch([{"country": each} for each in countries], backend=engine, analyze=True, temperature=0)
    check(it)
    assert it.computed.known < it.prompt.known / 2


@pytest.mark.parametrize("write", [turns, choices], ids=lambda write: write.__name__)
def test_a_server_says_what_the_engine_says(
    write: Callable[[ft.ProgramState], None], url: str, engine: ft.Engine
) -> None:
    program = ft.function(write, trace=True)
    endpoint = ft.RuntimeEndpoint(url)
    there = program.explain(backend=endpoint, analyze=True, temperature=0)
    check(there)
    here = program.explain(backend=engine, temperature=0)
    assert [node.computed for node in there.nodes] == [node.computed for node in here.nodes]
    assert all(node.actual is not None and node.actual.prefill_ms > 0 for node in there.nodes)
    asked = ft.function(write, trace=False).explain(backend=endpoint, analyze=True, temperature=0)
    check_parts(asked)
    assert all(node.actual is not None and node.actual.is_told for node in asked.nodes)
    endpoint.close()
