"""What a scheduler counts, from its start on. Imported by the scheduler; read by the engine's stats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Counters:
    """Totals since the start; exported as metrics."""

    prompt_tokens: int = 0  # submitted
    computed_prompt_tokens: int = 0  # computed, again after a retraction included
    cached_tokens: int = 0  # taken from the cache when a request first ran
    generated_tokens: int = 0
    forced_tokens: int = 0  # of those, not sampled: the grammar left no choice
    saved_passes: int = 0  # times that a request did not enter a step because of them
    retractions: int = 0
    evicted_pages: int = 0
    steps: int = 0
