"""Matcher: advance, rollback, forced, finished; fill_masks for a whole step."""

from __future__ import annotations

import random

import numpy as np
import pytest

from forktree.grammar import Compiler, Constraint, GrammarError, Matcher, fill_masks, literals
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY)
EOS = VOCABULARY.eos


def regex(pattern: str) -> Matcher:
    return COMPILER.compile(Constraint.regex(pattern)).matcher()


def schema(value: dict[str, object]) -> Matcher:
    return COMPILER.compile(Constraint.json_schema(value)).matcher()


def take(matcher: Matcher, text: bytes) -> None:
    for byte in text:
        matcher.advance(byte)


def test_a_token_that_is_not_allowed_is_refused_and_changes_nothing() -> None:
    matcher = regex("ab")
    with pytest.raises(GrammarError, match="token 98 b'b' is not allowed here"):
        matcher.advance(ord("b"))
    with pytest.raises(GrammarError, match="not complete"):
        matcher.advance(EOS)
    with pytest.raises(GrammarError, match="special token"):
        matcher.advance(EOS - 1)
    with pytest.raises(GrammarError, match="no token id"):
        matcher.advance(EOS + 1)
    with pytest.raises(GrammarError, match="no token id"):
        matcher.advance(-1)
    assert matcher.num_tokens == 0
    assert allowed(matcher) == {ord("a"), VOCABULARY.ids[b"ab"]}


def test_finished_means_that_only_the_end_may_follow() -> None:
    matcher = regex("ab?")
    assert not matcher.finished
    take(matcher, b"a")
    assert matcher.complete
    assert not matcher.finished, "b may follow"
    take(matcher, b"b")
    assert matcher.finished
    assert allowed(matcher) == {EOS}
    matcher.advance(EOS)
    assert matcher.finished
    assert matcher.terminated
    with pytest.raises(GrammarError, match="after the end"):
        matcher.advance(EOS)


def test_the_empty_text_may_be_all_there_is() -> None:
    matcher = regex("")
    assert matcher.finished
    assert allowed(matcher) == {EOS}


def test_rollback_takes_tokens_back_the_end_included() -> None:
    rng = random.Random(3)
    matcher = schema({"type": "array", "items": {"type": "integer"}})
    masks = [allowed(matcher)]
    for _ in range(30):
        if rng.random() < 0.3 and matcher.num_tokens:
            back = rng.randrange(1, matcher.num_tokens + 1)
            matcher.rollback(back)
            del masks[-back:]
            assert allowed(matcher) == masks[-1]
        elif not matcher.terminated:
            matcher.advance(rng.choice(sorted(masks[-1])))
            masks.append(allowed(matcher))
    matcher.rollback(matcher.num_tokens)
    assert allowed(matcher) == masks[0]
    matcher.rollback(0)


def test_rollback_further_than_the_start_is_refused() -> None:
    matcher = regex("aa")
    take(matcher, b"a")
    for n in (2, -1):
        with pytest.raises(GrammarError, match="cannot roll back"):
            matcher.rollback(n)
    assert matcher.num_tokens == 1


def test_matchers_of_one_grammar_do_not_disturb_each_other() -> None:
    first, second = regex("ab|ba"), regex("ab|ba")
    assert first.grammar is second.grammar
    take(first, b"a")
    take(second, b"b")
    assert allowed(first) == {ord("b")}
    assert allowed(second) == {ord("a")}


# ---- forced


@pytest.mark.parametrize(
    ("pattern", "runs"),
    [
        ("abc", [b"abc"]),
        ("ab[0-9]cd", [b"ab", b"cd"]),
        ("ab[0-9]+cd", [b"ab", b"d"]),  # where a digit may follow still, c is a choice
        ("[0-9]", []),
        ("(ab|cd)e", [b"be"]),  # the first byte is a choice, what follows it is not
        ("a*", []),
        ("x(yz)?", [b"x"]),
    ],
)
def test_literals_are_what_the_shortest_text_cannot_do_without(pattern: str, runs: list[bytes]) -> None:
    assert literals(Constraint.regex(pattern)) == runs


def test_literals_of_a_schema_are_its_punctuation_and_its_keys() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert literals(Constraint.json_schema(schema))[0].startswith(b"{")
    assert b'"a"' in b"".join(literals(Constraint.json_schema(schema)))


def test_forced_bytes_are_spelled_in_the_longest_tokens() -> None:
    matcher = schema({"type": "object", "properties": {"name": {"type": "integer"}}, "required": ["name"]})
    forced = matcher.forced()
    assert [VOCABULARY.tokens[t] for t in forced] == [b'{"', b"name"]
    for token_id in forced:
        assert token_id in allowed(matcher)
        matcher.advance(token_id)
    assert matcher.forced() == [], "the quote may come with the colon, and that with a blank"


def test_nothing_is_forced_where_the_text_may_end_or_go_two_ways() -> None:
    assert regex("a?").forced() == []
    assert regex("a|b").forced() == []
    assert regex("").forced() == []


def test_a_token_that_may_reach_past_the_forced_bytes_is_left_to_the_model() -> None:
    matcher = regex("a(b|c)")
    assert matcher.forced() == [], "ab is one token"
    assert regex("q(b|c)").forced() == [ord("q")]
    assert regex("ab(c|d)").forced() == [], "abc is one token"
    assert [VOCABULARY.tokens[t] for t in regex("zab(c|d)").forced()] == [b"z"]


def test_a_forced_text_to_the_end_is_given_whole() -> None:
    matcher = regex("the end")
    for token_id in matcher.forced():
        matcher.advance(token_id)
    assert matcher.finished


def test_every_forced_token_is_the_only_way_or_a_spelling_of_it() -> None:
    rng = random.Random(11)
    values: list[dict[str, object]] = [
        {"type": "object", "properties": {"name": {"enum": ["abc", "abd"]}, "a": {"const": [1, 2]}},
        "required": ["name", "a"]},
        {"type": "array", "prefixItems": [{"const": "x" * 90}, {"type": "null"}], "minItems": 2, "maxItems": 2},
        {"type": "string", "format": "uuid"},
    ]  # fmt: skip
    for value in values:
        matcher = schema(value)
        while not matcher.finished:
            forced = matcher.forced()
            for token_id in forced:
                choice = allowed(matcher)
                assert token_id in choice
                text = VOCABULARY.tokens[token_id] or b""
                for other in choice - {EOS}:
                    spelled = VOCABULARY.tokens[other] or b""
                    assert spelled.startswith(text) or text.startswith(spelled), "one way only"
                matcher.advance(token_id)
            choice = allowed(matcher) - {EOS}
            if not choice:
                break
            matcher.advance(rng.choice(sorted(choice)))


# ---- a whole step


def test_fill_masks_writes_each_row_as_its_matcher_would() -> None:
    matchers = [regex("a+"), None, schema({"type": "boolean"}), regex("(?s).*")]
    rows = np.full((4, VOCABULARY.num_words), 0x77, dtype=np.int32)
    constrained = fill_masks(matchers, rows, [None, None, 5, 3])
    assert constrained == [True, False, True, True]
    for i, matcher in enumerate(matchers):
        if matcher is None:
            assert (rows[i] == -1).all()
            continue
        alone = np.zeros(VOCABULARY.num_words, dtype=np.int32)
        matcher.fill_mask(alone, [None, None, 5, 3][i])
        assert (rows[i] == alone).all()


def test_fill_masks_writes_rows_in_which_everything_is_allowed() -> None:
    from forktree.grammar import Vocabulary

    vocabulary = Vocabulary([b"a", b"b", b""], [2])
    matcher = Compiler(vocabulary).compile(Constraint.regex("[ab]*")).matcher()
    rows = np.zeros((1, 1), dtype=np.int32)
    assert fill_masks([matcher], rows, None) == [False]
    assert rows[0, 0] == 0b111
