"""Attention of short spans over their pages on the CPU, reading keys and values where they lie."""

from __future__ import annotations

import numba
import numpy as np
import torch

from .numba_setup import FAST_MATH, parallel_region
from .types import FloatArray, IntArray
from .vector_exp import exp_parts

_KEYS = 64  # keys of one head looked at together: 64 * 64 floats of keys stay in the first-level cache
_NO_WINDOW = 1 << 40
_SMALLEST = np.float32(-3.0e38)


def paged_attention(
    queries: torch.Tensor,
    kv_layer: torch.Tensor,
    page_table: torch.Tensor,
    query_starts: torch.Tensor,
    seq_lens: torch.Tensor,
    spans: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    window: int | None,
) -> None:
    """Causal attention of the chosen spans' queries over the pages of their own sequences, into their rows of `out`.

    queries       [T, Hq, D]         float32, contiguous; Hq is a multiple of Hkv
    kv_layer      [P, 2, S, Hkv, D]  float32, contiguous; slots past a sequence's length are never read
    page_table    [N, M]             int32; entries past a sequence's last page are never read
    query_starts  [N + 1]            int32; span i's queries are rows query_starts[i]:query_starts[i + 1], the last
                                     positions of its sequence
    seq_lens      [N]                int32, in tokens, the span included, each >= its span's length
    spans         [K]                int32, the spans to compute; rows of `out` of all others are left alone
    window        tokens             a query at p sees keys in (p - window, p]; None: [0, p]
    Work is shared out over (span, key head); the softmax is computed online, block of keys by block of keys.
    Page ids are not range-checked.  Truth: reference.paged_attention (rtol 1e-4, atol 1e-5).
    After PagedAttention (Kwon et al. 2023, arXiv:2309.06180) and FlashAttention (Dao et al. 2022, arXiv:2205.14135)."""
    with parallel_region:
        _run(
            queries.numpy(),
            kv_layer.numpy(),
            page_table.numpy(),
            query_starts.numpy(),
            seq_lens.numpy(),
            spans.numpy(),
            np.float32(scale),
            _NO_WINDOW if window is None else window,
            out.numpy(),
        )


@numba.njit(fastmath=FAST_MATH, cache=True, nogil=True, parallel=True)
def _run(
    queries: FloatArray,
    kv_layer: FloatArray,
    page_table: IntArray,
    query_starts: IntArray,
    seq_lens: IntArray,
    spans: IntArray,
    scale: np.float32,
    window: int,
    out: FloatArray,
) -> None:
    page_size, num_kv_heads, size = kv_layer.shape[2], kv_layer.shape[3], kv_layer.shape[4]
    group = queries.shape[1] // num_kv_heads  # query heads that share a key head
    for item in numba.prange(spans.shape[0] * num_kv_heads):
        span, head = spans[item // num_kv_heads], item % num_kv_heads
        first_row, length = query_starts[span], seq_lens[span]
        num_queries = query_starts[span + 1] - first_row
        first_position = length - num_queries
        rows = num_queries * group  # row r is query r // group, query head head * group + r % group

        scores = np.empty(_KEYS, np.float32)
        powers = np.empty(_KEYS, np.int32)
        powers_f = powers.view(np.float32)
        pages = np.empty(_KEYS, np.int64)
        offsets = np.empty(_KEYS, np.int64)
        highest = np.full(rows, _SMALLEST, np.float32)
        total = np.zeros(rows, np.float32)
        mixed = np.zeros((rows, size), np.float32)

        for block in range(max(0, first_position - window + 1), length, _KEYS):
            block_end = min(block + _KEYS, length)
            for i in range(block_end - block):
                pages[i] = page_table[span, (block + i) // page_size]
                offsets[i] = (block + i) % page_size
            for r in range(rows):
                position = first_position + r // group
                low = max(block, position - window + 1) - block
                high = min(block_end, position + 1) - block
                if low >= high:
                    continue
                query = queries[first_row + r // group, head * group + r % group]
                best = highest[r]
                for i in range(low, high):
                    key = kv_layer[pages[i], 0, offsets[i], head]
                    dot = np.float32(0.0)
                    for d in range(size):
                        dot += query[d] * key[d]
                    scores[i] = dot * scale
                    best = max(best, scores[i])
                if best > highest[r]:
                    mantissa, powers[0] = exp_parts(highest[r] - best)
                    fade = mantissa * powers_f[0]
                    total[r] *= fade
                    for d in range(size):
                        mixed[r, d] *= fade
                    highest[r] = best
                for i in range(low, high):
                    scores[i], powers[i] = exp_parts(scores[i] - best)
                part = np.float32(0.0)
                for i in range(low, high):
                    scores[i] *= powers_f[i]
                    part += scores[i]
                total[r] += part
                row = mixed[r]
                for i in range(low, high):
                    value = kv_layer[pages[i], 1, offsets[i], head]
                    weight = scores[i]
                    for d in range(size):
                        row[d] += weight * value[d]

        for r in range(rows):
            share = np.float32(1.0) / total[r]
            for d in range(size):
                out[first_row + r // group, head * group + r % group, d] = mixed[r, d] * share
