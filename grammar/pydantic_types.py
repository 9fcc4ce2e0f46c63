"""Types that pydantic describes and reads: its models, its dataclasses, and Annotated with its notes.

pydantic is never imported here: whoever hands over such a type has loaded it.  Its schemas are taken as they are but
for four things: objects with properties are closed unless they say otherwise; a Decimal is a number (pydantic admits
digits in a string too, by a pattern with a lookahead); the keys of a dict are those that its key type reads; a
timedelta has no years and months."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any

from .errors import GrammarError
from .scalar_types import SCALARS
from .type_shapes import NO, YES, Definitions, Field, Schema, Shape, tags_fit

__all__ = ["Foreign", "is_pydantic_class", "is_pydantic_note"]


def is_pydantic_class(tp: Any) -> bool:
    return isinstance(tp, type) and hasattr(tp, "__pydantic_validator__")


def is_pydantic_note(note: Any) -> bool:
    """Whether a note of Annotated may constrain the value in a way that pydantic knows."""
    return type(note).__module__.partition(".")[0] in ("pydantic", "annotated_types")


class Foreign(Shape):
    """path       of messages
    fields_of  a class's fields as far as a value that still grows may show them, by JSON's names
    inner      what Annotated stands around; None: it is a class"""

    def __init__(
        self, tp: Any, name: str, path: str, *, fields_of: Callable[[], dict[str, Field]], inner: Shape | None = None
    ) -> None:
        self.tp, self.name, self.path, self.inner = tp, name, path, inner
        self._fields_of = fields_of

    @cached_property
    def adapter(self) -> Any:
        try:
            return sys.modules["pydantic"].TypeAdapter(self.tp)
        except Exception as error:  # pydantic's own, and what the hooks of foreign classes raise
            raise GrammarError(f"{self.path}: pydantic cannot use {self.name}: {error}") from error

    @cached_property
    def fields(self) -> dict[str, Field]:
        return self._fields_of()

    @property
    def is_object(self) -> bool:
        """A class whose values are JSON objects: no RootModel."""
        return self.inner is None and set(self.fields) != {"root"}

    def schema(self, definitions: Definitions) -> Schema:
        if self.inner is None:
            return definitions.reference(self, lambda: self._own_schema(definitions))
        return self._own_schema(definitions)

    def _own_schema(self, definitions: Definitions) -> Schema:
        """Pydantic's schema, its definitions moved to ours."""
        adapter = self.adapter
        try:
            schema = adapter.json_schema(schema_generator=_generator())
        except Exception as error:
            raise GrammarError(f"{self.path}: pydantic has no schema for {self.name}: {error}") from error
        defined = schema.pop("$defs", {})
        renamed = {name: definitions.free_name(name) for name in defined}
        for name, definition in defined.items():
            definitions.found[renamed[name]] = _closed(definition, renamed)
        closed = _closed(schema, renamed)
        assert isinstance(closed, dict)
        return closed

    def read(self, data: Any, path: str) -> Any:
        return self._validated(data, path, None)

    def read_strictly(self, data: Any, path: str) -> Any:
        return self._validated(data, path, True)

    def build(self, values: Mapping[str, Any]) -> Any:
        """Of the fields' values by JSON's names; what pydantic raises if they are none."""
        return self.adapter.validate_python(dict(values))

    def fits(self, data: Any) -> int:
        if self.inner is not None:
            return self.inner.fits(data)
        if not self.is_object:
            return YES
        return YES if isinstance(data, dict) and tags_fit(self.fields, data) else NO

    def _validated(self, data: Any, path: str, strict: bool | None) -> Any:
        adapter = self.adapter
        try:
            return adapter.validate_json(json.dumps(data), strict=strict)
        except sys.modules["pydantic"].ValidationError as error:
            problems = [f"{_place(path, problem['loc'])}: {problem['msg']}" for problem in error.errors()]
            raise GrammarError("; ".join(problems)) from error


def _place(path: str, steps: tuple[int | str, ...]) -> str:
    return path + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


@cache
def _generator() -> Any:
    """Its methods are those of pydantic's GenerateJsonSchema, which a TypeAdapter has loaded."""
    base: Any = sys.modules["pydantic.json_schema"].GenerateJsonSchema

    class Generator(base):  # type: ignore[misc]
        """The places where pydantic's schema cannot be enforced, or admits what pydantic does not read."""

        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            made: dict[str, Any] = super().decimal_schema(schema)
            return next((arm for arm in made.get("anyOf", []) if arm.get("type") == "number"), made)

        def timedelta_schema(self, schema: Any) -> dict[str, Any]:
            return dict(SCALARS[datetime.timedelta].schema)

        def dict_schema(self, schema: Any) -> dict[str, Any]:
            made: dict[str, Any] = super().dict_schema(schema)
            if schema.get("keys_schema", {}).get("type") == "int":
                made["propertyNames"] = {"pattern": "^(?:0|-?[1-9][0-9]*)$"}
            return made

    return Generator


def _closed(schema: Any, renamed: Mapping[str, str]) -> Any:
    """A pydantic schema with renamed references, every object with properties closed unless it says otherwise."""
    if isinstance(schema, list):
        return [_closed(item, renamed) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            name = value.removeprefix("#/$defs/")
            result[key] = f"#/$defs/{renamed.get(name, name)}"
        elif key == "properties":
            result[key] = {name: _closed(child, renamed) for name, child in value.items()}
        elif key in ("default", "examples", "enum", "const", "discriminator", "title", "description"):
            result[key] = value
        else:
            result[key] = _closed(value, renamed)
    if "properties" in result:
        result.setdefault("additionalProperties", False)
    if result.get("format") in _UNREAD_FORMATS:
        del result["format"]
    return result


# pydantic's names for what any string may be as far as JSON Schema goes; a path that must exist is not checked here.
_UNREAD_FORMATS = frozenset({"path", "file-path", "directory-path", "json-string"})
