"""exp of float32 rows, in a form that LLVM turns into vector code (numba's math.exp is one call an element)."""

from __future__ import annotations

import math

import numba
import numpy as np

from .numba_setup import FAST_MATH

_LOG2_E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that n * high is exact
_LN2_LOW = np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # exp of it is about 1e-38, the least normal number
_HIGHEST = np.float32(88.0)
_C0, _C1, _C2 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
_C3, _C4, _C5 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
_ONE, _HALF = np.float32(1.0), np.float32(0.5)


@numba.njit(fastmath=FAST_MATH, inline="always")
def exp_parts(x: np.float32) -> tuple[np.float32, np.int32]:
    """exp(x) = m * 2^n as (m, the bits of 2^n as a float32), within 2 ulp for x in [-87, 88]; outside it is clamped.

    The caller stores the bits into an int32 view of a float32 array and multiplies: numba has no scalar bit cast.
    Polynomial and reduction of Cephes' expf (Moshier 1992)."""
    x = min(max(x, _LOWEST), _HIGHEST)
    n = np.float32(math.floor(x * _LOG2_E + _HALF))
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_C0 * r + _C1) * r + _C2) * r + _C3) * r + _C4) * r + _C5
    return p * r * r + r + _ONE, np.int32((np.int32(n) + np.int32(127)) << np.int32(23))
