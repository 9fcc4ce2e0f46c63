"""Progress of long work at the start, for people: one bar on a terminal, silence elsewhere.

Imported by the Engine facade; rich is loaded only when there is something to show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def default_progress(stream: TextIO) -> Callable[[str, float], None]:
    """A callback for (what, fraction) that draws on `stream` if that is a terminal."""
    try:
        on_terminal = stream.isatty()
    except (AttributeError, ValueError):
        on_terminal = False
    return _Bar().show if on_terminal else _silent


def _silent(what: str, fraction: float) -> None:
    del what, fraction


class _Bar:
    """One rich bar, from the first fraction below 1 until 1."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, fraction: float) -> None:
        from rich.console import Console
        from rich.progress import Progress

        if self._progress is None:
            self._progress = Progress(console=Console(stderr=True), transient=True)
            self._progress.start()
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=1.0)
        self._progress.update(self._tasks[what], completed=fraction)
        if fraction >= 1.0:
            self._progress.stop()
            self._progress = None
            self._tasks.clear()
