r"""Pattern text -> syntax tree; errors with offsets.  What a tree matches: regex.py.

Two dialects.  "python": the meaning of re.fullmatch(pattern, text) for str patterns, and \p{..} as the regex module has
it.  "ecma": what JSON Schema asks of `pattern`: ECMA-262 with the u flag, searched for anywhere (\d and \w are ASCII, $
is the very end, . is no line end).
Both: literals, ., classes, escapes, (), (?:), (?P<n>) and (?<n>), flags i s m (python: also a u x, and comments), |,
* + ? {m,n} and their lazy forms (which match the same texts), ^ $ \b \B.  ecma: also (?=..), (?!..), (?<=..), (?<!..).
Refused, because no automaton over the text has them or their meaning is not local: back-references, conditionals,
atomic groups, possessive repetition; lookaround in python.  Nothing is read loosely: what is not known is refused."""

from __future__ import annotations

import re

from .char_classes import EMPTY_TEXT_IS_NO_BOUNDARY
from .expressions import INFINITE
from .regex_characters import CharacterReader, Dialect, Flags
from .regex_tree import Anchor, Assertion, Boundary, Chars, Choice, Look, Node, Repeat, Sequence_

MAX_NESTING = 100  # groups within groups
MAX_REPEAT = 1_000_000
MAX_ASSERTIONS = 500

_COUNTS = re.compile(r"\{(?P<low>\d*)(?P<comma>,?)(?P<high>\d*)\}", re.ASCII)
_ORDINARY = re.compile(r"[^\\^$.|?*+()\[\]{}\ud800-\udfff]+(?![*+?{(])")
_LOOKS = (("?=", False, False), ("?!", False, True), ("?<=", True, False), ("?<!", True, True))
_REFUSED = (
    ("=", "lookahead"), ("!", "negative lookahead"), ("<=", "lookbehind"), ("<!", "negative lookbehind"),
    (">", "an atomic group"), ("P=", "a back-reference"), ("P>", "recursion"), ("(", "a conditional"),
)  # fmt: skip


def parse(pattern: str, dialect: Dialect = "python") -> Node:
    """The syntax tree of a pattern, or RegexError."""
    return _Parser(pattern, dialect).parse()


class _Parser(CharacterReader):
    """Recursive descent."""

    def __init__(self, pattern: str, dialect: Dialect) -> None:
        super().__init__(pattern, dialect)
        self.depth = 0
        self.names: set[str] = set()
        self.assertions_left = MAX_ASSERTIONS
        self._plain: dict[tuple[str, bool, bool], Chars] = {}

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
        self._skip_ignored()
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            if not self.flags.verbose:
                items += self._ordinary()
            start = self.at
            if start == len(self.pattern) or self.pattern[start] in "|)":
                break
            item = self._item()
            self._skip_ignored()
            if isinstance(item, Assertion):
                self.assertions_left -= 1
                if self.assertions_left < 0:
                    self._fail(f"more than {MAX_ASSERTIONS} assertions", start)
            items.append(self._repeated(item, start))
            self._skip_ignored()
        return items[0] if len(items) == 1 else Sequence_(tuple(items))

    def _ordinary(self) -> list[Chars]:
        """Characters that stand for themselves and that nothing repeats."""
        run = _ORDINARY.match(self.pattern, self.at)
        if run is None:
            return []
        self.at = run.end()
        plain, ignore_case, ascii_only = self._plain, self.flags.ignore_case, self.flags.ascii
        found = []
        for c in run[0]:
            key = (c, ignore_case, ascii_only)
            if key not in plain:
                plain[key] = Chars(self._cased(((ord(c), ord(c)),)))
            found.append(plain[key])
        return found

    def _skip_ignored(self) -> None:
        """Comments, and under the flag x white space."""
        if self.dialect == "ecma":
            return
        while True:
            if self.pattern.startswith("(?#", self.at):
                end = self.pattern.find(")", self.at)
                if end < 0:
                    self._fail("missing ) after a comment", self.at)
                self.at = end + 1
            elif self.flags.verbose and self.pattern.startswith(tuple(" \t\n\r\v\f"), self.at):
                self.at += 1
            elif self.flags.verbose and self.pattern.startswith("#", self.at):
                end = self.pattern.find("\n", self.at)
                self.at = len(self.pattern) if end < 0 else end + 1
            else:
                return

    def _item(self) -> Node:
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
            last_newline = c == "$" and self.dialect == "python"
            return Anchor(c == "^", start, last_newline, self.flags.lines, self._line_ends())
        if c in "*+?":
            self._fail("nothing to repeat", start, f"write \\{c} for the sign")
        return Chars(self._cased(self._single(ord(c), start)))

    def _escape(self, start: int) -> Node:
        letter = self._letter(start)
        if letter in "dDsSwW":
            return Chars(self._cased(self._shorthand(letter)))
        if letter in "bB":
            return Boundary(self._word(), letter == "B", start, self.dialect == "ecma" or EMPTY_TEXT_IS_NO_BOUNDARY)
        if letter in "pP":
            return Chars(self._cased(self._property(letter == "P", start)))
        if self.dialect == "python" and letter in "AZ":
            return Anchor(letter == "A", start)
        if letter in "123456789" and not (self.dialect == "python" and self._octal_length(start) == 3):
            self._fail("a back-reference is not supported", start)
        return Chars(self._cased(self._single(self._code(letter, start, in_class=False), start)))

    def _group(self, start: int) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            self._fail(f"more than {MAX_NESTING} groups within groups", start)
        outer = self.flags
        look = self._look() if self.dialect == "ecma" else None
        if look is None and self._take("?"):
            self._group_kind(start)
        node = self._choice()
        if not self._take(")"):
            self._fail("missing )", start, "this group is not closed")
        self.flags = outer
        self.depth -= 1
        # A group is kept apart from its surroundings even if it is one sequence.
        return node if look is None else Look(node, *look, start)

    def _look(self) -> tuple[bool, bool] | None:
        """(behind, negated) of the lookaround that starts here, or None and nothing is consumed."""
        for sign, behind, negated in _LOOKS:
            if self._take(sign):
                return behind, negated
        return None

    def _group_kind(self, start: int) -> None:
        """What follows "(?": leaves the parser at the group's content."""
        if self._take(":"):
            return
        for sign, meaning in _REFUSED:
            if self.pattern.startswith(sign, self.at):
                self._fail(f"{meaning} is not supported", start, "state what may come instead")
        if self.pattern.startswith(("P<", "<"), self.at):
            with_p = self._take("P")
            self.at += 1
            if self.dialect == "python" and not with_p:
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

    def _flag_letters(self, end: str) -> Flags:
        on, off = set[str](), set[str]()
        current = on
        start = self.at
        while self.at < len(self.pattern) and self.pattern[self.at] != end:
            letter = self.pattern[self.at]
            if letter == "-" and current is on:
                current = off
            elif letter in "isaumx" and not (letter in "au" and current is off):
                current.add(letter)
            elif letter == "L":
                self._fail("the flag L is not supported", hint="i, s, m, x, a and u are")
            else:
                self._fail("unknown extension (?" + letter, start)
            self.at += 1
        if not self._take(end):
            self._fail(f"missing {end} after flags", start)
        if self.dialect == "ecma" and (on | off) - set("ism"):
            self._fail("unknown flag", start, "i, s and m are known here")
        if on & off or {"a", "u"} <= on or (current is off and not off) or not (on | off):
            self._fail("contradictory or missing flags", start)
        flags = self.flags
        return Flags(
            ("i" in on or flags.ignore_case) and "i" not in off,
            ("s" in on or flags.dot_all) and "s" not in off,
            ("a" in on or flags.ascii) and "u" not in on,
            ("m" in on or flags.lines) and "m" not in off,
            ("x" in on or flags.verbose) and "x" not in off,
        )

    # -- repetition

    def _repeated(self, item: Node, start: int) -> Node:
        bounds = self._quantifier()
        if bounds is None:
            return item
        if isinstance(item, Look) or (isinstance(item, Assertion) and self.pattern[start] != "("):
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
        counts = _COUNTS.match(self.pattern, start) if c == "{" else None
        if counts is None:
            return None
        low, comma, high = counts.groups()
        if not low and (not comma or self.dialect == "ecma"):
            return None
        least = int(low[:8]) if low else 0
        most = int(high[:8]) if high else INFINITE if comma else least
        if least > MAX_REPEAT or (most > MAX_REPEAT and most != INFINITE):
            self._fail(f"a repetition above {MAX_REPEAT:,}", start)
        self.at = counts.end()
        return least, most, start
