"""The ways in which OpenAI's, vLLM's and SGLang's clients ask for constrained output -> one of the engine's own.

Here: which spellings there are, that a request uses one of them only, what is refused inside them.
Not here: whether the constraint itself is any good, which the engine says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec

from ..errors import InvalidRequest
from .body import present

T = TypeVar("T")
ANY_OBJECT = '{"type":"object"}'


class SchemaFormat(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    schema: dict[str, Any] | bool
    name: str = ""
    description: str = ""
    strict: bool = True  # both ways the schema is enforced


class ResponseFormat(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """OpenAI's three, and SGLang's structural tags in both of their forms."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: SchemaFormat | None = None
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None


class StructuredOutputs(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """vLLM's; its fields one by one are also `guided_json` and so on."""

    json: dict[str, Any] | bool | str | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: dict[str, Any] | str | None = None


class Constrained(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Every field of a request that constrains its output. `white_space` and `order` are forktree's own."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    regex: str | None = None
    ebnf: str | None = None
    structural_tag: dict[str, Any] | str | None = None
    guided_json: dict[str, Any] | bool | str | None = None
    guided_regex: str | None = None
    guided_choice: list[str] | None = None
    guided_grammar: str | None = None
    white_space: str | None = None
    order: str | None = None


def constraint_of(request: Constrained) -> tuple[str, str, str] | None:
    """(the engine's field, its value, the request's own name for it), or None. Raises InvalidRequest for several."""
    found = list(_found(request))
    if len(found) > 1:
        (_, _, first), (_, _, second) = found[:2]
        raise InvalidRequest(second, f"{first} and {second} can't both constrain one output; give one of them")
    return found[0] if found else None


def known_formats(fields: dict[str, Any]) -> None:
    """In place: null inside of a constraint is the same as absent, "" at its own is none."""
    for name in ("response_format", "structured_outputs"):
        if isinstance(fields.get(name), dict):
            fields[name] = present(fields[name])
    for name in ("regex", "ebnf", "structural_tag"):
        if fields.get(name) == "":
            del fields[name]
    format = fields.get("response_format")
    if isinstance(format, dict) and isinstance(format.get("json_schema"), dict):
        fields["response_format"] = {**format, "json_schema": present(format["json_schema"])}


def json_text(value: Mapping[str, Any] | bool | str) -> str:
    """JSON that a client may send as it is, or as text."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _found(request: Constrained) -> list[tuple[str, str, str]]:
    outputs = request.structured_outputs or StructuredOutputs()
    found = [_of_format(request.response_format)] if request.response_format is not None else []
    given = {
        ("regex", "regex"): request.regex,
        ("ebnf", "ebnf"): request.ebnf,
        ("structural_tag", "structural_tag"): _maybe(json_text, request.structural_tag),
        ("json_schema", "guided_json"): _maybe(json_text, request.guided_json),
        ("regex", "guided_regex"): request.guided_regex,
        ("regex", "guided_choice"): _choices("guided_choice", request.guided_choice),
        ("ebnf", "guided_grammar"): request.guided_grammar,
        ("json_schema", "structured_outputs.json"): _maybe(json_text, outputs.json),
        ("json_schema", "structured_outputs.json_object"): ANY_OBJECT if outputs.json_object else None,
        ("regex", "structured_outputs.regex"): outputs.regex,
        ("regex", "structured_outputs.choice"): _choices("structured_outputs.choice", outputs.choice),
        ("ebnf", "structured_outputs.grammar"): outputs.grammar,
        ("structural_tag", "structured_outputs.structural_tag"): _maybe(json_text, outputs.structural_tag),
    }
    found += [(field, value, name) for (field, name), value in given.items() if value is not None]
    return [each for each in found if each is not None]


def _maybe(write: Any, value: T | None) -> str | None:
    return None if value is None else write(value)


def _of_format(format: ResponseFormat) -> tuple[str, str, str] | None:
    if format.type == "structural_tag":
        by_triggers = format.structures is not None and format.triggers is not None
        if not by_triggers and format.format is None:
            raise InvalidRequest("response_format", "a structural tag has a format, or structures and triggers")
        body: dict[str, Any] = {"type": "structural_tag", "format": format.format}
        if by_triggers:
            body = {"type": "structural_tag", "structures": format.structures, "triggers": format.triggers}
        return "structural_tag", json_text(body), "response_format"
    if format.format is not None or format.structures is not None or format.triggers is not None:
        raise InvalidRequest("response_format", f"a format of type {format.type} has no structural tag in it")
    if format.type == "text":
        return None
    if format.type == "json_object":
        return "json_schema", ANY_OBJECT, "response_format"
    if format.json_schema is None:
        raise InvalidRequest("response_format.json_schema", "this parameter is required", "missing_parameter")
    return "json_schema", json_text(format.json_schema.schema), "response_format"


def _choices(name: str, choices: list[str] | None) -> str | None:
    """One of these texts, as a pattern."""
    if choices is None:
        return None
    if not choices or not all(choices):
        raise InvalidRequest(name, "wanted at least one choice, none of them empty")
    return "|".join(map(re.escape, choices))
