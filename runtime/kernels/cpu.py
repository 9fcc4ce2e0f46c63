"""The CPU's kernels as one object. Importing this imports numba."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .paged_attention import paged_attention
from .rms_norm import rms_norm
from .rotate_and_store import rotate_and_store
from .silu_and_mul import silu_and_mul

_ROWS_PARALLEL = 1 << 13  # rows of the little tensors below that make every kernel take its parallel form


class CpuKernels:
    """float32 on the CPU."""

    rms_norm = staticmethod(rms_norm)
    silu_and_mul = staticmethod(silu_and_mul)
    rotate_and_store = staticmethod(rotate_and_store)

    def warmup(self, on_progress: Callable[[float], None]) -> None:
        """Run every form of every kernel once, so that nothing is compiled, or read from numba's cache, on a request's
        path.  The compiled code does not depend on sizes, so tiny tensors do."""
        calls = [
            lambda: _norms(1),
            lambda: _norms(_ROWS_PARALLEL),
            lambda: _gates(1),
            lambda: _gates(_ROWS_PARALLEL),
            lambda: _stores(1),
            lambda: _stores(_ROWS_PARALLEL),
            _attends,
        ]
        for done, call in enumerate(calls):
            on_progress(done / len(calls))
            call()
        on_progress(1.0)


def _norms(rows: int) -> None:
    rms_norm(torch.ones(rows, 8), torch.ones(8), 1e-5)


def _gates(rows: int) -> None:
    silu_and_mul(torch.ones(rows, 4))


def _stores(rows: int) -> None:
    tokens = torch.arange(rows)
    pages, table = torch.empty(rows, 2, 1, 1, 2), torch.ones(rows, 1)
    norm = torch.ones(2)
    rotate_and_store(
        torch.ones(rows, 6), table, table, tokens, tokens, pages, num_heads=1, q_norm=norm, k_norm=norm, eps=1e-5
    )


def _attends() -> None:
    queries, pages = torch.ones(1, 1, 2), torch.ones(1, 2, 1, 1, 2)
    one, zero = torch.ones(1, dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
    starts, out = torch.tensor([0, 1], dtype=torch.int32), torch.empty(1, 1, 2)
    paged_attention(queries, pages, zero.view(1, 1), starts, one, zero, out, scale=1.0, window=None)
