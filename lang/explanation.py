"""What explain tells of a program, as frozen values: its segments, what each call computes, and what a run showed.

Here: the values, as JSON too.  Not here: finding them (explain), showing them (explain_text, explain_html)."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from .forecast import Count

__all__ = ["Actual", "ExplainedNode", "Explanation", "Unplanned"]

EXPLANATION_VERSION = 1


@dataclass(frozen=True)
class Actual:
    """What a run showed of one node: tokens of all its calls, times of one of them, on average.

    foreseen   what the same forecast says once it is known how the outputs of this run ended
    is_told    the backend says what its calls computed, and where their time went; else those are 0"""

    num_calls: int
    is_told: bool
    computed_tokens: int
    new_tokens: int
    queue_ms: float
    prefill_ms: float
    decode_ms: float
    foreseen: Count


@dataclass(frozen=True)
class ExplainedNode:
    """A segment of the tree: text, and mostly a call at its end.  `parent` is what it continues, in Explanation.nodes.

    kind          text: several segments go on from it; gen, select: a call
    text          its own text; «...»: what only a run knows, or what differs between the runs of a batch
    own           tokens of that text, in all runs
    common        of one run's, how many at its beginning are the same in all runs of the batch
    num_readers   calls of one run whose prompts hold this segment
    prompt, computed  tokens of the prompts of its calls, in all runs, and those that are computed; the rest is reused
    most_new_tokens   what its calls may generate, in all runs
    forced_tokens     tokens that constraints spell by themselves, if outputs are as short as can be, in all runs
    """

    id: int
    parent: int | None
    kind: str
    label: str
    source: str
    branch: tuple[int, ...]
    text: str
    num_runs: int
    own: Count
    common: int
    num_readers: int
    num_calls: int
    prompt: Count
    computed: Count
    most_new_tokens: int
    forced_tokens: int
    is_critical: bool
    actual: Actual | None = None

    @property
    def reused(self) -> Count:
        return self.prompt - self.computed

    @property
    def is_shared(self) -> bool:
        """Whether what it adds is read by more calls than the one that computes it."""
        return self.own != Count() and (self.num_readers > 1 or self.common > 0)


@dataclass(frozen=True)
class Unplanned:
    """A call of the run that the plan does not have, for it came after the trace had ended."""

    label: str
    source: str
    num_calls: int
    computed_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Explanation:
    """Of one run, or of a batch of runs on one cache that is empty at the beginning.

    is_ahead        the engine runs what is planned by itself; else the program asks for one call after another
    open_reasons    why the trace of a run ended before the program did
    critical_calls, critical_tokens  the longest chain of calls, and what it may generate at most
    kept            tokens that the cache holds in the end, where nothing is evicted
    actual_computed prompt tokens that the whole run computed, by the backend's own count; None: not run
    """

    program: str
    model: str
    num_runs: int
    nodes: tuple[ExplainedNode, ...]
    is_ahead: bool
    open_reasons: tuple[str, ...]
    open_arguments: tuple[str, ...]
    unread: tuple[str, ...]
    critical_calls: int
    critical_tokens: int
    kept: Count
    page_size: int
    num_pages: int
    unplanned: tuple[Unplanned, ...] = ()
    actual_computed: int | None = None
    actual_seconds: float | None = None

    @property
    def num_calls(self) -> int:
        return sum(node.num_calls for node in self.nodes)

    @property
    def prompt(self) -> Count:
        """Prompt tokens without sharing: each call computes its whole prompt."""
        return sum((node.prompt for node in self.nodes), Count())

    @property
    def computed(self) -> Count:
        """Prompt tokens with sharing."""
        return sum((node.computed for node in self.nodes), Count())

    @property
    def foreseen(self) -> Count | None:
        """As `computed`, once it is known how the outputs ended; None: not run."""
        found = [node.actual.foreseen for node in self.nodes if node.actual is not None]
        return sum(found, Count()) if self.actual_computed is not None else None

    @property
    def planned_actual(self) -> int | None:
        """Prompt tokens that the planned calls computed; None: not run, or the backend does not tell.  What makes a
        fork ready is not told by itself: it counts as foreseen."""
        calls = [node.actual for node in self.nodes if node.actual is not None and node.kind != "text"]
        if self.actual_computed is None or not all(each.is_told for each in calls):
            return None
        forks = [node.actual for node in self.nodes if node.actual is not None and node.kind == "text"]
        return sum(each.computed_tokens for each in calls) + sum(each.foreseen.known for each in forks)

    @property
    def num_estimated_pages(self) -> int:
        """At most."""
        return -(-(self.kept.known + self.kept.more) // self.page_size)

    @property
    def most_new_tokens(self) -> int:
        return sum(node.most_new_tokens for node in self.nodes)

    @property
    def forced_tokens(self) -> int:
        return sum(node.forced_tokens for node in self.nodes)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        found = dataclasses.asdict(self)
        for plain, node in zip(found["nodes"], self.nodes, strict=True):
            plain["reused"] = dataclasses.asdict(node.reused)
            plain["is_shared"] = node.is_shared
        totals = {
            "num_calls": self.num_calls,
            "prompt": dataclasses.asdict(self.prompt),
            "computed": dataclasses.asdict(self.computed),
            "most_new_tokens": self.most_new_tokens,
            "forced_tokens": self.forced_tokens,
            "estimated_pages": self.num_estimated_pages,
        }
        return {"version": EXPLANATION_VERSION, **found, "totals": totals}

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_text(self) -> str:
        from .explain_text import to_text

        return to_text(self)

    __str__ = to_text

    def to_html(self) -> str:
        """One page by itself: nothing is loaded from elsewhere."""
        from .explain_html import to_html

        return to_html(self)
