"""load_model: a resolved model's files -> a CausalLM."""

from __future__ import annotations

import torch

from ..attention import AttentionBackend
from ..errors import InvalidRequest
from .causal_lm import CausalLM
from .config import JsonConfig
from .model_files import ModelFiles
from .registry import family_of
from .weights import Weights


def load_model(files: ModelFiles, *, attention: AttentionBackend, dtype: torch.dtype = torch.float32) -> CausalLM:
    """Build the model that `files` hold.  Raises ModelLoadError naming the file at fault and a remedy; InvalidRequest
    for a dtype that the attention backend can't compute in."""
    if attention.name == "cpu" and dtype != torch.float32:
        raise InvalidRequest("dtype", 'the cpu attention computes in float32; use float32, or attention="reference"')
    family, config = family_of(JsonConfig.read(files.directory / "config.json"))
    return family(config, Weights(files.directory), attention, dtype)
