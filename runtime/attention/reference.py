"""The oracle: gather the pages of each span, full softmax in float32, plain torch.  Slow, and meant to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..kernels.reference import ReferenceKernels, paged_attention
from .plan import AttentionBatch


@dataclass(frozen=True)
class ReferencePlan:
    batch: AttentionBatch


class ReferenceAttention:
    """Any device, any float dtype."""

    name = "reference"

    def __init__(self) -> None:
        self.kernels = ReferenceKernels()

    def warmup(self, on_progress: Callable[[float], None]) -> None:
        on_progress(1.0)

    def plan(self, batch: AttentionBatch) -> ReferencePlan:
        return ReferencePlan(batch)

    def attend(
        self, queries: torch.Tensor, plan: ReferencePlan, kv_layer: torch.Tensor, *, scale: float, window: int | None
    ) -> torch.Tensor:
        batch = plan.batch
        return paged_attention(
            queries, kv_layer, batch.page_table, batch.query_starts, batch.seq_lens, scale=scale, window=window
        )
