"""Jump-forward: text that a grammar forces, as the tokens in which the model's own tokenizer would have written it.

Here: which tokens may be written without sampling them, and how many before them they replace. Not here: writing them
(loop.py), what is forced (the grammar). Imported by the engine loop; no torch.

A forced run is tokenised together with the text before it, for the tokenizer may merge across the seam: the last token
is then replaced ("healed"). Only the token that has just been sampled may be replaced: no client has been told of it
yet, streaming or not, so whether somebody streams does not change an output. At the other end the run stops before a
token that a longer one could take the place of, one that reaches into what is not forced: the model may want that one,
so it is asked. After token healing (guidance) and retokenisation with rollback (mlc-llm PR #2551)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..request import IntArray
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from forktree.grammar import AnyMatcher

CONTEXT_TOKENS = 8  # before the run, so that the tokenizer sees whole words
MOST_FORESEEN = 12  # tokens that may come next, each of which is tried
MUCH = 4  # bytes: a run of so many is hardly ever held back entirely


@dataclass(frozen=True)
class Jump:
    """`token_ids` take the place of the last `num_replaced` tokens of the output, and go on from there."""

    num_replaced: int
    token_ids: list[int]

    @property
    def num_gained(self) -> int:
        return len(self.token_ids) - self.num_replaced


class JumpForward:
    """Plans the jumps of one engine's requests; has nothing of any request."""

    def __init__(self, tokenizer: Tokenizer, *, mask_words: int) -> None:
        self._tokenizer = tokenizer
        self._row = np.empty(mask_words, np.int32)

    def plan(
        self, matcher: AnyMatcher, before: Sequence[int], *, num_open: int, tokens_left: int, stop_ids: Collection[int]
    ) -> Jump | None:
        """The jump from where `matcher` stands, which it makes; None, and nothing has changed, if there is none.

        before       the last tokens before, of prompt and output
        num_open     how many of these may be replaced
        tokens_left  that the output may still have behind these
        stop_ids     tokens that end an output: only the model says when
        Raises GrammarError."""
        forced = matcher.forced_bytes()
        if not forced or tokens_left <= 0:
            return None
        before = self._from_a_character(before[-CONTEXT_TOKENS - num_open :])
        opened = before[len(before) - min(num_open, len(before)) :]
        forced = forced[: len(forced) - _num_partial(b"".join(map(self._tokenizer.bytes_of, before)) + forced)]
        written = b"".join(map(self._tokenizer.bytes_of, opened))
        tokens = self._canonical(before[: len(before) - len(opened)], written + forced)
        if tokens is None and opened:
            opened, written = (), b""
            tokens = self._canonical(before, forced)
        if tokens is None:
            return None
        return self._taken(matcher, opened, len(written), tokens, tokens_left, stop_ids)

    def is_certain(self, matcher: AnyMatcher, mask: IntArray) -> bool:
        """Whether a jump follows whichever token the mask lets come next: as good as, for many bytes are forced then.

        The step that would compute this token by itself is not worth its while."""
        words = np.flatnonzero(mask)
        if len(words) > MOST_FORESEEN:
            return False
        at, bits = np.nonzero(mask[words, None] >> np.arange(32) & 1)
        nexts = words[at] * 32 + bits
        return len(nexts) <= MOST_FORESEEN and all(_forces_much(matcher, token_id) for token_id in nexts.tolist())

    def _taken(
        self,
        matcher: AnyMatcher,
        opened: Sequence[int],
        num_written: int,
        tokens: list[int],
        tokens_left: int,
        stop_ids: Collection[int],
    ) -> Jump | None:
        """As many of `tokens` as can be taken; the matcher stands behind them, or where it was."""
        num_same = next((i for i, (a, b) in enumerate(zip(opened, tokens, strict=False)) if a != b), None)
        if num_same is None:
            num_same = min(len(opened), len(tokens))
        num_replaced = len(opened) - num_same
        matcher.rollback(num_replaced)
        rest = b"".join(map(self._tokenizer.bytes_of, tokens))
        taken: list[int] = []
        num_spelled = 0
        for i, token_id in enumerate(tokens):
            if i >= num_same:
                if token_id in stop_ids or self._may_grow(matcher, rest[num_spelled:]):
                    break
                matcher.advance(token_id)
                taken.append(token_id)
            num_spelled += len(self._tokenizer.bytes_of(token_id))
        room = tokens_left + num_replaced - len(taken)
        if num_spelled > num_written and room >= 0 and matcher.tokens_needed() <= room:
            return Jump(num_replaced, taken)
        matcher.rollback(len(taken))
        for token_id in opened[num_same:]:
            matcher.advance(token_id)
        return None

    def _canonical(self, fixed: Sequence[int], text: bytes) -> list[int] | None:
        """How the tokenizer writes `text` after the tokens `fixed`; None if it can't, or not with these tokens before.

        If it would merge the last of `fixed` with the text, that can't be helped any more: the text by itself then."""
        context = b"".join(map(self._tokenizer.bytes_of, fixed))
        try:
            tokens = self._tokenizer.encode((context + text).decode())
        except UnicodeDecodeError:
            return None
        spelled = [self._tokenizer.bytes_of(token_id) for token_id in tokens]
        skipped = sum(map(len, spelled)) - len(context) - len(text)  # SentencePiece puts a blank before
        at = -skipped
        for i, piece in enumerate(spelled):
            if at == len(context):
                rest = tokens[i:]
                return rest if self._are_plain(rest, text) else None
            if at > len(context):
                break
            at += len(piece)
        return self._canonical((), text) if fixed else None

    def _are_plain(self, tokens: Sequence[int], text: bytes) -> bool:
        """They spell the text, and none is special: a grammar allows those nowhere."""
        return b"".join(map(self._tokenizer.bytes_of, tokens)) == text and self._tokenizer.special_ids.isdisjoint(
            tokens
        )

    def _from_a_character(self, tokens: Sequence[int]) -> Sequence[int]:
        """Without the tokens at the start that go on with a character begun before."""
        for i, token_id in enumerate(tokens):
            first = self._tokenizer.bytes_of(token_id)[:1]
            if first and not 0x80 <= first[0] < 0xC0:
                return tokens[i:]
        return ()

    def _may_grow(self, matcher: AnyMatcher, rest: bytes) -> bool:
        """Whether the mask allows a token that begins with `rest`, all that is left of the run, and goes on."""
        texts, ids = self._sorted
        first = bisect_left(texts, rest)
        while first < len(texts) and texts[first] == rest:
            first += 1
        last = bisect_left(texts, rest + b"\xff" * 64, first)
        if first == last:
            return False
        row: IntArray = self._row
        if not matcher.fill_mask(row):
            return True
        longer = ids[first:last]
        return bool((row[longer >> 5] >> (longer & 31) & 1).any())

    def prepare(self) -> None:
        """Do now what takes a while the first time, on whatever thread."""
        _ = self._sorted

    @cached_property
    def _sorted(self) -> tuple[list[bytes], IntArray]:
        """The vocabulary in order of bytes, with ids."""
        pairs = sorted((text, i) for i, text in enumerate(self._tokenizer.vocabulary()) if text)
        return [text for text, _ in pairs], np.array([i for _, i in pairs], np.int32)


def _forces_much(matcher: AnyMatcher, token_id: int) -> bool:
    """Whether many bytes are forced behind this token; the matcher stays where it is."""
    matcher.advance(token_id)
    num_forced = len(matcher.forced_bytes())
    matcher.rollback(1)
    return num_forced >= MUCH


def _num_partial(text: bytes) -> int:
    """Bytes at the end that only begin a character."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return len(text) - error.start
    return 0
