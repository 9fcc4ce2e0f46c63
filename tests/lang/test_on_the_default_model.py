"""A whole program on real weights: what it writes, and what of it the cache held."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Literal

import pytest

import forktree as ft
from tests.support.scripted_backend import wait_until

pytest.importorskip("torch")
pytestmark = pytest.mark.slow


@ft.function
def describe(s: ft.ProgramState) -> None:
    s += ft.user("Name the capital of France.")
    s += ft.assistant(ft.gen("answer", max_tokens=12, temperature=0))
    s += ft.user("Is it in Europe?")
    s += ft.assistant(ft.select("verdict", ["yes", "no"]))
    forks = s.fork(2)
    for word, branch in zip(("river", "tower"), forks, strict=True):
        branch += ft.user(f"Name a {word} there.") + ft.assistant(ft.gen("name", max_tokens=4, temperature=0))
    forks.join()
    schema = {"type": "object", "properties": {"large": {"type": "boolean"}}, "required": ["large"]}
    s += ft.user("Is it large?") + ft.assistant(ft.gen("json", json_schema=schema, max_tokens=24, temperature=0))


def test_a_program_with_roles_a_choice_a_fork_and_a_schema(engine: ft.Engine) -> None:
    state = describe.run(backend=engine)
    assert "Paris" in state["answer"]
    assert state["verdict"] in ("yes", "no")
    assert len(state["name"]) == 2
    assert isinstance(json.loads(state["json"])["large"], bool)
    assert [message["role"] for message in state.messages()] == ["user", "assistant"] * 3
    assert "<|im_end|><|im_end|>" not in state.text().replace("\n", "")


def test_what_was_generated_is_found_in_the_cache_token_by_token(engine: ft.Engine) -> None:
    wait_until(lambda: not engine.stats().requests_running)  # the step after the last token may be under way still
    assert ft.flush_cache(engine)
    state = describe.run(backend=engine)
    first, last = state.get_meta_info("answer"), state.get_meta_info("json")
    assert first is not None
    assert last is not None
    assert first["cached_tokens"] == 0
    assert last["cached_tokens"] >= first["prompt_tokens"] + first["completion_tokens"] - 1  # not the end-of-turn token
    again = describe.run(backend=engine)
    assert again.text() == state.text()
    second = again.get_meta_info("json")
    assert second is not None
    assert second["cached_tokens"] >= second["prompt_tokens"] - 1  # the last one is computed, or the one that is forced


def test_streamed_text_is_the_text(engine: ft.Engine) -> None:
    assert "".join(describe.stream(backend=engine).text_iter("answer")) == describe.run(backend=engine)["answer"]


@pytest.mark.parametrize(
    "method",
    [
        ft.token_length_normalized,
        ft.greedy_token_selection,
        ft.unconditional_likelihood_normalized,
        ft.exact_probability,
    ],
)
def test_every_choice_method_finds_the_obvious(engine: ft.Engine, method: ft.ChoicesMethod) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "The Eiffel Tower is in" + ft.select("city", [" Paris", " Oslo"], choices_method=method)

    state = program.run(backend=engine)
    assert state["city"] == " Paris"
    meta = state.get_meta_info("city")
    assert meta is not None
    assert sum(meta["distribution"]) == pytest.approx(1.0)


def test_probabilities_of_a_select_are_those_of_each_choice_by_itself(engine: ft.Engine) -> None:
    choices = [" Paris", " Paris, France", " Paris, France, Europe", " Oslo"]

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "The Eiffel Tower is in" + ft.select("city", choices)

    meta = program.run(backend=engine).get_meta_info("city")
    assert meta is not None
    head = engine.tokenize("The Eiffel Tower is in")
    totals = []
    for choice in choices:
        ids = [*head, *engine.tokenize(choice)]
        done = engine.generate(ids, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=len(head))
        totals.append(math.fsum(entry.logprob or 0.0 for entry in done.prompt_logprobs or ()))
    weights = [math.exp(total) for total in totals]
    assert meta["probabilities"] == pytest.approx([weight / sum(weights) for weight in weights], abs=1e-4)
    assert sum(meta["probabilities"]) == pytest.approx(1.0)


def test_a_drawn_choice_is_the_same_for_the_same_seed(engine: ft.Engine) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "I live in" + ft.select("city", [" Paris", " Oslo", " Rome", " Bern"], temperature=2.0)

    cities = [program.run(seed=seed, backend=engine)["city"] for seed in range(12)]
    assert cities == [program.run(seed=seed, backend=engine)["city"] for seed in range(12)]
    assert len(set(cities)) > 1


@dataclass
class Town:
    name: str
    coastal: bool
    kind: Literal["city", "village"]


def test_typed_outputs_are_values_of_their_types(engine: ft.Engine) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.user("Tell me about Lisbon as JSON.")
        s += ft.assistant(ft.gen("town", type=Town, max_tokens=60, temperature=0))
        s += ft.user("How many people live there?")
        s += ft.assistant(ft.gen("number", type=int, max_tokens=24, temperature=0))

    state = program.run(backend=engine)
    town = state["town"]
    assert isinstance(town, Town)
    assert town.kind in ("city", "village")
    assert isinstance(state["number"], int)
    assert json.loads(state.messages()[1]["content"])["name"] == town.name


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        ('root ::= day ", " day\nday ::= "Monday" | "Friday" | "Sunday"', "(Mon|Fri|Sun)day, (Mon|Fri|Sun)day"),
        ('start: sum\nsum: sum "+" NUMBER | NUMBER\nNUMBER: /[1-9][0-9]{0,2}/', r"[1-9]\d{0,2}(\+[1-9]\d{0,2})*"),
    ],
    ids=["gbnf", "lark"],
)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_output_is_a_text_of_its_grammar(engine: ft.Engine, grammar: str, pattern: str, temperature: float) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Here it is: " + ft.gen("x", ebnf=grammar, max_tokens=12, temperature=temperature, seed=5)

    assert re.fullmatch(pattern, program.run(backend=engine)["x"])


def test_a_grammar_that_is_none_is_an_error_of_its_gen(engine: ft.Engine) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Here it is: " + ft.gen("x", ebnf="root ::= missing")

    with pytest.raises(ft.GenerationError, match="the rule 'missing' is not defined at line 1, column 10"):
        program.run(backend=engine)


def test_a_structural_tag_holds_a_schema_in_free_text(engine: ft.Engine) -> None:
    city = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
            "additionalProperties": False}  # fmt: skip
    tag = {"begin": "<call>", "content": {"type": "json_schema", "json_schema": city}, "end": "</call>"}
    content = [{"type": "regex", "pattern": "[A-Za-z ]{5,20}: "}, {"type": "tag", **tag}]

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "I call the weather. " + ft.gen(
            "x", structural_tag={"format": {"type": "sequence", "elements": content}}, max_tokens=40, temperature=1
        )

    before, call = program.run(backend=engine)["x"].split(": ", 1)
    assert 5 <= len(before) <= 20
    assert json.loads(call.removeprefix("<call>").removesuffix("</call>"))["city"] in ("Rome", "Oslo")


def test_a_trigger_that_the_model_writes_begins_its_structure(engine: ft.Engine) -> None:
    tag = {"triggers": ["<"], "structures": [{"begin": "<n>", "schema": {"type": "integer", "maximum": 99},
           "end": "</n>"}]}  # fmt: skip

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "A list:\n<n>1</n>\n<n>2</n>\n<n>3</n>\n" + ft.gen("x", structural_tag=tag, max_tokens=30, temperature=0)

    text = program.run(backend=engine)["x"]
    assert "<n>" in text, "the model goes on with its list"
    assert re.fullmatch(r"(<n>-?\d+</n>|[^<])*", text)


def test_json_is_written_as_its_options_say(engine: ft.Engine) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, "x"]}, "b": {"type": "boolean"}},
              "required": ["a", "b"], "additionalProperties": False}  # fmt: skip

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "As JSON: " + ft.gen("x", json_schema=schema, white_space="compact", max_tokens=40, temperature=1.5)
        s += "As JSON: " + ft.gen("y", json_schema=schema, white_space="pretty:4", max_tokens=40, temperature=1.5)

    state = program.run(backend=engine)
    assert state["x"] == json.dumps(json.loads(state["x"]), separators=(",", ":"))
    assert state["y"] == json.dumps(json.loads(state["y"]), indent=4)


def test_a_deadline_ends_a_request_and_the_engine_goes_on(engine: ft.Engine) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "One, two, three," + ft.gen("x", max_tokens=2000, ignore_eos=True, timeout=0.05)

    with pytest.raises(ft.DeadlineExceeded):
        program.run(backend=engine)
    quick = ft.function(lambda s: s.__iadd__("One, two," + ft.gen("x", max_tokens=4, temperature=0)))
    assert quick.run(backend=engine)["x"]
    assert ft.flush_cache(engine)  # nothing holds a page any more
