"""The default model's vocabulary for tests of grammars: whole, or every byte and a seeded sample of the rest."""

from __future__ import annotations

import random
from functools import cache

from forktree.grammar import Vocabulary


@cache
def _tokens() -> tuple[list[bytes | None], int]:
    """What each token spells, and the id of the one that ends an output."""
    from forktree.runtime.engine.tokenizer import Tokenizer
    from forktree.runtime.models import resolve_model

    tokenizer = Tokenizer(resolve_model(None).directory / "tokenizer.json")
    eos = tokenizer.special_id("<|im_end|>")
    assert eos is not None, "the default model ends with <|im_end|>"
    return tokenizer.vocabulary(), eos


@cache
def whole_vocabulary() -> Vocabulary:
    tokens, eos = _tokens()
    return Vocabulary(tokens, [eos])


@cache
def sampled_vocabulary(num_tokens: int = 2000, seed: int = 0) -> Vocabulary:
    """Every token of one byte, a sample of the others, a special token; EOS is the last id."""
    spelled = [token for token in _tokens()[0] if token]
    single = [token for token in spelled if len(token) == 1]
    longer = [token for token in spelled if len(token) > 1]
    chosen = random.Random(seed).sample(longer, num_tokens - len(single) - 2)
    tokens: list[bytes | None] = [*single, *chosen, None, None]
    return Vocabulary(tokens, [len(tokens) - 1])
