"""What every benchmark says about itself: where it ran, and its figures as a table and as one JSON line."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


def machine() -> str:
    """Processor and cores that this process may use, as a person would say them."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        named = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = named[0] if named else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"


def commit() -> str:
    """The commit that is checked out, with a + if the tree differs from it; "unknown" outside a git checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if os.isatty(1) else 120)
    console.print(title)
    console.print(table)


def print_json_line(benchmark: str, model: str, workload: str, figures: Mapping[str, object]) -> None:
    about = {"benchmark": benchmark, "machine": machine(), "model": model, "workload": workload, "commit": commit()}
    print(json.dumps({**about, **figures}))
