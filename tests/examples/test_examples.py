"""Every example runs on the default model and prints what it is there to show.

What a text says is the model's affair: only what a program guarantees is asserted.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
RunFile = Callable[[Path], str]


def check_quickstart(lines: list[str]) -> None:
    answer, continent, card, statistics = lines
    assert answer.startswith("answer:")
    assert len(answer) > 20
    assert continent.split()[1] in {"Africa", "America", "Asia", "Europe", "Oceania"}
    fields = ast.literal_eval(card.removeprefix("card:").strip())
    assert set(fields) == {"city", "country", "continent"}
    assert re.search(r"\d+ prompt tokens, \d+ computed, \d+ reused, \d+ tok/s", statistics)


def check_few_shot(lines: list[str]) -> None:
    assert [line.split()[0] for line in lines[:4]] == ["dog", "house", "baby", "box"]
    assert all(line.split(" -> ")[1] for line in lines[:4])
    assert lines[4] == "15 messages in the conversation"


def check_parallel_fork(lines: list[str]) -> None:
    assert [line.startswith("- ") for line in lines] == [True, True, True, False]
    assert lines[3].startswith("In summary,")


def check_tree_of_thought(lines: list[str]) -> None:
    """Whatever is claimed to make 24 does."""
    for line in lines:
        numbers, _, found = line.partition(" -> ")
        for path in [] if found == "not found" else found.split(" or "):
            assert reaches_24(ast.literal_eval(numbers), path.split("; ")), line
    assert "not found" not in lines[0]


def reaches_24(numbers: list[int], steps: list[str]) -> bool:
    left = list(numbers)
    for step in steps:
        a, sign, b, _, result = step.split()
        left.remove(int(a))
        left.remove(int(b))
        assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign] == int(result)
        left.append(int(result))
    return left == [24]


def check_react_agent(lines: list[str]) -> None:
    actions = [line for line in lines if line.startswith("Action: ")]
    assert actions
    pattern = r"Action: SELECT (name|job|age|city) FROM people WHERE (name|job|city) = '[A-Za-z]{1,12}'"
    assert all(re.fullmatch(pattern, action) for action in actions)
    assert len([line for line in lines if line.startswith("Observation: ")]) == len(actions)


def check_rag(lines: list[str]) -> None:
    """Every answer is a sentence of the document that it names."""
    assert len(lines) == 6
    for line in lines[1::2]:
        answer, source = re.fullmatch(r"  (.*)  \((.*\.md)\)", line).groups()  # type: ignore[union-attr]
        (path,) = [path for path in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")) if path.name == source]
        text = " ".join(path.read_text(encoding="utf-8").split())
        assert answer[:30] in text


def check_llm_judge(lines: list[str]) -> None:
    totals = [float(line.split()[0]) for line in lines]
    assert len(totals) == 3
    assert totals == sorted(totals, reverse=True)


def check_json_extraction(lines: list[str]) -> None:
    assert len(lines) == 3
    assert all(re.fullmatch(r"Person\(name='.*', age=\d+, job='.*', city='.*'\)", line) for line in lines)


def check_batch(lines: list[str]) -> None:
    right, total = re.match(r"(\d+) of (\d+) right", lines[-2]).groups()  # type: ignore[union-attr]
    assert int(total) == 100
    assert int(right) > 60, "the model knows most of them"
    prompt, computed = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+\d", lines[-1]))
    assert computed < prompt / 5, "one hundred programs share one prefix"


CHECKS = {
    "01_quickstart": check_quickstart,
    "02_few_shot": check_few_shot,
    "03_parallel_fork": check_parallel_fork,
    "04_tree_of_thought": check_tree_of_thought,
    "05_react_agent": check_react_agent,
    "06_rag": check_rag,
    "07_llm_judge": check_llm_judge,
    "08_json_extraction": check_json_extraction,
    "09_batch": check_batch,
}


def test_every_example_is_checked() -> None:
    assert [path.stem for path in EXAMPLES] == list(CHECKS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_shows_what_it_is_there_for(path: Path, run_file: RunFile) -> None:
    lines = run_file(path).strip().splitlines()
    try:
        CHECKS[path.stem](lines)
    except Exception:
        print("\n".join(lines))
        raise


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["examples/01_quickstart.py"], ["-m", "forktree", "run", "examples/01_quickstart.py"]]
)
def test_the_quickstart_runs_as_a_command(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    check_quickstart(result.stdout.strip().splitlines())
