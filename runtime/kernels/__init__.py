"""Kernels: one function a file, with its shapes in the docstring and its truth in reference.py.

`Kernels` is what a model needs besides matrix products and attention.  Numba is imported only by cpu.py and the files
it names; Triton is not imported at all yet."""

from __future__ import annotations

from typing import Protocol

import torch

__all__ = ["Kernels"]


class Kernels(Protocol):
    """Shapes and errors: see the functions of the same names in reference.py."""

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor: ...

    def silu_and_mul(self, gate_up: torch.Tensor) -> torch.Tensor: ...

    def rotate_and_store(
        self,
        qkv: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        positions: torch.Tensor,
        slots: torch.Tensor,
        kv_layer: torch.Tensor,
        *,
        num_heads: int,
        q_norm: torch.Tensor | None,
        k_norm: torch.Tensor | None,
        eps: float,
    ) -> torch.Tensor: ...
