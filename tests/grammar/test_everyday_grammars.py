"""Patterns and grammars as people write them; re is asked about each text, and about texts that differ a little."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from forktree.grammar import Compiler, Constraint
from tests.support.byte_vocabulary import ByteVocabulary

VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY)

REGEXES: list[tuple[str, list[str]]] = [
    ('\\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\\d|3[01])',
     ['2024-02-29', '1999-12-31', '2024-13-01', '2024-1-1', '24-01-01']),
    ('(?:[01]\\d|2[0-3]):[0-5]\\d(?::[0-5]\\d(?:\\.\\d{1,6})?)?(?:Z|[+-](?:0\\d|1[0-4]):?[0-5]\\d)?',
     ['23:59', '12:30:45.123456Z', '00:00:00+05:30', '24:00', '12:60', '1:00']),
    ('\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(?:\\.\\d+)?(?:Z|[+-]\\d{2}:\\d{2})',
     ['2024-01-01T00:00:00Z', '2024-01-01 00:00:00Z']),
    ('(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?:January|February|March|April|May|'
     'June|July|August|September|October|November|December) (?:[12]?\\d|3[01])(?:st|nd|'
     'rd|th)?',
     ['Monday, May 3rd', 'Sunday, December 31', 'Funday, May 3', 'Monday May 3']),
    ('P(?:\\d+Y)?(?:\\d+M)?(?:\\d+D)?(?:T(?:\\d+H)?(?:\\d+M)?(?:\\d+S)?)?',
     ['P1Y2M3DT4H5M6S', 'PT0S', 'P', '1Y', 'P1H']),
    ('(0|[1-9]\\d*)\\.(0|[1-9]\\d*)\\.(0|[1-9]\\d*)(?:-((?:0|[1-9]\\d*|\\d*[a-zA-Z-][0-9a-zA-'
     'Z-]*)(?:\\.(?:0|[1-9]\\d*|\\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\\+([0-9a-zA-Z-]+(?:\\.['
     '0-9a-zA-Z-]+)*))?',
     ['1.0.0', '1.2.3-alpha.1+build.5', '0.0.0-0a', '1.0', '01.0.0', '1.0.0-01', '1.0.0-']),
    ('(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(?:\\.(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)){3}('
     '?:/(?:3[0-2]|[12]?\\d))?',
     ['10.0.0.0/8', '127.0.0.1', '10.0.0.0/33', '1.1.1']),
    ('(?:[0-9A-F]{2}[:-]){5}[0-9A-F]{2}',
     ['00:1A:2B:3C:4D:5E', '00-1A-2B-3C-4D-5E', '00:1a:2b:3c:4d:5e', '00:1A']),
    ('M{0,4}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})',
     ['MCMXCIV', '', 'IX', 'MMMDCCCLXXXVIII', 'IIII', 'VX', 'IC']),
    ('(?i)[a-z]+(?:-[a-z]+)*',
     ['Foo-BAR', 'x', 'straſe', 'K', '-a', 'a-', '1']),
    ('[\\u4e00-\\u9fff]{2,4}',
     ['中文', '漢字漢字', '中', 'abc', '中a']),
    ('[^\\W\\d_]+',
     ['abc', 'éàü', '日本', 'a1', '_', 'a b']),
    ("\\w+(?:['’]\\w+)*",
     ["don't", 'l’été', 'x', "'x", "a '"]),
    ('[\\d\\s]+',
     ['1 2\t3', '٣ ४', 'a', '1a']),
    ('\\D\\S\\W',
     ['aa ', '-x-', '\n!\n', '1a ', 'a  ', 'aaa']),
    ('[А-Яа-яЁё]+ [А-Я]\\.(?: ?[А-Я]\\.)?',
     ['Иванов И. И.', 'Ivanov I.']),
    ('(?a)\\w+\\s\\d+',
     ['abc 12', 'é 1', 'a ١']),
    ('(?s)/\\*.*?\\*/',
     ['/* a\nb */', '/**/', '/* */ */', '/* ', '/*/']),
    ('(?m)^\\w+$',
     ['abc', 'x', 'a b', 'a\n']),
    ('^abc$',
     ['abc', 'abcd', ' abc']),
    ('\\Aabc\\Z',
     ['abc', 'abc\n', 'ab']),
    ('(?x) [a-z]+ \\  \\d{2,}  # name and number',
     ['ab 12', 'ab12', 'ab  12']),
    ('\\b\\w+\\b(?: \\b\\w+\\b)*',
     ['a bc def', 'x', 'a  b', ' a']),
    ('a\\Bb',
     ['ab', 'a b']),
    ('(?:(?:a{2,3}b){2}c){1,2}',
     ['aabaaabc', 'aabaabcaaabaabc', 'aabc', 'abaabc', 'aabaabaabc']),
    ('((a{1,2}){1,2}){1,2}',
     ['a', 'aaaaaaaa', '', 'aaaaaaaaa']),
    ('(?:(?:x?y?z?){2,4}){3}',
     ['xyzxyz', '', 'zzzzzzzzzzzz', 'zzzzzzzzzzzzz', 'a']),
    ('[ab]*a[ab]{6}',
     ['aabbabb', 'bbabbbbbb', 'bbbbbbb', 'abb']),
    ('(?:0|1(?:01*0)*1)*',
     ['110', '1001', '0', '', '1', '10', '111']),
    ('(?:[^",\\n]*|"(?:[^"]|"")*")(?:,(?:[^",\\n]*|"(?:[^"]|"")*"))*',
     ['a,b,,"c ""q"", d"', '', 'a"b,c"', '"x']),
    ('\\[[^\\]\\n]+\\](?:\\n[\\w.-]+ ?= ?[^\\n]*)*\\n?',
     ['[main]\na = 1\nb=2\n', '[x]', 'main\na=1', '[x]\n= 1']),
    ('(?:\\s*;[^\\n]*\\n|\\s*[\\w]+\\s*=\\s*(?:\\"[^\\"]*\\"|\\S*)\\s*\\n)*',
     ['a=1\n; c\n b = "x y"\n', '', 'a\n']),
    ('-?(?:0|[1-9]\\d*)(?:\\.\\d+)?(?:[eE][+-]?\\d+)?',
     ['0', '-1.5e+10', '12', '01', '.5', '1.', '--1']),
    ('0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0[bB][01]+|0[oO]?[0-7]+',
     ['0xFF_FF', '0b101', '0o17', '017', '0x', '0b2', '09']),
    ('(?:\\d{1,3}(?:,\\d{3})*|\\d+)(?:\\.\\d{2})?',
     ['1,234,567.89', '1234.50', '1', '1,23', '12,3456', '1.']),
    ('[$€£¥]\\s?\\d{1,3}(?:[.,]\\d{3})*(?:[.,]\\d{2})?',
     ['$1,234.56', '€ 5', '£1.000,00', '$', '5€']),
    ('\\+?1?[ .-]?\\(?[2-9]\\d{2}\\)?[ .-]?\\d{3}[ .-]?\\d{4}',
     ['+1 (555) 123-4567', '5551234567', '123-4567', '155512345678']),
    ('(?:(?:https?|ftp)://)?(?:[\\w-]+\\.)+[a-z]{2,}(?::\\d{1,5})?(?:/[\\w./%-]*)?(?:\\?[\\w'
     '=&%-]*)?(?:#\\w*)?',
     ['http://a.b.com:80/x/y?q=1&r=2#top', 'example.org', 'http://', 'x']),
    ('(?:/[^/\\0]+)+/?|/',
     ['/usr/local/', '/', '/é/日', 'usr', '//']),
    ('[A-Za-z]:\\\\(?:[^\\\\/:*?\\"<>|\\r\\n]+\\\\)*[^\\\\/:*?\\"<>|\\r\\n]*',
     ['C:\\a\\b.txt', 'Z:\\', 'C:/a', 'C:\\a?b']),
    ('#(?:[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})',
     ['#fff', '#12345678', '#12345', 'fff']),
    ('rgba?\\(\\s*(?:\\d{1,3}%?\\s*,\\s*){2}\\d{1,3}%?\\s*(?:,\\s*(?:0|1|0?\\.\\d+)\\s*)?\\)',
     ['rgb(1,2,3)', 'rgba( 10%, 2 , 3, .5)', 'rgb(1,2)', 'rgba(1,2,3,2)']),
    ('<([a-z][a-z0-9]*)(?:\\s+[a-z-]+=\\"[^\\"]*\\")*\\s*/?>',
     ['<a href="x" id="y">', '<br />', '<A>', '<a b>', '<>']),
    ('[13][a-km-zA-HJ-NP-Z1-9]{25,34}',
     ['1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa', '0A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa', '1O']),
    ('[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}',
     ['123e4567-e89b-12d3-a456-426614174000', '123e4567-e89b-62d3-a456-426614174000']),
    ('(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?',
     ['', 'QUJD', 'QUI=', 'QQ==', 'QUJ', 'Q==']),
    ("SELECT (?:\\*|\\w+(?:, ?\\w+)*) FROM \\w+(?: WHERE \\w+ ?(?:=|<>|<|>) ?(?:\\d+|'[^']*'"
     '))?(?: ORDER BY \\w+(?: (?:ASC|DESC))?)?(?: LIMIT \\d+)?;?',
     ['SELECT * FROM t;', "SELECT a, b FROM t WHERE x = 'y' ORDER BY a DESC LIMIT 5", 'SELECT FROM t',
      'select * from t']),
    ('(?:[^\\\\\\"\\n]|\\\\(?:[\\"\\\\/bfnrt]|u[0-9a-fA-F]{4}))*',
     ['a\\n\\u00e9', '', '\\x', '"']),
    ('(?:yes|no|maybe)(?:, (?:yes|no|maybe)){0,2}\\.',
     ['yes.', 'no, maybe, yes.', 'yes', 'yes, no, no, no.']),
    ('(?:(?:\\([^()]*\\))|[^()])*',
     ['a(b)c(d)', '', '((a))', '(']),
    ('[^\\x00-\\x7F]+',
     ['é日😀', 'a', 'éa']),
    ('\\U0001F600|[\\U0001F601-\\U0001F64F]{2}',
     ['😀', '😁😂', '😁', 'x']),
    ('\\x41\\u0042\\103\\t\\0?',
     ['ABC\t', 'ABC\t\x00', 'ABC']),
    ('(?:a|ab)(?:c|bcd)(?:d*)',
     ['abcd', 'acd', 'abbcdd', 'ab', 'abd']),
    ('(?:|a|ab)*b',
     ['b', 'abb', 'aab', '', 'a']),
    ('a.{0,20}?b.{3,5}c',
     ['abxxxc', 'a12b1234c', 'abc', 'a\nbxxxc']),
    ('(?:[a-z]{1,8} ){0,30}[a-z]{1,8}\\.',
     ['the quick brown fox.', 'x.', 'The.', 'abcdefghi.']),
    ('.{0,1000}',
     ['', 'a\nb']),
    ('(?s:.{3}).?',
     ['a\nb', '\n\n\nx', 'a\n', 'abc\n']),
    ('(?:(?:19|20)\\d\\d)(?:-(?:W(?:0[1-9]|[1-4]\\d|5[0-3])(?:-[1-7])?|(?:00[1-9]|0[1-9]\\'
     'd|[12]\\d\\d|3[0-5]\\d|36[0-6])))?',
     ['2024-W52-7', '1999-366', '2000', '2024-W54', '1999-367']),
    ('(?:ab?c?)+d{2}',
     ['abcdd', 'aaacdd', 'dd', 'abd']),
]  # fmt: skip

GRAMMARS: list[tuple[str, str, list[str], list[str]]] = [
    (
        "lark",
        r"""
start: select ";"?
select: "SELECT"i _S (("*") | cols) _S "FROM"i _S NAME (_S "WHERE"i _S cond)? (_S "LIMIT"i _S INT)?
cols: col ("," " "? col)*
col: NAME | FUNC "(" (col | "*") ")"
?cond: cond _S "OR"i _S conj | conj
?conj: conj _S "AND"i _S cmp | cmp
cmp: col " "? OP " "? value | "(" cond ")" | "NOT"i _S cmp
value: INT | STRING | "NULL"i | "(" select ")"
OP: "=" | "<>" | "<=" | ">=" | "<" | ">"
FUNC: "count" | "max" | "min"
NAME: /[a-z_]+/
STRING: /'[^']*'/
_S: " "
%import common.INT
""",
        [
            "SELECT * FROM t",
            "select a, count(*) from t where a = 1 and (b <> 'x' or not c >= 3) limit 10;",
            "SELECT a FROM t WHERE a = (SELECT max(b) FROM u)",
        ],
        ["SELECT FROM t", "SELECT * FROM t WHERE", "SELECT a, FROM t", "SELECT * FROM t LIMIT x"],
    ),
    (
        "lark",
        r"""
start: func+
func: type NAME "(" [param ("," param)*] ")" block
param: type NAME
type: ("int" | "char" | "void" | "float") "*"*
block: "{" stmt* "}"
?stmt: block | "if" "(" expr ")" stmt ["else" stmt] | "while" "(" expr ")" stmt
  | "return" [expr] ";" | type NAME ["=" expr] ";" | expr ";" | ";"
?expr: assign
?assign: cond | unary "=" assign
?cond: orx | orx "?" expr ":" cond
?orx: andx | orx "||" andx
?andx: eq | andx "&&" eq
?eq: rel | eq ("=="|"!=") rel
?rel: add | rel ("<"|">") add
?add: mul | add ("+"|"-") mul
?mul: unary | mul ("*"|"/"|"%") unary
?unary: post | ("-"|"!"|"*"|"&") unary
?post: atom | post "(" [expr ("," expr)*] ")" | post "[" expr "]"
atom: NAME | NUMBER | STRING | "(" expr ")"
NAME: /[a-z]+/
NUMBER: /[0-9]+/
STRING: /"[^"\n]*"/
%ignore /[ \n]+/
%ignore /\/\/[^\n]*/
%ignore /\/\*([^*]|\*+[^*\/])*\*+\//
""",
        [
            "int main() { return 0; }",
            "void f(int a, char *b) { if (a < 1 && !b) { x = y[3](4, 5) ? -1 : *p; } else while (1) ; // c\n"
            " int z = 3; /* k */ }",
        ],
        ["int main( { }", "int f() { return 1 }", "f() {}", "int f() { 1 = ; }"],
    ),
    (
        "gbnf",
        r"""
root ::= ws expr
expr ::= or ("?" ws expr ":" ws expr)?
or ::= and ("||" ws and)*
and ::= cmp ("&&" ws cmp)*
cmp ::= sum (("<=" | "<" | "==") ws sum)?
sum ::= prod (("+" | "-") ws prod)*
prod ::= unary (("*" | "/") ws unary)*
unary ::= ("-" | "!") ws unary | pow
pow ::= call ("^" ws unary)?
call ::= atom ("(" ws (expr ("," ws expr)*)? ")" ws)*
atom ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ("." [0-9]+)? ws
ws ::= [ \t\n]{0,3}
""",
        ["1", "-x ^ -2 * f(a, g(1.5), 3)(2)", "a < b ? c : d ? e : f && !g"],
        ["", "1 +", "f(,)", "a ? b", "1.", "((1)"],
    ),
    (
        "lark",
        r"""
start: sexp+
?sexp: atom | "(" sexp* ")" | "'" sexp | "#(" sexp* ")"
atom: SYMBOL | NUMBER | STRING
SYMBOL: /[a-zA-Z!$%&*\/:<=>?^_~+-][a-zA-Z0-9!$%&*\/:<=>?^_~+-]*/
%import common.SIGNED_NUMBER -> NUMBER
%import common.ESCAPED_STRING -> STRING
%import common.WS
COMMENT: /;[^\n]*/
%ignore WS
%ignore COMMENT
""",
        ["(define (f x) (+ x 1))", "'(a b)", '("s\\"t" -1.5e3) ; end'],
        ["(", "())", "(a", '"x'],
    ),
    (
        "gbnf",
        r"""
root ::= element
element ::= "<" name attr* ("/>" | ">" content* "</" name ">")
content ::= element | [^<&]+ | "&" ("lt" | "gt" | "amp" | "#" [0-9]{1,6}) ";" | "<!--" comment "-->"
comment ::= ([^-] | "-" [^-])*
attr ::= " " name "=\"" [^"<&]* "\""
name ::= [a-zA-Z_] [a-zA-Z0-9_.-]*
""",
        ["<a/>", '<a x="1" y=""><b>t &amp; u</b><!-- c - d --></a>', "<p>é&#233;</p>"],
        ["<a>", "<a x=1/>", "<a>&bad;</a>", "<!-- -- -->"],
    ),
    (
        "lark",
        r"""
start: (stmt ";")*
?stmt: "let" _WS NAME _eq expr | "print" _WS expr | "if" _WS expr _WS "then" _WS stmt (_WS "else" _WS stmt)? | "pass"
_eq: " = "
?expr: expr " + " expr | expr " * " expr | "(" expr ")" | NAME | NUMBER | list{expr}
list{x}: "[" [x ("," x)*] "]"
NAME: /[a-z]+/
NUMBER: /[0-9]+/
_WS: " "
""",
        ["let x = 1 + 2 * (y);", "if a then if b then pass else print [1,[2,3],x];", ""],
        ["let = 1;", "print;", "[1,2]"],
    ),
    (
        "lark",
        r"""
start: sep{pair, ","} "." sep2{ID, "-", INT}?
_sep0{x, s}: x (s x)*
sep{x, s}: "{" _sep0{x, s} "}" | "{" "}"
sep2{x, s, y}: x s y | x s sep2{x, s, y}
pair: ID ":" (INT | HEX | sep{ID, "/"})
ID: /[a-z]+/
INT.2: /[0-9]+/
HEX.1: /0x[0-9a-f]+/
""",
        ["{a:1,b:0xff}.", "{}.x-y-3", "{k:{a/b/c}}."],
        ["{a:}.", "{a:1,}.", "{}.x-", "{k:{a,b}}."],
    ),
    (
        "lark",
        r"""
start: (assignment | call)+
assignment: CNAME "=" value ";"
call: python_name "(" [value ("," value)*] ")" ";"
python_name: NAME
value: SIGNED_FLOAT | SIGNED_INT | ESCAPED_STRING | STRING | DEC_NUMBER
%import common (CNAME, SIGNED_FLOAT, SIGNED_INT, ESCAPED_STRING, WS)
%import python (NAME, STRING, DEC_NUMBER)
%ignore WS
%ignore /#[^\n]*/
""",
        ['x = -1.5e10; f(1, "a") ;', "a_1=3; # comment\nb = 'q';"],
        ["x = ;", "f(1", "1x = 2;"],
    ),
    (
        "gbnf",
        r"""
root ::= row ("\n" row){2,5}
row ::= cell ("," cell){2}
cell ::= [^",\n]* | "\"" ([^"] | "\"\"")* "\""
""",
        ["a,b,c\n1,2,3\n,,", 'x,"y""z","a\nb"\n1,2,3\n4,5,6\n7,8,9'],
        ["a,b,c", "a,b\n1,2,3\n4,5,6", 'a,"b,c\n1,2,3\n1,2,3'],
    ),
    (
        "lark",
        r"""
start: section+
section: "[" NAME "]" NL (item NL | NL)*
item: NAME ("=" | ": ") VALUE?
NAME: /[a-z][a-z0-9._-]*/
VALUE: /[^\n;#]+/
NL: /([;#][^\n]*)?\n/
""",
        ["[a]\nk=v w\n\n[b]\nx: 1 ;c\n", "[a]\n"],
        ["k=v\n", "[a]", "[A]\n", "[a]\nk\n"],
    ),
]


def accepts(constraint: Constraint, text: str) -> bool:
    matcher = COMPILER.compile(constraint).matcher()
    return all(matcher.try_advance(byte) for byte in text.encode()) and matcher.try_advance(VOCABULARY.eos)


def nearby(text: str, rng: random.Random, count: int) -> Iterator[str]:
    """The text, and others with a character more, less or changed."""
    yield text
    for _ in range(count):
        at, less = rng.randint(0, len(text)), rng.randint(0, 1)
        more = rng.choice(["", rng.choice("aA0 -.,_1\n\"'()é" + text)])
        yield text[:at] + more + text[at + less :]


@pytest.mark.parametrize(("pattern", "texts"), REGEXES)
def test_a_pattern_and_texts_nearby(pattern: str, texts: list[str]) -> None:
    oracle, rng = re.compile(pattern), random.Random(pattern)
    for text in texts:
        for other in nearby(text, rng, 8):
            assert accepts(Constraint.regex(pattern), other) == (oracle.fullmatch(other) is not None), other


@pytest.mark.parametrize(("syntax", "grammar", "yes", "no"), GRAMMARS)
def test_a_grammar(syntax: str, grammar: str, yes: list[str], no: list[str]) -> None:
    constraint = Constraint.lark(grammar) if syntax == "lark" else Constraint.gbnf(grammar)
    assert [text for text in yes if not accepts(constraint, text)] == []
    assert [text for text in no if accepts(constraint, text)] == []
