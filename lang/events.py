"""A whole program as one stream of events: the text of every branch as it comes, every variable when it is there.

Here: StreamEvent and EventLog, which the loop fills and one reader empties.  Not here: who drives the program meanwhile
(streaming, async_streaming).

The order of a branch's events is that of its text; branches mix as they run.  Memory stays bounded by the program's
own text: a reader that falls behind gets fewer, longer pieces."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .waiting import Promise

if TYPE_CHECKING:
    from .executor import Slot

__all__ = ["EventLog", "StreamEvent"]

_MOST_UNREAD = 256  # events; from there on, text is added to its branch's last piece

Path = tuple[int, ...]


@dataclass(frozen=True)
class StreamEvent:
    """Something that a branch did.

    path      which branch: () is the program's own, and every fork adds two numbers: how many gens, selects and forks
              stand in the parent up to and with this fork, and the branch's index
    variable  whose text or value it is; None: text of the program itself, or of an unnamed gen
    kind      "text": `delta` was added to the branch; "value": the variable is there, typed if its gen is; "error":
              the variable will not be"""

    path: Path
    variable: str | None
    kind: Literal["text", "value", "error"]
    delta: str = ""
    value: Any = None
    error: BaseException | None = None


class _Text:
    """A piece of text that was not read yet, and may grow."""

    __slots__ = ("path", "pieces", "variable")

    def __init__(self, path: Path, variable: str | None, text: str) -> None:
        self.path, self.variable, self.pieces = path, variable, [text]


class _Done:
    """A variable that has its value or its error."""

    __slots__ = ("path", "slot", "variable")

    def __init__(self, path: Path, variable: str | None, slot: Slot) -> None:
        self.path, self.variable, self.slot = path, variable, slot


class EventLog:
    """Any thread writes, one reader takes.  Nothing in the locked regions can come back here."""

    def __init__(self) -> None:
        self.closed = False
        self._lock = threading.Lock()
        self._unread: deque[_Text | _Done] = deque()
        self._last: dict[Path, _Text | _Done] = {}  # the newest of each branch's unread ones
        self._reader: Promise | None = None

    def text(self, path: Path, variable: str | None, text: str) -> None:
        with self._lock:
            last = self._last.get(path)
            if isinstance(last, _Text) and last.variable == variable and len(self._unread) >= _MOST_UNREAD:
                last.pieces.append(text)
                return
            self._append(_Text(path, variable, text))
        self._wake()

    def done(self, path: Path, variable: str | None, slot: Slot) -> None:
        with self._lock:
            self._append(_Done(path, variable, slot))
        self._wake()

    def close(self) -> None:
        """The program has ended; what comes after is nobody's."""
        with self._lock:
            self.closed = True
        self._wake()

    def take(self) -> StreamEvent | None:
        """The next event, None if there is none yet."""
        with self._lock:
            if not self._unread:
                return None
            item = self._unread.popleft()
            if self._last.get(item.path) is item:
                del self._last[item.path]
        if isinstance(item, _Text):
            return StreamEvent(item.path, item.variable, "text", delta="".join(item.pieces))
        try:  # here, in the reader's thread: a typed value is parsed by the user's own code
            return StreamEvent(item.path, item.variable, "value", value=item.slot.result())
        except Exception as error:
            return StreamEvent(item.path, item.variable, "error", error=error)

    def changed(self) -> Promise:
        """Done once there is something to take, or nothing will come."""
        promise = Promise()
        self._reader = promise
        if self._unread or self.closed:
            promise.set()
        return promise

    def _append(self, item: _Text | _Done) -> None:
        if not self.closed:
            self._unread.append(item)
            self._last[item.path] = item

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None:
            reader.set()
