"""forktree.grammar.json_schema against jsonschema, its declared choices, and its errors."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar import Constraint, GrammarTooComplex, SchemaError
from forktree.grammar.expressions import Expressions
from forktree.grammar.json_formats import FORMATS
from forktree.grammar.json_schema import JsonOptions, compile_schema
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from tests.grammar.json_language import Language, language_if_any


def texts_of(value: Any) -> list[str]:
    """The spellings of a value that every schema admits: compact or with single blanks, escaped or not."""
    return [
        json.dumps(value, separators=separators, ensure_ascii=False)
        for separators in ((",", ":"), (", ", ": "), (",", ": "))
    ]


def assert_same(schema: Any, values: list[Any]) -> None:
    """Every value is admitted exactly if jsonschema finds it valid."""
    language = Language(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for value in values:
        valid = validator.is_valid(value)
        for text in texts_of(value):
            assert language.accepts(text) == valid, (schema, text)


SCALARS = [None, True, False, 0, 1, -1, 2, 3, 5, 7, 10, 15, 99, 100, 1234, -7, 0.5, -0.5, 1.25, 2.5, 3.75, 10.01, 99.99,
           "", "a", "b", "ab", "abc", "abcd", "é", "日本", "😀😀", '"', "\\", "\n", "/", "1", "null",
           "2024-01-31"]  # fmt: skip
COMPOSED = [[], [1], [1, 2], [1, 2, 3], ["a"], ["a", "b"], [1, "a"], [1, "a", None], [None], [[]], [[1]], [[1], []],
[{}], [{"a": 1}],
            {}, {"a": 1}, {"a": "x"}, {"a": None}, {"b": 1}, {"a": 1, "b": 2}, {"a": 1, "b": "x"}, {"a": 1, "c": 3},
            {"b": 2, "c": 3},
            {"a": 1, "b": 2, "c": 3}, {"a": {"b": 1}}, {"a": {}}, {"a": []}, {"a": [1]}, {"z": {"y": [1,
            {"x": None}]}}, {"ab": 1},
            {"": 1}, {"a": 1, "é": 2}]  # fmt: skip
VALUES: list[Any] = [*SCALARS, *COMPOSED]

SCHEMAS: list[Any] = [
    True, {}, {"type": "null"}, {"type": "boolean"}, {"type": "integer"}, {"type": "number"}, {"type": "string"},
    {"type": "array"}, {"type": "object"},
    {"type": ["string", "null"]}, {"type": ["integer", "array"]}, {"type": ["number", "object"]},
    {"enum": [1, "a", None, True, [1, 2], {"a": 1}]}, {"const": "ab"}, {"const": {"a": {"b": 1}}}, {"const": 1.25},
    {"enum": ["é", "日本", "a"]},
    {"type": "string", "enum": ["a", 1, "b", None]}, {"enum": ["a", "abc", 5], "minLength": 2}, {"enum": [1, 5, 10],
    "minimum": 3}, {"enum": [[1], [1, 2]], "minItems": 2},
    {"type": "string", "minLength": 2}, {"type": "string", "maxLength": 1}, {"type": "string", "minLength": 1,
    "maxLength": 2}, {"maxLength": 0},
    {"type": "string", "pattern": "b"}, {"type": "string", "pattern": "^a"}, {"type": "string",
    "pattern": "^[a-z]+$"}, {"pattern": "^[a-c]{1,9}$", "maxLength": 2},
    {"pattern": "b", "minLength": 3}, {"pattern": "^(ab)*$", "minLength": 3, "maxLength": 5}, {"type": "string",
    "pattern": "^\\S+$"},
    {"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 10}, {"type": "integer", "minimum": -1,
    "maximum": 15}, {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 10},
    {"type": "number", "minimum": 0.5}, {"type": "number", "maximum": 2.5}, {"type": "number",
    "exclusiveMinimum": 0.5, "exclusiveMaximum": 3.75}, {"minimum": 2}, {"maximum": -0.5},
    {"type": "number", "minimum": 99.985}, {"type": "number", "minimum": -0.5, "maximum": 1.25}, {"type": "integer",
    "minimum": 0.5, "maximum": 9.99}, {"exclusiveMaximum": 0},
    {"type": "integer", "multipleOf": 5}, {"type": "integer", "multipleOf": 3, "minimum": 1}, {"type": "number",
    "multipleOf": 2.5}, {"type": "number", "multipleOf": 0.25}, {"multipleOf": 1.5, "maximum": 50},
    {"items": {"type": "integer"}}, {"type": "array", "items": {"type": "string"}, "minItems": 1}, {"type": "array",
    "maxItems": 1}, {"type": "array", "minItems": 2, "maxItems": 2}, {"type": "array", "maxItems": 0},
    {"prefixItems": [{"type": "integer"}, {"type": "string"}]}, {"prefixItems": [{"type": "integer"}],
    "items": False}, {"prefixItems": [True, {"type": "string"}], "items": {"type": "null"}, "minItems": 2},
    {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}, {"type": "array",
    "prefixItems": [True, False]}, {"type": "array", "items": False},
    {"properties": {"a": {"type": "integer"}}}, {"type": "object", "properties": {"a": {"type": "integer"},
    "b": {"type": "string"}}, "required": ["a"]},
    {"type": "object", "properties": {"a": True, "b": True}, "additionalProperties": False}, {"type": "object",
    "properties": {"a": True}, "required": ["a", "b"]},
    {"type": "object", "properties": {"a": True}, "required": ["b"], "additionalProperties": {"type": "integer"}},
    {"type": "object", "additionalProperties": {"type": "string"}},
    {"type": "object", "properties": {"a": False}}, {"type": "object", "properties": {"a": False, "b": True}},
    {"type": "object", "maxProperties": 1}, {"type": "object", "minProperties": 1}, {"type": "object",
    "properties": {"a": True, "b": True, "c": True}, "minProperties": 2, "additionalProperties": False},
    {"type": "object", "properties": {"a": True, "b": True}, "maxProperties": 1}, {"type": "object",
    "properties": {"a": True}, "minProperties": 2, "required": ["a"]},
    {"anyOf": [{"type": "integer"}, {"type": "string", "minLength": 3}]}, {"anyOf": [{"type": "object",
    "required": ["a"]}, {"type": "null"}]}, {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 0}]},
    {"type": "object", "properties": {"a": True}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
    {"anyOf": [{"minLength": 2}, {"minItems": 2}]},
    {"oneOf": [{"type": "integer"}, {"type": "string"}]}, {"oneOf": [{"type": "integer", "minimum": 10},
    {"type": "integer", "maximum": 9}]}, {"oneOf": [{"pattern": "^a"}, {"pattern": "^b"}], "type": "string"},
    {"oneOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"properties": {"a": {"const": "x"}},
    "required": ["a"]}], "type": "object"}, {"oneOf": [{"maxItems": 1}, {"minItems": 2}], "type": "array"},
    {"oneOf": [{"const": 1}, {"enum": [2, 3]}, {"type": "string"}]}, {"oneOf": [{"type": "number"}]},
    {"allOf": [{"type": "string"}, {"minLength": 2}]}, {"allOf": [{"properties": {"a": {"type": "integer"}}},
    {"required": ["a"]}], "type": "object"}, {"allOf": [{"minimum": 2}, {"maximum": 9}], "type": "integer"},
    {"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, {"allOf": [{"items": {"minimum": 1}}, {"items": {"maximum": 2}}],
    "items": {"type": "integer"}}, {"allOf": [{"enum": [1, 2, 3]}, {"enum": [2, 3, 5]}]},
    {"allOf": [{"properties": {"a": True}, "additionalProperties": {"type": "integer"}},
    {"properties": {"b": {"minimum": 2}}}], "type": "object"}, {"allOf": [{"type": "integer"}, {"type": "number"}]},
    {"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}, {"$ref": "#/$defs/x", "minimum": 5,
    "$defs": {"x": {"type": "integer"}}}, {"$ref": "#name", "$defs": {"x": {"$anchor": "name", "type": "null"}}},
    {"properties": {"a": {"$ref": "#/definitions/n~1a%25"}}, "definitions": {"n/a%": {"type": "null"}}},
    {"items": {"$ref": "#"}, "type": "array"}, {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#/properties/a"}},
    "type": "object", "additionalProperties": False},
    {"$defs": {"n": {"type": "object", "properties": {"a": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"},
    {"type": "integer"}]}}}}, "$ref": "#/$defs/n"},
    {"title": "t", "description": "d", "default": 1, "examples": [2], "deprecated": True, "x-other": {"y": 1},
    "nullable": False, "uniqueItems": False, "type": "integer"},
    {"uniqueItems": True, "maxItems": 1, "type": "array"}, {"type": "string", "uniqueItems": True}, {"not": False,
    "if": True, "type": "null"},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:60])
def test_a_value_is_admitted_exactly_if_jsonschema_finds_it_valid(schema: Any) -> None:
    assert_same(schema, VALUES)


NAMES = st.sampled_from(["a", "b", "c", "ab"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-20, 120), st.sampled_from([0.5, 1.25, -2.75]),
    st.text("ab\"\\é😀", max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> Any:
    """Random schemas of the enforced keywords; properties in alphabetical order, as `ordered` writes values."""
    kind = draw(
        st.sampled_from(
            ["scalar", "string", "integer", "number", "array", "object", "any", "enum"][: 8 if depth else 4]
        )
    )
    inner = schemas(depth - 1)
    if kind == "scalar":
        return {"type": draw(st.sampled_from(["null", "boolean", "integer", "number", "string"]))}
    if kind == "string":
        least = draw(st.integers(0, 3))
        extra = draw(st.sampled_from([{}, {"pattern": "a"}, {"pattern": "^a*b?$"}, {"pattern": "[^a]"}]))
        return {"type": "string", "minLength": least, "maxLength": least + draw(st.integers(0, 3)), **extra}
    if kind in ("integer", "number"):
        low = draw(st.integers(-15, 30))
        step = draw(st.sampled_from([{}, {"multipleOf": 3}, {"multipleOf": 0.25}]))
        return {"type": kind, "minimum": low, "exclusiveMaximum": low + draw(st.integers(1, 200)), **step}
    if kind == "array":
        least = draw(st.integers(0, 2))
        prefix = draw(st.lists(inner, max_size=2))
        named = {"prefixItems": prefix} if prefix else {}
        return {
            "type": "array",
            **named,
            "items": draw(inner),
            "minItems": least,
            "maxItems": least + draw(st.integers(0, 2)),
        }
    if kind == "object":
        names = sorted(draw(st.sets(NAMES, max_size=3)))
        required = sorted(draw(st.sets(st.sampled_from(names)))) if names else []
        rest = draw(st.one_of(st.booleans(), inner))
        return {
            "type": "object",
            "properties": {n: draw(inner) for n in names},
            "required": required,
            "additionalProperties": rest,
        }
    if kind == "enum":
        return {"enum": draw(st.lists(JSON, min_size=1, max_size=3))}
    return {draw(st.sampled_from(["anyOf", "allOf"])): draw(st.lists(inner, min_size=1, max_size=2))}


def ordered(value: Any, schema_names: list[str]) -> Any:
    if isinstance(value, list):
        return [ordered(item, schema_names) for item in value]
    if isinstance(value, dict):
        return {k: ordered(v, schema_names) for k, v in sorted(value.items())}
    return value


@given(schemas(), st.lists(JSON, min_size=1, max_size=12))
@settings(max_examples=120, deadline=None)
def test_nothing_invalid_is_admitted_and_nothing_valid_refused(schema: Any, values: list[Any]) -> None:
    language = language_if_any(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for value in values:
        valid = validator.is_valid(value)
        admitted = language is not None and language.accepts(json.dumps(value, ensure_ascii=False))
        assert valid or not admitted, (schema, value)
        if valid and not admitted:  # only the order of properties may be to blame
            assert language is not None
            assert any(_has_two_properties(v) for v in [value, schema]), (schema, value)


def _has_two_properties(value: Any) -> bool:
    if isinstance(value, dict):
        return len(value) > 1 or any(map(_has_two_properties, value.values()))
    return isinstance(value, list) and any(map(_has_two_properties, value))


@given(
    st.integers(-300, 300), st.integers(0, 400), st.booleans(), st.booleans(), st.integers(0, 2),
    st.lists(st.one_of(st.integers(-400, 400), st.decimals(-400, 400, places=2, allow_nan=False)), min_size=5,
    max_size=20),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_number_ranges_are_exact(
    low: int, width: int, low_open: bool, high_open: bool, places: int, values: list[Any]
) -> None:
    from fractions import Fraction

    scale = 10**places
    bounds = {
        "exclusiveMinimum" if low_open else "minimum": low / scale,
        "exclusiveMaximum" if high_open else "maximum": (low + width) / scale,
    }
    for kind in ("integer", "number"):
        language = language_if_any({"type": kind, **bounds})
        for value in [*values, Fraction(low, scale), Fraction(low + width, scale)]:
            exact = Fraction(value)
            for digits in (0, 2, 4):
                if (exact * 10**digits).denominator != 1:
                    continue
                text = f"{abs(int(exact * 10**digits)):0{digits + 1}d}"
                text = ("-" if exact < 0 else "") + (text[:-digits] + "." + text[-digits:] if digits else text)
                fits = (exact > Fraction(low, scale) or (exact == Fraction(low, scale) and not low_open)) and (
                    exact < Fraction(low + width, scale) or (exact == Fraction(low + width, scale) and not high_open)
                )
                fits = fits and (kind == "number" or exact.denominator == 1)
                assert (language is not None and language.accepts(text)) == fits, (kind, bounds, text)


def test_white_space_is_one_blank_after_comma_and_colon_and_none_elsewhere() -> None:
    language = Language({"type": "object", "properties": {"a": {"type": "array"}}})
    for good in ('{"a":[1,2]}', '{"a": [1, 2]}', '{"a": [1,2]}', '{"a":[], "b":1}'):
        assert language.accepts(good), good
    for bad in (
        '{ "a":[]}',
        '{"a" :[]}',
        '{"a":  []}',
        '{"a":[ ]}',
        '{"a":[1 ,2]}',
        '{"a":[]} ',
        ' {"a":[]}',
        '{"a":\n[]}',
    ):
        assert not language.accepts(bad), bad


def test_properties_come_in_the_order_of_the_schema_and_optional_ones_may_be_left_out() -> None:
    schema = {"type": "object", "properties": {"b": True, "a": True, "c": True}, "required": ["a"]}
    language = Language(schema, JsonOptions(order="schema"))
    for good in (
        '{"a":1}',
        '{"b":1,"a":1}',
        '{"a":1,"c":1}',
        '{"b":1,"a":1,"c":1}',
        '{"a":1,"x":1,"y":1}',
        '{"b":1,"a":1,"c":1,"x":1}',
    ):
        assert language.accepts(good), good
    for bad in (
        "{}",
        '{"b":1}',
        '{"a":1,"b":1}',
        '{"x":1,"a":1}',
        '{"a":1,"a":1}',
        '{"a":1,"x":1,"c":1}',
        '{"a":1,}',
        '{,"a":1}',
    ):
        assert not language.accepts(bad), bad


def test_a_declared_name_is_taken_and_names_have_one_spelling() -> None:
    language = Language(
        {
            "type": "object",
            "properties": {"ab": {"type": "integer"}, "é": True},
            "additionalProperties": {"type": "string"},
        }
    )
    for bad in ('{"ab":"x"}', '{"\\u0061b":"x"}', '{"a\\u0062":"x"}', '{"\\u00e9":"x"}', '{"\\u00E9":"x"}'):
        assert not language.accepts(bad), bad
    for good in (
        '{"ab":1}',
        '{"abc":"x"}',
        '{"a":"x"}',
        '{"":"x"}',
        '{"AB":"x"}',
        '{"é":1,"\\n":"x"}',
        '{"a\\"b":"x"}',
    ):
        assert language.accepts(good), good


def test_a_string_admits_every_escape_and_only_valid_text() -> None:
    language = Language({"type": "string"})
    for good in (
        '"\\n\\t\\r\\b\\f\\"\\\\\\/"',
        '"\\u0041\\u00e9\\uD83D\\uDE00"',
        '"\x7f"',
        '"é日😀"',
        '"\\u0000"',
        '"\\uFFFF"',
    ):
        json.loads(good)
        assert language.accepts(good), good
    for bad in (
        b'"\n"',
        b'"\\x41"',
        b'"\\u12"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\ud800x"',
        b'"\xff"',
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b'"a',
        b'"\\',
    ):
        assert not language.accepts(bad), bad


def test_lengths_count_characters_in_whatever_spelling() -> None:
    language = Language({"type": "string", "minLength": 2, "maxLength": 2})
    for good in ('"ab"', '"é日"', '"😀😀"', '"\\n\\u0041"', '"\\ud83d\\ude00a"'):
        assert language.accepts(good), good
    for bad in ('"a"', '"abc"', '"😀"', '"\\ud83d\\ude00"'):
        assert not language.accepts(bad), bad


def test_text_with_a_pattern_has_one_spelling() -> None:
    language = Language({"type": "string", "pattern": '^[a"]+\\n$'})
    assert language.accepts('"a\\"\\n"')
    assert not language.accepts('"\\u0061\\u0022\\u000a"')
    assert not language.accepts('"a\\"n"')


def test_numbers_without_bounds_may_be_written_in_any_way_of_json() -> None:
    language = Language({"type": "number"})
    for good in ("0", "-0", "12", "1.5", "1e5", "1E+5", "-1.25e-07", "0.0", "123456789012345678901234567890"):
        json.loads(good)
        assert language.accepts(good), good
    for bad in ("01", "+1", ".5", "1.", "1e", "--1", "0x1", "NaN", "Infinity", "1.e5", ""):
        assert not language.accepts(bad), bad


FORMAT_EXAMPLES = {
    "date": (["2024-02-29", "2000-02-29", "1999-12-31", "0001-01-01"], ["2023-02-29", "1900-02-29", "2024-04-31",
    "2024-13-01", "24-01-01", "0000-01-01", "2024-1-1"]),
    "time": (["00:00:00Z", "23:59:59.123+05:30"], ["24:00:00Z", "12:60:00Z", "12:00:00", "12:00Z"]),
    "date-time": (["2024-02-29T12:00:00Z", "2024-01-01T00:00:00.5-08:00"], ["2024-02-30T12:00:00Z",
    "2024-01-01 00:00:00Z", "2024-01-01"]),
    "duration": (["P1D", "PT1H30M", "P1Y2M3DT4H5M6S", "P2W"], ["P", "PT", "1D", "P1S", "P1WT1H"]),
    "uuid": (["2eb8aa08-aa98-11ea-b4aa-73b441d16380", "2EB8AA08-AA98-11EA-B4AA-73B441D16380"],
    ["2eb8aa08aa9811eab4aa73b441d16380", "2eb8aa08-aa98-11ea-b4aa-73b441d1638"]),
    "email": (["a@b.co", "first.last+tag@sub.example.org"], ["a", "@b", "a@", "a b@c.de", ".a@b.c", "a@-b.c"]),
    "ipv4": (["0.0.0.0", "255.255.255.255"], ["256.0.0.1", "1.2.3", "01.2.3.4"]),
    "ipv6": (["::", "::1", "1::", "fe80::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1::8",
    "1:2:3:4:5:6:7::"], ["1:2:3", "1:2:3:4:5:6:7:8:9", "::1::", "g::", "12345::", ":1", "1:2:3:4:5:6:7:8::"]),
    "hostname": (["example.com", "a", "a--b"], ["-a", "a-", "a..b", "a_b", "", "xn--X", "a" * 64]),
    "idn-hostname": (["bücher.de", "실례.테스트", "ab"], ["", "a..b", "a·l", "0א", "\u0300a"]),
    "idn-email": (["實例@bücher.de", "a@b.c"], ["실례", "a b@c"]),
    "iri": (["http://ƒøø.com/?q=é#ß", "urn:a"], ["é", "//é", "http://a b"]),
    "iri-reference": (["é", "//é/ß", ""], ["a\\b", "a b"]),
    "uri-template": (["", "a{/x,y*}{?z:3}", "é"], ["{", "{}", "{a,}", "a b", "}"]),
    "relative-json-pointer": (["0", "1/a", "10#"], ["", "01", "/a", "0##"]),
    "uri": (["http://example.com", "https://u:p@h.org:80/p/a?q=1#f", "urn:isbn:1", "mailto:a@b.c", "http://[::1]/",
    "ftp://x/%20"], ["//x/y", "/a", "a b", "http://a b", "1http://x", ""]),
    "uri-reference": (["/a/b", "a", "", "#f", "?q", "//h/p", "http://x", "../a"], ["\\\\a", "a b", "1:b c"]),
    "json-pointer": (["", "/a/b", "/~0~1", "/a//b"], ["a", "/~", "/~2"]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_format_admits_what_is_one(name: str) -> None:
    good, bad = FORMAT_EXAMPLES[name]
    language = Language({"type": "string", "format": name})
    for text in good:
        assert language.accepts(json.dumps(text, ensure_ascii=False)), (name, text)
    for text in bad:
        assert not language.accepts(json.dumps(text, ensure_ascii=False)), (name, text)


def test_dates_are_exactly_those_of_the_calendar() -> None:
    import datetime

    language = Language({"type": "string", "format": "date"})
    for year in (1, 4, 100, 400, 1900, 1999, 2000, 2023, 2024, 2100, 9999):
        for month in range(14):
            for day in (0, 1, 28, 29, 30, 31, 32):
                text = f"{year:04}-{month:02}-{day:02}"
                try:
                    datetime.date(year, month, day)
                    real = True
                except ValueError:
                    real = False
                assert language.accepts(f'"{text}"') == real, text


REFUSED: list[tuple[Any, str, str]] = [
    ({"not": {"type": "array", "uniqueItems": True}}, "#/not", "uniqueItems"), ({"extends": {}}, "#", "extends"),
    ({"type": "array", "contains": True, "uniqueItems": True}, "#", "uniqueItems"),
    ({"type": "string", "pattern": "["}, "#", "pattern"),
    ({"$ref": "#/$defs/missing"}, "#", "$ref"), ({"$ref": "http://example.com/x"}, "#", "$ref"), ({"$ref": "#"}, "#",
    "$ref"), ({"anyOf": [{"$ref": "#"}, True]}, "#", "$ref"),
    ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "#/$defs/b", "$ref"),
    ({"type": "strnig"}, "#", "type"), ({"type": []}, "#", "type"), ({"minLength": -1}, "#", "minLength"),
    ({"required": "a"}, "#", "required"), ({"properties": {"a/b": {"enum": []}}}, "#/properties/a~1b", "enum"),
    ({"enum": 1}, "#", "enum"), ({"properties": []}, "#", "properties"), ({"anyOf": []}, "#", "anyOf"), ({"items": 3},
    "#", "items"), ({"multipleOf": 0}, "#", "multipleOf"), ({"pattern": 1}, "#", "pattern"),
    ({"properties": {"a": 1}}, "#", "properties"), ({"minimum": "1"}, "#", "minimum"), ({"minimum": True}, "#",
    "minimum"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "#", ""), ({"type": "integer", "minimum": 3,
    "maximum": 2}, "#", ""), ({"type": "array", "minItems": 2, "maxItems": 1}, "#", ""),
    ({"type": "number", "multipleOf": 10**18 + 3}, "#", "multipleOf"), ({"type": "object", "minProperties": 3,
    "additionalProperties": False}, "#", ""),
    (False, "#", ""), ({"enum": [1], "type": "string"}, "#", ""), ({"allOf": [{"type": "string"}, {"type": "null"}]},
    "#", ""), ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "#/properties/a", ""),
    ({"type": "object", "required": ["c"], "additionalProperties": False}, "#", ""),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "#", ""), ({"type": "string",
    "pattern": "^(abc)*$", "minLength": 4, "maxLength": 5}, "#", ""),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "pointer", "keyword"), REFUSED, ids=lambda v: json.dumps(v)[:50])
def test_what_cannot_be_enforced_or_satisfied_is_refused_at_its_place(schema: Any, pointer: str, keyword: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Language(schema)
    assert (caught.value.pointer, caught.value.keyword) == (pointer, keyword), str(caught.value)
    assert re.match(re.escape(f"at {pointer}/{keyword}: " if keyword else f"at {pointer}: "), str(caught.value))


TWO_ORDERS = {
    "uniqueItems": True,
    "prefixItems": [
        {"type": "object", "properties": dict.fromkeys(names, True), "additionalProperties": False}
        for names in ("ab", "ba")
    ],
}  # fmt: skip


def test_the_error_text_names_the_place_and_what_to_write() -> None:
    with pytest.raises(SchemaError) as caught:
        Language(TWO_ORDERS)
    assert str(caught.value).splitlines() == [
        "at #/uniqueItems: cannot be enforced where objects may be written in two orders",
        "    Enforced for items whose equal values can be told by their texts; see the documentation.",
    ]


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '"a"', "null", '{"minimum": NaN}', '{"const": Infinity}'])
def test_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(SchemaError):
        Constraint.json_schema(text)


def test_a_schema_keeps_the_order_of_its_properties_as_text() -> None:
    first = Constraint.json_schema({"properties": {"b": True, "a": True}})
    assert first == Constraint.json_schema('{"properties": {"b": true, "a": true}}')
    assert first != Constraint.json_schema({"properties": {"a": True, "b": True}})


def test_in_draft_7_everything_beside_a_reference_is_ignored() -> None:
    schema: dict[str, Any] = {"$ref": "#/definitions/x", "minimum": 5, "definitions": {"x": {"type": "integer"}}}
    assert not Language(schema).accepts("1")
    assert Language({"$schema": "http://json-schema.org/draft-07/schema#", **schema}).accepts("1")


def test_draft_4_bounds_and_tuples_mean_what_they_did() -> None:
    language = Language({"type": "integer", "minimum": 1, "exclusiveMinimum": True})
    assert language.accepts("2")
    assert not language.accepts("1")
    language = Language({"type": "array", "items": [{"type": "null"}], "additionalItems": {"type": "integer"}})
    assert language.accepts("[null,1,2]")
    assert not language.accepts("[1]")


def test_a_discriminator_makes_its_property_required() -> None:
    members = [
        {"type": "object", "properties": {"kind": {"const": k}, k: {"type": "integer"}}, "additionalProperties": False}
        for k in "ab"
    ]
    language = Language({"oneOf": members, "discriminator": {"propertyName": "kind"}})
    assert language.accepts('{"kind":"a","a":1}')
    assert not language.accepts('{"kind":"a","b":1}')
    assert not language.accepts('{"a":1}')


def test_recursion_may_nest_as_deep_as_the_text_does() -> None:
    language = Language(
        {
            "$defs": {
                "t": {
                    "type": "object",
                    "properties": {"c": {"type": "array", "items": {"$ref": "#/$defs/t"}}},
                    "required": ["c"],
                }
            },
            "$ref": "#/$defs/t",
        }
    )
    text = '{"c":[]}'
    for _ in range(60):
        text = f'{{"c":[{text}]}}'
    assert language.accepts(text)
    assert not language.accepts(text[:-1])
    assert Language({}).accepts("[" * 200 + "]" * 200)


HOSTILE: list[Any] = [
    {"enum": [f"value number {i}" for i in range(20_000)]},
    {"type": "string", "maxLength": 500_000},
    {"type": "string", "pattern": "^((a{1,1000}){1,1000}){1,1000}$", "maxLength": 10_000},
    {
        "type": "object",
        "properties": {f"property_{i}": {"type": "string"} for i in range(300)},
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "maxItems": 100_000}, "minItems": 1000},
    {"anyOf": [{"type": "object", "properties": {f"p{i}": True for i in range(j)}} for j in range(60)]},
]


@pytest.mark.slow
@pytest.mark.parametrize("schema", HOSTILE, ids=lambda s: json.dumps(s)[:40])
def test_large_schemas_compile_within_seconds(schema: Any) -> None:
    import time

    started = time.monotonic()
    Language(schema)
    assert time.monotonic() - started < 10


def test_alternatives_multiplied_beyond_the_limit_are_too_complex() -> None:
    option = {"anyOf": [{"properties": {f"p{i}{j}": {"const": j}}} for i in range(4) for j in range(4)]}
    with pytest.raises(GrammarTooComplex) as caught:
        Language({"allOf": [{"not": {"not": option}} | {"title": str(i)} for i in range(3)] + [
            {"anyOf": [{"minProperties": i} for i in range(9)]},
            {"anyOf": [{"maxProperties": 20 + i} for i in range(9)]},
        ], "type": "object"})  # fmt: skip
    assert caught.value.place.startswith("#")


@pytest.mark.parametrize(("first", "last"), [('{"items":', "}"), ('{"not":', "}"), ('{"allOf":[', "]}")])
@pytest.mark.parametrize("depth", [400, 10_000])
def test_schemas_nested_without_measure_are_too_complex(first: str, last: str, depth: int) -> None:
    with pytest.raises(GrammarTooComplex):
        compile_schema(first * depth + "{}" + last * depth, Rules(Expressions(Budget())))


def test_required_values_may_nest_deeper_than_the_interpreter_does() -> None:
    named = {f"a{i}": {"type": "object", "required": ["x"], "properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}}
             for i in range(1_500)}  # fmt: skip
    language = Language({"$ref": "#/$defs/a0", "$defs": {**named, "a1500": {"const": 1}}})
    assert language.rules.shortest[language.start] == len('{"x":1}') + 1_499 * len('{"x":}')


def test_mutual_recursion_among_many_alternatives_is_measured_in_no_time() -> None:
    kinds = [{"type": "object", "required": [f"k{i}"], "properties": {f"k{i}": {"$ref": f"#/$defs/{i % 5}"}}}
             for i in range(25)]  # fmt: skip
    language = Language({"$defs": {str(i): {"anyOf": [*kinds, {"type": "null"}]} for i in range(5)}, "anyOf": kinds})
    assert language.accepts('{"k7":{"k12":null}}')
    assert not language.accepts('{"k7":{"k12":1}}')


def test_properties_in_any_order_are_each_written_once_and_none_that_is_required_is_forgotten() -> None:
    schema = {"type": "object", "properties": {"a": True, "b": True, "c": True}, "required": ["a"]}
    language = Language(schema, JsonOptions(order="any"))
    for good in ('{"c":1,"a":1}', '{"a":1}', '{"x":1,"b":1,"a":1}', '{"b":1,"c":1,"a":1,"x":1}'):
        assert language.accepts(good), good
    for bad in ('{"c":1}', '{"a":1,"c":1,"a":1}', '{"x":1,"a":1,"x":2}', "{}"):
        assert not language.accepts(bad), bad


def test_the_order_is_by_default_that_of_the_schema_where_nothing_may_be_left_out() -> None:
    all_required = Language({"type": "object", "properties": {"b": True, "a": True}, "required": ["a", "b"]})
    assert all_required.accepts('{"b":1,"a":1}')
    assert not all_required.accepts('{"a":1,"b":1}')
    one_optional = Language({"type": "object", "properties": {"b": True, "a": True}, "required": ["a"]})
    for good in ('{"b":1,"a":1}', '{"a":1,"b":1}', '{"a":1}'):
        assert one_optional.accepts(good), good
    assert not one_optional.accepts('{"a":1,"b":1,"a":1}')


def test_required_properties_first_keep_the_order_of_the_schema_among_themselves() -> None:
    schema = {"type": "object", "properties": {"a": True, "b": True, "c": True}, "required": ["b", "c"]}
    language = Language(schema, JsonOptions(order="required-first"))
    assert language.accepts('{"b":1,"c":1,"a":1}')
    assert not language.accepts('{"a":1,"b":1,"c":1}')


def test_properties_of_several_schemas_may_mix_but_those_of_one_keep_their_order() -> None:
    schema = {"properties": {"a": True, "b": True}, "allOf": [{"properties": {"c": True, "d": True}}]}
    language = Language(schema, JsonOptions(order="schema"))
    for good in ('{"a":1,"b":1,"c":1,"d":1}', '{"c":1,"a":1,"d":1,"b":1}'):
        assert language.accepts(good), good
    assert not language.accepts('{"b":1,"a":1}')
    assert not language.accepts('{"d":1,"c":1}')


def test_the_order_is_that_of_the_schema_by_default_only_where_it_requires_all_that_it_names() -> None:
    schema = {"type": "object", "properties": {"b": True, "a": True}, "required": ["a", "b"]}
    assert Language(schema).accepts('{"b":1,"a":1,"x":1}')
    assert not Language(schema).accepts('{"a":1,"b":1}')
    assert not Language(schema).accepts('{"x":1,"b":1,"a":1}')
    schema["properties"]["c"] = True  # type: ignore[index]  # a dict
    for text in ('{"c":1,"a":1,"b":1}', '{"a":1,"x":1,"b":1}', '{"b":1,"a":1}'):
        assert Language(schema).accepts(text)
    assert not Language(schema).accepts('{"a":1,"b":1,"a":1}')


def test_alternatives_that_one_constant_tells_apart_do_not_multiply() -> None:
    options = [
        {"properties": {"kind": {"enum": [f"k{i}"]}, "a": {"type": "string"}, "b": {"type": "string"}, "c": {}},
         "required": ["kind", "a", "b", "c"]} for i in range(12)
    ]  # fmt: skip
    schema = {"type": "object", "oneOf": [*options, {"required": ["kind", "x"]}]}
    language = Language(schema)
    full = {"kind": "k1", "a": "", "b": "", "c": 0}
    for value in (full, {"kind": "k1", "x": 1}, {"kind": "z", "x": 1, "a": 1}, {**full, "a": 1, "x": 1}):
        assert language.admits(value), value
    for value in ({"kind": "k1"}, {**full, "x": 1}, {**full, "a": 1}, {"x": 1}):
        assert not language.admits(value), value


def test_five_thousand_optional_properties_in_any_order_cost_only_what_is_entered() -> None:
    schema = {"type": "object", "properties": {f"p{i}": {"type": "null"} for i in range(5_000)}}
    language = Language(schema, JsonOptions(order="any"))
    assert len(language.rules) < 100


def test_a_large_enum_is_one_terminal() -> None:
    language = Language({"enum": [f"value number {i}" for i in range(40_000)]})
    assert len(language.rules) < 10
    assert language.accepts('"value number 39999"')
    assert not language.accepts('"value number 40000"')


@pytest.mark.parametrize(
    ("white_space", "good", "bad"),
    [
        ("compact", ['{"a":[1,2]}'], ['{"a": [1,2]}', '{"a":[1, 2]}']),
        ("any", [' { "a"\t:\n[ 1 ,2 ] } ', '{"a":[]}', '{"a":[ ]}'], ['{"a" b:[]}']),
        (("pretty", 2), ['{\n  "a": [\n    1,\n    {\n      "b": {}\n    }\n  ]\n}'], ['{"a": []}', '{\n "a": []\n}']),
    ],
)
def test_white_space_is_what_the_option_says(white_space: Any, good: list[str], bad: list[str]) -> None:
    language = Language(
        {"type": "object", "properties": {"a": {"type": "array"}}}, JsonOptions(white_space=white_space)
    )
    for text in good:
        assert language.accepts(text), text
    for text in bad:
        assert not language.accepts(text), text


def test_pretty_text_of_a_recursive_schema_is_that_of_json_dumps() -> None:
    nested = {"type": "array", "items": {"$ref": "#/$defs/t"}, "minItems": 1}
    schema = {"$defs": {"t": {"anyOf": [{"type": "null"}, nested]}}, "$ref": "#/$defs/t"}
    language = Language(schema, JsonOptions(white_space=("pretty", 4)))
    for value in (None, [None], [[None, [None]], None]):
        assert language.accepts(json.dumps(value, indent=4)), value


def test_unique_items_are_told_apart_by_value() -> None:
    language = Language({"type": "array", "uniqueItems": True})
    for good in ("[1,2]", '[1,true,"1",null,[],{}]', '[{"a":1},{"a":2}]', "[[1],[2]]", "[0,false]"):
        assert language.accepts(good), good
    for bad in (
        "[1,1]",
        "[1,1.0]",
        "[1,2,1]",
        "[null,null]",
        '[{"a": 1},{"a":1}]',
        "[[1, 2],[1,2]]",
        '["a","\\u0061"]',
    ):
        assert not language.accepts(bad), bad


def test_a_registry_gives_schemas_of_other_documents() -> None:
    registry = {"http://x.example/lib/a.json": {"$defs": {"n": {"$ref": "b.json#here"}}},
                "http://x.example/lib/b.json": {"$defs": {"m": {"$anchor": "here", "type": "integer"}}}}  # fmt: skip
    schema = {"$id": "http://x.example/root.json", "items": {"$ref": "lib/a.json#/$defs/n"}, "type": "array"}
    language = Language(schema, JsonOptions(registry=registry))
    assert language.accepts("[1]")
    assert not language.accepts('["a"]')
    with pytest.raises(SchemaError) as caught:
        Language(schema)
    assert (caught.value.pointer, caught.value.keyword) == ("#/items", "$ref")


def test_a_dynamic_reference_names_the_outermost_anchor() -> None:
    language = Language({
        "$id": "http://x.example/strings", "$ref": "list", "$defs": {
            "item": {"$dynamicAnchor": "item", "type": "string"},
            "list": {"$id": "list", "type": "array", "items": {"$dynamicRef": "#item"},
                     "$defs": {"item": {"$dynamicAnchor": "item"}}},
        },
    })  # fmt: skip
    assert language.accepts('["a"]')
    assert not language.accepts("[1]")


def test_nullable_beside_a_type_admits_null() -> None:
    language = Language({"type": "string", "nullable": True})
    assert language.accepts("null")
    assert not language.accepts("1")


def test_formats_are_asserted_unless_the_option_says_no() -> None:
    assert not Language({"type": "string", "format": "date"}).accepts('"x"')
    assert Language({"type": "string", "format": "date"}, JsonOptions(assert_formats=False)).accepts('"x"')


@pytest.mark.parametrize(
    "draft", ["http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2020-12/schema"]
)
def test_the_schemas_of_the_standard_can_be_referred_to(draft: str) -> None:
    language = Language({"$schema": draft, "$ref": draft})
    assert language.accepts('{"items":{"minLength":2}}')
    assert not language.accepts('{"items":{"minLength":-2}}')


def test_in_draft_4_an_integer_has_no_fraction_in_any_spelling() -> None:
    schema = {"type": "integer"}
    assert Language(schema).accepts("1.0")
    language = Language({"$schema": "http://json-schema.org/draft-04/schema#", **schema})
    assert language.accepts("-12")
    assert not language.accepts("1.0")
    enum = {"$schema": "http://json-schema.org/draft-04/schema#", "enum": [1, [0]]}
    assert Language(enum).accepts("1.0")
    assert Language(enum).accepts("[0.0]")
    assert not Language({**enum, "type": "integer"}).accepts("1.0")
