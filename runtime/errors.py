"""What can go wrong in the runtime, by whose fault it is, and the HTTP status that says so.

    ForktreeRuntimeError
      InvalidRequest           400  the caller's: one field is wrong; nothing else changed
        ContextLengthExceeded  400  the prompt does not fit the model's context
      ModelLoadError           -    a file on disk: path, message, remedy
      RequestFailed            500  ours: this request failed, the engine goes on
      EngineOverloaded         503  nobody's: try again later
      EngineDead               503  ours: the engine process is gone

Imported by every part of the runtime and by the local backend; imports nothing of ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


class ForktreeRuntimeError(Exception):
    """Root of everything the runtime raises on purpose."""

    status = 500


class InvalidRequest(ForktreeRuntimeError):
    """A request that can't be served as written: `field` is at fault, `message` says what is wrong and what to do."""

    status = 400

    def __init__(self, field: str, message: str, code: str = "invalid_request") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field, self.message, self.code = field, message, code


class ContextLengthExceeded(InvalidRequest):
    """The prompt has more tokens than the context can hold. The wording is the one OpenAI's clients look for."""

    def __init__(self, num_prompt_tokens: int, context_length: int, field: str = "prompt") -> None:
        super().__init__(
            field,
            f"This model's maximum context length is {context_length} tokens, but the prompt has {num_prompt_tokens} "
            f"(at least one more is needed for the output). Shorten the prompt.",
            "context_length_exceeded",
        )
        self.num_prompt_tokens, self.context_length = num_prompt_tokens, context_length


class ModelLoadError(ForktreeRuntimeError):
    """A model that can't be loaded: `path` is the file at fault, `remedy` what to do about it."""

    def __init__(self, path: str | Path, message: str, remedy: str) -> None:
        super().__init__(f"{path}: {message}. {remedy}")
        self.path, self.message, self.remedy = str(path), message, remedy


class RequestFailed(ForktreeRuntimeError):
    """The engine could not finish this request through no fault of the caller; other requests go on."""


class EngineOverloaded(ForktreeRuntimeError):
    """The queue is full. Nothing was started."""

    status = 503


class EngineDead(ForktreeRuntimeError):
    """The engine process has ended; requests in flight are lost."""

    status = 503


def describe_error(error: ForktreeRuntimeError) -> tuple[str, list[Any]]:
    """An error as (class name, arguments), to cross a process border; `make_error` makes it again."""
    if isinstance(error, ContextLengthExceeded):
        return "ContextLengthExceeded", [error.num_prompt_tokens, error.context_length, error.field]
    if isinstance(error, InvalidRequest):
        return "InvalidRequest", [error.field, error.message, error.code]
    if isinstance(error, ModelLoadError):
        return "ModelLoadError", [error.path, error.message, error.remedy]
    return type(error).__name__, [str(error)]


def make_error(kind: str, args: list[Any]) -> ForktreeRuntimeError:
    """The error that `describe_error` described on the other side."""
    error: ForktreeRuntimeError = _KINDS[kind](*args)
    return error


_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        ForktreeRuntimeError,
        InvalidRequest,
        ContextLengthExceeded,
        ModelLoadError,
        RequestFailed,
        EngineOverloaded,
        EngineDead,
    )
}
