"""What does the language itself cost: ten thousand programs in flight at once, and every primitive by itself.

    python -m benchmarks.language [--programs N] [--runs N]

No model runs here: a backend answers every request after 5 ms, by a timer, so that what is measured is ours alone; what
such a backend costs when nothing of ours is in between is measured too.  Seconds of CPU are those of all threads of the
process, so other work on the machine blurs them little.  Memory is the growth of the resident set of a process of its
own in which every program waits for a held back output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import forktree as ft
from benchmarks.report import ROOT, print_json_line, print_table
from forktree.lang.backends.protocol import (
    EVERYTHING,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    Score,
    Usage,
)
from forktree.lang.loop import loop_thread

GENS = 3  # of `report`
OUTLINE_TOKENS, PART_TOKENS = 32, 64
LATENCY_S = 0.005
BARS = {"CPU s per 10,000 gens": 2.0, "KB per waiting program": 20.0, "µs per primitive": 60.0}
CHATML = ChatFormat.chatml()


class TimedBackend:
    """Answers "ok" after `latency` seconds, at once if that is 0; outputs of `held_length` it holds back."""

    def __init__(self, latency: float = 0.0, *, held_length: int | None = None) -> None:
        self.latency, self.held_length = latency, held_length
        self.num_requests = self.most_threads = 0
        self.held: list[asyncio.Future[None]] = []
        self._chunk = Chunk("ok", (1,), finish_reason="stop", kept_token_ids=(1,), usage=Usage(8, 1, 0))

    capabilities = EVERYTHING

    async def model_info(self) -> ModelInfo:
        return ModelInfo("timed", 4096, CHATML)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.num_requests += 1
        if self.num_requests % 1000 == 1:
            self.most_threads = max(self.most_threads, threading.active_count())
        if self.held_length is not None and request.sampling.max_new_tokens == self.held_length:
            held: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.held.append(held)
            await held
        elif self.latency:
            await asyncio.sleep(self.latency)
        yield self._chunk

    def release(self) -> None:
        for each in self.held:
            each.set_result(None)

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        return [Score((1,), (-float(index),)) for index, _ in enumerate(continuations, start=1)]

    async def commit(self, prompt: Prompt) -> None:
        return None

    async def clear_cache(self) -> bool:
        return True

    async def server_info(self) -> dict[str, Any]:
        return {}

    async def aclose(self) -> None:
        return None


@ft.function
def report(s: ft.ProgramState, topic: str) -> str:
    """Three gens and one fork."""
    s += f"A report on {topic}.\nOutline:"
    s += ft.gen("outline", max_tokens=OUTLINE_TOKENS)
    forks = s.fork(2)
    for index, branch in enumerate(forks):
        branch += f"\nPart {index}:"
        branch += ft.gen("part", max_tokens=PART_TOKENS)
    forks.join()
    return "".join(s["part"])


# ---- many programs at once


def topics(num_programs: int) -> list[dict[str, str]]:
    return [{"topic": f"subject {index}"} for index in range(num_programs)]


def run_all(way: str, items: list[dict[str, str]], backend: TimedBackend) -> list[ft.ProgramState]:
    if way == "run_batch":
        states: list[ft.ProgramState] = report.run_batch(items, num_threads=len(items), backend=backend)
        return states
    return asyncio.run(report.arun_batch(items, num_threads=len(items), backend=backend))


def crowd(way: str, num_programs: int) -> dict[str, float]:
    """Wall and CPU seconds, and the most threads there were on top of those before."""
    backend, items = TimedBackend(LATENCY_S), topics(num_programs)
    gc.collect()
    num_threads = threading.active_count()
    wall, cpu = time.perf_counter(), time.process_time()
    states = run_all(way, items, backend)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finished = sum(state.ret_value == "okok" for state in states)
    assert finished == num_programs, f"{finished} of {num_programs} programs finished"
    assert backend.num_requests == GENS * num_programs
    return {
        "wall_s": wall,
        "cpu_s_per_10k_gens": cpu / (GENS * num_programs) * 10_000,
        "more_threads": backend.most_threads - num_threads,
    }


def backend_alone(num_programs: int) -> float:
    """CPU seconds per 10,000 gens of an empty loop: the same requests, as many at once, and no language."""

    async def one(backend: TimedBackend) -> None:
        request = GenerateRequest(("",), SamplingParams())
        for _gen in range(GENS):
            async for _ in backend.generate(request):
                pass

    async def every() -> None:
        backend = TimedBackend(LATENCY_S)
        await asyncio.gather(*(one(backend) for _ in range(num_programs)))

    cpu = time.process_time()
    asyncio.run(every())
    return (time.process_time() - cpu) / (GENS * num_programs) * 10_000


# ---- memory, in a process of its own


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def print_memory(way: str, at: str, num_programs: int) -> None:
    """Bytes per program, once each waits for its first output, or for those of both branches."""
    run_all(way, topics(10), TimedBackend())  # what every process has once
    items = topics(num_programs)
    num_held, held_length = (num_programs, OUTLINE_TOKENS) if at == "gen" else (2 * num_programs, PART_TOKENS)
    backend = TimedBackend(held_length=held_length)
    measured: list[int] = []

    def watch() -> None:
        while len(backend.held) < num_held:
            time.sleep(0.01)
        time.sleep(0.2)  # the programs that woke last are waiting by then too
        measured.append(resident_bytes())
        loop_thread().post(backend.release)

    gc.collect()
    before = resident_bytes()
    watcher = threading.Thread(target=watch)
    watcher.start()
    states = run_all(way, items, backend)
    watcher.join()
    assert all(state.ret_value == "okok" for state in states)
    print(json.dumps({"bytes": (measured[0] - before) / num_programs}))


def memory(way: str, at: str, num_programs: int) -> float:
    """KB per waiting program."""
    command = [sys.executable, "-m", "benchmarks.language", "--programs", str(num_programs), "--memory", way, at]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output)["bytes"]) / 1000


# ---- one primitive by itself


def times(count: int, body: Callable[[ft.ProgramState, int], object]) -> Callable[[TimedBackend], None]:
    """A program that does one thing `count` times."""

    def program(s: ft.ProgramState) -> None:
        s += "x" + ft.gen("x")
        s["x"]
        for index in range(count):
            body(s, index)

    return lambda backend: ft.function(program).run(backend=backend) and None


def text(s: ft.ProgramState, index: int) -> None:
    s += "some more text"


def gen(s: ft.ProgramState, index: int) -> None:
    s += ft.gen("answer", max_tokens=8)
    s["answer"]


def submit(s: ft.ProgramState, index: int) -> None:
    s += ft.gen("answer", max_tokens=8)


def select(s: ft.ProgramState, index: int) -> None:
    s += ft.select("choice", ["yes", "no"])
    s["choice"]


def fork_and_join(s: ft.ProgramState, index: int) -> None:
    s.fork(10).join()


def role(s: ft.ProgramState, index: int) -> None:
    with s.user():
        s += "hello"


def read(s: ft.ProgramState, index: int) -> None:
    s["x"]


@ft.function
def inner(s: ft.ProgramState, index: int) -> int:
    return index


PRIMITIVES: dict[str, tuple[int, int, Callable[[ft.ProgramState, int], object]]] = {  # calls, things per call
    "s += text": (2000, 1, text),
    "gen, submitted and read": (1000, 1, gen),
    "gen, submitted only": (1000, 1, submit),
    "select, submitted and read": (1000, 1, select),
    "fork and join, per branch": (100, 10, fork_and_join),
    "role block": (1000, 1, role),
    "read of a variable that is done": (2000, 1, read),
    "nested program": (2000, 1, inner),
}


def primitive(count: int, per_call: int, body: Callable[[ft.ProgramState, int], object]) -> float:
    """Microseconds of CPU per thing, of a program that runs alone."""
    run_empty, run_full = times(0, body), times(count, body)
    backend = TimedBackend()
    run_empty(backend)
    gc.collect()
    cpu = time.process_time()
    run_full(backend)
    return (time.process_time() - cpu) / (count * per_call) * 1e6


def gens_of_a_hundred(num_gens: int = 20) -> float:
    """Microseconds of CPU per gen submitted and read, where a hundred programs take turns."""

    def program(s: ft.ProgramState) -> None:
        for index in range(num_gens):
            gen(s, index)

    backend = TimedBackend()
    gc.collect()
    cpu = time.process_time()
    ft.function(program).run_batch([{}] * 100, backend=backend)
    return (time.process_time() - cpu) / (100 * num_gens) * 1e6


def bare_hop(count: int = 1000) -> float:
    """Microseconds of CPU for a coroutine that does nothing, run by another thread's event loop and waited for."""

    async def nothing() -> None:
        return None

    cpu = time.process_time()
    for _ in range(count):
        asyncio.run_coroutine_threadsafe(nothing(), hop_loop).result()
    return (time.process_time() - cpu) / count * 1e6


hop_loop = asyncio.new_event_loop()


@ft.function
def thousand_in_a_row(s: ft.ProgramState) -> None:
    for index in range(1000):
        s += f"{index}:" + ft.gen("x", max_tokens=4)


@ft.function
def thousand_side_by_side(s: ft.ProgramState) -> None:
    s += "Ideas:"
    forks = s.fork(1000)
    forks += ft.gen("x", max_tokens=4)
    forks.join()


def whole(program: ft.Program) -> float:
    """CPU seconds of one run."""
    backend = TimedBackend()
    gc.collect()
    cpu = time.process_time()
    program.run(backend=backend)
    assert backend.num_requests == 1000
    return time.process_time() - cpu


# ---- the report


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def row(name: str, values: dict[str, float], bar: float | None = None, digits: int = 2) -> list[str]:
    return [name, *(f"{values[key]:.{digits}f}" for key in ("min", "median", "max")), f"{bar:g}" if bar else ""]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.language", description=__doc__.split("\n\n")[0])
    parser.add_argument("--programs", type=int, default=10_000, help="in flight at once")
    parser.add_argument("--runs", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    num_programs, runs = arguments.programs, range(arguments.runs)
    if arguments.memory:
        print_memory(*arguments.memory, num_programs)
        return

    figures: dict[str, object] = {"runs": arguments.runs, "bars": BARS}
    rows = []
    run_all("run_batch", topics(100), TimedBackend())
    for way in ("run_batch", "arun_batch"):
        measured = [crowd(way, num_programs) for _ in runs]
        found = {name: spread([each[name] for each in measured]) for name in measured[0]}
        kb = {at: spread([memory(way, at, num_programs) for _ in runs]) for at in ("gen", "join")}
        figures[way] = {**found, "kb_waiting_at_gen": kb["gen"], "kb_waiting_at_join": kb["join"]}
        rows.append(row(f"{way}: CPU s per 10,000 gens", found["cpu_s_per_10k_gens"], 2.0))
        rows.append(row(f"{way}: wall s of all", found["wall_s"]))
        rows.append(row(f"{way}: threads more than before", found["more_threads"], digits=0))
        rows.append(row(f"{way}: KB per program waiting at a gen", kb["gen"], 20.0, 1))
        rows.append(row(f"{way}: KB per program waiting for two branches", kb["join"], 20.0, 1))
    alone = spread([backend_alone(num_programs) for _ in runs])
    figures["backend_alone_cpu_s_per_10k_gens"] = alone
    rows.append(row("of it the backend: CPU s per 10,000 gens", alone))
    workload = (
        f"{num_programs:,} programs of {GENS} gens and one fork, all in flight, {LATENCY_S * 1000:g} ms a request"
    )
    print_table(workload, ["", "min", "median", "max", "bar"], rows)

    costs = {name: spread([primitive(*each) for _ in runs]) for name, each in PRIMITIVES.items()}
    costs["gen, submitted and read, 100 programs"] = spread([gens_of_a_hundred() for _ in runs])
    threading.Thread(target=hop_loop.run_forever, daemon=True).start()
    hop = spread([bare_hop() for _ in runs])
    print_table(
        "µs of CPU per primitive, requests answered at once, one program alone where nothing else is said",
        ["", "min", "median", "max", "bar"],
        [
            *(row(name, found, 60.0, 1) for name, found in costs.items()),
            row("asyncio's own hop and back", hop, digits=1),
        ],
    )
    figures |= {"primitives_us": costs, "bare_hop_us": hop}

    wholes = {
        "1,000 gens in a row": spread([whole(thousand_in_a_row) for _ in runs]),
        "fork(1000), one gen each": spread([whole(thousand_side_by_side) for _ in runs]),
    }
    print_table(
        "CPU s of one program",
        ["", "min", "median", "max", "bar"],
        [row(name, found, digits=3) for name, found in wholes.items()],
    )
    figures["one_program_cpu_s"] = wholes
    print_json_line("language", "none", workload, figures)


if __name__ == "__main__":
    main()
