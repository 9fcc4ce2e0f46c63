"""Tiny models for tests, and a paged run of them the way the engine would do it, without an engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from forktree.runtime.attention import AttentionBatch
from forktree.runtime.memory.kv_store import KvStore
from forktree.runtime.models import CausalLM, ModelFiles

VOCABULARY = 61


def tiny_config(family: str, **changes: Any) -> Any:
    """A transformers config of two layers with grouped queries."""
    import transformers

    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 1,
        **changes,
    }
    return getattr(transformers, f"{family}Config")(**values)


def save_tiny_model(directory: Path, config: Any, **how: Any) -> Any:
    """A transformers model with random weights (norms and biases too), saved to `directory`; returns the model."""
    import transformers

    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.15)
    model.save_pretrained(directory, **how)
    return model


def files_of(directory: Path) -> ModelFiles:
    """As resolve_model would find them, had the directory a tokenizer."""
    return ModelFiles(directory.name, directory, directory / "tokenizer.json", None, None, (), False)


def nan_store(model: CausalLM, num_pages: int, page_size: int) -> KvStore:
    """A store whose every unwritten slot would be noticed."""
    config = model.config
    kv = KvStore(config.num_layers, num_pages, page_size, config.num_kv_heads, config.head_dim, model.dtype)
    for layer in range(config.num_layers):
        kv.layer(layer).fill_(float("nan"))
    return kv


def batch_of(spans: Sequence[tuple[Sequence[int], int, int]], page_size: int) -> AttentionBatch:
    """A step from (pages of the sequence, start, length) of each span."""
    positions = [torch.arange(start, start + length) for _, start, length in spans]
    slots = [
        torch.tensor(list(pages))[where // page_size] * page_size + where % page_size
        for (pages, _, _), where in zip(spans, positions, strict=True)
    ]
    used = [-(-(start + length) // page_size) for _, start, length in spans]
    table = torch.full((len(spans), max(used)), 1 << 30, dtype=torch.int32)  # an id that would crash if it were read
    for row, ((pages, _, _), count) in enumerate(zip(spans, used, strict=True)):
        table[row, :count] = torch.tensor(list(pages)[:count])
    lengths = torch.tensor([length for _, _, length in spans])
    return AttentionBatch(
        positions=torch.cat(positions),
        slots=torch.cat(slots),
        query_starts=torch.cat([torch.zeros(1), lengths.cumsum(0)]).int(),
        seq_lens=torch.tensor([start + length for _, start, length in spans], dtype=torch.int32),
        page_table=table,
        page_size=page_size,
    )


def run_steps(
    model: CausalLM,
    sequences: Sequence[torch.Tensor],
    pages: Sequence[Sequence[int]],
    steps: Sequence[Sequence[tuple[int, int, int]]],
    page_size: int,
    kv: KvStore,
) -> list[torch.Tensor]:
    """Logits of every computed position of every sequence; each step is a list of (sequence, start, length)."""
    rows: list[list[torch.Tensor]] = [[] for _ in sequences]
    for step in steps:
        batch = batch_of([(pages[which], start, length) for which, start, length in step], page_size)
        ids = torch.cat([sequences[which][start : start + length] for which, start, length in step])
        logits = model.logits(model.forward(ids, batch, kv))
        parts = torch.split_with_sizes(logits, [length for _, _, length in step])
        for (which, _, _), part in zip(step, parts, strict=True):
            rows[which].append(part)
    return [torch.cat(own) if own else torch.empty(0) for own in rows]
