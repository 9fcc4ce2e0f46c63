r"""Lark's terminals -> expressions.

A terminal is one regular expression, put together from its parts just as lark does it (so /a|b/ "c" is a|bc there and
here), and read by our own parser.  Three things of lark's own that are not regular as they are written:

- the inside of a string in its library, .*?(?<!\\)(\\\\)*?, whose look-behind only says: no escaped quote;
- what the strings and numbers of its Python library ask of the text behind them: no third quote, no digit;
- a lazy repetition before a fixed end, as in /\/\*.*?\*\//: the terminal ends where that end stands first."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from ..char_writers import Utf8Writer
from ..errors import GrammarTooComplex, RegexError
from ..expressions import ALL_BYTES, EMPTY, NOTHING, Expressions
from ..regex import matching
from ..regex_syntax import parse
from ..regex_tree import Anchor, Choice, Node, Repeat, Sequence_
from .text import MAX_REPEAT, fail, mention

LONGEST_PATTERN = 100_000  # characters
LONGEST_LAZY = 1_000  # characters of a pattern that LAZY is tried on, in time that grows with their square
_INSIDE = re.escape(r".*?(?<!\\)(\\\\)*?")
STRING_INSIDE = re.compile(rf"""(?<!")(?<!')(?P<quote>["'`])(?:\(\?!(?P=quote){{2}}\))?{_INSIDE}(?P=quote)(?!["'])""")
LONG_STRING_INSIDE = re.compile(rf"""(?P<quotes>(?P<quote>["'])(?P=quote){{2}}){_INSIDE}(?P=quotes)""")
ZERO = "0(?:(?:_)?0)*(?![1-9])"  # of the DEC_NUMBER in its library
FIXED = r"(?:\\\W|[^\\()\[\]{}*+?|.^$])"
ANY_OF = r"(?:\.|\((?:\?:)?(?:\.\|(?:\\n|\n)|(?:\\n|\n)\|\.)\)|\[(?:\\.|[^\]\\])+\])"
LAZY = re.compile(rf"{FIXED}*(?:\(\?[is]:)*{FIXED}*{ANY_OF}[*+]\?{FIXED}+\)*{FIXED}*", re.DOTALL)


class Terminals:
    """The terminals of one grammar, each compiled when it is first asked for."""

    def __init__(self, text: str, definitions: list[tuple[str, Any]], expressions: Expressions) -> None:
        self._text, self._expressions = text, expressions
        self._trees = {name: tree for name, (tree, _priority) in definitions}
        self._write = Utf8Writer(expressions)
        self._patterns: dict[int, str] = {}  # by tree: trees share what they mention
        self._open: set[int] = set()  # trees that a pattern is being made of
        self._compiled: dict[str, int] = {}
        self.patterns: dict[str, str] = {}  # name, or how it is written -> regular expression

    def named(self, name: str) -> int:
        tree = self._trees.get(name)
        at = mention(self._text, name)
        if tree is None:
            declared = name in self._trees
            why = "is declared only: what it stands for is not known" if declared else "is not defined"
            fail(f"the terminal {name} {why}", self._text, at)
        return self._compile(name, tree, at)

    def literal(self, tree: Any) -> int:
        """ "..." or /.../ or "a".."z" in a rule."""
        token = tree.children[0]
        written = "..".join(tree.children)
        at = token.start_pos if self._text.startswith(token, token.start_pos or 0) else max(0, self._text.find(token))
        return self._compile(written, tree, at or 0)

    def ignored(self, names: list[str]) -> int:
        """Any number of the terminals that %ignore names."""
        return self._expressions.repeat(self._expressions.alternative(self.named(name) for name in names), 0)

    def _compile(self, name: str, tree: Any, at: int) -> int:
        known = self._compiled.get(name)
        if known is None:
            pattern = self.patterns[name] = self._pattern(tree, at)
            known = self._compiled[name] = self._expression(name, pattern, at)
            if known == NOTHING and self._expressions.alphabet == ALL_BYTES:
                fail(f"the terminal {name} matches no text at all", self._text, at)
            if known == EMPTY or self._expressions.nullable[known]:
                hint = "let a rule be empty instead: (...)?"
                fail(f"the terminal {name} matches the empty text", self._text, at, hint)
        return known

    def _expression(self, name: str, pattern: str, at: int) -> int:
        expressions = self._expressions
        pattern = STRING_INSIDE.sub(r"\g<quote>(?:[^\g<quote>\\\\\\n]|\\\\.)*\g<quote>", pattern)
        newline = "" if "(?s:" in pattern else r"\\n"
        pattern = LONG_STRING_INSIDE.sub(
            rf"\g<quotes>(?:\g<quote>{{0,2}}(?:[^\g<quote>\\\\{newline}]|\\\\.))*\g<quotes>", pattern
        )
        pattern = pattern.replace(ZERO, ZERO.removesuffix("(?![1-9])"))
        try:
            node = parse(pattern, "python")
            if _has_anchor(node):
                fail(f"an anchor in the terminal {name}", self._text, at, "a terminal matches where it stands")
            result = matching(node, pattern, expressions, self._write)
        except RegexError as error:
            shown = pattern[error.offset : error.offset + 20]
            fail(f"in the terminal {name}: {error.message} (at {shown!r})", self._text, at, error.hint)
        if len(pattern) <= LONGEST_LAZY and re.search(r"[*+]\?", pattern) and LAZY.fullmatch(pattern):
            longer = expressions.concat(result, expressions.repeat(expressions.any_byte, 1))
            result = expressions.both((result,), minus=longer)
        return result

    # ---- trees -> regular expressions -----------------------------------------------------------------------------

    def _pattern(self, tree: Any, at: int) -> str:
        known = self._patterns.get(id(tree))
        if known is None:
            known = self._patterns[id(tree)] = self._join(tree, at)
            if len(known) > LONGEST_PATTERN:
                place = f"line {self._text.count(chr(10), 0, at) + 1}"
                raise GrammarTooComplex(f"a terminal of more than {LONGEST_PATTERN:,} characters", place=place)
        return known

    def _mentioned(self, symbol: Any, at: int) -> str:
        """The pattern of a terminal that another one mentions."""
        name = symbol.name
        if not symbol.is_term:
            fail(f"the rule {name!r} inside a terminal", self._text, at, "a terminal can mention terminals only")
        tree = self._trees.get(name)
        if tree is None:
            fail(f"the terminal {name} is not defined", self._text, mention(self._text, name))
        if id(tree) in self._open:
            hint = "write it as a rule, in small letters"
            fail(f"the terminal {name} mentions itself", self._text, mention(self._text, name), hint)
        self._open.add(id(tree))
        pattern = self._pattern(tree, at)
        self._open.remove(id(tree))
        return pattern

    def _join(self, tree: Any, at: int) -> str:
        kind, children = tree.data, tree.children
        if kind == "literal":
            return self._literal_pattern(children[0])
        if kind == "range":
            low, high = (_character(self._text, token) for token in children)
            if low > high:
                fail("the range ends before it begins", self._text, children[0].start_pos or 0)
            return f"[{re.escape(low)}-{re.escape(high)}]"
        if kind == "alias":
            fail("-> inside a terminal", self._text, at, "only alternatives of rules have other names")
        if kind == "template_usage":
            fail("a template inside a terminal", self._text, at, "use it in a rule")
        if kind == "value" and not hasattr(children[0], "data"):
            return self._mentioned(children[0], at)
        parts = [self._pattern(child, at) for child in children if hasattr(child, "data")]
        if kind == "expansion":
            return "".join(parts)
        if kind == "expansions":
            return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"
        if kind == "maybe":
            return f"(?:{parts[0]})?"
        if kind == "expr":
            return f"(?:{parts[0]}){self._count(*children[1:])}"
        return parts[0]  # value

    def _count(self, sign: Any, *numbers: Any) -> str:
        if sign != "~":
            return str(sign)
        least, most = int(numbers[0][:9]), int(numbers[-1][:9])
        if not 0 <= least <= most <= MAX_REPEAT:
            fail(f"a repetition outside 0 to {MAX_REPEAT:,}", self._text, numbers[0].start_pos or 0)
        return f"{{{least},{most}}}"

    def _literal_pattern(self, token: Any) -> str:
        from lark import load_grammar
        from lark.exceptions import GrammarError

        at = token.start_pos if self._text.startswith(token, token.start_pos or 0) else 0
        try:
            pattern: Any = vars(load_grammar)["_literal_to_pattern"](token)
        except (GrammarError, SyntaxError, ValueError) as error:
            self._fail(str(error), at)
        value = re.escape(pattern.value) if pattern.type == "str" else pattern.value
        flags = set(pattern.flags)
        if "x" in flags:
            value = _without_comments(value)
        for flag in sorted(flags - set("xm")):  # m is about anchors, and those are refused
            value = f"(?{flag}:{value})"
        return str(value)

    def _fail(self, message: str, at: int) -> NoReturn:
        fail(message.split("\n", 1)[0][:1].lower() + message.split("\n", 1)[0][1:300], self._text, at)


def _character(text: str, token: Any) -> str:
    from lark import load_grammar

    try:
        character = str(vars(load_grammar)["eval_escaping"](str(token)[1:-1]))
    except Exception as error:  # lark evaluates the text as Python source
        fail(f"bad escape: {error}", text, token.start_pos or 0)
    character = character.replace("\\\\", "\\")
    if len(character) != 1:
        fail("a range goes from one character to another", text, token.start_pos or 0)
    return character


def _without_comments(pattern: str) -> str:
    """A pattern without what the flag x says is no part of it."""
    return re.sub(
        r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])|\s+|\#[^\n]*", lambda match: match[1] or "", pattern, flags=re.DOTALL
    )


def _has_anchor(node: Node) -> bool:
    if isinstance(node, (Sequence_, Choice)):
        return any(_has_anchor(item) for item in node.items)
    return isinstance(node, Anchor) or (isinstance(node, Repeat) and _has_anchor(node.item))
