"""gen, select and the roles check what they are given, where it is written."""

from __future__ import annotations

import dataclasses
import inspect
import json
from typing import Any

import pydantic
import pytest

import forktree as ft
from forktree.lang.nodes import Concat, Gen, Select
from forktree.lang.options import SamplingOptions
from tests.support.scripted_backend import ScriptedBackend


def sampling(node: Any, **options: Any) -> Any:
    backend = ScriptedBackend()
    ft.function(lambda s: s.__iadd__(node)).run(backend=backend, **options)
    return backend.requests[0].sampling


def test_gen_takes_sglangs_arguments_in_sglangs_order() -> None:
    names = list(inspect.signature(ft.gen).parameters)
    assert names[:23] == [
        "name", "max_tokens", "min_tokens", "n", "stop", "stop_token_ids", "stop_regex", "temperature", "top_p",
        "top_k", "min_p", "frequency_penalty", "presence_penalty", "ignore_eos", "return_logprob", "logprob_start_len",
        "top_logprobs_num", "return_text_in_logprobs", "dtype", "choices", "choices_method", "regex", "json_schema",
    ]  # fmt: skip


def test_nodes_concatenate_with_text_on_either_side() -> None:
    node = "a" + ft.gen("x") + "b" + ft.select("y", ["1"]) + ["c", ft.gen("z")]
    assert isinstance(node, Concat)
    assert [type(each).__name__ for each in node] == ["Text", "Gen", "Text", "Select", "Text", "Gen"]


def test_nodes_are_values() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ft.gen("x").name = "y"  # type: ignore[attr-defined]


def test_nodes_know_the_users_line() -> None:
    node = ft.user("x" + ft.gen("y"))
    line = inspect.currentframe().f_lineno - 1  # type: ignore[union-attr]
    assert {(each.source.file, each.source.line) for each in node} == {(__file__, line)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": -1}, "max_tokens: got -1, wanted an integer, 0 or more"),
        ({"max_tokens": 1.5}, "max_tokens: got 1.5"),
        ({"max_tokens": True}, "max_tokens: got True"),
        ({"temperature": -0.1}, "temperature: got -0.1, wanted a number from 0 to 100"),
        ({"temperature": "hot"}, "temperature: got 'hot'"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"top_p": 0}, "top_p: got 0, wanted a number above 0 and at most 1"),
        ({"n": 0}, "n: got 0, wanted an integer, 1 or more"),
        ({"stop": ["a", ""]}, "stop: got .*, wanted a string that is not empty, or a list"),
        ({"stop": 5}, "stop: got 5"),
        ({"stop_token_ids": ["a"]}, "stop_token_ids: got"),
        ({"ignore_eos": 1}, "ignore_eos: got 1, wanted True or False"),
        ({"repetition_penalty": 0}, "repetition_penalty: got 0"),
        ({"logit_bias": {"x": 1}}, "logit_bias: got"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias: got"),
        ({"seed": 1.5}, "seed: got 1.5, wanted an integer"),
        ({"dtype": list}, "dtype: got <class 'list'>, wanted int, float, bool or str"),
        ({"regex": 5}, "regex: got 5, wanted a pattern as a string"),
        ({"regex": "a", "dtype": int}, "regex and dtype can't both constrain one output"),
        ({"regex": "a", "choices": ["a"]}, "regex and choices can't both"),
        ({"choices": ["a"], "n": 2}, "n means nothing for a choice"),
        ({"choices": ["a"], "order": "any"}, "order means nothing for a choice"),
        ({"choices_method": ft.greedy_token_selection}, "choices_method is given without choices"),
        ({"name": ""}, "name: got ''"),
    ],
)
def test_bad_arguments_are_refused_at_the_line_that_has_them(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=message + r".*\(in gen\(.*\), .*test_api\.py:\d+\)"):
        ft.gen(**arguments)


def test_stop_takes_a_string_or_any_collection_and_keeps_the_users_list_as_it_is() -> None:
    stops = ["END", "x"]
    assert sampling(ft.gen("a", stop=stops)).stop == ("END", "x")
    assert sampling(ft.gen("a", stop="END")).stop == ("END",)
    assert stops == ["END", "x"]


@pytest.mark.parametrize("dtype", [int, "int", float, bool, str, "str", "string"])
def test_dtypes_constrain_by_a_regex(dtype: Any) -> None:
    assert sampling(ft.gen("a", dtype=dtype)).regex


def test_numbers_end_at_a_blank_whatever_else_stops_them() -> None:
    assert sampling(ft.gen("a", dtype=int, stop="z")).stop == ("z", " ", "\n")
    assert sampling(ft.gen("a", dtype=float), stop=["END"]).stop == ("END", " ", "\n")
    assert sampling(ft.gen("a", dtype=bool)).stop == ()


def test_gen_int_and_gen_string() -> None:
    taken = sampling(ft.gen_int("a", 5, None, "z", temperature=0.5, seed=1))
    assert (taken.max_new_tokens, taken.stop, taken.temperature, taken.seed) == (5, ("z", " ", "\n"), 0.5, 1)
    assert sampling(ft.gen_string("a")).regex.startswith('"')
    for arguments in ({"regex": "a"}, {"min_tokens": 1}, {"dtype": float}):
        with pytest.raises(ft.ArgumentError, match="gen_int takes no argument"):
            ft.gen_int("a", **arguments)


def test_a_schema_is_text_a_dict_or_a_type() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}

    class Model(pydantic.BaseModel):
        a: int

    @dataclasses.dataclass
    class Data:
        a: int

    assert json.loads(sampling(ft.gen("x", json_schema=schema)).json_schema) == schema
    assert json.loads(sampling(ft.gen("x", json_schema=json.dumps(schema))).json_schema) == schema
    for annotation in (Model, Data):
        made = sampling(ft.gen("x", json_schema=annotation)).json_schema
        assert '"type": "integer"' in made
        assert '"required": ["a"]' in made


def test_a_regex_is_checked_where_it_is_written() -> None:
    with pytest.raises(ft.RegexError) as caught:
        ft.gen("broken", regex="(ab|*c)")
    assert "offset 4" in str(caught.value)
    assert 'In gen("broken"), ' in str(caught.value)
    assert "test_api.py:" in str(caught.value)
    assert caught.value.offset == 4
    assert isinstance(caught.value, ft.ConstraintError)
    assert isinstance(caught.value, ft.ProgramError)


def test_an_empty_regex_is_refused() -> None:
    with pytest.raises(ft.RegexError, match="leave it out"):
        ft.gen("x", regex="")


def test_a_schema_is_checked_where_it_is_written() -> None:
    bad = {"type": "object", "properties": {"tags": {"type": "array", "minItems": "two"}}}
    with pytest.raises(ft.SchemaError, match=r"test_api\.py") as caught:
        ft.gen("tags", json_schema=bad)
    assert "/properties/tags" in caught.value.pointer
    with pytest.raises(ft.SchemaError, match="not JSON"):
        ft.gen("tags", json_schema="{")


def test_lookbehind_and_other_python_only_syntax_is_refused_before_anything_runs() -> None:
    with pytest.raises(ft.RegexError):
        ft.gen("x", regex=r"(?<=a)b")


def test_cjk_text_in_a_regex_is_fine() -> None:
    assert sampling(ft.gen("x", regex="[一-龥]+|是")).regex == "[一-龥]+|是"


def test_unset_options_stay_unset() -> None:
    node = ft.gen("x")
    assert isinstance(node, Gen)
    assert set(vars(node.options).values()) == {None}
    assert isinstance(ft.gen("x", choices=["a"]), Select)


def test_asking_for_alternatives_asks_for_log_probabilities() -> None:
    backend = ScriptedBackend()
    ft.function(lambda s: s.__iadd__(ft.gen("x", top_logprobs_num=2))).run(backend=backend)
    assert backend.requests[0].return_logprob is True


def test_every_public_name_is_there_and_importing_is_light() -> None:
    import subprocess
    import sys

    assert all(hasattr(ft, name) for name in ft.__all__ if name not in ("Engine", "EngineConfig", "SamplingParams"))
    heavy = ("torch", "transformers", "aiohttp", "numba", "pydantic", "rich")
    code = f"import sys, forktree as ft; ft.function, ft.gen\nprint([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("write", [lambda t: ft.select("x", ["a", t]), lambda t: ft.gen("x", stop=["a", t])])
def test_half_a_surrogate_pair_in_choices_and_stops_is_refused_with_the_line(write: Any) -> None:
    with pytest.raises(ft.ArgumentError, match=r"surrogate.*|surrogates.*") as caught:
        write("\udc00")
    assert "test_api.py:" in str(caught.value)
    write("\U0001f600")


TRIGGERED = {"structures": [{"begin": "<a>", "schema": {}, "end": "</a>"}], "triggers": ["<a"]}


@pytest.mark.parametrize(
    "tag", [TRIGGERED, json.dumps(TRIGGERED), {"type": "structural_tag", "format": {"type": "any_text"}}]
)
def test_a_structural_tag_reaches_the_backend_as_json_text(tag: Any) -> None:
    found = sampling(ft.gen("x", structural_tag=tag)).structural_tag
    assert json.loads(found) == (json.loads(tag) if isinstance(tag, str) else tag)


def test_an_ebnf_grammar_reaches_the_backend_as_it_is() -> None:
    assert sampling(ft.gen("x", ebnf='root ::= "a"')).ebnf == 'root ::= "a"'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ebnf": ""}, "ebnf: got '', wanted the text of a grammar"),
        ({"ebnf": {"root": "a"}}, "ebnf: got {'root': 'a'}"),
        ({"structural_tag": "{"}, "structural_tag is not JSON"),
        ({"structural_tag": {"structures": {1, 2}}}, "structural_tag is not JSON"),
        ({"structural_tag": "[]"}, 'wanted an object with "type": "structural_tag"'),
        ({"structural_tag": {"type": "json_schema", "format": {}}}, 'wanted an object with "type": "structural_tag"'),
        ({"structural_tag": {"structures": []}}, '"structures" and "triggers"'),
        ({"ebnf": "a", "regex": "a"}, "regex and ebnf can't both constrain"),
        ({"timeout": 0}, "timeout: got 0, wanted seconds, more than 0"),
        ({"timeout": "1s"}, "timeout: got '1s'"),
        ({"timeout": float("nan")}, "timeout: got nan"),
        ({"choices": ["a"], "timeout": True}, "timeout: got True"),
    ],
)
def test_what_lang_can_see_of_these_is_checked_where_it_is_written(arguments: Any, message: str) -> None:
    with pytest.raises(ft.ProgramError) as caught:
        ft.gen("x", **arguments)
    assert isinstance(caught.value, (ft.ArgumentError, ft.ConstraintError))
    assert message in str(caught.value)
    assert "test_api.py:" in str(caught.value)


def gen_node(**options: Any) -> Gen:
    node = ft.gen("x", **options)
    assert isinstance(node, Gen)
    return node


def test_options_that_were_read_once_are_the_same_object_and_their_types_still_count() -> None:
    first, second = gen_node(max_tokens=1, temperature=0.0), gen_node(max_tokens=1, temperature=0.0)
    assert first.options is second.options
    with pytest.raises(ft.ArgumentError, match="max_tokens: got True"):
        ft.gen("x", max_tokens=True, temperature=0.0)
    assert gen_node(max_tokens=1, stop="a").options != gen_node(max_tokens=1, stop=["a", "b"]).options


def test_the_same_options_over_those_of_other_runs_are_those_of_the_run_they_are_in() -> None:
    node = gen_node(max_tokens=3)
    for run in (SamplingOptions(temperature=0.5, max_new_tokens=9), SamplingOptions(temperature=0.25)) * 2:
        assert (node.options.over(run).temperature, node.options.over(run).max_new_tokens) == (run.temperature, 3)
    params = [node.options.to_params(more_stops=stops, seed=seed) for stops, seed in (((), 1), (("a",), None), ((), 2))]
    assert [(each.stop, each.seed) for each in params] == [((), 1), (("a",), None), ((), 2)]


def test_how_json_is_written_goes_with_a_schema() -> None:
    written = sampling(ft.gen("x", json_schema={"type": "object"}, white_space="pretty:4", order="any"))
    assert (written.white_space, written.order) == ("pretty:4", "any")
    assert sampling(ft.gen("x", type=dict[str, int], white_space="compact")).white_space == "compact"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"regex": "a", "white_space": "any"},
            "white_space says how JSON is written; it goes with json_schema or type",
        ),
        ({"json_schema": {}, "white_space": "wide"}, "white_space: got 'wide', wanted bounded, compact, pretty"),
        ({"json_schema": {}, "white_space": 4}, "white_space: got 4"),
        ({"json_schema": {}, "order": "random"}, "order: got 'random', wanted auto, schema, any or required-first"),
    ],
)
def test_how_json_cannot_be_written_is_refused_at_the_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=message):
        ft.gen("x", **given)
