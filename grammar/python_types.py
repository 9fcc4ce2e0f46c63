"""Python types -> JSON Schema, and JSON text -> values of those types.

    schema_of(tp)           a schema that Constraint.json_schema compiles
    parse_value(tp, text)   the value that a text generated under it stands for

Known: None, bool, int, float, str, Decimal, date, time, datetime, timedelta, UUID, paths, IP addresses, Any, Literal,
Enum, list, tuple, set, frozenset, deque and their abstract kin, dicts with keys that text stands for, Optional, Union,
TypedDict, NamedTuple, dataclasses (generic ones too), NewType, `type X = ...`, Annotated with annotated-types, and what
pydantic describes: models, its dataclasses, Annotated with its notes.
Anything else is refused with the path to it: `Order.items[].price`.
Objects of classes are closed (additionalProperties: false): what comes back is that type and nothing more.

Here: which annotation has which shape.  Not here: what the shapes do (type_shapes), scalars (scalar_types)."""

from __future__ import annotations

import collections
import collections.abc as abc
import dataclasses
import enum
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from .errors import GrammarError
from .pydantic_types import Foreign, is_pydantic_class, is_pydantic_note
from .scalar_types import json_data, scalar_type
from .type_bounds import key_of, limits_of
from .type_shapes import (
    Alias,
    Anything,
    Array,
    Bounded,
    Choice,
    Definitions,
    Field,
    Map,
    OneOf,
    Record,
    Scalar,
    Shape,
    Tuple,
)

__all__ = ["parse_value", "schema_of", "shape_of"]

_QUALIFIERS = ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")

_ARRAYS: dict[Any, Callable[[list[Any]], Any]] = {
    **dict.fromkeys((list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Reversible), list),
    **dict.fromkeys((set, abc.Set, abc.MutableSet), set),
    frozenset: frozenset,
    collections.deque: collections.deque,
}
_MAPS: dict[Any, Callable[[dict[Any, Any]], Any]] = {
    **dict.fromkeys((dict, abc.Mapping, abc.MutableMapping), dict),
    collections.OrderedDict: collections.OrderedDict,
}


def schema_of(tp: Any) -> dict[str, Any]:
    """The JSON Schema of a type.  GrammarError naming the part of it that has none."""
    definitions = Definitions()
    schema = shape_of(tp).schema(definitions)
    return {**schema, "$defs": definitions.found} if definitions.found else schema


def parse_value(tp: Any, text: str) -> Any:
    """The value of type `tp` that JSON text stands for.  GrammarError if it does not; what the type's own code raises
    (a dataclass's __post_init__) passes through."""
    data = json_data(text)
    try:
        return shape_of(tp).read(data, _name(tp))
    except RecursionError:
        raise GrammarError(f"{_name(tp)}: the value is nested too deeply") from None


def shape_of(tp: Any) -> Shape:
    """GrammarError naming the part of the type that has none."""
    try:
        return _Shapes().of(tp, _name(tp))
    except RecursionError:
        raise GrammarError(f"{_name(tp)}: the type is nested too deeply, or is nothing but itself") from None


class _Shapes:
    """The shapes of one type in the making; a class or alias has one, however often it is met, so that it may recur."""

    def __init__(self) -> None:
        self._made: dict[Any, Shape] = {}
        self._owner: Any = None  # the class whose fields are looked at: what Self means

    def of(self, tp: Any, path: str) -> Shape:
        try:
            if tp in self._made:
                return self._made[tp]
            scalar = scalar_type(tp)
        except TypeError:  # not hashable, as Annotated[int, Field(gt=0)] may be
            scalar = None
        if scalar is not None:
            return Scalar(_name(tp), scalar)
        if tp is Any or tp is object:
            return Anything()
        if isinstance(tp, dataclasses.InitVar):
            return self.of(tp.type, path)
        if getattr(tp, "_name", None) == "Self" and self._owner is not None:
            return self.of(self._owner, path)
        if isinstance(tp, (str, typing.ForwardRef)):
            return self._named(tp if isinstance(tp, str) else tp.__forward_arg__, path)
        if _is_alias(tp) or _is_alias(get_origin(tp)):
            return self._alias(tp, path)
        if hasattr(tp, "__supertype__"):
            return self.of(tp.__supertype__, path)
        return self._special(tp, get_origin(tp), get_args(tp), path)

    def _special(self, tp: Any, origin: Any, args: tuple[Any, ...], path: str) -> Shape:
        if origin is typing.Annotated:
            return self._annotated(tp, path)
        if getattr(origin, "_name", None) in _QUALIFIERS or origin in (typing.Final, typing.ClassVar):
            return self.of(args[0], path)
        if origin is Literal:
            return Choice(_name(tp), [(_json(value, path), value) for value in args])
        if origin is Union or origin is types.UnionType:
            return OneOf(_union_name(args), [self.of(arg, path) for arg in args])
        cls = origin or tp
        if not isinstance(cls, type):
            raise _no_schema(tp, path)
        if is_pydantic_class(cls):
            return self._keep(tp, Foreign(tp, _name(tp), path, fields_of=lambda: self._model_fields(tp)))
        if issubclass(cls, enum.Enum):
            values = [(_json(member.value, path), member) for member in cls]
            return self._keep(tp, Choice(_name(tp), values, defined=True))
        if dataclasses.is_dataclass(cls):
            return self._dataclass(tp, cls, path)
        if _is_typeddict(cls):
            return self._typeddict(tp, cls, path)
        if issubclass(cls, tuple):
            return self._tuple(tp, cls, args, path)
        return self._container(tp, cls, args, path)

    def _keep(self, tp: Any, shape: Shape) -> Shape:
        self._made[tp] = shape
        return shape

    # ---- classes

    def _dataclass(self, tp: Any, cls: Any, path: str) -> Shape:
        record = Record(_name(tp), lambda values: cls(**values))
        self._keep(tp, record)
        hints = self._hints(tp, cls, path)
        for name, each in cls.__dataclass_fields__.items():
            takes = isinstance(hints[name], dataclasses.InitVar) or each in dataclasses.fields(cls)
            if each.init and takes:  # neither a ClassVar nor set by the class itself
                required = each.default is each.default_factory is dataclasses.MISSING
                record.fields[name] = Field(self._of_field(tp, hints[name], f"{path}.{name}"), required, name)
        return record

    def _typeddict(self, tp: Any, cls: Any, path: str) -> Shape:
        record = Record(_name(tp), dict, is_dict=True)
        self._keep(tp, record)
        for name, hint in self._hints(tp, cls, path).items():
            said = [_qualifier(each) for each in _layers(hint)]  # __required_keys__ is wrong where annotations are text
            required = "Required" in said or ("NotRequired" not in said and name in cls.__required_keys__)
            record.fields[name] = Field(self._of_field(tp, hint, f"{path}.{name}"), required, name)
        return record

    def _tuple(self, tp: Any, cls: Any, args: tuple[Any, ...], path: str) -> Shape:
        if hasattr(cls, "_fields"):
            hints = self._hints(tp, cls, path)
            missing = [name for name in cls._fields if name not in hints]
            if missing:
                raise GrammarError(f"{path}.{missing[0]} has no type")
            shape = Tuple(_name(tp), [], lambda items: cls(*items), labels=cls._fields)
            self._keep(tp, shape)
            shape.items = [self._of_field(tp, hints[name], f"{path}.{name}") for name in cls._fields]
            return shape
        if cls is not tuple:
            raise _no_schema(tp, path)
        if not args and tp in (tuple, typing.Tuple):  # noqa: UP006 - typing's own may be what a user wrote
            return Array("tuple", Anything(), tuple)
        if len(args) == 2 and args[1] is Ellipsis:
            return Array(_name(tp), self.of(args[0], f"{path}[]"), tuple)
        return Tuple(_name(tp), [self.of(arg, f"{path}[{i}]") for i, arg in enumerate(args) if arg != ()], tuple)

    def _of_field(self, owner: Any, hint: Any, path: str) -> Shape:
        before, self._owner = self._owner, owner
        try:
            return self.of(hint, path)
        finally:
            self._owner = before

    def _model_fields(self, model: Any) -> dict[str, Field]:
        fields = {}
        for attribute, info in model.__pydantic_fields__.items():
            alias = info.validation_alias if isinstance(info.validation_alias, str) else info.alias
            try:
                shape = _Shapes().of(info.annotation, attribute)
            except GrammarError:  # pydantic may know more types than are known here
                shape = Anything()
            fields[alias or attribute] = Field(shape, info.is_required(), attribute)
        return fields

    def _hints(self, tp: Any, cls: Any, path: str) -> dict[str, Any]:
        """The annotations of a class, those of its bases included, its type parameters replaced by their arguments."""
        try:
            try:
                hints = typing.get_type_hints(cls, include_extras=True)
            except NameError:  # a class inside a function may still name itself, and any its type parameters
                names = {each.__name__: each for each in (cls, *getattr(cls, "__type_params__", ()))}
                hints = typing.get_type_hints(cls, localns=names, include_extras=True)
        except (NameError, TypeError, AttributeError) as error:
            raise GrammarError(
                f"{path}: its annotations cannot be read: {error}; define what they name in the module"
            ) from None
        arguments = _type_arguments(tp)
        return {name: _substituted(hint, arguments) for name, hint in hints.items()} if arguments else hints

    # ---- containers, aliases, notes

    def _container(self, tp: Any, cls: Any, args: tuple[Any, ...], path: str) -> Shape:
        if cls in _ARRAYS:
            item = self.of(args[0], f"{path}[]") if args else Anything()
            return Array(_name(tp), item, _ARRAYS[cls], unique=_ARRAYS[cls] in (set, frozenset))
        if cls in _MAPS:
            key = key_of(self.of(args[0], f"{path}: the key"), path) if args else None
            return Map(_name(tp), key, self.of(args[1], f"{path}{{}}") if args else Anything(), _MAPS[cls])
        raise _no_schema(tp, path)

    def _alias(self, tp: Any, path: str) -> Shape:
        generic = get_origin(tp)
        alias = Alias(_name(tp) if generic is None else _name(generic))
        self._keep(tp, alias)
        try:
            target = tp.__value__ if generic is None else generic.__value__[get_args(tp)]
        except (NameError, TypeError) as error:
            raise GrammarError(f"{path}: {alias.name} cannot be read: {error}") from None
        alias.target = self.of(target, path)
        return alias

    def _named(self, name: str, path: str) -> Shape:
        """A name in quotes that Python left as it is: inside an alias, of one that is being looked at."""
        for tp, shape in self._made.items():
            if _name(tp) == name:
                return shape
        raise GrammarError(f"{path}: {name!r} is a name only; say what it is without quotes, or use `type X = ...`")

    def _annotated(self, tp: Any, path: str) -> Shape:
        inner, *notes = get_args(tp)
        notes = [note for note in notes if is_pydantic_note(note)]
        if not notes:
            return self.of(inner, path)
        of_pydantic = any(type(note).__module__.startswith("pydantic") for note in notes)
        try:
            shape = self.of(inner, path)
        except GrammarError:  # pydantic may know more types than are known here, with its notes
            if not of_pydantic:
                raise
            shape = Anything()
        limits = None if of_pydantic else limits_of(shape, notes)
        if limits is not None:
            return Bounded(shape, limits)
        if "pydantic" not in sys.modules:
            raise GrammarError(f"{path}: {notes[0]!r} is not understood without pydantic: import it first")
        return Foreign(tp, _name(inner), path, fields_of=dict, inner=shape)


# ---- helpers


def _is_alias(tp: Any) -> bool:
    """`type X = ...`, or TypeAliasType of typing_extensions."""
    return type(tp).__name__ == "TypeAliasType"


def _is_typeddict(tp: Any) -> bool:
    """typing's or typing_extensions', which typing does not know for one."""
    return typing.is_typeddict(tp) or (issubclass(tp, dict) and hasattr(tp, "__required_keys__"))


def _layers(hint: Any) -> typing.Iterator[Any]:
    """A hint, and what stands inside its qualifiers and Annotated."""
    while True:
        yield hint
        if get_origin(hint) is not typing.Annotated and _qualifier(hint) not in _QUALIFIERS:
            return
        hint = get_args(hint)[0]


def _qualifier(hint: Any) -> str:
    return getattr(get_origin(hint), "_name", None) or ""


def _type_arguments(tp: Any) -> dict[Any, Any]:
    """Type variable -> what stands for it, in a generic class and in the bases that it was made from."""
    cls = get_origin(tp) or tp
    found = dict(zip(getattr(cls, "__parameters__", ()), get_args(tp), strict=False))
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) not in (None, typing.Generic, typing.Protocol):
            found.update({v: _substituted(arg, found) for v, arg in _type_arguments(base).items() if v not in found})
    return found


def _substituted(hint: Any, arguments: Mapping[Any, Any]) -> Any:
    if isinstance(hint, typing.TypeVar):
        return arguments.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) and get_origin(hint) is None:  # a generic class as such, not an alias of one
        return hint
    return hint[tuple(arguments.get(each, each) for each in parameters)] if parameters else hint


def _json(value: Any, path: str) -> Any:
    """A Literal's or Enum's value as JSON has it."""
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, (str, int, bool)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise GrammarError(f"{path}: {value!r} is no JSON string, number, boolean or null")


def _name(tp: Any) -> str:
    origin, args = get_origin(tp), get_args(tp)
    if origin is Union or origin is types.UnionType:
        return _union_name(args)
    if origin is typing.Annotated:
        return _name(args[0])
    if args and origin is not Literal and not isinstance(tp, type):
        return _name(origin)
    return getattr(tp, "__name__", None) or str(tp).replace("typing.", "")


def _union_name(args: tuple[Any, ...]) -> str:
    return " | ".join("None" if arg is type(None) else _name(arg) for arg in args)


def _no_schema(tp: Any, path: str) -> GrammarError:
    if tp in (bytes, bytearray):
        return GrammarError(f"{path}: {_name(tp)} has no JSON Schema here: JSON holds text; use str, and encode it")
    if isinstance(tp, typing.TypeVar):
        return GrammarError(f"{path}: {tp} has no JSON Schema here: say what it is, as in {path.split('.')[0]}[int]")
    return GrammarError(
        f"{path}: {_name(tp)} has no JSON Schema here; use bool, int, float, str, None, Decimal, dates, UUID, Literal, "
        "Enum, list, tuple, set, dict, Optional, Union, TypedDict, NamedTuple, a dataclass or a pydantic model"
    )
