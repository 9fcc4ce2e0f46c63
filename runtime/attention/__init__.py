"""Attention over pages: one interface, several implementations.

`make_attention("cpu")` is the fast one here, `make_attention("reference")` the plain-torch oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from ..kernels import Kernels
from .plan import AttentionBatch

__all__ = ["AttentionBackend", "AttentionBatch", "make_attention"]


class AttentionBackend(Protocol):
    """Stores a step's keys and values and attends to what the pages hold.

    Per step: `plan` once.  Per layer: `kernels.rotate_and_store` for all tokens of the step, then `attend`."""

    @property
    def name(self) -> str: ...

    @property
    def kernels(self) -> Kernels:
        """The elementwise kernels that go with it."""

    def warmup(self, on_progress: Callable[[float], None]) -> None:
        """Compile, or load from the compiler's cache, all that a step may need; on_progress(fraction)."""

    def plan(self, batch: AttentionBatch) -> Any:
        """What this backend derives from a batch, once for all layers; has the batch itself as `.batch`."""

    def attend(
        self, queries: torch.Tensor, plan: Any, kv_layer: torch.Tensor, *, scale: float, window: int | None
    ) -> torch.Tensor:
        """queries [T, Hq, D], rotated; kv_layer [P, 2, S, Hkv, D] -> [T, Hq, D], dtype of queries.

        A query at position p sees keys at positions <= p, and > p - window where a window is set."""


def make_attention(name: str) -> AttentionBackend:
    """The backend called `name`: "cpu" or "reference"."""
    if name == "reference":
        from .reference import ReferenceAttention

        return ReferenceAttention()
    if name == "cpu":
        from .cpu import CpuAttention

        return CpuAttention()
    raise ValueError(f"attention: wanted cpu or reference, got {name!r}")
