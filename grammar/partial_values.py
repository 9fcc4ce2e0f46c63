"""Values that still grow: what is shown of an object or array before its end, and what it becomes there.

Here: Draft, which users see, and Growing, one open object or array.  Not here: reading JSON text (partial_parser)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from .pydantic_types import Foreign
from .scalar_types import plain
from .type_shapes import NO, Alias, Anything, Array, Bounded, Choice, Field, Map, OneOf, Record, Scalar, Shape, Tuple

__all__ = ["Draft", "Growing", "arms", "read_softly", "shows_growth"]


class Draft:
    """An object of a class (dataclass, pydantic model, NamedTuple) that is still being written.

    Its attributes are those of the class: None until the field has begun.  `name in draft` tells whether it has,
    iterating gives the fields that have, in the order in which they came.  When the object ends, a real one of its
    class takes its place, unless the class itself objects.  It is live: the next piece of text changes it;
    copy.deepcopy keeps it as it is."""

    __slots__ = ("_growing",)

    def __init__(self, growing: Growing) -> None:
        self._growing = growing

    def __getattr__(self, name: str) -> Any:
        if name == "_growing":  # of a copy in the making
            raise AttributeError(name)
        known = self._growing.attributes()
        if name not in known:
            raise AttributeError(f"{self._growing.type_name} has no field {name!r}")
        return self._growing.values.get(known[name])

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        return getattr(self, name)

    def __contains__(self, name: object) -> bool:
        key = self._growing.attributes().get(name) if isinstance(name, str) else None
        return key is not None and key in self._growing.values

    def __iter__(self) -> Iterator[str]:
        return iter(
            [name for key in self._growing.values for name, at in self._growing.attributes().items() if at == key]
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Draft:
        """A copy that stays as it is."""
        growing = copy.copy(self._growing)
        growing.values = copy.deepcopy(growing.values, memo)
        return Draft(growing)

    def __repr__(self) -> str:
        shown = "".join(f"{name}={self[name]!r}, " for name in self)
        return f"{self._growing.type_name}({shown}...)"


class Growing:
    """One open object or array.

    shapes  what it may be, by its JSON kind and the keys and tags so far; [Anything()] if the type has no say
    values  what is in it so far: a dict by JSON's names (by keys, for a Map; by labels, for a NamedTuple), or a list
    view    what is shown of it: a Draft for a class, `values` itself for everything else
    key     where the next value goes      name  as JSON has it"""

    def __init__(self, shape: Shape, is_object: bool) -> None:
        self.is_object = is_object
        self.shapes: Sequence[Shape] = arms(shape, "object" if is_object else "array") or [Anything()]
        labelled = [each for each in self.shapes if isinstance(each, Tuple) and each.labels]
        self._labels = labelled[0].labels if len(self.shapes) == 1 and labelled else ()
        self.values: Any = {} if is_object or self._labels else []
        self.name: str | int = "" if is_object else -1
        self.key: Any = None
        self._drafted = bool(self._labels) or any(
            fields_of(each) is not None and not _is_dict(each) for each in self.shapes
        )
        self.view: Any = Draft(self) if self._drafted else self.values

    # ---- for Draft

    @property
    def type_name(self) -> str:
        return " | ".join(each.name for each in self.shapes)

    def attributes(self) -> dict[str, Any]:
        """Attribute -> key of `values`."""
        if self._labels:
            return {label: label for label in self._labels}
        return {each.attribute: name for shape in self.shapes for name, each in (fields_of(shape) or {}).items()}

    # ---- growing

    def next_name(self, name: str) -> None:
        """An object goes on with the value of `name`."""
        self.name = self.key = name
        if len(self.shapes) > 1:
            self._narrow([each for each in self.shapes if _has_field(each, name)])
        only = self.shapes[0]
        if len(self.shapes) == 1 and isinstance(only, Map) and only.key is not None:
            self.key = read_softly(only.key, name)

    def next_item(self) -> None:
        assert isinstance(self.name, int)
        self.name += 1
        within = self.name < len(self._labels)
        self.key = self._labels[self.name] if within else self.name

    def child(self) -> Shape:
        """The shape of the value that comes now."""
        return _child(self.shapes[0], self.name) if len(self.shapes) == 1 else Anything()

    def put(self, value: Any) -> None:
        """The value at the current place, growing or complete."""
        if isinstance(self.values, dict):
            self.values[self.key] = value
        elif self.key == len(self.values):
            self.values.append(value)
        else:
            self.values[self.key] = value

    def take(self) -> Any:
        """The value at the current place, out of it."""
        value = self.values[self.key]
        self.values[self.key] = None
        return value

    def completed_child(self) -> None:
        """The value at the current place is complete: a tag may have told what this is."""
        if self.is_object and len(self.shapes) > 1:
            value = self.values[self.key]
            fields = [(each, (fields_of(each) or {}).get(str(self.name))) for each in self.shapes]
            self._narrow(
                [
                    each
                    for each, at in fields
                    if at is None or not isinstance(at.shape, Choice) or at.shape.fits(value) != NO
                ]
            )

    def built(self) -> Any:
        """What it is, now that it has ended."""
        try:
            if len(self.shapes) > 1:
                return OneOf(self.type_name, self.shapes).read(self.values, self.type_name)
            shape = self.shapes[0]
            if isinstance(shape, (Record, Foreign, Map)):
                return shape.build(self.values)
            if isinstance(shape, (Array, Tuple)):
                return shape.build(list(self.values.values()) if self._labels else self.values)
        except Exception:  # the class does not want it: whoever reads the whole value is told why
            return self.view
        return self.view

    def _narrow(self, shapes: list[Shape]) -> None:
        if not shapes or len(shapes) == len(self.shapes):
            return
        self.shapes = shapes
        if len(shapes) == 1:
            for name, value in self.values.items():
                self.values[name] = read_softly(_child(shapes[0], name), value)


def arms(shape: Shape, kind: str) -> list[Shape]:
    """What a value of that JSON kind ("object", "array", "string", "number", "boolean", "null") may be."""
    if isinstance(shape, OneOf):
        return [found for arm in shape.arms for found in arms(arm, kind)]
    if isinstance(shape, Alias):
        return arms(shape.target, kind)
    if isinstance(shape, Bounded):
        return arms(shape.inner, kind)
    if isinstance(shape, Foreign) and shape.inner is not None:
        return arms(shape.inner, kind)
    if isinstance(shape, Scalar):
        is_number = kind == "number" and shape.type.kind == "integer"
        return [shape] if is_number or shape.type.kind == kind else []
    if isinstance(shape, (Array, Tuple)):
        return [shape] if kind == "array" else []
    if isinstance(shape, (Map, Record)) or (isinstance(shape, Foreign) and shape.is_object):
        return [shape] if kind == "object" else []
    if isinstance(shape, Choice):
        return [shape] if kind not in ("object", "array") else []
    return [Anything()]


def shows_growth(shape: Shape) -> bool:
    """Whether a text is shown while it grows: where it may become a str."""
    found = arms(shape, "string")
    return not found or any(isinstance(each, Anything) or each.name == "str" for each in found)


def read_softly(shape: Shape, data: Any) -> Any:
    """The value, or the data as they are if they are none."""
    try:
        return shape.read(data, shape.name)
    except Exception:  # as in Growing.built
        return plain(data)


def fields_of(shape: Shape) -> dict[str, Field] | None:
    return shape.fields if isinstance(shape, (Record, Foreign)) else None


def _is_dict(shape: Shape) -> bool:
    return isinstance(shape, Record) and shape.is_dict


def _has_field(shape: Shape, name: str) -> bool:
    fields = fields_of(shape)
    return fields is None or name in fields


def _child(shape: Shape, name: str | int) -> Shape:
    fields = fields_of(shape)
    if fields is not None:
        return fields[str(name)].shape if name in fields else Anything()
    if isinstance(shape, Map):
        return shape.value
    if isinstance(shape, Array):
        return shape.item
    if isinstance(shape, Tuple) and isinstance(name, int) and name < len(shape.items):
        return shape.items[name]
    return Anything()
