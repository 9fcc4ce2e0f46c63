"""A request's bytes -> a typed request, or a 4xx that names the field.

Here: size, encoding and time limits of a body; JSON; fields that are unknown, not supported, or harmless.
Not here: what the fields mean.  After OpenAI's API: null is the same as absent, an unknown field is refused by name.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import inspect

from ..errors import InvalidRequest
from ..sampling_params import require_text
from .errors import Refused

T = TypeVar("T")
MAX_QUOTED = 64  # characters of a caller's own text that an error message repeats
MAX_SEARCHED = 2**18  # bytes of a body in which a broken text is looked for; the search holds up everyone
_EXPECTED = re.compile(r"Expected `(?P<wanted>[^`]+)`(?P<limit>[^,]*)(?:, got `(?P<got>[^`]+)`)?")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}  # msgspec's names of JSON's types


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
        _refuse_lone_surrogates(raw)
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
        raise InvalidRequest(at or "body", _in_words(what, to, path), "invalid_value") from None
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
    inside: str = "",
) -> dict[str, Any]:
    """Drop what changes nothing; refuse by name what would have to be ignored.

    harmless      fields that ask nothing of a model server (`user`)
    only          fields taken with these values, which ask for what happens anyway (`store`: False), else refused
    unsupported   fields refused whatever they say, and why
    inside        what stands before the names: `stream_options.`
    """
    for name in harmless:
        fields.pop(name, None)
    for name, values in only.items():
        if name in fields:
            if not any(fields[name] == value and type(fields[name]) is type(value) for value in values):
                taken = " or ".join(msgspec.json.encode(value).decode() for value in values)
                why = unsupported.get(name) or f"only {taken} is supported"
                raise InvalidRequest(inside + name, why, "unsupported_parameter")
            del fields[name]
    for name, why in unsupported.items():
        if name in fields:
            raise InvalidRequest(inside + name, why, "unsupported_parameter")
    return fields


def _in_words(what: str, to: type, path: str) -> str:
    """msgspec's complaint without its type names: what is allowed there, and what was given."""
    if what.startswith("Invalid enum value"):
        given = what.removeprefix("Invalid enum value ")[:MAX_QUOTED]
        return f"got {given}, wanted {_listed(_literals(to, path))}"
    match = _EXPECTED.fullmatch(what)
    if match is None:
        return what[:1].lower() + what[1:]
    wanted = [_KINDS.get(kind, kind) for kind in match["wanted"].split(" | ") if kind != "null"]
    limit = match["limit"].replace("of length <=", "of at most").replace("of length >=", "of at least")
    unit = " characters" if limit != match["limit"] else ""
    given = "a fraction" if match["got"] == "float" else _KINDS.get(match["got"], match["got"])
    got = f", got {given}" if given else ""
    return f"wanted {_listed(wanted)}{limit}{unit}{got}"


def _literals(to: type, path: str) -> list[str]:
    """The texts allowed at a path of msgspec's, such as `$.messages[0].role`."""
    places: list[inspect.Type] = [inspect.type_info(to)]
    for step in re.findall(r"[^.$`\[\]]+|\[", path.replace("[...]", "[").replace("$", "")):
        if step.isdecimal():
            continue  # an index: its bracket was the step
        places = [
            inner
            for place in _members(places)
            for inner in (
                [field.type for field in place.fields if field.encode_name == step]
                if isinstance(place, inspect.StructType)
                else [place.item_type]
                if isinstance(place, inspect.ListType)
                else []
            )
        ]
    return [
        str(value) for place in _members(places) if isinstance(place, inspect.LiteralType) for value in place.values
    ]


def _members(places: Iterable[inspect.Type]) -> list[inspect.Type]:
    return [each for place in places for each in (place.types if isinstance(place, inspect.UnionType) else (place,))]


def _listed(names: Sequence[str]) -> str:
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _refuse_lone_surrogates(raw: bytes) -> None:
    """Half a surrogate pair, such as "\\ud800", is no character; msgspec only finds that its text breaks off there."""
    if not _SURROGATE.search(raw):
        return
    if len(raw) > MAX_SEARCHED:
        message = "it is not valid JSON, or one of its texts has a lone surrogate such as \\ud800, which is no text"
        raise InvalidRequest("body", message, "invalid_json")
    try:
        value = json.loads(raw)
        for path, text in _texts(value, ""):
            require_text(path[:256] or "body", text)
    except InvalidRequest as error:
        raise InvalidRequest(error.field, error.message, "invalid_json") from None
    except (ValueError, RecursionError):  # other faults: msgspec has named one
        return


def _texts(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Every text of a JSON value and where it stands; a key stands in its object."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _texts(item, f"{path}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _texts(item, f"{path}.{key[:MAX_QUOTED]}" if path else key[:MAX_QUOTED])


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"body: it is larger than the limit of {max_bytes} bytes", "body_too_large", param="body")


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")
