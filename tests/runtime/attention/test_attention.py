"""The CPU attention agrees with the oracle, whatever the spans, pages and windows; and reads nothing it should not."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.runtime.attention import AttentionBatch, make_attention

CPU, REFERENCE = make_attention("cpu"), make_attention("reference")


def step(
    spans: Sequence[tuple[int, int]],
    page_size: int,
    *,
    heads: int = 4,
    kv_heads: int = 2,
    size: int = 16,
    seed: int = 0,
) -> tuple[torch.Tensor, AttentionBatch, torch.Tensor]:
    """(queries, batch, pages of one layer) of spans (queries, context); unused slots and table entries are poison."""
    generator = torch.Generator().manual_seed(seed)
    counts = [-(-context // page_size) for _, context in spans]
    ids = list(range(sum(counts) + 3))
    random.Random(seed).shuffle(ids)
    pages = torch.full((len(ids), 2, page_size, kv_heads, size), float("nan"))
    table = torch.full((len(spans), max(counts)), 1 << 30, dtype=torch.int32)
    for row, ((_, context), count) in enumerate(zip(spans, counts, strict=True)):
        own = [ids.pop() for _ in range(count)]
        table[row, :count] = torch.tensor(own)
        for position in range(context):
            where = pages[own[position // page_size], :, position % page_size]
            where.copy_(torch.randn(2, kv_heads, size, generator=generator))
    num_queries = torch.tensor([queries for queries, _ in spans])
    total = int(num_queries.sum())
    batch = AttentionBatch(
        positions=torch.zeros(total, dtype=torch.int64),
        slots=torch.zeros(total, dtype=torch.int64),
        query_starts=torch.cat([torch.zeros(1), num_queries.cumsum(0)]).int(),
        seq_lens=torch.tensor([context for _, context in spans], dtype=torch.int32),
        page_table=table,
        page_size=page_size,
    )
    return torch.randn(total, heads, size, generator=generator) * 3, batch, pages


def check(queries: torch.Tensor, batch: AttentionBatch, pages: torch.Tensor, window: int | None = None) -> None:
    scale = queries.shape[-1] ** -0.5
    expected = REFERENCE.attend(queries, REFERENCE.plan(batch), pages, scale=scale, window=window)
    found = CPU.attend(queries, CPU.plan(batch), pages, scale=scale, window=window)
    assert not expected.isnan().any()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [None, 1, 50])
@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize("context", [1, 63, 500])
def test_decode_at_odd_lengths(context: int, page_size: int, window: int | None) -> None:
    check(*step([(1, context), (1, 1), (1, 7)], page_size), window)


@pytest.mark.parametrize("window", [None, 1, 50, 300])
@pytest.mark.parametrize("page_size", [1, 16])
@pytest.mark.parametrize(("queries", "context"), [(1, 1), (63, 63), (63, 500), (500, 500), (300, 563)])
def test_prefill_and_its_chunks_at_odd_lengths(queries: int, context: int, page_size: int, window: int | None) -> None:
    check(*step([(queries, context)], page_size), window)


@pytest.mark.parametrize("length", [2, 8, 9, 10])
def test_short_and_long_spans_on_both_sides_of_the_threshold(length: int) -> None:
    check(*step([(1, 40), (length, 70), (30, 64), (1, 3), (length, length)], 4))


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(1, 1, 2), (9, 3, 64), (8, 1, 128), (5, 5, 80), (6, 2, 10)])
def test_head_counts_and_sizes(heads: int, kv_heads: int, size: int) -> None:
    check(*step([(1, 65), (20, 40), (3, 129)], 4, heads=heads, kv_heads=kv_heads, size=size))


def test_sequences_may_share_pages() -> None:
    queries, batch, pages = step([(1, 32), (20, 32)], 8)
    batch.page_table[1, :3] = batch.page_table[0, :3]
    check(queries, batch, pages)


def test_scores_far_apart_neither_overflow_nor_lose_the_largest() -> None:
    queries, batch, pages = step([(1, 200), (12, 200)], 1)
    check(queries * 200, batch, pages)
    check(queries * 0, batch, pages)


def test_a_table_that_is_a_view_of_a_larger_one_is_read_right() -> None:
    queries, batch, pages = step([(1, 30), (1, 20)], 4)
    wide = torch.full((2, 50), 1 << 30, dtype=torch.int32)
    wide[:, : batch.page_table.shape[1]] = batch.page_table
    view = wide[:, : batch.page_table.shape[1]]
    viewed = AttentionBatch(batch.positions, batch.slots, batch.query_starts, batch.seq_lens, view, batch.page_size)
    check(queries, viewed, pages)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(1, 24), st.integers(0, 90)), min_size=1, max_size=6),
    page_size=st.sampled_from([1, 2, 3, 16]),
    groups=st.sampled_from([1, 2, 3]),
    kv_heads=st.sampled_from([1, 2]),
    size=st.sampled_from([2, 6, 32]),
    window=st.none() | st.integers(1, 100),
    seed=st.integers(0, 1000),
)
def test_any_step_agrees_with_the_oracle(
    spans: list[tuple[int, int]],
    page_size: int,
    groups: int,
    kv_heads: int,
    size: int,
    window: int | None,
    seed: int,
) -> None:
    made = [(queries, queries + before) for queries, before in spans]
    check(*step(made, page_size, heads=groups * kv_heads, kv_heads=kv_heads, size=size, seed=seed), window)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError) as caught:
        make_attention("flash")
    assert str(caught.value) == "attention: wanted cpu or reference, got 'flash'"
