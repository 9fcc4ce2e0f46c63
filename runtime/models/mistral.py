"""Mistral: Llama with a sliding window over every layer, and no biases.

After Mistral 7B (Jiang et al. 2023, arXiv:2310.06825) and transformers' MistralForCausalLM.  A config without the key
has a window of 4096, that class's default; later models say `"sliding_window": null` and attend to everything."""

from __future__ import annotations

from dataclasses import replace

from .causal_lm import CausalLM
from .config import JsonConfig, ModelConfig, parse_common


class Mistral(CausalLM):
    architectures = ("MistralForCausalLM",)

    @classmethod
    def parse_config(cls, config: JsonConfig) -> ModelConfig:
        common = parse_common(config, "MistralForCausalLM")
        if "sliding_window" in config.values and config.get("sliding_window") is None:
            return common
        return replace(common, layer_windows=(config.integer("sliding_window", 4096),) * common.num_layers)
