"""What a compile says about a schema before anything is written: notes, places, errors at their places."""

from __future__ import annotations

from typing import Any

import pytest

from forktree.grammar import Constraint, SchemaError
from forktree.grammar.front_ends import build
from tests.grammar.json_language import Language

LATEST = "draft2020-12"


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("minLegth", "minLength"), ("require", "required"), ("additinalProperties", "additionalProperties"),
        ("requried", "required"), ("additionalproperties", "additionalProperties"), ("one_of", "oneOf"),
        ("propertys", ""), ("title2", ""), ("x-pattern", ""), ("name", ""),
    ],
)  # fmt: skip
def test_an_unknown_keyword_is_ignored_with_a_note_where_it_looks_like_a_slip(slip: str, meant: str) -> None:
    language = Language({"properties": {"a": {"type": "string", slip: 1}}})
    assert language.admits({"a": ""})
    notes = [note for note in language.rules.notes if note[1] == slip]
    if meant:
        assert [note[0] for note in notes] == ["#/properties/a"]
        assert f"did you mean {meant}?" in notes[0][2]
    else:
        assert notes == []


def test_formats_that_are_not_enforced_are_noted() -> None:
    schema = {"properties": {"a": {"format": "color"}, "b": {"format": "date"}}}
    rules, _ = build(Constraint.json_schema(schema))
    assert [note[:2] for note in rules.notes] == [("#/properties/a", "format")]
    rules, _ = build(Constraint.json_schema(schema, draft=LATEST))
    assert sorted(note[:2] for note in rules.notes) == [("#/properties/a", "format"), ("#/properties/b", "format")]


def test_the_letter_of_the_newer_drafts_makes_format_an_annotation() -> None:
    schema = {"type": "string", "format": "date"}
    assert Constraint.json_schema(schema).options == ""
    assert Constraint.json_schema(schema, draft="draft7").options == '{"draft":7}'
    assert Constraint.json_schema(schema, draft=LATEST).options == '{"assert_formats":false,"draft":2020}'
    assert Constraint.json_schema(schema, draft=LATEST, assert_formats=True).options == '{"draft":2020}'
    assert Constraint.json_schema(schema, assert_formats=False).options == '{"assert_formats":false}'


def test_one_spelling_under_unique_items_is_noted() -> None:
    assert [note[:2] for note in Language({"items": {"uniqueItems": True}}).rules.notes] == [("#/items", "uniqueItems")]


def test_an_enforced_order_is_noted() -> None:
    schema = {"properties": {"a": {}, "b": {"properties": {"c": {}, "d": {}}}}, "required": ["a", "b"]}
    assert [note[:2] for note in Language(schema).rules.notes] == [("#", "properties")]


def test_places_say_which_schema_a_node_belongs_to() -> None:
    language = Language({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "array"}},
                         "required": ["a", "b"]})  # fmt: skip
    assert language.admits({"a": 1, "b": [2]})
    pointers = {pointer for pointer, _ in language.rules.places.values()}
    assert {"#", "#/properties/a", "#/properties/b"} <= pointers


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"not": {"properties": {"a": {"uniqueItems": True}}}}, "#/not/properties/a"),
        ({"if": {"items": {"properties": {"a": {"uniqueItems": True}}}}, "then": False}, "#/if/items/properties/a"),
        ({"properties": {"b": {"not": {"contains": {"uniqueItems": True}}}}}, "#/properties/b/not/contains"),
        (
            {
                "oneOf": [
                    {"properties": {"a": {"type": "array", "uniqueItems": True}}},
                    {"properties": {"a": {"maxItems": 3}}},
                ]
            },
            "#/oneOf/0/properties/a",
        ),
    ],
)  # fmt: skip
def test_negated_unique_items_are_refused_before_anything_is_written(schema: Any, pointer: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Language(schema)
    assert (caught.value.pointer, caught.value.keyword) == (pointer, "uniqueItems")


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"anyOf": [{"$ref": "#/properties/a"}, {"type": "null"}]}}},
        {"properties": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}}, "$defs": {"b": {"not": {"$ref": "#/properties/a"}}}},
        {"$defs": {"a": {"if": {"$ref": "#/$defs/a"}, "then": False}}, "items": {"$ref": "#/$defs/a"}},
    ],
)
def test_a_schema_that_depends_on_itself_for_the_same_value_is_refused_at_once(schema: Any) -> None:
    with pytest.raises(SchemaError, match="leads back to itself") as caught:
        Language(schema)
    assert type(caught.value) is SchemaError


def test_recursion_through_members_is_no_circle() -> None:
    schema = {"anyOf": [{"type": "null"}, {"items": {"$ref": "#"}, "type": "array"}]}
    assert Language(schema).admits([None, [[None]]])


def test_what_cannot_be_satisfied_is_pointed_out() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 2}}, "required": ["n"]}
    schema = {"type": "object", "properties": {"x": True, "in": inner}, "required": ["x", "in"]}
    with pytest.raises(SchemaError, match="required property 'n' can have no value") as caught:
        Language(schema)
    assert caught.value.pointer == "#/properties/in/properties/n"
