"""A constraint as a value: what a generated text must be, before any vocabulary is known.

Frozen and hashable, its text canonical: the key under which grammars are cached and what crosses the wire."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Literal

from .errors import GrammarError, RegexError, SchemaError

Kind = Literal["regex", "json_schema", "lark", "gbnf", "structural_tag"]
WhiteSpace = Literal["bounded", "compact", "any"] | tuple[Literal["pretty"], int]
Order = Literal["schema", "any", "required-first"]

_GBNF_RULE = re.compile(r"^\s*[A-Za-z][\w-]*\s*::=", re.MULTILINE)


@dataclass(frozen=True)
class Constraint:
    """kind     "regex" | "json_schema" | "lark" | "gbnf" | "structural_tag"
    text     the pattern, the grammar; the schema or tag as JSON text with its key order kept
    options  canonical JSON of what is not as by default; "" for nothing"""

    kind: Kind
    text: str
    options: str = ""

    @staticmethod
    def regex(pattern: str) -> Constraint:
        """The whole output matches `pattern`, as re.fullmatch would have it."""
        if not isinstance(pattern, str):
            raise RegexError(f"a pattern is a str, not {type(pattern).__name__}", pattern=repr(pattern), offset=0)
        return Constraint("regex", pattern)

    @staticmethod
    def json_schema(
        schema: dict[str, object] | bool | str, *, white_space: WhiteSpace = "bounded", order: Order = "schema"
    ) -> Constraint:
        """The output is JSON text of a value that `schema` admits; a str is the schema's JSON text.

        white_space  "bounded": one blank at most after ',' and ':'; "compact": none; "any"; ("pretty", blanks a level)
        order        of the properties that the schema names"""
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
        options: dict[str, object] = {}
        if order != "schema":
            options["order"] = order
        if white_space != "bounded":
            options["white_space"] = white_space
        return Constraint("json_schema", text, _canonical(options))

    @staticmethod
    def lark(grammar: str) -> Constraint:
        """The output is a text of `grammar`, in Lark's syntax."""
        return Constraint("lark", _grammar_text(grammar))

    @staticmethod
    def gbnf(grammar: str) -> Constraint:
        """The output is a text of `grammar`, as llama.cpp's users write it."""
        return Constraint("gbnf", _grammar_text(grammar))

    @staticmethod
    def ebnf(grammar: str) -> Constraint:
        """Whichever of the two syntaxes this is: GBNF defines its rules with `::=`, Lark with `:`."""
        return Constraint("gbnf" if _GBNF_RULE.search(_grammar_text(grammar)) else "lark", grammar)

    @staticmethod
    def structural_tag(tag: dict[str, object] | str) -> Constraint:
        """Free text with constrained parts behind triggers; a str is the tag's JSON text."""
        try:
            if isinstance(tag, str):
                tag = json.loads(tag, parse_constant=_refuse_constant)
            text = json.dumps(tag, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise SchemaError(f"the structural tag is not JSON: {error}", pointer="#") from None
        if not isinstance(tag, dict):
            raise SchemaError(f"a structural tag is an object, not {type(tag).__name__}", pointer="#", value=tag)
        return Constraint("structural_tag", text)


def _grammar_text(grammar: object) -> str:
    if not isinstance(grammar, str) or not grammar.strip():
        raise GrammarError(f"wanted the text of a grammar, got {grammar!r:.60}")
    return grammar


def _canonical(options: dict[str, object]) -> str:
    return json.dumps(options, separators=(",", ":"), sort_keys=True) if options else ""


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
