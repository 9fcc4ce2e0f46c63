"""What a constraint costs: until its first mask, for each mask, and for each mask when everything is known already.

Here: one schema at a time through every engine in turn, each walking the same texts; then 64 matchers at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np

from forktree.grammar import Compiler, Constraint, GrammarError, Matcher, fill_masks

from .data import Sample
from .engines import Cursor, Engine, Model, Refused, allows


@dataclass
class Timings:
    """Of one engine, in nanoseconds; only schemas and texts that every engine of the run got through."""

    refused: int = 0
    first_mask: list[int] = field(default_factory=list)
    cold: list[int] = field(default_factory=list)
    warm: list[int] = field(default_factory=list)


def walk(cursor: Cursor, token_ids: Sequence[int]) -> list[int] | None:
    """mask + advance of each token; None if the engine does not take the text."""
    spent = []
    for token_id in token_ids:
        begin = perf_counter_ns()
        took = allows(cursor.mask(), token_id) and cursor.advance(token_id)
        spent.append(perf_counter_ns() - begin)
        if not took:
            return None
    return spent if cursor.accepting() else None


def timed(engine: Engine, kind: str, source: Any) -> tuple[int, Callable[[], Cursor]]:
    """Nanoseconds until the first mask of a fresh matcher.  Raises Refused."""
    begin = perf_counter_ns()
    make = engine.compile(kind, source)
    make().mask()
    return perf_counter_ns() - begin, make


def compare(engines: Sequence[Engine], samples: Iterable[Sample], model: Model) -> dict[str, Timings]:
    """Engines take turns schema by schema, and text by text within one, so noise falls on all alike."""
    timings = {engine.name: Timings() for engine in engines}
    for i, sample in enumerate(samples):
        first = i % len(engines)  # nobody is always the one who finds the caches cold
        _compare_one([*engines[first:], *engines[:first]], sample, model, timings)
    return timings


def _compare_one(engines: Sequence[Engine], sample: Sample, model: Model, timings: dict[str, Timings]) -> None:
    made: dict[str, tuple[int, Callable[[], Cursor]]] = {}
    for engine in engines:
        try:
            made[engine.name] = timed(engine, "json", sample.schema)
        except Refused:
            timings[engine.name].refused += 1
    if len(made) < len(engines):
        return
    for name, (first_mask, _) in made.items():
        timings[name].first_mask.append(first_mask)
    for text, valid in sample.spelled((", ", ": ")):
        if not valid:
            continue
        token_ids = model.tokenizer.encode(text)
        walks = {name: (walk(make(), token_ids), walk(make(), token_ids)) for name, (_, make) in made.items()}
        for name, (cold, warm) in walks.items():
            if all(first is not None for first, _ in walks.values()):
                timings[name].cold += cold or []
                timings[name].warm += warm or []


def percentiles(nanoseconds: Sequence[int]) -> tuple[float, float, float]:
    """p50, p90, p99 in microseconds; nan without any."""
    if not nanoseconds:
        return (float("nan"),) * 3
    p50, p90, p99 = np.percentile(np.array(nanoseconds) / 1e3, [50, 90, 99]).tolist()
    return p50, p90, p99


# ---- a whole step


@dataclass(frozen=True)
class Step:
    """Median microseconds a row of a step, its masks known: filling all rows, and advancing all matchers."""

    num_matchers: int
    num_schemas: int
    fill_us: float
    advance_us: float


def batch(samples: Iterable[Sample], model: Model, num_matchers: int, *, num_steps: int = 64, seed: int = 0) -> Step:
    """`num_matchers` outputs of many schemas, each somewhere else in its text, walked for some steps, twice."""
    compiler = Compiler(model.vocabulary)
    walks: list[tuple[Callable[[], Matcher], list[int]]] = []
    for sample in samples:
        walks += _accepted(sample, compiler, model)
        if len(walks) >= num_matchers:
            break
    if not walks:
        raise SystemExit("no schema of the data compiles and accepts one of its texts")
    walks = [walks[i % len(walks)] for i in range(num_matchers)]
    offsets = [random.Random(seed + i).randrange(len(ids)) for i, (_, ids) in enumerate(walks)]
    fills: list[int] = []
    advances: list[int] = []
    rows = np.zeros((num_matchers, model.num_words), dtype=np.int32)
    for turn in range(2):
        matchers = [_moved(make(), ids[:offset]) for (make, ids), offset in zip(walks, offsets, strict=True)]
        for step in range(num_steps):
            begin = perf_counter_ns()
            fill_masks(matchers, rows)
            filled = perf_counter_ns()
            for i, (_, ids) in enumerate(walks):
                at = offsets[i] + step
                if at < len(ids):
                    matchers[i].advance(ids[at])
            if turn:
                fills.append(filled - begin)
                advances.append(perf_counter_ns() - filled)
    per_row = 1e3 * num_matchers
    return Step(
        num_matchers,
        len({id(make) for make, _ in walks}),
        float(np.median(fills)) / per_row,
        float(np.median(advances)) / per_row,
    )


def _accepted(sample: Sample, compiler: Compiler, model: Model) -> list[tuple[Callable[[], Matcher], list[int]]]:
    """The first text of the schema that its grammar takes."""
    try:
        make = compiler.compile(Constraint.json_schema(sample.schema)).matcher
        for text, valid in sample.spelled((", ", ": ")):
            token_ids = model.tokenizer.encode(text)
            if valid and len(token_ids) > 1:
                _moved(make(), token_ids)
                return [(make, token_ids)]
    except GrammarError:
        pass
    return []


def _moved(matcher: Matcher, token_ids: Sequence[int]) -> Matcher:
    for token_id in token_ids:
        matcher.advance(token_id)
    return matcher
