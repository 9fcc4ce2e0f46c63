"""A value, written as JSON, is valid under the schema of its type and comes back as that value, exactly."""

# ruff: noqa: UP007, UP045 - Optional and Union are among what is tested
from __future__ import annotations

import collections
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import jsonschema
import pydantic
import pytest
import typing_extensions
from annotated_types import Ge, Interval, Len, Lt, MultipleOf
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar import parse_value, schema_of

T = TypeVar("T")
UserId = NewType("UserId", int)
Json = typing_extensions.TypeAliasType("Json", Union[dict[str, "Json"], list["Json"], str, int, bool, None])
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))
_CHECK_FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER


class Mixed(enum.Enum):
    ONE = 1
    TEXT = "1"
    NOTHING = None
    HALF = 0.5


class Code(enum.IntEnum):
    OK = 200
    LOST = 404


@dataclass(frozen=True)
class Cat:
    kind: Literal["cat"]
    lives: Annotated[int, Interval(ge=0, le=9)]


@dataclass(frozen=True)
class Dog:
    kind: Literal["dog"]
    name: str = "Rex"


@dataclass
class Tree(Generic[T]):
    value: T
    left: Optional[Tree[T]] = None
    right: Optional[typing_extensions.Self] = None


@dataclass
class IntTree(Tree[int]):
    tags: set[str] = field(default_factory=set)


@dataclass(kw_only=True)
class Counted:
    total: int
    seen: int = field(default=7, init=False)
    label: str = field(default_factory=str)


class Corner(NamedTuple):
    x: int
    y: float = 0.0


class Movie(TypedDict):
    title: str
    year: typing_extensions.NotRequired[int]


class Loose(TypedDict, total=False):
    a: typing_extensions.Required[int]
    b: list[Movie]


class Model(pydantic.BaseModel):
    size: int = pydantic.Field(ge=1, alias="theSize")
    born: datetime.date
    price: decimal.Decimal
    parts: list[Model] = []
    pets: dict[str, Annotated[Union[Cat, Dog], pydantic.Field(discriminator="kind")]] = {}
    by_number: dict[int, str] = {}


@pydantic.dataclasses.dataclass
class Checked:
    x: Annotated[int, pydantic.Field(gt=0)]


def as_json(value: Any) -> Any:
    """What one would write, by hand for each type: nothing of the code under test."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, pydantic.BaseModel):
        return {info.alias or name: as_json(getattr(value, name)) for name, info in type(value).model_fields.items()}
    if is_dataclass(value):
        return {each.name: as_json(getattr(value, each.name)) for each in fields(value) if each.init}
    if isinstance(value, Mapping):
        return {key_text(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        return [as_json(item) for item in value]
    if isinstance(value, datetime.timedelta):
        text = f"{value.days}D" if value.days else ""
        time = f"T{value.seconds}.{value.microseconds:06}S" if value.seconds or value.microseconds or not text else ""
        return f"P{text}{time}" if value.days >= 0 else "-" + as_json(-value)
    if isinstance(value, (datetime.datetime, datetime.time)):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, (datetime.date,)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return Verbatim(f"{value:f}")
    if isinstance(value, (uuid.UUID, pathlib.PurePath, ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return str(value)
    return value


class Verbatim(float):
    """json.dumps writes the text as it stands."""

    def __new__(cls, text: str) -> Verbatim:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def key_text(key: Any) -> str:
    plain = as_json(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def written(data: Any) -> str:
    if isinstance(data, Verbatim):
        return data.text
    if isinstance(data, dict):
        return "{" + ",".join(f"{json.dumps(name)}: {written(item)}" for name, item in data.items()) + "}"
    if isinstance(data, list):
        return "[" + ", ".join(map(written, data)) + "]"
    return json.dumps(data)


UTC = st.just(datetime.timezone.utc)
INTS, NAMES = st.integers(-10, 10), st.text(max_size=4)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3).filter(lambda d: abs(d) < 10**20)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DATES = st.dates()
CATS = st.builds(Cat, kind=st.just("cat"), lives=st.integers(0, 9))
DOGS = st.builds(Dog, kind=st.just("dog"), name=NAMES)
MOVIES = st.fixed_dictionaries({"title": NAMES}, optional={"year": INTS})
TREES = st.recursive(st.builds(Tree, INTS), lambda c: st.builds(Tree, INTS, c | st.none(), c | st.none()), max_leaves=4)
INT_TREES = st.builds(IntTree, INTS, TREES | st.none(), st.none(), tags=st.sets(NAMES, max_size=2))
JSONS = st.recursive(
    st.none() | st.booleans() | INTS | NAMES,
    lambda c: st.lists(c, max_size=2) | st.dictionaries(NAMES, c, max_size=2),
    max_leaves=4,
)
LEAVES = st.builds(Model, theSize=st.integers(1, 9), born=DATES, price=st.decimals(0, 100, places=2))
MODELS = st.builds(
    Model, theSize=st.integers(1, 9), born=DATES, price=st.decimals(0, 100, places=2),
    parts=st.lists(LEAVES, max_size=2),
    pets=st.dictionaries(NAMES, CATS | DOGS, max_size=2), by_number=st.dictionaries(INTS, NAMES, max_size=2),
)  # fmt: skip

CASES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (None, st.none()), (bool, st.booleans()), (int, st.integers()), (float, FLOATS), (str, st.text()),
    (decimal.Decimal, DECIMALS), (datetime.date, DATES), (datetime.datetime, st.datetimes(timezones=UTC)),
    (datetime.time, st.times(timezones=UTC)), (uuid.UUID, st.uuids()), (pathlib.Path, NAMES.map(pathlib.Path)),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999))),
    (ipaddress.IPv4Address, st.ip_addresses(v=4)), (ipaddress.IPv6Address, st.ip_addresses(v=6)),
    (Literal["a", 1, None, True], st.sampled_from(["a", 1, None, True])),
    (Mixed, st.sampled_from(Mixed)), (Code, st.sampled_from(Code)), (UserId, INTS), (Optional[int], INTS | st.none()),
    (list[int], st.lists(INTS)), (Sequence[str], st.lists(NAMES)), (tuple[int, ...], st.lists(INTS).map(tuple)),
    (tuple[int, str], st.tuples(INTS, NAMES)), (tuple[()], st.just(())), (set[int], st.sets(INTS)),
    (frozenset[Code], st.frozensets(st.sampled_from(Code))),
    (collections.deque[int], st.lists(INTS).map(collections.deque)),
    (dict[str, float], st.dictionaries(NAMES, FLOATS)), (Mapping[int, str], st.dictionaries(st.integers(), NAMES)),
    (dict[Code, int], st.dictionaries(st.sampled_from(Code), INTS)),
    (dict[uuid.UUID, int], st.dictionaries(st.uuids(), INTS)),
    (dict[datetime.date, bool], st.dictionaries(DATES, st.booleans())),
    (dict[Literal["a", "b"], int], st.dictionaries(st.sampled_from("ab"), INTS)),
    (Union[int, float, str], INTS | FLOATS | NAMES), (Union[float, int], INTS | FLOATS),
    (bool | int, st.booleans() | INTS),
    (Union[Cat, Dog], CATS | DOGS), (list[Dog | Cat | None], st.lists(CATS | DOGS | st.none(), max_size=3)),
    (Tree[int], TREES), (IntTree, INT_TREES), (Counted, st.builds(Counted, total=INTS, label=NAMES)),
    (Corner, st.builds(Corner, INTS, FLOATS)), (Movie, MOVIES),
    (Loose, st.fixed_dictionaries({"a": INTS}, optional={"b": st.lists(MOVIES, max_size=2)})),
    (Json, JSONS), (Pair[int], st.tuples(INTS, INTS)), (Model, MODELS), (list[Model], st.lists(LEAVES, max_size=2)),
    (Checked, st.builds(Checked, x=st.integers(1, 9))), (Annotated[int, Ge(3), Lt(9)], st.integers(3, 8)),
    (Annotated[str, Len(1, 3)], st.text(min_size=1, max_size=3)),
    (Annotated[list[int], Len(2, 2)], st.lists(INTS, min_size=2, max_size=2)),
    (Annotated[int, MultipleOf(3)], INTS.map(lambda n: 3 * n)), (Union[int, Model], INTS | MODELS),
    (Annotated[str, pydantic.StringConstraints(pattern="^a+$")], st.integers(1, 4).map(lambda n: "a" * n)),
    (pydantic.conint(ge=2, le=4), st.integers(2, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("tp", "values"), CASES, ids=lambda case: str(case)[:40])
def test_a_value_comes_back_from_its_json(tp: Any, values: st.SearchStrategy[Any]) -> None:
    validator = jsonschema.Draft202012Validator(schema_of(tp), format_checker=_CHECK_FORMATS)

    @settings(max_examples=15, deadline=None)
    @given(values)
    def check(value: Any) -> None:
        text = written(as_json(value))
        validator.validate(json.loads(text))
        found = parse_value(tp, text)
        assert found == value
        assert type(found) is type(value)

    check()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax came with Python 3.12")
def test_type_statements_and_type_parameters() -> None:
    names: dict[str, Any] = {"__name__": __name__, "dataclass": dataclass}
    source = """
type Tree = dict[str, Tree] | int
type Both[X] = tuple[X, X]

@dataclass
class Box[X]:
    value: X
    inner: "Box[X] | None" = None
"""
    exec(compile(source, "<test>", "exec", dont_inherit=True), names)
    tree, both, box = names["Tree"], names["Both"], names["Box"]
    assert schema_of(tree)["$defs"]["Tree"]["anyOf"][0]["additionalProperties"] == {"$ref": "#/$defs/Tree"}
    assert parse_value(tree, '{"a": {"b": 1}}') == {"a": {"b": 1}}
    assert parse_value(both[int], "[1, 2]") == (1, 2)
    assert parse_value(box[int], '{"value": 1, "inner": {"value": 2}}') == box(1, box(2))
