"""The text of one branch, as text for people and as parts for a backend.

Here: constant text merged, generated token ids kept beside their text, positions in characters.  Not here: roles
(chat), variables (state). One owner: the branch, on the loop."""

from __future__ import annotations

from typing import NamedTuple

from .backends.protocol import PromptPart

__all__ = ["BranchText", "Segment"]


class Segment(NamedTuple):
    """A run of text.  token_ids, if there are any, decode to exactly `text` and are what the cache holds."""

    text: str
    token_ids: tuple[int, ...] | None = None
    constant: bool = True  # written by the program: merges with its neighbours, as it would be tokenised in one piece


class BranchText:
    """Grows at its end only."""

    __slots__ = ("_segments", "_tail", "cached_length", "length")

    def __init__(self, segments: tuple[Segment, ...] = (), cached_length: int = 0) -> None:
        self._segments: list[Segment] = list(segments)
        self._tail: list[str] = []  # constant text not yet merged, so that adding many short strings stays linear
        self.length = sum(len(segment.text) for segment in segments)  # characters
        self.cached_length = cached_length  # characters whose keys and values a backend has computed for this branch

    def add_constant(self, text: str) -> None:
        self._tail.append(text)
        self.length += len(text)

    def add_generated(self, text: str, token_ids: tuple[int, ...] | None) -> None:
        """Text that a model produced: its own part, so that its tokens stay what they were."""
        if text:
            self._merge_tail()
            self._segments.append(Segment(text, token_ids or None, False))
            self.length += len(text)
        self.cached_length = self.length

    def add_segments(self, segments: tuple[Segment, ...]) -> None:
        for segment in segments:
            if segment.constant:
                self.add_constant(segment.text)
            else:
                self._merge_tail()
                self._segments.append(segment)
                self.length += len(segment.text)

    def segments(self, start: int = 0) -> tuple[Segment, ...]:
        """What lies at and after character `start`; a segment cut by it keeps its text only."""
        self._merge_tail()
        if start == 0:
            return tuple(self._segments)
        found, position = [], 0
        for segment in self._segments:
            end = position + len(segment.text)
            if end > start:
                cut = max(start - position, 0)
                found.append(segment if cut == 0 else Segment(segment.text[cut:], None, segment.constant))
            position = end
        return tuple(found)

    def text(self, start: int = 0) -> str:
        return "".join(segment.text for segment in self.segments(start))

    def prompt(self) -> tuple[PromptPart, ...]:
        self._merge_tail()
        return tuple(segment.token_ids if segment.token_ids is not None else segment.text for segment in self._segments)

    def copy(self) -> BranchText:
        return BranchText(self.segments(), self.cached_length)

    def _merge_tail(self) -> None:
        if not self._tail:
            return
        text = "".join(self._tail)
        self._tail.clear()
        if not text:
            return
        if self._segments and self._segments[-1].constant:
            text = self._segments.pop().text + text
        self._segments.append(Segment(text))
