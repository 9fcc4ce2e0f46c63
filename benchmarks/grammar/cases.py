"""Regexes and EBNF grammars as people write them, each with texts that belong to it and texts that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .engines import Engine, Model, Refused
from .speed import timed, walk


@dataclass(frozen=True)
class Case:
    kind: str  # "regex" | "lark" | "gbnf"
    name: str
    source: str
    members: tuple[str, ...]
    others: tuple[str, ...]


def _regex(pattern: str, members: Sequence[str], others: Sequence[str]) -> Case:
    return Case("regex", pattern, pattern, tuple(members), tuple(others))


REGEXES = (
    _regex(r"\d{4}-(0[1-9]|1[0-2])-([0-2]\d|3[01])", ["2026-11-24", "0001-01-31"], ["2026-13-01", "2026-1-1"]),
    _regex(r"(?:[01]\d|2[0-3])(?::[0-5]\d){1,2}", ["23:59", "00:00:00"], ["24:00", "1:30", "12:30:00:00"]),
    _regex(r"v?(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?", ["1.2.3", "v10.0.0-rc.1"], ["1.2", "v1.2.3-", "1.2.3+x"]),
    _regex(r"#(?:[0-9a-fA-F]{3}){1,2}", ["#fff", "#C0FFEE"], ["#ffff", "fff", "#ggg"]),
    _regex(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?", ["DE89 3704 0044 0532 01"], ["DE8", "de89"]),
    _regex(r"\+?[1-9]\d{1,14}", ["+4915112345678", "12"], ["0123", "+", "+1234567890123456"]),
    _regex(r"[^@\s]+@[^@\s]+\.[^@\s]{2,}", ["a.b@c.de", "ünï@höst.io"], ["a@b", "a b@c.de"]),
    _regex(r"https://[\w.-]+(?:/[\w.~%-]*)*(?:\?[\w=&%-]*)?", ["https://a.b/c/d?e=f", "https://x"], ["http://x", "https://"]),
    _regex(r"(?i)(yes|no|maybe)", ["Yes", "NO", "mAyBe"], ["yess", ""]),
    _regex(r"[a-z]{1,2000}", ["a", "abc" * 300], ["", "aB"]),
    _regex(r"(?:[^\"\\]|\\.)*", ["plain", 'say \\"hi\\"', "日本語"], ['"', "\\"]),
    _regex(r"\p{Lu}\p{Ll}+( \p{Lu}\p{Ll}+)*", ["Éric Blanc", "Анна"], ["anna", "Anna  Bo"]),
    _regex(r"[\w-]+(, [\w-]+)*", ["a", "one-two, b_2, ö"], ["a,b", "a, "]),
    _regex(r"(?P<sign>[+-])?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?", ["-1.5e-10", "7", "+3,14"], [".5", "1.", "1e"]),
    _regex(r"(a|aa|aaa)*b", ["b", "aaaaaaab"], ["a", "ba"]),
    _regex(r"[01]*1[01]{10}", ["1" + "0" * 10, "10" * 8 + "1" * 11], ["0" * 11, "1" * 10]),
    _regex(r".{0,1000}", ["", "x" * 1000, "żółć 🎉"], ["x" * 1001, "a\nb"]),
    _regex(r"(?s).*END", ["END", "a\nb END"], ["end", "ENDE"]),
    _regex(r"(\d{1,3}\.){3}\d{1,3}/\d{1,2}", ["10.0.0.0/8"], ["10.0.0/8", "10.0.0.0/"]),
    _regex(r"[A-Za-z_]\w*(?:\[\d+\])?(?:\.[A-Za-z_]\w*)*", ["a.b_c.d", "x[3].y"], ["3a", "a..b", "a[]"]),
    _regex(r"Thought: [^\n]{1,200}\nAction: (search|finish)\[[^\]\n]*\]", ["Thought: a\nAction: finish[4]"], ["hm"]),
    _regex(r"(?:\w+ ){9}\w+\.", ["a b c d e f g h i j."], ["a b c.", "a b c d e f g h i j"]),
    _regex(r"^\s*$", ["", " \n"], ["a"]),
    _regex(r"[\u0400-\u04FF]+|[一-龯]+", ["Привет", "漢字"], ["Привет!", "hi", ""]),
)  # fmt: skip

_SUMS = """
start: sum
?sum: product | sum ("+" | "-") product
?product: atom | product ("*" | "/") atom
?atom: NUMBER | "-" atom | "(" sum ")"
NUMBER: /[0-9]+/
%ignore " "
"""
_QUERY = """
start: "SELECT "i columns " FROM "i NAME (" WHERE "i condition)?
columns: "*" | NAME ("," NAME)*
condition: test ((" AND "i | " OR "i) test)*
test: NAME ("=" | "<" | ">") (NAME | INT | QUOTED)
QUOTED: /'[^']*'/
NAME: /[a-z_]+/
%import common.INT
"""
_LISTS = """
start: "[" _separated{item, ","} "]"
item: WORD | "(" _separated{WORD, "|"} ")"
_separated{x, by}: x (by x)*
WORD: /[a-z]+/
"""
_INDENTED = """
start: block+
block: "if " NAME ":\\n" ("  " line)+ | line
line: NAME "=" VALUE "\\n"
NAME: /[a-z]\\w*/
VALUE: /\\d+/ | /"[^"\\n]*"/
"""
_JSONISH = r"""
root ::= value
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (pair ("," pair)*)? "}"
pair ::= string ":" value
array ::= "[" (value ("," value)*)? "]"
string ::= "\"" [^"\\\x00-\x1f]* "\""
number ::= "-"? ("0" | [1-9] [0-9]{0,15}) ("." [0-9]+)?
"""
_CHESS = r"""
# as llama.cpp's users write it
root   ::= ([1-9] [0-9]? ". " move " " move "\n")+
move   ::= (pawn | piece | castle) [+#]?
piece  ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn   ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"""

GRAMMARS = (
    Case("lark", "sums", _SUMS, ("1", "1 + 2*(3-4)", "--7/2"), ("1+", "(1", "1)", "*")),
    Case("lark", "query", _QUERY, ("SELECT * FROM t", "select a,b from t WHERE a=1 and b<'x y'"), ("SELECT * FROM",)),
    Case("lark", "lists", _LISTS, ("[a]", "[a,(b|c),d]"), ("[]", "[a,]", "[(a]")),
    Case("lark", "indented", _INDENTED, ("a=1\n", 'if x:\n  a=1\n  b="c d"\nd=2\n'), ("a=1", "if x:\n", "a=\n")),
    Case("gbnf", "JSON", _JSONISH, ('{"a":[1,-2.5,null],"b":{}}', '""', "[[[]]]"), ("{", "01", "[1,]", '"\n"')),
    Case("gbnf", "chess", _CHESS, ("1. e4 e5\n2. Nf3 Nc6\n", "1. O-O-O Qxf7#\n"), ("1. e4\n", "e4 e5\n", "")),
)  # fmt: skip


@dataclass
class Tally:
    """Of one engine and one kind of constraint."""

    right: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    first_mask: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)


def compare(engines: Sequence[Engine], cases: Sequence[Case], model: Model) -> dict[str, Tally]:
    """Engines take turns case by case."""
    tallies = {engine.name: Tally() for engine in engines}
    for case in cases:
        for engine in engines:
            _try(engine, case, model, tallies[engine.name])
    return tallies


def _try(engine: Engine, case: Case, model: Model, tally: Tally) -> None:
    try:
        first_mask, make = timed(engine, case.kind, case.source)
    except Refused:
        tally.refused += 1
        return
    tally.first_mask.append(first_mask)
    wrong = []
    for text in case.members:
        spent = walk(make(), model.tokenizer.encode(text))
        if spent is None:
            wrong.append(f"{case.name}: refuses {text!r}")
        tally.steps += spent or []
    wrong += [
        f"{case.name}: takes {text!r}" for text in case.others if walk(make(), model.tokenizer.encode(text)) is not None
    ]
    tally.wrong += wrong
    tally.right += not wrong
