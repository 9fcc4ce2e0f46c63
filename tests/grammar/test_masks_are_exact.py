"""Masks of many constraints against every token tried, and what random walks through them spell."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from benchmarks.grammar import data
from forktree.grammar import Matcher, Vocabulary
from tests.support.model_vocabulary import sampled_vocabulary, whole_vocabulary
from tests.support.walks import Walk, allowed_ids, changed, grammars, tried_ids, why_invalid


def check_masks(vocabulary: Vocabulary, num_pairs: int, seed: int) -> None:
    """One random prefix for each grammar: no prefix, or one of up to 15 tokens."""
    rng = random.Random(seed)
    for grammar in grammars(vocabulary, seed, num_pairs):
        walk = Walk(grammar, rng)
        for _ in range(rng.choice([0, 1, 3, 7, 15])):
            if not walk.step(ending=0.1):
                break
        mask, tried = set(allowed_ids(walk.matcher).tolist()), set(tried_ids(walk.matcher))
        assert mask == tried, (
            f"{grammar.constraint.text[:300]}\nafter {walk.text!r}: the mask allows what advance refuses "
            f"{sorted(mask - tried)[:9]}, advance takes what the mask forbids {sorted(tried - mask)[:9]}"
        )


def check_walks(vocabulary: Vocabulary, num_grammars: int, walks_each: int, seed: int) -> None:
    rng = random.Random(seed)
    for grammar in grammars(vocabulary, seed, num_grammars):
        for _ in range(walks_each):
            walk = Walk(grammar, rng)
            walk.finish(rng.choice([0, 5, 20, 40]))
            why = why_invalid(grammar.constraint, walk.text)
            assert not why, f"{why}\n{grammar.constraint.text[:500]}\nlet through: {walk.text!r}"


def check_changed(vocabulary: Vocabulary, num_grammars: int, walks_each: int, seed: int) -> tuple[int, int]:
    """Walks end in valid values; one thing after another is changed in them until they are not.

    Returns how many changed values were judged invalid and valid."""
    rng = random.Random(seed)
    invalid = valid = 0
    for grammar in grammars(vocabulary, seed, num_grammars):
        if grammar.constraint.kind != "json_schema":
            continue
        numbers = [int(number) for number in re.findall(r"-?\b\d{1,6}\b", grammar.constraint.text)]
        for _ in range(walks_each):
            walk = Walk(grammar, rng)
            walk.finish(rng.choice([5, 20, 60]))
            value = json.loads(walk.text)
            if not accepts(grammar.matcher(), spelled(value)):
                continue  # another spelling of it was walked
            last = value
            for _ in range(8):
                last = changed(rng, last, numbers)
                text = spelled(last)
                why, accepted = why_invalid(grammar.constraint, text), accepts(grammar.matcher(), text)
                assert not (why and accepted), f"{why}\n{grammar.constraint.text[:500]}\ntakes: {text!r}"
                if not accepted and any(keyword in grammar.constraint.text for keyword in ONE_SPELLING):
                    accepted = accepts(grammar.matcher(), spelled(plainest(last)))
                if NARROWED not in grammar.constraint.text:
                    assert accepted or why, f"{grammar.constraint.text[:500]}\nrefuses: {text!r}"
                invalid, valid = invalid + bool(why), valid + (not why)
                if why:
                    last = value
    return invalid, valid


NARROWED = '"format"'  # one plain form of several is taken
ONE_SPELLING = ('"uniqueItems"', '"enum"', '"const"')  # of each number in their reach: 10, never 10.0


def plainest(value: Any) -> Any:
    """The value with its whole numbers as integers."""
    if isinstance(value, dict):
        return {key: plainest(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plainest(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def spelled(value: object) -> bytes:
    return data.spell(value).encode()


def accepts(matcher: Matcher, text: bytes) -> bool:
    """Byte by byte."""
    ids = matcher.grammar.vocabulary.ids
    return all(matcher.try_advance(ids[bytes((byte,))]) for byte in text) and matcher.complete


@pytest.mark.slow
def test_masks_allow_exactly_the_tokens_that_advance_takes() -> None:
    check_masks(sampled_vocabulary(), num_pairs=60, seed=1)


@pytest.mark.slow
def test_masks_of_the_default_model_allow_exactly_the_tokens_that_advance_takes() -> None:
    check_masks(whole_vocabulary(), num_pairs=200, seed=2)


@pytest.mark.slow
def test_random_walks_end_in_text_that_the_constraint_allows() -> None:
    check_walks(sampled_vocabulary(), num_grammars=60, walks_each=5, seed=3)


@pytest.mark.slow
def test_ten_thousand_walks_of_the_default_model_end_in_text_that_the_constraint_allows() -> None:
    check_walks(whole_vocabulary(), num_grammars=500, walks_each=20, seed=4)


@pytest.mark.slow
def test_values_are_refused_exactly_where_they_stop_being_valid() -> None:
    invalid, valid = check_changed(sampled_vocabulary(), num_grammars=60, walks_each=20, seed=5)
    assert invalid > 500
    assert valid > 200
