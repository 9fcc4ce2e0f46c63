"""No test of the language may hang: one that does is ended, with the stacks of all threads."""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator

import pytest

import forktree as ft

LONGEST_SECONDS = 60.0


@pytest.fixture(autouse=True)
def never_hangs() -> Iterator[None]:
    faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def no_default_backend() -> Iterator[None]:
    ft.set_default_backend(None)
    yield
    ft.set_default_backend(None)
