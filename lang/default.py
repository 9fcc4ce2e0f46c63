"""Which backend a program runs on when none is named: that of the program it runs in, else the one set for this
process, else an error.

Also the two calls that go to a backend directly: flush_cache and get_server_info."""

from __future__ import annotations

from typing import Any

from .backends import as_backend
from .backends.protocol import Backend
from .errors import NoBackend
from .executor import running_run
from .loop import loop_thread
from .nodes import caller_line

__all__ = ["flush_cache", "get_default_backend", "get_server_info", "resolve_backend", "set_default_backend"]

_default: Backend | None = None


def set_default_backend(backend: object) -> None:
    """For every program of this process that names none: ft.Runtime(...), ft.RuntimeEndpoint(url), an Engine, or None
    to unset it."""
    global _default
    _default = None if backend is None else as_backend(backend, caller_line())


def get_default_backend() -> Backend | None:
    return _default


def resolve_backend(backend: object, caller: str) -> Backend:
    if backend is not None:
        return as_backend(backend, caller_line())
    outer = running_run.get()
    found = outer.backend if outer is not None else _default
    if found is None:
        raise NoBackend(caller)
    return found


def flush_cache(backend: object = None) -> bool:
    """Drop the backend's prefix cache; False where it can't be dropped now."""
    return bool(loop_thread().call(resolve_backend(backend, "flush_cache").clear_cache()))


def get_server_info(backend: object = None) -> dict[str, Any]:
    info: dict[str, Any] = loop_thread().call(resolve_backend(backend, "get_server_info").server_info())
    return info
