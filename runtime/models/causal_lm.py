"""CausalLM: embedding, decoder layers, norm, head; shared by every family.

Here: building a model from its weights, a step's forward, logits of chosen rows.  A family (llama.py, ...) says which
config keys it reads; what differs between them is data in ModelConfig.  Not here: sampling, pages, scheduling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
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
        self._rotary = builder.rotary
        self._layers = [builder.layer(index) for index in range(config.num_layers)]
        self._norm = weights.take("model.norm.weight", (config.hidden_size,)).to(dtype, copy=True)
        head = self._embedding if config.tie_word_embeddings else weights.take("lm_head.weight", table).to(dtype)
        self._head = Linear(head)

    @torch.inference_mode()
    def warmup(self, on_progress: Callable[[str, float], None] | None = None) -> None:
        """Make the first step as quick as the later ones: compile the kernels (once a machine), start the threads, and
        read every weight once.  on_progress(what, fraction)."""
        report = on_progress or (lambda what, fraction: None)
        self.attention.warmup(lambda fraction: report("compiling kernels", fraction))
        config = self.config
        kv = KvStore(config.num_layers, 1, 1, config.num_kv_heads, config.head_dim, self.dtype)
        zero, ends = torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1], dtype=torch.int32)
        batch = AttentionBatch(zero, zero, ends, ends[1:], ends[:1].view(1, 1), page_size=1)
        self.logits(self.forward(zero, batch, kv))

    @torch.inference_mode()
    def forward(self, input_ids: torch.Tensor, batch: AttentionBatch, kv: KvStore) -> torch.Tensor:
        """One step: input_ids [T] int64 -> hidden [T, hidden], after the final norm; fills its slots in `kv`."""
        self._rotary.cover(int(batch.seq_lens.max()))
        plan = self.attention.plan(batch)
        hidden = F.embedding(input_ids, self._embedding)
        for index, layer in enumerate(self._layers):
            hidden = layer(hidden, plan, kv.layer(index))
        return self.attention.kernels.rms_norm(hidden, self._norm, self.config.rms_norm_eps)

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [R, hidden], the rows to be sampled or scored -> [R, vocab] float32."""
        return self._head(hidden).float()
