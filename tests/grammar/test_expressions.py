"""The algebra of byte expressions against sets of strings."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar.expressions import EMPTY, INFINITE, NOTHING, Expressions, byte_set
from forktree.grammar.horizon import Horizon
from forktree.grammar.limits import Budget

ALPHABET = b"ab"
WORDS = [bytes(letters) for n in range(7) for letters in product(ALPHABET, repeat=n)]


def members(store: Expressions, e: int) -> set[bytes]:
    found = set()
    for word in WORDS:
        state = e
        for byte in word:
            state = next((left for s, left in store.derivatives(state) if s >> byte & 1), NOTHING)
        if store.nullable[state]:
            found.add(word)
    return found


def concatenated(a: set[bytes], b: set[bytes]) -> set[bytes]:
    return {x + y for x in a for y in b if len(x + y) <= 6}


def build(store: Expressions, tree: Any) -> tuple[int, set[bytes]]:
    """The expression of a tree, and its members of up to 6 bytes by plain set operations."""
    kind, *args = tree
    if kind == "bytes":
        return store.bytes_in(byte_set(*((b, b) for b in args[0]))), {bytes((b,)) for b in args[0]}
    if kind == "literal":
        return store.literal(args[0]), {args[0]}
    parts = [build(store, arg) for arg in args[0]]
    expressions, sets = [e for e, _ in parts], [s for _, s in parts]
    if kind == "alternative":
        return store.alternative(expressions), set().union(*sets)
    if kind == "both":
        return store.both(expressions), set.intersection(*sets)
    if kind == "repeat":
        least, most = args[1]
        result, power = set(), {b""}
        for n in range(8 + least if most >= INFINITE else most + 1):
            if n >= least:
                result |= power
            power = concatenated(power, sets[0])
        return store.repeat(expressions[0], least, most), result
    whole = {b""}
    for s in sets:
        whole = concatenated(whole, s)
    return store.sequence(*expressions), whole


LEAVES = st.one_of(
    st.sampled_from([b"a", b"b", b"ab"]).map(lambda s: ("bytes", s)),
    st.sampled_from([b"", b"a", b"ab", b"ba", b"aab"]).map(lambda s: ("literal", s)),
)
BOUNDS = st.sampled_from([(0, INFINITE), (1, INFINITE), (0, 1), (2, 2), (1, 3), (0, 2), (3, INFINITE), (2, 4)])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["alternative", "sequence", "both"]), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(st.just("repeat"), st.lists(inner, min_size=1, max_size=1), BOUNDS),
    ),
    max_leaves=7,
)


@given(TREES)
@settings(max_examples=300, deadline=None)
def test_an_expression_has_the_members_that_sets_say(tree: Any) -> None:
    store = Expressions(Budget())
    e, expected = build(store, tree)
    assert members(store, e) == {word for word in expected if len(word) <= 6}
    shortest = min(map(len, expected), default=INFINITE)
    if shortest <= 6:
        assert store.shortest[e] == shortest


@given(TREES)
@settings(max_examples=100, deadline=None)
def test_every_state_but_nothing_can_be_completed_in_its_shortest_length(tree: Any) -> None:
    store = Expressions(Budget())
    start, _ = build(store, tree)
    seen, todo = {start}, [start]
    while todo and len(seen) < 200:
        e = todo.pop()
        if e == NOTHING:
            continue
        row = store.derivatives(e)
        if store.nullable[e]:
            assert store.shortest[e] == 0
        else:
            assert store.shortest[e] == 1 + min(store.shortest[left] for _, left in row)
        union = 0
        for s, left in row:
            assert left != NOTHING
            assert not union & s, "sets of a row are disjoint"
            union |= s
            if left not in seen:
                seen.add(left)
                todo.append(left)


COUNTED = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["alternative", "sequence"]), st.lists(inner, min_size=2, max_size=3)),
        st.tuples(
            st.just("repeat"),
            st.lists(inner, min_size=1, max_size=1),
            st.sampled_from([(0, 50), (30, 50), (5, 5), (9, INFINITE), (0, 3), (2, 40)]),
        ),
    ),
    max_leaves=5,
)


def only_build(store: Expressions, tree: Any) -> int:
    kind, *args = tree
    if kind == "bytes":
        return store.bytes_in(byte_set(*((b, b) for b in args[0])))
    if kind == "literal":
        return store.literal(args[0])
    parts = [only_build(store, arg) for arg in args[0]]
    if kind == "repeat":
        return store.repeat(parts[0], *args[1])
    return store.alternative(parts) if kind == "alternative" else store.sequence(*parts)


@given(COUNTED, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_no_string_within_the_horizon_tells_a_clamped_expression_from_its_own(tree: Any, horizon: int) -> None:
    store = Expressions(Budget())
    e = only_build(store, tree)
    seen_from = Horizon(store, horizon)
    small, away = seen_from.clamped(e), seen_from.taken_away(e)
    assert store.nullable[e] == store.nullable[small]
    pairs = {(e, small)}
    for _ in range(horizon):
        following = set()
        for a, b in pairs:
            for byte in ALPHABET:
                left_a = next((left for s, left in store.derivatives(a) if s >> byte & 1), NOTHING)
                left_b = next((left for s, left in store.derivatives(b) if s >> byte & 1), NOTHING)
                assert (left_a == NOTHING) == (left_b == NOTHING)
                if left_a != NOTHING:
                    assert store.shortest[left_a] <= store.shortest[left_b] + away
                    following.add((left_a, left_b))
        pairs = following


def test_equal_expressions_are_one_expression() -> None:
    store = Expressions(Budget())
    a, b, c = (store.literal(x) for x in (b"a", b"b", b"c"))
    assert store.sequence(a, b, c) == store.literal(b"abc")
    assert store.alternative((a, b)) == store.alternative((b, a, b)) == store.bytes_in(byte_set((97, 98)))
    d = store.bytes_in(byte_set((100, 101)))
    assert store.alternative((store.concat(d, b), store.concat(d, c))) == store.concat(d, store.alternative((b, c)))
    assert store.repeat(store.repeat(a, 0), 0) == store.repeat(a, 0)
    assert store.repeat(store.repeat(a, 2, 2), 3, 3) == store.repeat(a, 6, 6)
    assert store.concat(store.repeat(a, 0, 2), store.repeat(a, 1, 3)) == store.repeat(a, 1, 5)
    assert store.alternative((EMPTY, store.repeat(a, 1))) == store.repeat(a, 0)
    assert store.repeat(store.repeat(a, 3, 4), 0, 2) != store.repeat(a, 0, 8), "one or two a cannot be made"


def test_what_cannot_be_is_nothing() -> None:
    store = Expressions(Budget())
    a = store.literal(b"a")
    assert store.concat(a, NOTHING) == NOTHING
    assert store.both((store.repeat(a, 50, 50), store.repeat(a, 60, 60))) == NOTHING
    assert store.both((store.repeat(store.literal(b"ab"), 0), store.repeat(store.any_byte, 3, 3))) == NOTHING
    assert store.both((store.repeat(a, 0), store.repeat(a, 1, 9))) != NOTHING
    assert store.repeat(NOTHING, 1) == NOTHING
    assert store.repeat(NOTHING, 0) == EMPTY


def test_a_difference_leaves_out_exactly_what_is_taken_away() -> None:
    store = Expressions(Budget())
    letters = store.repeat(store.bytes_in(byte_set((97, 98))), 0)
    taken = store.alternative([store.literal(w) for w in (b"a", b"ab", b"bba", b"")])
    assert members(store, store.both((letters,), taken)) == set(WORDS) - {b"a", b"ab", b"bba", b""}


@given(st.sets(st.binary(max_size=5).map(lambda raw: bytes(97 + b % 2 for b in raw)), max_size=12))
@settings(max_examples=100, deadline=None)
def test_a_list_of_words_is_their_alternative_and_can_be_taken_away(words: set[bytes]) -> None:
    store = Expressions(Budget())
    assert members(store, store.words(words)) == words
    letters = store.repeat(store.bytes_in(byte_set((97, 98))), 0, 4)
    short = {word for word in WORDS if len(word) <= 4}
    left = store.both((letters,), store.words(words))
    assert members(store, left) == short - words
    if short - words:
        assert store.shortest[left] == min(map(len, short - words))


def test_words_with_other_bytes_than_the_alphabet_has_are_left_out() -> None:
    store = Expressions(Budget(), byte_set((97, 98)))
    assert members(store, store.words((b"ab", b"ac", b"b"))) == {b"ab", b"b"}


@given(TREES, st.integers(0, 3), st.integers(0, 4))
@settings(max_examples=100, deadline=None)
def test_a_bound_on_characters_is_an_intersection_like_others(tree: Any, least: int, more: int) -> None:
    most = least + more
    store = Expressions(Budget())
    e, expected = build(store, tree)
    letter = store.bytes_in(byte_set((97, 98)))
    bounded = store.both((e, store.characters(letter, least, most)))
    assert members(store, bounded) == {word for word in expected if least <= len(word) <= min(most, 6)}


def test_what_all_texts_hold_adds_nothing() -> None:
    store = Expressions(Budget())
    a = store.literal(b"a")
    whole = store.repeat(store.bytes_in(byte_set((97, 98))), 0)
    store.declare_whole(whole)
    assert store.both((whole, store.repeat(a, 2))) == store.repeat(a, 2)
    assert store.both((a,), whole) == NOTHING
    assert store.alternative((store.sequence(a, whole, a), store.concat(whole, a))) == store.concat(whole, a)
    assert store.concat(store.repeat(a, 2, 5), whole) == store.concat(store.repeat(a, 2, 2), whole)


@pytest.mark.parametrize(("modulus", "places"), [(7, 0), (3, 1), (25, 2), (1, 1)])
def test_a_residue_counts_the_digits_value(modulus: int, places: int) -> None:
    store = Expressions(Budget())
    digit = store.bytes_in(byte_set((48, 57)))
    point = store.optional(store.concat(store.literal(b"."), store.repeat(digit, 1, 3)))
    number = store.both((store.concat(store.repeat(digit, 1, 3), point), store.residue(modulus, places)))
    for whole in range(0, 200, 3):
        for fraction in ("", ".5", ".25", ".20", ".125", ".300", ".0"):
            text = f"{whole}{fraction}"
            state = number
            for byte in text.encode():
                state = next((left for s, left in store.derivatives(state) if s >> byte & 1), NOTHING)
            thousandths = round(float(text) * 1000)
            expected = thousandths * 10**places % (modulus * 1000) == 0
            assert store.nullable[state] == expected, text
