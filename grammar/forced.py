"""Jump-forward: the bytes that must come next, and the tokens that may carry them.

A run of forced bytes is spelled greedily, longest token first.  It stops before a token that could be the beginning of
a longer allowed one reaching past the forced bytes: the model may prefer that one, so it is asked.  Whether greedy is
how the model's own tokenizer would have spelled the run is not considered here (the runtime heals the last tokens)."""

from __future__ import annotations

from .pda.automaton import Configuration, Pushdown
from .token_mask import TokenMasks
from .vocabulary import Vocabulary

MAX_FORCED_BYTES = 4096  # at a time; the rest is forced again afterwards


def forced_tokens(automaton: Pushdown, masks: TokenMasks, vocabulary: Vocabulary, at: Configuration) -> list[int]:
    """Token ids that spell forced bytes; each is allowed after those before it."""
    text, after = automaton.forced(at, MAX_FORCED_BYTES)
    ids, longest = vocabulary.ids, vocabulary.longest
    tokens: list[int] = []
    done = 0
    while done < len(text):
        ends = range(min(len(text), done + longest), done, -1)
        end = next((e for e in ends if text[done:e] in ids), None)
        if end is None or reaches_past(masks, vocabulary, text[done:], after):
            break
        tokens.append(ids[text[done:end]])
        done = end
    return tokens


def reaches_past(masks: TokenMasks, vocabulary: Vocabulary, rest: bytes, after: Configuration) -> bool:
    """Whether some token begins with `rest` and goes on in a way that the configuration `after` it allows."""
    longer = vocabulary.continuations(rest)
    return bool(longer) and masks.some_follow(after, longer)
