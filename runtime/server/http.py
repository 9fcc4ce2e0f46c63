"""What happens around every handler: request ids, errors as answers, the log line.

Here: the keys under which a handler finds the service and its exchange, and the middleware.  Not here: routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from ..observe.logs import log_request
from .errors import told
from .exchange import SAFE_ID, Exchange, new_id
from .service import Service

SERVICE = web.AppKey("service", Service)
EXCHANGE = web.RequestKey("exchange", Exchange)
SERVER_NAME = "forktree"  # not what it is built of
CLIENT_LEFT = 499  # nginx's status for it; no client sees it
QUIET = frozenset(
    {"/health", "/ready", "/health_generate", "/metrics"}
)  # asked every few seconds by machines: counted, not logged

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def reply(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the exchange its id, turn what goes wrong into an answer, write the line."""
    service = request.app[SERVICE]
    resource = request.match_info.route.resource
    route = resource.canonical if resource is not None else "other"  # never the path as sent: it is the client's text
    given = request.headers.get("X-Request-Id", "")
    exchange = request[EXCHANGE] = Exchange(given if SAFE_ID.fullmatch(given) else new_id(), request.method, route)
    status = CLIENT_LEFT
    try:
        response = await _answer(request, handler, exchange)
        if service.state in ("draining", "stopping"):
            response.force_close()
        status = response.status
        return response
    except ConnectionError:
        # The client has left: there is nobody to answer, and aiohttp takes a cancelled handler in silence.
        raise asyncio.CancelledError from None
    finally:
        service.metrics.responses.labels(route=route, status=str(status)).inc()
        if route not in QUIET:
            log_request(exchange.fields(status))


async def _answer(request: web.Request, handler: Handler, exchange: Exchange) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConnectionError:
        raise
    except Exception as error:
        failure = told(error, exchange.request_id)
        response = failure.response()
        if isinstance(error, web.HTTPMethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        if failure.status in (408, 413):
            response.force_close()  # the rest of the body is not wanted
        return response


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """On every response, streams included."""
    exchange = request.get(EXCHANGE)
    if exchange is not None:
        response.headers["X-Request-Id"] = exchange.request_id
    response.headers["Server"] = SERVER_NAME
