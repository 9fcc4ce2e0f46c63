"""The language of a JSON Schema, judged text by text with the plain acceptor of rules."""

from __future__ import annotations

import json
from typing import Any

from forktree.grammar import Constraint, SchemaError
from forktree.grammar.expressions import Expressions
from forktree.grammar.json_schema import JsonOptions, compile_schema
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from tests.grammar.rules_reference import Reference


class Language:
    """The texts of one schema."""

    def __init__(self, schema: Any, options: JsonOptions | None = None) -> None:
        self.rules = Rules(Expressions(Budget(seconds=10)))  # a collection of garbage in a long run takes its part
        self.start = compile_schema(Constraint.json_schema(schema).text, self.rules, options)

    def accepts(self, text: str | bytes) -> bool:
        return Reference(self.rules, self.start).accepts_text(text.encode() if isinstance(text, str) else text)

    def admits(self, value: Any) -> bool:
        return self.accepts(json.dumps(value, ensure_ascii=False))


def language_if_any(schema: Any, options: JsonOptions | None = None) -> Language | None:
    """None for a schema that nothing satisfies."""
    try:
        return Language(schema, options)
    except SchemaError as error:
        if "satisfies" in error.message:
            return None
        raise
