"""From a model's files to its decoder layers: names and shapes as Hugging Face writes them.

Here: the one place that knows the tensor names and what is stacked into one matrix.  Not here: arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..attention import AttentionBackend
from .config import ModelConfig
from .layers import Attention, DecoderLayer, GatedMlp, Linear, Rotary
from .weights import Weights


class LayerBuilder:
    """Builds the layers of one model, one after the other."""

    def __init__(self, config: ModelConfig, weights: Weights, attention: AttentionBackend, dtype: torch.dtype) -> None:
        self._config, self._weights, self._attention, self._dtype = config, weights, attention, dtype
        self.rotary = Rotary(config.rope, config.head_dim)  # one for all layers
        self._scratch: dict[tuple[int, int], torch.Tensor] = {}

    def layer(self, index: int) -> DecoderLayer:
        prefix, hidden = f"model.layers.{index}.", self._config.hidden_size
        return DecoderLayer(
            input_norm=self._vector(prefix + "input_layernorm.weight", hidden),
            attention=self._attention_of(index, prefix + "self_attn."),
            post_attention_norm=self._vector(prefix + "post_attention_layernorm.weight", hidden),
            mlp=self._mlp(prefix + "mlp."),
            norm_eps=self._config.rms_norm_eps,
            backend=self._attention,
        )

    def _attention_of(self, index: int, prefix: str) -> Attention:
        config = self._config
        q_rows, kv_rows = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        parts = [(prefix + "q_proj", q_rows), (prefix + "k_proj", kv_rows), (prefix + "v_proj", kv_rows)]
        norms = [prefix + "q_norm.weight", prefix + "k_norm.weight"]
        q_norm, k_norm = (self._vector(name, config.head_dim) if config.qk_norm else None for name in norms)
        return Attention(
            qkv=self._linear(parts, config.hidden_size, config.attention_bias),
            output=self._linear([(prefix + "o_proj", config.hidden_size)], q_rows, config.output_bias),
            rotary=self.rotary,
            q_norm=q_norm,
            k_norm=k_norm,
            norm_eps=config.rms_norm_eps,
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            window=config.window(index),
            backend=self._attention,
        )

    def _mlp(self, prefix: str) -> GatedMlp:
        config = self._config
        parts = [(prefix + "gate_proj", config.intermediate_size), (prefix + "up_proj", config.intermediate_size)]
        return GatedMlp(
            gate_up=self._linear(parts, config.hidden_size, config.mlp_bias),
            down=self._linear([(prefix + "down_proj", config.hidden_size)], config.intermediate_size, config.mlp_bias),
            backend=self._attention,
        )

    def _linear(self, parts: Sequence[tuple[str, int]], columns: int, bias: bool) -> Linear:
        """One matrix of the given modules' rows, one below the other."""
        names = [f"{name}.weight" for name, _ in parts]
        shapes = [(rows, columns) for _, rows in parts]
        offset = None
        if bias:
            offset = torch.empty(sum(rows for _, rows in parts), dtype=self._dtype)
            self._weights.stack([f"{name}.bias" for name, _ in parts], [(rows,) for _, rows in parts], offset)
        if len(parts) == 1:
            return Linear(self._weights.take(names[0], shapes[0]).to(self._dtype), offset)
        matrix = self._matrix(sum(rows for _, rows in parts), columns)
        return Linear(self._weights.stack(names, shapes, matrix), offset)

    def _matrix(self, rows: int, columns: int) -> torch.Tensor:
        """Memory to stack into: reused from layer to layer where Linear makes a packed copy of its own."""
        if not Linear.packs(self._dtype):
            return torch.empty(rows, columns, dtype=self._dtype)
        if (rows, columns) not in self._scratch:
            self._scratch[rows, columns] = torch.empty(rows, columns, dtype=self._dtype)
        return self._scratch[rows, columns]

    def _vector(self, name: str, size: int) -> torch.Tensor:
        return self._weights.take(name, (size,)).to(self._dtype, copy=True)
