"""Token masks against every token tried, random outputs under masks, and masks under a token budget."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar import Compiler, Constraint, GrammarError, Matcher, Vocabulary
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY)

REGEXES = [
    "a*b", "[a-z]{1,200}", "(ab|aba)*c", "\\d{3}-\\d{4}", "(?s).*", "é+|日本語?", '"[^"]*"', "(?i)the end",
    "x{39,41}y?", "(x{40}|the)+",
    "(ab?){2,60}c", "12(3|00){2,}", "[^a]{2,3}", "(a{1,100}){1,100}", "(?:[ab]{5,90}c){2}", "",
]  # fmt: skip
SCHEMAS: list[Any] = [
    {"type": "object", "properties": {"name": {"type": "string"}, "a": {"type": "integer"}}, "required": ["name"],
    "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 50, "minLength": 45}}, "required": ["a"]},
    {"type": "array", "items": {"enum": ["a", "ab", "the", True, None, 12, -1.5]}, "maxItems": 60, "minItems": 3},
    {"type": "string", "format": "date"}, {"type": "number", "minimum": -1, "maximum": 123.5}, {"type": "integer",
    "multipleOf": 7, "exclusiveMinimum": 0},
    {"type": "string", "pattern": "^a", "maxLength": 12, "minLength": 3}, {}, {"type": "object",
    "additionalProperties": {"type": "null"}},
    {"$defs": {"t": {"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/t"}, {"type": "boolean"}]},
    "maxItems": 2}}, "$ref": "#/$defs/t"},
    {"anyOf": [{"type": "object", "properties": {"a": {"const": 1}, "b": True}}, {"type": "object",
    "properties": {"a": {"const": 12}}, "required": ["a"]}]},
]  # fmt: skip
CONSTRAINTS = [*map(Constraint.regex, REGEXES), *map(Constraint.json_schema, SCHEMAS)]


def tried(matcher: Matcher) -> set[int]:
    """The allowed tokens, found by trying each one."""
    found = set()
    for token_id in range(len(matcher.grammar.vocabulary)):
        try:
            matcher.advance(token_id)
        except GrammarError:
            continue
        matcher.rollback(1)
        found.add(token_id)
    return found


def generate(matcher: Matcher, rng: random.Random, limit: int) -> str | None:
    """A random output, ending where it may with some likelihood; None if `limit` tokens were not enough."""
    eos = matcher.grammar.vocabulary.eos_token_ids[0]
    parts = []
    for _ in range(limit):
        choice = allowed(matcher)
        assert choice, "some token is always allowed"
        if eos in choice and (len(choice) == 1 or rng.random() < 0.3):
            return b"".join(parts).decode()
        token_id = rng.choice(sorted(choice - {eos}))
        matcher.advance(token_id)
        parts.append(matcher.grammar.vocabulary.tokens[token_id] or b"")
    return None


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c.text[:40])
def test_a_mask_allows_exactly_the_tokens_that_can_be_taken(constraint: Constraint) -> None:
    rng = random.Random(5)
    matcher = COMPILER.compile(constraint).matcher()
    for _ in range(12):
        choice = allowed(matcher)
        assert choice == tried(matcher)
        rest = sorted(choice - set(VOCABULARY.eos_token_ids))
        if not rest:
            break
        matcher.advance(rng.choice(rest))


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c.text[:40])
def test_whatever_masks_let_through_is_valid(constraint: Constraint) -> None:
    rng = random.Random(7)
    grammar = COMPILER.compile(constraint)
    finished = 0
    for _ in range(12):
        text = generate(grammar.matcher(), rng, 60)
        if text is None:
            continue
        finished += 1
        if constraint.kind == "regex":
            assert re.fullmatch(constraint.text, text), text
        else:
            schema = json.loads(constraint.text)
            validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
            validator.validate(json.loads(text))
    assert finished or len(constraint.text) > 10


def test_states_that_differ_in_large_counters_share_one_mask() -> None:
    matcher = Compiler(VOCABULARY).compile(Constraint.regex("[a-z]{1,2000}")).matcher()
    seen = set()
    for _ in range(300):
        seen.add(matcher.mask().ctypes.data)
        matcher.advance(ord("q"))
    assert len(seen) <= 2, "before the first letter (no end yet) and after it"


def test_near_the_end_of_a_counter_masks_are_exact_again() -> None:
    matcher = COMPILER.compile(Constraint.regex("[a-z]{1,50}")).matcher()
    long = VOCABULARY.tokens.index(b"x" * 40)
    for left in range(50, -1, -1):
        assert (long in allowed(matcher)) == (left >= 40), left
        assert (VOCABULARY.tokens.index(b"abc") in allowed(matcher)) == (left >= 3), left
        if left:
            matcher.advance(ord("q"))


def test_special_tokens_are_never_allowed_and_eos_exactly_where_the_text_is_complete() -> None:
    special = VOCABULARY.eos - 1
    matcher = COMPILER.compile(Constraint.regex("ab?")).matcher()
    assert VOCABULARY.eos not in allowed(matcher)
    matcher.advance(ord("a"))
    assert allowed(matcher) == {ord("b"), VOCABULARY.eos}
    assert special not in allowed(COMPILER.compile(Constraint.regex("(?s).*")).matcher())


def test_all_eos_ids_are_allowed_together() -> None:
    vocabulary = Vocabulary([b"a", b"</s>", None, b"b"], [1, 2])
    matcher = Compiler(vocabulary).compile(Constraint.regex("a?")).matcher()
    assert allowed(matcher) == {0, 1, 2}
    matcher.advance(1)
    assert allowed(matcher) == {1, 2}, "after the end, nothing but the end"


def test_fill_mask_leaves_the_row_alone_where_everything_is_allowed() -> None:
    vocabulary = Vocabulary([b"a", b"b", b"ab", b""], [3])
    matcher = Compiler(vocabulary).compile(Constraint.regex("[ab]*")).matcher()
    row = np.full(1, 7, dtype=np.int32)
    assert matcher.fill_mask(row) is False
    assert row[0] == 7


def test_a_vocabulary_that_cannot_spell_the_text_gives_a_clear_error() -> None:
    small = Compiler(Vocabulary([b"a", b"c", b""], [2]))
    assert allowed(small.compile(Constraint.regex("ab|c")).matcher()) == {1}, "there is no b"
    for constraint in (Constraint.regex("ab"), Constraint.json_schema({"type": "integer"})):
        with pytest.raises(GrammarError, match="cannot be spelled in this vocabulary"):
            small.compile(constraint)
    with pytest.raises(GrammarError, match="nothing to repeat"):
        small.compile(Constraint.regex("*"))


def test_a_dead_end_of_the_vocabulary_is_reported_where_it_is_met() -> None:
    matcher = Compiler(Vocabulary([b"ab", b"a", b""], [2])).compile(Constraint.regex("ab?b")).matcher()
    matcher.advance(1)
    with pytest.raises(GrammarError, match="no token of the vocabulary"):
        matcher.fill_mask(np.zeros(1, dtype=np.int32))


def test_masks_of_a_vocabulary_with_equal_tokens_allow_all_of_them() -> None:
    vocabulary = Vocabulary([b"a", b"b", b"a", b"ab", b"ab", b""], [5])
    matcher = Compiler(vocabulary).compile(Constraint.regex("ab")).matcher()
    assert allowed(matcher) == {0, 2, 3, 4}


# ---- with a token budget


def shortest_in_tokens(matcher: Matcher, limit: int) -> int:
    """Tokens to completion by breadth-first search over all tokens; texts that are equal are looked at once."""
    frontier: dict[bytes, tuple[int, ...]] = {b"": ()}
    tokens = matcher.grammar.vocabulary.tokens
    seen = set(frontier)
    for distance in range(limit + 1):
        following: dict[bytes, tuple[int, ...]] = {}
        for text, taken in frontier.items():
            for token_id in taken:
                matcher.advance(token_id)
            complete, choice = matcher.complete, sorted(allowed(matcher))
            matcher.rollback(len(taken))
            if complete:
                return distance
            for token_id in choice:
                longer = text + (tokens[token_id] or b"")
                if longer not in seen:
                    seen.add(longer)
                    following[longer] = (*taken, token_id)
        frontier = following
    return limit + 1


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=lambda c: c.text[:40])
@pytest.mark.parametrize("extra", [0, 1, 5])
def test_an_output_with_a_token_budget_is_complete_when_the_budget_ends(constraint: Constraint, extra: int) -> None:
    grammar = COMPILER.compile(constraint)
    eos = VOCABULARY.eos
    for seed in range(3):
        rng = random.Random(seed)
        matcher = grammar.matcher()
        left = matcher.tokens_needed() + extra
        while left > 0:
            choice = allowed(matcher, left)
            assert choice <= allowed(matcher)
            if choice == {eos}:
                break
            matcher.advance(rng.choice(sorted(choice - {eos})))
            left -= 1
        assert matcher.complete, (constraint, extra, seed)


def test_a_budget_leaves_out_only_tokens_that_lead_too_far() -> None:
    matcher = COMPILER.compile(Constraint.regex("(a|the){1,6}ab|b{9}")).matcher()
    for left in range(1, 12):
        choice = allowed(matcher, left)
        for token_id in allowed(matcher):
            matcher.advance(token_id)
            needed = shortest_in_tokens(matcher, 12)
            matcher.rollback(1)
            if token_id in choice:
                assert needed <= left - 1 or left == 1
            elif left > 2:
                assert needed > left - 1, (left, VOCABULARY.tokens[token_id])


def test_a_budget_that_is_ample_changes_nothing() -> None:
    for constraint in CONSTRAINTS:
        matcher = COMPILER.compile(constraint).matcher()
        assert allowed(matcher, 10**6) == allowed(matcher)


def test_a_budget_that_is_too_small_gives_the_plain_mask() -> None:
    matcher = COMPILER.compile(Constraint.regex("[bc]{50}")).matcher()
    assert allowed(matcher, 3) == allowed(matcher)


def test_a_budget_takes_the_spelling_in_long_tokens_into_account() -> None:
    vocabulary = ByteVocabulary((b"hello world", b"hello", b" world"))
    matcher = Compiler(vocabulary).compile(Constraint.regex("(x|hello world)!")).matcher()
    assert allowed(matcher, 2) == {ord("x"), 256}, "h, hello and he would take more"
    assert {ord("x"), 256, 257} <= allowed(matcher, 3)
    assert ord("h") not in allowed(matcher, 3)


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_random_outputs_under_random_budgets_are_complete(seed: int) -> None:
    rng = random.Random(seed)
    matcher = COMPILER.compile(rng.choice(CONSTRAINTS)).matcher()
    left = matcher.tokens_needed() + rng.randrange(30)
    while left > 0:
        choice = allowed(matcher, left) - {VOCABULARY.eos}
        if not choice:
            break
        matcher.advance(rng.choice(sorted(choice)))
        left -= 1
        assert left + 1 > matcher.tokens_needed()
    assert matcher.complete
