"""One output as it grows, and its meta info in SGLang's shape.  Imports the protocol only."""

from __future__ import annotations

from typing import Any

from .backends.protocol import Chunk, GenerateRequest, TokenLogprob, Usage
from .errors import BackendError

__all__ = ["Output"]

_NOTHING_YET = Usage()


class Output:
    """The chunks of one request, added up."""

    __slots__ = ("_chunks", "_finish", "_num_logprobs", "_usage", "_with_text", "kept_token_ids", "request")

    def __init__(self, request: GenerateRequest, with_text: bool) -> None:
        self.request, self._with_text = request, with_text
        self._chunks: list[Chunk] | None = None  # while it waits for the first
        self._num_logprobs = 0
        self.kept_token_ids: tuple[int, ...] | None = None
        self._finish: dict[str, Any] | None = None
        self._usage = _NOTHING_YET

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
            self.kept_token_ids = chunk.kept_token_ids
            self._finish = {"type": chunk.finish_reason}
            if chunk.finish_reason == "stop":
                self._finish["matched"] = chunk.matched
            elif chunk.finish_reason == "length":
                self._finish["length"] = chunk.usage.completion_tokens

    def check_finished(self) -> None:
        if self._finish is None:
            raise BackendError("the output ended before it was finished")
        if self._finish["type"] == "abort":
            raise BackendError("the request was aborted by the backend")

    def meta(self) -> dict[str, Any]:
        """Of the whole output."""
        meta = self._counts()
        meta["text"] = self.text
        meta["output_ids"] = [token_id for chunk in self._chunks or () for token_id in chunk.token_ids]
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
