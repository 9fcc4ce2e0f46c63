"""forktree.grammar.regex against Python's re, and its errors."""

from __future__ import annotations

import re
import sys
import warnings

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forktree.grammar import Constraint, GrammarError, RegexError, check
from forktree.grammar.char_classes import python_class
from forktree.grammar.char_writers import Utf8Writer
from forktree.grammar.expressions import NOTHING, Expressions
from forktree.grammar.limits import Budget
from forktree.grammar.regex import compile_regex, matching
from forktree.grammar.regex_syntax import parse


def accepts(expressions: Expressions, start: int, text: bytes) -> bool:
    for byte in text:
        start = next((left for members, left in expressions.derivatives(start) if members >> byte & 1), NOTHING)
    return expressions.nullable[start]


def compiled(pattern: str) -> tuple[Expressions, int]:
    expressions = Expressions(Budget())
    return expressions, compile_regex(pattern, expressions)


PATTERNS = [
    "", "a", "abc", "a|b|", "(a|ab)(c|bcd)", "a*", "a+b?", "(ab)*", "(a*)*", "(a|b)*abb", "a{2}", "a{2,}", "a{2,4}",
    "a{,3}", "a{0}", "a{,}",
    "(a{2,3}){2}", "(a{2}){1,3}", "((a?)b?){3}", "(ab?){2,4}c", "[abc]", "[^abc]", "[a-c1-3]+", "[]a]", "[^]a]",
    "[a\\]b]", "[-a]", "[a-]",
    "\\d+", "\\D", "\\w+", "\\W", "\\s", "\\S+", "[\\d_]+", "[^\\w]", "[\\s\\S]", ".", ".*", "(?s).*", "(?i)ab",
    "(?i)[^a]", "(?i:a)b", "(?i)k",
    "(?i)ſ", "(?i)ß", "(?i)[à-ö]+", "(?i)ǆ", "(?i)İ", "(?i)µ", "(?a)\\w+", "(?a)\\d", "(?ai)k", "(?s-i:.)", "a*?",
    "a+?b", "a{1,2}?", "(?:ab|c)+", "(?P<x>a)b",
    "^a$", "^$", "^a|b$", "(^a|b)c", "a?^b", "^(a|b)$", "\\Aab\\Z", "a\\|b", "\\.\\*", "\\x41\\u00e9\\n\\t",
    "[\\x00-\\x1f]", "é+", "[à-ü]", "日本|語", "[😀-😂]",
    "\\N{BULLET}", "\\U0001F600", "\\101", "\\0", "[\\0-\\7]", "a{", "a{x}", "{}", "a{1", "a{1,2,3}", "x{3,5}y", "}",
    "]", "a]",
    "\\bab\\b", "a\\b", "a\\Bb", "\\w+\\b\\W?", "(\\bab?\\b ?){1,3}", "(\\ba\\b ?)+", "(?:\\b\\w+\\b\\W*)*",
    "(?:a|\\Bb)*", "(?:(?:^|\\b)a ?)*b?",
    "(?m)(?:^a\\n?)+", "(?:\\ba|b\\b|[ ,])+", "(?:\\B.)*", "(?:\\B.?)*", "(?:(?:\\ba)+ ?)+", "(?:a|\\b)b",
    "\\b\\d+\\b.*",
    "(?m)^a$", "(?m)a$\\n^b", "(?m)(^.$\\n?){2}", "(?m)^", "(?m)$\\n", "a$\\n?", "a$\\n",
    "(?x) a  b # c", "(?x)a [ ] b\\ ", "a(?#x)b",
    "(?x: a )b", "(?mi)^A$\\Z", "(?:^|,)a(?:,|$)", "(?:^a|b$)|c",
    "-?(0|[1-9]\\d*)(\\.\\d+)?", "(\\d{3}-)?\\d{3}-\\d{4}", "(yes|no|maybe)", "((a|b)c?){0,3}d",
    "(?:[01]\\d|2[0-3]):[0-5]\\d",
]  # fmt: skip

TEXTS = [
    "", "a", "b", "c", "d", "ab", "abc", "abb", "aabb", "abcd", "abbcd", "aa", "aaa", "aaaa", "aaaaa", "aaaaaa",
    "aaaaaaa", "abab", "ba", "bc", "ac", "A", "AB", "aB",
    "1", "12", "٣", "_", " ", "\t", "\n", "a\n", "\na", "\xa0", "-", "]", "\\",
    "a b", "ab ab", "a\nb", "a\n\n", "b ", ",a,", " é", "a-", "é", "É", "ß", "ẞ", "ſ", "s", "S",
    "k", "K", "K", "ǅ", "ǆ", "İ", "i", "I", "ı", "µ", "μ",
    "日本", "語", "日", "😀", "😁", "😃", "•", ".*", "a|b", "Aé\n\t", "a{", "a{x}", "{}", "a{1", "}", "a]", "&", "\x00",
    "\x05", "\x1c", "0", "-1", "10.5", "01", "123-4567", "yes", "maybe",
    "xxxy", "xxy", "xxxxxxy", "12:34", "24:00", "a{1,2,3}", "Ā", "ö", "Ö", "÷",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_re_fullmatch_matches(pattern: str) -> None:
    expressions, start = compiled(pattern)
    oracle = re.compile(pattern)
    for text in TEXTS:
        assert accepts(expressions, start, text.encode()) == (oracle.fullmatch(text) is not None), (pattern, text)


ATOMS = st.sampled_from(["a", "b", "c", "é", ".", "[ab]", "[^a]", "\\d", "\\w", "[a-cé]", "1", "\\b", "\\B", "(?:^)"])
TREES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: "(" + "|".join(parts) + ")"),
        inner.map(lambda part: f"(?:{part})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,3}", "{2,}", "*?", "{,2}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=8,
)


@given(TREES, st.lists(st.text("abcé1 ", max_size=7), min_size=1, max_size=8))
@example("(?:(?:a)*)*(?:(a|b))+", ["", "ab", "b"])
@settings(max_examples=150, deadline=None)
def test_random_patterns_match_what_re_fullmatch_matches(pattern: str, texts: list[str]) -> None:
    oracle = re.compile(pattern)
    try:
        expressions, start = compiled(pattern)
    except RegexError as error:
        assert error.message == "matches no text at all"  # noqa: PT017
        assert not any(map(oracle.fullmatch, texts))
        return
    for text in texts:
        assert accepts(expressions, start, text.encode()) == (oracle.fullmatch(text) is not None), (pattern, text)


@given(st.binary(max_size=6))
@settings(max_examples=100, deadline=None)
def test_any_character_means_valid_utf8_and_nothing_else(raw: bytes) -> None:
    expressions, start = compiled("(?s).*")
    try:
        raw.decode()
    except UnicodeDecodeError:
        assert not accepts(expressions, start, raw)
    else:
        assert accepts(expressions, start, raw)


@pytest.mark.slow
@pytest.mark.parametrize("letter", "dws")
def test_character_classes_are_those_of_re_over_all_of_unicode(letter: str) -> None:
    every = "".join(chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000)
    expected = set(re.findall(rf"\{letter}", every))
    found = {chr(c) for low, high in python_class(letter) for c in range(low, high + 1)}
    assert found == expected


@pytest.mark.parametrize("seed", "kKſsßİiıµμǆǅΣσςéÅåÅ")
def test_ignoring_case_is_that_of_re_over_the_basic_plane(seed: str) -> None:
    expressions, start = compiled(f"(?i){seed}")
    oracle = re.compile(f"(?i){seed}")
    for code in (*range(0x600), *range(0x1E00, 0x2200)):
        assert accepts(expressions, start, chr(code).encode()) == (oracle.fullmatch(chr(code)) is not None), chr(code)


def test_lookaround_of_schemas_is_what_re_search_finds() -> None:
    for pattern in (
        "^(?!foo)", "^(?!foo$)[a-z]+$", "(?=.*\\d)(?=.*[a-z])^[a-z\\d]{2,4}$", "a(?=b)", "a(?!b)", "(?<=a)b", "(?<!a)b",
        "(?<![ab])b$", "^(?!.*aa).*$", "^(?:(?!ab).)$", "(?!^)a", "^((?!a)\\w){2}$", "^(?=a)(?!ab)",
        "x(?!(a|b)c)", "\\b(?=a)",
    ):  # fmt: skip
        expressions = Expressions(Budget())
        start = matching(parse(pattern, "ecma"), pattern, expressions, Utf8Writer(expressions), search=True)
        for text in (
            "",
            "a",
            "b",
            "ab",
            "ba",
            "aab",
            "foo",
            "food",
            "a1",
            "1",
            "aaa",
            "bb",
            "cb",
            "xac",
            "xc",
            " a",
            "b b",
        ):
            expected = re.search(pattern, text) is not None
            assert accepts(expressions, start, text.encode()) == expected, (pattern, text)


def test_properties_are_those_of_unicode() -> None:
    for pattern, yes, no in (
        ("\\p{L}+", "aßя日", "1-_"), ("\\pN", "1٣Ⅷ", "a"), ("\\P{Lu}", "a1", "AÉ"), ("[\\p{Greek}_]+", "αΩ_", "aя"),
        ("\\p{Script=Cyrl}", "яЖ", "z"), ("[^\\p{Nd}]", "a", "1"), ("\\p{^L}", "1", "a"),
        ("\\p{Uppercase_Letter}", "A", "a"),
        ("\\p{IsHan}", "日", "ア"), ("\\p{gc=Sc}", "€$", "e"), ("(?i)\\p{Lu}", "aA", "1"), ("\\p{Emoji}", "😀", "a"),
        ("\\p{Alphabetic}", "aा", "1"), ("\\p{White_Space}", " \u2003", "\x1c"),
    ):  # fmt: skip
        expressions, start = compiled(pattern)
        for text, expected in (*((c, True) for c in yes), *((c, False) for c in no)):
            assert accepts(expressions, start, text.encode()) == expected, (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a{1,1000}){1,1000}", "((((a*)*)*)*)*", "\0+", '[^"]{10,500}', ".{0,1000}", "\\w{100}", "[01]*1[01]{10}",
        "(a|b|ab)*c", "(" * 10_000 + "a" + ")" * 10_000, "a" * 100_000, "\\b" * 50_000, "(?P<n>" * 10_000, "{" * 50_000,
        "\ud800", "(.*a){300}", "a|" * 50_000,
    ],
    ids=lambda pattern: pattern[:20].encode("ascii", "backslashreplace").decode(),
)  # fmt: skip
def test_hostile_patterns_end_soon(pattern: str) -> None:
    budget = Budget(seconds=2.0)
    expressions = Expressions(budget)
    try:
        state = compile_regex(pattern, expressions)
        for _ in range(50):
            row = expressions.derivatives(state)
            if not row:
                break
            state = row[0][1]
    except GrammarError:
        pass


@pytest.mark.parametrize(
    ("pattern", "offset"),
    [
        ("(ab|*c)+", 4), ("a**", 2), ("a{2}{3}", 4), ("(a", 0), ("a)", 1), ("[a", 0), ("a\\", 1), ("[z-a]", 1),
        ("a{3,2}", 1), ("(?=a)b", 0), ("a(?!b)", 1),
        ("(?<=a)b", 0), ("(?<!a)b", 0), ("(?>a)", 0), ("(a)\\1", 3), ("(?P<x>a)(?P=x)", 8), ("(a$)*", 2),
        ("a\\B", 1), ("a++", 2), ("a*+", 2), ("\\p{Klingon}", 0),
        ("a^b", 1), ("a$b", 1), ("(?L)a", 2), ("(?#c", 0), ("(?P<1>a)", 4), ("(?P<x>a)(?P<x>b)", 12), ("\\xZZ",
        0), ("(?(1)a)", 0), ("+a", 0),
        ("a|*", 2), ("[\\d-z]", 1), ("\\u12", 0), ("\\q", 0), ("\\ud800", 0), ("a{9999999}", 1), ("\\b+", 0),
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_at_its_offset(pattern: str, offset: int) -> None:
    with pytest.raises(RegexError) as caught:
        check(Constraint.regex(pattern))
    assert (caught.value.pattern, caught.value.offset) == (pattern, offset), str(caught.value)
    assert f"at offset {offset}" in str(caught.value)


def test_the_error_text_shows_the_pattern_and_a_caret_below_the_place() -> None:
    with pytest.raises(RegexError) as caught:
        check(Constraint.regex("(ab|*c)+"))
    assert str(caught.value).splitlines() == [
        "nothing to repeat at offset 4",
        "    (ab|*c)+",
        "        ^   write \\* for the sign",
    ]


def test_a_long_pattern_is_cut_around_its_caret() -> None:
    with pytest.raises(RegexError) as caught:
        check(Constraint.regex("a" * 500 + "(" + "b" * 500))
    _, shown, caret = str(caught.value).splitlines()
    assert len(shown) < 120
    assert shown[caret.index("^")] == "("


@pytest.mark.parametrize("pattern", ["[^\\s\\S]", "a[^\\w\\W]", "(?s)[^.\\n]$^a"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(RegexError):
        check(Constraint.regex(pattern))


def test_ecma_search_finds_the_pattern_anywhere() -> None:
    for pattern, texts in {
        "b": {"abc": True, "b": True, "ac": False},
        "^a": {"abc": True, "ba": False},
        "c$": {"abc": True, "cb": False, "c\n": False},
        "^a|c$": {"ab": True, "bc": True, "bab": False},
        "^(foo|bar)$": {"foo": True, "foobar": False},
        "(^a)|b": {"ax": True, "xb": True, "xa": False},
        "": {"": True, "x": True},
        "^$": {"": True, "x": False},
        "\\d": {"x1": True, "٣": False},
        "^.$": {"a": True, "\n": False, "\r": False, "\u2028": False},
        "\\u{1F600}": {"😀": True, "x": False},
        "\\ud83d\\ude00": {"😀": True},
        "[^]": {"\n": True, "": False},
        "^\\cJ$": {"\n": True},
    }.items():
        expressions = Expressions(Budget())
        start = matching(parse(pattern, "ecma"), pattern, expressions, Utf8Writer(expressions), search=True)
        for text, expected in texts.items():
            assert accepts(expressions, start, text.encode()) == expected, (pattern, text)


@given(st.text("ab()[]{}|*+?\\^$.-,1dwsbB:=!<>Pi\n", max_size=12))
@settings(max_examples=400, deadline=None)
def test_any_text_is_compiled_as_re_does_or_refused(pattern: str) -> None:
    try:
        expressions, start = compiled(pattern)
    except GrammarError:
        return
    if re.search(r"\\[pP]", pattern):
        return  # re has no properties
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sets that a future re might read as nested
        oracle = re.compile(pattern)
    for text in ("", "a", "b", "ab", "1", "aa", "-", "\n", "a1"):
        assert accepts(expressions, start, text.encode()) == (oracle.fullmatch(text) is not None), (pattern, text)
