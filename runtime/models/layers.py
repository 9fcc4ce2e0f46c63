"""What the families are built of: linear maps, the rotary tables, attention, the gated MLP, the decoder layer.

Here: plain objects over plain tensors; inference only, so no nn.Module.  Weights that are multiplied with the same
input (query, key, value; gate, up) are one matrix.  Not here: reading files (weights.py), kernels (runtime/kernels)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F

from ..attention import AttentionBackend
from .config import RopeConfig


@cache
def can_pack() -> bool:
    """Whether this build of torch has oneDNN's packed linear for float32 on the CPU."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16), 1)
        torch.ops.mkldnn._linear_pointwise(torch.zeros(1, 16), packed, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return True


class Linear:
    """y = x W^T + b, W [N, K].

    On the CPU in float32 the weight is kept in oneDNN's packed layout, and only there: against F.linear on the default
    model's shapes (2 cores with AVX-512, 1 to 512 rows) it takes 0.2 to 0.85 of the time, and at one row it uses every
    core, which F.linear does not."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self._packed = self.packs(weight.dtype)
        # Packing copies, so the caller may reuse the memory of `weight`; where it is not packed it is kept as it is.
        self._weight: Any = torch.ops.mkldnn._reorder_linear_weight(weight, 1) if self._packed else weight
        self._bias = bias

    @staticmethod
    def packs(dtype: torch.dtype) -> bool:
        """Whether a weight of this dtype is copied into the packed layout."""
        return dtype == torch.float32 and can_pack()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, K] -> [T, N]"""
        if self._packed:
            y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
            return y
        return F.linear(x, self._weight, self._bias)

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """residual + (x W^T + b) [T, N]; a new tensor."""
        if self._packed:
            y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, residual, self._weight, self._bias, "add")
            return y
        return F.linear(x, self._weight, self._bias).add_(residual)


class Rotary:
    """cos and sin of every position times every frequency, each [positions, D / 2] float32.

    A model may claim a context of millions of tokens, so the tables hold what has been asked for, doubling."""

    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, rope: RopeConfig, head_dim: int, num_positions: int = 4096) -> None:
        self._frequencies = inverse_frequencies(rope, head_dim)
        self._fill(num_positions)

    def cover(self, num_positions: int) -> None:
        """Make sure that positions below `num_positions` are in the tables."""
        if num_positions > self.cos.shape[0]:
            self._fill(max(num_positions, 2 * self.cos.shape[0]))

    def _fill(self, num_positions: int) -> None:
        angles = torch.outer(torch.arange(num_positions, dtype=torch.float32), self._frequencies)
        self.cos, self.sin = angles.cos(), angles.sin()


def inverse_frequencies(rope: RopeConfig, head_dim: int) -> torch.Tensor:
    """[D / 2] float32, in radians a token.  The order of operations is transformers', so that the bits are too."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.type == "linear":
        return frequencies / rope.factor
    if rope.type == "llama3":
        return _llama3_frequencies(rope, frequencies)
    return frequencies


def _llama3_frequencies(rope: RopeConfig, frequencies: torch.Tensor) -> torch.Tensor:
    """Long wavelengths are stretched by `factor`, short ones kept, those between blended (arXiv:2407.21783)."""
    longest = rope.original_context / rope.low_freq_factor
    shortest = rope.original_context / rope.high_freq_factor
    wavelengths = 2 * math.pi / frequencies
    stretched = torch.where(wavelengths > longest, frequencies / rope.factor, frequencies)
    smooth = (rope.original_context / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blended = (1 - smooth) * stretched / rope.factor + smooth * stretched
    between = ~(wavelengths < shortest) & ~(wavelengths > longest)
    return torch.where(between, blended, stretched)


@dataclass(frozen=True)
class Attention:
    """Grouped-query attention over paged keys and values, with optional norms of queries and keys."""

    qkv: Linear
    output: Linear
    rotary: Rotary
    q_norm: torch.Tensor | None  # [D]
    k_norm: torch.Tensor | None  # [D]
    norm_eps: float
    num_heads: int
    head_dim: int
    window: int | None
    backend: AttentionBackend

    def add(self, x: torch.Tensor, residual: torch.Tensor, plan: Any, kv_layer: torch.Tensor) -> torch.Tensor:
        """residual + attention(x); all keys and values of the step are in their slots before any is read."""
        queries = self.backend.kernels.rotate_and_store(
            self.qkv(x),
            self.rotary.cos,
            self.rotary.sin,
            plan.batch.positions,
            plan.batch.slots,
            kv_layer,
            num_heads=self.num_heads,
            q_norm=self.q_norm,
            k_norm=self.k_norm,
            eps=self.norm_eps,
        )  # [T, Hq, D]
        mixed = self.backend.attend(queries, plan, kv_layer, scale=self.head_dim**-0.5, window=self.window)
        return self.output.add(mixed.view(x.shape[0], self.num_heads * self.head_dim), residual)


@dataclass(frozen=True)
class GatedMlp:
    """down(silu(gate(x)) * up(x)), after Shazeer 2020, arXiv:2002.05202."""

    gate_up: Linear
    down: Linear
    backend: AttentionBackend

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self.down.add(self.backend.kernels.silu_and_mul(self.gate_up(x)), residual)


@dataclass(frozen=True)
class DecoderLayer:
    """Pre-norm: attention, then MLP, each added to what came in."""

    input_norm: torch.Tensor  # [hidden]
    attention: Attention
    post_attention_norm: torch.Tensor  # [hidden]
    mlp: GatedMlp
    norm_eps: float
    backend: AttentionBackend

    def __call__(self, hidden: torch.Tensor, plan: Any, kv_layer: torch.Tensor) -> torch.Tensor:
        rms_norm = self.backend.kernels.rms_norm
        hidden = self.attention.add(rms_norm(hidden, self.input_norm, self.norm_eps), hidden, plan, kv_layer)
        return self.mlp.add(rms_norm(hidden, self.post_attention_norm, self.norm_eps), hidden)
