"""The tensors of a Hugging Face directory, by name, straight from its safetensors files.

Here: one file or the shards of an index, memory-mapped, every fault named with its file and what to do about it.  Not
here: GGUF (gguf.py, which writes safetensors), what the tensors mean (causal_lm.py).  Nothing here unpickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import ModelLoadError
from .config import read_json_object

_READABLE = {torch.float32, torch.float16, torch.bfloat16, torch.float64}
_COPY_AGAIN = "Copy or download the file again."


class Weights:
    """Tensors of one model directory; `take` gives views of the mapped files, `stack` copies several into one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._shard_of = _shards(directory)  # tensor name -> file
        self._open: dict[Path, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._shard_of

    def take(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """The tensor as stored: mapped, not read yet, in the file's dtype.  Never written to."""
        path = self._shard_of.get(name)
        if path is None:
            where = self.directory / "model.safetensors"
            raise ModelLoadError(where, f"tensor {name} is missing", "The files do not belong to this config.json.")
        try:
            tensor: torch.Tensor = self._file(path).get_tensor(name)
        except SafetensorError as error:
            raise ModelLoadError(path, f"tensor {name} can't be read: {error}", _COPY_AGAIN) from None
        if tuple(tensor.shape) != tuple(shape):
            raise ModelLoadError(
                path,
                f"tensor {name} has shape {list(tensor.shape)}, but config.json asks for {list(shape)}",
                "config.json and the weights belong to different models.",
            )
        if tensor.dtype not in _READABLE:
            raise ModelLoadError(
                path,
                f"tensor {name} is stored as {str(tensor.dtype).removeprefix('torch.')}",
                "Use weights stored as float32, float16 or bfloat16, or a GGUF file.",
            )
        return tensor

    def stack(self, names: Sequence[str], shapes: Sequence[Sequence[int]], out: torch.Tensor) -> torch.Tensor:
        """Several tensors one below the other, converted to `out`'s dtype."""
        row = 0
        for name, shape in zip(names, shapes, strict=True):
            out[row : row + shape[0]].copy_(self.take(name, shape))
            row += shape[0]
        return out

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            self._open[path] = _open_shard(path)
        return self._open[path]


def _open_shard(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt", device="cpu")
    except FileNotFoundError:
        raise ModelLoadError(path, "no such file", "Copy the whole model directory, this shard included.") from None
    except SafetensorError as error:
        raise ModelLoadError(path, f"is not a complete safetensors file: {error}", _COPY_AGAIN) from None
    except OSError as error:
        raise ModelLoadError(path, f"can't be read: {error}", "Check the path and its permissions.") from None


def _shards(directory: Path) -> dict[str, Path]:
    """Which file holds which tensor."""
    index = directory / "model.safetensors.index.json"
    single = directory / "model.safetensors"
    if not index.exists():
        if not single.exists():
            raise _no_safetensors(directory)
        return dict.fromkeys(_open_shard(single).keys(), single)
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelLoadError(index, 'has no "weight_map"', _COPY_AGAIN)
    shards: dict[str, Path] = {}
    for name, file in weight_map.items():
        # A shard lies beside its index; anything else ("../x", "/etc/x") is not ours to open.
        if not isinstance(file, str) or Path(file).name != file:
            raise ModelLoadError(index, f"names {file!r} as the file of {name}, not a plain file name", _COPY_AGAIN)
        shards[name] = directory / file
    missing = sorted({path.name for path in shards.values() if not path.exists()})
    if missing:
        raise ModelLoadError(
            directory / missing[0],
            f"shard is missing ({len(missing)} of {len(set(shards.values()))} that {index.name} names)",
            "Copy the whole model directory, every shard included.",
        )
    return shards


def _no_safetensors(directory: Path) -> ModelLoadError:
    pickled = sorted(directory.glob("*.bin")) + sorted(directory.glob("*.pt*"))
    if pickled:
        return ModelLoadError(
            pickled[0],
            "pickled weights are not loaded: reading them runs code from the file",
            "If you trust the file, convert it once: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR).",
        )
    return ModelLoadError(
        directory, "holds no model.safetensors", "Give a Hugging Face directory with safetensors, or a .gguf file."
    )
