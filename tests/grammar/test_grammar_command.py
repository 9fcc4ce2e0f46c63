"""forktree grammar: what may come after a text, why something may not, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from forktree.cli import app

SCHEMA = '{"type": "object", "properties": {"age": {"type": "integer", "minimum": 30}}, "required": ["age"]}'


def grammar(file: Path, text: str, *options: str) -> tuple[int, str]:
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["grammar", str(file), *options])
    return result.exit_code, result.output


def test_a_token_that_does_not_fit_is_explained(tmp_path: Path) -> None:
    code, said = grammar(tmp_path / "s.json", SCHEMA, "--text", '{"age": 3', "--token", "}")
    assert code == 1
    assert (
        "«}» cannot come\n    may come: 0-9\n    by:       #/properties/age/minimum\njson_schema: compiled in" in said
    )


def test_a_token_that_fits_and_a_text_that_does_not(tmp_path: Path) -> None:
    code, said = grammar(tmp_path / "p.regex", "ab+c\n", "--text", "ab", "--token", "bb")
    assert (code, said.splitlines()[0]) == (0, "«bb» fits; 1 bytes or more must follow it")
    code, said = grammar(tmp_path / "p.regex", "ab+c\n", "--text", "abx")
    assert (code, said.splitlines()[0]) == (1, "after 2 of 3 bytes: «x» cannot come")


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [("g.lark", 'start: "x"', ()), ("g.gbnf", 'root ::= "x"', ()), ("g", 'root ::= "x"', ("--kind", "gbnf"))],
)
def test_what_may_come_is_said_where_no_token_is_asked_for(
    tmp_path: Path, name: str, text: str, kind: tuple[str, ...]
) -> None:
    code, said = grammar(tmp_path / name, text, *kind)
    assert code == 0
    assert "may come: «x»" in said or "may come: x" in said


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    code, said = grammar(tmp_path / "p.regex", "(a")
    assert code == 1
    assert "p.regex" in said
    assert "offset" in said
    assert grammar(tmp_path / "p.regex", "a", "--kind", "xml")[0] == 2
    assert CliRunner().invoke(app, ["grammar", str(tmp_path / "none")]).exit_code == 2
