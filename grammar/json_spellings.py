"""The texts of one value that is no array and no object."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from .number_limits import exact, places_of


def spellings(value: Any, canonical: bool) -> list[bytes]:
    """The texts of one value that is no array and no object; none for half of a surrogate pair."""
    if isinstance(value, int) and not isinstance(value, bool):
        return [b"%d" % value] if canonical else [b"%d" % value, b"%d.0" % value]
    if isinstance(value, float):
        number = exact(value)
        plain = _decimal(number)
        if canonical:
            return [plain]
        return list(dict.fromkeys((plain, json.dumps(value).encode(), *([plain + b".0"] if b"." not in plain else []))))
    try:
        return [json.dumps(value, ensure_ascii=False).encode()]
    except UnicodeEncodeError:
        return []


def _decimal(number: Fraction) -> bytes:
    """The plain decimal of a number, without zeros at its end."""
    if number.denominator == 1:
        return b"%d" % number.numerator
    places = places_of(number)
    digits = b"%0*d" % (places + 1, abs(number * 10**places).numerator)
    return (b"-" if number < 0 else b"") + digits[:-places] + b"." + digits[-places:]
