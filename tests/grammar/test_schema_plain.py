"""What is read at a glance of plain schemas is what the general way finds."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from forktree.grammar import SchemaError
from forktree.grammar.expressions import Expressions
from forktree.grammar.json_layout import Style
from forktree.grammar.json_schema import JsonOptions, SchemaWriter
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from forktree.grammar.schema_shapes import Conjunction

SCALARS: list[Any] = [
    True, {}, {"type": "string"}, {"type": "string", "minLength": 3}, {"type": "string", "maxLength": 0},
    {"type": "string", "minLength": 3, "maxLength": 2}, {"type": "string", "pattern": "^a+b$"}, {"enum": ["ab", "c"]},
    {"type": "string", "enum": ["é", "abc"]}, {"enum": [100, 20]}, {"type": "integer", "enum": [5, "a"]},
    {"type": "integer", "minimum": 10}, {"type": "number", "maximum": -1.5}, {"type": "boolean"}, {"type": "null"},
    {"type": ["string", "null"]}, {"type": ["boolean", "null"]}, {"const": "x"}, {"const": None}, {"type": "number",
    "multipleOf": 7, "minimum": 1}, {"minLength": 2}, {"format": "date"}, {"type": "string", "format": "date"},
    {"type": "integer", "nullable": True}, {"type": ["boolean", "null"], "enum": [True]}, {"$ref": "#/$defs/a"},
]  # fmt: skip


def made(chance: random.Random, depth: int) -> Any:
    kind = chance.choice(["scalar", "object", "array", "anyOf", "oneOf"]) if depth else "scalar"
    if kind == "scalar":
        return chance.choice(SCALARS)
    if kind in ("anyOf", "oneOf"):
        return {kind: [made(chance, depth - 1) for _ in range(chance.randint(1, 3))]}
    if kind == "array":
        schema: dict[str, Any] = {"type": "array", "items": made(chance, depth - 1)}
        if chance.random() < 0.5:
            schema["minItems"] = chance.randint(0, 3)
        if chance.random() < 0.3:
            schema["maxItems"] = chance.randint(0, 3)
        return schema
    names = chance.sample(["a", "bb", "c-c", "d\n", "é"], chance.randint(0, 4))
    schema = {"type": "object", "properties": {name: made(chance, depth - 1) for name in names}}
    if chance.random() < 0.7:
        schema["required"] = chance.sample(["a", "bb", "c-c", "d\n", "zz"], chance.randint(0, 3))
    if chance.random() < 0.4:
        schema["additionalProperties"] = chance.choice([False, True, {"type": "string"}])
    if chance.random() < 0.1:
        schema["minProperties"] = 1
    return schema


def size_of(schema: Any, white_space: Any, *, plain: bool) -> int:
    rules = Rules(Expressions(Budget()))
    options = JsonOptions(white_space=white_space)
    writer = SchemaWriter(schema, json.dumps(schema), rules, options)
    if not plain:
        writer._plain._is_off = True
    root = writer._document.root
    whole: Conjunction = () if root.schema is True else (root,)
    return writer.size(whole, Style())


@pytest.mark.parametrize("white_space", ["bounded", "any", ("pretty", 2)])
def test_lengths_are_those_of_the_general_way(white_space: Any) -> None:
    chance = random.Random(7)
    for _ in range(400):
        schema = made(chance, 3)
        if isinstance(schema, dict):
            schema = {**schema, "$defs": {"a": {"type": "object", "properties": {"n": {"$ref": "#/$defs/a"}}}}}
        try:
            general = size_of(schema, white_space, plain=False)
        except SchemaError:  # the opposite of a format, which oneOf asks for
            continue
        assert size_of(schema, white_space, plain=True) == general, schema
