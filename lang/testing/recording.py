"""The file of a recorded run: JSON Lines, a header first, then one line per request and its answer.

Here: the format, in both directions, and what two requests must have in common to be the same.  Not here: asking a
backend (recorder), answering from a file (replayer).

A line of kind
    generate  prompt, sampling, logprobs, chunks, and how it ended
    score     prompt, continuations, scores, or an error
    commit    prompt
    model     what model_info said
each with its number, the place in the program that asked (variable, source line, path in the tree of forks, node), and
the seconds since the recording began at which it was asked, answered first, and ended."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import errors
from ..backends.protocol import (
    Capabilities,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Place,
    Prompt,
    Score,
    Timing,
    TokenLogprob,
    Usage,
)

__all__ = [
    "Line",
    "RecordingError",
    "Texts",
    "capabilities_from",
    "chunk_from",
    "chunk_to",
    "common_length",
    "error_from",
    "error_to",
    "header_of",
    "key_of_generate",
    "key_of_score",
    "model_from",
    "model_to",
    "place_to",
    "prompt_to",
    "read_recording",
    "request_to",
    "score_from",
    "score_to",
]

_FORMAT, _VERSION = "forktree.recording", 1

Line = dict[str, Any]


class RecordingError(errors.ProgramError):
    """A file that is no recording, or one of another version; names the file and the line."""


def read_recording(path: str | Path) -> tuple[Line, list[Line]]:
    """The header, and the lines after it.  A last line that is cut off, by a crash, is left out."""
    path = Path(path)
    lines = path.read_bytes().split(b"\n")
    header = _json(lines[0])
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise RecordingError(f"{path}:1 is not the beginning of a recording: wanted a line with format {_FORMAT!r}")
    if header.get("version") != _VERSION:
        raise RecordingError(f"{path}:1 is a recording of version {header.get('version')!r}, wanted {_VERSION}")
    found: list[Line] = []
    for number, data in enumerate(lines[1:], 2):
        if not data:
            continue
        line = _json(data)
        if not isinstance(line, dict) or "kind" not in line:
            if number == len(lines):
                break
            raise RecordingError(f"{path}:{number} is not a line of a recording: {data[:60]!r}")
        found.append(line)
    return header, found


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def header_of(capabilities: Capabilities) -> Line:
    able = {**capabilities.__dict__, "options": _sorted(capabilities.options), "advice": dict(capabilities.advice)}
    return {"format": _FORMAT, "version": _VERSION, "capabilities": able}


def capabilities_from(header: Line) -> Capabilities:
    """Of the backend that was recorded: a replay refuses what it refused, and is asked in the form it was."""
    able = header["capabilities"]
    return Capabilities(**{**able, "options": None if able["options"] is None else frozenset(able["options"])})


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def common_length(one: str, other: str) -> int:
    """How many characters two texts have in common from their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


# ---- what is asked


def request_to(request: GenerateRequest, texts: Texts) -> Line:
    line: Line = {
        "prompt": prompt_to(request.prompt, texts),
        "sampling": request.sampling.to_dict(),
        "stream": request.stream,
    }
    if request.messages is not None:
        line["messages"] = [list(message) for message in request.messages]
    if request.return_logprob:
        line["logprobs"] = {"start": request.logprob_start_len, "top": request.top_logprobs_num}
    return line


def prompt_to(prompt: Prompt | None, texts: Texts) -> Line:
    """None: choices that are scored with nothing before them."""
    if prompt is None:
        return {"digest": "nothing", "text": texts.of(()), "parts": []}
    parts = [part if isinstance(part, str) else list(part) for part in prompt]
    return {"digest": _digest(parts), "text": texts.of(prompt), "parts": parts}


def place_to(place: Place | None) -> Line | None:
    if place is None:
        return None
    return {
        "variable": place.variable,
        "source": str(place.source),
        "path": list(place.path),
        "node": place.node,
        "run": place.run,
    }


def key_of_generate(request: GenerateRequest | Line) -> str:
    """Equal for requests that a model would answer alike, or, without a seed, draw from alike."""
    line = request_to(request, Texts()) if isinstance(request, GenerateRequest) else request
    asked = {name: line.get(name) for name in ("sampling", "logprobs", "messages")}
    return f"generate {line['prompt']['digest']} {_digest(asked)}"


def key_of_score(prompt_digest: str, continuations: Sequence[str]) -> str:
    return f"score {prompt_digest} {_digest(list(continuations))}"


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


class Texts:
    """What the token ids in prompts spell, learned from the answers they came with."""

    def __init__(self) -> None:
        self._spelled: dict[tuple[int, ...], str] = {}

    def learn(self, token_ids: Sequence[int] | None, text: str) -> None:
        if token_ids:
            self._spelled[tuple(token_ids)] = text

    def of(self, prompt: Prompt) -> str:
        return "".join(
            part if isinstance(part, str) else self._spelled.get(tuple(part), f"<{len(part)} tokens>")
            for part in prompt
        )


# ---- what is answered


def chunk_to(chunk: Chunk, at: float) -> Line:
    """Only what is there."""
    line: Line = {"at": at}
    for name, value in chunk.__dict__.items():
        if name == "usage":
            line["usage"] = [value.prompt_tokens, value.completion_tokens, value.cached_tokens]
        elif name == "timing":
            if value is not None:
                line["timing"] = timing_to(value)
        elif name in ("logprobs", "prompt_logprobs"):
            if value:
                line[name] = [[each.token_id, each.logprob, each.text, each.top] for each in value]
        elif value is not None and value != () and value != "":
            line[name] = value
    if chunk.kept_token_ids == ():
        line["kept_token_ids"] = []
    return line


def chunk_from(line: Mapping[str, Any]) -> Chunk:
    kept = line.get("kept_token_ids")
    return Chunk(
        text=line.get("text", ""),
        token_ids=tuple(line.get("token_ids", ())),
        logprobs=_logprobs_from(line.get("logprobs", ())),
        prompt_logprobs=_logprobs_from(line.get("prompt_logprobs", ())),
        finish_reason=line.get("finish_reason"),
        matched=line.get("matched"),
        kept_token_ids=tuple(kept) if kept is not None else None,
        usage=Usage(*line["usage"]),
        timing=timing_from(line.get("timing")),
    )


def _logprobs_from(entries: Sequence[Any]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token_id, logprob, text, tuple((value, other, name) for value, other, name in top))
        for token_id, logprob, text, top in entries
    )


def score_from(line: Mapping[str, Any]) -> Score:
    return Score(tuple(line["token_ids"]), tuple(line["logprobs"]), timing_from(line.get("timing")))


def score_to(score: Score) -> Line:
    line: Line = {"token_ids": score.token_ids, "logprobs": score.logprobs}
    if score.timing is not None:
        line["timing"] = timing_to(score.timing)
    return line


def timing_to(timing: Timing) -> list[float]:
    return [timing.queue_ms, timing.prefill_ms, timing.decode_ms, timing.computed_tokens]


def timing_from(found: Sequence[Any] | None) -> Timing | None:
    return Timing(*found) if found is not None else None


def model_to(info: ModelInfo) -> Line:
    return asdict(info)


def model_from(line: Mapping[str, Any]) -> ModelInfo:
    chat = line.get("chat_format")
    if chat is not None:
        roles = {role: (prefix, suffix) for role, (prefix, suffix) in chat["roles"].items()}
        chat = ChatFormat(chat["bos"], chat["default_system"], roles)
    more = {name: line[name] for name in ("page_size", "num_pages") if name in line}
    return ModelInfo(line["name"], line["context_length"], chat, tuple(line.get("bos", ())), **more)


_ERRORS = ("BackendError", "RequestRefused", "BackendUnavailable", "BackendTimeout")


def error_to(error: Exception) -> Line:
    line: Line = {"type": type(error).__name__, "message": str(error)}
    if isinstance(error, errors.RequestRefused):
        line |= {"field": error.field, "code": error.code, "status": error.status}
    return line


def error_from(line: Mapping[str, Any]) -> errors.BackendError:
    """The error that was raised; one that is not a backend's, by its name and text."""
    kind, message = line["type"], line["message"]
    if kind == "RequestRefused":
        return errors.RequestRefused(message, field=line["field"], code=line["code"], status=line["status"])
    if kind in _ERRORS:
        found: errors.BackendError = getattr(errors, kind)(message)
        return found
    return errors.BackendError(f"{kind}: {message}")
