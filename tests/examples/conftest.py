"""One engine for every example: it starts once, and the examples meet it where they ask for a Runtime."""

from __future__ import annotations

import contextlib
import io
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forktree
from forktree.lang.backends.local import LocalBackend
from forktree.runtime import Engine

RunFile = Callable[[Path], str]


class FreshRuntime(LocalBackend):
    """An engine that others use too, as if it had just been started: an empty cache, and counts from here on."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        engine.flush_cache()
        self._before = engine.stats()

    def get_server_info(self) -> dict[str, Any]:
        stats = self.engine.stats()
        return {name: getattr(stats, name) - getattr(self._before, name) for name in stats.__struct_fields__}

    def __enter__(self) -> FreshRuntime:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


@pytest.fixture
def run_file(process_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> RunFile:
    """Run a file as `python FILE` would, on the shared engine; what it printed."""
    monkeypatch.setattr(forktree, "Runtime", lambda: FreshRuntime(process_engine))

    def run(path: Path) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(path), run_name="__main__")
        return printed.getvalue()

    return run
