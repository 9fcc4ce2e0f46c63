"""gen(type=...): constrained by the type's schema, read as its value, failing where it is read."""

from __future__ import annotations

import asyncio
import enum
import json
import threading
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Optional, Union

import pydantic
import pytest
import typing_extensions

import forktree as ft
from tests.support.scripted_backend import Reply, ScriptedBackend


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Address(pydantic.BaseModel):
    street: str
    number: int = 1


@dataclass
class Person:
    name: str
    age: int
    colours: list[Colour] = field(default_factory=list)
    address: Address | None = None


class Point(typing.TypedDict):
    x: float
    y: float


class Other(typing_extensions.TypedDict):
    x: float
    label: typing_extensions.NotRequired[str]


def read(text: str | Reply, wanted: Any) -> Any:
    backend = ScriptedBackend(text)
    state = ft.function(lambda s: s.__iadd__(ft.gen("x", type=wanted))).run(backend=backend)
    assert json.loads(backend.requests[0].sampling.json_schema or "")
    return state["x"]


@pytest.mark.parametrize(
    ("wanted", "text", "value"),
    [
        (int, "7", 7),
        (float, "7", 7.0),
        (bool, "true", True),
        (str, '"a\\nb"', "a\nb"),
        (Literal["yes", "no"], '"no"', "no"),
        (Literal[1, "1"], "1", 1),
        (Colour, '"blue"', Colour.BLUE),
        (list[int], "[1, 2]", [1, 2]),
        (dict[str, list[Colour]], '{"a": ["red"]}', {"a": [Colour.RED]}),
        (Optional[int], "null", None),  # noqa: UP045
        (Union[int, str], '"3"', "3"),  # noqa: UP007
        (int | None, "4", 4),
        (Point, '{"x": 1, "y": 2.5}', {"x": 1.0, "y": 2.5}),
        (Other, '{"x": 1}', {"x": 1.0}),
        (Address, '{"street": "Elm"}', Address(street="Elm")),
        (list[Address], '[{"street": "Elm", "number": 2}]', [Address(street="Elm", number=2)]),
        (
            Person,
            '{"name": "Ann", "age": 3, "colours": ["red"], "address": {"street": "Elm"}}',
            Person("Ann", 3, [Colour.RED], Address(street="Elm")),
        ),
    ],
)
def test_the_variable_is_a_value_of_the_type(wanted: Any, text: str, value: Any) -> None:
    found = read(text, wanted)
    assert found == value
    assert type(found) is type(value)


def test_the_text_keeps_the_json_and_so_does_the_meta_info() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Age: " + ft.gen("age", type=int) + "."
        assert s["age"] + 1 == 42

    state = program.run(backend=ScriptedBackend("41"))
    assert state.text() == "Age: 41."
    meta = state.get_meta_info("age")
    assert meta is not None
    assert meta["text"] == "41"


def test_a_value_is_parsed_once_and_by_whoever_reads_it() -> None:
    parsed = []

    @dataclass
    class Seen:
        x: int

        def __post_init__(self) -> None:
            parsed.append(threading.get_ident())

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("seen", type=Seen)
        s.sync()
        assert parsed == []
        assert s["seen"] is s["seen"]

    program.run(backend=ScriptedBackend('{"x": 1}'))
    assert parsed == [threading.get_ident()]


def test_an_output_that_was_cut_off_fails_at_the_read_with_node_line_and_text() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        s += ft.gen("who", type=Person, max_tokens=9) + " and " + ft.gen("next")
        with pytest.raises(ft.GenerationError) as caught:
            s["who"]
        assert str(s["next"]) == '{"name": '  # the branch goes on
        meta = s.get_meta_info("who")
        assert meta is not None
        assert meta["text"] == '{"name": '
        cause = caught.value.cause
        assert isinstance(cause, ft.InvalidOutput)
        assert (cause.text, cause.wanted, cause.cut_after) == ('{"name": ', Person, 9)
        with pytest.raises(ft.GenerationError) as again:
            s["who"]
        assert again.value is caught.value
        return str(caught.value)

    message = program.run(backend=ScriptedBackend(Reply('{"name": ', "length"))).ret_value
    assert message.startswith('gen("who") at ')
    assert "test_typed_values.py:" in message
    assert "cut off after 9 tokens (see max_tokens), no Person: not JSON" in message
    assert message.endswith("It was: '{\"name\": '")


@pytest.mark.parametrize(
    ("wanted", "text", "reason"),
    [
        (int, '"7"', 'no int: int: "7" is no int'),
        (Colour, '"green"', "no Colour"),
        (Person, '{"name": "Ann", "age": "old"}', r"Person\.age"),
        (Address, '{"number": 1}', "street"),
        (list[int], "[1, 2", r"no list(\[int\])?: not JSON"),
    ],
)
def test_what_is_no_value_of_the_type_says_why(wanted: Any, text: str, reason: str) -> None:
    with pytest.raises(ft.GenerationError, match=reason) as caught:
        read(text, wanted)
    assert caught.value.cause.__cause__ is not None  # the parser's own error


def test_an_error_of_the_users_own_validator_is_the_reason() -> None:
    class Even(pydantic.BaseModel):
        value: int

        @pydantic.field_validator("value")
        @classmethod
        def is_even(cls, value: int) -> int:
            if value % 2:
                raise ValueError("odd numbers are not allowed")
            return value

    assert read('{"value": 2}', Even).value == 2
    with pytest.raises(ft.GenerationError, match="odd numbers are not allowed"):
        read('{"value": 3}', Even)


def test_n_outputs_are_a_list_of_values() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("xs", type=int, n=2)

    answers = iter("12")
    assert program.run(backend=ScriptedBackend(lambda *_: next(answers)))["xs"] == [1, 2]


def test_join_gathers_values_and_names_the_branches_without() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += lambda i: f"{i}" + ft.gen("x", type=int)
        forks.join()

    assert program.run(backend=ScriptedBackend({"0": "5", "1": "6", "2": "7"}))["x"] == [5, 6, 7]
    with pytest.raises(ft.BranchErrors, match=r'1 of 3 branches.*\n.*branch 1: GenerationError: gen\("x"\)') as caught:
        program.run(backend=ScriptedBackend({"0": "5", "1": "six", "2": "7"}))
    assert list(caught.value.errors) == [1]


def test_a_typed_output_streams_as_text() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x", type=list[int])

    state = program.stream(backend=ScriptedBackend("[1, 2, 3]"))
    assert "".join(state.text_iter("x")) == "[1, 2, 3]"
    assert state["x"] == [1, 2, 3]
    assert list(program.run(backend=ScriptedBackend("[1, 2, 3]")).text_iter("x")) == ["[1, 2, 3]"]
    pieces: list[str] = []
    with pytest.raises(ft.GenerationError, match="not JSON"):
        pieces.extend(program.stream(backend=ScriptedBackend("[1, 2")).text_iter("x"))
    assert "".join(pieces) == "[1, 2"


def test_a_type_without_schema_is_refused_where_it_is_written() -> None:
    class Plain:
        pass

    for wanted, reason in ((Plain, "Plain has no JSON Schema"), ({1: 2}, "no JSON Schema"), (dict[None, str], "keys")):
        with pytest.raises(ft.ConstraintError, match=rf'{reason}.*\nIn gen\("x"\), .*test_typed_values\.py:\d+'):
            ft.gen("x", type=wanted)


@pytest.mark.parametrize(
    "other",
    [{"regex": "a"}, {"json_schema": {}}, {"dtype": int}, {"choices": ["a"]}, {"ebnf": "a"}, {"structural_tag": {}}],
)
def test_type_excludes_every_other_constraint(other: Any) -> None:
    with pytest.raises(ft.ArgumentError, match=f"type and {next(iter(other))} can't both constrain"):
        ft.gen("x", type=int, **other)


def test_json_schema_goes_on_giving_text() -> None:
    state = ft.function(lambda s: s.__iadd__(ft.gen("x", json_schema=Person))).run(backend=ScriptedBackend("{}"))
    assert state["x"] == "{}"


def test_a_trace_goes_on_past_a_typed_gen_until_its_value_is_looked_into() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("n", type=int)
        number = s["n"]
        s += " more " + ft.gen("x")
        s += "even" if number % 2 == 0 else "odd"

    kinds = [node.kind for node in program.trace().nodes]
    assert kinds == ["gen", "text", "gen", "open"]


@dataclass
class Story:
    title: str
    years: list[int] = field(default_factory=list)


STORY = '{"title": "Elm", "years": [1, 23]}'


def test_a_typed_output_streams_as_its_value_so_far() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Once: " + ft.gen("x", type=Story)

    begun = Reply('{"title": "Elm", "years": [1, 2', hang=True)  # read for as long as it takes to come
    state = program.stream(backend=ScriptedBackend(begun))
    seen = next(value for value in map(repr, state.stream_partial("x")) if "years=[1]" in value)
    assert seen == "Story(title='Elm', years=[1], ...)"
    state.cancel()
    shown = [repr(value) for value in program.stream(backend=ScriptedBackend(STORY)).stream_partial("x")]
    assert shown[-1] == "Story(title='Elm', years=[1, 23])"
    assert list(program.run(backend=ScriptedBackend(STORY)).stream_partial("x"))[-1] == Story("Elm", [1, 23])


def test_coroutines_stream_values_too() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        s += ft.gen("x", type=Story)

    async def read() -> list[Any]:
        state = program.astream(backend=ScriptedBackend(STORY))
        return [value async for value in state.astream_partial("x")]

    assert asyncio.run(read())[-1] == Story("Elm", [1, 23])


def test_a_json_schema_streams_as_dicts_and_a_plain_text_is_refused() -> None:
    def stream(text: str, **options: Any) -> list[Any]:
        program = ft.function(lambda s: s.__iadd__(ft.gen("x", **options)))
        return list(program.stream(backend=ScriptedBackend(text)).stream_partial("x"))

    assert stream('{"a": [1', json_schema={})[-1] == {"a": []}
    assert stream("12", json_schema={})[-1] == 12
    with pytest.raises(ft.ArgumentError, match=r"stream_partial\('x'\) reads JSON: give the gen a type"):
        stream("Hello")
    with pytest.raises(ft.GenerationError, match=r"no Story: Story\.years: 3 is no list"):
        stream('{"title": "Elm", "years": 3}', type=Story)
    with pytest.raises(ft.GenerationError, match="no int: not JSON"):
        stream("x", type=int)
