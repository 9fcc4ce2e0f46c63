"""docs/constraints.md is true: its code runs, `x  # -> y` says what x is, a text block what was printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "constraints.md"


def checked(source: str) -> str:
    """The code with a call of `is_shown` around what it says the value of."""
    shown = re.compile(r"^( *)(\S.*?)  # -> (.+)$", flags=re.MULTILINE)
    return shown.sub(lambda found: f"{found[1]}is_shown({found[2]}, {found[3]!r})", source)


def is_shown(value: Any, text: str) -> None:
    assert repr(value) == text


@pytest.mark.slow  # what it imports and compiles
def test_the_page_does_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "page", "is_shown": is_shown}
    for language, source in re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL):
        if language == "text":
            assert capsys.readouterr().out == source
        else:
            exec(compile(checked(source), str(PAGE), "exec", dont_inherit=True), names)
