"""The text of one branch, as text for people and as parts for a backend.

Here: constant text merged, generated token ids kept beside their text, positions in characters.  Not here: roles
(chat), variables (state). One owner: the branch, on the loop."""

from __future__ import annotations

from typing import Any, NamedTuple

from .backends.protocol import PromptPart

__all__ = ["BranchText", "Segment"]


class Segment(NamedTuple):
    """A run of text.  token_ids, if there are any, decode to exactly `text` and are what the cache holds."""

    text: str
    token_ids: tuple[int, ...] | None = None
    constant: bool = True  # written by the program: merges with its neighbours, as it would be tokenised in one piece


class BranchText:
    """Grows at its end only."""

    __slots__ = ("_num_loose", "_parts", "_prompt", "cached_length", "length")

    def __init__(self) -> None:
        self._parts: list[Segment | str] = []  # constant text as it is
        self._num_loose = 0  # texts at the end that are not merged yet, so that adding many stays linear
        self._prompt: tuple[PromptPart, ...] = ()  # the last one
        self.length = 0  # characters
        self.cached_length = 0  # of them, those whose keys and values a backend has computed for this branch

    def add_constant(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._num_loose += 1
            self.length += len(text)

    def add_generated(self, text: str, token_ids: tuple[int, ...] | None) -> None:
        """Text that a model produced: its own part, so that its tokens stay what they were."""
        if text:
            self._merged().append(Segment(text, token_ids or None, False))
            self.length += len(text)
        self.cached_length = self.length

    def add_segments(self, segments: tuple[Segment, ...]) -> None:
        for segment in segments:
            if segment.constant:
                self.add_constant(segment.text)
            else:
                self._merged().append(segment)
                self.length += len(segment.text)

    def segments(self, start: int = 0) -> tuple[Segment, ...]:
        """What lies at and after character `start`; a segment cut by it keeps its text only."""
        found, position = [], 0
        for part in self._merged():
            segment = Segment(part) if isinstance(part, str) else part
            end = position + len(segment.text)
            if end > start:
                cut = max(start - position, 0)
                found.append(segment if cut == 0 else Segment(segment.text[cut:], None, segment.constant))
            position = end
        return tuple(found)

    def text(self, start: int = 0) -> str:
        text = "".join([part if isinstance(part, str) else part.text for part in self._merged()])
        return text[start:] if start else text

    def prompt(self) -> tuple[PromptPart, ...]:
        """Most of it is that of the prompt before, so that a program of many gens stays near linear."""
        parts, known = self._merged(), self._prompt
        if known and known[-1] is not parts[len(known) - 1]:  # a text that has grown, or the ids of a segment
            known = known[:-1]
        new = [part if isinstance(part, str) else part.token_ids or part.text for part in parts[len(known) :]]
        self._prompt = (*known, *new)
        return self._prompt

    def copy(self) -> BranchText:
        other = BranchText()
        other._parts, other._prompt = list(self._merged()), self._prompt
        other.length, other.cached_length = self.length, self.cached_length
        return other

    def _merged(self) -> list[Segment | str]:
        """The parts, no two texts in a row."""
        if self._num_loose > 1 or (self._num_loose and len(self._parts) > 1):
            parts: list[Any] = self._parts
            first = len(parts) - self._num_loose
            if first and isinstance(parts[first - 1], str):
                first -= 1
            parts[first:] = ["".join(parts[first:])]
        self._num_loose = 0
        return self._parts
