"""A constraint as a value: what a generated text must be, before any vocabulary is known.

Frozen and hashable, its text canonical: the key under which grammars are cached and what crosses the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .errors import EbnfError, RegexError, SchemaError

Kind = Literal["regex", "json_schema", "lark", "gbnf", "structural_tag"]
Order = Literal["auto", "schema", "any", "required-first"]

_GBNF_RULE = re.compile(r"^\s*[A-Za-z][\w-]*\s*::=", re.MULTILINE)
_DRAFTS = {"draft4": 4, "draft6": 6, "draft7": 7, "draft2019-09": 2019, "draft2020-12": 2020}


@dataclass(frozen=True)
class Constraint:
    """text     the pattern, the grammar, or the schema or tag as JSON text with its key order kept
    options  JSON text of a json_schema's options that are not the default; "" if all are"""

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
        schema: Mapping[str, Any] | bool | str,
        *,
        order: Order = "auto",
        white_space: str | tuple[str, int] = "bounded",
        assert_formats: bool | None = None,
        draft: str | None = None,
        registry: Mapping[str, Any] | None = None,
    ) -> Constraint:
        """The output is JSON text of a value that `schema` admits; a str is the schema's JSON text.

        order           of an object's properties: "schema" (as the schema names them), "any", "required-first";
                        "auto" is "schema" for objects whose named properties are all required, else "any"
        white_space     "bounded" (one blank at most after , and :), "compact", "any", ("pretty", blanks a level)
        assert_formats  whether `format` says which strings are valid.  None: it does, unless `draft` asks for the
                        letter of draft2019-09 or draft2020-12, where it is an annotation
        draft           "draft4" to "draft2020-12", whatever $schema says
        registry        schemas that $ref may name, by URI: nothing is ever fetched
        """
        if isinstance(schema, str):
            try:
                schema = json.loads(schema, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise SchemaError(f"the schema is not JSON: {error}", pointer="#") from None
        if not isinstance(schema, (Mapping, bool)):
            raise SchemaError(
                f"a schema is an object or a boolean, not {type(schema).__name__}", pointer="#", value=schema
            )
        options: dict[str, Any] = {}
        if order != "auto":
            options["order"] = _one_of("order", order, ("auto", "schema", "any", "required-first"))
        if white_space != "bounded":
            options["white_space"] = _white_space(white_space)
        if assert_formats is None:
            assert_formats = draft not in ("draft2019-09", "draft2020-12")
        if not assert_formats:
            options["assert_formats"] = False
        if draft is not None:
            options["draft"] = _DRAFTS[_one_of("draft", draft, tuple(_DRAFTS))]
        if registry:
            options["registry"] = dict(registry)
        return Constraint("json_schema", _json_text(schema), _json_text(options) if options else "")

    @staticmethod
    def lark(grammar: str) -> Constraint:
        """The output is a text of the rule `start` of a grammar in Lark's syntax."""
        return Constraint("lark", _grammar_text(grammar))

    @staticmethod
    def gbnf(grammar: str) -> Constraint:
        """The output is a text of the rule `root` of a grammar in llama.cpp's GBNF."""
        return Constraint("gbnf", _grammar_text(grammar))

    @staticmethod
    def ebnf(grammar: str) -> Constraint:
        """A grammar in GBNF if it defines rules with ::=, else in Lark's syntax."""
        return Constraint.gbnf(grammar) if _GBNF_RULE.search(_grammar_text(grammar)) else Constraint.lark(grammar)

    @staticmethod
    def structural_tag(tag: Mapping[str, Any] | str) -> Constraint:
        """Free text with constrained parts in it, as structural_tags.py says; a str is JSON text."""
        if isinstance(tag, str):
            try:
                tag = json.loads(tag, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as error:
                raise SchemaError(f"the structural tag is not JSON: {error}", pointer="#") from None
        if not isinstance(tag, Mapping):
            raise SchemaError(f"a structural tag is an object, not {type(tag).__name__}", pointer="#", value=tag)
        return Constraint("structural_tag", _json_text(tag, "structural tag"))


def _grammar_text(grammar: object) -> str:
    if not isinstance(grammar, str) or not grammar.strip():
        raise EbnfError(f"wanted the text of a grammar, got {grammar!r:.60}", text="", line=1, column=1)
    return grammar


def _json_text(value: object, what: str = "schema") -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"the {what} is not JSON: {error}", pointer="#") from None


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise SchemaError(f"{name} is one of {', '.join(known)}, not {value!r}", pointer="#")
    return value


def _white_space(value: str | tuple[str, int]) -> object:
    if isinstance(value, str):
        return _one_of("white_space", value, ("bounded", "compact", "any"))
    if tuple(value[:1]) == ("pretty",) and 0 <= value[1] <= 16:
        return ["pretty", value[1]]
    raise SchemaError(f'white_space is a name or ("pretty", 0 to 16), not {value!r}', pointer="#")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
