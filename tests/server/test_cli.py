"""The command line, as far as it goes without a model."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import forktree
from forktree import cli


def forktree_command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forktree", *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_version_is_printed() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert (done.exit_code, done.output.strip()) == (0, f"forktree {forktree.__version__}")


@pytest.mark.slow
def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['forktree', '--help']\nimport forktree.cli\n"
        "try:\n    forktree.cli.main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'aiohttp', 'numba', 'msgspec', 'zmq'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    best = min(_seconds(code) for _ in range(3))
    assert best < 1.5, f"{best:.2f} s"


def _seconds(code: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "serve" in done.stdout
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["serve", "--port", "99999"], "port"),
        (["serve", "--policy", "random"], "policy"),
        (["serve", "--grammar-backend", "xgrammar"], "grammar_backend"),
        (["serve", "--page-size", "0"], "page_size"),
        (["serve", "--log-format", "xml"], "--log-format"),
        (["serve", "--drain-seconds", "-1"], "drain_seconds"),
        (["run", "/no/such/file.py"], "/no/such/file.py"),
        (["run", "--model", "m", "--url", "http://x", __file__], "--model or --url"),
        (["run", "--url", "foo", __file__], "--url: got 'foo', wanted something like http://localhost:30000"),
        (["run", "--model", "/no/such/model", __file__], "--model: /no/such/model: no such file or directory"),
        (["run", "--modle", "m", __file__], "--modle"),
    ],
)
def test_wrong_usage_is_named_and_leaves_with_two(
    args: list[str], named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["forktree", *args])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert named in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("command", [["serve"], ["fetch"]])
def test_a_missing_engine_is_told_with_the_command_that_installs_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    monkeypatch.setattr(sys, "argv", ["forktree", *command])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    shown = capsys.readouterr().err
    assert "torch" in shown
    assert "pip install 'forktree[engine]'" in shown


@pytest.mark.slow
def test_a_port_in_use_is_told_in_one_line() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = forktree_command("serve", "--port", str(port))
    assert done.returncode == 1
    assert f"can't listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


class Recorded:
    """Stands for Runtime and RuntimeEndpoint."""

    made: list[Any]

    def __init__(self, url: str) -> None:
        self.url, self.closed, self.used = url, False, True
        Recorded.made.append(self)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def run_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a file's text with `forktree run`; gives exit code and the backend that was set for it."""
    Recorded.made = []
    backends: list[Any] = []
    monkeypatch.setattr(forktree, "RuntimeEndpoint", Recorded, raising=False)
    monkeypatch.setattr(forktree, "set_default_backend", backends.append, raising=False)
    monkeypatch.setattr(sys, "path", sys.path[:])

    def run(text: str, *args: str, url: str | None = "http://x") -> tuple[int, Any]:
        file = tmp_path / "program.py"
        file.write_text(text)
        options = ["--url", url] if url is not None else []
        monkeypatch.setattr(sys, "argv", ["forktree", "run", *options, str(file), *args])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), backends[-1]

    return run


def test_a_file_runs_as_main_with_its_arguments(run_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Options after the file are the file's own, those that `forktree run` has too included."""
    args = ["a", "--flag", "-k", "--model", "foo", "--url", "--help"]
    code, backend = run_file("import sys; print(__name__, sys.argv[1:])", *args)
    assert (code, backend.url, backend.closed) == (0, "http://x", True)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (f"__main__ {args}\n", "")


def test_a_file_finds_its_neighbours(run_file: Any, tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_program.py").write_text("x = 1")
    assert run_file("import neighbour_of_program")[0] == 0


def test_an_error_in_a_file_shows_the_files_lines_only(run_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, backend = run_file("def f():\n    1 / 0\nf()\n")
    shown = capsys.readouterr().err
    assert (code, backend.closed) == (1, True)
    assert "ZeroDivisionError" in shown
    assert "program.py" in shown
    assert "runpy" not in shown
    assert "cli.py" not in shown


def test_a_file_says_its_own_exit_code(run_file: Any) -> None:
    assert run_file("import sys; sys.exit(7)")[0] == 7


@pytest.mark.parametrize("mistake", ["s += f'{ft.gen()}'", "s['nothing']", "1 / 0", "ft.Runtime(tp_size=2)"])
def test_an_error_in_a_program_shows_none_of_our_frames(
    mistake: str, run_file: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = "from tests.support.scripted_backend import ScriptedBackend\n"
    program = (
        f"import forktree as ft\n{backend}@ft.function\ndef f(s):\n    {mistake}\nf.run(backend=ScriptedBackend())\n"
    )
    code, _ = run_file(program)
    shown = capsys.readouterr().err
    assert code == 1
    assert shown.count("Traceback") == 1
    assert 'program.py", line 5, in f' in shown
    assert shown.count('  File "') == 2, shown  # the call and the mistake


def test_a_failed_node_and_its_cause_are_shown_in_few_lines(run_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run_file(
        "import forktree as ft\n"
        "from tests.support.scripted_backend import ScriptedBackend\n"
        "answer = ft.RequestRefused('too long')\n"
        "ft.function(lambda s: s.__iadd__(ft.gen('x'))).run(backend=ScriptedBackend(answer))\n"
    )
    shown = capsys.readouterr().err
    assert code == 1
    assert "RequestRefused: too long" in shown
    assert 'gen("x") at' in shown
    assert shown.count('  File "') == 1, shown


def test_a_file_that_is_no_python_is_shown_with_its_line(run_file: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run_file("x = 1\ndef f(:\n")
    shown = capsys.readouterr().err
    assert code == 1
    assert 'program.py", line 2' in shown
    assert "SyntaxError" in shown
    assert "Traceback" not in shown


def test_a_backend_that_was_asked_for_and_not_used_is_told(
    run_file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forktree, "RuntimeEndpoint", lambda url: SimpleNamespace(used=False, close=lambda: None))
    assert run_file("x = 1")[0] == 0
    assert capsys.readouterr().err.startswith("forktree: nothing ran on --url: ")
    assert run_file("x = 1", url=None)[0] == 0
    assert capsys.readouterr().err == ""


def test_a_file_that_uses_no_engine_starts_none(run_file: Any) -> None:
    code, backend = run_file("x = 1", url=None)
    assert code == 0
    assert not backend.used


def test_sglangs_names_that_are_not_offered_say_what_is() -> None:
    for name in ("Anthropic", "LiteLLM", "VertexAI", "Crusoe"):
        with pytest.raises(AttributeError, match=rf"no attribute {name!r}: .*ft\."):
            getattr(forktree, name)
        assert not hasattr(forktree, name)
