"""config.json is read as each family means it, and refused where the model would compute something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forktree.runtime.errors import ModelLoadError
from forktree.runtime.models.config import JsonConfig, ModelConfig
from forktree.runtime.models.registry import SUPPORTED, family_of

SMALL = {
    "vocab_size": 10,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def parse(architecture: str = "LlamaForCausalLM", **values: Any) -> ModelConfig:
    raw = {"architectures": [architecture], **SMALL, **values}
    return family_of(JsonConfig(Path("config.json"), raw))[1]


def test_what_is_not_said_is_what_transformers_assumes() -> None:
    config = parse()
    assert (config.num_kv_heads, config.head_dim, config.rms_norm_eps) == (2, 4, 1e-6)
    assert (config.rope.theta, config.rope.type, config.tie_word_embeddings) == (10_000.0, "default", False)
    assert (config.attention_bias, config.qk_norm, config.sliding_window) == (False, False, None)


@pytest.mark.parametrize(
    ("values", "windows"),
    [({}, (4096,) * 3), ({"sliding_window": 9}, (9,) * 3), ({"sliding_window": None}, ())],
)
def test_mistral_has_a_window_unless_it_says_null(values: dict[str, Any], windows: tuple[int, ...]) -> None:
    assert parse("MistralForCausalLM", **values).layer_windows == windows


@pytest.mark.parametrize(
    ("values", "windows"),
    [
        ({"sliding_window": 9}, ()),
        ({"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 2}, (None, None, 9)),
        (
            {
                "sliding_window": 9,
                "use_sliding_window": True,
                "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            },
            (9, None, 9),
        ),
    ],
)
@pytest.mark.parametrize("architecture", ["Qwen2ForCausalLM", "Qwen3ForCausalLM"])
def test_qwen_has_a_window_only_where_it_is_switched_on(
    architecture: str, values: dict[str, Any], windows: tuple[int | None, ...]
) -> None:
    config = parse(architecture, **values)
    assert config.layer_windows == windows
    assert config.sliding_window is None


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"vocab_size": None}, "vocab_size"),
        ({"hidden_size": "8"}, "hidden_size"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"head_dim": 3}, "head_dim"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rms_norm_eps": -1}, "rms_norm_eps"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "rope type 'yarn'"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"type": "linear"}}, "factor"),
        ({"rope_scaling": [1]}, "rope_scaling"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ModelLoadError) as caught:
        parse(**values)
    assert key in caught.value.message
    assert caught.value.path == "config.json"


def test_an_unsupported_architecture_names_the_file_and_the_supported_ones() -> None:
    with pytest.raises(ModelLoadError, match="'FalconForCausalLM' is not supported") as caught:
        parse("FalconForCausalLM")
    assert caught.value.path == "config.json"
    assert all(name in caught.value.remedy for name in SUPPORTED)


@pytest.mark.parametrize("architectures", [None, [], "LlamaForCausalLM", [3]])
def test_a_config_without_an_architecture_is_refused(architectures: Any) -> None:
    with pytest.raises(ModelLoadError, match="architecture"):
        family_of(JsonConfig(Path("config.json"), {**SMALL, "architectures": architectures}))


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "[" * 100_000])
def test_a_file_that_is_not_a_json_object_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelLoadError, match="JSON") as caught:
        JsonConfig.read(tmp_path / "config.json")
    assert caught.value.path == str(tmp_path / "config.json")


def test_a_config_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ModelLoadError, match="JSON"):
        JsonConfig.read(tmp_path / "config.json")


def test_json_keys_are_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"a": 3}))
    assert JsonConfig.read(tmp_path / "config.json").integer("a") == 3
