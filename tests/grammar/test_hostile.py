"""Hostile constraints cost a second and 200 MB at most, and end in masks or in a typed error.

Each is tried in a fork of one warm process (tests/support/hostile_child.py), so that what it costs is its own, and a
hang or a crash is one failed test."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_inputs import INPUTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads Linux's ru_maxrss"),
]

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 1.0
MEGABYTES = 200.0
TYPED = {"SchemaError", "RegexError", "EbnfError", "GrammarTooComplex"}

Child = subprocess.Popen[str]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    command = [sys.executable, "-m", "tests.support.hostile_child"]
    with subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the process for hostile inputs did not start"
        yield process
        process.terminate()


@pytest.mark.parametrize("name", INPUTS)
def test_a_hostile_constraint_gives_masks_or_a_typed_error_soon(child: Child, name: str) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{name}\n")
    child.stdin.flush()
    answer: dict[str, Any] = json.loads(child.stdout.readline())
    took = f"{answer['outcome']} after {answer['seconds']:.2f} s and {answer['megabytes']:.0f} MB: {answer['message']}"
    assert answer["outcome"] in {"done", *TYPED}, took
    assert answer["seconds"] <= SECONDS, took
    assert answer["megabytes"] <= MEGABYTES, took
