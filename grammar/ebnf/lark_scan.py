"""A look at a lark grammar's text before lark reads it.

lark's lexer takes exponential time over a text or pattern that is not closed, and its parser knows no bound on nesting:
both are refused here, in one pass, with the place."""

from __future__ import annotations

import re

from .text import fail

MAX_LARK_CHARACTERS = 200_000
MAX_LARK_WORDS = 15_000  # names, texts and signs: lark reads some 35,000 a second, and nothing can stop it
MAX_LARK_NESTING = 100

TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|\#[^\n]*|[^"/\#()\[\]{}]+)
      | (?P<text>"(?:[^"\\\n]|\\[^\n])*")
      | (?P<pattern>/(?:[^/\\]|\\.)+/)
      | (?P<opens>[(\[{])
      | (?P<closes>[)\]}])""",
    re.VERBOSE | re.DOTALL,
)
WORD = re.compile(r"\w+|\S")


def scan(text: str) -> None:
    """Raise EbnfError if lark should not see this."""
    if len(text) > MAX_LARK_CHARACTERS:
        fail(f"a grammar of more than {MAX_LARK_CHARACTERS:,} characters", text, 0)
    if "\0" in text:
        fail("NUL means nothing here", text, text.index("\0"), r"write \x00 inside a terminal")
    depth = at = words = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            what = "text" if text[at] == '"' else "pattern"
            fail(f"this {what} is not closed", text, at, "write \\/ for the sign" if what == "pattern" else "")
        depth += (match.lastgroup == "opens") - (match.lastgroup == "closes")
        if depth > MAX_LARK_NESTING:
            fail(f"more than {MAX_LARK_NESTING} groups within groups", text, at)
        comment = match.lastgroup == "skip" and text[at] in "/#"
        words += 0 if comment else len(WORD.findall(match[0])) if match.lastgroup == "skip" else 1
        if words > MAX_LARK_WORDS:
            fail(f"a grammar of more than {MAX_LARK_WORDS:,} names, texts and signs", text, at)
        at = match.end()
