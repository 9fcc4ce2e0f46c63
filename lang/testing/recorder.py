"""Recording a run: a backend around another one, which writes down what was asked and what was answered.

Here: record.  Not here: the file's format (recording)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from ..backends import as_backend
from ..backends.protocol import Backend, Capabilities, Chunk, GenerateRequest, ModelInfo, Prompt, Score, asked_from
from ..nodes import caller_line
from .recording import (
    Line,
    Texts,
    chunk_to,
    error_to,
    header_of,
    model_to,
    place_to,
    prompt_to,
    request_to,
    score_to,
)

__all__ = ["RecordingBackend", "record"]


def record(path: str | Path, backend: object) -> RecordingBackend:
    """`backend` as it is, with all that programs ask of it written to `path` (JSON Lines; a file there is replaced).

    with ft.testing.record("run.jsonl", ft.Runtime()) as recorded:
        program.run("France", backend=recorded)

    Any number of programs and branches may run at once; each request is a line, written when it has ended."""
    return RecordingBackend(path, as_backend(backend, caller_line()))


class RecordingBackend:
    """A Backend that passes everything on.  Use it in a `with` block, or call close()."""

    wants_places = True

    def __init__(self, path: str | Path, backend: Backend) -> None:
        self.path, self.backend = Path(path), backend
        self._file = open(self.path, "w", encoding="utf-8", newline="\n")  # noqa: SIM115  # closed by close()
        self._began = time.monotonic()
        self._texts = Texts()
        self._num_requests = 0
        self._model_written = False
        self._write(header_of(backend.capabilities))

    def __enter__(self) -> RecordingBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End the recording; the backend stays open."""
        self._file.close()

    # ---- the Backend protocol

    @property
    def capabilities(self) -> Capabilities:
        return self.backend.capabilities

    @property
    def max_in_flight(self) -> int | None:
        return getattr(self.backend, "max_in_flight", None)

    async def model_info(self) -> ModelInfo:
        info = await self.backend.model_info()
        if not self._model_written:
            self._model_written = True
            self._write({"kind": "model", "model": model_to(info)})
        return info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        line = {**self._asked("generate"), **request_to(request, self._texts), "chunks": []}
        text = ""
        try:
            async with aclosing(self.backend.generate(request)) as chunks:
                async for chunk in chunks:
                    line["chunks"].append(chunk_to(chunk, self._now()))
                    text += chunk.text
                    if chunk.finish_reason is not None:
                        self._texts.learn(chunk.kept_token_ids, text)
                        self._ended(line)
                    yield chunk
        except Exception as error:
            self._ended(line, error=error_to(error))
            raise
        finally:
            self._ended(line, cancelled=True)  # unless it has ended before

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        line = {
            **self._asked("score"),
            "prompt": prompt_to(prompt, self._texts),
            "continuations": list(continuations),
        }
        try:
            scores = await self.backend.score(prompt, continuations)
            self._ended(line, scores=[score_to(each) for each in scores])
        except Exception as error:
            self._ended(line, error=error_to(error))
            raise
        finally:
            self._ended(line, cancelled=True)  # unless it has ended before
        for score, text in zip(scores, continuations, strict=False):
            self._texts.learn(score.token_ids, text)
        return scores

    async def commit(self, prompt: Prompt) -> None:
        line = {**self._asked("commit"), "prompt": prompt_to(prompt, self._texts)}
        try:
            await self.backend.commit(prompt)
        except Exception as error:
            self._ended(line, error=error_to(error))
            raise
        self._ended(line)

    async def clear_cache(self) -> bool:
        return await self.backend.clear_cache()

    async def server_info(self) -> dict[str, Any]:
        return await self.backend.server_info()

    async def aclose(self) -> None:
        self.close()
        await self.backend.aclose()

    # ---- how

    def _now(self) -> float:
        return round(time.monotonic() - self._began, 6)

    def _asked(self, kind: str) -> Line:
        self._num_requests += 1
        return {
            "kind": kind,
            "id": self._num_requests,
            "place": place_to(asked_from.get()),
            "asked": self._now(),
        }

    def _ended(self, line: Line, **how: Any) -> None:
        """Write a line, once."""
        if "ended" not in line:
            line |= {"ended": self._now(), **how}
            self._write(line)

    def _write(self, line: Line) -> None:
        if not self._file.closed:  # a request may end after the recording has
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
