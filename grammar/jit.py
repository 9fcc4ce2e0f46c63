"""How this package's loops are compiled: when they are imported, from numba's cache on disk if they are there.

A loop's name in that cache holds a digest of the sources of all loops.  numba itself looks at the time of the loop's
own file alone, and would go on with constants and inner loops of other files that have changed since."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numba


def sources() -> list[Path]:
    """The files that compiled code depends on."""
    folder = Path(__file__).parent
    return [folder / name for name in ("jit.py", "rules.py", "trie_kernels.py")] + sorted((folder / "pda").glob("*.py"))


def digest(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for file in files:
        text = file.read_bytes()
        found.update(b"%d\0" % len(text) + text)
    return found.hexdigest()[:12]


_DIGEST = digest(sources())

watchers: list[Callable[[], None]] = []  # told of each loop that is ready (warm_up.py)


def jit(signature: str) -> Any:
    """A loop for one signature.  It never compiles anything while a request waits."""

    def compiled(function: Any) -> Any:
        function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
        loop = numba.njit(signature, cache=True, nogil=True)(function)
        for watcher in watchers:
            watcher()
        return loop

    return compiled


def num_loops() -> int:
    """How many there are in all."""
    return sum(file.read_text(encoding="utf-8").count("\n@jit(") for file in sources())
