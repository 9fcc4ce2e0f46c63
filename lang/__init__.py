"""The language: programs that call a model many times, fork, choose and join.

Here: the face of the package.  Loads no torch and no aiohttp: backends, and the kit for tests, are resolved on first
use.
Imports forktree.grammar when a constraint is written, forktree.runtime when a program runs on a local engine, nothing
else of ours."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .api import (
    assistant,
    assistant_begin,
    assistant_end,
    gen,
    gen_int,
    gen_string,
    select,
    separate_reasoning,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
)
from .async_state import AsyncForkGroup, AsyncState
from .backends.protocol import ChatFormat
from .beam_search import search
from .choices import (
    ChoicesMethod,
    exact_probability,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from .default import flush_cache, get_server_info, set_default_backend
from .errors import (
    ArgumentError,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    BatchErrors,
    BlockingRead,
    BranchErrors,
    ConstraintError,
    DeadlineExceeded,
    GenerationError,
    InvalidOutput,
    MissingVariable,
    NoBackend,
    ProgramCancelled,
    ProgramError,
    ProgramErrors,
    RegexError,
    RequestRefused,
    RoleError,
    SchemaError,
    StateClosed,
    UnsupportedByBackend,
)
from .events import StreamEvent
from .not_offered import global_config, image, video
from .program import Program, function
from .state import ForkGroup, ProgramState

if TYPE_CHECKING:
    from . import testing
    from .backends.http import RuntimeEndpoint
    from .backends.local import Runtime
    from .backends.openai import OpenAI
    from .backends.sglang import SGLangEndpoint

__all__ = [
    "ArgumentError",
    "AsyncForkGroup",
    "AsyncState",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BatchErrors",
    "BlockingRead",
    "BranchErrors",
    "ChatFormat",
    "ChoicesMethod",
    "ConstraintError",
    "DeadlineExceeded",
    "ForkGroup",
    "GenerationError",
    "InvalidOutput",
    "MissingVariable",
    "NoBackend",
    "OpenAI",
    "Program",
    "ProgramCancelled",
    "ProgramError",
    "ProgramErrors",
    "ProgramState",
    "RegexError",
    "RequestRefused",
    "RoleError",
    "Runtime",
    "RuntimeEndpoint",
    "SGLangEndpoint",
    "SchemaError",
    "StateClosed",
    "StreamEvent",
    "UnsupportedByBackend",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "exact_probability",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "get_server_info",
    "global_config",
    "greedy_token_selection",
    "image",
    "search",
    "select",
    "separate_reasoning",
    "set_default_backend",
    "system",
    "system_begin",
    "system_end",
    "testing",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
    "video",
]


_ON_FIRST_USE = {
    "OpenAI": ".backends.openai",
    "Runtime": ".backends.local",
    "RuntimeEndpoint": ".backends.http",
    "SGLangEndpoint": ".backends.sglang",
}


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module(".testing", __name__)
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
