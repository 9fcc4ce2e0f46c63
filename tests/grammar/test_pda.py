"""The pushdown automaton does what the nodes of its rules mean, whatever they are: held against plain sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar.errors import GrammarError
from forktree.grammar.expressions import Expressions, byte_set
from forktree.grammar.limits import Budget
from forktree.grammar.pda.automaton import Pushdown
from forktree.grammar.rules import NEVER, Rules
from forktree.grammar.token_budget import TokenBudget
from forktree.grammar.token_mask import TokenMasks
from forktree.grammar.vocabulary import Vocabulary
from tests.grammar.rules_reference import Reference

ALPHABET = b"ab[],"
TOKENS = [bytes((b,)) for b in ALPHABET] + [
    b"ab",
    b"ba",
    b"a,",
    b"],",
    b"[a",
    b"a]",
    b"]]",
    b"a,b",
    b",a,",
    b"[[",
    b"aaa",
]
VOCABULARY = Vocabulary([*TOKENS, None], [len(TOKENS)])

Tree = Any
LEAVES = st.sampled_from([("literal", b"a"), ("literal", b"b"), ("literal", b"ab"), ("terminal", 0), ("terminal", 3)])


def _longer(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    return st.one_of(
        st.tuples(st.just("sequence"), st.lists(children, min_size=2, max_size=3)),
        st.tuples(st.just("choice"), st.lists(children, min_size=2, max_size=3)),
        st.tuples(st.just("repeat"), children, st.sampled_from([(0, 2), (1, 3), (0, None), (2, 2)])),
        st.tuples(st.just("list"), children),
        st.tuples(st.just("distinct list"), children),
    )


TREES = st.recursive(LEAVES, _longer, max_leaves=8)


def node_of(tree: Tree, rules: Rules, path: tuple[int, ...] = ()) -> int:
    e, kind = rules.expressions, tree[0]
    if kind == "literal":
        return rules.literal(tree[1])
    if kind == "terminal":  # "a" tree[1] times or more, and b in between
        return rules.terminal(e.repeat(e.bytes_in(byte_set((97, 98))), max(1, tree[1])))
    if kind in ("sequence", "choice"):
        nodes = [node_of(child, rules, (*path, i)) for i, child in enumerate(tree[1])]
        return rules.sequence(*nodes) if kind == "sequence" else rules.choice(nodes)
    child = node_of(tree[1], rules, (*path, 0))
    if kind == "repeat":
        least, most = tree[2]
        return rules.repeat(child, least, 1 << 60 if most is None else most)
    inner = child

    def body() -> int:  # a list of the child, or of such lists
        item = rules.choice((inner, rule))
        item = rules.distinct(item) if kind == "distinct list" else item
        more = rules.repeat(rules.sequence(rules.literal(b",", silent=True), item), 0)
        inside = rules.sequence(item, more)
        return rules.sequence(
            rules.literal(b"["), rules.scope(inside) if kind == "distinct list" else inside, rules.literal(b"]")
        )

    rule = rules.rule((kind, path), body, 2 + rules.shortest[inner])
    return rule


def built(tree: Tree) -> tuple[Rules, int]:
    rules = Rules(Expressions(Budget()))
    return rules, node_of(tree, rules)


@settings(deadline=None)  # the first call compiles
@given(TREES, st.lists(st.sampled_from(TOKENS), max_size=6))
def test_texts_lead_where_the_rules_say(tree: Tree, tokens: list[bytes]) -> None:
    rules, node = built(tree)
    automaton, reference = Pushdown(rules), Reference(rules, node)
    at = automaton.start(node)
    for token in tokens:
        alive = all(reference.step(byte) for byte in token)
        after = automaton.advance(at, token)
        assert (after is not None) == alive
        if after is None:
            return
        at = after
        assert at.accepting == reference.accepts


@settings(deadline=None)  # the first call compiles
@given(TREES, st.lists(st.integers(0, 1000), max_size=5))
def test_a_mask_allows_exactly_what_can_follow(tree: Tree, choices: list[int]) -> None:
    rules, node = built(tree)
    automaton = Pushdown(rules)
    masks = TokenMasks(automaton, VOCABULARY)
    at = automaton.start(node)
    for choice in choices:
        follows = [automaton.advance(at, token) is not None for token in TOKENS]
        if not at.accepting and not any(follows):  # the last distinct text is used up: see Rules.distinct
            with pytest.raises(GrammarError, match="no token of the vocabulary"):
                masks.mask(at)
            return
        row = masks.mask(at)
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")
        assert bits[: len(TOKENS)].tolist() == follows
        assert bits[len(TOKENS)] == at.accepting
        allowed = [token for token, yes in zip(TOKENS, follows, strict=True) if yes]
        if not allowed:
            assert at.accepting
            return
        after = automaton.advance(at, allowed[choice % len(allowed)])
        assert after is not None
        at = after


@settings(deadline=None)  # the first call compiles
@given(TREES, st.integers(1, 30), st.integers(0, 2**32))
def test_within_a_number_of_tokens_every_walk_is_completed(tree: Tree, tokens_left: int, seed: int) -> None:
    rules, node = built(tree)
    automaton = Pushdown(rules)
    masks = TokenBudget(TokenMasks(automaton, VOCABULARY))
    at = automaton.start(node)
    if masks.tokens_needed(at, tokens_left) > tokens_left:
        return
    random = np.random.default_rng(seed)
    while tokens_left and at.items.size:
        try:
            row = masks.mask_within(at, tokens_left)
        except GrammarError:
            assert "distinct list" in str(tree)
            return  # finitely many texts, all of them taken: `Rules.distinct` does not look ahead
        bits = np.unpackbits(row.view(np.uint8), bitorder="little")
        token = random.choice(np.flatnonzero(bits))
        if token == len(TOKENS):
            break
        after = automaton.advance(at, TOKENS[token])
        assert after is not None
        at, tokens_left = after, tokens_left - 1
    assert at.accepting


@settings(deadline=None)  # the first call compiles
@given(TREES, st.integers(0, 5))
def test_forced_bytes_are_those_without_a_choice(tree: Tree, seed: int) -> None:
    rules, node = built(tree)
    automaton = Pushdown(rules)
    at = automaton.start(node)
    text, after = automaton.forced(at, 100)
    for byte in text:
        assert not at.accepting
        follows = [other for other in range(256) if automaton.advance(at, bytes((other,))) is not None]
        assert follows == [byte]
        at = automaton.advance(at, bytes((byte,)))  # type: ignore[assignment]
    assert at is after


def test_memory_grows_as_outputs_do() -> None:
    rules = Rules(Expressions(Budget()))

    def value() -> int:
        return rules.choice((rules.literal(b"a"), rules.sequence(rules.literal(b"["), nested, rules.literal(b"]"))))

    nested = rules.rule("value", value, 1)
    automaton = Pushdown(rules)
    at = automaton.advance(automaton.start(nested), b"[" * 20_000)
    assert at is not None
    assert at.cost == 20_001
    done = automaton.advance(at, b"a" + b"]" * 20_000)
    assert done is not None
    assert done.accepting


def test_a_rule_without_a_text_is_never() -> None:
    rules = Rules(Expressions(Budget()))
    assert rules.rule("endless", lambda: NEVER, 1 << 60) == NEVER
    assert rules.sequence(rules.literal(b"a"), NEVER) == NEVER
    assert rules.choice((NEVER, rules.literal(b"a"))) == rules.literal(b"a")


@pytest.mark.parametrize("text", [b"[a,b]", b"[a,ab,b]", b"[[a],[b]]"])
def test_distinct_texts_may_stand_side_by_side(text: bytes) -> None:
    rules, node = built(("distinct list", ("terminal", 0)))
    automaton = Pushdown(rules)
    after = automaton.advance(automaton.start(node), text)
    assert after is not None
    assert after.accepting
    assert automaton.advance(automaton.start(node), text.replace(b"b", b"a")) is None


def test_a_store_of_many_nodes_can_be_entered_at_the_last() -> None:
    rules = Rules(Expressions(Budget()))
    nodes = [rules.literal(b"%d" % i) for i in range(5_000)]
    automaton = Pushdown(rules)
    after = automaton.advance(automaton.start(nodes[-1]), b"4999")
    assert after is not None
    assert after.accepting
