"""forktree explain: which program, with which arguments, shown how."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from forktree import cli
from forktree.explain_command import WrongUse, explain, find_program, read_arguments
from forktree.testing import ScriptedBackend

SOURCE = """
import forktree as ft

NUMBER = 3

@ft.function
def greet(s, name, times=1):
    for _ in range(times):
        s += f"Hello {name}" + ft.gen("word", max_tokens=4)
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("sys.path", [*sys.path])
    path = tmp_path / "programs.py"
    path.write_text(SOURCE)
    return str(path)


def said(target: str, *arguments: str, **options: Any) -> list[str]:
    lines: list[str] = []
    given = {"analyze": False, "as_json": False, "html": None, **options}
    explain(target, arguments, backend=ScriptedBackend("you"), say=lines.append, **given)
    return lines


def test_a_program_of_a_file_is_explained_with_its_arguments(file: str) -> None:
    (text,) = said(f"{file}:greet", "name=Ada", "times=2")
    assert "2 calls" in text
    assert "Hello Ada" in text


def test_what_is_left_out_stays_open(file: str) -> None:
    assert "left open: name" in said(f"{file}:greet")[0]


def test_json_goes_to_stdout_and_html_to_its_file(file: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    (text,) = said(f"{file}:greet", "name=Ada", as_json=True, html=page)
    assert json.loads(text)["program"] == "greet"
    assert "Hello Ada" in page.read_text(encoding="utf-8")
    assert said(f"{file}:greet", html=page) == []


def test_analyze_runs_it(file: str) -> None:
    assert "computed by the run" in said(f"{file}:greet", "name=Ada", analyze=True)[0]


def test_a_module_is_imported_by_its_name(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(file).parent))
    assert find_program("programs:greet").name == "greet"


def test_a_value_is_json_where_it_reads_as_json_and_else_text(file: str) -> None:
    program = find_program(f"{file}:greet")
    assert read_arguments(['name=["a"]', "times=2"], program) == {"name": ["a"], "times": 2}
    assert read_arguments(["name=a=b"], program) == {"name": "a=b"}
    assert read_arguments(['name="2"'], program) == {"name": "2"}


@pytest.mark.parametrize(
    ("target", "arguments", "message"),
    [
        ("greet", [], "wanted module:program"),
        ("FILE:", [], "wanted module:program"),
        ("FILE:nobody", [], "has no 'nobody'; its programs are: greet"),
        ("FILE:NUMBER", [], "'NUMBER' in .* is no program; its programs are: greet"),
        ("nowhere.py:greet", [], "nowhere.py: no such file"),
        ("no_such_module:greet", [], "no module 'no_such_module'"),
        ("FILE:greet", ["name"], "wanted name=value"),
        ("FILE:greet", ["=1"], "wanted name=value"),
        ("FILE:greet", ["age=1"], "no argument 'age'; it has name, times"),
        ("FILE:greet", ["name=1", "name=2"], "'name' is given twice"),
    ],
)
def test_wrong_use_is_told_in_one_line(file: str, target: str, arguments: list[str], message: str) -> None:
    with pytest.raises(WrongUse, match=message) as raised:
        said(target.replace("FILE", file), *arguments)
    assert "\n" not in str(raised.value)


def test_a_page_that_cannot_be_written_is_told(file: str, tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="--html: can't write"):
        said(f"{file}:greet", html=tmp_path / "nowhere" / "page.html")


def test_an_import_that_fails_inside_a_module_is_the_modules_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_programs.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        find_program("broken_programs:greet")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["FILE:nobody"], 2, "has no 'nobody'"),
        (["FILE:greet", "--model", "a", "--url", "http://b"], 2, "not both"),
        (["FILE:greet", "--arg", "name=x", "--url", "http://127.0.0.1:9"], 1, "can't be reached"),
        (["FILE:greet", "--analyze", "--url", "http://127.0.0.1:9"], 1, "name"),
    ],
)
def test_the_command_ends_with_its_code_and_a_line(
    file: str, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.app(["explain", *(each.replace("FILE", file) for each in arguments)], standalone_mode=True)
    assert ended.value.code == code
    assert message in capsys.readouterr().err
