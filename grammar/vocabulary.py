"""Token id <-> bytes, and the trie of all tokens.

Here: what a tokenizer's vocabulary looks like to an automaton.  Not here: tokenizers; callers bring bytes."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import trie_kernels
from .trie_kernels import Trie

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tries:
    """The vocabulary as tries: all tokens, and those that are not plain text (see trie_kernels.plain_suffixes)."""

    full: Trie
    rest: Trie
    plain_rows: (
        Int32  # [longest plain token + 1, num_words]: the others as masks, by how many characters they have at most
    )

    @cached_property
    def table(self) -> Int64:
        """int64: address and length of each array, then LONGEST_PLAIN.  Good for as long as this object is kept."""
        arrays = (*self.full, *self.rest, self.plain_rows.reshape(-1))
        parts = [part for array in arrays for part in (array.ctypes.data, len(array))]
        return np.array([*parts, len(self.plain_rows) - 1], dtype=np.int64)


class Vocabulary:
    """A tokenizer's tokens as bytes.  Immutable; share one between all grammars of a model.

    tokens          by token id; None for a special or control token (and for an id without a token): no mask allows it
    eos_token_ids   ids that end the output; masks allow them exactly where the text is complete, whatever tokens[id] is
    num_words       int32 words of a mask: (len(tokens) + 31) // 32
    """

    def __init__(self, tokens: Sequence[bytes | None], eos_token_ids: Sequence[int]) -> None:
        eos = tuple(dict.fromkeys(int(i) for i in eos_token_ids))
        for token_id in eos:
            if not 0 <= token_id < len(tokens):
                raise ValueError(f"eos_token_ids: {token_id} is no token id; there are {len(tokens)} tokens")
        for token_id, token in enumerate(tokens):
            if token is not None and not isinstance(token, bytes):
                raise ValueError(f"tokens[{token_id}] must be bytes or None, not {type(token).__name__}")
        self.tokens: tuple[bytes | None, ...] = tuple(
            None if i in eos or not token else token for i, token in enumerate(tokens)
        )
        self.eos_token_ids = eos
        self.num_words = (len(tokens) + 31) // 32
        self.longest = max((len(t) for t in self.tokens if t), default=0)  # bytes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def ids(self) -> dict[bytes, int]:
        """The lowest token id of each token text."""
        result: dict[bytes, int] = {}
        for token_id, token in enumerate(self.tokens):
            if token:
                result.setdefault(token, token_id)
        return result

    @cached_property
    def alphabet(self) -> int:
        """The bytes that occur in tokens, as a set (bit b is byte b): no output can have others."""
        present = np.bincount(np.frombuffer(b"".join(token for token in self.tokens if token), dtype=np.uint8))
        return sum(1 << byte for byte in np.flatnonzero(present).tolist())

    @cached_property
    def spells_byte_by_byte(self) -> bool:
        """Every byte of the alphabet is a token of its own, so n bytes can always be spelled in n tokens."""
        return all(bytes((byte,)) in self.ids for byte in range(256) if self.alphabet >> byte & 1)

    @cached_property
    def eos_row(self) -> Int32:
        """int32 [num_words]: the mask that allows nothing but the end."""
        row = np.zeros(self.num_words, dtype=np.int32)
        for token_id in self.eos_token_ids:
            row.view(np.uint32)[token_id // 32] |= np.uint32(1 << (token_id % 32))
        return row

    @cached_property
    def may_allow_all(self) -> bool:
        """A mask can allow every id: there are no special tokens but those that end the output."""
        return all(token is not None or i in self.eos_token_ids for i, token in enumerate(self.tokens))

    @cached_property
    def full_row(self) -> Int32:
        """int32 [num_words]: the mask that allows every id of the vocabulary; bits past it are 0."""
        bits = np.zeros(self.num_words * 32, dtype=np.uint8)
        bits[: len(self.tokens)] = 1
        return np.packbits(bits, bitorder="little").view(np.int32)

    def continuations(self, text: bytes) -> list[bytes]:
        """What the tokens that begin with `text` and are longer go on with."""
        if len(text) >= self.longest:
            return []
        ordered = self._sorted
        first = bisect_right(ordered, text)
        last = bisect_left(ordered, text + b"\xff" * (self.longest - len(text) + 1))
        return [token[len(text) :] for token in ordered[first:last] if token != text]

    @cached_property
    def _sorted(self) -> list[bytes]:
        return sorted(token for token in self.tokens if token)

    @cached_property
    def _built_tries(self) -> Tries:
        order = sorted((i for i, token in enumerate(self.tokens) if token), key=lambda i: (self.tokens[i], i))
        full = self._trie_of(order)
        lengths = trie_kernels.plain_lengths(*self._joined(order))
        is_plain = lengths > 0
        ids = np.array(order, dtype=np.int32)
        rest = self._trie_of(ids[~is_plain].tolist())
        bits = np.zeros((max(1, int(lengths.max(initial=0))) + 1, self.num_words * 32), dtype=np.uint8)
        bits[lengths[is_plain], ids[is_plain]] = 1
        rows = np.packbits(np.bitwise_or.accumulate(bits, axis=0), axis=1, bitorder="little").view(np.int32)
        return Tries(full, rest, rows)

    def _joined(self, order: list[int]) -> tuple[UInt8, Int32]:
        """Tokens one after the other, and where each begins."""
        texts = [self.tokens[i] or b"" for i in order]
        starts = np.zeros(len(texts) + 1, dtype=np.int32)
        np.cumsum([len(t) for t in texts], out=starts[1:])
        return np.frombuffer(bytearray(b"".join(texts)), dtype=np.uint8), starts  # writable, as loops are compiled for

    def _trie_of(self, order: list[int]) -> Trie:
        text, starts = self._joined(order)
        size = len(text)
        node_byte, node_depth = np.empty(size, dtype=np.uint8), np.empty(size, dtype=np.int32)
        first_token = np.empty(size + 1, dtype=np.int32)
        nodes = trie_kernels.build_trie(text, starts, node_byte, node_depth, first_token)
        node_byte, node_depth, first_token = (
            node_byte[:nodes].copy(),
            node_depth[:nodes].copy(),
            first_token[: nodes + 1],
        )
        ends = np.empty(nodes, dtype=np.int32)
        trie_kernels.subtree_ends(node_depth, ends, self.longest)
        plain = np.empty(nodes, dtype=np.int32)
        trie_kernels.plain_suffixes(text, starts, node_depth, first_token, ends, plain)
        plain_ascii = trie_kernels.ascii_suffixes(text, starts, node_depth, first_token, ends)
        ids = np.array(order, dtype=np.int32)
        return Trie(node_byte, node_depth, ends, first_token.copy(), ids, plain, plain_ascii)

    @property
    def trie(self) -> Tries:
        """Built on first use, once."""
        with self._lock:
            return self._built_tries
