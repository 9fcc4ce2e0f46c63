"""Number limits against exact arithmetic, and their spellings against the values that JSON readers make of them."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar.expressions import NOTHING, Expressions
from forktree.grammar.json_numbers import NumberLimits, NumberWriter, exact
from forktree.grammar.limits import Budget


def accepts(expressions: Expressions, e: int, text: str) -> bool:
    for byte in text.encode():
        e = next((left for members, left in expressions.derivatives(e) if members >> byte & 1), NOTHING)
    return expressions.nullable[e]


def spelled(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):f}"


VALUES = st.one_of(
    st.integers(-30, 30).map(Fraction),
    st.builds(lambda n, scale: Fraction(n, scale), st.integers(-3000, 3000), st.sampled_from([2, 10, 100])),
)
STEPS = st.sampled_from(
    [Fraction(n, d) for n, d in ((1, 1), (2, 1), (3, 1), (5, 1), (3, 2), (1, 4), (7, 10), (104, 1))]
)
LIMITS = st.builds(
    NumberLimits,
    low=st.none() | VALUES,
    low_open=st.booleans(),
    high=st.none() | VALUES,
    high_open=st.booleans(),
    multiples=st.lists(STEPS, max_size=2).map(tuple),
    whole=st.sampled_from([None, None, True, False]),
    not_multiples=st.lists(STEPS, max_size=2).map(tuple),
    excluded=st.frozensets(VALUES, max_size=3),
)


@given(LIMITS, st.lists(VALUES, min_size=10, max_size=30), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_number_is_written_exactly_if_it_is_within_the_limits(
    limits: NumberLimits, values: list[Fraction], canonical: bool
) -> None:
    expressions = Expressions(Budget())
    e = NumberWriter(expressions).literal_text(limits, canonical)
    assert (e == NOTHING) == limits.is_empty()
    for value in [*values, *limits.excluded, *(b for b in (limits.low, limits.high) if b is not None)]:
        fits = limits.admit(value)
        assert accepts(expressions, e, spelled(value)) == fits, (limits, value)
        assert not (fits and limits.is_empty()), (limits, value)
        longer = spelled(value) + ("00" if "." in spelled(value) else ".0")
        assert accepts(expressions, e, longer) == (fits and not canonical), (limits, longer)


@given(LIMITS, LIMITS, st.lists(VALUES, min_size=10, max_size=30))
@settings(max_examples=200, deadline=None)
def test_intersections_and_complements_admit_what_they_say(
    a: NumberLimits, b: NumberLimits, values: list[Fraction]
) -> None:
    both, outside = a.within(b), a.outside()
    for value in values:
        assert both.admit(value) == (a.admit(value) and b.admit(value)), (a, b, value)
        assert any(piece.admit(value) for piece in outside) == (not a.admit(value)), (a, value)


@given(LIMITS)
@settings(max_examples=200, deadline=None)
def test_limits_that_are_not_empty_have_a_number(limits: NumberLimits) -> None:
    expressions = Expressions(Budget())
    e = NumberWriter(expressions).literal_text(limits)
    text = ""
    while e != NOTHING and not expressions.nullable[e]:
        members, e = min(expressions.derivatives(e), key=lambda pair: expressions.shortest[pair[1]])
        text += chr((members & -members).bit_length() - 1)
    assert limits.is_empty() or limits.admit(Fraction(text)), (limits, text)


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        (NumberLimits(), "0 -0 1 -1.50 1e5 1E+5 1e-7 1e999 0.0", "01 +1 .5 1. 1e - 1.e5 NaN"),
        (NumberLimits(whole=True), "0 -0 12 1.0 -3.00", "1.5 1e2 1. 01"),
        (NumberLimits(low=Fraction(0)), "0 -0 -0.0 1e5 2.5E-3 0.0001 -0e3", "-1 -0.1 -1e-5"),
        (NumberLimits(low=Fraction(0), low_open=True), "1e-5 0.001 3", "0 -0 0.00 0e5 -1 1e-999"),
        (NumberLimits(high=Fraction(0), high_open=True, whole=True), "-1 -1.0", "0 -0 1 -0.0"),
        (NumberLimits(low=Fraction(-2), high=Fraction(2)), "-2 2 -2.0 0 -0 1.999", "-2.01 2.1 1e0"),
        (NumberLimits(multiples=(exact(0.01),)), "4.35 0 -4.35 4.350 10", "4.355 0.001 1e2"),
        (NumberLimits(multiples=(exact(1e-8),), whole=True), "12391239123 0 -5 7.0", "0.5"),
        (NumberLimits(multiples=(exact(0.123456789),), whole=True), "123456789 0 -246913578", "1 123456788"),
        (NumberLimits(multiples=(Fraction(12345678910),)), "0 12345678910 24691357820.0", "1 12345678911"),
        (NumberLimits(Fraction(1), high=Fraction(10**12), multiples=(Fraction(12345678910),)), "12345678910", "0 1"),
        (NumberLimits(low=exact(1e308)), "1" + "0" * 308 + " 2" + "0" * 400, "9" * 308),
        (NumberLimits(whole=False), "0.5 -1.25 1.10", "1 1.0 0 -0.0"),
        (NumberLimits(excluded=frozenset({Fraction(0), Fraction(3, 2)})), "1 1.51 -1.5", "0 -0 0.0 1.5 1.50"),
    ],
    ids=str,
)  # fmt: skip
def test_spellings(limits: NumberLimits, good: str, bad: str) -> None:
    expressions = Expressions(Budget())
    e = NumberWriter(expressions).literal_text(limits)
    for text in good.split():
        json.loads(text)
        assert accepts(expressions, e, text), text
    for text in bad.split():
        assert not accepts(expressions, e, text), text


def test_emptiness_sees_through_multiples() -> None:
    assert NumberLimits(multiples=(Fraction(4),), not_multiples=(Fraction(2),)).is_empty()
    assert NumberLimits(whole=True, low=Fraction(1, 3), high=Fraction(2, 3)).is_empty()
    assert NumberLimits(whole=True).within(NumberLimits(whole=False)).is_empty()
    assert not NumberLimits(multiples=(Fraction(4),), not_multiples=(Fraction(8),)).is_empty()
    taken = frozenset(map(Fraction, (1, 2, 3)))
    assert NumberLimits(Fraction(1), high=Fraction(3), whole=True, excluded=taken).is_empty()
