"""CausalLM: embedding, decoder layers, norm, head; shared by every family.

Here: building a model from its weights, a step's forward, logits of chosen rows.  A family (llama.py, ...) says which
config keys it reads; what differs between them is data in ModelConfig.  Not here: sampling, pages, scheduling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F

from ..attention import AttentionBackend, AttentionBatch
from ..memory.kv_store import KvStore
from .config import JsonConfig, ModelConfig
from .layer_builder import LayerBuilder
from .layers import Linear
from .weights import Weights


class CausalLM(ABC):
    """A decoder that is ready to run.  One thread at a time."""

    architectures: ClassVar[tuple[str, ...]] = ()

    @classmethod
    @abstractmethod
    def parse_config(cls, config: JsonConfig) -> ModelConfig:
        """The family's reading of config.json."""

    @torch.inference_mode()
    def __init__(self, config: ModelConfig, weights: Weights, attention: AttentionBackend, dtype: torch.dtype) -> None:
        self.config, self.attention, self.dtype = config, attention, dtype
        table = (config.vocab_size, config.hidden_size)
        embedding = weights.take("model.embed_tokens.weight", table)
        self._embedding = embedding.to(dtype)  # stays mapped where the file has this dtype already
        builder = LayerBuilder(config, weights, attention, dtype)
        self._layers = [builder.layer(index) for index in range(config.num_layers)]
        self._norm = weights.take("model.norm.weight", (config.hidden_size,)).to(dtype, copy=True)
        head = self._embedding if config.tie_word_embeddings else weights.take("lm_head.weight", table).to(dtype)
        self._head = Linear(head)

    @torch.inference_mode()
    def forward(self, input_ids: torch.Tensor, batch: AttentionBatch, kv: KvStore) -> torch.Tensor:
        """One step.  input_ids [T] int64 -> hidden [T, hidden], after the final norm; fills the step's slots in `kv`."""
        plan = self.attention.plan(batch)
        hidden = F.embedding(input_ids, self._embedding)
        for index, layer in enumerate(self._layers):
            hidden = layer(hidden, plan, kv.layer(index))
        return self.attention.kernels.rms_norm(hidden, self._norm, self.config.rms_norm_eps)

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [R, hidden], the rows to be sampled or scored -> [R, vocab] float32."""
        return self._head(hidden).float()
