"""Lark grammars: what is accepted is what lark's Earley parser accepts if terminals may match any way."""

from __future__ import annotations

import copy

import lark
import pytest
from hypothesis import HealthCheck, assume, given, settings

from forktree.grammar.ebnf import compile_lark, terminal_collisions
from forktree.grammar.errors import EbnfError, GrammarError, GrammarTooComplex
from forktree.grammar.expressions import Expressions
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from tests.grammar.ebnf_texts import TEXTS, Productions, accepted, accepts, compiled, derived, productions


def in_lark(grammar: Productions) -> str:
    names = {name: "start" if name == "A" else name.lower() * 2 for name in grammar}
    lines = []
    for name, alternatives in grammar.items():
        written = [" ".join(names.get(symbol, f'"{symbol}"') for symbol in symbols) for symbols in alternatives]
        lines.append(f"{names[name]}: {' | '.join(written)}\n")
    return "".join(lines)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(productions())
def test_random_grammars_accept_what_they_derive(grammar: Productions) -> None:
    found = accepted(in_lark(grammar), "lark")
    assume(found is not None)
    assert found == derived(grammar), in_lark(grammar)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(productions("AB"))
def test_random_grammars_accept_what_lark_accepts(grammar: Productions) -> None:
    text = in_lark(grammar)
    found = accepted(text, "lark")
    assume(found is not None and found)
    try:
        parser = lark.Lark(text, parser="earley", lexer="dynamic_complete", ambiguity="resolve")
    except lark.exceptions.GrammarError:  # two alternatives that are the same
        assume(False)
    for candidate in TEXTS:
        try:
            parser.parse(candidate)
        except lark.exceptions.UnexpectedInput:
            assert candidate not in (found or ()), (text, candidate)
        else:
            assert candidate in (found or ()), (text, candidate)


@pytest.mark.parametrize(
    ("grammar", "yes", "no"),
    [
        ('start: _sep{"a", ","}\n_sep{x, d}: x (d x)*\n', ["a", "a,a,a"], ["", "a,", ",a"]),
        ('start: t{t{"a"}}\nt{x}: "(" x ")"\n', ["((a))"], ["(a)"]),
        ('start: apply{twice, "a"}\napply{f, x}: f{x}\ntwice{x}: x x\n', ["aa"], ["a"]),
        ('start: A+\nA: "a"\n%ignore " "\n', ["a", " a", "a ", " a  a "], ["", " "]),
        ('start: A*\nA: "a"\n%ignore /#[^\\n]*\\n/\n', ["", "a#b\na", "#\n"], ["#", "a#"]),
        ('start: "x"~2..3 ["y"] ("z")?\n', ["xx", "xxxyz"], ["x", "xxxx", "xxzy"]),
        ('start: A\nA.2: "ab"i | /c+/\n', ["aB", "AB", "ccc"], ["cab", ""]),
        ('start: A\nA: B~2..3 ["-"]\nB: "0".."9"\n', ["12", "123-"], ["1", "1234"]),
        ("start: /a b  # c\n [ x]/x\n", ["ab ", "abx"], ["a b x"]),
        ('start: /a.b/s | /./ "!"\n', ["a\nb", "é!"], ["\n!"]),
        ("start: /a|b/ C\nC: /a|b/ /c/\n", ["aa", "bbc"], ["ac", "aac"]),  # lark puts patterns together as they are
        ("%import common.ESCAPED_STRING\nstart: ESCAPED_STRING\n",
         ['"a"', '"\\""', '"\\\\"'], ['"a"b"', '"\\"', '"\n"']),
        ("%import common (SIGNED_NUMBER, CNAME, WS)\nstart: (CNAME | SIGNED_NUMBER)+\n%ignore WS\n",
         ["a -1.5e3", "\tx_1"], ["-", "é"]),
        ("%import common.C_COMMENT\nstart: C_COMMENT\n", ["/* a * / */", "/***/"], ["/* */ */", "/*/"]),
        ('start: C\nC: "<!--" /.*?-->/s\n', ["<!--a\n-->", "<!-- -- >-->"], ["<!-->", "<!-- --> -->"]),
        ("%import common.INT -> N\nstart: N\n%extend N: \"x\"\n", ["12", "x"], ["1x"]),
        ('?start: a -> b | "c"\n!a: "x" | a "y"\n_i: "q"\n', ["x", "xyy", "c"], ["y", "q"]),
        ('start: e\ne: e "+" e | e "*" e | "-" e | "(" e ")" | e "[" e "]" | "1"\n',
         ["1", "-1+1*(1)[1+1]", "((1))", "--1[1][1]"], ["+1", "1+", "(1", "1[]"]),
        ('start: value\nvalue: "[" list? "]" | "1"\nlist: value | value "," list\n', ["[[1,1],[[]]]", "1"], ["[1,]"]),
        ('start: a\na: b "x" | "1"\nb: c "y" | a\nc: a "z" | b\n', ["1", "1x", "1zyx", "1yx", "1xzyx"], ["1z", "x"]),
        ('start: "、" /[а-я]+/i\n', ["、Яз"], ["、", "、z"]),
    ],
)  # fmt: skip
def test_features(grammar: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not accepts(grammar, "lark", text)] == []
    assert [text for text in no if accepts(grammar, "lark", text)] == []


def test_stacks_do_not_multiply_in_nested_expressions() -> None:
    """Both alternatives of `assign` begin with unary, four rules down: once it held 2**d stacks in d parentheses."""
    grammar = """
start: assign
assign: unary "=" assign | sum
sum: product | sum "+" product
product: unary | product "*" unary
unary: primary | "-" unary
primary: "1" | "(" assign ")" | primary "[" assign "]"
"""
    reference = compiled(grammar, "lark")
    assert reference is not None
    sizes = []
    for byte in b"(" * 30 + b"1" + b")" * 30:
        assert reference.step(byte)
        sizes.append(len(reference._items))
    assert reference.accepts
    assert max(sizes) < 20


@pytest.mark.parametrize(
    ("grammar", "message", "line", "column"),
    [
        ("", "there is no rule 'start'", 1, 1),
        ('start: foo "x"\n', "used but not defined", 1, 8),
        ('start: "a" |* "b"\n', "misplaced operator", 1, 13),
        ('start: "a\n', "not closed", 1, 8),
        ('start: "' + "\\\\" * 60, "not closed", 1, 8),
        ("start: A\nA: /a*/\n", "matches the empty text", 1, 8),
        ("start: A\n%declare A\n", "declared only", 1, 8),
        ("start: A\n%import .foo.A\n", "only common, lark, python, unicode can be imported", 2, 10),
        ("start: A\n%import os.path.A\n", "can be imported", 2, 9),
        ("start: A\nA: A /x/\n", "mentions itself", 1, 8),
        ("start: A\nA: b\nb: /x/\n", "inside a terminal", 1, 8),
        ("start: t\nt{x}: x\n", "used without arguments", 1, 8),
        ("start: /a(?=b)/\n", "lookahead is not supported", 1, 8),
        ("start: /^a/\n", "anchor", 1, 8),
        ('start: "a"\nstart: "b"\n', "defined more than once", 1, 1),
        ('start: "a"~5..2\n', "bad bounds", 1, 12),
        ('start: "a\0"\n', "NUL", 1, 10),
        ('start: "\ud800"\n', "surrogate", 1, 9),
        ("start: start\n", "no text at all", 1, 1),
        ('start: "x" a\na: b\nb: a "y"\n', "no text at all", 1, 1),
        ("start: " + "(" * 10_000 + '"a"' + ")" * 10_000, "groups within groups", 1, 108),
    ],
)
def test_what_is_wrong_is_said_with_its_place(grammar: str, message: str, line: int, column: int) -> None:
    with pytest.raises(EbnfError) as caught:
        compile_lark(grammar, Rules(Expressions(Budget())))
    error = caught.value
    assert message in error.message
    assert (error.line, error.column) == (line, column)
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize(
    "grammar",
    [
        'start: t{"x"}\nt{x}: x | "(" t{u{x}} ")"\nu{x}: "[" x "]"\n',
        "start: A0\n" + "".join(f"A{i}: A{i + 1} A{i + 1}\n" for i in range(40)) + 'A40: "x"\n',
        "start: A0\n" + "".join(f'A{i}: "x" A{i + 1} | "y"\n' for i in range(2_000)) + 'A2000: "z"\n',
        "start: " + " | ".join('"' + "a" * 50 + str(i) + '"' for i in range(10_000)),
    ],
)
def test_hostile_grammars_end_in_a_typed_error(grammar: str) -> None:
    with pytest.raises((EbnfError, GrammarTooComplex)):
        compile_lark(grammar, Rules(Expressions(Budget())))


def test_large_repetitions_stay_counters() -> None:
    rules = Rules(Expressions(Budget()))
    node = compile_lark('start: ("a"~1..1000 "b")~1..1000\n', rules)
    assert rules.shortest[node] == 2
    assert len(rules) + len(rules.expressions) < 50


def test_colliding_terminals_are_both_named(caplog: pytest.LogCaptureFixture) -> None:
    grammar = 'start: (NAME | HEX | "if" | INT)+\nNAME: /[a-z_]+/\nHEX: /[0-9a-f]+/\nINT: /[.]/\n'
    (line,) = terminal_collisions(grammar)
    assert "HEX" in line
    assert "NAME" in line
    assert [record.name for record in caplog.records] == ["forktree.grammar"]


def test_errors_are_grammar_errors() -> None:
    with pytest.raises(GrammarError):
        terminal_collisions("start: (\n")
