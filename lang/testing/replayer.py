"""Replaying a recorded run: a backend that answers from the file, without a model.

Here: replay, and what a request is told that was not recorded.  Not here: the file's format (recording)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..backends.protocol import (
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    Score,
    asked_from,
)
from ..errors import BackendError
from .recording import (
    Line,
    RecordingError,
    Texts,
    capabilities_from,
    chunk_from,
    common_length,
    error_from,
    key_of_generate,
    key_of_score,
    model_from,
    prompt_to,
    read_recording,
    request_to,
    score_from,
)

__all__ = ["ReplayBackend", "ReplayMismatch", "replay"]

_CANCEL_SECONDS = 10.0  # how long a request that was cancelled waits to be cancelled again
_SHOWN = 50  # characters on either side of a difference


class ReplayMismatch(BackendError):
    """The program asked for something that was not recorded.  `nearest` is the text of the nearest recorded prompt,
    `offset` the character at which the prompt parts from it."""

    def __init__(self, message: str, prompt: str, nearest: str | None, offset: int) -> None:
        super().__init__(message)
        self.prompt, self.nearest, self.offset = prompt, nearest, offset


def replay(path: str | Path, strict: bool = True) -> ReplayBackend:
    """A Backend that answers from a recording: program.run(backend=ft.testing.replay("run.jsonl")).

    A request is answered with what was recorded for its prompt and sampling options, whatever the order; the same
    request several times in the order of the recording.  Errors are raised again, chunks come as they came.
    strict  False: where the prompt was recorded with other options, its answer is given all the same, and the last
            answer is given again to a request that comes more often than it was recorded"""
    return ReplayBackend(path, strict)


class ReplayBackend:
    """A Backend on a recording.  `unused` are the recorded lines that nobody has asked for."""

    wants_places = True

    def __init__(self, path: str | Path, strict: bool) -> None:
        self.path, self.strict = Path(path), strict
        header, lines = read_recording(path)
        self.capabilities = capabilities_from(header)
        self._texts = Texts()
        self._model: ModelInfo | None = None
        self._answers: dict[str, deque[Line]] = {}
        self._recorded: list[Line] = []
        self._used: set[int] = set()
        for line in lines:
            self._take(line)

    @property
    def unused(self) -> list[Line]:
        return [line for line in self._recorded if line["id"] not in self._used]

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        if self._model is None:
            raise BackendError(f"{self.path} was recorded by a program without roles, and doesn't know the model's")
        return self._model

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        line = self._find(request_to(request, self._texts), "generate")
        for each in line["chunks"]:
            await asyncio.sleep(0)
            yield chunk_from(each)
        if "error" in line:
            raise error_from(line["error"])
        if line.get("cancelled"):
            await self._cancelled()

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        asked = {"prompt": prompt_to(prompt, self._texts), "continuations": list(continuations)}
        line = self._find(asked, "score")
        await asyncio.sleep(0)
        if "error" in line:
            raise error_from(line["error"])
        if line.get("cancelled"):
            await self._cancelled()
        return [score_from(each) for each in line["scores"]]

    async def commit(self, prompt: Prompt) -> None:
        """Of no use to a replay, and allowed even where it was not recorded; an error that was recorded is raised."""
        key = f"commit {prompt_to(prompt, self._texts)['digest']}"
        answers = self._answers.get(key)
        if answers:
            line = answers.popleft() if len(answers) > 1 else answers[0]
            self._used.add(line["id"])
            if "error" in line:
                raise error_from(line["error"])

    async def clear_cache(self) -> bool:
        return True

    async def server_info(self) -> dict[str, Any]:
        return {"recording": str(self.path), "requests": len(self._recorded)}

    async def aclose(self) -> None:
        return None

    # ---- how

    def _take(self, line: Line) -> None:
        kind = line["kind"]
        if kind == "model":
            self._model = model_from(line["model"])
            return
        if kind == "generate":
            key = key_of_generate(line)
            text = "".join(chunk.get("text", "") for chunk in line["chunks"])
            self._texts.learn(line["chunks"][-1].get("kept_token_ids") if line["chunks"] else None, text)
        elif kind == "score":
            key = key_of_score(line["prompt"]["digest"], line["continuations"])
            for score, text in zip(line.get("scores", ()), line["continuations"], strict=False):
                self._texts.learn(score["token_ids"], text)
        elif kind == "commit":
            key = f"commit {line['prompt']['digest']}"
        else:
            raise RecordingError(f"{self.path} has a line of kind {kind!r}, which this version does not know")
        self._answers.setdefault(key, deque()).append(line)
        self._recorded.append(line)

    def _find(self, asked: Line, kind: str) -> Line:
        key = (
            key_of_generate(asked)
            if kind == "generate"
            else key_of_score(asked["prompt"]["digest"], asked["continuations"])
        )
        answers = self._answers.get(key)
        if not answers and not self.strict:
            answers = self._with_other_options(asked, kind)
        if not answers:
            raise self._mismatch(asked, kind)
        line = answers[0]
        if line["id"] in self._used and self.strict:
            raise self._asked_too_often(asked, line)
        self._used.add(line["id"])
        if len(answers) > 1:
            answers.popleft()
        return line

    def _with_other_options(self, asked: Line, kind: str) -> deque[Line] | None:
        digest = asked["prompt"]["digest"]
        same = (line for line in self._recorded if line["kind"] == kind and line["prompt"]["digest"] == digest)
        first = next((line for line in same if asked.get("continuations") == line.get("continuations")), None)
        return deque([first]) if first is not None else None

    async def _cancelled(self) -> None:
        """It waits as it did then; a program that no longer cancels it is told."""
        await asyncio.sleep(_CANCEL_SECONDS)
        raise BackendError(f"this request was cancelled when {self.path} was recorded, so its answer ends here")

    def _asked_too_often(self, asked: Line, line: Line) -> ReplayMismatch:
        text = asked["prompt"]["text"]
        times = sum(1 for each in self._recorded if _same_request(each, line))
        return ReplayMismatch(
            f"{_asker()} asked once more for what {self.path} has {_times(times)}; its prompt ends {text[-60:]!r}",
            text,
            line["prompt"]["text"],
            len(text),
        )

    def _mismatch(self, asked: Line, kind: str) -> ReplayMismatch:
        text = asked["prompt"]["text"]
        nearest = _nearest(text, (line for line in self._recorded if line["kind"] == kind))
        if nearest is None:
            return ReplayMismatch(f"{self.path} has no {kind} at all; {_asker()} asked for one", text, None, 0)
        recorded = nearest["prompt"]["text"]
        offset = common_length(text, recorded)
        where = f"line for {nearest['place']['source']}" if nearest.get("place") else "line"
        if text == recorded:
            what = _differences(asked, nearest)
            message = f"{_asker()} asked with other options than were recorded in {self.path}: {what}"
        else:
            message = (
                f"{_asker()} asked for a prompt that {self.path} does not have. The nearest one (the {where}) "
                f"parts from it at character {offset}:\n"
                f"  recorded  {_around(recorded, offset)}\n"
                f"  asked     {_around(text, offset)}"
            )
        return ReplayMismatch(message, text, recorded, offset)


def _nearest(text: str, lines: Iterable[Line]) -> Line | None:
    """The line whose prompt goes along the longest; of those, the one of about this length."""
    return max(
        lines,
        key=lambda line: (
            common_length(text, line["prompt"]["text"]),
            -abs(len(text) - len(line["prompt"]["text"])),
        ),
        default=None,
    )


def _differences(asked: Line, recorded: Line) -> str:
    """Options that differ, as name: asked, not recorded."""
    if "continuations" in asked:
        return f"choices {asked['continuations']!r}, not {recorded['continuations']!r}"
    found = []
    for group in ("sampling", "logprobs"):
        one, other = asked.get(group) or {}, recorded.get(group) or {}
        for name in dict.fromkeys([*one, *other]):
            if one.get(name) != other.get(name):
                found.append(f"{name} {one.get(name)!r}, not {other.get(name)!r}")
    if asked.get("messages") != recorded.get("messages"):
        found.append(f"messages {asked.get('messages')!r}, not {recorded.get('messages')!r}")
    if asked["prompt"]["parts"] != recorded["prompt"]["parts"]:
        found.append("the same text in other parts or tokens")
    return "; ".join(found)


def _same_request(one: Line, other: Line) -> bool:
    if one["kind"] != other["kind"]:
        return False
    if one["kind"] == "generate":
        return key_of_generate(one) == key_of_generate(other)
    return bool(one["prompt"]["digest"] == other["prompt"]["digest"] and one["continuations"] == other["continuations"])


def _asker() -> str:
    place = asked_from.get()
    if place is None:
        return "the program"
    return f"{place.variable!r} at {place.source}" if place.variable is not None else f"the node at {place.source}"


def _around(text: str, offset: int) -> str:
    start, end = max(offset - _SHOWN, 0), offset + _SHOWN
    return f"{'...' if start else ''}{text[start:offset]!r} + {text[offset:end]!r}{'...' if end < len(text) else ''}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
