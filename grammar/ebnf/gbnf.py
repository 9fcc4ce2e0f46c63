r"""GBNF, the grammar syntax of llama.cpp -> a node of `Rules`.

    root ::= "yes" | "no" ws [a-z]{1,3}     # rules; literals; classes; groups; * + ? {n} {n,} {n,m}; . is any character

Escapes in literals and classes: \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH.  Line ends mean nothing: a rule
goes on until the next `name ::=`.  Refused: a name without a rule or with two, tokens in <...>, whatever llama.cpp does
not know."""

from __future__ import annotations

import hashlib
import re
from typing import NoReturn

from .. import char_classes as chars
from ..char_writers import Utf8Writer
from ..expressions import EMPTY as NO_TEXT
from ..expressions import INFINITE
from ..rules import Rules
from .cfg import EMPTY, Cfg
from .emission import emit
from .text import MAX_NESTING, MAX_REPEAT, check_characters, fail

TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n]+|\#[^\n]*)+)
      | (?P<name>[A-Za-z0-9_][A-Za-z0-9_-]*|-[A-Za-z0-9_-]+)
      | (?P<defines>::=)
      | (?P<literal>"(?:[^"\\]|\\.)*")
      | (?P<chars>\[(?:[^\]\\]|\\.)*\])
      | (?P<count>\{[^{}\n]*\})
      | (?P<sign>[|()*+?.])""",
    re.VERBOSE | re.DOTALL,
)
COUNT = re.compile(r"\{\s*([0-9]+)\s*(?:(,)\s*([0-9]*)\s*)?\}")
ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
SIMPLE = {"n": "\n", "r": "\r", "t": "\t"} | {sign: sign for sign in "\\\"'[]-^/"}


def compile_gbnf(text: str, rules: Rules) -> int:
    """The node for the texts of rule `root`.   Raises EbnfError, GrammarTooComplex."""
    rules.expressions.budget.place = "the grammar"
    check_characters(text)
    parser = _Parser(text, rules)
    parser.parse()
    cfg = parser.cfg
    for name, offset in parser.mentioned.items():
        if name not in cfg.bodies:
            fail(f"the rule {name!r} is not defined", text, offset)
    if "root" not in cfg.bodies:
        fail("there is no rule 'root'", text, 0, "root ::= ... is what the output must be")
    identity = hashlib.sha256(b"gbnf\0" + text.encode()).hexdigest()
    node = emit(cfg, "root", rules, identity)
    if node is None:
        fail("no text at all of reasonable length can be completed from rule 'root'", text, parser.defined["root"])
    return node


class _Parser:
    """cfg: what was read.   defined, mentioned: names of rules -> where first"""

    def __init__(self, text: str, rules: Rules) -> None:
        self._text, self._expressions = text, rules.expressions
        self._write = Utf8Writer(rules.expressions)
        self.cfg = Cfg(rules.expressions)
        self.defined: dict[str, int] = {}
        self.mentioned: dict[str, int] = {}

    def parse(self) -> None:
        tokens = self._tokens()
        starts = [i for i in range(len(tokens) - 1) if tokens[i][0] == "name" and tokens[i + 1][0] == "defines"]
        if starts[:1] != [0]:
            fail("a rule is expected here", self._text, tokens[0][2] if tokens else 0, "write root ::= ...")
        for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
            _, name, offset = tokens[start]
            if name in self.defined:
                fail(f"the rule {name!r} is defined twice", self._text, offset, "join the two with |")
            self.defined[name] = offset
            self.cfg.bodies[name] = self._body(tokens[start + 2 : end])

    def _tokens(self) -> list[tuple[str, str, int]]:
        found: list[tuple[str, str, int]] = []
        at = 0
        while at < len(self._text):
            match = TOKEN.match(self._text, at)
            if match is None:
                self._fail_at(at)
            if match.lastgroup != "space":
                found.append((str(match.lastgroup), match.group(), at))
            at = match.end()
        return found

    def _fail_at(self, at: int) -> NoReturn:
        sign = self._text[at]
        closing = {'"': "this text is not closed", "[": "this class is not closed", "{": "this count is not closed"}
        if sign == "<" or sign == "!":
            fail("tokens cannot be named in a grammar", self._text, at, "write the text that the token stands for")
        hint = {"'": 'texts stand in "', ":": "a rule is written name ::= ...", "/": "a comment begins with #"}.get(
            sign, ""
        )
        fail(closing.get(sign, f"{sign!r} means nothing here"), self._text, at, hint)

    def _body(self, tokens: list[tuple[str, str, int]]) -> int:
        """One rule's right side.  Groups that are open are on a stack: alternatives so far, the current one, where."""
        cfg = self.cfg
        alternatives: list[int] = []
        items: list[int] = []
        groups: list[tuple[list[int], list[int], int]] = []
        repeatable = False
        for kind, word, offset in tokens:
            sign = word if kind == "sign" else ""
            if (sign and sign in "*+?") or kind == "count":
                if not repeatable:
                    fail("nothing to repeat", self._text, offset, f'write "{word}" for the sign')
                items[-1] = cfg.repeat(items[-1], *self._count(word, offset))
                continue
            repeatable = sign not in ("|", "(")
            if sign == "|":
                alternatives.append(cfg.sequence(*items))
                items = []
            elif sign == "(":
                if len(groups) >= MAX_NESTING:
                    fail(f"more than {MAX_NESTING} groups within groups", self._text, offset)
                groups.append((alternatives, items, offset))
                alternatives, items = [], []
            elif sign == ")":
                if not groups:
                    fail("unbalanced parenthesis", self._text, offset, 'write ")" for the sign')
                group = cfg.choice((*alternatives, cfg.sequence(*items)))
                alternatives, items, _ = groups.pop()
                items.append(group)
            else:
                items.append(self._item(kind, word, offset))
        if groups:
            fail("missing )", self._text, groups[-1][2], "this group is not closed")
        return cfg.choice((*alternatives, cfg.sequence(*items)))

    def _item(self, kind: str, word: str, offset: int) -> int:
        cfg = self.cfg
        if kind == "name":
            self.mentioned.setdefault(word, offset)
            return cfg.reference(word)
        if kind == "literal":
            characters = "".join(c for c, _, _ in self._characters(word[1:-1], offset + 1))
            literal = self._expressions.literal(characters.encode())
            return EMPTY if literal == NO_TEXT else cfg.terminal(literal)
        if kind == "chars":
            return cfg.terminal(self._write(self._class(word, offset)))
        if kind == "sign":  # the dot
            return cfg.terminal(self._write(chars.ALL))
        fail("::= without a name before it", self._text, offset)

    def _count(self, word: str, offset: int) -> tuple[int, int]:
        if word in "*+?":
            return {"*": (0, INFINITE), "+": (1, INFINITE), "?": (0, 1)}[word]
        match = COUNT.fullmatch(word)
        if match is None:
            fail("a count is {n}, {n,} or {n,m}", self._text, offset)
        low, comma, high = match.groups()
        least = int(low[:8])
        most = int(high[:8]) if high else INFINITE if comma else least
        if least > MAX_REPEAT or (most > MAX_REPEAT and most != INFINITE):
            fail(f"a repetition above {MAX_REPEAT:,}", self._text, offset)
        if most < least:
            fail("the least number of repetitions is above the greatest", self._text, offset)
        return least, most

    def _characters(self, word: str, offset: int) -> list[tuple[str, bool, int]]:
        """(character, whether it was escaped, where) for all of a literal or class."""
        result: list[tuple[str, bool, int]] = []
        at = 0
        while at < len(word):
            if word[at] != "\\":
                result.append((word[at], False, offset + at))
                at += 1
                continue
            match = ESCAPE.match(word, at)
            if match is None:
                fail("nothing after \\", self._text, offset + at)
            digits, letter = match[1] or match[2] or match[3], match[4]
            if digits is None and letter not in SIMPLE:
                known = r"\n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH are known"
                fail(f"unknown escape \\{letter}", self._text, offset + at, known)
            code = ord(SIMPLE[letter]) if digits is None else int(digits, 16)
            if 0xD800 <= code <= 0xDFFF or code > chars.LAST:
                fail("this is no character", self._text, offset + at, r"beyond \uFFFF: \UHHHHHHHH, eight digits")
            result.append((chr(code), True, offset + at))
            at = match.end()
        return result

    def _class(self, word: str, offset: int) -> chars.Ranges:
        items = self._characters(word[1:-1], offset + 1)
        negated = bool(items) and items[0][:2] == ("^", False)
        if negated:
            del items[0]
        if not items:
            fail("an empty class", self._text, offset, "write . for any character")
        ranges: list[tuple[int, int]] = []
        at = 0
        while at < len(items):
            low = high = ord(items[at][0])
            if at + 2 < len(items) and items[at + 1][:2] == ("-", False):
                high = ord(items[at + 2][0])
                if high < low:
                    fail("the range ends before it begins", self._text, items[at][2], "write \\- for the sign")
                at += 2
            ranges.append((low, high))
            at += 1
        positive = chars.normalised(ranges)
        return chars.complement(positive) if negated else positive
