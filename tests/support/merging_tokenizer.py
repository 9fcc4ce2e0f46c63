"""A tokenizer that merges, for tests of mechanics: ids 0-255 are the bytes, then pieces, then the end."""

from __future__ import annotations

from collections.abc import Sequence

from forktree.grammar import Vocabulary
from forktree.runtime.engine.tokenizer import Tokenizer


class MergingTokenizer(Tokenizer):
    """Splits a text into the longest pieces, from the left."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.end = 256 + len(pieces)
        self.special_ids = frozenset({self.end})
        self._special_by_text = {"<end>": self.end}
        self._added = {self.end: b"<end>"}
        self._bytes = [*(bytes([byte]) for byte in range(256)), *pieces, b"<end>"]
        self._ids = {text: token_id for token_id, text in enumerate(self._bytes)}
        self._longest = max(map(len, pieces))

    def encode(self, text: str) -> list[int]:
        data, at, ids = text.encode(), 0, []
        while at < len(data):
            lengths = range(self._longest, 0, -1)
            piece = next(data[at : at + n] for n in lengths if data[at : at + n] in self._ids)
            ids.append(self._ids[piece])
            at += len(piece)
        return ids

    def grammar_vocabulary(self) -> Vocabulary:
        return Vocabulary(self.vocabulary(), [self.end])
