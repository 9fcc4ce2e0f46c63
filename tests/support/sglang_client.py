"""SGLang's own frontend, unmodified, as a module: what `import sglang as sgl` would give a program.

Only sglang.lang and what it imports is loaded; the package's __init__ would bring the whole server with it.  Two
libraries that the frontend imports and a program without notebooks and images never calls are stood in for."""

from __future__ import annotations

import importlib
import os
import sys
import types
from pathlib import Path
from typing import Any

HOME = Path(os.environ.get("SGLANG_CLIENT") or Path(sys.prefix) / "sglang-client")
_NOT_CALLED = ("pybase64", "IPython", "IPython.display")
_NAMES = (
    *("Runtime", "assistant", "flush_cache", "function", "gen", "gen_int", "gen_string", "get_server_info", "select"),
    *("set_default_backend", "system", "user"),
)
_METHODS = ("greedy_token_selection", "token_length_normalized", "unconditional_likelihood_normalized")


def load_sglang() -> Any:
    """Raises ModuleNotFoundError where it is not installed."""
    if not (HOME / "sglang" / "lang").is_dir():
        raise ModuleNotFoundError(f"no SGLang client in {HOME}: pip install --no-deps --target {HOME} sglang==0.5.9")
    for name in _NOT_CALLED:
        if name not in sys.modules:
            stand_in: Any = types.ModuleType(name)
            stand_in.HTML = stand_in.display = None
            sys.modules[name] = stand_in
    package: Any = types.ModuleType("sglang")
    package.__path__ = [str(HOME / "sglang")]
    sys.modules["sglang"] = package
    api = importlib.import_module("sglang.lang.api")
    choices = importlib.import_module("sglang.lang.choices")
    endpoint = importlib.import_module("sglang.lang.backend.runtime_endpoint")
    package.__dict__.update({name: getattr(api, name) for name in _NAMES})
    package.__dict__.update({name: getattr(choices, name) for name in _METHODS})
    package.RuntimeEndpoint = endpoint.RuntimeEndpoint
    return package


def unload_sglang() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sglang" or name in _NOT_CALLED]:
        del sys.modules[name]
