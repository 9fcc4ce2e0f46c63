"""Qwen3 (dense): queries and keys are normalised per head before the rotation; heads have a width of their own.

After Qwen3 (Yang et al. 2025, arXiv:2505.09388) and transformers' Qwen3ForCausalLM."""

from __future__ import annotations

from dataclasses import replace

from .causal_lm import CausalLM
from .config import JsonConfig, ModelConfig, parse_common, parse_layer_windows


class Qwen3(CausalLM):
    architectures = ("Qwen3ForCausalLM",)

    @classmethod
    def parse_config(cls, config: JsonConfig) -> ModelConfig:
        common = parse_common(config, "Qwen3ForCausalLM", head_dim=128)
        bias = config.boolean("attention_bias", False)
        return replace(
            common,
            attention_bias=bias,
            output_bias=bias,
            qk_norm=True,
            layer_windows=parse_layer_windows(config, common.num_layers),
        )
