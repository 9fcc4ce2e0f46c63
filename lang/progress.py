"""A progress bar over something that is iterated anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["progress_of"]

T = TypeVar("T")


def progress_of(items: Iterable[T], total: int, shown: bool) -> Iterator[T]:
    """The items; with a bar on the terminal's error stream if it is to be shown."""
    if not shown:
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, description="programs", total=total, console=Console(stderr=True))
