"""A request's bytes -> a typed request, or a 4xx that names the field.

Here: size, encoding and time limits of a body; JSON; fields that are unknown, not supported, or harmless.
Not here: what the fields mean.  After OpenAI's API: null is the same as absent, an unknown field is refused by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from ..errors import InvalidRequest
from .errors import Refused

T = TypeVar("T")
MAX_QUOTED = 64  # characters of a caller's own text that an error message repeats


async def read_object(request: web.Request, max_bytes: int, seconds: float) -> dict[str, Any]:
    """The JSON object in the body. Refused: compressed (415), too large (413), too slow (408), not an object (400)."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        message = "body: Content-Encoding is not supported; send the body as it is"
        raise Refused(415, message, "unsupported_encoding", param="body")
    if (request.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    try:
        raw = await asyncio.wait_for(request.read(), seconds)
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(max_bytes) from None
    except asyncio.TimeoutError:
        raise Refused(408, f"body: it did not arrive within {seconds:g} s", "body_timeout", param="body") from None
    return decode_object(raw)


def decode_object(raw: bytes) -> dict[str, Any]:
    """Strict JSON (no NaN, no Infinity, UTF-8 only, numbers in range, bounded depth) with an object at the top."""
    try:
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        raise InvalidRequest("body", "it is not valid UTF-8", "invalid_json") from None
    except RecursionError:
        raise InvalidRequest("body", "its JSON is nested too deeply", "invalid_json") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest("body", f"it is not valid JSON: {error}", "invalid_json") from None
    if not isinstance(value, dict):
        raise InvalidRequest("body", f"wanted a JSON object, got {_kind(value)}", "invalid_json")
    return value


def convert(fields: Mapping[str, Any], to: type[T], *, inside: str = "") -> T:
    """`fields` as a struct; what does not fit is refused by its path, such as `messages[0].content`."""
    try:
        return msgspec.convert(fields, to)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at ")
        at = (inside + path.strip("`").removeprefix("$")).removeprefix(".")
        if what.startswith("Object contains unknown field"):
            name = what.split("`")[1]
            at = f"{at}.{name}" if at else name
            raise InvalidRequest(at[:MAX_QUOTED], "unknown parameter", "unknown_parameter") from None
        if what.startswith("Object missing required field"):
            name = what.split("`")[1]
            at = f"{at}.{name}" if at else name
            raise InvalidRequest(at, "this parameter is required", "missing_parameter") from None
        raise InvalidRequest(at or "body", what[:1].lower() + what[1:], "invalid_value") from None
    except RecursionError:
        raise InvalidRequest("body", "its JSON is nested too deeply", "invalid_json") from None


def present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say something: null is the same as absent."""
    return {name: value for name, value in fields.items() if value is not None}


def refuse(
    fields: dict[str, Any],
    *,
    unsupported: Mapping[str, str],
    only: Mapping[str, tuple[object, ...]],
    harmless: Iterable[str],
) -> dict[str, Any]:
    """Drop what changes nothing; refuse by name what would have to be ignored.

    harmless      fields that ask nothing of a model server (`user`)
    only          fields taken with these values, which ask for what happens anyway (`store`: False), else refused
    unsupported   fields refused whatever they say, and why
    """
    for name in harmless:
        fields.pop(name, None)
    for name, values in only.items():
        if name in fields:
            if not any(fields[name] == value and type(fields[name]) is type(value) for value in values):
                why = unsupported.get(name) or f"only {' or '.join(map(repr, values))} is supported"
                raise InvalidRequest(name, why, "unsupported_parameter")
            del fields[name]
    for name, why in unsupported.items():
        if name in fields:
            raise InvalidRequest(name, why, "unsupported_parameter")
    return fields


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"body: it is larger than the limit of {max_bytes} bytes", "body_too_large", param="body")


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")
