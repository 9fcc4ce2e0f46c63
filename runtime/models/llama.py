"""Llama (and all that is shaped like it: SmolLM2, TinyLlama, Yi, ...): the plain pre-norm decoder.

After Llama 2 (Touvron et al. 2023, arXiv:2307.09288) and transformers' LlamaForCausalLM, whose config keys it reads."""

from __future__ import annotations

from dataclasses import replace

from .causal_lm import CausalLM
from .config import JsonConfig, ModelConfig, parse_common


class Llama(CausalLM):
    architectures = ("LlamaForCausalLM",)

    @classmethod
    def parse_config(cls, config: JsonConfig) -> ModelConfig:
        bias = config.boolean("attention_bias", False)
        return replace(
            parse_common(config, "LlamaForCausalLM"),
            attention_bias=bias,
            output_bias=bias,
            mlp_bias=config.boolean("mlp_bias", False),
        )
