"""Fixtures that every test may use: the default model and engines on it, started once a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from forktree.runtime import Engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The default model on a thread of the test process. Shared: a test leaves it as it found it but for its cache."""
    with Engine(in_process=True, num_pages=8192) as engine:
        yield engine


@pytest.fixture(scope="session")
def process_engine() -> Iterator[Engine]:
    """The default model in an engine process, as users run it. Shared, as above."""
    with Engine(num_pages=8192) as engine:
        yield engine
