"""Loops are compiled before they are needed, and again when any source that they depend on has changed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from forktree.grammar import jit, trie_kernels, warmup
from forktree.grammar.pda import interning, steps, walks


def test_it_may_be_done_again_and_again_and_tells_how_far_it_is() -> None:
    for _ in range(2):
        told: list[float] = []
        warmup(told.append)
        assert told == sorted(told)
        assert (told[0], told[-1]) == (0.0, 1.0)


def test_each_loop_is_told_of_when_it_is_ready() -> None:
    code = (
        "from forktree.grammar import warmup; told = []; warmup(told.append);"
        "assert told == sorted(told) and len(told) > 20, told"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", [trie_kernels, interning, steps, walks], ids=lambda module: module.__name__)
def test_every_loop_is_compiled_when_it_is_imported_and_never_again(module: ModuleType) -> None:
    found = [value for value in vars(module).values() if hasattr(value, "nopython_signatures")]
    loops = [loop for loop in found if loop.py_func.__name__ != "find"]  # those are part of whatever calls them
    assert loops
    for loop in loops:
        assert len(loop.nopython_signatures) == 1
        assert not loop._can_compile, f"{loop.py_func.__name__} would be compiled while a request waits"


def test_the_names_of_loops_in_the_cache_tell_all_sources_apart(tmp_path: Path) -> None:
    sources = jit.sources()
    assert {"memory.py", "steps.py", "rules.py", "trie_kernels.py"} <= {file.name for file in sources}
    files = [Path(shutil.copy(file, tmp_path / f"{i} {file.name}")) for i, file in enumerate(sources)]
    now = jit.digest(sources)
    assert jit.digest(files) == now
    for file in files:
        text = file.read_bytes()
        file.write_bytes(text + b"MORE = 1\n")
        assert jit.digest(files) != now, f"{file.name} has changed"
        file.write_bytes(text)
    assert steps.step.py_func.__qualname__.endswith(now)
