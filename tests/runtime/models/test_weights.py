"""A model directory that is not whole is refused with the file at fault and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from forktree.runtime.errors import ModelLoadError
from forktree.runtime.models.weights import Weights


def write(directory: Path, tensors: dict[str, torch.Tensor], name: str = "model.safetensors") -> Path:
    save_file(tensors, directory / name)
    return directory / name


def write_index(directory: Path, weight_map: object) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_a_tensor_comes_as_it_is_stored(tmp_path: Path) -> None:
    stored = torch.arange(6, dtype=torch.float16).view(2, 3)
    write(tmp_path, {"a": stored})
    assert torch.equal(Weights(tmp_path).take("a", (2, 3)), stored)
    assert Weights(tmp_path).take("a", (2, 3)).dtype == torch.float16


def test_stacked_tensors_are_converted_to_the_dtype_of_their_place(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(1, 2, dtype=torch.bfloat16), "b": torch.full((2, 2), 3.0)})
    stacked = Weights(tmp_path).stack(["a", "b"], [(1, 2), (2, 2)], torch.empty(3, 2))
    assert stacked.tolist() == [[1, 1], [3, 3], [3, 3]]


def test_shards_are_found_through_the_index(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(1)}, "one.safetensors")
    write(tmp_path, {"b": torch.zeros(1)}, "two.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    weights = Weights(tmp_path)
    assert (weights.take("a", (1,)).item(), weights.take("b", (1,)).item()) == (1, 0)
    assert "a" in weights
    assert "c" not in weights


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(1)}, "one.safetensors")
    write_index(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    with pytest.raises(ModelLoadError, match="shard is missing") as caught:
        Weights(tmp_path)
    assert caught.value.path == str(tmp_path / "two.safetensors")
    assert "every shard" in caught.value.remedy


@pytest.mark.parametrize("file", ["../one.safetensors", "/etc/passwd", 3])
def test_an_index_names_files_beside_it_and_no_others(tmp_path: Path, file: object) -> None:
    write_index(tmp_path, {"a": file})
    with pytest.raises(ModelLoadError, match="not a plain file name"):
        Weights(tmp_path)


def test_an_index_that_lies_about_a_shard_is_found_out(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(1)}, "one.safetensors")
    write_index(tmp_path, {"b": "one.safetensors"})
    with pytest.raises(ModelLoadError, match=r"tensor b can't be read"):
        Weights(tmp_path).take("b", (1,))


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_a_truncated_file_is_refused_before_anything_is_read(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path, {"a": torch.ones(64)})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelLoadError, match="not a complete safetensors file") as caught:
        Weights(tmp_path)
    assert caught.value.path == str(path)


def test_a_missing_tensor_and_a_wrong_shape_name_the_tensor(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(2, 3)})
    with pytest.raises(ModelLoadError, match="tensor lm_head is missing"):
        Weights(tmp_path).take("lm_head", (2,))
    with pytest.raises(ModelLoadError, match=r"tensor a has shape \[2, 3\], but config.json asks for \[3, 2\]"):
        Weights(tmp_path).take("a", (3, 2))


def test_quantised_integers_are_no_weights(tmp_path: Path) -> None:
    write(tmp_path, {"a": torch.ones(2, dtype=torch.int8)})
    with pytest.raises(ModelLoadError, match="stored as int8"):
        Weights(tmp_path).take("a", (2,))


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelLoadError, match="pickled weights are not loaded") as caught:
        Weights(tmp_path)
    assert "save_pretrained" in caught.value.remedy


def test_an_empty_directory_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no model\.safetensors"):
        Weights(tmp_path)
