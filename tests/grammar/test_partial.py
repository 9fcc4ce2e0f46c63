"""The value so far of a prefix of JSON: cut anywhere, fed in any pieces, typed as far as it is known."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import json
import time
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar import Draft, GrammarError, PartialParser, parse_value, partial


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Step:
    text: str
    minutes: int = 0


@dataclass
class Recipe:
    title: str
    steps: list[Step]
    colour: Colour | None = None
    when: datetime.date | None = None


@dataclass
class Search:
    tool: Literal["search"]
    query: str
    limit: int


@dataclass
class Write:
    tool: Literal["write"]
    path: str
    size: decimal.Decimal


class Person(pydantic.BaseModel):
    name: str = pydantic.Field(alias="fullName")
    home: Step | None = None
    friends: list[Person] = []


class Point(NamedTuple):
    x: int
    label: str


class Movie(TypedDict):
    title: str
    tags: set[str]


def test_what_is_shown_of_every_prefix() -> None:
    text = '{"title": "P\\u0041", "steps": [{"text": "b", "minutes": 12}], "colour": "red"}'
    shown = []
    parser = PartialParser(Recipe)
    for char in text:
        now = repr(parser.feed(char))
        if not shown or now != shown[-1]:
            shown.append(now)
    assert shown == [
        "Recipe(...)",
        "Recipe(title='', ...)",
        "Recipe(title='P', ...)",
        "Recipe(title='PA', ...)",
        "Recipe(title='PA', steps=[], ...)",
        "Recipe(title='PA', steps=[Step(...)], ...)",
        "Recipe(title='PA', steps=[Step(text='', ...)], ...)",
        "Recipe(title='PA', steps=[Step(text='b', ...)], ...)",
        "Recipe(title='PA', steps=[Step(text='b', minutes=12)], ...)",
        "Recipe(title='PA', steps=[Step(text='b', minutes=12)], colour=<Colour.RED: 'red'>, ...)",
        "Recipe(title='PA', steps=[Step(text='b', minutes=12)], colour=<Colour.RED: 'red'>, when=None)",
    ]
    assert parser.value == Recipe("PA", [Step("b", 12)], Colour.RED)
    assert parser.finished


def test_a_draft_has_the_attributes_of_its_class_none_until_they_begin() -> None:
    draft = partial(Recipe, '{"title": "Pan').value
    assert isinstance(draft, Draft)
    assert (draft.title, draft.steps, draft["title"]) == ("Pan", None, "Pan")
    assert "title" in draft
    assert "steps" not in draft
    assert list(draft) == ["title"]
    with pytest.raises(AttributeError, match="Recipe has no field 'name'"):
        _ = draft.name
    with pytest.raises(KeyError):
        _ = draft["steps"]


def test_paths_say_what_is_complete() -> None:
    found = partial(Recipe, '{"title": "Pan", "steps": [{"text": "a", "minutes": 1}, {"text": "b')
    assert found.complete == {
        ("title",), ("steps", 0, "text"), ("steps", 0, "minutes"), ("steps", 0),
    }  # fmt: skip
    assert not found.finished
    assert partial(list[int], " [1, 2] ").complete == {(0,), (1,), ()}


@pytest.mark.parametrize(
    ("tp", "prefix", "shown"),
    [
        ({}, "", None), ({}, '{"a', {}), ({}, '{"a"', {}), ({}, '{"a": ', {}), ({}, '{"a": "', {"a": ""}),
        ({}, '{"a": tr', {}), ({}, '{"a": true', {"a": True}), ({}, '[1, 2', [1]), ({}, "[1, 2,", [1, 2]),
        ({}, "[-", []),
        ({}, '["\\', [""]), ({}, '["\\u00', [""]), ({}, '["\\u00e9', ["é"]), ({}, '["x\\ud83d', ["x"]),
        ({}, '["\\ud83d\\ude', [""]), ({}, '["\\ud83d\\ude00', ["😀"]), ({}, '["\\ud83d!', ["\ud83d!"]),
        ({"type": "object"}, '{"a": {"b": [[', {"a": {"b": [[]]}}), (True, '"ab', "ab"),
        (int, "12", None), (int, "12 ", 12), (str, '"ab', "ab"), (Colour, '"re', None), (Colour, '"red"', Colour.RED),
        (datetime.date, '"2020-01', None), (datetime.date, '"2020-01-02"', datetime.date(2020, 1, 2)),
        (str | datetime.date, '"2020', "2020"), (decimal.Decimal, "1.10 ", decimal.Decimal("1.10")),
        (set[int], "[1, 2,", [1, 2]), (set[int], "[1, 2]", {1, 2}), (tuple[int, str], '[1, "a', [1, "a"]),
        (tuple[int, str], '[1, "a"]', (1, "a")), (dict[int, Colour], '{"1": "red", "2": "b', {1: Colour.RED}),
        (Movie, '{"title": "a", "tags": ["x', {"title": "a", "tags": ["x"]}), (list[Step], "[{}", [None]),
        (Annotated[list[int], pydantic.Field(max_length=2)], "[1,", [1]), (int | None, "null", None),
        (Point, '[1, "ab"]', Point(1, "ab")), (Any, '{"a": 1.5}', {"a": 1.5}), (int, '"x"', "x"),
        (int, '{"a": 1}', {"a": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_a_cut_anywhere_shows_what_is_certain(tp: Any, prefix: str, shown: Any) -> None:
    found = partial(tp, prefix).value
    if shown == [None]:  # Step without its text: its class objects, so it stays a draft
        assert isinstance(found[0], Draft)
    else:
        assert found == shown
        assert type(found) is type(shown)


def test_a_named_tuple_grows_by_its_labels() -> None:
    draft = partial(Point, '[1, "a').value
    assert (draft.x, draft.label) == (1, "a")


def test_a_tag_decides_which_arm_of_a_union_it_is() -> None:
    parser = PartialParser(list[Search | Write])
    draft = parser.feed('[{"tool": "wri')[0]
    assert repr(draft) == "Search | Write(tool='wri', ...)"
    parser.feed('te", "path": "a", "size": 1.50, ')
    assert repr(draft) == "Write(tool='write', path='a', size=Decimal('1.50'), ...)"
    with pytest.raises(AttributeError):
        _ = draft.query
    undecided = partial(Search | Write, '{"query": "x').value
    assert undecided.query == "x"
    assert repr(undecided) == "Search(query='x', ...)"  # no other arm has such a field


def test_a_model_grows_by_its_attributes_and_ends_as_itself() -> None:
    text = '{"fullName": "Ann", "friends": [{"fullName": "Bo"}], "home": {"text": "Elm"}}'
    draft = partial(Person, text[:-3]).value
    assert (draft.name, draft.friends, draft.home.text) == ("Ann", [Person(fullName="Bo")], "Elm")
    assert partial(Person, text).value == parse_value(Person, text)


def test_a_class_that_objects_stays_a_draft_and_nothing_is_raised() -> None:
    class Even(pydantic.BaseModel):
        value: int = pydantic.Field(multiple_of=2)

    found = partial(Even, '{"value": 3}')
    assert found.finished
    assert isinstance(found.value, Draft)
    assert found.value.value == 3


def test_the_value_is_live_and_a_deep_copy_is_not() -> None:
    parser = PartialParser(Recipe)
    first = parser.feed('{"title": "a')
    kept = copy.deepcopy(first)
    assert parser.feed("b") is first
    assert (first.title, kept.title) == ("ab", "a")


@pytest.mark.parametrize(
    ("text", "offset"),
    [("x", 0), ("{1", 1), ('{"a" 1', 5), ("[1 2", 3), ("[1,]", 3), ('["\\x', 2), ('["\n', 2), ("[01,", 3), ("[tru ", 1),
     ("{} {", 3), ('{"a": 1]', 7), ('["\\u00g', 2), ("[.5,", 1), ("[,", 1)],
)  # fmt: skip
def test_what_is_no_prefix_of_json_is_refused_with_its_offset(text: str, offset: int) -> None:
    with pytest.raises(GrammarError, match=rf"^not JSON: .*character {offset}$"):
        partial({}, text)


def test_what_is_nested_deeper_than_any_reader_takes_is_refused() -> None:
    assert partial({}, "[" * 1_000 + "]" * 1_000).finished
    with pytest.raises(GrammarError, match="nested more than 1000 levels deep at character 1000"):
        partial({}, "[" * 100_000)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(), c, max_size=3),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None)
@given(JSONS, st.booleans(), st.integers(1, 5))
def test_however_it_is_cut_the_pieces_add_up(value: Any, escaped: bool, size: int) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    parser = PartialParser({})
    for start in range(0, len(text), size):
        parser.feed(text[start : start + size])
        assert repr(parser.value) == repr(partial({}, text[: start + size]).value)
    assert parser.end() == value
    assert parser.finished


def test_feeding_is_linear() -> None:
    """The steps of a long text cost what those of a short one do."""

    def seconds(num_chunks: int) -> float:
        parser = PartialParser(Recipe)
        begun = time.process_time()
        parser.feed('{"title": "')
        for _ in range(num_chunks):
            parser.feed("some words ")
        return time.process_time() - begun

    short = min(seconds(2_000) for _ in range(3))
    assert min(seconds(20_000) for _ in range(2)) < 30 * short
