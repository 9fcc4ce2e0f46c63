"""Norm and rotation of queries and keys, and the writing of keys and values to their pages, in one pass on the CPU."""

from __future__ import annotations

import math

import numba
import numpy as np
import torch

from .numba_setup import FAST_MATH, parallel_region
from .types import FloatArray, IntArray

_PARALLEL_ELEMENTS = 1 << 15
_NO_NORM = torch.empty(0)


def rotate_and_store(
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
) -> torch.Tensor:
    """Normalise (where asked) and rotate queries and keys; write keys and values to their slots; return the queries.

    qkv        [T, (Hq + 2 Hkv) D]  float32, contiguous; query heads, key heads, value heads
    cos, sin   [C, D / 2]           float32, one row per position
    positions  [T]                  int64, each < C
    slots      [T]                  int64, page * S + offset, no two alike
    kv_layer   [P, 2, S, Hkv, D]    float32, contiguous; written
    q_norm     [D] or None          RMSNorm weight over each query head; k_norm likewise over each key head
    returns    [T, Hq, D]           float32
    Halves are rotated against each other (GPT-NeoX order).  Positions and slots are not range-checked.
    Truth: reference.rotate_and_store (rtol 1e-5, atol 1e-6).  After RoFormer (Su et al. 2021, arXiv:2104.09864)."""
    queries = qkv.new_empty(qkv.shape[0], num_heads, kv_layer.shape[4])
    arguments = (
        qkv.numpy(),
        cos.numpy(),
        sin.numpy(),
        positions.numpy(),
        slots.numpy(),
        kv_layer.numpy(),
        (_NO_NORM if q_norm is None else q_norm).numpy(),
        (_NO_NORM if k_norm is None else k_norm).numpy(),
        np.float32(eps),
        queries.numpy(),
    )
    if qkv.numel() < _PARALLEL_ELEMENTS:
        _tokens_serial(*arguments)
    else:
        with parallel_region:
            _tokens_parallel(*arguments)
    return queries


@numba.njit(fastmath=FAST_MATH, inline="always")
def _head(
    row: FloatArray, start: int, norm: FloatArray, eps: np.float32, cos: FloatArray, sin: FloatArray, out: FloatArray
) -> None:
    """One head: out [D] = rotate(norm(row[start:start + D])); an empty `norm` means none."""
    size = out.shape[0]
    half = size // 2
    if norm.shape[0] == 0:
        for i in range(half):
            first, second = row[start + i], row[start + half + i]
            out[i] = first * cos[i] - second * sin[i]
            out[half + i] = second * cos[i] + first * sin[i]
        return
    total = np.float32(0.0)
    for i in range(size):
        total += row[start + i] * row[start + i]
    scale = np.float32(1.0) / math.sqrt(total / np.float32(size) + eps)
    for i in range(half):
        first = row[start + i] * scale * norm[i]
        second = row[start + half + i] * scale * norm[half + i]
        out[i] = first * cos[i] - second * sin[i]
        out[half + i] = second * cos[i] + first * sin[i]


@numba.njit(fastmath=FAST_MATH, inline="always")
def _token(
    token: int,
    qkv: FloatArray,
    cos: FloatArray,
    sin: FloatArray,
    positions: IntArray,
    slots: IntArray,
    kv_layer: FloatArray,
    q_norm: FloatArray,
    k_norm: FloatArray,
    eps: np.float32,
    queries: FloatArray,
) -> None:
    page_size, num_kv_heads, size = kv_layer.shape[2], kv_layer.shape[3], kv_layer.shape[4]
    num_heads = queries.shape[1]
    row = qkv[token]
    row_cos, row_sin = cos[positions[token]], sin[positions[token]]
    page, offset = slots[token] // page_size, slots[token] % page_size
    for head in range(num_heads):
        _head(row, head * size, q_norm, eps, row_cos, row_sin, queries[token, head])
    for head in range(num_kv_heads):
        start = (num_heads + head) * size
        _head(row, start, k_norm, eps, row_cos, row_sin, kv_layer[page, 0, offset, head])
        start += num_kv_heads * size
        for i in range(size):
            kv_layer[page, 1, offset, head, i] = row[start + i]


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True)
def _tokens_serial(
    qkv: FloatArray,
    cos: FloatArray,
    sin: FloatArray,
    positions: IntArray,
    slots: IntArray,
    kv_layer: FloatArray,
    q_norm: FloatArray,
    k_norm: FloatArray,
    eps: np.float32,
    queries: FloatArray,
) -> None:
    for token in range(qkv.shape[0]):
        _token(token, qkv, cos, sin, positions, slots, kv_layer, q_norm, k_norm, eps, queries)


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True, parallel=True)
def _tokens_parallel(
    qkv: FloatArray,
    cos: FloatArray,
    sin: FloatArray,
    positions: IntArray,
    slots: IntArray,
    kv_layer: FloatArray,
    q_norm: FloatArray,
    k_norm: FloatArray,
    eps: np.float32,
    queries: FloatArray,
) -> None:
    for token in numba.prange(qkv.shape[0]):
        _token(token, qkv, cos, sin, positions, slots, kv_layer, q_norm, k_norm, eps, queries)
