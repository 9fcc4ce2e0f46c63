"""What a Python type looks like as JSON: one class for each way of being composed.

    shape.schema(definitions)   the JSON Schema          shape.read(data, path)    JSON data -> the value
    shape.fits(data)            a look at the outside    shape.build(values)       the value of children read already

Here: what the shapes do.  Not here: which annotation has which shape (python_types), values that still grow
(partial_values)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import GrammarError
from .scalar_types import Real, ScalarType, plain

__all__ = [
    "Alias",
    "Anything",
    "Array",
    "Bounded",
    "Choice",
    "Definitions",
    "Field",
    "Map",
    "OneOf",
    "Record",
    "Scalar",
    "Shape",
    "Tuple",
    "wrong",
]

Schema = dict[str, Any]

NO, BENT, YES = 0, 1, 2  # Shape.fits: cannot be; can be, changed a little (an int for a float); may well be


class Definitions:
    """The $defs of one schema; what is in them may recur."""

    def __init__(self) -> None:
        self.found: dict[str, Schema] = {}
        self._names: dict[int, str] = {}  # by id of the shape, which is alive as long as the schema is being made

    def reference(self, shape: Shape, make: Callable[[], Schema]) -> Schema:
        name = self._names.get(id(shape))
        if name is None:
            name = self._names[id(shape)] = self.free_name(shape.name)
            self.found[name] = make()
        return {"$ref": f"#/$defs/{name}"}

    def free_name(self, name: str) -> str:
        """Taken from here on."""
        while name in self.found:
            name += "_"
        self.found[name] = {}
        return name


class Shape:
    """name: how messages and $defs call the type."""

    name: str

    def schema(self, definitions: Definitions) -> Schema:
        raise NotImplementedError

    def read(self, data: Any, path: str) -> Any:
        """The value that the data stand for.  GrammarError with the path into the value."""
        raise NotImplementedError

    def read_strictly(self, data: Any, path: str) -> Any:
        """As `read`, without conversions that the schema does not admit."""
        return self.read(data, path)

    def fits(self, data: Any) -> int:
        """NO, BENT or YES, by a look at the outermost JSON value and at tags."""
        return YES


@dataclass
class Anything(Shape):
    """Any JSON value, as json.loads gives it."""

    name: str = "Any"

    def schema(self, definitions: Definitions) -> Schema:
        return {}

    def read(self, data: Any, path: str) -> Any:
        return plain(data)


@dataclass
class Scalar(Shape):
    name: str
    type: ScalarType

    def schema(self, definitions: Definitions) -> Schema:
        return dict(self.type.schema)

    def read(self, data: Any, path: str) -> Any:
        try:
            return self.type.reads(data)
        except (ValueError, ArithmeticError):
            raise wrong(self.name, data, path) from None

    def fits(self, data: Any) -> int:
        try:
            self.type.reads(data)
        except (ValueError, ArithmeticError):
            return NO
        if self.type.kind in ("integer", "number"):
            return YES if (self.name == "int") == (not isinstance(data, Real)) else BENT
        return YES


@dataclass
class Choice(Shape):
    """One of some values: a Literal, or an Enum, which has a definition of its own.

    values  pairs of the JSON value and what it stands for"""

    name: str
    values: Sequence[tuple[Any, Any]]
    defined: bool = False

    def schema(self, definitions: Definitions) -> Schema:
        schema = {"enum": [data for data, _ in self.values]}
        return definitions.reference(self, lambda: schema) if self.defined else schema

    def read(self, data: Any, path: str) -> Any:
        for each, value in self.values:
            if isinstance(each, bool) == isinstance(data, bool) and each == data:
                return value
        raise wrong(self.name, data, path)

    def fits(self, data: Any) -> int:
        return YES if any(isinstance(v, bool) == isinstance(data, bool) and v == data for v, _ in self.values) else NO


@dataclass
class Bounded(Shape):
    """A shape with bounds.   limits: (keyword, its value, whether a value keeps to it)"""

    inner: Shape
    limits: Sequence[tuple[str, Any, Callable[[Any], bool]]]

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.inner.name

    def schema(self, definitions: Definitions) -> Schema:
        schema = dict(self.inner.schema(definitions))
        for keyword, bound, _ in self.limits:
            if keyword in schema:
                schema["allOf"] = [*schema.get("allOf", []), {keyword: bound}]
            else:
                schema[keyword] = bound
        return schema

    def read(self, data: Any, path: str) -> Any:
        value = self.inner.read(data, path)
        for keyword, bound, keeps in self.limits:
            if not keeps(value):
                raise GrammarError(f"{path}: {_shown(data)} breaks {keyword} {bound}")
        return value

    def fits(self, data: Any) -> int:
        return self.inner.fits(data)


@dataclass
class Array(Shape):
    """Any number of one shape.   build: the container, of a list"""

    name: str
    item: Shape
    build: Callable[[list[Any]], Any]
    unique: bool = False

    def schema(self, definitions: Definitions) -> Schema:
        items = {} if isinstance(self.item, Anything) else {"items": self.item.schema(definitions)}
        return {"type": "array", **items, **({"uniqueItems": True} if self.unique else {})}

    def read(self, data: Any, path: str) -> Any:
        if not isinstance(data, list):
            raise wrong(self.name, data, path)
        items = [self.item.read(item, f"{path}[{i}]") for i, item in enumerate(data)]
        try:
            return self.build(items)
        except TypeError as error:  # a set of what cannot be hashed
            raise GrammarError(f"{path}: {error}") from None

    def fits(self, data: Any) -> int:
        return YES if isinstance(data, list) else NO


@dataclass
class Tuple(Shape):
    """A shape for each place.   labels: of a NamedTuple, the names of its fields"""

    name: str
    items: Sequence[Shape]
    build: Callable[[list[Any]], Any]
    labels: Sequence[str] = ()

    def schema(self, definitions: Definitions) -> Schema:
        places = {"prefixItems": [item.schema(definitions) for item in self.items]} if self.items else {}
        return {"type": "array", **places, "minItems": len(self.items), "maxItems": len(self.items)}

    def read(self, data: Any, path: str) -> Any:
        if not isinstance(data, list) or len(data) != len(self.items):
            raise wrong(self.name, data, path)
        places = [f".{label}" for label in self.labels] or [f"[{i}]" for i in range(len(data))]
        return self.build(
            [shape.read(item, path + place) for shape, item, place in zip(self.items, data, places, strict=True)]
        )

    def fits(self, data: Any) -> int:
        return YES if isinstance(data, list) and len(data) == len(self.items) else NO


@dataclass
class Map(Shape):
    """An object whose names are data.   key: how a name is read; None: as it is"""

    name: str
    key: Shape | None
    value: Shape
    build: Callable[[dict[Any, Any]], Any]

    def schema(self, definitions: Definitions) -> Schema:
        if self.key is None:
            some = {} if isinstance(self.value, Anything) else {"additionalProperties": self.value.schema(definitions)}
            return {"type": "object", **some}
        value = self.value.schema(definitions)
        if isinstance(self.key, Choice):
            properties = {name: value for name, _ in self.key.values}
            return {"type": "object", "properties": properties, "required": [], "additionalProperties": False}
        return {"type": "object", "propertyNames": self.key.schema(definitions), "additionalProperties": value}

    def read(self, data: Any, path: str) -> Any:
        if not isinstance(data, dict):
            raise wrong(self.name, data, path)
        return self.build(
            {
                self.read_key(name, path): self.value.read(item, f"{path}[{json.dumps(name)}]")
                for name, item in data.items()
            }
        )

    def read_key(self, name: str, path: str) -> Any:
        return name if self.key is None else self.key.read(name, f"{path}: the key")

    def fits(self, data: Any) -> int:
        return YES if isinstance(data, dict) else NO


@dataclass
class Field:
    shape: Shape
    required: bool
    attribute: str  # what the class calls it; JSON's name may be an alias


@dataclass
class Record(Shape):
    """A class with fields: dataclass or TypedDict.   fields: by JSON's names, filled in when the class is looked into

    Closed: what comes back is that type and nothing more."""

    name: str
    build: Callable[[dict[str, Any]], Any]
    is_dict: bool = False  # its values are dicts, and so is what is there of one that grows
    fields: dict[str, Field] = field(default_factory=dict)

    def schema(self, definitions: Definitions) -> Schema:
        def make() -> Schema:
            return {
                "type": "object",
                "properties": {name: each.shape.schema(definitions) for name, each in self.fields.items()},
                "required": [name for name, each in self.fields.items() if each.required],
                "additionalProperties": False,
            }

        return definitions.reference(self, make)

    def read(self, data: Any, path: str) -> Any:
        if not isinstance(data, dict):
            raise wrong(self.name, data, path)
        for name in data:
            if name not in self.fields:
                raise GrammarError(f"{path} has no {name!r}")
        for name, each in self.fields.items():
            if each.required and name not in data:
                raise GrammarError(f"{path}.{name} is missing")
        return self.build({name: self.fields[name].shape.read(item, f"{path}.{name}") for name, item in data.items()})

    def fits(self, data: Any) -> int:
        return YES if isinstance(data, dict) and tags_fit(self.fields, data) else NO


def tags_fit(fields: Mapping[str, Field], data: Mapping[str, Any]) -> bool:
    """Whether every Literal field that is there has one of its values: what tells the arms of a union apart."""
    return not any(
        name in fields and isinstance(fields[name].shape, Choice) and fields[name].shape.fits(item) == NO
        for name, item in data.items()
    )


@dataclass
class OneOf(Shape):
    """A union.  Which arm it is, its JSON kind and its tags say; if several fit, the first that can be read."""

    name: str
    arms: Sequence[Shape]

    def schema(self, definitions: Definitions) -> Schema:
        return {"anyOf": [arm.schema(definitions) for arm in self.arms]}

    def fitting(self, data: Any) -> list[Shape]:
        fits = [arm.fits(data) for arm in self.arms]
        best = max(fits)
        return [arm for arm, each in zip(self.arms, fits, strict=True) if each == best != NO]

    def read(self, data: Any, path: str) -> Any:
        arms = self.fitting(data)
        if not arms:
            raise wrong(self.name, data, path)
        if len(arms) == 1:
            return arms[0].read(data, path)
        failures = []
        for arm in arms:
            try:
                return arm.read_strictly(data, path)
            except (GrammarError, ValueError) as error:
                failures.append(f"{arm.name}: {error}")
        for arm in arms:
            if type(arm).read_strictly is not Shape.read_strictly:
                try:
                    return arm.read(data, path)
                except (GrammarError, ValueError):
                    continue
        reasons = "\n    ".join(failures)
        raise GrammarError(f"{path}: {_shown(data)} is no {self.name}\n    {reasons}")

    def fits(self, data: Any) -> int:
        return max(arm.fits(data) for arm in self.arms)


@dataclass
class Alias(Shape):
    """A `type X = ...`, which may recur."""

    name: str
    target: Shape = field(default_factory=Anything)

    def schema(self, definitions: Definitions) -> Schema:
        return definitions.reference(self, lambda: self.target.schema(definitions))

    def read(self, data: Any, path: str) -> Any:
        return self.target.read(data, path)

    def fits(self, data: Any) -> int:
        return self.target.fits(data)


def wrong(name: str, data: Any, path: str) -> GrammarError:
    return GrammarError(f"{path}: {_shown(data)} is no {name}")


def _shown(data: Any) -> str:
    return json.dumps(data)[:80]
