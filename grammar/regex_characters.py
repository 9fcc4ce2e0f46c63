r"""Characters of pattern syntax: classes, escapes and shorthands, in both dialects.

Here: what stands for one character.  Not here: groups, repetition, anchors (regex_syntax.py)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal, NoReturn

from . import char_classes as chars
from .char_classes import Ranges
from .errors import RegexError
from .unicode_properties import named

Dialect = Literal["python", "ecma"]


@dataclass(frozen=True)
class Flags:
    ignore_case: bool = False
    dot_all: bool = False
    ascii: bool = False
    lines: bool = False
    verbose: bool = False


class CharacterReader:
    """Reads single characters of a pattern; `at` is the offset of the next one."""

    def __init__(self, pattern: str, dialect: Dialect) -> None:
        self.pattern, self.dialect = pattern, dialect
        self.at = 0
        self.flags = Flags()

    def _dot(self) -> Ranges:
        if self.flags.dot_all:
            return chars.ALL
        return chars.complement(self._line_ends())

    def _line_ends(self) -> Ranges:
        return chars.of_text("\n" if self.dialect == "python" else "\n\r\u2028\u2029")

    def _cased(self, ranges: Ranges) -> Ranges:
        return chars.ignoring_case(ranges, self.flags.ascii) if self.flags.ignore_case else ranges

    def _single(self, code: int, start: int) -> Ranges:
        if 0xD800 <= code <= 0xDFFF:
            self._fail("a surrogate is no character", start)
        return ((code, code),)

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
        if letter in "pP":
            return self._property(letter == "P", start)
        if letter == "b":
            return 0x08
        return self._code(letter, start, in_class=True)

    def _letter(self, start: int) -> str:
        if self.at >= len(self.pattern):
            self._fail("nothing after \\", start, "write \\\\ for the sign")
        self.at += 1
        return self.pattern[self.at - 1]

    def _word(self) -> Ranges:
        return chars.ASCII_WORD if self.dialect == "ecma" or self.flags.ascii else chars.python_class("w")

    def _property(self, negated: bool, start: int) -> Ranges:
        """\\p{...} or \\pL; `at` is after the p."""
        if self._take("{"):
            end = self.pattern.find("}", self.at, self.at + 100)
            if end < 0:
                self._fail("missing } after a property", start)
            name, self.at = self.pattern[self.at : end], end + 1
        else:
            name = self._letter(start)
        if self.dialect == "python" and name.startswith("^"):
            negated, name = not negated, name[1:]
        ranges = named(name)
        if ranges is None:
            hint = "known are general categories (L, Lu), scripts (Script=Greek) and a few properties (Alphabetic)"
            self._fail(f"the property {name!r} is not known", start, hint)
        return chars.complement(ranges) if negated else ranges

    def _shorthand(self, letter: str) -> Ranges:
        kind = letter.lower()
        if kind == "w":
            return self._word() if letter == kind else chars.complement(self._word())
        if self.dialect == "ecma":
            ranges = {"d": chars.DIGITS, "s": chars.ECMA_SPACE}[kind]
        elif self.flags.ascii:
            ranges = {"d": chars.DIGITS, "s": chars.ASCII_SPACE}[kind]
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
            self._fail(f"the escape \\{letter} is not supported", start)
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

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        if found:
            self.at += len(text)
        return found

    def _fail(self, message: str, offset: int | None = None, hint: str = "") -> NoReturn:
        raise RegexError(message, pattern=self.pattern, offset=self.at if offset is None else offset, hint=hint)
