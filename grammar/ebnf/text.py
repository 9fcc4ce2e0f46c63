"""Errors that point into a grammar's text."""

from __future__ import annotations

import re
from typing import NoReturn

from ..errors import EbnfError

MAX_NESTING = 200  # groups within groups
MAX_REPEAT = 1_000_000
MAX_CHARACTERS = 2_000_000


def fail(message: str, text: str, offset: int, hint: str = "") -> NoReturn:
    """Raise EbnfError at a character of the text."""
    offset = min(max(offset, 0), len(text))
    line = text.count("\n", 0, offset) + 1
    column = offset - (text.rfind("\n", 0, offset) + 1) + 1
    raise EbnfError(message, text=text, line=line, column=column, hint=hint) from None


def mention(text: str, name: str) -> int:
    """Where a name is first mentioned; 0 if nowhere."""
    found = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
    return found.start() if found else 0


def check_characters(text: str) -> None:
    """Refuse what cannot be written as UTF-8, and what is too long to look at."""
    if len(text) > MAX_CHARACTERS:
        fail(f"a grammar of more than {MAX_CHARACTERS:,} characters", text, 0)
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        fail("half of a surrogate pair is no character", text, surrogate.start())
