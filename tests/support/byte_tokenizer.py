"""A tokenizer whose token ids are bytes, for tests of mechanics."""

from __future__ import annotations

from collections.abc import Iterable

from forktree.runtime.engine.tokenizer import Tokenizer


class ByteTokenizer(Tokenizer):
    """256 tokens, one for each byte; `special_ids` are to be skipped in text."""

    def __init__(self, special_ids: Iterable[int] = ()) -> None:
        self.special_ids = frozenset(special_ids)
        self._special_by_text = {chr(id): id for id in self.special_ids}
        self._added = {}
        self._bytes = [bytes([byte]) for byte in range(256)]

    def encode(self, text: str) -> list[int]:
        return list(text.encode())
