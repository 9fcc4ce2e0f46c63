"""What a directory's tokenizer files say, as JSON: special tokens, whether text begins with BOS, the chat template.

Here: reading those facts, and making tokenizer.json where a directory has only a slow tokenizer's files.  Not here:
tokenizing (engine/tokenizer.py).  transformers is imported only to convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ModelLoadError
from .config import read_json_object
from .model_cache import cached_entry

_CONVERTER_VERSION = 1
_SOURCES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "vocab.txt",
)


@dataclass(frozen=True)
class TokenizerFacts:
    bos_token_id: int | None
    eos_token_id: int | None
    names_bos: bool  # the files say what BOS is, if only that there is none
    add_bos: bool
    chat_template: str | None


def read(directory: Path) -> TokenizerFacts:
    tokenizer = read_json_object(directory / "tokenizer.json")
    config_path = directory / "tokenizer_config.json"
    config = read_json_object(config_path) if config_path.exists() else {}
    bos, eos = _token_text(config.get("bos_token")), _token_text(config.get("eos_token"))
    add_bos = config.get("add_bos_token")
    if not isinstance(add_bos, bool):
        add_bos = bos is not None and _template_begins_with(tokenizer.get("post_processor"), bos)
    return TokenizerFacts(
        bos_token_id=_token_id(tokenizer, bos),
        eos_token_id=_token_id(tokenizer, eos),
        names_bos="bos_token" in config,
        add_bos=add_bos,
        chat_template=_chat_template(directory, config),
    )


def converted(directory: Path, cache: Path, report: Callable[[str, float], None]) -> Path:
    """A cached directory with tokenizer.json, made by transformers from the slow tokenizer's files."""
    sources = [directory / name for name in _SOURCES if (directory / name).is_file()]
    if not any(path.name in ("vocab.json", "tokenizer.model") for path in sources):
        raise ModelLoadError(
            directory / "tokenizer.json", "no such file", "Copy the whole model directory, its tokenizer included."
        )

    def build(target: Path) -> None:
        from transformers import AutoTokenizer

        report("converting the tokenizer", 0.0)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False, use_fast=True
            )
            tokenizer.save_pretrained(str(target))
        except OSError as error:
            if error.errno is not None:  # the disk's fault, which the cache reports
                raise
            raise _unreadable(directory, error) from error
        except Exception as error:  # whatever a third party's parser makes of the files, their owner needs one answer
            raise _unreadable(directory, error) from error
        if not (target / "tokenizer.json").exists():
            raise _unreadable(directory, ValueError("it has no fast form"))
        report("converting the tokenizer", 1.0)

    return cached_entry(cache, f"{directory.resolve().name}-tokenizer", sources, _CONVERTER_VERSION, build)


def _unreadable(directory: Path, error: Exception) -> ModelLoadError:
    return ModelLoadError(
        directory / "tokenizer.json",
        f"no such file, and transformers can't make one from the other tokenizer files: {error}",
        "Add the model's tokenizer.json to the directory.",
    )


def _token_text(value: Any) -> str | None:
    """A token as tokenizer_config.json has it: a string, or an object with its content."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _token_id(tokenizer: dict[str, Any], text: str | None) -> int | None:
    if text is None:
        return None
    for token in tokenizer.get("added_tokens") or ():
        if isinstance(token, dict) and token.get("content") == text and isinstance(token.get("id"), int):
            return int(token["id"])
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    token_id = vocabulary.get(text) if isinstance(vocabulary, dict) else None
    return token_id if isinstance(token_id, int) else None


def _template_begins_with(processor: Any, token: str) -> bool:
    """Whether the post-processor puts `token` before a single text."""
    if not isinstance(processor, dict):
        return False
    if processor.get("type") == "Sequence":
        return any(_template_begins_with(part, token) for part in processor.get("processors") or ())
    single = processor.get("single") if processor.get("type") == "TemplateProcessing" else None
    first = single[0] if isinstance(single, list) and single else None
    special = first.get("SpecialToken") if isinstance(first, dict) else None
    return isinstance(special, dict) and special.get("id") == token


def _chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.exists():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelLoadError(path, f"can't be read: {error}", "Copy the file again.") from None
    template = config.get("chat_template")
    if isinstance(template, list):  # several, by name
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
