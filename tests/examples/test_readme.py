"""What the README says is true: its program prints what stands below it, its commands and links exist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RunFile = Callable[[Path], str]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.slow
def test_the_program_prints_what_the_readme_shows(tmp_path: Path, run_file: RunFile) -> None:
    """Its answers are the model's, and on another processor a close call may go the other way: then what the program
    guarantees has to hold, and the figures have to be about the same."""
    (program,) = blocks("python")
    (shown,) = blocks("text")
    path = tmp_path / "program.py"
    path.write_text(program, encoding="utf-8")
    printed = run_file(path)
    if printed == shown:
        return
    *rows, figures = printed.splitlines()
    *shown_rows, shown_figures = shown.splitlines()
    assert len(rows) == len(shown_rows)
    for row in rows:
        _, continent, card = row.split(" | ")
        assert continent in {"Africa", "America", "Asia", "Europe"}
        assert set(json.loads(card)) == {"city", "country"}
    numbers, shown_numbers = (list(map(int, re.findall(r"\d+", line))) for line in (figures, shown_figures))
    assert all(abs(a - b) < 0.2 * b for a, b in zip(numbers, shown_numbers, strict=True)), f"{figures!r}"


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_command_exists(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", (ROOT / name).read_text(encoding="utf-8")))
    assert named
    assert named <= targets


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_every_path_that_is_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#]+)\)", text)
    quoted = re.findall(r"`((?:forktree|lang|runtime|radix_cache|grammar|tests|examples|docs)/[\w/.]*)`", text)
    beside = (ROOT / name).parent
    missing = [path for path in linked if "://" not in path and not (beside / path).exists()]
    missing += [path for path in quoted if not (ROOT / path).exists()]
    assert not missing


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "make test" in blocks("sh")[0]
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("make test")
