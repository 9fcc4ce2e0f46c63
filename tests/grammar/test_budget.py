"""With max_tokens, an output is complete and valid within them, or refused before its first token."""

from __future__ import annotations

import random

import pytest

from forktree.grammar import Compiler, Constraint, GrammarError, Matcher, Vocabulary
from tests.support.byte_vocabulary import ByteVocabulary
from tests.support.model_vocabulary import sampled_vocabulary, whole_vocabulary
from tests.support.walks import Walk, allowed_ids, grammars, why_invalid

# Few enough tokens that all outputs of a few tokens can be tried, some of them spelling the same in several ways.
TINY = Vocabulary(
    [*(bytes((c,)) for c in b'{}[]":,abc0123-. '), b'{"', b'":', b'"a"', b'"}', b"[[", b"]]", b"12", b"ab", b"true",
     b"null", b", ", None],
    [28],
)  # fmt: skip


def check_budgets(vocabulary: Vocabulary, num_grammars: int, walks_each: int, seed: int) -> tuple[int, int]:
    """How many walks were refused up front, and how many ended."""
    rng = random.Random(seed)
    refused = ended = 0
    for grammar in grammars(vocabulary, seed, num_grammars):
        for _ in range(walks_each):
            walk = Walk(grammar, rng)
            max_tokens = rng.choice([1, 2, 4, 8, 16, 32, 64])
            if walk.matcher.tokens_needed() > max_tokens:
                refused += 1
                continue
            while len(walk.taken) < max_tokens and walk.step(max_tokens - len(walk.taken), ending=0.2):
                pass
            where = f"{grammar.constraint.text[:500]}\nwith {max_tokens} tokens: {walk.text!r}"
            assert walk.matcher.complete, f"not complete\n{where}"
            why = why_invalid(grammar.constraint, walk.text)
            assert not why, f"{why}\n{where}"
            ended += 1
    return refused, ended


@pytest.mark.slow
def test_outputs_are_valid_within_max_tokens_or_refused_up_front() -> None:
    refused, ended = check_budgets(sampled_vocabulary(), num_grammars=60, walks_each=3, seed=1)
    assert refused > 10
    assert ended > 60


@pytest.mark.slow
def test_a_thousand_outputs_of_the_default_model_are_valid_within_max_tokens_or_refused() -> None:
    refused, ended = check_budgets(whole_vocabulary(), num_grammars=200, walks_each=5, seed=2)
    assert refused + ended == 1000
    assert ended > 300


def fewest_tokens(matcher: Matcher, limit: int) -> int:
    """Tokens of the shortest way to the end, by trying all ways; `limit` + 1 if that is not enough."""
    eos = matcher.grammar.vocabulary.eos_token_ids[0]

    def fewest(left: int) -> int:
        ids = allowed_ids(matcher).tolist()
        if eos in ids:
            return 0
        best = left + 1
        for token_id in ids:
            if best <= 1:
                break
            matcher.advance(token_id)
            best = min(best, 1 + fewest(min(left, best - 1) - 1)) if left else best
            matcher.rollback(1)
        return best

    return fewest(limit)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False},
        {"type": "array", "items": {"enum": ["a", "ab", 12]}, "minItems": 1, "maxItems": 2},
        {"enum": ["abc", 123, True]},
        {"type": "array", "prefixItems": [{"type": "array"}, {"type": "null"}], "minItems": 1},
        {"const": {"a": {"a": "ab"}}},
        {"type": "string", "minLength": 3},
    ],
    ids=str,
)
def test_the_tokens_needed_are_those_of_a_shortest_answer(schema: dict[str, object]) -> None:
    """A request is refused when no answer fits, so it must not be when one does."""
    compiler = Compiler(TINY)
    matcher = compiler.compile(Constraint.json_schema(schema)).matcher()
    needed = matcher.tokens_needed()
    assert needed == fewest_tokens(matcher, needed)


@pytest.mark.parametrize("pattern", ["(a|b)c", "(ab)+c|(abc){2}", "12ab12", "(12|3)(ab|true)", "true(null)?", ""])
def test_the_tokens_needed_are_those_of_a_shortest_match(pattern: str) -> None:
    matcher = Compiler(TINY).compile(Constraint.regex(pattern)).matcher()
    assert matcher.tokens_needed() == fewest_tokens(matcher, 6)


def test_with_the_tokens_needed_the_shortest_answers_are_all_that_is_allowed() -> None:
    matcher = Compiler(TINY).compile(Constraint.regex("(ab|12)c|[0-3]{3}")).matcher()
    left = matcher.tokens_needed()
    assert left == 2
    for token_id in allowed_ids(matcher, left).tolist():
        matcher.advance(token_id)
        assert matcher.tokens_needed() <= left - 1
        matcher.rollback(1)


def test_tokens_needed_follow_the_output_and_are_none_at_its_end() -> None:
    matcher = Compiler(TINY).compile(Constraint.regex("abc12")).matcher()
    needed = matcher.tokens_needed()
    while not matcher.complete:
        assert needed > 0
        matcher.advance(allowed_ids(matcher, needed).tolist()[0])
        assert matcher.tokens_needed() == needed - 1
        needed -= 1
    assert matcher.tokens_needed() == 0
    matcher.advance(28)
    assert matcher.tokens_needed() == 0


def test_a_budget_never_allows_what_the_grammar_forbids() -> None:
    rng = random.Random(5)
    for grammar in grammars(TINY, 5, 40):
        walk = Walk(grammar, rng)
        for left in (0, 1, 3, 9):
            try:
                within = set(allowed_ids(walk.matcher, left).tolist())
            except GrammarError:
                continue  # so few tokens that there is nothing to allow
            assert within <= set(allowed_ids(walk.matcher).tolist())
            if not walk.step():
                break


HARD: list[dict[str, object]] = [
    {"type": "string"},
    {"type": "string", "minLength": 5, "maxLength": 9},
    {"type": "string", "pattern": "^(é|日本)+$"},
    {"anyOf": [{"const": "x"}, {"type": "string", "minLength": 100}]},
    {"type": "array", "uniqueItems": True, "minItems": 12, "items": {"type": "integer"}},
    {"type": "array", "uniqueItems": True, "minItems": 3, "items": {"enum": ["a", "b", 12, None]}},
    {"type": "array", "items": {"type": "array", "uniqueItems": True, "minItems": 4, "items": {"maximum": 30}}},
    {"type": "object", "minProperties": 3},
    {"type": "object", "patternProperties": {"^a+$": {"type": "integer"}}, "additionalProperties": False,
     "minProperties": 4},
]  # fmt: skip


@pytest.mark.parametrize("schema", HARD, ids=str)
def test_outputs_end_in_time_where_tokens_cut_characters_short_and_texts_must_be_new(schema: dict[str, object]) -> None:
    grammar = Compiler(ByteVocabulary()).compile(Constraint.json_schema(schema))
    for seed in range(8):
        rng = random.Random(seed)
        matcher = grammar.matcher()
        left = matcher.tokens_needed() + rng.choice([0, 1, 2, 3, 5, 10, 60])
        while left:
            assert matcher.tokens_needed() <= left
            ids = [token_id for token_id in allowed_ids(matcher, left).tolist() if token_id != grammar.vocabulary.eos]
            if not ids or (matcher.complete and rng.random() < 0.1):
                break
            likely = [token_id for token_id in ids if token_id < 0x7F or token_id > 0xFF]
            matcher.advance(rng.choice(likely or ids if seed % 2 else ids))
            left -= 1
        assert matcher.complete


def test_a_budget_beyond_all_measure_is_no_budget() -> None:
    constraint = Constraint.json_schema({"const": {"type": "object", "properties": {"x": 1}, "required": 2}})
    matcher = Compiler(ByteVocabulary()).compile(constraint).matcher()
    for byte in b'{"':
        matcher.advance(byte)
    for tokens_left in (10**3, 10**6, 10**9, 2**31, 10**12):
        assert list(allowed_ids(matcher, tokens_left)) == list(allowed_ids(matcher)), tokens_left


def test_a_way_within_the_limit_is_searched_for_where_the_first_one_at_hand_is_longer() -> None:
    """Tokens that reach across two properties, and a value that nobody would take for the shortest."""
    vocabulary = Vocabulary([*(bytes((c,)) for c in range(32, 127)), b'{"a":"xyz', b'xyz"}', b'"}', None], [98])
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    matcher = Compiler(vocabulary).compile(Constraint.json_schema(schema)).matcher()
    fewest = fewest_tokens(matcher, 2)
    assert fewest == 2
    assert matcher.tokens_needed(limit=2) == 2
    assert allowed_ids(matcher, 2).tolist() == [vocabulary.ids[b'{"a":"xyz']]
    matcher.advance(vocabulary.ids[b'{"a":"xyz'])
    assert allowed_ids(matcher, 1).tolist() == [vocabulary.ids[b'xyz"}'], vocabulary.ids[b'"}']]


def test_what_plain_tokens_need_is_that_of_the_string_that_admits_them() -> None:
    """Not of the shorter constant beside it."""
    schema = {"anyOf": [{"const": "x"}, {"type": "string", "minLength": 100}]}
    matcher = Compiler(ByteVocabulary()).compile(Constraint.json_schema(schema)).matcher()
    matcher.advance(ord('"'))
    assert allowed_ids(matcher, 40).tolist() == [ord("x")]
