"""Which JSON Schemas outlines-core enforces: it drops what it does not know, so what it does not know is refused here.

Admitted: null, boolean, integer, number; strings with lengths or as a uuid; enum and const; arrays of one item schema
with minItems and maxItems; objects with properties and required; anyOf; $ref without recursion.
outlines-core writes less than such a schema admits: no escapes \\uXXXX, exponents with a sign only, at most one blank
between tokens, only the named properties, in their order.  That is narrower and never invalid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import SchemaError

__all__ = ["check_covered"]

_SAY_NOTHING = {
    "$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated", "description", "examples",
    "readOnly", "title", "writeOnly",
}  # fmt: skip
_OF_TYPE = {
    "null": set(), "boolean": set(), "integer": set(), "number": set(), "string": {"minLength", "maxLength", "format"},
    "array": {"items", "minItems", "maxItems"}, "object": {"properties", "required", "additionalProperties"},
}  # fmt: skip


def check_covered(schema: Any, pointer: str = "#") -> None:
    """SchemaError with the pointer of the first part that outlines-core does not enforce."""
    if not isinstance(schema, dict) or not schema:
        raise _refused(pointer, "", schema, "only schemas that say a type")
    said = {key for key in schema if key not in _SAY_NOTHING}
    for key, below in (("$defs", schema.get("$defs")), ("definitions", schema.get("definitions"))):
        for name, each in (below if isinstance(below, dict) else {}).items():
            check_covered(each, f"{pointer}/{key}/{name}")
    if "$ref" in said:
        _only(said, {"$ref"}, schema, pointer)
    elif "anyOf" in said:
        _only(said, {"anyOf"}, schema, pointer)
        for index, each in enumerate(schema["anyOf"]):
            check_covered(each, f"{pointer}/anyOf/{index}")
    elif "enum" in said or "const" in said:
        _only(said, {"enum"} if "enum" in said else {"const"}, schema, pointer)
    else:
        _check_type(schema, said, pointer)


def _check_type(schema: Mapping[str, Any], said: set[str], pointer: str) -> None:
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _OF_TYPE:
        raise _refused(pointer, "type", kind, "only one type, by name")
    _only(said, {"type", *_OF_TYPE[kind]}, schema, pointer)
    if schema.get("format", "uuid") != "uuid":
        raise _refused(pointer, "format", schema["format"], "only uuid")
    if "format" in said and len(said) > 2:
        raise _refused(pointer, "format", schema["format"], "not beside a length")
    if kind == "array":
        if "items" not in said:
            raise _refused(pointer, "items", None, "only arrays that say their items")
        check_covered(schema["items"], f"{pointer}/items")
    if kind == "object":
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            raise _refused(pointer, "properties", properties, "only objects that name their properties")
        for name, each in properties.items():
            check_covered(each, f"{pointer}/properties/{name}")
        for name in schema.get("required", []):
            if name not in properties:
                raise _refused(pointer, "required", name, "only properties that are named")
        if not isinstance(schema.get("additionalProperties", False), bool):
            raise _refused(pointer, "additionalProperties", schema["additionalProperties"], "only true or false")


def _only(said: set[str], known: set[str], schema: Mapping[str, Any], pointer: str) -> None:
    for key in schema:
        if key in said and key not in known:
            raise _refused(pointer, key, schema[key], "beside " + ", ".join(sorted(known & said)))


def _refused(pointer: str, keyword: str, value: Any, what: str) -> SchemaError:
    return SchemaError(
        f'backend="outlines" does not enforce this ({what})',
        pointer=pointer,
        keyword=keyword,
        value=value,
        hint='backend="forktree" may.',
    )
