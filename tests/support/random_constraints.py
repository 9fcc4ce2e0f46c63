"""Schemas and regexes for tests that walk: some as people write them, and as many at random as wanted."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

Schema = Any

_ADDRESS: Schema = {
    "type": "object",
    "properties": {
        "street": {"type": "string", "minLength": 1, "maxLength": 40},
        "zip": {"type": "string", "pattern": "^[0-9]{5}(-[0-9]{4})?$"},
        "country": {"type": "string", "enum": ["DE", "FR", "PL", "Österreich"]},
    },
    "required": ["street", "country"],
    "additionalProperties": False,
}

REAL_SCHEMAS: dict[str, Schema] = {
    "person": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Person",
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "email": {"type": "string", "format": "email"},
            "address": _ADDRESS,
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5},
        },
        "required": ["name", "age"],
    },
    "tool call": {
        "type": "object",
        "properties": {
            "name": {"const": "get_weather"},
            "arguments": {
                "type": "object",
                "properties": {
                    "location": {"type": "string", "description": "City and country"},
                    "unit": {"enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "integer", "minimum": 1, "maximum": 14},
                },
                "required": ["location"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    },
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": ["integer", "null"]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 3},
                },
                "required": ["value"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "shapes": {
        "type": "array",
        "minItems": 1,
        "items": {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "circle"}, "radius": {"type": "number", "exclusiveMinimum": 0}},
                    "required": ["kind", "radius"],
                },
                {
                    "type": "object",
                    "properties": {
                        "kind": {"const": "box"},
                        "size": {
                            "type": "array",
                            "prefixItems": [{"type": "number"}] * 2,
                            "items": False,
                            "minItems": 2,
                        },
                    },
                    "required": ["kind", "size"],
                },
            ]
        },
    },
    "config": {
        "type": "object",
        "properties": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}, "debug": {"type": "boolean"}},
        "patternProperties": {"^x-": {"type": "string", "maxLength": 12}, "_ms$": {"type": "integer", "minimum": 0}},
        "additionalProperties": {"type": ["string", "number"]},
        "minProperties": 1,
        "maxProperties": 6,
    },
    "prices": {
        "type": "array",
        "items": {"type": "number", "minimum": 0, "maximum": 999.99, "multipleOf": 0.01},
        "minItems": 2,
        "maxItems": 4,
        "uniqueItems": True,
    },
    "payment": {
        "type": "object",
        "properties": {
            "method": {"enum": ["card", "invoice"]},
            "card": {"type": "string", "pattern": "^\\d{4}( \\d{4}){3}$"},
            "due": {"type": "string", "format": "date"},
        },
        "required": ["method"],
        "if": {"properties": {"method": {"const": "card"}}},
        "then": {"required": ["card"]},
        "else": {"required": ["due"]},
        "dependentRequired": {"card": ["due"]},
    },
    "matrix": {
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer", "multipleOf": 3}, "minItems": 2, "maxItems": 2},
        "maxItems": 3,
    },
    "not nothing": {"type": ["string", "integer", "null"], "not": {"enum": ["", 0, None]}},
    "contains": {
        "type": "array",
        "contains": {"type": "integer", "minimum": 10},
        "minContains": 1,
        "maxContains": 2,
        "items": {"type": ["integer", "boolean"]},
        "maxItems": 5,
    },
    "extended": {
        "allOf": [
            {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}, "required": ["id"]},
            {"properties": {"count": {"type": "integer", "minimum": 0}}, "required": ["count"]},
        ],
        "unevaluatedProperties": False,
    },
    "keys": {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z]{2}(-[A-Z]{2})?$"},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 20},
        "minProperties": 1,
    },
    "anything": {},
}

REAL_REGEXES = (
    r"\d{3}-\d{4}", r"[a-z]{1,2000}", r"(ab|aba)*c", r"(?s).*", r"é+|日本語?", r'"[^"\\]*"', r"(?i)the end",
    r"(\d{1,3}\.){3}\d{1,3}", r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", r"(a{1,50}){1,50}", r"[01]*1[01]{10}",
    r"[^@\s]+@[^@\s]+\.[a-z]{2,}", r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", r"(?:\w+ ){3}\w+", r"", r"x?(yz)?",
    r"(Thought: [^\n]{1,80}\n)+Answer: .+",
)  # fmt: skip

_KEYS = ("a", "b", "id", "name", "type", "käse", "a b", 'q"', "x_ms")
_PATTERNS = ("^[a-z]+$", "^a", "z$", "[0-9]", "^(yes|no)$", "^[A-Z][a-z]{0,5}$", "^\\d{2,4}$")
_CONSTS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2.5,
    10**20,
    "",
    "a",
    "ab",
    "é",
    "\n",
    [],
    [1],
    {},
    {"a": [None]},
)


def random_schema(rng: random.Random, depth: int = 3) -> Schema:
    """Any keyword beside any other that fits its type; nothing says that a value satisfies it."""
    makers = [_string, _integer, _number, _choice_of_values]
    if depth > 0:
        makers += [_object, _object, _object, _array, _array, _combination, _conditional]
    return rng.choice(makers)(rng, depth)


def mutated(rng: random.Random, schema: Schema) -> Schema:
    """A copy with one thing changed: a keyword dropped, a value or a subschema put somewhere, a keyword added."""
    result = copy.deepcopy(schema)
    places = [place for place in _objects(result) if place]
    if not places:
        return random_schema(rng, 1)
    place = rng.choice(places)
    key = rng.choice(sorted(place))
    change = rng.randrange(4)
    if change == 0:
        del place[key]
    elif change == 1:
        place[key] = copy.deepcopy(rng.choice(_CONSTS))
    elif change == 2:
        place[key] = random_schema(rng, 1)
    else:
        place.update(random_schema(rng, 1))
    return result


def random_regex(rng: random.Random, depth: int = 3) -> str:
    """Nested groups, classes, counted repetition; without anchors, in re's syntax."""
    if depth == 0 or rng.random() < 0.3:
        return rng.choice(
            [
                r"\d",
                r"\w",
                r"[a-f]",
                r"[^x\n]",
                ".",
                "a",
                "ab",
                "é",
                "日",
                r"\.",
                r"\n",
                "(?:)",
                "[^a-zA-Z]",
                r"\s",
                r"\x41",
            ]
        )
    shape = rng.randrange(4)
    if shape == 0:
        return "".join(random_regex(rng, depth - 1) for _ in range(rng.randint(2, 4)))
    if shape == 1:
        return "(" + "|".join(random_regex(rng, depth - 1) for _ in range(rng.randint(2, 3))) + ")"
    if shape == 2:
        return f"(?:{random_regex(rng, depth - 1)})" + rng.choice(["*", "+", "?", "*?"])
    low = rng.randint(0, 3)
    return f"(?:{random_regex(rng, depth - 1)}){{{low},{rng.choice(['', low + rng.randint(0, 30)])}}}"


def _objects(value: Any) -> list[dict[str, Any]]:
    found = []
    if isinstance(value, dict):
        found.append(value)
        for child in value.values():
            found += _objects(child)
    elif isinstance(value, list):
        for child in value:
            found += _objects(child)
    return found


def _some(rng: random.Random, keywords: dict[str, Any], likelihood: float = 0.4) -> Schema:
    return {name: value for name, value in keywords.items() if rng.random() < likelihood}


def _string(rng: random.Random, depth: int) -> Schema:
    low = rng.randint(0, 5)
    keywords = {
        "minLength": low,
        "maxLength": low + rng.randint(0, 20),
        "pattern": rng.choice(_PATTERNS),
        "format": rng.choice(["date", "uuid", "ipv4", "date-time", "email", "time"]),
    }
    return {"type": "string", **_some(rng, keywords, 0.3)}


def _integer(rng: random.Random, depth: int) -> Schema:
    low = rng.randint(-300, 300)
    keywords = {
        "minimum": low,
        "exclusiveMaximum": low + rng.randint(1, 2000),
        "multipleOf": rng.choice([1, 2, 5, 7, 12]),
    }
    return {"type": "integer", **_some(rng, keywords)}


def _number(rng: random.Random, depth: int) -> Schema:
    low = round(rng.uniform(-50, 50), rng.randint(0, 3))
    keywords = {
        "exclusiveMinimum": low,
        "maximum": low + rng.randint(1, 90),
        "multipleOf": rng.choice([0.5, 0.25, 0.1, 3]),
    }
    return {"type": "number", **_some(rng, keywords)}


def _choice_of_values(rng: random.Random, depth: int) -> Schema:
    some = rng.choice(
        [
            {"enum": copy.deepcopy(rng.sample(_CONSTS, rng.randint(1, 5)))},
            {"const": copy.deepcopy(rng.choice(_CONSTS))},
            {"type": rng.choice(["boolean", "null", ["string", "null"], ["integer", "boolean"]])},
            {},
        ]
    )
    assert isinstance(some, dict)
    return some


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_KEYS, rng.randint(0, 4))
    keywords: dict[str, Any] = {
        "required": rng.sample(_KEYS, rng.randint(0, 2)),
        "additionalProperties": rng.choice([False, True, random_schema(rng, depth - 1)]),
        "patternProperties": {rng.choice(_PATTERNS): random_schema(rng, depth - 1)},
        "propertyNames": {"maxLength": rng.randint(2, 8)},
        "minProperties": rng.randint(0, 2),
        "maxProperties": rng.randint(2, 4),
        "dependentRequired": {rng.choice(_KEYS): [rng.choice(_KEYS)]},
        "unevaluatedProperties": False,
    }
    properties = {name: random_schema(rng, depth - 1) for name in names}
    return {"type": "object", "properties": properties, **_some(rng, keywords, 0.25)}


def _array(rng: random.Random, depth: int) -> Schema:
    low = rng.randint(0, 2)
    keywords: dict[str, Any] = {
        "items": rng.choice([False, random_schema(rng, depth - 1), random_schema(rng, depth - 1)]),
        "prefixItems": [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))],
        "minItems": low,
        "maxItems": low + rng.randint(0, 4),
        "uniqueItems": True,
        "contains": random_schema(rng, 0),
    }
    return {"type": "array", **_some(rng, keywords, 0.35)}


def _combination(rng: random.Random, depth: int) -> Schema:
    keyword = rng.choice(["anyOf", "anyOf", "oneOf", "allOf", "not"])
    if keyword == "not":
        return {"type": ["string", "integer", "null"], "not": random_schema(rng, 0)}
    parts = [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]
    return {keyword: parts, **({} if rng.random() < 0.6 else random_schema(rng, depth - 1))}


def _conditional(rng: random.Random, depth: int) -> Schema:
    """The same name in all three: that is where they meet."""
    name = rng.choice(_KEYS)
    return {
        "type": "object",
        "properties": {name: {"enum": json.loads('["x", "y", 1]')}},
        "if": {"properties": {name: {"const": "x"}}},
        "then": {"required": [name]},
        **_some(rng, {"else": {"maxProperties": 1}}, 0.5),
        "additionalProperties": random_schema(rng, 0),
    }
