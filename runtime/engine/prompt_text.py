"""Text on its way to token ids, piece by piece.

Here: TextEncoder (how the model's prompts begin, text -> ids), PromptText (the prompt of a program's node, which grows
by text and by outputs and is tokenised as the same prompt in parts would be).
Imported by prompts.py on the client's side and by programs.py on the engine's; no torch."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ..errors import InvalidRequest
from ..sampling_params import require_text
from .messages import ModelInfo
from .tokenizer import Tokenizer

MOST_CHARACTERS = 64  # of a token, runs of spaces included: longer texts are refused without being tokenised


class TextEncoder:
    """The tokenizer of one model, and what its texts begin with."""

    def __init__(self, tokenizer: Tokenizer, info: ModelInfo) -> None:
        self.tokenizer = tokenizer
        self._bos = info.bos_token_id
        self._bos_first = info.add_bos
        self._eos = info.eos_token_ids
        self._context_length = info.context_length

    def encode(self, text: str) -> list[int]:
        """Ids of text alone: nothing goes before it.  Raises InvalidRequest(field="prompt")."""
        require_text("prompt", text)
        return self.tokenizer.encode(text)

    def require_length(self, num_characters: int) -> None:
        """Refuse what no context has room for: tokenising it would take long, and everybody else waits."""
        if num_characters > self._context_length * MOST_CHARACTERS:
            what = f"has {num_characters:,} characters in one piece; the context holds {self._context_length:,} tokens"
            raise InvalidRequest("prompt", what, "context_length_exceeded")

    def encode_continuation(self, tail: str | Sequence[int]) -> list[int]:
        """Token ids of text that goes on from something: no begin-of-sequence token."""
        if isinstance(tail, str):
            require_text("continuations", tail)
            return self.tokenizer.encode(tail)
        if not all(map(is_token_id, tail)):
            raise InvalidRequest("continuations", f"got {tail!r:.60}, wanted text or token ids")
        return list(tail)

    def with_bos(self, ids: list[int]) -> list[int]:
        """A prompt that begins with text begins with the model's begin-of-sequence token, if it wants one."""
        if not self._bos_first or self._bos is None or ids[:1] == [self._bos]:
            return ids
        return [self._bos, *ids]

    def start_ids(self) -> list[int]:
        """What stands before a text that nothing precedes."""
        return [self._bos] if self._bos is not None else list(self._eos[:1])


_Tail = tuple["_Tail", str] | None


class PromptText:
    """A prompt that never changes: each addition makes a new one, which shares nothing that could change.

    Text that follows text is one part with it and tokenised with it; an output is a part of its own, with its tokens
    where they spell exactly its text.  An output that is empty is no part at all."""

    __slots__ = ("_digest", "_first_is_text", "_ids", "_tail", "encoder", "num_open_characters")

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._ids: list[int] = []  # of the parts that are complete
        self._tail: _Tail = None  # a text that may go on: its last piece, and what is before that
        self.num_open_characters = 0  # of that text, which token_ids has to tokenise
        self._first_is_text: bool | None = None  # None: there is no part yet
        self._digest: Any = blake2b(digest_size=16)  # of the parts that are complete

    def with_text(self, text: str) -> PromptText:
        if not text:
            return self
        grown = self._copy()
        grown._tail = self._tail, text
        grown.num_open_characters += len(text)
        if grown._first_is_text is None:
            grown._first_is_text = True
        return grown

    def with_output(self, text: str, token_ids: list[int] | None) -> PromptText:
        """Raises InvalidRequest where the text before is longer than any context."""
        if not text:
            return self
        grown = self._copy()
        if tail := self._open_text():
            grown._ids = self._ids + self.encoder.encode(tail)
            grown._digest.update(_text_part(tail))
            grown._tail, grown.num_open_characters = None, 0
        if token_ids:
            grown._ids = grown._ids + token_ids
            grown._digest.update(_ids_part(token_ids))
        else:
            grown._ids = grown._ids + self.encoder.encode(text)
            grown._digest.update(_text_part(text))
        if grown._first_is_text is None:
            grown._first_is_text = not token_ids
        return grown

    def token_ids(self) -> list[int]:
        """Of the whole prompt; one without parts is an empty text.  Raises InvalidRequest for more than any context
        holds."""
        tail = self._open_text()
        ids = self._ids + (self.encoder.encode(tail) if tail else [])
        return ids if self._first_is_text is False else self.encoder.with_bos(ids)

    def digest(self) -> bytes:
        """16 bytes that tell this prompt from others: BLAKE2b over its parts, T or I, their length as uint32, then
        UTF-8 or int32 ids, little-endian."""
        digest = self._digest.copy()
        if tail := self._open_text():
            digest.update(_text_part(tail))
        found: bytes = digest.digest()
        return found

    def _open_text(self) -> str:
        self.encoder.require_length(self.num_open_characters)
        pieces, tail = [], self._tail
        while tail is not None:
            tail, piece = tail
            pieces.append(piece)
        return "".join(reversed(pieces))

    def _copy(self) -> PromptText:
        copy = PromptText.__new__(PromptText)
        copy.encoder, copy._ids, copy._tail = self.encoder, self._ids, self._tail
        copy._first_is_text, copy._digest = self._first_is_text, self._digest.copy()
        copy.num_open_characters = self.num_open_characters
        return copy


def is_token_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text_part(text: str) -> bytes:
    data = text.encode()
    return b"T" + struct.pack("<I", len(data)) + data


def _ids_part(ids: Sequence[int]) -> bytes:
    return b"I" + struct.pack(f"<I{len(ids)}i", len(ids), *ids)
