"""Compiler: the cache, threads, budgets; Vocabulary; what importing costs."""

from __future__ import annotations

import contextlib
import copy
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from forktree.grammar import (
    Compiler,
    Constraint,
    Grammar,
    GrammarError,
    GrammarTooComplex,
    Matcher,
    RegexError,
    SchemaError,
    Vocabulary,
    check,
    compiler,
)
from forktree.grammar.limits import Budget
from forktree.grammar.pda import automaton
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()


def test_a_grammar_is_compiled_once_for_equal_content() -> None:
    cache = Compiler(VOCABULARY)
    first = cache.compile(Constraint.json_schema({"type": "null"}))
    assert cache.compile(Constraint.json_schema('{"type": "null"}')) is first
    assert cache.compile(Constraint.regex("null")) is not first


def test_the_least_recently_used_grammar_goes_first() -> None:
    cache = Compiler(VOCABULARY, max_cached=2)
    a, b = cache.compile(Constraint.regex("a")), cache.compile(Constraint.regex("b"))
    assert cache.compile(Constraint.regex("a")) is a
    cache.compile(Constraint.regex("c"))
    assert cache.compile(Constraint.regex("a")) is a
    assert cache.compile(Constraint.regex("b")) is not b
    with pytest.raises(ValueError, match="max_cached"):
        Compiler(VOCABULARY, max_cached=0)


def test_threads_that_ask_for_one_constraint_get_one_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = Grammar.__init__

    def counting(self: Grammar, constraint: Constraint, *args: Any) -> None:
        built.append(constraint)
        original(self, constraint, *args)

    cache = Compiler(VOCABULARY)
    cache.prepare()
    monkeypatch.setattr(compiler.Grammar, "__init__", counting)
    barrier = threading.Barrier(8)

    def work(_: int) -> Grammar:
        barrier.wait()
        return cache.compile(Constraint.regex("(abc|abd){1,50}"))

    with ThreadPoolExecutor(8) as pool:
        grammars = list(pool.map(work, range(8)))
    assert len(set(map(id, grammars))) == 1
    assert built.count(Constraint.regex("(abc|abd){1,50}")) == 1


def test_threads_that_compile_at_once_prepare_the_vocabulary_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = Grammar.__init__

    def counting(self: Grammar, constraint: Constraint, *args: Any) -> None:
        built.append(constraint)
        original(self, constraint, *args)

    monkeypatch.setattr(compiler.Grammar, "__init__", counting)
    cache = Compiler(VOCABULARY)
    patterns = [Constraint.regex(f"a{{{n}}}") for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(cache.compile, patterns))
    assert len(built) == len(patterns) + 1, "one each, and one that all begin with"


def test_an_error_reaches_every_thread_that_waits_and_is_not_cached() -> None:
    cache = Compiler(VOCABULARY)

    def work(_: int) -> type[BaseException]:
        with pytest.raises(RegexError) as caught:
            cache.compile(Constraint.regex("(a"))
        return caught.type

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(work, range(12))) == {RegexError}


def test_threads_may_use_matchers_of_one_grammar_at_once() -> None:
    grammar = Compiler(VOCABULARY).compile(
        Constraint.json_schema({"type": "object", "properties": {"a": {"type": "string", "maxLength": 30}, "b": {}}})
    )
    text = b'{"a": "the \\n\xc3\xa9 abc", "b": [1, {"x": null}]}'
    expected = []
    matcher = grammar.matcher()
    for byte in text:
        expected.append(frozenset(allowed(matcher)))
        matcher.advance(byte)
    fresh = Compiler(VOCABULARY).compile(grammar.constraint)

    def work(_: int) -> bool:
        mine, found = fresh.matcher(), []
        for byte in text:
            found.append(frozenset(allowed(mine)))
            mine.advance(byte)
        return found == expected and mine.finished

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))


def test_check_raises_what_compile_raises() -> None:
    check(Constraint.regex("a+"))
    check(Constraint.json_schema({"type": "integer"}))
    for constraint, error in (
        (Constraint.regex("(a"), RegexError),
        (Constraint.json_schema({"not": {}}), SchemaError),
    ):
        with pytest.raises(error) as checked:
            check(constraint)
        with pytest.raises(error) as compiled:
            Compiler(VOCABULARY).compile(constraint)
        assert str(checked.value) == str(compiled.value)


@pytest.mark.parametrize(
    "error",
    [
        RegexError("m", pattern="p(", offset=1, hint="h"),
        SchemaError("m", pointer="#/a", keyword="k", value=[1], hint="h"),
        GrammarTooComplex("m", place="#/x"),
    ],
)
def test_errors_can_be_copied_with_all_that_they_say(error: GrammarError) -> None:
    again = copy.copy(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


# ---- budgets


def test_a_budget_of_steps_ends_with_the_place() -> None:
    budget = Budget(steps=10, seconds=100)
    budget.place = "#/properties/a"
    for _ in range(10):
        budget.tick()
    with pytest.raises(GrammarTooComplex, match="more than 10 states") as caught:
        budget.tick()
    assert caught.value.place == "#/properties/a"


def spend(budget: Budget, steps: int) -> None:
    for _ in range(steps):
        budget.tick()


def test_a_budget_of_seconds_ends_by_the_clock() -> None:
    now = [0.0]
    budget = Budget(steps=10**6, seconds=2, clock=lambda: now[0])
    spend(budget, 1000)
    now[0] = 2.5
    with pytest.raises(GrammarTooComplex, match="more than 2 s"):
        spend(budget, 1000)


def wander(matcher: Matcher, steps: int) -> None:
    for i in range(steps):
        rest = sorted(allowed(matcher) - {VOCABULARY.eos})
        if not rest:
            break
        matcher.advance(rest[i * i % 7 % len(rest)])


def test_a_grammar_that_has_long_been_idle_is_as_good_as_new(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Compiler(VOCABULARY).compile(Constraint.regex("(abcde{1,300}){9}"))
    assert isinstance(grammar, Grammar)
    later = time.monotonic() + 10**6
    monkeypatch.setattr(grammar._budget, "_clock", lambda: later)
    matcher = grammar.matcher()
    for _ in range(2):
        for byte in b"abcd" + b"e" * 300:
            matcher.advance(byte)
    allowed(matcher)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a{1,1000}){1,1000}", "((a{1,1000}){1,1000}b){1,1000}", "(a?){1000}a{1000}", "(.*){100}x",
        "([01]*1[01]{500})", "(a|aa)+b", "(a*)*b",
        "(?s).{100000}", "((((((((((a{0,9}){0,9}b){0,9}){0,9}c){0,9}){0,9}){0,9}d){0,9}){0,9}){0,9})",
        "|".join(f"word{i}" for i in range(3000)),
        "(x+x+)+y", "([a-z]+ ?){1,1000}", "(?:(?:a|b|ab|ba){1,300}c?){1,300}",
        "[\\w\\s]{1,5000}\\d{1,3000}[a-z]{3,4000}",
    ],
    ids=lambda p: p[:30],
)  # fmt: skip
def test_hostile_patterns_compile_and_give_masks_within_their_budget(pattern: str) -> None:
    matcher = Compiler(VOCABULARY).compile(Constraint.regex(pattern)).matcher()
    with contextlib.suppress(GrammarTooComplex):  # a clear end is as good as a mask
        wander(matcher, 25)


def test_groups_nested_without_measure_are_refused_with_their_offset() -> None:
    with pytest.raises(RegexError) as caught:
        check(Constraint.regex("(" * 5000 + "a" + ")" * 5000))
    assert caught.value.offset == 100


def take(matcher: Matcher, token_ids: list[int]) -> None:
    for token_id in token_ids:
        matcher.advance(token_id)


def test_a_grammar_that_needs_too_much_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Compiler(VOCABULARY).compile(Constraint.regex("[ab]*a[ab]{12}"))
    monkeypatch.setattr(automaton, "MAX_BYTES", grammar.num_bytes)
    matcher = grammar.matcher()
    with pytest.raises(GrammarTooComplex, match=r"more than \d+ MB") as caught:
        take(matcher, random.Random(1).choices(b"ab", k=5000))
    assert caught.value.place == "the generated text"
    matcher.rollback(matcher.num_tokens)
    matcher.advance(ord("a"))


# ---- vocabulary and imports


def test_a_vocabulary_refuses_what_is_none() -> None:
    with pytest.raises(ValueError, match="eos_token_ids: 3"):
        Vocabulary([b"a"], [3])
    with pytest.raises(ValueError, match=r"tokens\[1\] must be bytes"):
        Vocabulary([b"a", "b"], [0])  # type: ignore[list-item]


def test_the_trie_holds_every_token_once_in_order() -> None:
    trie = VOCABULARY.trie.full
    path = bytearray(VOCABULARY.longest)
    found = {}
    for node in range(len(trie.node_byte)):
        depth = int(trie.node_depth[node])
        path[depth - 1] = trie.node_byte[node]
        for k in range(int(trie.first_token[node]), int(trie.first_token[node + 1])):
            found[int(trie.token_ids[k])] = bytes(path[:depth])
        end = int(trie.ends[node])
        assert end == len(trie.node_byte) or trie.node_depth[end] <= depth
        assert all(trie.node_depth[i] > depth for i in range(node + 1, end))
    assert found == {i: t for i, t in enumerate(VOCABULARY.tokens) if t}


def test_an_empty_vocabulary_is_no_accident() -> None:
    vocabulary = Vocabulary([None, b""], [1])
    matcher = Compiler(vocabulary).compile(Constraint.regex("a?")).matcher()
    row = np.zeros(1, dtype=np.int32)
    assert matcher.fill_mask(row)
    assert row[0] == 2


def test_importing_the_package_and_checking_a_constraint_loads_neither_numba_nor_torch() -> None:
    code = (
        "import sys, forktree.grammar as g; g.Constraint.regex('a'); assert 'numpy' not in sys.modules;"
        "g.check(g.Constraint.json_schema({'type': 'integer'}));"
        "bad = {'numba', 'torch', 'transformers', 'pydantic'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
