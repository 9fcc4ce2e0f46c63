"""The schemas that most documents are made of, read at a glance.

What is found here is exactly what the general way (schema_algebra.py, json_lengths.py) finds, for less; where a schema
isn't plain, nothing is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from .expressions import NOTHING
from .json_keywords import ENFORCED
from .json_layout import Style
from .rules import NEVER
from .schema_shapes import KINDS, Conjunction, Located

if TYPE_CHECKING:
    from .json_schema import SchemaWriter
    from .schema_document import Document

PRINTABLE = (1 << 127) - (1 << 32)  # bytes that every usual vocabulary has
MAX_DEPTH = 16  # levels of required members that are looked into

SHORTEST = {"null": 4, "boolean": 4, "number": 1, "integer": 1, "string": 2, "array": 2, "object": 2}
KINDS_OF: dict[str, tuple[str, ...]] = {"integer": ("number",), **{kind: (kind,) for kind in KINDS}}
_SCALAR = frozenset(("string", "number", "integer", "boolean", "null"))
_SCALAR_KEYWORDS = frozenset((
    "minLength", "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "multipleOf",
))  # fmt: skip
_EMPTY_ARRAY = frozenset(("items", "prefixItems", "additionalItems", "maxItems", "uniqueItems"))
_EMPTY_OBJECT = frozenset((
    "properties", "additionalProperties", "patternProperties", "propertyNames", "maxProperties", "dependentRequired",
    "dependentSchemas", "dependencies",
))  # fmt: skip
_NO_NUMBERS = (
    _EMPTY_ARRAY
    | _EMPTY_OBJECT
    | {"required", "minItems", "minProperties", "minLength", "maxLength", "pattern", "format"}
)
_SOME_MEMBERS = frozenset(("properties", "required", "additionalProperties"))
_SOME_ITEMS = frozenset(("items", "minItems", "maxItems"))

Content: TypeAlias = tuple[Any, ...]


def content_of(schema: Any) -> Content | None:
    """All that matters of a schema that admits nothing but scalars and says so by `type` or by its texts."""
    if not isinstance(schema, dict):
        return None
    kind = schema.get("type")
    texts = schema.get("enum")
    if texts is not None and (kind is None or kind == "string"):
        for keyword in schema:
            if keyword in ENFORCED and keyword not in ("enum", "type"):
                return None
        return ("enum", *texts) if all(text.__class__ is str for text in texts) else None
    if kind.__class__ is not str or kind not in _SCALAR:
        return None
    result: list[Any] = [kind]
    for keyword, value in schema.items():
        if keyword in _SCALAR_KEYWORDS:
            result += (keyword, value, value.__class__)
        elif keyword != "type" and keyword in ENFORCED:
            return None
    return tuple(result)


class PlainLengths:
    """Bytes of the shortest text of a plain schema's value; 0 where the general way has to find it."""

    def __init__(self, writer: SchemaWriter, document: Document) -> None:
        self._writer, self._document = writer, document
        self._known: dict[Located, int] = {}
        self._depth = 0
        layout, shortest = writer.layout, writer.rules.shortest
        self._is_off = layout.is_indented or PRINTABLE & ~writer.rules.expressions.alphabet != 0
        if not self._is_off:
            style = Style()
            self._colon, self._comma = shortest[layout.colon], shortest[layout.comma(style)]
            self._brackets = 2 + shortest[layout.first(style)] + shortest[layout.last(style)]

    def length(self, conjunction: Conjunction) -> int:
        if self._is_off:
            return 0
        if not conjunction:
            return 1
        return self._of(conjunction[0]) if len(conjunction) == 1 else 0

    def _of(self, at: Located) -> int:
        known = self._known.get(at)
        if known is None:
            if at.schema is True:
                return 1
            if at.negated or not isinstance(at.schema, dict) or self._depth > MAX_DEPTH:
                return 0
            self._known[at] = 0  # while it is being found: recursion is for the general way
            self._depth += 1
            known = self._known[at] = self._find(at)
            self._depth -= 1
        return known

    def _find(self, at: Located) -> int:
        schema = at.schema
        said = [keyword for keyword in schema if keyword in ENFORCED and keyword != "type"]
        types = schema.get("type")
        if types is None:
            if said == ["anyOf"] or said == ["oneOf"]:
                return self._alternatives(at, said[0])
            if said == ["enum"] or said == ["const"]:
                return _constant(schema, "")
            return 1 if _NO_NUMBERS.issuperset(said) else 0  # a digit
        if isinstance(types, list):
            return 0 if said else min(SHORTEST[kind] for kind in types)
        if not said:
            return SHORTEST[types]
        if said == ["enum"] or said == ["const"]:
            return _constant(schema, types)
        if types == "object":
            return self._object(at, said)
        if types == "array":
            return self._array(at, said)
        if content_of(schema) is None:
            return 0
        expression = self._writer.scalars((at,), False)
        return 0 if expression == NOTHING else self._writer.rules.expressions.shortest[expression]

    def _child(self, at: Located, schema: Any, *path: str) -> int:
        return self._of(self._document.child(at, schema, *path))

    def _alternatives(self, at: Located, keyword: str) -> int:
        members = [self._document.child(at, m, keyword, str(i)) for i, m in enumerate(at.schema[keyword])]
        if keyword == "oneOf":
            kinds = [kind for member in members for kind in self._writer.algebra.kinds((member,))]
            if len(set(kinds)) < len(kinds):
                return 0
        return min(map(self._of, members))

    def _array(self, at: Located, said: list[str]) -> int:
        if _EMPTY_ARRAY.issuperset(said):
            return 2
        schema = at.schema
        least = schema.get("minItems", 0)
        if not _SOME_ITEMS.issuperset(said) or schema.get("maxItems", least) < least:
            return 0
        items = schema.get("items", True)
        if least == 0 or isinstance(items, list):
            return 2 if least == 0 else 0
        length = self._child(at, items, "items")
        return int(self._brackets + least * length + (least - 1) * self._comma) if length else 0

    def _object(self, at: Located, said: list[str]) -> int:
        if _EMPTY_OBJECT.issuperset(said):
            return 2
        if not _SOME_MEMBERS.issuperset(said):
            return 0
        schema, shortest = at.schema, self._writer.rules.shortest
        properties = schema.get("properties", {})
        names = dict.fromkeys(schema["required"])
        if not names:
            return 2
        total = self._brackets + (len(names) - 1) * self._comma + len(names) * self._colon
        for name in names:
            if name in properties:
                length = self._child(at, properties[name], "properties", name)
            else:
                length = int(schema.get("additionalProperties", True) is True)
            key = self._writer.name_text(name)
            if not length or key == NEVER:
                return 0
            total += shortest[key] + length
        return total


def _constant(schema: dict[str, Any], kind: str) -> int:
    """Of enum and const, where all values are plain texts, or all whole numbers, and of the type that is wanted."""
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if kind in ("", "string") and all(value.__class__ is str and is_plain(value) for value in values):
        return 2 + min(map(len, values))
    if kind in ("", "integer", "number") and all(value.__class__ is int for value in values):
        return min(len(str(value)) for value in values)
    return 0


def is_plain(text: str) -> bool:
    """Whether JSON writes a text as it is, in as many bytes."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
