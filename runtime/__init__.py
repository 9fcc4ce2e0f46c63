"""The runtime: what runs programs on real weights.

Here: the face of the package, resolved on first use so that reading `SamplingParams` does not load torch.
Imported by the facade, `forktree.lang.backends.local` and the server; imports radix_cache and grammar, never lang.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import EngineConfig
    from .engine.engine import Engine
    from .engine.messages import EngineStats, ModelInfo, TokenLogprob, Usage
    from .engine.program_call import ProgramCall
    from .engine.program_plan import ProgramPlan
    from .engine.results import Completion, Delta, ProgramEvent, Score
    from .errors import (
        ContextLengthExceeded,
        EngineDead,
        EngineOverloaded,
        ForktreeRuntimeError,
        InvalidRequest,
        ModelLoadError,
        RequestFailed,
    )
    from .sampling_params import SamplingParams

__all__ = [
    "Completion",
    "ContextLengthExceeded",
    "Delta",
    "Engine",
    "EngineConfig",
    "EngineDead",
    "EngineOverloaded",
    "EngineStats",
    "ForktreeRuntimeError",
    "InvalidRequest",
    "ModelInfo",
    "ModelLoadError",
    "ProgramCall",
    "ProgramEvent",
    "ProgramPlan",
    "RequestFailed",
    "SamplingParams",
    "Score",
    "TokenLogprob",
    "Usage",
]

_HOMES = {
    "EngineConfig": "config",
    "SamplingParams": "sampling_params",
    "Engine": "engine.engine",
    "ProgramCall": "engine.program_call",
    "ProgramPlan": "engine.program_plan",
    **dict.fromkeys(("Completion", "Delta", "ProgramEvent", "Score"), "engine.results"),
    **dict.fromkeys(("EngineStats", "ModelInfo", "TokenLogprob", "Usage"), "engine.messages"),
    **dict.fromkeys(
        (
            "ContextLengthExceeded",
            "EngineDead",
            "EngineOverloaded",
            "ForktreeRuntimeError",
            "InvalidRequest",
            "ModelLoadError",
            "RequestFailed",
        ),
        "errors",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
