"""From an exception to what a client is told: a status and OpenAI's error shape.

Here: whose fault an error is, how it reads on the wire and what of it is logged.  Not here: when it is raised.  Nothing
but our own errors is quoted to a client: any other exception becomes a plain 500, and its text goes to the log only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
from aiohttp import web

from ..errors import EngineDead, EngineOverloaded, InvalidRequest, RequestFailed

logger = logging.getLogger("forktree.server")


class Refused(Exception):
    """A request the server itself turns away: for its size, its route, or the server's own state."""

    def __init__(
        self, status: int, message: str, code: str, *, param: str | None = None, retry_after: int | None = None
    ):
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.retry_after = status, message, code, param, retry_after


@dataclass(frozen=True)
class Failure:
    """What the client is told."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after: int | None = None

    @property
    def type(self) -> str:
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> bytes:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def response(self) -> web.Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return web.Response(status=self.status, body=self.body(), content_type="application/json", headers=headers)


@contextmanager
def renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Errors raised inside name the request's own field, not the engine's: {"max_new_tokens": "max_tokens"}."""
    try:
        yield
    except InvalidRequest as error:
        error.field = names.get(error.field, error.field)
        raise


def failure_of(error: BaseException) -> Failure | None:
    """The failure to report for `error`; None if it is not one of ours, so nothing about it may be told."""
    if isinstance(error, Refused):
        return Failure(error.status, error.message, error.code, error.param, error.retry_after)
    if isinstance(error, InvalidRequest):
        # clients find this one by its first words, so no field stands before them
        plain = error.code == "context_length_exceeded" or not error.field
        return Failure(
            400, error.message if plain else f"{error.field}: {error.message}", error.code, error.field or None
        )
    if isinstance(error, EngineOverloaded):
        return Failure(503, "The server has all the requests it can queue.", "overloaded", retry_after=1)
    if isinstance(error, EngineDead):
        return Failure(503, "The engine process has ended, and this request with it.", "engine_dead", retry_after=5)
    if isinstance(error, RequestFailed):
        return Failure(500, str(error) or "The engine could not finish this request. Others go on.", "request_failed")
    if isinstance(error, web.HTTPException):
        return _http_failure(error)
    return None


INTERNAL = Failure(500, "The server made an error. The log has it under this request's X-Request-Id.", "internal_error")


def told(error: Exception, request_id: str) -> Failure:
    """The failure to report for any error. What was not the client's fault leaves its trace in the log."""
    failure = failure_of(error)
    if failure is None:
        logger.exception("request %s failed", request_id, exc_info=error)
        return INTERNAL
    if isinstance(error, RequestFailed):
        logger.error("request %s could not be finished: %s", request_id, " ".join(failure.message.split()))
    return failure


def _http_failure(error: web.HTTPException) -> Failure:
    """aiohttp's own refusals: no such route, wrong method, body too large."""
    if error.status == 404:
        return Failure(404, "There is no such path on this server.", "not_found")
    if error.status == 405:
        return Failure(405, "This path does not take that method.", "method_not_allowed")
    if error.status == 413:
        return Failure(413, "The request body is too large.", "body_too_large", "body")
    return Failure(error.status, error.reason or "The request was refused.", "refused")
