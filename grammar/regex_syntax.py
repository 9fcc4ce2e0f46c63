r"""Pattern text -> syntax tree; errors with offsets.  What a tree matches: regex.py.

Two dialects. "python": the meaning of re.fullmatch(pattern, text) for str patterns. "ecma": what JSON Schema asks of
`pattern`: ECMA-262 with the u flag, searched for anywhere (\d and \w are ASCII, $ is the very end, . is no line end).
Both: literals, ., classes, escapes, (), (?:), (?P<n>) and (?<n>), flags i s a u, |, * + ? {m,n} and their lazy forms
(which match the same texts), ^ and $ where only empty matches lie beyond them.
Refused, because no automaton over the text has them or their meaning is not local: lookaround, back-references, \b \B,
atomic groups and possessive repetition, (?m), (?x), \p{..}.  Nothing is read loosely: what is not known is refused."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, NoReturn

from . import char_classes as chars
from .char_classes import Ranges
from .errors import RegexError
from .expressions import INFINITE

Dialect = Literal["python", "ecma"]

MAX_NESTING = 100  # groups within groups
MAX_REPEAT = 1_000_000


@dataclass(frozen=True)
class Chars:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True)
class Sequence_:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Choice:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Repeat:
    item: Node
    least: int
    most: int  # INFINITE: no bound


@dataclass(frozen=True)
class Anchor:
    at_start: bool
    offset: int
    before_newline: bool = False  # also before a newline that ends the text: Python's $


Node = Chars | Sequence_ | Choice | Repeat | Anchor


def parse(pattern: str, dialect: Dialect = "python") -> Node:
    """The syntax tree of a pattern, or RegexError."""
    return _Parser(pattern, dialect).parse()


@dataclass(frozen=True)
class _Flags:
    ignore_case: bool = False
    dot_all: bool = False
    ascii: bool = False


class _Parser:
    """Recursive descent; `at` is the offset of the next character."""

    def __init__(self, pattern: str, dialect: Dialect) -> None:
        self.pattern, self.dialect = pattern, dialect
        self.at = 0
        self.flags = _Flags()
        self.depth = 0
        self.names: set[str] = set()

    def parse(self) -> Node:
        if self.dialect == "python" and self.pattern.startswith("(?"):
            self._global_flags()
        node = self._choice()
        if self.at < len(self.pattern):
            self._fail("unbalanced parenthesis", hint="write \\) for the sign")
        return node

    # -- groups and alternatives

    def _choice(self) -> Node:
        items = [self._sequence()]
        while self._take("|"):
            items.append(self._sequence())
        return items[0] if len(items) == 1 else Choice(tuple(items))

    def _sequence(self) -> Node:
        items: list[Node] = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            start = self.at
            item = self._item()
            if item is not None:
                items.append(self._repeated(item, start))
        return items[0] if len(items) == 1 else Sequence_(tuple(items))

    def _item(self) -> Node | None:
        start, c = self.at, self.pattern[self.at]
        self.at += 1
        if c == "(":
            return self._group(start)
        if c == "[":
            return Chars(self._cased(self._class(start)))
        if c == "\\":
            return self._escape(start)
        if c == ".":
            return Chars(self._dot())
        if c in "^$":
            return Anchor(c == "^", start, before_newline=c == "$" and self.dialect == "python")
        if c in "*+?":
            self._fail("nothing to repeat", start, f"write \\{c} for the sign")
        return Chars(self._cased(self._single(ord(c), start)))

    def _group(self, start: int) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            self._fail(f"more than {MAX_NESTING} groups within groups", start)
        outer = self.flags
        if self._take("?"):
            self._group_kind(start)
        node = self._choice()
        if not self._take(")"):
            self._fail("missing )", start, "this group is not closed")
        self.flags = outer
        self.depth -= 1
        # A group is kept apart from its surroundings even if it is one sequence.
        return node

    def _group_kind(self, start: int) -> None:
        """What follows "(?": leaves the parser at the group's content."""
        if self._take(":"):
            return
        rest = self.pattern[self.at :]
        for sign, meaning in (("=", "lookahead"), ("!", "negative lookahead"), ("<=", "lookbehind"),
                              ("<!", "negative lookbehind"), (">", "an atomic group"), ("P=", "a back-reference"),
                              ("P>", "recursion"), ("#", "a comment"), ("(", "a conditional")):  # fmt: skip
            if rest.startswith(sign):
                self._fail(f"{meaning} is not supported", start, "state what may come instead")
        if rest.startswith(("P<", "<")):
            self.at += 2 if rest.startswith("P") else 1
            if self.dialect == "python" and not rest.startswith("P"):
                self._fail("unknown extension ?<", start, "a named group is (?P<name>...)")
            end = self.pattern.find(">", self.at)
            name = self.pattern[self.at : end] if end >= 0 else ""
            if not name.isidentifier():
                self._fail("a group name must be an identifier followed by >", self.at)
            if name in self.names:
                self._fail(f"the group name {name!r} is used twice", self.at)
            self.names.add(name)
            self.at = end + 1
            return
        self.flags = self._flag_letters(":")

    def _global_flags(self) -> None:
        end = self.pattern.find(")")
        letters = self.pattern[2:end] if end >= 0 else ""
        if letters and letters.isalpha() and letters.isascii() and "P" not in letters:
            self.at = 2
            self.flags = self._flag_letters(")")

    def _flag_letters(self, end: str) -> _Flags:
        on, off = set[str](), set[str]()
        current = on
        start = self.at
        while self.at < len(self.pattern) and self.pattern[self.at] != end:
            letter = self.pattern[self.at]
            if letter == "-" and current is on:
                current = off
            elif letter in "isau" and not (letter in "au" and current is off):
                current.add(letter)
            elif letter in "mxL":
                self._fail(f"the flag {letter} is not supported", hint="i, s, a and u are")
            else:
                self._fail("unknown extension (?" + letter, start)
            self.at += 1
        if not self._take(end):
            self._fail(f"missing {end} after flags", start)
        if self.dialect == "ecma" and (on | off) - set("is"):
            self._fail("unknown flag", start, "i and s are known here")
        if on & off or {"a", "u"} <= on or (current is off and not off) or not (on | off):
            self._fail("contradictory or missing flags", start)
        flags = self.flags
        return _Flags(
            ("i" in on or flags.ignore_case) and "i" not in off,
            ("s" in on or flags.dot_all) and "s" not in off,
            ("a" in on or flags.ascii) and "u" not in on,
        )

    # -- repetition

    def _repeated(self, item: Node, start: int) -> Node:
        bounds = self._quantifier()
        if bounds is None:
            return item
        if isinstance(item, Anchor):
            self._fail("nothing to repeat", start)
        least, most, sign = bounds
        if self._take("?"):
            pass  # lazy: the same texts
        elif self.pattern[self.at : self.at + 1] == "+":
            self._fail("possessive repetition is not supported", hint="write \\+ for the sign")
        again = self.at
        if self._quantifier() is not None:
            self._fail("multiple repeat", again, "put the inner repetition into (?:...)")
        if most < least:
            self._fail("the least number of repetitions is above the greatest", sign)
        return Repeat(item, least, most)

    def _quantifier(self) -> tuple[int, int, int] | None:
        """(least, most, offset) of the repetition that starts here, or None and nothing is consumed."""
        start = self.at
        c = self.pattern[start : start + 1]
        if c and c in "*+?":
            self.at += 1
            return {"*": (0, INFINITE), "+": (1, INFINITE), "?": (0, 1)}[c] + (start,)
        if c != "{":
            return None
        end = self.pattern.find("}", start)
        low, comma, high = self.pattern[start + 1 : max(end, start)].partition(",")
        if end < 0 or not all(part.isascii() and (part.isdigit() or not part) for part in (low, high)):
            return None
        if not low and (not comma or self.dialect == "ecma"):
            return None
        least = int(low[:8]) if low else 0
        most = int(high[:8]) if high else INFINITE if comma else least
        if least > MAX_REPEAT or (most > MAX_REPEAT and most != INFINITE):
            self._fail(f"a repetition above {MAX_REPEAT:,}", start)
        self.at = end + 1
        return least, most, start

    # -- characters

    def _dot(self) -> Ranges:
        if self.flags.dot_all:
            return chars.ALL
        ends = "\n" if self.dialect == "python" else "\n\r\u2028\u2029"
        return chars.complement(chars.of_text(ends))

    def _cased(self, ranges: Ranges) -> Ranges:
        return chars.ignoring_case(ranges, self.flags.ascii) if self.flags.ignore_case else ranges

    def _single(self, code: int, start: int) -> Ranges:
        ranges = chars.normalised([(code, code)])
        if not ranges:
            self._fail("a surrogate is no character", start)
        return ranges

    def _class(self, start: int) -> Ranges:
        """[...]; `at` is after the bracket."""
        negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        first = True
        while True:
            if self.at >= len(self.pattern):
                self._fail("missing ]", start, "this class is not closed")
            if self.pattern[self.at] == "]" and not (first and self.dialect == "python"):
                self.at += 1
                break
            first = False
            item = self.at
            low = self._class_item()
            dash = self.pattern[self.at : self.at + 1] == "-" and self.pattern[self.at + 1 : self.at + 2] not in (
                "]",
                "",
            )
            if not dash:
                ranges += [(low, low)] if isinstance(low, int) else low
                continue
            self.at += 1
            high = self._class_item()
            if not isinstance(low, int) or not isinstance(high, int) or low > high:
                self._fail(f"bad range {self.pattern[item : self.at]}", item, "write \\- for the sign")
            ranges.append((low, high))
        positive = chars.normalised(ranges)
        if negated:
            return chars.complement(self._cased(positive))
        return positive

    def _class_item(self) -> int | Ranges:
        start, c = self.at, self.pattern[self.at]
        self.at += 1
        if c == "[" and self.dialect == "python" and self.pattern[self.at : self.at + 1] == ":":
            self._fail("a POSIX class is not supported", start, "write \\[ for the sign")
        if c != "\\":
            return ord(c)
        letter = self._letter(start)
        if letter in "dDsSwW":
            return self._shorthand(letter)
        if letter == "b":
            return 0x08
        return self._code(letter, start, in_class=True)

    def _escape(self, start: int) -> Node:
        letter = self._letter(start)
        if letter in "dDsSwW":
            return Chars(self._cased(self._shorthand(letter)))
        if letter in "bB":
            self._fail(
                f"the word boundary \\{letter} is not supported", start, "name the characters that may stand there"
            )
        if self.dialect == "python" and letter in "AZ":
            return Anchor(letter == "A", start)
        if letter in "123456789" and not (self.dialect == "python" and self._octal_length(start) == 3):
            self._fail("a back-reference is not supported", start)
        return Chars(self._cased(self._single(self._code(letter, start, in_class=False), start)))

    def _letter(self, start: int) -> str:
        if self.at >= len(self.pattern):
            self._fail("nothing after \\", start, "write \\\\ for the sign")
        self.at += 1
        return self.pattern[self.at - 1]

    def _shorthand(self, letter: str) -> Ranges:
        kind = letter.lower()
        if self.dialect == "ecma":
            ranges = {"d": chars.DIGITS, "w": chars.ASCII_WORD, "s": chars.ECMA_SPACE}[kind]
        elif self.flags.ascii:
            ranges = {"d": chars.DIGITS, "w": chars.ASCII_WORD, "s": chars.ASCII_SPACE}[kind]
        else:
            ranges = chars.python_class(kind)
        return ranges if letter == kind else chars.complement(ranges)

    def _octal_length(self, start: int) -> int:
        text = self.pattern[start + 1 : start + 4]
        return len(text) if all(c in "01234567" for c in text) else 0

    def _code(self, letter: str, start: int, in_class: bool) -> int:
        """The code point of an escape that stands for one character; `at` is after its letter."""
        simple = {"n": 10, "r": 13, "t": 9, "f": 12, "v": 11} | ({"a": 7} if self.dialect == "python" else {})
        if letter in simple:
            return simple[letter]
        if letter == "x":
            return self._hexadecimal(2, start)
        if letter == "u":
            if self.dialect == "ecma" and self._take("{"):
                end = self.pattern.find("}", self.at)
                code = self._hexadecimal(max(0, end - self.at), start)
                self.at += 1
                return code
            code = self._hexadecimal(4, start)
            if self.dialect == "ecma" and 0xD800 <= code < 0xDC00 and self.pattern.startswith("\\u", self.at):
                self.at += 2
                low = self._hexadecimal(4, start)
                if 0xDC00 <= low < 0xE000:
                    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                self._fail("half of a surrogate pair", start)
            return code
        if self.dialect == "python":
            if letter == "U":
                return self._hexadecimal(8, start)
            if letter == "N":
                end = self.pattern.find("}", self.at)
                try:
                    code = ord(unicodedata.lookup(self.pattern[self.at + 1 : end]))
                except (KeyError, TypeError):
                    self._fail("unknown character name", start)
                if self.pattern[self.at] != "{":
                    self._fail("missing { after \\N", start)
                self.at = end + 1
                return code
            if letter in "01234567":
                return self._octal(letter, start, in_class)
        elif letter == "c" and self.pattern[self.at : self.at + 1].isalpha() and self.pattern[self.at].isascii():
            self.at += 1
            return ord(self.pattern[self.at - 1]) & 31
        elif letter == "0" and not self.pattern[self.at : self.at + 1].isdigit():
            return 0
        if letter.isascii() and letter.isalnum():
            hint = "name the characters, as in [A-Za-z]" if letter in "pP" else ""
            self._fail(f"the escape \\{letter} is not supported", start, hint)
        return ord(letter)

    def _octal(self, letter: str, start: int, in_class: bool) -> int:
        text = letter
        while len(text) < 3 and self.pattern[self.at : self.at + 1] and self.pattern[self.at] in "01234567":
            text += self.pattern[self.at]
            self.at += 1
        code = int(text, 8)
        if (letter != "0" and len(text) < 3 and not in_class) or code > 0o377:
            self._fail("an octal escape outside 0-0o377", start)
        return code

    def _hexadecimal(self, length: int, start: int) -> int:
        digits = self.pattern[self.at : self.at + length]
        if not length or len(digits) < length or any(d not in "0123456789abcdefABCDEF" for d in digits):
            self._fail(f"expected {length or 'some'} hexadecimal digits", start)
        self.at += length
        code = int(digits, 16)
        if code > chars.LAST:
            self._fail("beyond the last code point, 10FFFF", start)
        return code

    # -- helpers

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        if found:
            self.at += len(text)
        return found

    def _fail(self, message: str, offset: int | None = None, hint: str = "") -> NoReturn:
        raise RegexError(message, pattern=self.pattern, offset=self.at if offset is None else offset, hint=hint)
