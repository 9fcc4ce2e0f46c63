"""The CPU's kernels as one object. Importing this imports numba."""

from __future__ import annotations

from .rms_norm import rms_norm
from .rotate_and_store import rotate_and_store
from .silu_and_mul import silu_and_mul


class CpuKernels:
    """float32 on the CPU."""

    rms_norm = staticmethod(rms_norm)
    silu_and_mul = staticmethod(silu_and_mul)
    rotate_and_store = staticmethod(rotate_and_store)
