"""POST /v1/programs: a whole program in one request, run next to the scheduler; its events stream back.

Here: the request, the events as JSON, ending a program or a part of it.  Not here: plans (engine/program_plan.py).

    {"plan": {"version": 1, "nodes": [...]}, "arguments": [{"question": "..."}], "stream": true}

A stream has one event per news of a node: item, node, digest of its prompt, and, after the first, which says that it
has begun, one of `delta` (of a gen's output), `scores` (of a select's choices, log-probabilities by token) and
`failure`; node -1 says that the item is over.  Without `stream` all events come as one list; with `whole_outputs` each
output comes in one piece, at its end.  `program_id`
names the program for /v1/programs/{id}/abort."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from aiohttp import web

from ..errors import InvalidRequest
from .body import convert, present, read_object
from .errors import Refused, told
from .exchange import SAFE_ID, Exchange, new_id
from .http import EXCHANGE, SERVICE, reply
from .sse import stream_events

if TYPE_CHECKING:
    from ..engine.results import ProgramEvent, Score

LOWEST = -1e30  # JSON has no infinity


class ProgramRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    plan: dict[str, Any]
    arguments: list[dict[str, Any]] = msgspec.field(default_factory=lambda: [{}])
    stream: bool = False
    whole_outputs: bool = False
    program_id: str | None = None
    cache_salt: str = ""


class AbortRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    item: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    node: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None


async def run(request: web.Request) -> web.StreamResponse:
    from ..engine.program_plan import ProgramPlan

    service, exchange = request.app[SERVICE], request[EXCHANGE]
    with service.admitted():
        body = await read_object(request, service.config.max_body_bytes, service.config.body_seconds)
        asked = convert(present(body), ProgramRequest)
        if not 1 <= len(asked.arguments) <= service.config.max_prompts:
            wanted = f"wanted 1 to {service.config.max_prompts}"
            raise InvalidRequest("arguments", f"got {len(asked.arguments)} items, {wanted}")
        if asked.program_id is not None and not SAFE_ID.fullmatch(asked.program_id):
            raise InvalidRequest("program_id", "wanted 1 to 128 letters, digits, '.', '_', ':' and '-'")
        plan = await asyncio.to_thread(ProgramPlan.read, asked.plan)  # a second for the longest; others go on meanwhile
        events = service.run_program(
            asked.program_id or new_id(),
            plan,
            asked.arguments,
            stream=asked.stream and not asked.whole_outputs,
            salt=asked.cache_salt,
        )
        if asked.stream:
            return await stream_events(request, service, exchange, _encoded(events, exchange), {})
        async with aclosing(events):
            found = [_plain(event, exchange) async for event in events]
    return reply({"events": found})


async def abort(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    body = await read_object(request, service.config.max_body_bytes, service.config.body_seconds)
    asked = convert(present(body), AbortRequest)
    if asked.node is not None and asked.item is None:
        raise InvalidRequest("item", "which item's node? give both")
    if not service.abort_program(request.match_info["id"], asked.item, asked.node):
        raise Refused(404, "No such program is running.", "program_not_found", param="id")
    return reply({"aborted": True})


async def _encoded(events: AsyncGenerator[ProgramEvent, None], exchange: Exchange) -> AsyncGenerator[bytes, None]:
    async with aclosing(events):
        async for event in events:
            yield msgspec.json.encode(_plain(event, exchange))


def _plain(event: ProgramEvent, exchange: Exchange) -> dict[str, Any]:
    plain: dict[str, Any] = {"item": event.item, "node": event.node}
    if event.digest:
        plain["digest"] = event.digest.hex()
    if event.delta is not None:
        plain["delta"] = event.delta
    if event.scores is not None:
        plain["scores"] = [_score(score) for score in event.scores]
        plain["timing"] = event.scores[0].timing
    if event.alone is not None:
        plain["alone"] = [_score(score) for score in event.alone]
    if event.error is not None:
        failure = told(event.error, exchange.request_id)
        plain["failure"] = {
            "message": failure.message,
            "param": failure.param,
            "code": failure.code,
            "status": failure.status,
        }
    return plain


def _score(score: Score) -> dict[str, Any]:
    return {"token_ids": score.token_ids, "logprobs": [max(value, LOWEST) for value in score.logprobs]}
