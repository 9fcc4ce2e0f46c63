"""A constraint as a value: what a generated text must be, before any vocabulary is known.

Frozen and hashable, its text canonical: the key under which grammars are cached and what crosses the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

from .errors import RegexError, SchemaError

Kind = Literal["regex", "json_schema"]


@dataclass(frozen=True)
class Constraint:
    """kind: "regex" | "json_schema";  text: the pattern, or the schema as JSON text with its key order kept."""

    kind: Kind
    text: str

    @staticmethod
    def regex(pattern: str) -> Constraint:
        """The whole output matches `pattern`, as re.fullmatch would have it."""
        if not isinstance(pattern, str):
            raise RegexError(f"a pattern is a str, not {type(pattern).__name__}", pattern=repr(pattern), offset=0)
        return Constraint("regex", pattern)

    @staticmethod
    def json_schema(schema: dict[str, object] | bool | str) -> Constraint:
        """The output is JSON text of a value that `schema` admits; a str is the schema's JSON text."""
        if isinstance(schema, str):
            try:
                schema = json.loads(schema, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise SchemaError(f"the schema is not JSON: {error}", pointer="#") from None
        if not isinstance(schema, (dict, bool)):
            raise SchemaError(
                f"a schema is an object or a boolean, not {type(schema).__name__}", pointer="#", value=schema
            )
        try:
            text = json.dumps(schema, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the schema is not JSON: {error}", pointer="#") from None
        return Constraint("json_schema", text)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
