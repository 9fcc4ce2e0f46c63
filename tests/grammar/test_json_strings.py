"""JSON strings: what lengths, patterns, formats and exclusions admit, in which spelling, and how fast."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar.errors import SchemaError
from forktree.grammar.expressions import INFINITE, NOTHING, Expressions
from forktree.grammar.json_strings import StringWriter
from forktree.grammar.limits import Budget
from forktree.grammar.schema_shapes import StringLimits


def limits_of(*patterns: str, without: tuple[str, ...] = (), **others: object) -> StringLimits:
    return StringLimits(
        patterns=tuple((p, "#") for p in patterns),
        not_patterns=tuple((p, "#") for p in without),
        **others,  # type: ignore[arg-type]
    )


def writer() -> StringWriter:
    return StringWriter(Expressions(Budget()))


def accepts(strings: StringWriter, e: int, text: str) -> bool:
    for byte in text.encode():
        e = next((left for members, left in strings._e.derivatives(e) if members >> byte & 1), NOTHING)
    return strings._e.nullable[e]


PATTERNS = st.sampled_from([
    "a", "^a", "b$", "^[ab]*$", "^(ab|c)+$", "^(?!a)", "^(?=.*b).{2,}$", "\\bab\\b", "^.{0,3}$", "[^a]", "é|c", '"',
    "^a(?!b)",
])  # fmt: skip
TEXTS = st.text('abcé"\\\n ', max_size=5)


@given(
    st.lists(PATTERNS, max_size=2),
    st.lists(PATTERNS, max_size=2),
    st.integers(0, 3),
    st.sampled_from([2, 4, INFINITE]),
    st.frozensets(TEXTS, max_size=4),
    st.lists(TEXTS, min_size=5, max_size=15),
)
@settings(max_examples=200, deadline=None)
def test_a_text_is_admitted_if_all_that_is_asked_holds(
    patterns: list[str], without: list[str], least: int, most: int, excluded: frozenset[str], texts: list[str]
) -> None:
    limits = limits_of(*patterns, without=tuple(without), least=least, most=most, excluded=excluded)
    strings = writer()
    e = strings.literal_text(limits)
    found = False
    for text in [*texts, *excluded]:
        fits = least <= len(text) <= most and text not in excluded
        found_by = {p: re.search(p.replace("$", "\\Z"), text) is not None for p in (*patterns, *without)}
        fits = fits and all(found_by[p] for p in patterns) and not any(found_by[p] for p in without)
        found = found or fits
        assert accepts(strings, e, json.dumps(text, ensure_ascii=False)) == fits, (limits, text)
        assert strings.matches(limits, text) == fits
    assert not (found and strings.is_empty(limits))


@pytest.mark.parametrize(
    ("spelling", "free", "canonical"),
    [
        ('"aé/"', True, True), ('"\\u0061"', True, False), ('"\\/"', True, False), ('"\\n"', True, True),
        ('"\\u000a"', True, False), ('"\\u001f"', True, True), ('"\\u001F"', True, False), ('"\x7f"', True, True),
        ('"😀"', True, True), ('"\\ud83d\\ude00"', True, False), ('"\\ud83d"', False, False), ('"\n"', False, False),
        ('"a', False, False), ('"\\x"', False, False), ('a"', False, False),
    ],
)  # fmt: skip
def test_spellings(spelling: str, free: bool, canonical: bool) -> None:
    strings = writer()
    assert accepts(strings, strings.literal_text(StringLimits()), spelling) == free
    assert accepts(strings, strings.key(StringLimits()), spelling) == canonical
    assert accepts(strings, strings.literal_text(limits_of("")), spelling) == canonical
    assert accepts(strings, strings.literal_text(StringLimits(least=1)), spelling) == free


def test_members_are_counted_up_to_a_cap() -> None:
    strings = writer()
    assert strings.count(limits_of("^[ab]{1,3}$"), 100) == 14
    assert strings.count(limits_of("^[ab]{1,3}$"), 14) == 14
    assert strings.count(limits_of("^[ab]{1,3}$", excluded=frozenset(("a", "bb", "c"))), 100) == 12
    assert strings.count(StringLimits(most=1), 10**7) == 0x110000 - 0x800 + 1
    assert strings.count(StringLimits(), 10) == 10
    assert strings.count(limits_of("^a$", "^b$"), 10) == 0


def test_impossible_limits_are_empty() -> None:
    strings = writer()
    for limits in (
        StringLimits(least=3, most=2),
        limits_of("^a$", without=("a",)),
        limits_of("^aaaa$", most=3),
        limits_of("^a?$", excluded=frozenset(("", "a"))),
        limits_of(without=("^[^]*$",)),
        StringLimits(not_formats=(("color", "#"),)),
        limits_of("^\\d{4}$", formats=(("date", "#"),)),
    ):
        assert strings.is_empty(limits), limits
    assert not strings.is_empty(limits_of("a", without=("b",), least=5, most=5))


def test_the_opposite_of_a_format_is_enforced_where_the_format_is_exact() -> None:
    strings = writer()
    no_uuid = StringLimits(not_formats=(("uuid", "#"),))
    assert strings.matches(no_uuid, "x")
    assert not strings.matches(no_uuid, "123e4567-e89b-12d3-a456-426614174000")
    with pytest.raises(SchemaError) as caught:
        strings.literal_text(StringLimits(not_formats=(("email", "#/not"),)))
    assert (caught.value.pointer, caught.value.keyword) == ("#/not", "format")


def test_a_format_that_nobody_knows_says_nothing() -> None:
    assert writer().matches(StringLimits(formats=(("iban", "#"),)), "anything")


def test_hundreds_of_taken_names_and_a_megabyte_of_constants_are_cheap() -> None:
    names = frozenset(f"property_{i:x}_{j}" for i in range(30) for j in range(20))
    strings = writer()
    started = time.perf_counter()
    key = strings.key(StringLimits(excluded=names))
    for name, free in (("property_3_4", False), ("property_3_", True), ("property_3_44", True), ("é", True)):
        assert accepts(strings, key, json.dumps(name, ensure_ascii=False)) == free, name
    texts = [f"value number {i} of many, with some text behind it" for i in range(20_000)]
    constants = strings.constants(texts)
    assert accepts(strings, constants, f'"{texts[777]}"')
    assert not accepts(strings, constants, f'"{texts[777][:-1]}"')
    assert len(strings._e) < 2_000
    assert time.perf_counter() - started < 2.0


def test_plain_text_can_be_skipped_as_far_as_its_length_goes() -> None:
    strings = writer()
    e = strings._e

    def inside(limits: StringLimits, canonical: bool = False) -> int:
        (row,) = e.derivatives(strings.literal_text(limits, canonical))
        return row[1]

    assert e.plain_level(inside(StringLimits())) == INFINITE
    assert e.plain_level(inside(StringLimits(), True)) == INFINITE
    assert e.plain_level(inside(StringLimits(3, 20))) == 20
    assert e.plain_level(inside(limits_of("x"))) == INFINITE
    assert e.plain_level(inside(limits_of("^[^/]+$"))) == 0
    taken = inside(StringLimits(excluded=frozenset(("ab", "b"))))
    assert e.plain_level(taken) == 0
    outside = next(left for members, left in e.derivatives(taken) if members >> ord("x") & 1)
    assert e.plain_level(outside) == INFINITE
