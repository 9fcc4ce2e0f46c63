"""A GGUF file, converted once into a Hugging Face directory that transformers could load too.

Here: llama.cpp's names, keys and row order turned back into Hugging Face's; config.json, generation_config.json,
model.safetensors in float32, tokenizer and chat template.  Not here: the cache and its locking (model_cache.py), the
file format (gguf_file.py).  transformers is imported here, while converting, and at no other time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelLoadError
from .gguf_file import GgufFile

Progress = Callable[[str, float], None]

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
_TOP_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_ROPE_FACTORS = "rope_freqs.weight"


def convert(path: Path, directory: Path, on_progress: Progress) -> None:
    """Write the model in `path` to `directory`, which exists and is empty."""
    with GgufFile(path) as file:
        config = hf_config(file)
        _write_json(directory / "config.json", config)
        _write_json(directory / "generation_config.json", _generation_config(config))
        _write_weights(file, config, directory / "model.safetensors", on_progress)
        metadata = file.metadata
    on_progress("converting the tokenizer", 0.8)
    _write_tokenizer(path, metadata, directory)
    on_progress("converting the tokenizer", 1.0)


def hf_config(file: GgufFile) -> dict[str, Any]:
    """config.json for the file's metadata; refuses what the model classes would not compute."""
    keys = _Keys(file)
    architecture = _ARCHITECTURES.get(keys.family)
    if architecture is None:
        raise file.fail(
            f"architecture {keys.family!r} is not supported",
            f"Supported GGUF architectures: {', '.join(_ARCHITECTURES)}.",
        )
    if keys.integer("expert_count", 0):
        raise file.fail("is a mixture of experts", "Use a dense model of the same architecture.")
    num_heads = keys.integer("attention.head_count")
    head_dim = keys.integer("attention.key_length", keys.integer("embedding_length") // max(num_heads, 1))
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.integer(key, head_dim) != head_dim:
            raise file.fail(f"{keys.family}.{key} differs from the width of a head, {head_dim}", "Use another model.")
    window = keys.integer("attention.sliding_window", 0)
    if keys.family == "llama" and window:
        architecture = "MistralForCausalLM"  # llama.cpp has no name of its own for Mistral
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise file.fail("has no tensor token_embd.weight")
    config = {
        "architectures": [architecture],
        "model_type": {"MistralForCausalLM": "mistral"}.get(architecture, keys.family),
        "hidden_act": "silu",
        "vocab_size": embedding.shape[0],
        "hidden_size": keys.integer("embedding_length"),
        "intermediate_size": keys.integer("feed_forward_length"),
        "num_hidden_layers": keys.integer("block_count"),
        "num_attention_heads": num_heads,
        "num_key_value_heads": keys.integer("attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "max_position_embeddings": keys.integer("context_length"),
        "rms_norm_eps": _shortest(keys.number("attention.layer_norm_rms_epsilon")),
        "rope_theta": _shortest(keys.number("rope.freq_base", 10_000.0)),
        "rope_scaling": _rope_scaling(file, keys, head_dim),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        "torch_dtype": "float32",
    }
    if architecture == "MistralForCausalLM":
        config["sliding_window"] = window
    for name in ("bos", "eos", "padding"):
        token_id = file.metadata.get(f"tokenizer.ggml.{name}_token_id")
        config[{"padding": "pad"}.get(name, name) + "_token_id"] = token_id if isinstance(token_id, int) else None
    return config


class _Keys:
    """The model's own metadata keys, `<architecture>.<key>`, typed."""

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        family = file.metadata.get("general.architecture")
        if not isinstance(family, str):
            raise file.fail("has no general.architecture")
        self.family = family

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
            raise self._file.fail(f"{self.family}.{key}: wanted a whole number, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise self._file.fail(f"{self.family}.{key}: wanted a positive number, got {value!r}")
        return float(value)

    def text(self, key: str, default: str) -> str:
        return str(self._get(key, default))

    def _get(self, key: str, default: Any) -> Any:
        value = self._file.metadata.get(f"{self.family}.{key}", default)
        if value is None:
            raise self._file.fail(f"has no {self.family}.{key}")
        return value


def _rope_scaling(file: GgufFile, keys: _Keys, head_dim: int) -> dict[str, Any] | None:
    kind = keys.text("rope.scaling.type", "none")
    if kind == "linear":
        return {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if kind != "none":
        raise file.fail(f"rope scaling {kind!r} is not supported", "Supported are linear and Llama 3's.")
    if _ROPE_FACTORS not in file.tensors:
        return None
    # Llama 3 files carry what each frequency is divided by.  The parameters behind it are always of this form; they
    # are accepted only if they give the very numbers of the file.
    factors = file.load(_ROPE_FACTORS)
    theta = keys.number("rope.freq_base", 10_000.0)
    factor = float(factors.max())
    if factors.shape != (head_dim // 2,) or not np.allclose(
        factors, _llama3_divisors(theta, head_dim, factor), rtol=1e-4
    ):
        raise file.fail("rope_freqs.weight is not Llama 3's rope scaling", "Use the model's safetensors.")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }


def _llama3_divisors(theta: float, head_dim: int, factor: float) -> npt.NDArray[np.float64]:
    frequencies = theta ** -(np.arange(0, head_dim, 2) / head_dim)
    wavelengths = 2 * np.pi / frequencies
    smooth = np.clip((8192 / wavelengths - 1.0) / (4.0 - 1.0), 0.0, 1.0)
    divisors: npt.NDArray[np.float64] = 1.0 / ((1 - smooth) / factor + smooth)
    return divisors


def _shortest(value: float) -> float:
    """1e-05 from the float32 nearest to it, which is what the file has."""
    return float(str(np.float32(value)))


def _generation_config(config: dict[str, Any]) -> dict[str, Any]:
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config[name] is not None}


def _write_weights(file: GgufFile, config: dict[str, Any], path: Path, on_progress: Progress) -> None:
    from safetensors.numpy import save_file

    tensors: dict[str, npt.NDArray[np.float32]] = {}
    total = sum(info.num_bytes for info in file.tensors.values()) or 1
    done = 0
    for name, info in file.tensors.items():
        if name == _ROPE_FACTORS:
            continue
        values = file.load(name)
        if config["model_type"] in ("llama", "mistral") and (".attn_q." in name or ".attn_k." in name):
            heads = config["num_attention_heads" if ".attn_q." in name else "num_key_value_heads"]
            values = _undo_permutation(file, name, values, heads)
        tensors[_hf_name(file, name)] = np.ascontiguousarray(values)
        done += info.num_bytes
        on_progress("converting the weights", 0.7 * done / total)
    save_file(tensors, path, metadata={"format": "pt"})


def _undo_permutation(
    file: GgufFile, name: str, values: npt.NDArray[np.float32], heads: int
) -> npt.NDArray[np.float32]:
    """llama.cpp interleaves the two halves of each head, for a rotation of neighbours; ours rotates halves."""
    if not heads or values.shape[0] % (2 * heads):
        raise file.fail(f"tensor {name!r} has {values.shape[0]} rows, which {heads} heads can't share")
    half = values.shape[0] // heads // 2
    return values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _hf_name(file: GgufFile, name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    stem, _, kind = name.rpartition(".")
    if kind in ("weight", "bias"):
        if stem in _TOP_NAMES:
            return f"{_TOP_NAMES[stem]}.{kind}"
        block, _, rest = stem.partition(".")
        layer, _, part = rest.partition(".")
        if block == "blk" and layer.isdecimal() and part in _LAYER_NAMES:
            return f"model.layers.{int(layer)}.{_LAYER_NAMES[part]}.{kind}"
    raise file.fail(f"tensor {name!r} is unknown for this architecture", "Use the model's safetensors.")


def _write_tokenizer(path: Path, metadata: dict[str, Any], directory: Path) -> None:
    from transformers import AutoTokenizer

    pre_tokenizer = _pre_tokenizer(path, metadata)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=path.name, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever a third party's parser makes of the file, its owner needs one answer
        raise ModelLoadError(
            path, f"transformers can't read its tokenizer: {error}", "Use the model's Hugging Face directory."
        ) from error
    if pre_tokenizer is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.save_pretrained(str(directory))
    config_path = directory / "tokenizer_config.json"
    values = json.loads(config_path.read_text(encoding="utf-8"))
    if isinstance(metadata.get("tokenizer.ggml.add_bos_token"), bool):
        values["add_bos_token"] = metadata["tokenizer.ggml.add_bos_token"]
    if metadata.get("tokenizer.ggml.model") == "gpt2":
        values["tokenizer_class"] = "PreTrainedTokenizerFast"  # the name every version of transformers knows
    values = {key: value for key, value in values.items() if key not in ("is_local", "local_files_only", "backend")}
    _write_json(config_path, values)


def _pre_tokenizer(path: Path, metadata: dict[str, Any]) -> Any:
    """How byte-level vocabularies split text before merging, by llama.cpp's name for it; None: as transformers set it.

    transformers knows some of these names and silently takes GPT-2's split for the others; a wrong split gives other
    tokens than the model was trained on, so an unknown name is refused."""
    from tokenizers import Regex, pre_tokenizers

    if metadata.get("tokenizer.ggml.model") != "gpt2":
        return None
    name = metadata.get("tokenizer.ggml.pre", "default")
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    if name in ("default", "gpt-2"):
        return gpt2
    if name in ("smollm", "starcoder", "refact", "command-r"):
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    if name in _SPLITS:
        split = pre_tokenizers.Split(Regex(_SPLITS[name]), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    known = ("default", "gpt-2", "smollm", "starcoder", "refact", "command-r", *_SPLITS)
    raise ModelLoadError(
        path,
        f"tokenizer.ggml.pre {name!r} is not supported (supported: {', '.join(known)})",
        "Use the model's Hugging Face directory.",
    )


_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe"), _LLAMA3),
    "tekken": _TEKKEN,
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")),
}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
