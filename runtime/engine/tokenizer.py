"""Text <-> token ids, and the bytes behind each id.

Here: Tokenizer over a tokenizer.json (Hugging Face `tokenizers`), Detokenizer for output that arrives token by token.
Not here: transformers, which costs seconds to import. Imported by the client, which encodes, and by the engine, which
decodes.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as HfTokenizer

from ..errors import ModelLoadError

SPACE_MARK = "\u2581"  # SentencePiece writes a space so


class Tokenizer:
    """The tokenizer of one model; frozen, safe to share between threads."""

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = HfTokenizer.from_file(str(path))
            spec = json.loads(path.read_text(encoding="utf-8"))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise ModelLoadError(path, f"not a tokenizer: {error}", "Copy tokenizer.json anew from the model") from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = spec.get("added_tokens", [])
        self._added: dict[int, bytes] = {token["id"]: token["content"].encode() for token in added}
        self.special_ids = frozenset(token["id"] for token in added if token["special"])
        self._special_by_text = {token["content"]: token["id"] for token in added if token["special"]}
        self._to_bytes = _decoder_of(spec, path)

    @cached_property
    def _bytes(self) -> list[bytes]:
        """What each id spells. Made when first needed: a client that only encodes starts quicker without it."""
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        spelled = [b""] * (max(vocabulary.values()) + 1)
        for token, id in vocabulary.items():
            spelled[id] = self._added[id] if id in self._added else self._to_bytes(token)
        return spelled

    @property
    def vocab_size(self) -> int:
        """One more than the largest id."""
        return len(self._bytes)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens written out in it included; none are added."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Text of whole output; bytes that are not UTF-8 become U+FFFD."""
        skipped = self.special_ids if skip_special_tokens else frozenset()
        return b"".join(self.bytes_of(id) for id in token_ids if id not in skipped).decode("utf-8", "replace")

    def bytes_of(self, token_id: int) -> bytes:
        """What the token spells; b"" past the vocabulary (models pad their embeddings)."""
        if token_id in self._added:
            return self._added[token_id]
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def special_id(self, text: str) -> int | None:
        """The special token that is written `text`, if one is."""
        return self._special_by_text.get(text)

    def text_of(self, token_id: int) -> str:
        """The token for people: part of a character shows as U+FFFD."""
        return self.bytes_of(token_id).decode("utf-8", "replace")

    def vocabulary(self) -> list[bytes | None]:
        """For the grammar: what each token spells, None for special tokens and gaps, which no text can contain."""
        return [None if id in self.special_ids or not token else token for id, token in enumerate(self._bytes)]


class Detokenizer:
    """Text of one output as its tokens arrive; never yields part of a character."""

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skipped = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int, num_written: int = 0) -> str:
        """The text that is complete with this token, of which the first `num_written` bytes came with others."""
        if token_id in self._skipped:
            return ""
        return self._decoder.decode(self._tokenizer.bytes_of(token_id)[num_written:])

    def finish(self) -> str:
        """What is left: U+FFFD if the output ends inside a character."""
        return self._decoder.decode(b"", final=True)


def _decoder_of(spec: dict[str, Any], path: Path) -> Any:
    """How the strings of the vocabulary spell bytes: by GPT-2's byte alphabet, or SentencePiece with byte fallback."""
    names = set(_names(spec.get("decoder"))) | set(_names(spec.get("pre_tokenizer")))
    if "ByteLevel" in names:
        return _byte_level_bytes
    if {"Metaspace", "ByteFallback"} & names or SPACE_MARK in json.dumps(spec.get("decoder"), ensure_ascii=False):
        return _sentencepiece_bytes
    kind = (spec.get("decoder") or {}).get("type")
    raise ModelLoadError(
        path, f"decoder {kind!r} is not supported", "Supported are byte-level BPE and SentencePiece tokenizers"
    )


def _names(part: Any) -> Sequence[str]:
    """The types of a tokenizer.json component and of those it is made of."""
    if not isinstance(part, dict):
        return []
    inner = [*part.get("decoders", []), *part.get("pretokenizers", [])]
    return [part.get("type", ""), *(name for each in inner for name in _names(each))]


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (Radford et al. 2019)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


_ALPHABET = _byte_alphabet()
_AS_LATIN1 = str.maketrans({char: chr(byte) for char, byte in _ALPHABET.items()})


def _byte_level_bytes(token: str) -> bytes:
    if all(char in _ALPHABET for char in token):
        return token.translate(_AS_LATIN1).encode("latin-1")
    return b"".join(bytes([_ALPHABET[char]]) if char in _ALPHABET else char.encode() for char in token)


def _sentencepiece_bytes(token: str) -> bytes:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace(SPACE_MARK, " ").encode()
