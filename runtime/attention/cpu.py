"""Attention on the CPU: a compiled paged kernel for short spans, torch's fused attention for long ones.

Decode reads few queries against many keys, so its keys are read in place, page by page, shared out over the cores.  A
prefill chunk has enough queries to make it worth gathering its keys once and computing in blocks of matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..kernels.cpu import CpuKernels
from ..kernels.numba_setup import match_torch_threads
from ..kernels.paged_attention import paged_attention
from .plan import AttentionBatch

_LONG_SPAN = 9  # queries from which on gathering keys and SDPA is the faster way (measured at contexts of 128 to 2048)
_QUERY_BLOCK = 256  # queries of one SDPA call: bounds the mask, and skips the keys that a whole block can't see


@dataclass(frozen=True)
class LongSpan:
    """A span that goes through SDPA."""

    first_row: int
    num_queries: int
    length: int  # of its sequence, in tokens, this span included
    pages: torch.Tensor  # [ceil(length / S)] int64


@dataclass(frozen=True)
class CpuPlan:
    batch: AttentionBatch
    short_spans: torch.Tensor  # [K] int32
    long_spans: tuple[LongSpan, ...]
    masks: dict[tuple[int, ...], torch.Tensor]  # of this step, made when first needed, shared by its layers


class CpuAttention:
    """float32 on the CPU."""

    name = "cpu"

    def __init__(self) -> None:
        self.kernels = CpuKernels()

    def warmup(self, on_progress: Callable[[float], None]) -> None:
        match_torch_threads()
        self.kernels.warmup(on_progress)

    def plan(self, batch: AttentionBatch) -> CpuPlan:
        match_torch_threads()
        # A strided view (of a larger buffer, say) would be another type to numba, and compiled for on the spot.
        batch = replace(batch, page_table=batch.page_table.contiguous())
        num_queries = np.diff(batch.query_starts.numpy())
        is_long = num_queries >= _LONG_SPAN
        short_spans = torch.from_numpy(np.flatnonzero(~is_long).astype(np.int32))
        long_spans = tuple(self._long_span(batch, int(span)) for span in np.flatnonzero(is_long))
        return CpuPlan(batch, short_spans, long_spans, {})

    @staticmethod
    def _long_span(batch: AttentionBatch, span: int) -> LongSpan:
        first_row, length = int(batch.query_starts[span]), int(batch.seq_lens[span])
        pages = batch.page_table[span, : -(-length // batch.page_size)].long()
        return LongSpan(first_row, int(batch.query_starts[span + 1]) - first_row, length, pages)

    def attend(
        self, queries: torch.Tensor, plan: CpuPlan, kv_layer: torch.Tensor, *, scale: float, window: int | None
    ) -> torch.Tensor:
        out = torch.empty_like(queries)
        if plan.short_spans.shape[0]:
            batch = plan.batch
            paged_attention(
                queries,
                kv_layer,
                batch.page_table,
                batch.query_starts,
                batch.seq_lens,
                plan.short_spans,
                out,
                scale=scale,
                window=window,
            )
        for span in plan.long_spans:
            _attend_long(queries, span, kv_layer, plan.masks, scale, window, out)
        return out


def _attend_long(
    queries: torch.Tensor,
    span: LongSpan,
    kv_layer: torch.Tensor,
    masks: dict[tuple[int, ...], torch.Tensor],
    scale: float,
    window: int | None,
    out: torch.Tensor,
) -> None:
    """One span: its keys and values gathered once, its queries in blocks, each against the keys it can see at all."""
    num_kv_heads, size = kv_layer.shape[3:]
    group = queries.shape[1] // num_kv_heads
    first_position = span.length - span.num_queries
    oldest = 0 if window is None else max(0, first_position - window + 1)
    first_page = oldest // kv_layer.shape[2]
    base = first_page * kv_layer.shape[2]  # position of the first gathered key
    gathered = kv_layer[span.pages[first_page:]].transpose(1, 2)  # [n, S, 2, Hkv, D]
    gathered = gathered.reshape(-1, 2, num_kv_heads, size)[: span.length - base]  # what lies past the end may be NaN
    keys, values = gathered.permute(1, 2, 0, 3).unsqueeze(2).unbind(0)  # [Hkv, 1, L, D]
    for start in range(0, span.num_queries, _QUERY_BLOCK):
        count = min(_QUERY_BLOCK, span.num_queries - start)
        position = first_position + start
        low = base if window is None else max(base, position - window + 1)
        high = position + count
        rows = slice(span.first_row + start, span.first_row + start + count)
        block = queries[rows].view(count, num_kv_heads, group, size).permute(1, 2, 0, 3)  # [Hkv, G, count, D]
        seen = slice(low - base, high - base)
        shape = (num_kv_heads, group, high - low, size)  # stride 0 over the group: its heads share their keys
        # A block that begins the sequence is the plain causal triangle, which needs no mask.
        is_triangle = low == position and (window is None or window >= count)
        mixed = F.scaled_dot_product_attention(
            block,
            keys[:, :, seen].expand(shape),
            values[:, :, seen].expand(shape),
            attn_mask=None if is_triangle else _mask(masks, position - low, count, high - low, window),
            is_causal=is_triangle,
            scale=scale,
        )
        out[rows] = mixed.permute(2, 0, 1, 3).reshape(count, num_kv_heads * group, size)


def _mask(
    masks: dict[tuple[int, ...], torch.Tensor], offset: int, num_queries: int, num_keys: int, window: int | None
) -> torch.Tensor:
    """[num_queries, num_keys] float32, 0 where query i (at key index offset + i) sees key j, else -inf."""
    key = (offset, num_queries, num_keys, -1 if window is None else window)
    if key not in masks:
        queries = torch.arange(offset, offset + num_queries)[:, None]
        keys = torch.arange(num_keys)
        hidden = keys > queries
        if window is not None:
            hidden |= keys <= queries - window
        masks[key] = torch.zeros(num_queries, num_keys).masked_fill_(hidden, float("-inf"))
    return masks[key]
