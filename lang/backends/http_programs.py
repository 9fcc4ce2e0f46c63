"""A whole program on a forktree server: POST /v1/programs, its events, and ending a part of it.

Here: HttpProgramCall.  Not here: connections (http_client), plans (plan).  Imported by http."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from ..errors import BackendError, RequestRefused
from ..loop import loop_thread
from .http_client import HttpClient, error_from, field_of
from .protocol import Chunk, ProgramNews, Score, Timing, TokenLogprob, Usage

__all__ = ["HttpProgramCall"]

_SERVER = "a forktree server"
_tag = os.urandom(8).hex()
_numbers = itertools.count(1)


class HttpProgramCall:
    """See protocol.ProgramCall.  `on_missing` is called where the server has no such path."""

    def __init__(
        self,
        http: HttpClient,
        plan: Mapping[str, Any],
        arguments: Sequence[Mapping[str, str]],
        *,
        stream: bool,
        on_missing: Callable[[], None],
    ) -> None:
        self._on_missing = on_missing
        self._http, self._id = http, f"{_tag}-{next(_numbers)}"
        self._body = {
            "plan": plan,
            "arguments": list(arguments),
            "stream": True,  # the events; outputs come piece by piece only if somebody reads along
            "whole_outputs": not stream,
            "program_id": self._id,
        }
        self._events: AsyncGenerator[dict[str, Any], None] | None = None

    def __aiter__(self) -> HttpProgramCall:
        return self

    async def __anext__(self) -> ProgramNews:
        if self._events is None:
            self._events = self._http.events("/v1/programs", self._body)
        try:
            return _news(await anext(self._events))
        except RequestRefused as error:
            if error.status in (404, 405):  # a server from before there were programs: it need not be asked again
                self._on_missing()
            raise

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        """On the loop.  A program that has ended meanwhile is no matter."""
        part = {name: value for name, value in (("item", item), ("node", node)) if value is not None}
        loop_thread().spawn(self._abort(part))

    async def aclose(self) -> None:
        if self._events is not None:
            await self._events.aclose()  # the server ends the program of a client that has left

    async def _abort(self, part: Mapping[str, int]) -> None:
        try:
            await self._http.call("POST", f"/v1/programs/{self._id}/abort", part)
        except BackendError:
            return


def _news(event: Mapping[str, Any]) -> ProgramNews:
    delta, failure = event.get("delta"), event.get("failure")
    return ProgramNews(
        item=int(field_of(event, "item", _SERVER)),
        node=int(field_of(event, "node", _SERVER)),
        digest=bytes.fromhex(event.get("digest") or ""),
        output=int(delta["index"]) if delta else 0,
        chunk=_chunk(delta) if delta else None,
        scores=_scores(event.get("scores"), _timing(event.get("timing"))),
        alone=_scores(event.get("alone"), None),
        error=error_from(failure, int(failure.get("status") or 500)) if failure else None,
    )


def _chunk(delta: Mapping[str, Any]) -> Chunk:
    usage, kept = delta.get("usage") or {}, delta.get("kept_token_ids")
    return Chunk(
        text=delta.get("text") or "",
        token_ids=tuple(delta.get("token_ids") or ()),
        logprobs=_logprobs(delta.get("logprobs")),
        prompt_logprobs=_logprobs(delta.get("prompt_logprobs")),
        finish_reason=delta.get("finish_reason"),
        matched=delta.get("matched"),
        kept_token_ids=tuple(kept) if kept is not None else None,
        usage=Usage(usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0), usage.get("cached_tokens", 0)),
        timing=_timing(delta.get("timing")),
    )


def _logprobs(found: Sequence[Sequence[Any]] | None) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(token_id, logprob, text, tuple((p, i, t) for p, i, t in top))
        for logprob, token_id, text, top in found or ()
    )


def _scores(found: Sequence[Mapping[str, Any]] | None, timing: Timing | None) -> tuple[Score, ...] | None:
    if found is None:
        return None
    return tuple(Score(tuple(each["token_ids"]), tuple(each["logprobs"]), timing) for each in found)


def _timing(found: Sequence[Any] | None) -> Timing | None:
    return Timing(*found) if found is not None else None
