"""Fixtures that every test may use: the default model and engines on it, started once a session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

# A first call compiles or loads loops, and collecting garbage takes its time in a run of thousands of tests:
# how long one example takes says nothing.
settings.register_profile("forktree", deadline=None)
settings.load_profile("forktree")

if TYPE_CHECKING:
    from forktree.runtime import Engine

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the engine process has it; read once, when torch is loaded


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The default model on a thread of the test process. Shared: a test leaves it as it found it but for its cache."""
    from forktree.runtime import Engine

    with Engine(in_process=True, num_pages=8192) as engine:
        yield engine


@pytest.fixture(scope="session")
def process_engine() -> Iterator[Engine]:
    """The default model in an engine process, as users run it. Shared, as above."""
    from forktree.runtime import Engine

    with Engine(num_pages=8192) as engine:
        yield engine
