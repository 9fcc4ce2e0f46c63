"""The HTTP server: OpenAI's and SGLang's endpoints over one engine.

Here: its face, resolved on first use, so that reading a default for the command line does not load aiohttp.
Imported by the command line; imports the engine through a protocol, and never lang.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import make_app
    from .config import DEFAULT_PORT, ServerConfig
    from .engine_api import ServingEngine
    from .lifecycle import Server, serve

__all__ = ["DEFAULT_PORT", "Server", "ServerConfig", "ServingEngine", "make_app", "serve"]

_HOMES = {
    "DEFAULT_PORT": "config",
    "Server": "lifecycle",
    "ServerConfig": "config",
    "ServingEngine": "engine_api",
    "make_app": "app",
    "serve": "lifecycle",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
