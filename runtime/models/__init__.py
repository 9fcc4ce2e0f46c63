"""Models: from files on disk to a decoder that computes hidden states and logits.

`resolve_model` finds (and where needed converts) the files without loading torch; `load_model` makes a CausalLM."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .causal_lm import CausalLM
    from .config import ModelConfig
    from .loading import load_model
    from .model_files import ModelFiles, resolve_model

__all__ = ["CausalLM", "ModelConfig", "ModelFiles", "load_model", "resolve_model"]

_HOMES = {
    "CausalLM": "causal_lm",
    "ModelConfig": "config",
    "ModelFiles": "model_files",
    "load_model": "loading",
    "resolve_model": "model_files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
