"""GBNF as llama.cpp's users write it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings

from forktree.grammar.ebnf import compile_gbnf
from forktree.grammar.errors import EbnfError, GrammarTooComplex
from forktree.grammar.expressions import Expressions
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from tests.grammar.ebnf_texts import Productions, accepted, accepts, derived, productions


def in_gbnf(grammar: Productions) -> str:
    names = {name: "root" if name == "A" else name.lower() * 2 for name in grammar}
    lines = []
    for name, alternatives in grammar.items():
        written = [" ".join(names.get(symbol, f'"{symbol}"') for symbol in symbols) or '""' for symbols in alternatives]
        lines.append(f"{names[name]} ::= {' | '.join(written)}\n")
    return "".join(lines)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(productions("ABC", 4))
def test_random_grammars_accept_what_they_derive(grammar: Productions) -> None:
    found = accepted(in_gbnf(grammar), "gbnf")
    assume(found is not None)
    assert found == derived(grammar), in_gbnf(grammar)


def read(grammar: str) -> Productions:
    """Rules without groups, root first, as productions."""
    names = {"root": "A", "x": "X", "y": "Y"}
    result: Productions = {}
    for line in grammar.split("\n"):
        name, body = line.split(" ::=")
        alternatives = [tuple(word.strip('"') for word in part.split()) for part in body.split("|")]
        result[names[name]] = tuple(tuple(names.get(s, s) for s in symbols) for symbols in alternatives)
    return result


# Grammars that were wrong or took too long while this was written, and the classics.
@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= root root | "a" | "a" "a"',
        'root ::= x root "a" | "b"\nx ::= | "a"',  # left recursion behind what may be empty
        'root ::= x | "a"\nx ::= root | y "b"\ny ::= x x | root "a"',
        'root ::= root root root | "a" | "b" "b"',
        'root ::= "a" root "a" | "b" root | ',
    ],
)
def test_recursion_of_all_kinds(grammar: str) -> None:
    assert accepted(grammar, "gbnf") == derived(read(grammar))


@pytest.mark.parametrize(
    ("grammar", "yes", "no"),
    [
        ('root ::= "\\x41\\u00e9\\U0001F600\\n\\t\\"\\\\"', ['Aé😀\n\t"\\'], ["A"]),
        ("root ::= [^\\]\\n\"-]+", ["abcé", "["], ["]", "-", "", "a\n"]),
        ("root ::= [a-cx-] [\\x30-\\x39]", ["a0", "-9", "x5"], ["d0", "aa"]),
        ("root ::= .{2,3} # two or three\n", ["ab", "é\n😀"], ["a", "abcd"]),
        ('root ::= "ab"{2} [c]{1,}', ["ababc", "ababcc"], ["abc", "abab"]),
        ('root ::= (\n  "a" | # first\n  some-rule\n)+\nsome-rule ::=\n  "b"\n  | "c"\n', ["abc"], ["d", ""]),
        ('root ::= "a" |', ["", "a"], ["aa"]),
        ('root ::= (root | "a")* "b"', ["b", "ab", "bab", "aabbb"], ["a", "", "ba"]),
        ('root ::= root? "a" | root* "b" "b"', ["a", "aaa", "abb", "bba", "abba"], ["b", "ab", "bbb"]),
        ('root ::= ws "x" ws\nws ::= [ \\t]*\nunused ::= ws', ["x", " x\t"], ["", "xx"]),
    ],
)  # fmt: skip
def test_syntax(grammar: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not accepts(grammar, "gbnf", text)] == []
    assert [text for text in no if accepts(grammar, "gbnf", text)] == []


@pytest.mark.parametrize(
    ("grammar", "message", "line", "column"),
    [
        ("", "a rule is expected", 1, 1),
        ('foo ::= "a"', "no rule 'root'", 1, 1),
        ('root ::= "a"\n  foo', "'foo' is not defined", 2, 3),
        ('root ::= "a"\nroot ::= "b"', "defined twice", 2, 1),
        ('root ::= "a', "this text is not closed", 1, 10),
        ('root ::= ("a"', "missing )", 1, 10),
        ('root ::= "a")', "unbalanced", 1, 13),
        ("root ::= [z-a]", "ends before it begins", 1, 11),
        ("root ::= []", "empty class", 1, 10),
        ('root ::= "\\q"', "unknown escape", 1, 11),
        ('root ::= "\\ud83d"', "no character", 1, 11),
        ('root ::= "\ud800"', "surrogate", 1, 11),
        ("root ::= 'a'", "means nothing here", 1, 10),
        ('root ::= * "a"', "nothing to repeat", 1, 10),
        ('root ::= "a"{3,2}', "above the greatest", 1, 13),
        ('root ::= "a"{99999999999}', "a repetition above", 1, 13),
        ('root ::= "a"{x}', "a count is", 1, 13),
        ("root ::= <think>", "tokens cannot be named", 1, 10),
        ('root ::= "a" root', "no text at all", 1, 1),
        ("root ::= \0", "means nothing", 1, 10),
        ("root ::= " + "(" * 10_000, "groups within groups", 1, 210),
        ("root ::= a0\n" + "".join(f"a{i} ::= a{i + 1} a{i + 1}\n" for i in range(60)) + 'a60 ::= "x"', "length", 1, 1),
    ],
)
def test_what_is_wrong_is_said_with_its_place(grammar: str, message: str, line: int, column: int) -> None:
    with pytest.raises(EbnfError) as caught:
        compile_gbnf(grammar, Rules(Expressions(Budget())))
    assert message in caught.value.message
    assert (caught.value.line, caught.value.column) == (line, column)


def test_the_caret_stands_below_the_fault() -> None:
    with pytest.raises(EbnfError) as caught:
        compile_gbnf('root ::= "a"\n\tfoo ::= bar', Rules(Expressions(Budget())))
    _, shown, caret = str(caught.value).split("\n")
    assert shown[caret.index("^") :].startswith("bar")


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= (("a"{1,1000}){1,1000}){1,1000}',
        "root ::= " + "(" * 150 + '"a"' + "*)*" * 150,
        "root ::= a0\n" + "".join(f'a{i} ::= a{i + 1} a{i + 1} | "y"\n' for i in range(60)) + 'a60 ::= "x"',
        "root ::= " + " ".join(f'"a{i}"?' for i in range(1_000)),
        "root ::= " + " | ".join(f'"word {i}"' for i in range(2_000)),
        'root ::= a\na ::= b | a a |\nb ::= a | b b | "x"',
    ],
)
def test_large_grammars_compile(grammar: str) -> None:
    rules = Rules(Expressions(Budget(seconds=10)))
    rules.edges(compile_gbnf(grammar, rules))


def test_rules_that_multiply_when_put_into_each_other_are_refused() -> None:
    rules = [f'r{i} ::= r{(i + 1) % 300} "a" | r{i * 7 % 300} "b" | "c"\n' for i in range(300)]
    with pytest.raises(GrammarTooComplex, match="begin with each other"):
        compile_gbnf("root ::= r0\n" + "".join(rules), Rules(Expressions(Budget())))
