"""The bounds that annotated-types sets on a shape, and which shapes are keys of a dict.

Not here: notes that only pydantic reads (pydantic_types)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from .errors import GrammarError
from .scalar_types import ScalarType
from .type_shapes import Alias, Array, Bounded, Choice, Map, OneOf, Scalar, Shape

__all__ = ["key_of", "limits_of"]

_INTEGER_KEY = ScalarType({"type": "string", "pattern": "^(?:0|-?[1-9][0-9]*)$"}, int)

# annotated-types: the class of a note -> (its attribute, what a value must do, keyword by the JSON type)
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}
_BOUNDS: dict[str, tuple[str, str, Callable[..., bool]]] = {
    "Ge": ("ge", "minimum", lambda value, bound: value >= bound),
    "Gt": ("gt", "exclusiveMinimum", lambda value, bound: value > bound),
    "Le": ("le", "maximum", lambda value, bound: value <= bound),
    "Lt": ("lt", "exclusiveMaximum", lambda value, bound: value < bound),
    "MultipleOf": ("multiple_of", "multipleOf", lambda value, bound: _is_multiple(value, bound)),
    "MinLen": ("min_length", "min", lambda value, bound: len(value) >= bound),
    "MaxLen": ("max_length", "max", lambda value, bound: len(value) <= bound),
}


def _is_multiple(value: Any, bound: float) -> bool:
    """As they are written in decimal: 0.3 is three times 0.1."""
    return math.isfinite(value) and Fraction(str(value)) % Fraction(str(bound)) == 0


def limits_of(shape: Shape, notes: list[Any]) -> list[tuple[str, Any, Callable[[Any], bool]]] | None:
    """The notes as keywords of JSON Schema; None if one of them is none of this shape's."""
    kind = _json_type(shape)
    limits: list[tuple[str, Any, Callable[[Any], bool]]] = []
    for note in notes:
        for part in note if hasattr(note, "__iter__") else (note,):  # Interval and Len are several in one
            known = _BOUNDS.get(type(part).__name__)
            if known is None:
                return None
            attribute, keyword, holds = known
            bound = getattr(part, attribute)
            if keyword in ("min", "max"):
                if kind not in _LENGTHS:
                    return None
                keyword += _LENGTHS[kind]
            elif kind not in ("integer", "number") or isinstance(bound, bool) or not isinstance(bound, (int, float)):
                return None
            limits.append((keyword, bound, functools.partial(holds, bound=bound)))
    return limits


def _json_type(shape: Shape) -> str:
    """The JSON type whose bounds mean for the shape what annotated-types means by them, or ""."""
    if isinstance(shape, Bounded):
        return _json_type(shape.inner)
    if isinstance(shape, Scalar):
        return shape.type.kind if shape.type.kind != "string" or shape.name == "str" else ""
    return "array" if isinstance(shape, Array) else "object" if isinstance(shape, Map) else ""


def key_of(shape: Shape, path: str) -> Shape | None:
    """How the names of an object are read as keys of that shape.  None: as they are."""
    if isinstance(shape, Scalar):
        if shape.name == "str":
            return None
        if shape.name == "int":
            return Scalar("int", _INTEGER_KEY)
        if shape.type.kind == "string":
            return shape
        if shape.name == "bool":
            return Choice("bool", [("true", True), ("false", False)])
    if isinstance(shape, Choice) and not any(data is None or isinstance(data, float) for data, _ in shape.values):
        return Choice(
            shape.name, [(data if isinstance(data, str) else str(data).lower(), value) for data, value in shape.values]
        )
    if isinstance(shape, Bounded) and _json_type(shape) == "string":
        return shape
    if isinstance(shape, Alias):
        return key_of(shape.target, path)
    if isinstance(shape, OneOf):
        arms = [key_of(arm, path) or arm for arm in shape.arms]
        return OneOf(shape.name, arms)
    raise GrammarError(
        f"{path}: the keys of a JSON object are text, and {shape.name} is none: use str, int, bool, Literal, Enum, "
        "UUID or a date"
    )
