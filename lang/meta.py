"""One output as it grows, and its meta info in SGLang's shape.  Imports the protocol and nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .backends.protocol import Chunk, GenerateRequest, Score, Timing, TokenLogprob, Usage
from .errors import BackendError
from .nodes import Node

__all__ = ["Observed", "ObservedOutput", "Output", "timing_meta"]

_NOTHING_YET = Usage()


class Output:
    """The chunks of one request, added up."""

    __slots__ = ("_chunks", "_finish", "_num_logprobs", "_usage", "_with_text", "kept_token_ids", "request", "timing")

    def __init__(self, request: GenerateRequest, with_text: bool) -> None:
        self.request, self._with_text = request, with_text
        self._chunks: list[Chunk] | None = None  # while it waits for the first
        self._num_logprobs = 0
        self.kept_token_ids: tuple[int, ...] | None = None
        self._finish: dict[str, Any] | None = None
        self.timing: Timing | None = None
        self._usage = _NOTHING_YET

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token_id for chunk in self._chunks or () for token_id in chunk.token_ids)

    @property
    def text(self) -> str:
        return "".join([chunk.text for chunk in self._chunks or ()])

    def add(self, chunk: Chunk) -> None:
        if self._chunks is None:
            self._chunks = []
        self._chunks.append(chunk)
        self._num_logprobs += len(chunk.logprobs)
        self._usage = chunk.usage
        if chunk.finish_reason is not None:
            self.kept_token_ids, self.timing = chunk.kept_token_ids, chunk.timing
            self._finish = {"type": chunk.finish_reason}
            if chunk.finish_reason == "stop":
                self._finish["matched"] = chunk.matched
            elif chunk.finish_reason == "length":
                self._finish["length"] = chunk.usage.completion_tokens

    @property
    def finish_reason(self) -> str | None:
        return self._finish["type"] if self._finish is not None else None

    def check_finished(self) -> None:
        if self._finish is None:
            raise BackendError("the output ended before it was finished")
        if self._finish["type"] == "abort":
            raise BackendError("the request was aborted by the backend")

    def meta(self) -> dict[str, Any]:
        """Of the whole output."""
        meta = self._counts()
        meta["text"] = self.text
        meta["output_ids"] = list(self.token_ids)
        meta.update(timing_meta(self.timing))
        if self.request.return_logprob:
            meta.update(
                self._logprob_lists("output", [each for chunk in self._chunks or () for each in chunk.logprobs])
            )
            meta["output_token_logprobs_length"] = self._num_logprobs
            if self.request.logprob_start_len >= 0:
                of_prompt = [each for chunk in self._chunks or () for each in chunk.prompt_logprobs]
                meta.update(self._logprob_lists("input", of_prompt))
        return meta

    def delta_meta(self, chunk: Chunk) -> dict[str, Any]:
        """Of one chunk: counts so far, log-probabilities of the chunk's own tokens."""
        meta = self._counts()
        if self.request.return_logprob:
            meta.update(self._logprob_lists("output", chunk.logprobs))
            meta["output_token_logprobs_length"] = self._num_logprobs
        return meta

    def _counts(self) -> dict[str, Any]:
        return {
            "id": self.request.request_id,
            "finish_reason": self._finish,
            "prompt_tokens": self._usage.prompt_tokens,
            "completion_tokens": self._usage.completion_tokens,
            "cached_tokens": self._usage.cached_tokens,
        }

    def _logprob_lists(self, side: str, entries: list[TokenLogprob] | tuple[TokenLogprob, ...]) -> dict[str, Any]:
        lists: dict[str, Any] = {
            f"{side}_token_logprobs": [[e.logprob, e.token_id, e.text if self._with_text else None] for e in entries]
        }
        if self.request.top_logprobs_num:
            lists[f"{side}_top_logprobs"] = [
                [[logprob, token_id, text if self._with_text else None] for logprob, token_id, text in entry.top]
                for entry in entries
            ]
        return lists


def timing_meta(timing: Timing | None) -> dict[str, Any]:
    """SGLang's names where it has them; seconds."""
    if timing is None:
        return {}
    return {
        "queue_time": timing.queue_ms / 1000,
        "prefill_time": timing.prefill_ms / 1000,
        "decode_time": timing.decode_ms / 1000,
        "first_token_latency": (timing.queue_ms + timing.prefill_ms) / 1000,
        "computed_tokens": timing.computed_tokens,
    }


@dataclass(frozen=True)
class ObservedOutput:
    """One output as it turned out.  finish_reason None: it was chosen, not generated."""

    text: str
    token_ids: tuple[int, ...]
    kept_token_ids: tuple[int, ...] | None
    finish_reason: str | None


@dataclass(frozen=True)
class Observed:
    """What came of one gen or select: its outputs, and the time of each of its calls where the backend tells it."""

    node: Node
    outputs: tuple[ObservedOutput, ...]
    timings: tuple[Timing, ...]

    @classmethod
    def of_outputs(cls, node: Node, outputs: Sequence[Output]) -> Observed:
        found = tuple(
            ObservedOutput(each.text, each.token_ids, each.kept_token_ids, each.finish_reason) for each in outputs
        )
        return cls(node, found, tuple(each.timing for each in outputs if each.timing is not None))

    @classmethod
    def of_choice(cls, node: Node, text: str, score: Score, unconditional: Sequence[Score]) -> Observed:
        timings = (score.timing, *(each.timing for each in unconditional[:1]))
        chosen = ObservedOutput(text, score.token_ids, score.token_ids, None)
        return cls(node, (chosen,), tuple(timing for timing in timings if timing is not None))
