"""The value so far: JSON text that is still being written, read as a typed value at every point.

    partial(tp, prefix) -> Partial          of one prefix
    PartialParser(tp).feed(chunk) -> value  as the text comes

What is shown: objects with the fields that have begun; arrays with the items that have; a text while it grows, where it
may become a str; numbers, true, false, null, dates, enum members and other scalars once they are complete, and a
number is complete when something follows it.  A complete value is a value of its type; a class whose object is still
open shows as a Draft.  Nothing is checked that only the whole can tell: parse_value does that.
The prefix may end anywhere: inside an escape, a name, a number, a literal.

A parser reads every character once and calls nothing by itself: its work is linear in the length of the text and in the
depth of each value's path.  Only a growing text that a reader holds on to is copied by the next feed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .errors import GrammarError
from .partial_values import Draft, Growing, arms, read_softly, shows_growth
from .python_types import shape_of
from .scalar_types import Real
from .type_shapes import Anything, OneOf, Shape

__all__ = ["Draft", "Partial", "PartialParser", "Path", "partial"]

Path = tuple[str | int, ...]  # names and indices, as JSON has them; () is the whole value

MOST_LEVELS = 1_000  # json.loads takes no more either

_BLANKS = re.compile(r"[ \t\n\r]*")
_TEXT_RUN = re.compile(r'[^"\\\x00-\x1f]+')
_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_LOW_HALF = re.compile(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ESCAPE_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_LOW_HALF_BEGUN = re.compile(r"(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?")
_NUMBER_RUN = re.compile(r"[-+.0-9eE]+")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_LITERALS = {"t": ("true", True), "f": ("false", False), "n": ("null", None)}
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Partial:
    """value     what is there so far; None while nothing is
    complete  the paths of what will not change any more
    finished  the whole value is complete"""

    value: Any
    complete: frozenset[Path]
    finished: bool


def partial(tp_or_schema: Any, prefix: str) -> Partial:
    """The value that a prefix of JSON text stands for.  GrammarError if it is no prefix of JSON.

    tp_or_schema  a type, as for schema_of; or a JSON Schema (a dict): then the value is dicts and lists"""
    parser = PartialParser(tp_or_schema)
    parser.feed(prefix)
    return Partial(parser.value, frozenset(parser.complete), parser.finished)


class PartialParser:
    """value     what is there so far; live: the next feed changes it in place where it can
    complete  the paths of what is complete, in the order in which it came to be
    finished  the whole value is complete; of a number by itself only `end` can tell"""

    def __init__(self, tp_or_schema: Any) -> None:
        is_schema = isinstance(tp_or_schema, (dict, bool))
        self.value: Any = None
        self.complete: list[Path] = []
        self.finished = False
        self._shape: Shape = Anything() if is_schema else shape_of(tp_or_schema)
        self._open: list[Growing] = []
        self._state = self._at_value
        self._rest = ""  # an escape or a literal whose end has not come yet
        self._read = 0  # characters before _rest
        self._text: list[str] = []  # pieces of the current string, name or number; without those shown already
        self._shows = False  # the current string is in its place while it grows

    def feed(self, chunk: str) -> Any:
        """More text; returns `value`.  GrammarError with the offset if it is not JSON."""
        text = self._rest + chunk
        at = 0
        while at < len(text):
            after = self._state(text, at)
            if after is None:  # the rest is too short to tell
                break
            at = after
        self._rest = text[at:]
        self._read += at
        if self._shows and self._text:
            self._put(self._whole_text())
        return self.value

    def end(self) -> Any:
        """No more text will come; returns `value`, which is then not None because of a number alone."""
        if self._state == self._in_number and not self._open:
            self.feed(" ")
        return self.value

    # ---- states: each reads on from `at` and returns where it stopped

    def _at_value(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at == len(text):
            return at
        char = text[at]
        if char in "{[":
            if len(self._open) == MOST_LEVELS:
                raise GrammarError(f"nested more than {MOST_LEVELS} levels deep at character {self._read + at}")
            growing = Growing(self._child(), char == "{")
            self._put(growing.view)
            self._open.append(growing)
            self._state = self._at_first_name if growing.is_object else self._at_first_item
            return at + 1
        if char == '"':
            self._text = []
            self._shows = shows_growth(self._child())
            if self._shows:
                self._put("")
            self._state = self._in_string
            return at + 1
        if char in _LITERALS:
            word, value = _LITERALS[char]
            if text.startswith(word, at):
                self._complete(value, "null" if value is None else "boolean")
                return at + len(word)
            if not word.startswith(text[at:]):
                raise self._unexpected(text, at)
            return None
        if char not in "-0123456789":
            raise self._unexpected(text, at)
        self._text = []
        self._state = self._in_number
        return at

    def _at_first_item(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at < len(text) and text[at] == "]":
            self._close()
            return at + 1
        if at < len(text):
            self._open[-1].next_item()
            self._state = self._at_value
        return at

    def _at_first_name(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at < len(text) and text[at] == "}":
            self._close()
            return at + 1
        return self._at_name(text, at)

    def _at_name(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at == len(text):
            return at
        if text[at] != '"':
            raise self._unexpected(text, at)
        self._text = []
        self._state = self._in_name
        return at + 1

    def _in_name(self, text: str, at: int) -> int | None:
        if text[at] != '"':
            return self._string_goes_on(text, at)
        self._open[-1].next_name("".join(self._text))
        self._state = self._at_colon
        return at + 1

    def _at_colon(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at == len(text):
            return at
        if text[at] != ":":
            raise self._unexpected(text, at)
        self._state = self._at_value
        return at + 1

    def _after_value(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at == len(text):
            return at
        growing = self._open[-1]
        if text[at] == ("}" if growing.is_object else "]"):
            self._close()
        elif text[at] != ",":
            raise self._unexpected(text, at)
        elif growing.is_object:
            self._state = self._at_name
        else:
            growing.next_item()
            self._state = self._at_value
        return at + 1

    def _at_end(self, text: str, at: int) -> int | None:
        at = self._skip_blanks(text, at)
        if at < len(text):
            raise self._unexpected(text, at)
        return at

    def _in_string(self, text: str, at: int) -> int | None:
        if text[at] != '"':
            return self._string_goes_on(text, at)
        self._complete(self._whole_text(), "string")
        self._shows = False
        return at + 1

    def _string_goes_on(self, text: str, at: int) -> int | None:
        run = _TEXT_RUN.match(text, at)
        if run is not None:
            self._text.append(run.group())
            return run.end()
        escape = _ESCAPE.match(text, at)
        if escape is None:
            if len(text) - at > 5 or not _ESCAPE_BEGUN.fullmatch(text, at):
                raise self._unexpected(text, at)
            return None
        written, after = escape.group(), escape.end()
        if written[1] != "u":
            self._text.append(_ESCAPED[written[1]])
            return after
        code = int(written[2:], 16)
        if 0xD800 <= code < 0xDC00:  # half a character: the other half may follow
            low = _LOW_HALF.match(text, after)
            if low is not None:
                self._text.append(chr(0x10000 + (code - 0xD800) * 0x400 + int(low.group()[2:], 16) - 0xDC00))
                return low.end()
            if _LOW_HALF_BEGUN.fullmatch(text, after):
                return None
        self._text.append(chr(code))
        return after

    def _whole_text(self) -> str:
        """The current string.  Nothing but its place holds what is shown, so that CPython appends to it without a copy
        unless a reader holds it, too."""
        text = ""
        if self._shows:
            text = self._open[-1].take() if self._open else self.value
            if not self._open:
                self.value = None
        text += "".join(self._text)
        self._text = []
        return text

    def _in_number(self, text: str, at: int) -> int | None:
        run = _NUMBER_RUN.match(text, at)
        if run is not None:
            self._text.append(run.group())
            return run.end()
        number = "".join(self._text)
        found = _NUMBER.fullmatch(number)
        try:
            if found is None:
                raise ValueError("malformed number")
            value = Real(number) if found.group(1) or found.group(2) else int(number)
        except ValueError as error:
            raise GrammarError(f"not JSON: {error}: {number:.40} before character {self._read + at}") from None
        self._complete(value, "number")
        return at

    # ---- values

    def _child(self) -> Shape:
        return self._open[-1].child() if self._open else self._shape

    def _put(self, value: Any) -> None:
        if self._open:
            self._open[-1].put(value)
        else:
            self.value = value

    def _complete(self, data: Any, kind: str) -> None:
        found = arms(self._child(), kind)
        self._settle(read_softly(OneOf("", found) if found else Anything(), data))

    def _close(self) -> None:
        self._settle(self._open.pop().built())

    def _settle(self, value: Any) -> None:
        """The value at the current place is complete."""
        self._put(value)
        self.complete.append(tuple(each.name for each in self._open))
        if self._open:
            self._open[-1].completed_child()
            self._state = self._after_value
        else:
            self.finished = True
            self._state = self._at_end

    def _skip_blanks(self, text: str, at: int) -> int:
        found = _BLANKS.match(text, at)
        assert found is not None
        return found.end()

    def _unexpected(self, text: str, at: int) -> GrammarError:
        return GrammarError(f"not JSON: unexpected {text[at : at + 12]!r} at character {self._read + at}")
