"""forktree: write programs that call a language model many times; run them on your own machine or on a server.

    import forktree as ft

Here: the public names, each resolved on first use, so that importing this costs next to nothing.  No logic."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from forktree.lang import (
        ArgumentError as ArgumentError,
    )
    from forktree.lang import (
        AsyncForkGroup as AsyncForkGroup,
    )
    from forktree.lang import (
        AsyncState as AsyncState,
    )
    from forktree.lang import (
        BackendError as BackendError,
    )
    from forktree.lang import (
        BackendTimeout as BackendTimeout,
    )
    from forktree.lang import (
        BackendUnavailable as BackendUnavailable,
    )
    from forktree.lang import (
        BatchErrors as BatchErrors,
    )
    from forktree.lang import (
        BlockingRead as BlockingRead,
    )
    from forktree.lang import (
        BranchErrors as BranchErrors,
    )
    from forktree.lang import (
        ChatFormat as ChatFormat,
    )
    from forktree.lang import (
        ChoicesMethod as ChoicesMethod,
    )
    from forktree.lang import (
        ConstraintError as ConstraintError,
    )
    from forktree.lang import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from forktree.lang import (
        ForkGroup as ForkGroup,
    )
    from forktree.lang import (
        GenerationError as GenerationError,
    )
    from forktree.lang import (
        InvalidOutput as InvalidOutput,
    )
    from forktree.lang import (
        MissingVariable as MissingVariable,
    )
    from forktree.lang import (
        NoBackend as NoBackend,
    )
    from forktree.lang import (
        OpenAI as OpenAI,
    )
    from forktree.lang import (
        Program as Program,
    )
    from forktree.lang import (
        ProgramCancelled as ProgramCancelled,
    )
    from forktree.lang import (
        ProgramError as ProgramError,
    )
    from forktree.lang import (
        ProgramErrors as ProgramErrors,
    )
    from forktree.lang import (
        ProgramState as ProgramState,
    )
    from forktree.lang import (
        RegexError as RegexError,
    )
    from forktree.lang import (
        RequestRefused as RequestRefused,
    )
    from forktree.lang import (
        RoleError as RoleError,
    )
    from forktree.lang import (
        Runtime as Runtime,
    )
    from forktree.lang import (
        RuntimeEndpoint as RuntimeEndpoint,
    )
    from forktree.lang import (
        SchemaError as SchemaError,
    )
    from forktree.lang import (
        SGLangEndpoint as SGLangEndpoint,
    )
    from forktree.lang import (
        StateClosed as StateClosed,
    )
    from forktree.lang import (
        StreamEvent as StreamEvent,
    )
    from forktree.lang import (
        UnsupportedByBackend as UnsupportedByBackend,
    )
    from forktree.lang import (
        assistant as assistant,
    )
    from forktree.lang import (
        assistant_begin as assistant_begin,
    )
    from forktree.lang import (
        assistant_end as assistant_end,
    )
    from forktree.lang import (
        exact_probability as exact_probability,
    )
    from forktree.lang import (
        flush_cache as flush_cache,
    )
    from forktree.lang import (
        function as function,
    )
    from forktree.lang import (
        gen as gen,
    )
    from forktree.lang import (
        gen_int as gen_int,
    )
    from forktree.lang import (
        gen_string as gen_string,
    )
    from forktree.lang import (
        get_server_info as get_server_info,
    )
    from forktree.lang import (
        global_config as global_config,
    )
    from forktree.lang import (
        greedy_token_selection as greedy_token_selection,
    )
    from forktree.lang import (
        image as image,
    )
    from forktree.lang import (
        search as search,
    )
    from forktree.lang import (
        select as select,
    )
    from forktree.lang import (
        separate_reasoning as separate_reasoning,
    )
    from forktree.lang import (
        set_default_backend as set_default_backend,
    )
    from forktree.lang import (
        system as system,
    )
    from forktree.lang import (
        system_begin as system_begin,
    )
    from forktree.lang import (
        system_end as system_end,
    )
    from forktree.lang import (
        testing as testing,
    )
    from forktree.lang import (
        token_length_normalized as token_length_normalized,
    )
    from forktree.lang import (
        unconditional_likelihood_normalized as unconditional_likelihood_normalized,
    )
    from forktree.lang import (
        user as user,
    )
    from forktree.lang import (
        user_begin as user_begin,
    )
    from forktree.lang import (
        user_end as user_end,
    )
    from forktree.lang import (
        video as video,
    )
    from forktree.runtime import (
        Engine as Engine,
    )
    from forktree.runtime import (
        EngineConfig as EngineConfig,
    )
    from forktree.runtime import (
        SamplingParams as SamplingParams,
    )

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
    "Engine",
    "EngineConfig",
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
    "SamplingParams",
    "SchemaError",
    "StateClosed",
    "StreamEvent",
    "UnsupportedByBackend",
    "__version__",
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

_OF_THE_RUNTIME = ("Engine", "EngineConfig", "SamplingParams")

_OTHER_API = "its API is not spoken; ft.OpenAI(model, base_url=...) runs on any OpenAI-compatible endpoint"
_NOT_OFFERED = dict.fromkeys(("Anthropic", "LiteLLM", "VertexAI", "Crusoe", "Shengsuanyun"), _OTHER_API)  # of SGLang's


def __getattr__(name: str) -> Any:
    if name not in __all__:
        hint = f": {_NOT_OFFERED[name]}" if name in _NOT_OFFERED else ""
        raise AttributeError(f"module 'forktree' has no attribute {name!r}{hint}")
    home = "forktree.runtime" if name in _OF_THE_RUNTIME else "forktree.lang"
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
