"""Logits are transformers' logits: every family on tiny random weights, and the default model on its own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from forktree.runtime.attention import make_attention
from forktree.runtime.models import CausalLM, load_model

from .build import VOCABULARY, files_of, nan_store, run_steps, save_tiny_model, tiny_config

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-2}),
    "llama-biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-own-head-dim": ("Llama", {"head_dim": 16, "num_key_value_heads": 6}),
    "llama-llama3-rope": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-linear-rope": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "mistral-window": ("Mistral", {"sliding_window": 7}),
    "mistral-no-window": ("Mistral", {"sliding_window": None, "head_dim": 10}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen2-window": ("Qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    "qwen3-bias": ("Qwen3", {"head_dim": 8, "attention_bias": True}),
}

Load = Callable[..., tuple[Any, CausalLM]]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """(transformers' model, ours) by name of the config; saved once."""
    saved: dict[str, tuple[Any, Path]] = {}

    def of(name: str, attention: str = "cpu") -> tuple[Any, CausalLM]:
        if name not in saved:
            family, changes = CONFIGS[name]
            directory = tmp_path_factory.mktemp(name)
            saved[name] = save_tiny_model(directory, tiny_config(family, **changes)), directory
        theirs, directory = saved[name]
        return theirs, load_model(files_of(directory), attention=make_attention(attention))

    return of


def tokens(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (count,), generator=torch.Generator().manual_seed(seed))


def shuffled_pages(num_pages: int, *counts: int) -> list[list[int]]:
    ids = random.Random(3).sample(range(num_pages), sum(counts))
    return [[ids.pop() for _ in range(count)] for count in counts]


@torch.inference_mode()
def logits_of(theirs: Any, ids: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = theirs(ids[None]).logits[0]
    return result


@pytest.mark.parametrize("attention", ["cpu", "reference"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_whole_prompt_gives_the_logits_of_transformers(name: str, attention: str, load: Load) -> None:
    theirs, ours = load(name, attention)
    ids = tokens(41)
    pages = shuffled_pages(60, 41)
    (logits,) = run_steps(ours, [ids], pages, [[(0, 0, 41)]], 1, nan_store(ours, 60, 1))
    torch.testing.assert_close(logits, logits_of(theirs, ids), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("page_size", [1, 4, 16])
@pytest.mark.parametrize("name", CONFIGS)
def test_chunks_and_mixed_batches_over_shuffled_pages_change_nothing(name: str, page_size: int, load: Load) -> None:
    theirs, ours = load(name)
    sequences = [tokens(53, 1), tokens(30, 2), tokens(9, 3)]
    num_pages = [-(-len(ids) // page_size) for ids in sequences]
    pages = shuffled_pages(sum(num_pages) + 5, *num_pages)
    steps = [
        [(0, 0, 7)],
        [(1, 0, 20), (0, 7, 1)],
        [(0, 8, 33), (2, 0, 8), (1, 20, 1)],
        [(2, 8, 1), (0, 41, 12), (1, 21, 9)],
    ]
    kv = nan_store(ours, sum(num_pages) + 5, page_size)
    for ids, logits in zip(sequences, run_steps(ours, sequences, pages, steps, page_size, kv), strict=True):
        torch.testing.assert_close(logits, logits_of(theirs, ids), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("page_size", [1, 4])
@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen3"])
def test_a_span_reads_the_pages_another_span_of_its_step_writes(name: str, page_size: int, load: Load) -> None:
    theirs, ours = load(name)
    first, second = tokens(24, 4), tokens(30, 5)
    second[:12] = first[:12]
    own, more = shuffled_pages(64, -(-24 // page_size), -(-18 // page_size))
    pages = [own, own[: 12 // page_size] + more]
    kv = nan_store(ours, 64, page_size)
    logits = run_steps(ours, [first, second], pages, [[(1, 12, 18), (0, 0, 24)]], page_size, kv)
    torch.testing.assert_close(logits[0], logits_of(theirs, first), atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits[1], logits_of(theirs, second)[12:], atol=2e-5, rtol=1e-4)


def test_the_old_spelling_of_rope_scaling_means_the_same(tmp_path: Path, load: Load) -> None:
    for name in ("llama-llama3-rope", "llama-linear-rope"):
        family, changes = CONFIGS[name]
        directory = tmp_path / name
        theirs = save_tiny_model(directory, tiny_config(family, **changes))
        config = json.loads((directory / "config.json").read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = {"type" if key == "rope_type" else key: value for key, value in rope.items()}
        (directory / "config.json").write_text(json.dumps(config))
        ours = load_model(files_of(directory), attention=make_attention("cpu"))
        ids = tokens(41)
        (logits,) = run_steps(ours, [ids], [range(41)], [[(0, 0, 41)]], 1, nan_store(ours, 41, 1))
        torch.testing.assert_close(logits, logits_of(theirs, ids), atol=2e-5, rtol=1e-4)


def test_sharded_half_precision_weights_are_read_and_widened(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    save_tiny_model(tmp_path / "whole", tiny_config("Llama")).to(torch.bfloat16).save_pretrained(
        tmp_path / "shards", max_shard_size="40KB"
    )
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 2
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "shards", dtype=torch.float32)
    ours = load_model(files_of(tmp_path / "shards"), attention=make_attention("cpu"))
    ids = tokens(20)
    (logits,) = run_steps(ours, [ids], [range(20)], [[(0, 0, 20)]], 1, nan_store(ours, 20, 1))
    torch.testing.assert_close(logits, logits_of(theirs, ids), atol=2e-5, rtol=1e-4)


def test_bfloat16_runs_on_the_reference_backend(tmp_path: Path) -> None:
    theirs = save_tiny_model(tmp_path, tiny_config("Llama"))
    ours = load_model(files_of(tmp_path), attention=make_attention("reference"), dtype=torch.bfloat16)
    ids = tokens(20)
    (logits,) = run_steps(ours, [ids], [range(20)], [[(0, 0, 20)]], 1, nan_store(ours, 20, 1))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, logits_of(theirs, ids), atol=0.2, rtol=0.1)


@pytest.mark.slow
@torch.inference_mode()
def test_the_default_model_gives_the_logits_of_transformers() -> None:
    """On the converted directory, which transformers loads as it is; one prompt long enough for several blocks."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from forktree.runtime.models import resolve_model

    files = resolve_model(None)
    ours = load_model(files, attention=make_attention("cpu"))
    theirs = AutoModelForCausalLM.from_pretrained(files.directory, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(files.directory)
    kv = nan_store(ours, 200, 4)
    for text in (
        "Zürich, 東京 and 🙂: a list of 2024's cities\n",
        " ".join(f"{i} squared is {i * i}." for i in range(80)),
    ):
        ids = torch.tensor(tokenizer(text).input_ids)[:600]
        cut = len(ids) * 3 // 5
        steps = [[(0, 0, cut)], [(0, cut, len(ids) - cut - 1)], [(0, len(ids) - 1, 1)]]
        pages = shuffled_pages(200, -(-len(ids) // 4))
        (logits,) = run_steps(ours, [ids], pages, steps, 4, kv)
        expected = theirs(ids[None]).logits[0]
        difference = (logits - expected).abs().max().item()
        assert difference < 1e-3, f"{len(ids)} tokens: off by {difference}"
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))
