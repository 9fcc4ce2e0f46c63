"""Endpoints about the server: is it alive, can it answer, what does it serve, what does it hold.

/health (alive: 200 from when the model is loaded until the engine dies), /ready (takes new work), /health_generate (can
really generate), /metrics, /version, model and server info in SGLang's form, cache and abort controls.
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import aclosing
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from aiohttp import web

from ..errors import ForktreeRuntimeError, InvalidRequest
from ..observe.metrics import CONTENT_TYPE
from ..sampling_params import SamplingParams
from .body import convert, present, read_object
from .errors import Refused
from .exchange import Job, new_id
from .http import EXCHANGE, SERVICE, reply
from .service import Service

HEALTH_SECONDS = 20.0
STATS_SECONDS = 5.0


def forktree_version() -> str:
    try:
        return version("forktree")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


async def health(request: web.Request) -> web.Response:
    """Alive. 503 while loading and once the engine is gone; draining is still alive."""
    _ = request.app[SERVICE].engine
    return reply({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Takes new work: what a load balancer should ask."""
    with request.app[SERVICE].admitted():
        return reply({"status": "ready"})


async def health_generate(request: web.Request) -> web.Response:
    """Generates one token, so the whole path is alive."""
    service = request.app[SERVICE]
    with service.admitted() as engine:
        prompt = [engine.info.bos_token_id if engine.info.bos_token_id is not None else 0]
        params = SamplingParams(max_new_tokens=1, temperature=0.0)
        try:
            await asyncio.wait_for(_drop(service, Job(prompt, params, new_id()), request), HEALTH_SECONDS)
        except asyncio.TimeoutError:
            raise Refused(503, f"No token within {HEALTH_SECONDS:g} s.", "unhealthy") from None
    return reply({"status": "ok"})


async def _drop(service: Service, job: Job, request: web.Request) -> None:
    exchange = request[EXCHANGE]
    async with aclosing(service.run([job], exchange, exchange.request_id)) as deltas:
        async for _ in deltas:
            pass


async def metrics(request: web.Request) -> web.Response:
    """Answers without an engine as well, so that a scraper sees `engine_up` fall."""
    service = request.app[SERVICE]
    stats = None
    with contextlib.suppress(Refused, ForktreeRuntimeError, asyncio.TimeoutError):
        stats = msgspec.structs.asdict(await asyncio.wait_for(service.engine.astats(), STATS_SECONDS))
    return web.Response(body=service.metrics.exposition(stats), headers={"Content-Type": CONTENT_TYPE})


async def get_version(request: web.Request) -> web.Response:
    return reply({"version": forktree_version()})


async def model_info(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    info = service.engine.info
    return reply(
        {
            "model_path": info.model_path,
            "served_model_name": service.model_name,
            "tokenizer_path": info.tokenizer_path,
            "is_generation": True,
            "context_length": info.context_length,
            "vocab_size": info.vocab_size,
            "eos_token_ids": info.eos_token_ids,
            "bos_token_id": info.bos_token_id,
            "add_bos": info.add_bos,
            "page_size": info.page_size,
            "num_pages": info.num_pages,
            "chat_format": info.chat_format,
            "forktree_version": forktree_version(),
        }
    )


async def server_info(request: web.Request) -> web.Response:
    """The engine's counts at the top level: pages_free + pages_cached + pages_running == pages_total."""
    service = request.app[SERVICE]
    stats: dict[str, Any] = msgspec.to_builtins(await service.engine.astats())
    info = service.engine.info
    return reply(
        {
            **stats,
            "status": service.state,
            "served_model_name": service.model_name,
            "context_length": info.context_length,
            "page_size": info.page_size,
            "version": forktree_version(),
        }
    )


async def flush_cache(request: web.Request) -> web.Response:
    """Forget every cached prefix that no running request uses."""
    service = request.app[SERVICE]
    await service.engine.aflush_cache()
    return reply({"status": "ok"})


class AbortRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    rid: str | None = None
    abort_all: bool = False


async def abort_request(request: web.Request) -> web.Response:
    """Abort by `rid` (a batch's rid aborts all of it) or everything. An id that is not running is no error."""
    service = request.app[SERVICE]
    fields = present(await read_object(request, service.config.max_body_bytes, service.config.body_seconds))
    asked = convert(fields, AbortRequest)
    if bool(asked.rid) == asked.abort_all:
        raise InvalidRequest("rid", "give either a request's id or abort_all: true", "invalid_value")
    return reply({"aborted": service.abort(None if asked.abort_all else asked.rid)})
