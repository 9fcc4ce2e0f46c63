"""What a model is made of, read from the config.json of a Hugging Face directory.

Here: ModelConfig, RopeConfig, and JsonConfig, a reader that turns every bad value into a ModelLoadError naming the key.
Not here: which keys a family has and what it assumes where they are missing (llama.py, mistral.py, qwen2.py, qwen3.py).
Imports runtime.errors only: no torch, no transformers."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import ModelLoadError

RopeType = Literal["default", "linear", "llama3"]


@dataclass(frozen=True)
class RopeConfig:
    """Rotary embedding: base frequency and how it is stretched.  Fields of other types than `type` are unused."""

    theta: float = 10_000.0
    type: RopeType = "default"
    factor: float = 1.0  # linear, llama3
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    original_context: int = 8192  # llama3, in tokens


@dataclass(frozen=True)
class ModelConfig:
    """One decoder.  Biases are per projection group, as the families differ in exactly these."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_context: int  # in tokens
    rms_norm_eps: float
    tie_word_embeddings: bool
    rope: RopeConfig
    attention_bias: bool = False  # on the query, key and value projections
    output_bias: bool = False  # on the attention's output projection
    mlp_bias: bool = False
    qk_norm: bool = False  # RMSNorm over each head of queries and keys, before the rotation
    layer_windows: tuple[int | None, ...] = ()  # tokens each layer looks back; empty: full attention everywhere

    @property
    def sliding_window(self) -> int | None:
        """The widest window where every layer has one (older keys are never read again), else None."""
        windows = [window for window in self.layer_windows if window is not None]
        return max(windows) if windows and len(windows) == self.num_layers else None

    def window(self, layer: int) -> int | None:
        return self.layer_windows[layer] if self.layer_windows else None


class JsonConfig:
    """config.json with typed access; a wrong or missing value raises ModelLoadError naming file and key."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        self.path, self.values = path, values

    @classmethod
    def read(cls, path: Path) -> JsonConfig:
        return cls(path, read_json_object(path))

    def fail(self, key: str, message: str) -> ModelLoadError:
        return ModelLoadError(
            self.path, f'"{key}": {message}', "Check that the file is complete and belongs to a supported model."
        )

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def integer(self, key: str, default: int | None = None, *, low: int = 1) -> int:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.fail(key, "missing")
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**31:
            raise self.fail(key, f"wanted an integer from {low}, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise self.fail(key, "missing")
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise self.fail(key, f"wanted a positive number, got {value!r}")
        return float(value)

    def boolean(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.fail(key, f"wanted true or false, got {value!r}")
        return value


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; ModelLoadError if it is missing, unreadable, or something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelLoadError(path, "no such file", "Copy the whole model directory, this file included.") from None
    except OSError as error:
        raise ModelLoadError(path, f"can't be read: {error.strerror}", "Check the path and its permissions.") from None
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(path, f"is not valid JSON: {error}", "Copy the file again; it may be truncated.") from None
    if not isinstance(values, dict):
        raise ModelLoadError(path, f"wanted a JSON object, got {type(values).__name__}", "Copy the file again.")
    return values


def parse_common(config: JsonConfig, architecture: str, *, head_dim: int | None = None) -> ModelConfig:
    """The part that all families share.  `head_dim` is what the family assumes where the file does not say."""
    activation = config.get("hidden_act")
    if activation not in (None, "silu"):
        raise config.fail("hidden_act", f"wanted silu, got {activation!r}")
    if config.get("quantization_config") is not None:
        raise config.fail(
            "quantization_config", "quantised safetensors are not supported; use plain ones, or a GGUF file"
        )
    hidden_size = config.integer("hidden_size")
    num_heads = config.integer("num_attention_heads")
    num_kv_heads = config.integer("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise config.fail("num_key_value_heads", f"{num_kv_heads} does not divide num_attention_heads, {num_heads}")
    if head_dim is None:
        head_dim = hidden_size // num_heads
    head_dim = config.integer("head_dim", head_dim)
    if head_dim % 2:
        raise config.fail("head_dim", f"wanted an even number, got {head_dim}")
    max_context = config.integer("max_position_embeddings", 2048)
    return ModelConfig(
        architecture=architecture,
        vocab_size=config.integer("vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=config.integer("intermediate_size"),
        num_layers=config.integer("num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_context=max_context,
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        tie_word_embeddings=config.boolean("tie_word_embeddings", False),
        rope=parse_rope(config, max_context),
    )


def parse_rope(config: JsonConfig, max_context: int) -> RopeConfig:
    """From `rope_parameters` (transformers 5) or `rope_scaling` and `rope_theta` (before it)."""
    key = "rope_parameters" if config.get("rope_parameters") is not None else "rope_scaling"
    values = config.get(key) or {}
    if not isinstance(values, dict):
        raise config.fail(key, f"wanted an object, got {values!r}")
    rope = JsonConfig(config.path, {"rope_theta": config.get("rope_theta"), **values})
    theta = rope.number("rope_theta", 10_000.0)
    if config.number("partial_rotary_factor", 1.0) != 1.0 or rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise config.fail("partial_rotary_factor", "rotating only a part of each head is not supported")
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, "linear", rope.number("factor"))
    if kind == "llama3":
        low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
        if high <= low:
            raise config.fail(key, f"high_freq_factor, {high}, must be above low_freq_factor, {low}")
        original = rope.integer("original_max_position_embeddings", max_context)
        return RopeConfig(theta, "llama3", rope.number("factor"), low, high, original)
    raise config.fail(key, f"rope type {kind!r} is not supported; supported are default, linear, llama3")


def parse_layer_windows(config: JsonConfig, num_layers: int) -> tuple[int | None, ...]:
    """Qwen's keys: a window only where `use_sliding_window` says so, on the layers named or past the first few."""
    if (
        not config.boolean("use_sliding_window", False)
        or config.get(
            "sliding_window",
        )
        is None
    ):
        return ()
    window = config.integer("sliding_window")
    kinds = config.get("layer_types")
    if kinds is None:
        first = config.integer("max_window_layers", 28, low=0)
        return tuple(window if layer >= first else None for layer in range(num_layers))
    known = {"sliding_attention": window, "full_attention": None}
    if not isinstance(kinds, list) or len(kinds) != num_layers or any(kind not in known for kind in kinds):
        raise config.fail("layer_types", f"wanted {num_layers} of {', '.join(known)}, got {kinds!r}")
    return tuple(known[kind] for kind in kinds)
