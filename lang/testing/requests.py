"""A recording as the work it was: when requests came, how many tokens they had, and what each had in common with the
ones before.  For comparing scheduler and cache policies without a model.

Here: requests_of.  Not here: any policy (benchmarks)."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from pathlib import Path

from .recording import Line, common_length, read_recording

__all__ = ["ReplayedRequest", "requests_of"]


@dataclass(frozen=True)
class ReplayedRequest:
    """One request of a recording, by its number there."""

    id: int
    arrived: float  # seconds since the recording began
    ended: float
    prompt_tokens: int
    completion_tokens: int
    parent: int | None  # the earlier request with whose prompt and output its prompt goes along the longest
    shared_tokens: int  # how far: exact at the end of the parent's prompt or output, in proportion in between
    variable: str | None
    path: tuple[int, ...]  # of its branch in the tree of forks; () where it is not known


def requests_of(path: str | Path) -> list[ReplayedRequest]:
    """The generations of a recording in the order in which they were asked for.  Pure: reads the file, runs nothing.

    Token counts are those the backend told; a request that ended before it told any is left out."""
    lines = [line for line in read_recording(path)[1] if line["kind"] == "generate" and line["chunks"]]
    lines.sort(key=lambda line: (line["asked"], line["id"]))
    texts: list[tuple[str, int]] = []  # prompt and output of the requests so far, sorted, each with its index
    found: list[ReplayedRequest] = []
    for index, line in enumerate(lines):
        prompt, (prompt_tokens, completion_tokens, _) = line["prompt"]["text"], line["chunks"][-1]["usage"]
        parent, shared = _parent_of(prompt, prompt_tokens, texts, lines)
        place = line.get("place") or {}
        found.append(
            ReplayedRequest(
                id=line["id"],
                arrived=line["asked"],
                ended=line["ended"],
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                parent=lines[parent]["id"] if parent is not None else None,
                shared_tokens=shared,
                variable=place.get("variable"),
                path=tuple(place.get("path", ())),
            )
        )
        bisect.insort(texts, (prompt + _output_of(line), index))
    return found


def _parent_of(prompt: str, num_tokens: int, texts: list[tuple[str, int]], lines: list[Line]) -> tuple[int | None, int]:
    """Of sorted texts, the one that goes along the longest is a neighbour of where the prompt would stand."""
    position = bisect.bisect(texts, (prompt, len(lines)))
    best, length = None, 0
    for text, index in texts[max(position - 1, 0) : position + 1]:
        common = common_length(prompt, text)
        if common > length:
            best, length = index, common
    if best is None:
        return None, 0
    return best, min(_tokens_up_to(length, len(prompt), num_tokens, lines[best]), num_tokens)


def _tokens_up_to(length: int, prompt_length: int, num_tokens: int, parent: Line) -> int:
    """How many tokens the first `length` characters are."""
    in_prompt, in_output, _ = parent["chunks"][-1]["usage"]
    of_prompt = len(parent["prompt"]["text"])
    if length == of_prompt:
        return int(in_prompt)
    if length == of_prompt + len(_output_of(parent)):
        return int(in_prompt + in_output)
    return num_tokens * length // max(prompt_length, 1)


def _output_of(line: Line) -> str:
    return "".join(chunk.get("text", "") for chunk in line["chunks"])
