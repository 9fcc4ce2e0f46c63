"""Python types -> JSON Schema, and JSON text -> values of those types.

    schema_of(tp)           a schema that Constraint.json_schema compiles
    parse_value(tp, text)   the value that a text generated under it stands for

Known: None, bool, int, float, str, Any, Literal, Enum, list, tuple, dict[str, ...], Optional, Union, Annotated with
pydantic or annotated-types constraints as far as pydantic itself describes them, TypedDict, NamedTuple, dataclasses,
pydantic models, and date, time, datetime, UUID.  Anything else is refused with the path to it: `Order.items[].price`.
Objects of classes are closed (additionalProperties: false): what comes back is that type and nothing more.
pydantic is never imported here; its models are known by their methods."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import sys
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from .errors import GrammarError

_SIMPLE: dict[object, dict[str, Any]] = {
    type(None): {"type": "null"},
    None: {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}


def schema_of(tp: Any) -> dict[str, Any]:
    """The JSON Schema of a type.  GrammarError naming the part of it that has none."""
    return _SchemaOf().root(tp)


def parse_value(tp: Any, text: str) -> Any:
    """The value of type `tp` that JSON text stands for.  GrammarError if it does not."""
    if _is_pydantic(tp):
        return tp.model_validate_json(text)
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"not JSON: {error}") from None
    return _value_of(tp, data, _name(tp))


class _SchemaOf:
    """One schema in the making; classes become $defs, so that they may recur."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}
        self.names: dict[Any, str] = {}

    def root(self, tp: Any) -> dict[str, Any]:
        schema = self.of(tp, _name(tp))
        return {**schema, "$defs": self.definitions} if self.definitions else schema

    def of(self, tp: Any, path: str) -> dict[str, Any]:
        try:
            if tp in _SIMPLE:
                return dict(_SIMPLE[tp])
        except TypeError:  # not hashable
            raise _no_schema(tp, path) from None
        if tp is Any or tp is object:
            return {}
        origin, args = get_origin(tp), get_args(tp)
        if origin is typing.Annotated:
            return self._annotated(tp, path)
        if origin is Literal:
            return {"enum": [_plain(value, path) for value in args]}
        if origin is Union or origin is types.UnionType:
            return {"anyOf": [self.of(arg, path) for arg in args]}
        if _is_class(tp) and issubclass(tp, enum.Enum):
            return self._class(tp, path, lambda: {"enum": [_plain(member.value, path) for member in tp]})
        if _is_pydantic(tp):
            return self._class(tp, path, lambda: self._pydantic(tp.model_json_schema()))
        if dataclasses.is_dataclass(tp) and _is_class(tp):
            return self._class(tp, path, lambda: self._dataclass(tp, path))
        if _is_typeddict(tp):
            hints = _hints(tp, path)
            required = [name for name in hints if name in tp.__required_keys__]
            return self._class(tp, path, lambda: self._object(hints, required, _name(tp)))
        if _is_class(tp) and issubclass(tp, tuple) and hasattr(tp, "_fields"):
            hints = _hints(tp, path)
            missing = [f for f in tp._fields if f not in hints]
            if missing:
                raise GrammarError(f"{path}.{missing[0]} has no type")
            items = [self.of(hints[f], f"{path}.{f}") for f in tp._fields]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        return self._container(tp, origin or tp, args, path)

    def _container(self, tp: Any, origin: Any, args: tuple[Any, ...], path: str) -> dict[str, Any]:
        if origin in (list, Sequence, typing.Sequence):
            return {"type": "array", **({"items": self.of(args[0], f"{path}[]")} if args else {})}
        if origin is tuple:
            if not args:
                return {"type": "array"}
            if len(args) == 2 and args[1] is Ellipsis:
                return {"type": "array", "items": self.of(args[0], f"{path}[]")}
            items = [self.of(arg, f"{path}[{i}]") for i, arg in enumerate(args) if arg != ()]
            return {
                "type": "array",
                **({"prefixItems": items} if items else {}),
                "minItems": len(items),
                "maxItems": len(items),
            }
        if origin in (dict, Mapping):
            if args and args[0] is not str:
                raise GrammarError(f"{path}: the keys of a JSON object are str, not {_name(args[0])}")
            return {"type": "object", **({"additionalProperties": self.of(args[1], f"{path}{{}}")} if args else {})}
        raise _no_schema(tp, path)

    def _class(self, tp: Any, path: str, make: Any) -> dict[str, Any]:
        """A reference to the definition of a class, made the first time that it is met."""
        name = self.names.get(tp)
        if name is None:
            name = _name(tp)
            while name in self.definitions:
                name += "_"
            self.names[tp] = name
            self.definitions[name] = {}
            self.definitions[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def _dataclass(self, tp: Any, path: str) -> dict[str, Any]:
        hints = _hints(tp, path)
        fields = [f for f in dataclasses.fields(tp) if f.init]
        optional = {f.name for f in fields if f.default is not dataclasses.MISSING
                    or f.default_factory is not dataclasses.MISSING}  # fmt: skip
        names = [f.name for f in fields]
        return self._object({n: hints[n] for n in names}, [n for n in names if n not in optional], _name(tp))

    def _object(self, hints: Mapping[str, Any], required: list[str], path: str) -> dict[str, Any]:
        properties = {name: self.of(_bare(hint), f"{path}.{name}") for name, hint in hints.items()}
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def _pydantic(self, schema: dict[str, Any]) -> dict[str, Any]:
        """A model's own schema, its definitions moved to ours, its objects closed where nothing else is said."""
        renamed: dict[str, str] = {}
        for name in schema.get("$defs", {}):
            new = name
            while new in self.definitions:
                new += "_"
            renamed[name] = new
            self.definitions[new] = {}
        for name, definition in schema.pop("$defs", {}).items():
            self.definitions[renamed[name]] = _closed(definition, renamed)
        closed = _closed(schema, renamed)
        assert isinstance(closed, dict)
        return closed

    def _annotated(self, tp: Any, path: str) -> dict[str, Any]:
        inner, *notes = get_args(tp)
        if not any(_means_something(note) for note in notes):
            return self.of(inner, path)
        pydantic = sys.modules.get("pydantic")
        if pydantic is None:
            raise GrammarError(f"{path}: {notes[0]!r} is not understood without pydantic")
        return self._pydantic(pydantic.TypeAdapter(tp).json_schema())


def _means_something(note: Any) -> bool:
    """Whether an annotation of Annotated may constrain the value: it comes from pydantic or annotated-types."""
    return type(note).__module__.partition(".")[0] in ("pydantic", "annotated_types")


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
    return result


# ---- values ------------------------------------------------------------------------------------------------------


def _value_of(tp: Any, data: Any, path: str) -> Any:
    origin, args = get_origin(tp), get_args(tp)
    if tp is Any or tp is object:
        return data
    if origin is typing.Annotated:
        notes = args[1:]
        pydantic = sys.modules.get("pydantic")
        if pydantic is not None and any(map(_means_something, notes)):
            return pydantic.TypeAdapter(tp).validate_json(json.dumps(data))
        return _value_of(args[0], data, path)
    if origin is Literal:
        for value in args:
            if _plain(value, path) == data and type(_plain(value, path)) is type(data):
                return value
        raise _wrong(tp, data, path)
    if origin is Union or origin is types.UnionType:
        for arg in args:
            try:
                return _value_of(arg, data, path)
            except (GrammarError, ValueError):
                continue
        raise _wrong(tp, data, path)
    if tp is None or tp is type(None):
        if data is not None:
            raise _wrong(tp, data, path)
        return None
    if _is_class(tp) and issubclass(tp, enum.Enum):
        for member in tp:
            if _plain(member.value, path) == data and type(_plain(member.value, path)) is type(data):
                return member
        raise _wrong(tp, data, path)
    if _is_pydantic(tp):
        return tp.model_validate_json(json.dumps(data))
    if tp in (bool, int, str):
        if tp is int and type(data) is float and data.is_integer():
            return int(data)  # 1.0 is an integer in JSON Schema
        if type(data) is not tp:
            raise _wrong(tp, data, path)
        return data
    if tp is float:
        if type(data) not in (int, float):
            raise _wrong(tp, data, path)
        return float(data)
    return _composed(tp, origin or tp, args, data, path)


def _composed(tp: Any, origin: Any, args: tuple[Any, ...], data: Any, path: str) -> Any:
    """Values of containers and classes."""
    if tp in (datetime.datetime, datetime.date, datetime.time, uuid.UUID):
        if not isinstance(data, str):
            raise _wrong(tp, data, path)
        if tp is uuid.UUID:
            return uuid.UUID(data)
        return tp.fromisoformat(_microseconds(data) if tp is not datetime.date else data)
    if dataclasses.is_dataclass(tp) or _is_typeddict(tp):
        if not isinstance(data, dict):
            raise _wrong(tp, data, path)
        hints = {name: _bare(hint) for name, hint in _hints(tp, path).items()}
        unknown = [name for name in data if name not in hints]
        if unknown:
            raise GrammarError(f"{path} has no {unknown[0]!r}")
        values = {name: _value_of(hints[name], item, f"{path}.{name}") for name, item in data.items()}
        if _is_typeddict(tp):
            return values
        try:
            return tp(**values)
        except TypeError as error:
            raise GrammarError(f"{path}: {error}") from None
    if _is_class(tp) and issubclass(tp, tuple) and hasattr(tp, "_fields"):
        hints = _hints(tp, path)
        if not isinstance(data, list) or len(data) != len(tp._fields):
            raise _wrong(tp, data, path)
        pairs = zip(tp._fields, data, strict=True)
        return tp(*(_value_of(hints[name], item, f"{path}.{name}") for name, item in pairs))
    if origin in (list, Sequence, typing.Sequence, tuple):
        if not isinstance(data, list):
            raise _wrong(tp, data, path)
        if origin is tuple and args and not (len(args) == 2 and args[1] is Ellipsis):
            wanted = [arg for arg in args if arg != ()]
            if len(data) != len(wanted):
                raise _wrong(tp, data, path)
            return tuple(
                _value_of(arg, item, f"{path}[{i}]") for i, (arg, item) in enumerate(zip(wanted, data, strict=True))
            )
        items = [_value_of(args[0], item, f"{path}[]") for item in data] if args else data
        return tuple(items) if origin is tuple else items
    if origin in (dict, Mapping):
        if not isinstance(data, dict):
            raise _wrong(tp, data, path)
        return {name: _value_of(args[1], item, f"{path}{{}}") for name, item in data.items()} if args else data
    raise _no_schema(tp, path)


def _microseconds(text: str) -> str:
    """A time as datetime reads it on every Python: 6 digits of fraction, Z as an offset."""
    text = text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text
    head, point, tail = text.partition(".")
    if not point:
        return text
    digits = tail[: next((i for i, c in enumerate(tail) if not c.isdigit()), len(tail))]
    return f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}"


# ---- helpers -----------------------------------------------------------------------------------------------------


def _is_class(tp: Any) -> bool:
    return isinstance(tp, type) and get_origin(tp) is None  # in Python 3.10 list[int] passes for a type


def _is_typeddict(tp: Any) -> bool:
    """typing's or typing_extensions', which typing does not know for one."""
    return typing.is_typeddict(tp) or (_is_class(tp) and issubclass(tp, dict) and hasattr(tp, "__required_keys__"))


def _is_pydantic(tp: Any) -> bool:
    return _is_class(tp) and hasattr(tp, "model_json_schema") and hasattr(tp, "model_validate_json")


def _plain(value: Any, path: str) -> Any:
    """A Literal's or Enum's value as JSON has it."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise GrammarError(f"{path}: {value!r} is no JSON string, number, boolean or null")


def _bare(hint: Any) -> Any:
    """A TypedDict's field type without Required[...], NotRequired[...]."""
    name = getattr(get_origin(hint), "_name", None)
    return get_args(hint)[0] if name in ("Required", "NotRequired", "ReadOnly") else hint


def _hints(tp: Any, path: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(tp, include_extras=True)
    except (NameError, TypeError) as error:
        raise GrammarError(f"{path}: its annotations cannot be read: {error}") from None


def _name(tp: Any) -> str:
    return getattr(tp, "__name__", None) or str(tp).replace("typing.", "")


def _wrong(tp: Any, data: Any, path: str) -> GrammarError:
    return GrammarError(f"{path}: {json.dumps(data)[:80]} is no {_name(tp)}")


def _no_schema(tp: Any, path: str) -> GrammarError:
    return GrammarError(
        f"{path}: {_name(tp)} has no JSON Schema here; use bool, int, float, str, None, Literal, Enum, list, tuple, "
        "dict[str, ...], Optional, Union, TypedDict, NamedTuple, a dataclass or a pydantic model"
    )
