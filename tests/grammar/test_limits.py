"""What runs out ends soon with an error, touches nobody else, leaves nothing behind; what nobody wants is given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from forktree.grammar import (
    CompilationCancelled,
    Compiler,
    Constraint,
    Grammar,
    GrammarTooComplex,
    compiler,
    token_mask,
)
from forktree.grammar.interface import AnyGrammar, AnyMatcher
from forktree.grammar.limits import TICKS, Budget
from forktree.grammar.pda import automaton
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()
EXPLODING = """root ::= s
s ::= "a" s t | "a" t s | "a"
t ::= "a" t s t | "a" s | "a"
"""
SECONDS = 1.0  # of the processor


def feed(matcher: AnyMatcher, text: bytes) -> None:
    for byte in text:
        matcher.mask()
        matcher.advance(byte)


@pytest.mark.slow
@pytest.mark.parametrize(
    "grammar",
    [
        EXPLODING,
        'root ::= (a b)*\na ::= (b a | "a" | "aa")*\nb ::= (a | "y" b "z" | "a" b)* "q"?',
    ],
    ids=["two rules", "nested stars"],
)
def test_an_ambiguous_grammar_that_explodes_ends_soon_and_alone(grammar: str) -> None:
    shared = Compiler(VOCABULARY)
    other = shared.compile(Constraint.json_schema({"type": "integer"})).matcher()
    exploding = shared.compile(Constraint.gbnf(grammar)).matcher()
    took = [0.0]

    def explode() -> None:
        for i in range(100):
            begin = time.thread_time()
            try:
                exploding.mask() if i % 2 else exploding.advance(ord("a"))
            finally:
                took.append(time.thread_time() - begin)

    with pytest.raises(GrammarTooComplex) as caught:
        explode()
    assert max(took) < SECONDS
    assert caught.value.place
    feed(other, b"-12")
    assert set(b"0123456789") | {VOCABULARY.eos} <= allowed(other)  # type: ignore[arg-type]
    feed(shared.compile(Constraint.gbnf(grammar)).matcher(), b"aa")


def test_what_ran_out_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Grammar(Constraint.gbnf(EXPLODING), VOCABULARY)
    matcher = grammar.matcher()
    feed(matcher, b"aaaa")
    before = grammar.report().frames
    monkeypatch.setattr(token_mask, "CALL_FUEL", 50)
    with pytest.raises(GrammarTooComplex, match="steps"):
        matcher.mask()
    assert grammar.report().frames == before
    monkeypatch.undo()
    expected = Grammar(Constraint.gbnf(EXPLODING), VOCABULARY).matcher()
    feed(expected, b"aaaa")
    assert allowed(matcher) == allowed(expected)


def test_memory_is_bounded_before_it_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Grammar(Constraint.gbnf(EXPLODING), VOCABULARY)
    limit = sum(array.nbytes for array in grammar._automaton.memory) + 2**19
    monkeypatch.setattr(automaton, "MAX_BYTES", limit)
    with pytest.raises(GrammarTooComplex, match="MB"):
        feed(grammar.matcher(), b"a" * 100)
    assert sum(array.nbytes for array in grammar._automaton.memory) <= limit
    feed(grammar.matcher(), b"aa")


def test_configurations_are_forgotten_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "MAX_CONFIGURATIONS", 20)
    schema = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 30}, "b": {}}}
    grammar = Grammar(Constraint.json_schema(schema), VOCABULARY)
    first, second = grammar.matcher(), grammar.matcher()
    for byte in b'{"a": "abcdefghijklmnopq", "b": [1, {"x": null}]}':
        feed(first, bytes((byte,)))
        feed(second, bytes((byte,)))
        assert grammar.report().configurations <= 21
        assert allowed(first) == allowed(second)
    assert first.finished


def test_masks_make_room_for_others_and_are_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    grammar = Grammar(Constraint.regex("[a-z]{3}[0-9]{3}-(x|y)"), VOCABULARY)
    at_first = allowed(grammar.matcher())
    monkeypatch.setattr(grammar._masks, "max_kept", 2)
    feed(grammar.matcher(), b"abc123-")
    assert grammar.report().masks == 2
    assert allowed(grammar.matcher()) == at_first


def test_the_cache_is_bounded_by_what_grammars_hold() -> None:
    cache = Compiler(VOCABULARY)
    a, b = cache.compile(Constraint.regex("a")), cache.compile(Constraint.regex("b"))
    assert cache.num_bytes == a.num_bytes + b.num_bytes
    small = Compiler(VOCABULARY, max_bytes=a.num_bytes + b.num_bytes + 1000)
    a, b = small.compile(Constraint.regex("a")), small.compile(Constraint.regex("b"))
    assert small.compile(Constraint.regex("a")) is a
    small.compile(Constraint.regex("c"))
    assert small.compile(Constraint.regex("a")) is a
    assert small.compile(Constraint.regex("b")) is not b
    tiny = Compiler(VOCABULARY, max_bytes=1)
    assert tiny.compile(Constraint.regex("a")) is tiny.compile(Constraint.regex("a")), "the last one is kept"


# ---- budgets and cancelling


def test_seconds_are_those_of_the_processor() -> None:
    budget = Budget(seconds=0.05)
    time.sleep(0.1)
    for _ in range(3 * TICKS):
        budget.tick()


def test_work_is_cancelled_when_the_clock_is_looked_at() -> None:
    answers = [False]
    budget = Budget(cancelled=lambda: answers[-1])

    def work() -> None:
        for _ in range(2 * TICKS):
            budget.tick()

    work()
    answers.append(True)
    with pytest.raises(CompilationCancelled):
        work()


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_compilation_ends_when_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(self: Compiler, constraint: Constraint, cancelled: Callable[[], bool]) -> AnyGrammar:
        budget = Budget(steps=10**9, seconds=10, cancelled=cancelled)
        while True:
            budget.tick()

    monkeypatch.setattr(Compiler, "_made", made)
    cache, constraint = Compiler(VOCABULARY), Constraint.regex("a")
    gone, ended = [threading.Event(), threading.Event()], []

    def work(i: int) -> None:
        with pytest.raises(CompilationCancelled):
            cache.compile(constraint, gone[i].is_set)
        ended.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for i, thread in enumerate(threads):
        thread.start()
        until(lambda i=i: constraint in cache._running and len(cache._running[constraint].waiting) > i)
    gone[0].set()
    time.sleep(0.05)
    assert constraint in cache._running, "another waits for it still"
    gone[1].set()
    for thread in threads:
        thread.join(10)
    assert sorted(ended) == [0, 1]
    assert not cache._cached


def test_who_waits_for_the_compilation_of_another_can_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go = threading.Event()
    original = Compiler._made

    def made(self: Compiler, constraint: Constraint, cancelled: Callable[[], bool]) -> AnyGrammar:
        assert may_go.wait(10)
        return original(self, constraint, cancelled)

    monkeypatch.setattr(Compiler, "_made", made)
    cache, constraint = Compiler(VOCABULARY), Constraint.regex("a")
    found: list[AnyGrammar] = []
    stays = threading.Thread(target=lambda: found.append(cache.compile(constraint)))
    stays.start()
    until(lambda: constraint in cache._running)
    with pytest.raises(CompilationCancelled):
        cache.compile(constraint, lambda: True)
    may_go.set()
    stays.join(10)
    assert found == [cache.compile(constraint)]


def test_who_comes_when_others_have_just_given_up_gets_a_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = Compiler._made, []

    def made(self: Compiler, constraint: Constraint, cancelled: Callable[[], bool]) -> AnyGrammar:
        calls.append(1)
        if len(calls) == 1:
            until(lambda: len(self._running[constraint].waiting) == 2)
            raise CompilationCancelled
        return original(self, constraint, cancelled)

    monkeypatch.setattr(Compiler, "_made", made)
    cache, constraint = Compiler(VOCABULARY), Constraint.regex("a")

    def leave() -> None:
        with pytest.raises(CompilationCancelled):
            cache.compile(constraint, lambda: True)

    leaves = threading.Thread(target=leave)
    leaves.start()
    until(lambda: constraint in cache._running)
    assert isinstance(cache.compile(constraint), Grammar)
    leaves.join(10)
