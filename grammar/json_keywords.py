"""The one table of JSON Schema keywords: enforced, ignored because they say nothing about validity, or refused.

A keyword that is in no table has no meaning in JSON Schema and is ignored, as the standard says; where it looks like a
slip of the pen for one that has, a note says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NoReturn

from .errors import SchemaError

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

# keyword -> what its value must be (for messages), and a test of it
_Test = Callable[[object], bool]
Note = Callable[[str, str, str], None]  # pointer, keyword, message


_SCHEMA_TYPES = frozenset((dict, bool))


def _count(value: object) -> bool:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not isinstance(value, bool) and value >= 0  # type: ignore[operator]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _schema(value: object) -> bool:
    return isinstance(value, (dict, bool))


def _schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value) and _SCHEMA_TYPES.issuperset(map(type, value))


def _named_schemas(value: object) -> bool:
    return isinstance(value, dict) and _SCHEMA_TYPES.issuperset(map(type, value.values()))


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _named_strings(value: object) -> bool:
    return isinstance(value, dict) and all(map(_strings, value.values()))


def _dependencies(value: object) -> bool:
    return isinstance(value, dict) and all(_schema(v) or _strings(v) for v in value.values())


def _type(value: object) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(name in TYPES for name in names)


_A_STRING: tuple[str, _Test] = ("a string", lambda v: isinstance(v, str))
_A_COUNT: tuple[str, _Test] = ("a whole number, not negative", _count)
_A_NUMBER: tuple[str, _Test] = ("a number", _number)
_A_SCHEMA: tuple[str, _Test] = ("a schema (an object or a boolean)", _schema)
_SCHEMAS: tuple[str, _Test] = ("a list of schemas, not empty", _schemas)
_NAMED: tuple[str, _Test] = ("an object whose values are schemas", _named_schemas)

ENFORCED: Mapping[str, tuple[str, _Test]] = {
    "type": ("one of " + ", ".join(TYPES) + ", or a list of these", _type),
    "enum": ("a list, not empty", lambda v: isinstance(v, list) and bool(v)),
    "const": ("any value", lambda v: True),
    "$ref": _A_STRING,
    "allOf": _SCHEMAS,
    "anyOf": _SCHEMAS,
    "oneOf": _SCHEMAS,
    "minLength": _A_COUNT,
    "maxLength": _A_COUNT,
    "pattern": _A_STRING,
    "format": _A_STRING,
    "minimum": _A_NUMBER,
    "maximum": _A_NUMBER,
    "exclusiveMinimum": ("a number (in draft 4: a boolean)", lambda v: _number(v) or isinstance(v, bool)),
    "exclusiveMaximum": ("a number (in draft 4: a boolean)", lambda v: _number(v) or isinstance(v, bool)),
    "multipleOf": ("a number above 0", lambda v: _number(v) and v > 0),  # type: ignore[operator]
    "items": ("a schema, or a list of schemas", lambda v: _schema(v) or (isinstance(v, list) and all(map(_schema, v)))),
    "prefixItems": ("a list of schemas", lambda v: v == [] or _schemas(v)),
    "additionalItems": _A_SCHEMA,
    "minItems": _A_COUNT,
    "maxItems": _A_COUNT,
    "uniqueItems": ("a boolean", lambda v: isinstance(v, bool)),
    "properties": _NAMED,
    "required": ("a list of strings", _strings),
    "additionalProperties": _A_SCHEMA,
    "minProperties": _A_COUNT,
    "maxProperties": _A_COUNT,
    "discriminator": ("an object", lambda v: isinstance(v, (dict, str))),  # OpenAPI: its property is required
    "nullable": ("a boolean", lambda v: isinstance(v, bool)),  # OpenAPI: beside `type`, null is one more type
    "patternProperties": _NAMED,
    "propertyNames": _A_SCHEMA,
    "dependentRequired": ("an object whose values are lists of strings", _named_strings),
    "dependentSchemas": _NAMED,
    "dependencies": ("an object whose values are schemas or lists of strings", _dependencies),
    "unevaluatedProperties": _A_SCHEMA,
    "unevaluatedItems": _A_SCHEMA,
    "contains": _A_SCHEMA,
    "minContains": _A_COUNT,
    "maxContains": _A_COUNT,
    "not": _A_SCHEMA,
    "if": _A_SCHEMA,
    "then": _A_SCHEMA,
    "else": _A_SCHEMA,
    "$dynamicRef": _A_STRING,
    "$recursiveRef": _A_STRING,
}

# Keywords that hold schemas: one, a list of them, an object of them.
SUBSCHEMA = frozenset((
    "items", "additionalItems", "contains", "additionalProperties", "propertyNames", "unevaluatedProperties",
    "unevaluatedItems", "not", "if", "then", "else",
))  # fmt: skip
SUBSCHEMA_LIST = frozenset(("allOf", "anyOf", "oneOf", "prefixItems", "items"))
SUBSCHEMA_MAP = frozenset(
    ("properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions")
)

# Keywords that say nothing about which values are valid.
ANNOTATIONS = frozenset((
    "title", "description", "default", "examples", "example", "deprecated", "readOnly", "writeOnly",
    "$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$defs", "definitions",
    "$vocabulary", "contentMediaType", "contentEncoding", "contentSchema", "externalDocs", "xml",
))  # fmt: skip

REFUSED = frozenset(("disallow", "divisibleBy", "extends"))  # of draft 3

HINTS: Mapping[str, str] = {
    "disallow": "Write not.",
    "divisibleBy": "Write multipleOf.",
    "extends": "Write allOf.",
    "uniqueItems": "Enforced for items whose equal values can be told by their texts; see the documentation.",
}

_LOOKED_AT = sorted(k for k in (*ENFORCED, *REFUSED) if len(k) > 4 and k.isalnum())


def check_keywords(schema: Mapping[str, object], pointer: str, note: Note) -> None:
    """SchemaError for the first keyword of a schema object that is malformed or refused; a note for one misspelled."""
    for keyword, value in schema.items():
        known = ENFORCED.get(keyword)
        if known is not None:
            if not known[1](value):
                raise SchemaError(f"must be {known[0]}", pointer=pointer, keyword=keyword, value=value)
        elif keyword in REFUSED:
            refuse(keyword, value, pointer, "is no keyword since draft 4")
        elif keyword not in ANNOTATIONS:
            meant = _meant(keyword)
            if meant:
                note(pointer, keyword, f"is no keyword of JSON Schema and was ignored; did you mean {meant}?")


def refuse(keyword: str, value: object, pointer: str, why: str) -> NoReturn:
    raise SchemaError(why, pointer=pointer, keyword=keyword, value=value, hint=HINTS.get(keyword, ""))


@lru_cache(maxsize=4096)
def _meant(keyword: str) -> str:
    """The keyword that this one may be a slip for (one letter missing, added, replaced, or two exchanged), or ""."""
    plain = keyword.replace("_", "").replace("-", "").lower()
    if len(plain) < 5 or len(plain) > 24 or keyword.startswith(("x-", "_", "@", "$", "/", "#")):
        return ""
    index = _slips()
    return next((index[text] for text in _with_one_less(plain) if text in index), "")


@lru_cache(maxsize=1)
def _slips() -> Mapping[str, str]:
    """Keywords by their texts without any one letter."""
    return {text: known for known in reversed(_LOOKED_AT) for text in reversed(_with_one_less(known.lower()))}


def _with_one_less(text: str) -> list[str]:
    return [text, *(text[:i] + text[i + 1 :] for i in range(len(text)))]
