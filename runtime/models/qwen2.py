"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and a window on the upper layers where asked for.

After Qwen2 (Yang et al. 2024, arXiv:2407.10671) and transformers' Qwen2ForCausalLM."""

from __future__ import annotations

from dataclasses import replace

from .causal_lm import CausalLM
from .config import JsonConfig, ModelConfig, parse_common, parse_layer_windows


class Qwen2(CausalLM):
    architectures = ("Qwen2ForCausalLM",)

    @classmethod
    def parse_config(cls, config: JsonConfig) -> ModelConfig:
        common = parse_common(config, "Qwen2ForCausalLM")
        return replace(
            common,
            attention_bias=True,  # the class has no switch for it
            layer_windows=parse_layer_windows(config, common.num_layers),
        )
