"""Each compiled kernel against the same function in plain torch, in its serial and its parallel form."""

from __future__ import annotations

import numba
import pytest
import torch

from forktree.runtime.kernels import reference
from forktree.runtime.kernels.cpu import CpuKernels
from forktree.runtime.kernels.numba_setup import match_torch_threads

CPU = CpuKernels()


@pytest.mark.parametrize("columns", [1, 63, 500])
@pytest.mark.parametrize("rows", [1, 63, 500])
def test_rms_norm(rows: int, columns: int) -> None:
    x, weight = torch.randn(rows, columns) * 5, torch.randn(columns)
    torch.testing.assert_close(CPU.rms_norm(x, weight, 1e-5), reference.rms_norm(x, weight, 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("columns", [1, 63, 500])
@pytest.mark.parametrize("rows", [1, 63, 500])
def test_silu_and_mul(rows: int, columns: int) -> None:
    gate_up = torch.randn(rows, 2 * columns) * 10
    torch.testing.assert_close(CPU.silu_and_mul(gate_up), reference.silu_and_mul(gate_up), rtol=1e-5, atol=1e-6)


def test_silu_of_extreme_gates_is_finite_and_of_nan_is_nan() -> None:
    gates = torch.tensor([[-1e30, -200.0, -88.0, 0.0, 88.0, 1e30, float("nan")]])
    found = CPU.silu_and_mul(torch.cat([gates, torch.ones_like(gates)], dim=1))
    expected = torch.nn.functional.silu(gates)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("tokens", [1, 63, 500])
def test_rotate_and_store(tokens: int, page_size: int, norms: bool) -> None:
    heads, kv_heads, size = 6, 2, 10
    num_pages = -(-tokens // page_size) + 3
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * size)
    angles = torch.rand(600, size // 2) * 6
    slots = torch.randperm(num_pages * page_size)[:tokens]
    positions = torch.randint(0, 600, (tokens,))
    q_norm, k_norm = (torch.randn(size), torch.randn(size)) if norms else (None, None)
    results = []
    for kernels in (CPU, reference.ReferenceKernels()):
        pages = torch.full((num_pages, 2, page_size, kv_heads, size), 7.0)
        queries = kernels.rotate_and_store(
            qkv,
            angles.cos(),
            angles.sin(),
            positions,
            slots,
            pages,
            num_heads=heads,
            q_norm=q_norm,
            k_norm=k_norm,
            eps=1e-5,
        )
        results.append((queries, pages))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)
    written = (results[0][1] != 7.0).any(dim=(1, 3, 4)) if page_size == 1 else None
    assert written is None or int(written.sum()) == tokens, "slots that nobody asked for are left alone"


def test_warming_up_compiles_every_form_and_reports_its_way() -> None:
    seen: list[float] = []
    CPU.warmup(seen.append)
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


def test_numba_takes_as_many_threads_as_torch() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        match_torch_threads()
        assert numba.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
        match_torch_threads()
    assert numba.get_num_threads() == min(before, numba.config.NUMBA_NUM_THREADS)
