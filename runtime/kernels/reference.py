"""Every kernel in plain torch: the truth that the fast ones are tested against.  Any device, any float dtype."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, computed in float32.

    x        [..., H]  float
    weight   [H]       dtype of x
    returns  [..., H]  dtype of x
    After Zhang and Sennrich 2019, arXiv:1910.07467; rounding as in transformers: the norm is rounded, then scaled."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def silu_and_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up.

    gate_up  [T, 2 I]  float; [:, :I] gate, [:, I:] up
    returns  [T, I]    dtype of gate_up
    After Shazeer 2020, arXiv:2002.05202."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


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

    qkv        [T, (Hq + 2 Hkv) D]  float; query heads, key heads, value heads
    cos, sin   [C, D / 2]           float32, one row per position
    positions  [T]                  int64, each < C
    slots      [T]                  int64, page * S + offset, no two alike
    kv_layer   [P, 2, S, Hkv, D]    dtype of qkv, contiguous; written
    q_norm     [D] or None          RMSNorm weight over each query head; k_norm likewise over each key head
    returns    [T, Hq, D]           dtype of qkv
    Halves are rotated against each other (GPT-NeoX order): (a, b) -> (a cos - b sin, b cos + a sin).
    Positions and slots are not range-checked.  After RoFormer (Su et al. 2021, arXiv:2104.09864)."""
    page_size, num_kv_heads, head_dim = kv_layer.shape[2:]
    heads = qkv.view(qkv.shape[0], num_heads + 2 * num_kv_heads, head_dim)
    queries, keys = heads[:, :num_heads], heads[:, num_heads : num_heads + num_kv_heads]
    values = heads[:, num_heads + num_kv_heads :]
    if q_norm is not None:
        queries = rms_norm(queries, q_norm, eps)
    if k_norm is not None:
        keys = rms_norm(keys, k_norm, eps)
    row_cos, row_sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)  # [T, 1, D / 2]
    pages, offsets = slots // page_size, slots % page_size
    kv_layer[pages, 0, offsets] = _rotate(keys, row_cos, row_sin)
    kv_layer[pages, 1, offsets] = values
    return _rotate(queries, row_cos, row_sin)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def paged_attention(
    queries: torch.Tensor,
    kv_layer: torch.Tensor,
    page_table: torch.Tensor,
    query_starts: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of each span's queries over the pages of its own sequence.

    queries       [T, Hq, D]         float; Hq is a multiple of Hkv
    kv_layer      [P, 2, S, Hkv, D]  dtype of queries; slots past a sequence's length are never read
    page_table    [N, M]             int32; entries past a sequence's last page are never read
    query_starts  [N + 1]            int32; span i's queries are rows query_starts[i]:query_starts[i + 1], the last
                                     positions of its sequence
    seq_lens      [N]                int32, in tokens, the span included, each >= its span's length
    window        tokens             a query at p sees keys in (p - window, p]; None: [0, p]
    returns       [T, Hq, D]         dtype of queries, accumulated in float32
    Page ids are not range-checked.  After PagedAttention (Kwon et al. 2023, arXiv:2309.06180)."""
    page_size, num_kv_heads, head_dim = kv_layer.shape[2:]
    num_heads = queries.shape[1]
    out = torch.empty_like(queries)
    starts, lengths = query_starts.tolist(), seq_lens.tolist()
    for span, length in enumerate(lengths):
        rows = slice(starts[span], starts[span + 1])
        pages = page_table[span, : -(-length // page_size)].long()
        kept = kv_layer[pages].transpose(1, 2).reshape(-1, 2, num_kv_heads, head_dim)[:length].float()
        keys, values = kept.repeat_interleave(num_heads // num_kv_heads, dim=2).unbind(1)  # [L, Hq, D]
        scores = torch.einsum("qhd,khd->hqk", queries[rows].float(), keys) * scale
        key_positions = torch.arange(length, device=queries.device)
        query_positions = key_positions[length - (rows.stop - rows.start) :, None]
        hidden = key_positions > query_positions
        if window is not None:
            hidden |= key_positions <= query_positions - window
        weights = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
        out[rows] = torch.einsum("hqk,khd->qhd", weights, values).to(out.dtype)
    return out


class ReferenceKernels:
    """The functions above as one object, which is how a model takes its kernels."""

    rms_norm = staticmethod(rms_norm)
    silu_and_mul = staticmethod(silu_and_mul)
    rotate_and_store = staticmethod(rotate_and_store)
