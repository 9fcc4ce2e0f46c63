"""Text on its way: pieces that the loop appends and any number of readers follow, in whatever way they wait."""

from __future__ import annotations

from typing import Any

from .waiting import Promise

__all__ = ["Feed"]


class Feed:
    """Append-only.  A reader keeps its own position, takes what is new, and waits on `changed` when there is
    nothing."""

    __slots__ = ("_listeners", "closed", "error", "pieces")

    def __init__(self) -> None:
        self.pieces: list[tuple[str, dict[str, Any] | None]] = []  # text, meta info of the gen it came from
        self.closed = False
        self.error: BaseException | None = None
        self._listeners: list[Promise] = []

    def push(self, text: str, meta: dict[str, Any] | None = None) -> None:
        self.pieces.append((text, meta))
        self._notify()

    def close(self, error: BaseException | None = None) -> None:
        if not self.closed:
            self.error = error
            self.closed = True
            self._notify()

    def changed(self, position: int) -> Promise:
        """Done once there is a piece at `position`, or none will come."""
        promise = Promise()
        self._listeners.append(promise)
        if self.closed or len(self.pieces) > position:
            self._notify()
        return promise

    def _notify(self) -> None:
        while True:
            try:
                listener = self._listeners.pop()
            except IndexError:
                return
            listener.set()
