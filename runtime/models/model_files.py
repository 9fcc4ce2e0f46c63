"""From what the user names (nothing, a .gguf file, a Hugging Face directory) to a directory that can be loaded.

Here: ModelFiles and resolve_model.  Once a model has been converted this reads a few JSON files and imports neither
torch nor transformers.  Nothing here touches the network or runs code from a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelLoadError
from . import tokenizer_files
from .config import read_json_object
from .default_model import NAME as DEFAULT_NAME
from .default_model import default_model_file
from .model_cache import cached_entry, default_cache_dir

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk, and what its tokenizer's and generation's files say."""

    name: str
    directory: Path  # config.json and *.safetensors
    tokenizer_json: Path
    chat_template: str | None
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]  # any of them ends the output
    add_bos: bool  # plain text is to begin with bos_token_id


def resolve_model(
    source: str | Path | None, *, cache_dir: Path | None = None, on_progress: Progress | None = None
) -> ModelFiles:
    """Find a model, converting it first where it has to be; `source` None is the default model.

    on_progress(what, fraction) is called while converting only.  Raises ModelLoadError naming the file and a remedy."""
    cache = cache_dir or default_cache_dir()
    report = on_progress or (lambda what, fraction: None)
    if source is None:
        return _from_gguf(default_model_file(), DEFAULT_NAME, cache, report)
    path = Path(source).expanduser()
    if path.is_file():
        return _from_file(path, cache, report)
    if path.is_dir():
        return _from_directory(path, cache, report)
    raise ModelLoadError(
        path,
        "no such file or directory",
        "Models are not downloaded: give a Hugging Face directory or a .gguf file, or no path for the default model.",
    )


def _from_file(path: Path, cache: Path, report: Progress) -> ModelFiles:
    try:
        with path.open("rb") as file:
            is_gguf = file.read(4) == b"GGUF"
    except OSError as error:
        raise ModelLoadError(path, f"can't be read: {error.strerror}", "Check its permissions.") from None
    if is_gguf or path.suffix == ".gguf":
        return _from_gguf(path, path.stem, cache, report)
    raise ModelLoadError(path, "is not a GGUF file", "Give the whole Hugging Face directory, or a .gguf file.")


def _from_gguf(path: Path, name: str, cache: Path, report: Progress) -> ModelFiles:
    from .gguf_version import CONVERTER_VERSION

    def build(directory: Path) -> None:
        from .gguf_convert import convert

        report("reading " + path.name, 0.0)
        convert(path, directory, report)

    directory = cached_entry(cache, name, [path], CONVERTER_VERSION, build)
    return _describe(name, directory, directory)


def _from_directory(path: Path, cache: Path, report: Progress) -> ModelFiles:
    if not (path / "config.json").exists():
        gguf_files = sorted(path.glob("*.gguf"))
        if len(gguf_files) == 1:
            return _from_gguf(gguf_files[0], gguf_files[0].stem, cache, report)
        found = f"; it holds {len(gguf_files)} .gguf files" if gguf_files else ""
        raise ModelLoadError(
            path / "config.json",
            f"no such file{found}",
            "Give one .gguf file, or a Hugging Face directory with config.json, *.safetensors and a tokenizer.",
        )
    if (path / "tokenizer.json").exists():
        return _describe(path.resolve().name, path, path)
    return _describe(path.resolve().name, path, tokenizer_files.converted(path, cache, report))


def _describe(name: str, directory: Path, tokenizer_directory: Path) -> ModelFiles:
    config = read_json_object(directory / "config.json")
    generation_path = directory / "generation_config.json"
    generation = read_json_object(generation_path) if generation_path.exists() else {}
    tokenizer = tokenizer_files.read(tokenizer_directory)
    eos = _token_ids(generation.get("eos_token_id")) or _token_ids(config.get("eos_token_id"))
    if tokenizer.eos_token_id is not None:
        eos += (tokenizer.eos_token_id,)
    bos = tokenizer.bos_token_id
    if bos is None and not tokenizer.names_bos:
        bos = next(iter(_token_ids(config.get("bos_token_id"))), None)
    return ModelFiles(
        name=name,
        directory=directory,
        tokenizer_json=tokenizer_directory / "tokenizer.json",
        chat_template=tokenizer.chat_template,
        bos_token_id=bos,
        eos_token_ids=tuple(dict.fromkeys(eos)),
        add_bos=tokenizer.add_bos and bos is not None,
    )


def _token_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(token for token in values if isinstance(token, int) and not isinstance(token, bool))
