"""Schemas with instances known to be valid or not, read from where an environment variable points.

Not in the repository: MaskBench's licence could not be confirmed, and the official suite has a home of its own."""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MASKBENCH = "FORKTREE_MASKBENCH"
SUITE = "FORKTREE_JSON_SCHEMA_SUITE"
REMOTES_URI = "http://localhost:1234/"  # under which the suite's schemas refer to its remotes

Spelled = tuple[str, bool]  # JSON text, and whether it is to be accepted


class Absent(Exception):
    """A data set that nobody pointed to."""


@dataclass(frozen=True)
class Sample:
    """One schema and how its instances are to be judged."""

    name: str
    keyword: str  # the official suite's file, say "uniqueItems"; MaskBench's data set
    schema: Any
    instances: tuple[tuple[Any, bool], ...]

    def spelled(self, *separators: tuple[str, str]) -> list[Spelled]:
        """Each instance as JSON text, once for each pair of separators."""
        return [(spell(value, pair), valid) for value, valid in self.instances for pair in separators]


COMPACT, SPACED = (",", ":"), (", ", ": ")


def spell(value: Any, separators: tuple[str, str] = SPACED) -> str:
    """As models write JSON: characters as themselves, but for lone surrogates, which UTF-8 has no bytes for."""
    text = json.dumps(value, ensure_ascii=False, separators=separators)
    if any("\ud800" <= character <= "\udfff" for character in text):
        text = json.dumps(value, separators=separators)
    return text


def maskbench(size: int | None = None, seed: int = 0) -> list[Sample]:
    """A seeded sample of MaskBench, or all of it.  Raises Absent."""
    source = _folder(MASKBENCH, "maskbench/data of a checkout of guidance-ai/jsonschemabench, or a .jsonl(.gz) of it")
    samples = sorted(_from_folder(source) if source.is_dir() else _from_lines(source), key=lambda sample: sample.name)
    if size is None or size >= len(samples):
        return samples
    return random.Random(seed).sample(samples, size)


def official(draft: str) -> list[Sample]:
    """The required tests of a draft ("draft7", "draft2020-12"): one sample for each group.  Raises Absent."""
    folder = _suite() / "tests" / draft
    if not folder.is_dir():
        raise Absent(f"{folder} is not there: {SUITE} names no checkout of the suite, or it lacks this draft")
    return [
        Sample(
            group["description"],
            path.stem,
            group["schema"],
            tuple((test["data"], bool(test["valid"])) for test in group["tests"]),
        )
        for path in sorted(folder.glob("*.json"))
        for group in json.loads(path.read_text(encoding="utf-8"))
    ]


def remotes() -> dict[str, Any]:
    """URI -> schema: what the suite's schemas refer to.  Raises Absent."""
    folder = _suite() / "remotes"
    return {
        REMOTES_URI + path.relative_to(folder).as_posix(): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.json"))
    }


def _suite() -> Path:
    return _folder(SUITE, "a checkout of json-schema-org/JSON-Schema-Test-Suite")


def _folder(variable: str, what: str) -> Path:
    named = os.environ.get(variable)
    if not named:
        raise Absent(f"{variable} is not set; it should name {what}")
    path = Path(named)
    if not path.exists():
        raise Absent(f"{variable}={named}: nothing is there; it should name {what}")
    return path


def _from_folder(folder: Path) -> Iterator[Sample]:
    for path in sorted(folder.glob("*.json")):
        yield _sample({"id": path.name, **json.loads(path.read_text(encoding="utf-8"))})


def _from_lines(path: Path) -> Iterator[Sample]:
    data = path.read_bytes()
    for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines():
        yield _sample(json.loads(line))


def _sample(row: dict[str, Any]) -> Sample:
    instances = tuple((test["data"], bool(test["valid"])) for test in row["tests"])
    return Sample(row["id"], str(row["id"]).partition("---")[0], row["schema"], instances)
