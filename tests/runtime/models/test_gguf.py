"""A GGUF file becomes the Hugging Face directory it was made from; a damaged one becomes one clear error."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from forktree.runtime.attention import make_attention
from forktree.runtime.errors import ModelLoadError
from forktree.runtime.models import load_model, resolve_model
from forktree.runtime.models.gguf_convert import hf_config
from forktree.runtime.models.gguf_file import GgufFile

from .build import nan_store, run_steps
from .gguf_builder import tiny_model, write_gguf

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_model()


@pytest.fixture(scope="module")
def llama_bytes(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, llama)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "arch", "changes"),
    [
        ("Llama", "llama", {}),
        ("Llama", "llama", {"tie_word_embeddings": False, "attention_bias": True}),
        ("Qwen2", "qwen2", {}),
        ("Qwen3", "qwen3", {"head_dim": 32, "tie_word_embeddings": False}),
    ],
)
def test_conversion_gives_back_the_model(family: str, arch: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny_model(family, **changes)
    path = tmp_path / "tiny.gguf"
    write_gguf(path, model, arch=arch)
    files = resolve_model(path, cache_dir=tmp_path / "cache")
    converted = load_file(files.directory / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight" or not model.config.tie_word_embeddings:
            assert torch.equal(converted[name], tensor), name
    ours = load_model(files, attention=make_attention("cpu"))
    ids = torch.arange(20)
    (logits,) = run_steps(ours, [ids], [range(20)], [[(0, 0, 20)]], 1, nan_store(ours, 20, 1))
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(ids[None]).logits[0], atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_tokenizer_and_its_facts_come_out_of_the_file(llama_bytes: bytes, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "My model.gguf").write_bytes(llama_bytes)
    steps: list[tuple[str, float]] = []
    files = resolve_model(
        tmp_path / "My model.gguf",
        cache_dir=tmp_path / "cache",
        on_progress=lambda what, part: steps.append((what, part)),
    )
    assert (files.name, files.bos_token_id, files.eos_token_ids, files.add_bos) == ("My model", 1, (2,), False)
    assert files.chat_template == "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert [part for _, part in steps] == sorted(part for _, part in steps)
    assert steps[-1][1] == 1.0
    tokenizer = Tokenizer.from_file(str(files.tokenizer_json))
    tokens = tokenizer.encode("<|im_start|>the the 2024").tokens
    assert tokens == ["<|im_start|>", "t", "he", "Ġthe", "Ġ", "2", "0", "2", "4"]
    assert AutoTokenizer.from_pretrained(files.directory).decode([1, 2]) == "<|im_start|><|im_end|>"
    assert AutoModelForCausalLM.from_pretrained(files.directory).config.tie_word_embeddings


@pytest.mark.slow
def test_a_second_start_converts_nothing_and_a_damaged_cache_is_made_again(llama_bytes: bytes, tmp_path: Path) -> None:
    source, cache = tmp_path / "tiny.gguf", tmp_path / "cache"
    source.write_bytes(llama_bytes)
    steps: list[float] = []
    first = resolve_model(source, cache_dir=cache, on_progress=lambda what, part: steps.append(part))
    assert steps
    steps.clear()
    assert resolve_model(source, cache_dir=cache, on_progress=lambda what, part: steps.append(part)) == first
    copy = tmp_path / "elsewhere" / "tiny.gguf"
    copy.parent.mkdir()
    copy.write_bytes(llama_bytes)
    assert resolve_model(copy, cache_dir=cache, on_progress=lambda what, part: steps.append(part)) == first
    assert not steps, "the same content elsewhere is the same model"
    weights = first.directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    assert resolve_model(source, cache_dir=cache, on_progress=lambda what, part: steps.append(part)) == first
    assert steps
    load_model(first, attention=make_attention("reference"))
    assert not list((cache / "models").glob(".tmp-*"))


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_a_stored_tensor_is_dequantised(kind: str, tmp_path: Path) -> None:
    quantisation = gguf.GGMLQuantizationType[kind]
    values = np.random.default_rng(1).normal(size=(3, 64)).astype(np.float32)
    stored = gguf.quantize(values, quantisation)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("a", stored, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with GgufFile(tmp_path / "a.gguf") as file:
        loaded = file.load("a")
    assert loaded.shape == (3, 64)
    assert loaded.dtype == np.float32
    np.testing.assert_allclose(loaded, values, atol=0.25)
    np.testing.assert_array_equal(loaded, gguf.dequantize(stored, quantisation))


def config_of(path: Path) -> dict[str, Any]:
    with GgufFile(path) as file:
        return hf_config(file)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}, ("rope_type", "linear")),
        ({"llama.rope.scaling.type": "yarn"}, "rope scaling 'yarn' is not supported"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.rope.dimension_count": 8}, "differs from the width of a head"),
        ({"llama.attention.sliding_window": 32}, ("architectures", ["MistralForCausalLM"])),
    ],
)
def test_metadata_beyond_the_plain_model_is_enforced_or_refused(
    extra: dict[str, Any], expected: Any, llama: Any, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "a.gguf", llama, extra=extra)
    if isinstance(expected, str):
        with pytest.raises(ModelLoadError, match=expected):
            config_of(tmp_path / "a.gguf")
        return
    config = config_of(tmp_path / "a.gguf")
    key, value = expected
    assert {**config, **(config["rope_scaling"] or {})}[key] == value


def test_llama_3_rope_factors_are_recognised_and_others_refused(tmp_path: Path) -> None:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    model = tiny_model(rope_parameters=LLAMA3_ROPE, head_dim=64, max_position_embeddings=16384)
    stretched, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, torch.device("cpu"))
    plain = 1.0 / 500_000.0 ** (torch.arange(0, 64, 2) / 64)
    for factors, accepted in ((plain / stretched, True), ((plain / stretched).sqrt(), False)):
        write_gguf(tmp_path / "a.gguf", _WithRopeFactors(model, factors))
        if accepted:
            assert config_of(tmp_path / "a.gguf")["rope_scaling"] == {
                key: value for key, value in LLAMA3_ROPE.items() if key != "rope_theta"
            }
        else:
            with pytest.raises(ModelLoadError, match="not Llama 3's"):
                config_of(tmp_path / "a.gguf")


class _WithRopeFactors:
    def __init__(self, model: Any, factors: torch.Tensor) -> None:
        self.config, self._state = model.config, {**model.state_dict(), "rope_freqs.weight": factors}

    def state_dict(self) -> dict[str, torch.Tensor]:
        return self._state


def test_an_unsupported_architecture_lists_the_supported_ones(llama: Any, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", llama, arch="gemma3")
    with pytest.raises(ModelLoadError, match="'gemma3' is not supported") as caught:
        resolve_model(tmp_path / "a.gguf", cache_dir=tmp_path / "cache")
    assert "llama, qwen2, qwen3" in caught.value.remedy
    assert not list((tmp_path / "cache" / "models").glob(".tmp-*"))


def test_an_unknown_pre_tokenizer_is_refused_rather_than_guessed(llama: Any, tmp_path: Path) -> None:
    write_gguf(tmp_path / "a.gguf", llama, pre="klingon")
    with pytest.raises(ModelLoadError, match=r"tokenizer.ggml.pre 'klingon' is not supported"):
        resolve_model(tmp_path / "a.gguf", cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    "content", [b"", b"GGUF", b"hello world, I am not a model", b"GGUF" + b"\xff" * 60, b"\0" * 99]
)
def test_garbage_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(content)
    with pytest.raises(ModelLoadError) as caught:
        resolve_model(tmp_path / "a.gguf", cache_dir=tmp_path / "cache")
    assert caught.value.path == str(tmp_path / "a.gguf")


@pytest.mark.slow
def test_every_truncation_is_refused(llama_bytes: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for kept in [*range(0, 200, 7), *range(200, len(llama_bytes), len(llama_bytes) // 60), len(llama_bytes) - 32]:
        path.write_bytes(llama_bytes[:kept])
        with pytest.raises(ModelLoadError):
            GgufFile(path)


@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_header_is_read_or_refused_and_nothing_else(
    data: st.DataObject, llama_bytes: bytes, tmp_path: Path
) -> None:
    """Counts, lengths, types and offsets anywhere in the header, replaced by hostile ones."""
    path = tmp_path / "a.gguf"
    path.write_bytes(llama_bytes)
    with GgufFile(path) as file:
        header_bytes = min(info.offset for info in file.tensors.values())
    content = bytearray(llama_bytes)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.integers(4, header_bytes - 8))
        value = data.draw(st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]) | st.integers(0, 2**64 - 1))
        content[where : where + 8] = struct.pack("<Q", value)
    path.write_bytes(bytes(content))
    with contextlib.suppress(ModelLoadError), GgufFile(path) as file:
        hf_config(file)
        for name in file.tensors:
            file.load(name)


def test_hostile_counts_are_refused_by_name(llama_bytes: bytes, tmp_path: Path) -> None:
    refused: list[tuple[Callable[[bytearray], None], str]] = [
        (lambda content: struct.pack_into("<I", content, 4, 1), "GGUF version 1"),
        (lambda content: struct.pack_into("<I", content, 4, 3 << 24), "GGUF version"),
        (lambda content: struct.pack_into("<Q", content, 8, 2**60), "claims"),
        (lambda content: struct.pack_into("<Q", content, 16, 2**60), "claims"),
        (lambda content: struct.pack_into("<Q", content, 24, 2**60), "claims"),
    ]
    for change, message in refused:
        content = bytearray(llama_bytes)
        change(content)
        (tmp_path / "a.gguf").write_bytes(bytes(content))
        with pytest.raises(ModelLoadError, match=message):
            GgufFile(tmp_path / "a.gguf")
