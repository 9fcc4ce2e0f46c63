"""Python types that one JSON string, number, boolean or null stands for: their schemas, and their values read back.

Here: one table, and JSON text to data that keeps decimal numbers as they were written.  Not here: everything composed
of these (type_shapes), which annotation is which (python_types)."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import json
import pathlib
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import GrammarError

__all__ = ["SCALARS", "Real", "ScalarType", "json_data", "plain", "scalar_type"]

MOST_DIGITS = 4300  # of an integer written with an exponent: as many as int(text) takes


class Real(float):
    """A number with a fraction or an exponent, and its text: a Decimal is what was written, not the nearest float."""

    text: str

    def __new__(cls, text: str) -> Real:
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class ScalarType:
    """schema   what is generated for the type
    reads      JSON data -> the value; ValueError if it stands for none (the caller says where)"""

    schema: dict[str, Any]
    reads: Callable[[Any], Any]

    @property
    def kind(self) -> str:
        return str(self.schema["type"])


def json_data(text: str) -> Any:
    """JSON text as data, decimal numbers as Real.  GrammarError if it is not JSON."""
    try:
        return json.loads(text, parse_float=Real, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"not JSON: {error}") from None


def plain(data: Any) -> Any:
    """Data without Real."""
    if isinstance(data, list):
        return [plain(item) for item in data]
    if isinstance(data, dict):
        return {name: plain(item) for name, item in data.items()}
    return float(data) if isinstance(data, Real) else data


def scalar_type(tp: Any) -> ScalarType | None:
    """None: the type is none of these."""
    if isinstance(tp, type) and issubclass(tp, pathlib.PurePath):
        return ScalarType({"type": "string"}, lambda data: tp(_string(data)))
    return SCALARS.get(tp)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _string(data: Any) -> str:
    if not isinstance(data, str):
        raise ValueError
    return data


def _null(data: Any) -> None:
    if data is not None:
        raise ValueError


def _boolean(data: Any) -> bool:
    if not isinstance(data, bool):
        raise ValueError
    return data


def _integer(data: Any) -> int:
    """1.0 and 1e3 are integers to JSON Schema."""
    if isinstance(data, Real):
        number = decimal.Decimal(data.text)
        if number.adjusted() > MOST_DIGITS or number != number.to_integral_value():
            raise ValueError
        return int(number)
    if isinstance(data, bool) or not isinstance(data, int):
        raise ValueError
    return data


def _float(data: Any) -> float:
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise ValueError
    return float(data)


def _decimal(data: Any) -> decimal.Decimal:
    if isinstance(data, bool) or not isinstance(data, (int, float)):
        raise ValueError
    return decimal.Decimal(data.text if isinstance(data, Real) else data)


def _datetime(data: Any) -> datetime.datetime:
    return datetime.datetime.fromisoformat(_microseconds(_string(data)))


def _time(data: Any) -> datetime.time:
    return datetime.time.fromisoformat(_microseconds(_string(data)))


def _microseconds(text: str) -> str:
    """A time as datetime reads it on every Python: 6 digits of fraction, Z as an offset."""
    text = text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text
    head, point, tail = text.partition(".")
    if not point:
        return text
    digits = tail[: next((i for i, c in enumerate(tail) if not c.isdigit()), len(tail))]
    return f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}"


# ISO 8601 without years and months, whose length is not fixed, and of a length that a timedelta holds.
_DURATION = (
    r"(-?)P(?:([0-9]{1,7})W|(?:([0-9]{1,8})D)?"
    r"(?:T(?:([0-9]{1,8})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,8})(?:\.([0-9]{1,6}))?S)?)?)"
)
_TIME = r"T(?:{0}H(?:{0}M)?(?:{0}{1}S)?|{0}M(?:{0}{1}S)?|{0}{1}S)".format("[0-9]{1,8}", r"(?:\.[0-9]{1,6})?")
_DURATION_PATTERN = rf"^-?P(?:[0-9]{{1,7}}W|[0-9]{{1,8}}D(?:{_TIME})?|{_TIME})$"


def _timedelta(data: Any) -> datetime.timedelta:
    found = re.fullmatch(_DURATION, _string(data))
    if found is None or not re.search("[0-9][A-Z]$", data):
        raise ValueError
    sign, weeks, days, hours, minutes, seconds, fraction = found.groups()
    length = datetime.timedelta(
        weeks=int(weeks or 0), days=int(days or 0), hours=int(hours or 0), minutes=int(minutes or 0),
        seconds=int(seconds or 0), microseconds=int(f"{fraction or '':0<6}"),
    )  # fmt: skip
    return -length if sign else length


def _text(format_name: str, reads: Callable[[Any], Any]) -> ScalarType:
    return ScalarType({"type": "string", "format": format_name}, reads)


SCALARS: dict[Any, ScalarType] = {
    type(None): ScalarType({"type": "null"}, _null),
    None: ScalarType({"type": "null"}, _null),
    bool: ScalarType({"type": "boolean"}, _boolean),
    int: ScalarType({"type": "integer"}, _integer),
    float: ScalarType({"type": "number"}, _float),
    str: ScalarType({"type": "string"}, _string),
    decimal.Decimal: ScalarType({"type": "number"}, _decimal),
    datetime.datetime: _text("date-time", _datetime),
    datetime.date: _text("date", lambda data: datetime.date.fromisoformat(_string(data))),
    datetime.time: _text("time", _time),
    datetime.timedelta: ScalarType({"type": "string", "pattern": _DURATION_PATTERN}, _timedelta),
    uuid.UUID: _text("uuid", lambda data: uuid.UUID(_string(data))),
    ipaddress.IPv4Address: _text("ipv4", lambda data: ipaddress.IPv4Address(_string(data))),
    ipaddress.IPv6Address: _text("ipv6", lambda data: ipaddress.IPv6Address(_string(data))),
}
