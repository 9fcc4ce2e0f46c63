"""A constraint is checked where it is written: regex, schema, type and dtype -> what a backend takes, or an error with
the user's line.

Here: the lazy door to forktree.grammar.  Not here: enforcing constraints (the runtime does).  A good constraint is
checked once per process."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from .errors import ArgumentError, ConstraintError, RegexError, SchemaError

__all__ = [
    "DTYPES",
    "checked_ebnf",
    "checked_json_options",
    "checked_regex",
    "checked_schema",
    "checked_structural_tag",
    "dtype_constraint",
    "literals_of",
    "schema_text_of",
]

_WHITE_SPACE = re.compile(r"bounded|compact|any|pretty(:[0-8])?")
_ORDER = re.compile(r"auto|schema|any|required-first")

# int and float may be followed by a blank, where the stop strings end them: so a model can end its number and go on.
DTYPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "int": (r"[-+]?[0-9]+[ \n]*", (" ", "\n")),
    "float": (r"[-+]?[0-9]*\.?[0-9]+[ \n]*", (" ", "\n")),
    "bool": (r"(True|False)", ()),
    "str": (r'"([^"\\\x00-\x1f]|\\["\\/bfnrt])*"', ()),  # a JSON string, punctuation and escapes included
}


def dtype_constraint(dtype: object, where: object) -> tuple[str, tuple[str, ...]]:
    """The regex of a dtype and the stop strings it brings."""
    name = dtype.__name__ if isinstance(dtype, type) else {"string": "str"}.get(str(dtype), str(dtype))
    if name not in DTYPES or not isinstance(dtype, (type, str)):
        raise ArgumentError(f"dtype: got {dtype!r}, wanted int, float, bool or str (in {where})")
    return DTYPES[name]


def checked_regex(pattern: object, where: object) -> str:
    if not isinstance(pattern, str):
        raise ArgumentError(f"regex: got {pattern!r}, wanted a pattern as a string (in {where})")
    if not pattern:
        raise RegexError("an empty regex allows nothing but the empty text; leave it out", str(where), 0)
    try:
        _check("regex", pattern)
    except Exception as error:
        raise _located(error, where) from error
    return pattern


def checked_schema(schema: object, where: object) -> str:
    """The schema as JSON text.  It may be given as JSON text, as a dict, or as a type: pydantic model, dataclass,
    TypedDict, ..."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise SchemaError(f"json_schema is not JSON: {error}", str(where)) from error
    if not isinstance(schema, (dict, bool)):
        return schema_text_of(schema, where)
    try:
        text = json.dumps(schema, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"json_schema can't be written as JSON: {error}", str(where)) from error
    return _enforceable(text, where)


def schema_text_of(tp: object, where: object) -> str:
    """The schema of a type, as JSON text."""
    try:
        try:
            text = _known_schema_text(tp)
        except TypeError:  # not hashable, as Annotated[int, Field(gt=0)] may be
            text = _schema_text(tp)
    except Exception as error:
        raise _located(error, where) from error
    return _enforceable(text, where)


def checked_ebnf(grammar: object, where: object) -> str:
    """Its syntax is the backend's: whoever enforces it reads it."""
    if not isinstance(grammar, str) or not grammar.strip():
        raise ArgumentError(f"ebnf: got {grammar!r}, wanted the text of a grammar (in {where})")
    return grammar


def checked_structural_tag(tag: object, where: object) -> str:
    """JSON text of one of the two forms that SGLang takes: structures with triggers, or a format."""
    wanted = (
        'an object with "type": "structural_tag" and "format", or with "structures" and "triggers", as a dict or JSON '
        "text"
    )
    try:
        text = tag if isinstance(tag, str) else json.dumps(tag, ensure_ascii=False)
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConstraintError(f"structural_tag is not JSON: {error}", str(where)) from error
    if not isinstance(found, dict) or found.get("type", "structural_tag") != "structural_tag":
        raise ConstraintError(f"structural_tag: got {text:.80}, wanted {wanted}", str(where))
    by_triggers = isinstance(found.get("structures"), list) and isinstance(found.get("triggers"), list)
    if not by_triggers and not isinstance(found.get("format"), dict):
        raise ConstraintError(f"structural_tag: got {text:.80}, wanted {wanted}", str(where))
    return text


def checked_json_options(
    white_space: object, order: object, constrains_json: bool, where: object
) -> dict[str, str | None]:
    """How JSON is written, and in which order its properties come."""
    for name, value, matches, wanted in (
        ("white_space", white_space, _WHITE_SPACE.fullmatch, "bounded, compact, pretty, pretty:0 to pretty:8, or any"),
        ("order", order, _ORDER.fullmatch, "auto, schema, any or required-first"),
    ):
        if value is None:
            continue
        if not isinstance(value, str) or not matches(value):
            raise ArgumentError(f"{name}: got {value!r}, wanted {wanted} (in {where})")
        if not constrains_json:
            raise ArgumentError(f"{name} says how JSON is written; it goes with json_schema or type (in {where})")
    return {"white_space": white_space, "order": order}  # type: ignore[dict-item]  # both were looked at


@lru_cache(maxsize=1024)
def _check(kind: str, text: str) -> None:
    from forktree.grammar import Constraint, check

    check(Constraint.regex(text) if kind == "regex" else Constraint.json_schema(text))


@lru_cache(maxsize=1024)
def literals_of(kind: str, text: str) -> tuple[str, ...]:
    """The texts that a checked constraint spells by itself, on the shortest output that it allows."""
    from forktree.grammar import Constraint, GrammarError, literals

    try:
        runs = literals(Constraint.regex(text) if kind == "regex" else Constraint.json_schema(text))
    except GrammarError:  # too complex to walk through; a run would say so
        return ()
    return tuple(run.decode(errors="replace") for run in runs)


def _enforceable(schema: str, where: object) -> str:
    try:
        _check("json_schema", schema)
    except Exception as error:
        raise _located(error, where) from error
    return schema


def _schema_text(tp: object) -> str:
    from forktree.grammar import schema_of

    return json.dumps(schema_of(tp), ensure_ascii=False)


@lru_cache(maxsize=256)
def _known_schema_text(tp: object) -> str:
    return _schema_text(tp)


def _located(error: Exception, where: object) -> Exception:
    """The grammar's error as the program's; anything that is not the user's fault passes through as it is."""
    from forktree import grammar

    if isinstance(error, grammar.RegexError):
        return RegexError(str(error), str(where), getattr(error, "offset", None))
    if isinstance(error, grammar.SchemaError):
        return SchemaError(str(error), str(where), getattr(error, "pointer", ""))
    if isinstance(error, (grammar.GrammarError, TypeError, ValueError)):
        return ConstraintError(str(error), str(where))
    return error
