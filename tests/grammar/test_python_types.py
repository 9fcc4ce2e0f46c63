"""Python types to schemas and back: generated text always parses to the type."""

# ruff: noqa: UP007, UP045 - Optional and Union are among what is tested
from __future__ import annotations

import collections
import datetime
import decimal
import enum
import json
import pathlib
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union

import jsonschema
import pydantic
import pytest
from annotated_types import Ge, Le, MaxLen, MinLen, MultipleOf
from typing_extensions import Never

from forktree.grammar import Compiler, Constraint, GrammarError, parse_value, schema_of
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float


class Required(TypedDict):
    a: int
    b: int


class Movie(TypedDict, total=False):
    title: str
    year: int


@dataclass
class Node:
    name: str
    children: list[Node]
    colour: Colour | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Fish:
    kind: Literal["fish"]
    fins: int


@dataclass
class Bird:
    kind: Literal["bird"]
    name: str


class Address(pydantic.BaseModel):
    street: str
    number: int = pydantic.Field(ge=1, le=999)


class Pet(pydantic.BaseModel):
    kind: Literal["cat", "dog"]
    age: Annotated[int, Ge(0), Le(30)]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = pydantic.Field(ge=0, le=9)


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"
    good: bool


class Person(pydantic.BaseModel):
    """Someone."""

    name: str = pydantic.Field(min_length=1, max_length=20, description="full name")
    born: datetime.date
    address: Address
    other: Address | None = None
    colours: list[Colour] = pydantic.Field(default_factory=list, max_length=3)
    pets: list[Pet | str] = []
    animal: Fish | Bird = pydantic.Field(discriminator="kind")
    scores: dict[str, float] = {}
    pair: tuple[int, str] = (1, "a")
    friends: list[Person] = []


TYPES: list[Any] = [
    bool, int, float, str, None, Colour, Level, Point, Movie, Node, Address, Person, datetime.date, datetime.datetime,
    datetime.time, uuid.UUID,
    Literal["a", 1, None, True], list[int], list[list[str]], dict[str, int], dict[str, list[bool]], Optional[int],
    Union[int, str, None], tuple[int, str], tuple[int, ...], tuple[()],
    decimal.Decimal, datetime.timedelta, pathlib.Path, dict[Colour, int], dict[Literal[1, 2], str], Fish | Bird,
    collections.deque[int], Annotated[str, MinLen(2), MaxLen(3)],
    Sequence[int], Mapping[str, str], list, dict, tuple, Any, Annotated[int, "a note"], Annotated[int, Ge(3), Le(5)],
    list[Annotated[int, Ge(0), Le(9)]], int | None, list[Person],
]  # fmt: skip


def generate(schema: dict[str, Any], seed: int) -> str:
    """A random text under the masks of a schema, of 400 tokens at most."""
    rng = random.Random(seed)
    matcher = COMPILER.compile(Constraint.json_schema(schema)).matcher()
    text, left = b"", 400
    while True:
        choice = allowed(matcher, left)
        if VOCABULARY.eos in choice and (len(choice) == 1 or rng.random() < 0.5):
            return text.decode()
        likely = sorted(t for t in choice if t != VOCABULARY.eos and (t < 128 or t > 255)) or sorted(choice)
        token_id = rng.choice(likely)
        matcher.advance(token_id)
        text += VOCABULARY.tokens[token_id] or b""
        left -= 1


@pytest.mark.parametrize("tp", TYPES, ids=str)
def test_what_is_generated_for_a_type_is_read_as_that_type(tp: Any) -> None:
    schema = schema_of(tp)
    for seed in range(4):
        text = generate(schema, seed)
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
        parse_value(tp, text)


def test_schemas_are_what_one_would_write() -> None:
    assert schema_of(int) == {"type": "integer"}
    assert schema_of(Optional[str]) == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert schema_of(Literal["a", 2]) == {"enum": ["a", 2]}
    assert schema_of(Colour) == {"$ref": "#/$defs/Colour", "$defs": {"Colour": {"enum": ["red", "blue"]}}}
    assert schema_of(list[Movie])["$defs"]["Movie"] == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "year": {"type": "integer"}},
        "required": [],
        "additionalProperties": False,
    }


def test_values_come_back_as_their_types() -> None:
    node = parse_value(Node, '{"name": "a", "children": [{"name": "b", "children": []}], "colour": "red"}')
    assert node == Node("a", [Node("b", [])], Colour.RED)
    assert parse_value(Level, "2") is Level.HIGH
    assert parse_value(Point, "[1, 2]") == Point(1, 2.0)
    assert type(parse_value(float, "3")) is float
    assert parse_value(tuple[int, ...], "[1, 2]") == (1, 2)
    assert parse_value(datetime.datetime, '"2024-02-29T12:30:00.5Z"') == datetime.datetime(
        2024, 2, 29, 12, 30, 0, 500_000, tzinfo=datetime.timezone.utc
    )
    assert parse_value(datetime.time, '"12:30:00.123456789+01:00"').microsecond == 123456
    assert parse_value(dict[str, Colour], '{"x": "blue"}') == {"x": Colour.BLUE}
    assert parse_value(Movie, '{"year": 1999}') == {"year": 1999}
    assert parse_value(Union[int, str], '"1"') == "1"
    assert parse_value(Address, '{"street": "s", "number": 4}') == Address(street="s", number=4)
    assert parse_value(Annotated[int, Ge(3)], "4") == 4


@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (int, "1.5"), (int, '"1"'), (int, "true"), (bool, "1"), (str, "1"), (None, "0"), (Literal["a"], '"b"'),
        (Literal[1], "true"), (Colour, '"green"'), (list[int], "{}"),
        (list[int], '["a"]'), (tuple[int, str], "[1]"), (Point, "[1]"), (Node, '{"name": "a"}'), (Movie, '{"x": 1}'),
        (dict[str, int], "[]"), (Union[int, None], '"a"'), (int, "{"),
        (float, "null"), (uuid.UUID, "1"),
    ],
)  # fmt: skip
def test_text_of_another_type_is_refused(tp: Any, text: str) -> None:
    with pytest.raises(GrammarError):
        parse_value(tp, text)


class Odd:
    pass


@dataclass
class Holder:
    items: list[Odd]


@dataclass
class Lost:
    where: Nowhere  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Box(Generic[T]):
    value: T


@pytest.mark.parametrize(
    ("tp", "path"),
    [
        (Odd, "Odd"), (complex, "complex"), (bytes, "bytes"), (set[Odd], "set[]"), (dict[Point, str], "dict"),
        (list[Odd], "list[]"), (Holder, "Holder.items[]"), (Literal[b"x"], "Literal"), ([int], "[<class 'int'>]"),
        (dict[str, Odd], "dict{}"), (tuple[int, Odd], "tuple[1]"), (Lost, "Lost"), (Box, "Box.value"),
        (Annotated[datetime.date, Ge(3)], "date"), (Never, "Never"), (dict[float, int], "dict"),
    ],
)  # fmt: skip
def test_a_type_without_a_schema_is_refused_with_the_path_to_it(tp: Any, path: str) -> None:
    with pytest.raises(GrammarError) as caught:
        schema_of(tp)
    assert str(caught.value).startswith(path), str(caught.value)


def test_two_classes_of_one_name_get_two_definitions() -> None:
    def make(tp: Any) -> Any:
        @dataclass
        class Same:
            value: tp

        return Same

    first, second = make(int), make(str)
    first.__annotations__ = {"value": int}
    second.__annotations__ = {"value": str}
    schema = schema_of(tuple[first, second])  # type: ignore[valid-type]
    assert len(schema["$defs"]) == 2
    text = generate(schema, 1)
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))


def test_a_pydantic_model_that_allows_more_stays_open() -> None:
    class Open(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        a: int

    schema = schema_of(Open)
    assert schema["$defs"]["Open"]["additionalProperties"] is True


@pytest.mark.parametrize("model", [Address, Person, Pet])
def test_pydantics_own_schemas_compile_as_they_are(model: type[pydantic.BaseModel]) -> None:
    schema = model.model_json_schema()
    for seed in range(3):
        model.model_validate_json(generate(schema, seed))


class Small(pydantic.BaseModel):
    x: int


class Wide(pydantic.BaseModel):
    x: str


def test_a_union_takes_the_arm_that_fits_exactly() -> None:
    assert parse_value(Small | Wide, '{"x": "1"}') == Wide(x="1")
    assert parse_value(Small | Wide, '{"x": 1}') == Small(x=1)
    assert type(parse_value(float | int, "1")) is int
    assert type(parse_value(int | float, "1.0")) is float
    assert parse_value(Fish | Bird, '{"kind": "bird", "name": "Rex"}') == Bird("bird", "Rex")


@pytest.mark.parametrize(
    ("tp", "text", "message"),
    [
        (Fish | Bird, '{"kind": "bird", "name": 3}', "Fish | Bird.name: 3 is no str"),
        (list[Fish | Bird], '[{"kind": "cow"}]', 'list[0]: {"kind": "cow"} is no Fish | Bird'),
        (Node, '{"name": "a", "children": [{"name": "b", "children": 1}]}', "Node.children[0].children: 1 is no list"),
        (dict[str, Movie], '{"a": {"year": "x"}}', 'dict["a"].year: "x" is no int'),
        (Required, '{"a": 1}', "Required.b is missing"), (Node, '{"children": []}', "Node.name is missing"),
        (list[Address], '[{"street": "s", "number": 0}]', "list[0].number: Input should be greater than or equal to 1"),
        (Annotated[int, Ge(3)], "2", "int: 2 breaks minimum 3"),
        (dict[int, str], '{"a": ""}', 'dict: the key: "a" is no int'),
        (datetime.datetime, '"2020-13-01T00:00:00Z"', 'datetime: "2020-13-01T00:00:00Z" is no datetime'),
        (datetime.timedelta, '"P1Y"', 'timedelta: "P1Y" is no timedelta'), (float, "NaN", "not JSON: NaN is not"),
        (int, "1e999999999", "int: Infinity is no int"), (tuple[int, int], "[1]", "tuple: [1] is no tuple"),
    ],
    ids=str,
)  # fmt: skip
def test_messages_name_the_type_and_the_path(tp: Any, text: str, message: str) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_value(tp, text)
    assert str(caught.value).startswith(message)


def test_numbers_are_read_as_they_are_written() -> None:
    assert parse_value(decimal.Decimal, "0.1000000000000000000001") == decimal.Decimal("0.1000000000000000000001")
    assert (parse_value(int, "1.0"), parse_value(int, "1e3")) == (1, 1000)
    assert type(parse_value(int, "1e3")) is int
    assert parse_value(Annotated[float, MultipleOf(0.1)], "0.3") == 0.3
    assert type(parse_value(dict, '{"a": [1.5]}')["a"][0]) is float


def test_what_pydantic_cannot_say_in_a_schema_is_put_right() -> None:
    class Odd(pydantic.BaseModel):
        price: decimal.Decimal
        length: datetime.timedelta
        names: dict[int, str]

    properties = schema_of(Odd)["$defs"]["Odd"]["properties"]
    assert properties["price"] == {"type": "number", "title": "Price"}
    assert "Y" not in properties["length"]["pattern"]
    assert properties["names"]["propertyNames"] == {"pattern": "^(?:0|-?[1-9][0-9]*)$"}
