"""RMSNorm of float32 rows on the CPU."""

from __future__ import annotations

import math

import numba
import numpy as np
import torch

from .numba_setup import FAST_MATH, parallel_region
from .types import FloatArray

_PARALLEL_ELEMENTS = 1 << 16  # below this, waking the other cores costs more than they save


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis.

    x        [T, H]  float32, contiguous
    weight   [H]     float32
    returns  [T, H]  float32
    Truth: reference.rms_norm (rtol 1e-5).  After Zhang and Sennrich 2019, arXiv:1910.07467."""
    out = torch.empty_like(x)
    arguments = (x.numpy(), weight.numpy(), np.float32(eps), out.numpy())
    if x.numel() < _PARALLEL_ELEMENTS:
        _rows_serial(*arguments)
    else:
        with parallel_region:
            _rows_parallel(*arguments)
    return out


@numba.njit(fastmath=FAST_MATH, inline="always")
def _row(x: FloatArray, weight: FloatArray, eps: np.float32, out: FloatArray, row: int) -> None:
    total = np.float32(0.0)
    for column in range(x.shape[1]):
        total += x[row, column] * x[row, column]
    scale = np.float32(1.0) / math.sqrt(total / np.float32(x.shape[1]) + eps)
    for column in range(x.shape[1]):
        out[row, column] = x[row, column] * scale * weight[column]


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True)
def _rows_serial(x: FloatArray, weight: FloatArray, eps: np.float32, out: FloatArray) -> None:
    for row in range(x.shape[0]):
        _row(x, weight, eps, out, row)


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True, parallel=True)
def _rows_parallel(x: FloatArray, weight: FloatArray, eps: np.float32, out: FloatArray) -> None:
    for row in numba.prange(x.shape[0]):
        _row(x, weight, eps, out, row)
