"""Small vocabularies for tests of grammars: every byte is a token, some longer pieces, two special tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from forktree.grammar import Matcher, Vocabulary

PIECES = (
    b"ab", b"abc", b"aa", b"ba", b"the", b" the", b"12", b"123", b"00", b'"', b'":', b'": ', b'", "', b'"}', b"{}",
    b'{"',
    b"[]", b"[[", b"]]", b"}}", b", ", b": ", b"true", b"false", b"null", b"\\u", b"\\n", b'\\"', "é".encode(),
    "日本".encode(), "日".encode()[:2], b"\xac\xe6", b'"a"', b'{"a', b"-1", b".5", b"e1", b"name", b'"name"', b"  ",
    b"2024-", b"x" * 40,
)  # fmt: skip


class ByteVocabulary(Vocabulary):
    """Ids 0-255 are the bytes; then `pieces`; then a special token; EOS is the last id."""

    def __init__(self, pieces: tuple[bytes, ...] = PIECES) -> None:
        tokens: list[bytes | None] = [bytes((byte,)) for byte in range(256)]
        tokens += [*pieces, None, None]
        super().__init__(tokens, [len(tokens) - 1])
        self.eos = len(tokens) - 1


def allowed(matcher: Matcher, tokens_left: int | None = None) -> set[int]:
    """The token ids whose bit is set, read off bit by bit."""
    num_tokens = len(matcher.grammar.vocabulary)
    row: npt.NDArray[np.int32] = np.full((num_tokens + 31) // 32, 0x55555555, dtype=np.int32)
    if not matcher.fill_mask(row, tokens_left):
        return set(range(num_tokens))
    bits = {i for i in range(32 * len(row)) if int(row[i // 32]) >> (i % 32) & 1}
    assert all(i < num_tokens for i in bits), "bits past the vocabulary are 0"
    return bits
