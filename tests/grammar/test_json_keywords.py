"""Every keyword of JSON Schema against jsonschema, properties in any order."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forktree.grammar import GrammarTooComplex, SchemaError
from forktree.grammar.json_schema import JsonOptions
from tests.grammar.json_language import Language, language_if_any

ANY_ORDER = JsonOptions(order="any", assert_formats=False)

VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 0.5, 2.5, 6, "", "a", "b", "ab", "abc", "ba", "é", [], [1], [1, 2], [1, 2, 3],
    [1, 1], ["a"], ["a", "b"], ["a", 1, "a"], [None, 1], [True, 1], [[1], [1]], [{}, {}], [0, False], [{"a": 1}, {"a":
    2}], [{"a": 1}, {"a": 1}], {}, {"a": 1}, {"a": 2}, {"a": "x"}, {"b": 1}, {"b": "x"}, {"a": 1, "b": 2}, {"b": 2,
    "a": 1}, {"a": 1, "c": 3}, {"ab": 1}, {"a": 1, "ab": "x"}, {"c": 1, "d": 2}, {"a": 1, "b": 2, "c": 3}, {"a": {"b":
    1}}, {"a": {}}, {"a": []}, {"": 1},
]  # fmt: skip

A, B = {"required": ["a"]}, {"required": ["b"]}
SCHEMAS: list[Any] = [
    {"not": {"type": "integer"}}, {"not": {"type": ["string", "array"]}}, {"not": {"const": 1}}, {"not": {"enum": [1,
    "a", None, True]}}, {"not": {"const": [1, 2]}}, {"not": {"const": {"a": 1}}}, {"not": {"const": []}}, {"not":
    {"enum": [{}, {"a": 1, "b": 2}]}}, {"not": {"minimum": 2}}, {"not": {"maximum": 1, "multipleOf": 2}}, {"not":
    {"multipleOf": 0.5}}, {"type": "integer", "not": {"multipleOf": 2}}, {"not": {"minLength": 2}}, {"not":
    {"pattern": "^a"}}, {"type": "string", "not": {"maxLength": 1, "pattern": "b"}}, {"not": {"items": {"type":
    "integer"}}}, {"not": {"prefixItems": [{"const": 1}, {"const": 2}]}}, {"not": {"minItems": 2}}, {"not":
    {"contains": {"const": 1}}}, {"not": {"contains": {"const": 1}, "maxContains": 1}}, {"not": {"contains": True,
    "minContains": 2}}, {"not": {"required": ["a", "b"]}}, {"not": {"properties": {"a": {"type": "integer"}}}},
    {"not": {"properties": {"a": False}}}, {"not": {"properties": {"a": {"const": 1}}, "required": ["a"]}}, {"not":
    {"additionalProperties": {"type": "integer"}}}, {"not": {"properties": {"a": True}, "additionalProperties":
    False}}, {"not": {"patternProperties": {"^a": {"type": "integer"}}}}, {"not": {"propertyNames": {"maxLength":
    1}}}, {"not": {"propertyNames": {"enum": ["a", "b"]}}}, {"not": {"propertyNames": {"not": {"const": "a"}}}},
    {"not": {"minProperties": 1}}, {"not": {"maxProperties": 1}}, {"not": {"dependentRequired": {"a": ["b"]}}},
    {"not": {"dependentSchemas": {"a": {"minProperties": 2}}}}, {"not": {"allOf": [A, B]}}, {"not": {"anyOf": [A,
    B]}}, {"not": {"oneOf": [A, B]}}, {"not": {"not": A}}, {"not": {"if": A, "then": B, "else": {"type": "array"}}},
    {"not": {"$ref": "#/$defs/x"}, "$defs": {"x": A}}, {"if": A, "then": B}, {"if": {"type": "integer"}, "then":
    {"minimum": 2}, "else": {"type": "string"}}, {"if": A, "else": {"maxProperties": 1}}, {"if": {"properties": {"a":
    {"const": 1}}, "required": ["a"]}, "then": {"required": ["b"]}, "else": {"type": "object", "maxProperties": 1}},
    {"oneOf": [A, B]}, {"oneOf": [{"type": "integer"}, {"minimum": 2}]}, {"oneOf": [{"type": "integer"}, {"type":
    "number"}]}, {"oneOf": [{"pattern": "^a"}, {"pattern": "b$"}]}, {"oneOf": [{}, {"type": "object"}, {"type":
    "array"}]}, {"oneOf": [{"maxItems": 2}, {"minItems": 1}]}, {"oneOf": [{"required": ["a"], "properties": {"a":
    {"type": "integer"}}}, {"required": ["b"], "properties": {"b": {"type": "integer"}}}]}, {"contains": {"type":
    "string"}}, {"contains": {"const": 1}, "minContains": 2}, {"contains": {"const": 1}, "maxContains": 1, "type":
    "array"}, {"contains": {"type": "integer"}, "minContains": 0, "maxContains": 1}, {"prefixItems": [{"const": 1}],
    "contains": {"const": 2}, "maxItems": 2}, {"allOf": [{"contains": {"const": "a"}}, {"contains": {"type":
    "integer"}}]}, {"minContains": 3}, {"contains": True, "minItems": 2, "maxItems": 2}, {"uniqueItems": True},
    {"uniqueItems": True, "items": {"enum": [1, "a", None]}}, {"uniqueItems": True, "items": {"type": "boolean"}},
    {"uniqueItems": True, "items": {"type": "integer", "minimum": 1, "maximum": 3}, "minItems": 2}, {"uniqueItems":
    True, "prefixItems": [{"enum": [1, "a"]}]}, {"uniqueItems": True, "items": {"type": "object", "properties": {"a":
    True}, "additionalProperties": False}}, {"patternProperties": {"^a": {"type": "integer"}}}, {"patternProperties":
    {"^a": {"type": "integer"}, "b$": {"minimum": 2}}, "additionalProperties": False}, {"patternProperties": {"^a$":
    {"minimum": 2}}, "properties": {"a": {"type": "integer"}}}, {"patternProperties": {"^(a|b)$": True},
    "additionalProperties": False}, {"propertyNames": {"maxLength": 1}}, {"propertyNames": {"enum": ["a", "b"]}},
    {"propertyNames": {"pattern": "^a"}, "minProperties": 1}, {"propertyNames": False}, {"propertyNames": {"not":
    {"const": "a"}}}, {"minProperties": 2}, {"minProperties": 2, "maxProperties": 2}, {"maxProperties": 1, "required":
    ["a"]}, {"minProperties": 2, "properties": {"a": {"type": "integer"}}, "additionalProperties": {"type":
    "integer"}}, {"maxProperties": 0}, {"dependentRequired": {"a": ["b"]}}, {"dependentSchemas": {"a":
    {"minProperties": 2}, "b": False}}, {"dependencies": {"a": ["b"], "c": {"required": ["a"]}}},
    {"unevaluatedProperties": False, "properties": {"a": True}}, {"unevaluatedProperties": False, "anyOf":
    [{"properties": {"a": True}}, {"properties": {"b": {"type": "integer"}}}]}, {"unevaluatedProperties": {"type":
    "integer"}, "if": {"properties": {"a": {"const": 1}}, "required": ["a"]}, "then": {"properties": {"b": {"minimum":
    2}}}}, {"unevaluatedProperties": False, "allOf": [{"$ref": "#/$defs/x"}], "$defs": {"x": {"patternProperties":
    {"^a": True}}}}, {"unevaluatedProperties": False, "dependentSchemas": {"a": {"properties": {"a": True, "b":
    True}}}}, {"unevaluatedItems": False, "prefixItems": [True]}, {"unevaluatedItems": {"type": "integer"}, "anyOf":
    [{"prefixItems": [True]}, {"prefixItems": [True, True]}]}, {"unevaluatedItems": False, "contains": {"type":
    "integer"}}, {"unevaluatedItems": False, "allOf": [{"items": True}]}, {"unevaluatedItems": False, "oneOf":
    [{"prefixItems": [{"const": 1}]}, {"prefixItems": [{"const": "a"}]}]}, {"allOf": [A, {"not": B}]}, {"anyOf":
    [{"type": "string"}, {"not": {"type": "object"}}], "not": {"maxLength": 0}}, {"properties": {"a": {"not": {}}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:70])
def test_a_value_is_admitted_exactly_if_it_is_valid(schema: Any) -> None:
    language = Language(schema, ANY_ORDER)
    # dependencies: a keyword up to draft 7, enforced always
    judge = jsonschema.Draft7Validator if "dependencies" in schema else jsonschema.Draft202012Validator
    for value in VALUES:
        assert language.admits(value) == judge(schema).is_valid(value), (schema, value)


NAMES = st.sampled_from(["a", "b", "ab", "c"])
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([0.5, -2.5]), st.sampled_from(["", "a", "ab", "b"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> Any:
    inner = schemas(depth - 1) if depth else st.sampled_from([True, False, {"type": "integer"}, {"const": "a"}])
    counts = st.integers(0, 3)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"]),
        "enum": st.lists(JSON, min_size=1, max_size=3),
        "const": JSON,
        "minimum": st.integers(-2, 5),
        "exclusiveMaximum": st.integers(0, 9),
        "multipleOf": st.sampled_from([2, 3, 0.5]),
        "minLength": counts,
        "maxLength": counts,
        "pattern": st.sampled_from(["^a", "b$", "^[ab]*$"]),
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "minItems": counts,
        "maxItems": counts,
        "contains": inner,
        "minContains": counts,
        "maxContains": counts,
        "properties": st.dictionaries(NAMES, inner, max_size=2),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "additionalProperties": inner,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$"]), inner, max_size=2),
        "propertyNames": st.sampled_from([{"maxLength": 1}, {"pattern": "^a"}, {"enum": ["a", "c"]}]),
        "minProperties": counts,
        "maxProperties": counts,
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "dependentSchemas": st.dictionaries(NAMES, inner, max_size=1),
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
        "allOf": st.lists(inner, min_size=1, max_size=2),
        "anyOf": st.lists(inner, min_size=1, max_size=3),
        "oneOf": st.lists(inner, min_size=1, max_size=3),
        "unevaluatedProperties": inner,
        "unevaluatedItems": inner,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(keywords)), min_size=1, max_size=4, unique=True))
    return {keyword: draw(keywords[keyword]) for keyword in chosen}


@given(schemas(), st.lists(JSON, min_size=5, max_size=15))
@settings(max_examples=200, deadline=None)
def test_keywords_mean_together_what_the_standard_says(schema: Any, values: list[Any]) -> None:
    try:
        language = language_if_any(schema, ANY_ORDER)
    except (SchemaError, GrammarTooComplex):
        assume(False)
    validator = jsonschema.Draft202012Validator(schema)
    for value in values:
        admitted = language is not None and language.admits(value)
        assert admitted == validator.is_valid(value), (schema, value)


def test_properties_that_imply_others_do_not_multiply() -> None:
    names = [f"p{i}" for i in range(40)]
    implied = {name: [names[i - 1], names[i // 2]] for i, name in enumerate(names) if i}
    schema = {"type": "object", "properties": {name: {"type": "null"} for name in names}, "dependentRequired": implied,
              "additionalProperties": False}  # fmt: skip
    language = Language(schema)
    full = dict.fromkeys(names)
    assert language.admits(full)
    assert language.admits(dict(reversed(full.items())))
    assert language.admits({})
    assert language.admits(dict.fromkeys(names[:7]))
    assert not language.admits(dict.fromkeys(names[1:]))
    assert not language.admits(dict.fromkeys(names[:20] + names[21:]))


@pytest.mark.parametrize("order", ["any", "schema", "required-first", "auto"])
@pytest.mark.parametrize(
    "more",
    [
        {}, {"required": ["a"]}, {"minProperties": 2}, {"maxProperties": 2}, {"properties": {"c": False}},
        {"minProperties": 1},
        {"additionalProperties": False}, {"not": {"required": ["c"]}}, {"properties": {"a": {"type": "integer"}}},
        {"not": {"dependentRequired": {"c": ["a"]}}}, {"properties": {"b": {"$ref": "#"}}, "required": ["b"]},
    ],
)  # fmt: skip
def test_implied_properties_with_other_keywords(more: dict[str, Any], order: Any) -> None:
    schema = {"type": "object", "properties": {"a": True, "b": True}, "dependentRequired": {"a": ["b"], "b": ["c"]}}
    schema |= more
    language = language_if_any(schema, JsonOptions(order=order))
    for chosen in (names for count in range(5) for names in combinations("abcx", count)):
        value: dict[str, Any] = dict.fromkeys(chosen, 1)
        if order == "required-first":
            value = dict(sorted(value.items(), key=lambda item: item[0] not in schema.get("required", ())))
        valid = jsonschema.Draft202012Validator(schema).is_valid(value)
        assert (language is not None and language.admits(value)) == valid, value
