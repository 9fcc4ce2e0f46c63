"""The gate of the MLP on the CPU: silu(gate) * up, float32."""

from __future__ import annotations

import numba
import numpy as np
import torch

from .numba_setup import FAST_MATH, parallel_region
from .types import FloatArray, IntArray
from .vector_exp import exp_parts

_PARALLEL_ELEMENTS = 1 << 14
_BLOCK = 256  # elements whose exponentials are held at a time


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """gate / (1 + exp(-gate)) * up.

    gate_up  [T, 2 I]  float32, contiguous; [:, :I] gate, [:, I:] up
    returns  [T, I]    float32
    Truth: reference.silu_and_mul (rtol 1e-5, atol 1e-6).  After Shazeer 2020, arXiv:2002.05202."""
    rows, columns = gate_up.shape[0], gate_up.shape[1] // 2
    out = gate_up.new_empty(rows, columns)
    if out.numel() < _PARALLEL_ELEMENTS:
        _rows_serial(gate_up.numpy(), out.numpy())
    else:
        with parallel_region:
            _rows_parallel(gate_up.numpy(), out.numpy())
    return out


@numba.njit(fastmath=FAST_MATH, inline="always")
def _part(gate_up: FloatArray, out: FloatArray, row: int, start: int, powers: IntArray, powers_f: FloatArray) -> None:
    columns = out.shape[1]
    count = min(_BLOCK, columns - start)
    for i in range(count):
        mantissa, bits = exp_parts(-gate_up[row, start + i])
        out[row, start + i] = mantissa
        powers[i] = bits
    for i in range(count):
        column = start + i
        decay = out[row, column] * powers_f[i]
        out[row, column] = gate_up[row, column] / (np.float32(1.0) + decay) * gate_up[row, columns + column]


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True)
def _rows_serial(gate_up: FloatArray, out: FloatArray) -> None:
    powers = np.empty(_BLOCK, np.int32)
    powers_f = powers.view(np.float32)
    for row in range(out.shape[0]):
        for start in range(0, out.shape[1], _BLOCK):
            _part(gate_up, out, row, start, powers, powers_f)


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True, parallel=True)
def _rows_parallel(gate_up: FloatArray, out: FloatArray) -> None:
    parts = (out.shape[1] + _BLOCK - 1) // _BLOCK
    for item in numba.prange(out.shape[0] * parts):
        powers = np.empty(_BLOCK, np.int32)
        powers_f = powers.view(np.float32)
        _part(gate_up, out, item // parts, item % parts * _BLOCK, powers, powers_f)
