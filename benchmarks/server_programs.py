"""What does it cost to run a program away from its model: the same program sent whole to the engine, and driven gen by
gen over HTTP by a client some milliseconds away.

    python -m benchmarks.server_programs [--model DIRECTORY] [--away MILLISECONDS] [--rounds N]

Two programs: a tree of thought (4 branches, 3 levels: 84 gens, 3 on the way from root to leaf) and an agent of 4 steps,
each of which reads what a tool said.  "Outside the model" is wall time less the time that the engine computed steps.
It is given per gen, and per gen of the longest chain: a client that asks gen by gen spends its way there and back once
for each of these, since the others go at the same time.  The distance is added by a proxy that holds every byte back
for so long, each way."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import forktree as ft
from benchmarks.report import print_json_line, print_table
from forktree.lang.options import read_options
from forktree.lang.plan import make_plan

BRANCHES, LEVELS = 4, 3
TOKENS = 8
GREEDY = {"temperature": 0.0, "ignore_eos": True, "seed": 1}
TOOL_SAYS = ["the library opens at nine", "it closes at six on Fridays", "members may stay longer", "the door is blue"]


def tree_of_thought(trace: bool) -> ft.Program:
    @ft.function(trace=trace)
    def think(s, question):  # type: ignore[no-untyped-def]
        s += f"Question: {question}\nLet us think about it step by step, in several ways.\n"
        frontier = [s]
        for level in range(LEVELS):
            grown = []
            for state in frontier:
                for number, branch in enumerate(state.fork(BRANCHES)):
                    branch += f"Step {level + 1}, idea {number + 1}:" + ft.gen("thought", max_tokens=TOKENS) + "\n"
                    grown.append(branch)
            frontier = grown
        s["thoughts"] = [branch["thought"] for branch in frontier]

    return think


def agent(trace: bool) -> ft.Program:
    @ft.function(trace=trace)
    def act(s, question):  # type: ignore[no-untyped-def]
        s += f"Question: {question}\nYou may ask a tool, and read what it says.\n"
        for said in TOOL_SAYS:
            s += "Thought:" + ft.gen("thought", max_tokens=TOKENS) + "\n"
            s += f"The tool says: {said}\n"

    return act


@dataclass(frozen=True)
class Workload:
    name: str
    make: Callable[[bool], ft.Program]
    num_gens: int
    longest_chain: int


WORKLOADS = [
    Workload("tree of thought", tree_of_thought, sum(BRANCHES**level for level in range(1, LEVELS + 1)), LEVELS),
    Workload("agent", agent, len(TOOL_SAYS), len(TOOL_SAYS)),
]


@dataclass(frozen=True)
class Way:
    """One way to run a program: seconds of wall, and of steps, for one run of it."""

    name: str
    run: Callable[[Workload, str], tuple[float, float, object]]


def on_backend(name: str, backend: ft.RuntimeEndpoint | ft.Runtime, *, whole: bool) -> Way:
    def run(workload: Workload, question: str) -> tuple[float, float, object]:
        program = workload.make(whole)
        busy = backend.get_server_info()["device_seconds"]
        start = time.perf_counter()
        state = program.run(question, backend=backend, **GREEDY)
        wall = time.perf_counter() - start
        text = state["thoughts"] if "thoughts" in state else state.text()
        return wall, backend.get_server_info()["device_seconds"] - busy, text

    return Way(name, run)


def in_the_engine(runtime: ft.Runtime) -> Way:
    """The plan alone, from its arrival at the engine to the last event: what the server itself spends."""
    engine = runtime.engine

    def run(workload: Workload, question: str) -> tuple[float, float, object]:
        graph = workload.make(True).trace(question)
        plan = make_plan(graph, None, read_options(GREEDY, "the benchmark")).wire()
        busy = engine.stats().device_seconds
        start = time.perf_counter()
        events = engine.run_program(plan)
        wall = time.perf_counter() - start
        assert not [event for event in events if event.error is not None]
        return wall, engine.stats().device_seconds - busy, None

    return Way("plan in the engine", run)


class Proxy:
    """Carries bytes to `port` and back, each held back for `delay` seconds."""

    def __init__(self, port: int, delay: float) -> None:
        self._port, self._delay = port, delay
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._start(self._carry(reader, back))
        self._start(self._carry(there, writer))

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        arriving: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await arriving.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    writer.close()
                    return
                writer.write(data)

        self._start(deliver())
        while data := await reader.read(65536):
            arriving.put_nowait((loop.time() + self._delay, data))
        arriving.put_nowait((loop.time() + self._delay, b""))


@contextmanager
def served(model: str | None) -> Iterator[str]:
    """`forktree serve` on a free port, in a process of its own."""
    command = [sys.executable, "-m", "forktree", "serve", "--port", "0", "--log-level", "error"]
    process = subprocess.Popen([*command, *([model] if model else [])], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.strip().startswith("address"):
                yield line.split()[1]
                break
    finally:
        process.terminate()
        process.wait()


@contextmanager
def far_away(url: str, delay: float) -> Iterator[str]:
    """The same server, `delay` seconds away."""
    loop = asyncio.new_event_loop()
    proxy = Proxy(int(url.rpartition(":")[2]), delay)
    port = loop.run_until_complete(proxy.start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(proxy.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def measure(ways: list[Way], workload: Workload, rounds: int) -> dict[str, list[float]]:
    """Milliseconds outside the model per run, way by way in turn; the first round is not counted."""
    found: dict[str, list[float]] = {way.name: [] for way in ways}
    for number in range(rounds + 1):
        question = f"When may I come to the library, if I ask for the {number}th time?"
        texts = []
        for way in ways:
            wall, busy, text = way.run(workload, question)
            texts.append(text)
            if number:
                found[way.name].append((wall - busy) * 1000)
        assert all(text in (None, texts[-1]) for text in texts), "the ways gave different texts"
    return found


def _columns(ms: list[float], workload: Workload) -> list[str]:
    median = statistics.median(ms)
    values = [median, min(ms), max(ms), median / workload.longest_chain, median / workload.num_gens]
    return [f"{value:.2f}" for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server_programs", description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", help="a Hugging Face directory or a GGUF file; the default model if not given")
    parser.add_argument("--away", type=float, default=20.0, help="milliseconds to the server, each way")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    figures: dict[str, object] = {}
    with served(args.model) as url, far_away(url, args.away / 1000) as far:
        near, away = ft.RuntimeEndpoint(url), ft.RuntimeEndpoint(far)
        http = [
            on_backend("sent whole, client beside the server", near, whole=True),
            on_backend(f"sent whole, client {args.away:g} ms away", away, whole=True),
            on_backend(f"gen by gen, client {args.away:g} ms away", away, whole=False),
        ]
        over_http = [measure(http, workload, args.rounds) for workload in WORKLOADS]
        name = near.get_model_name()
    with ft.Runtime(args.model) as runtime:
        local = [in_the_engine(runtime), on_backend("sent whole, same process", runtime, whole=True)]
        in_process = [measure(local, workload, args.rounds) for workload in WORKLOADS]
    for workload, inside, outside in zip(WORKLOADS, in_process, over_http, strict=True):
        found = {**inside, **outside}
        rows = [[way, *_columns(ms, workload)] for way, ms in found.items()]
        title = f"{workload.name}: {workload.num_gens} gens of {TOKENS} tokens, {workload.longest_chain} in a row"
        print_table(title, ["way", "ms outside the model", "min", "max", "per gen in a row", "per gen"], rows)
        figures[workload.name] = {
            way: {
                "per_gen_in_a_row_ms": round(statistics.median(ms) / workload.longest_chain, 2),
                "per_gen_ms": round(statistics.median(ms) / workload.num_gens, 2),
            }
            for way, ms in found.items()
        }
    print_json_line("server_programs", name, f"{args.rounds} rounds, client {args.away:g} ms away", figures)


if __name__ == "__main__":
    main()
