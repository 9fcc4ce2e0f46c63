"""Thousands of programs at once: none keeps a thread, half of them may be cancelled, and nothing is left of them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

import forktree as ft
from benchmarks.language import crowd, memory
from forktree.lang.backends.protocol import Chunk, GenerateRequest
from forktree.lang.loop import loop_thread
from tests.support.scripted_backend import ScriptedBackend, settle, wait_until

OURS = {
    "Branch",
    "Call",
    "Feed",
    "Finish",
    "Generate",
    "ProgramGreenlet",
    "ProgramState",
    "Promise",
    "Run",
    "Shared",
    "Slot",
}


def alive() -> Counter[str]:
    """How many there are of what a running program is made of, tasks included."""
    gc.collect()  # a state that is dropped posts to the loop
    settle()
    gc.collect()
    kinds = Counter(type(each) for each in gc.get_objects())
    ours = {kind.__name__: count for kind, count in kinds.items() if kind.__name__ in OURS}
    return Counter({**ours, "Task": len(loop_thread().tasks)})


@dataclass
class OnDemand(ScriptedBackend):
    """Answers once it is released."""

    released: asyncio.Event = field(default_factory=asyncio.Event)
    max_in_flight: int | None = None

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        finished = False
        try:
            await self.released.wait()
            finished = True
            yield Chunk("ok", (1,), finish_reason="stop", kept_token_ids=(1,))
        finally:
            self.num_cancelled += not finished


@ft.function
def forked(s: ft.ProgramState, number: int) -> str:
    s += f"{number}: "
    forks = s.fork(2)
    forks += ft.gen("x")
    forks.join()
    return "".join(s["x"])


@pytest.mark.slow
@pytest.mark.parametrize("max_in_flight", [None, 100])
def test_of_a_thousand_programs_half_are_cancelled_and_nothing_of_them_is_left(max_in_flight: int | None) -> None:
    def scenario(num_programs: int) -> OnDemand:
        backend = OnDemand(max_in_flight=max_in_flight)
        num_first = min(max_in_flight or sys.maxsize, 2 * num_programs)

        async def run() -> None:
            tasks = [asyncio.create_task(forked.arun(number, backend=backend)) for number in range(num_programs)]
            while len(backend.requests) < num_first:
                await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.wait(tasks[::2])
            settle()
            assert backend.num_cancelled == num_first // 2  # at once, not when the backend would have answered
            loop_thread().post(backend.released.set)
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(each) for each in found[::2]} == {asyncio.CancelledError}
            assert {each.ret_value for each in found[1::2] if isinstance(each, ft.ProgramState)} == {"okok"}

        asyncio.run(run())
        cancelled = {f"{number}: " for number in range(0, num_programs, 2)}
        started = [prompt for prompt in backend.prompts if prompt in cancelled]
        assert len(started) == num_first // 2  # those of them that had their turn
        return backend

    scenario(10)
    before = alive()
    scenario(1000)
    assert alive() == before


def test_a_batch_that_is_left_half_way_leaves_nothing_behind() -> None:
    def scenario(num_programs: int) -> None:
        backend = OnDemand(max_in_flight=None)

        async def run() -> None:
            items = [(number,) for number in range(num_programs)]
            batch = asyncio.create_task(forked.arun_batch(items, num_threads=num_programs, backend=backend))
            while len(backend.requests) < 2 * num_programs:
                await asyncio.sleep(0.001)
            batch.cancel()
            with pytest.raises(asyncio.CancelledError):
                await batch

        asyncio.run(run())
        wait_until(lambda: backend.num_cancelled == 2 * num_programs)

    scenario(10)
    before = alive()
    scenario(300)
    assert alive() == before


def test_forks_inside_forks_do_not_nest_calls() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        branches = [s]
        for number in range(sys.getrecursionlimit()):
            branches.append(branches[-1].fork(1)[0])
            branches[-1] += f"{number} "
        return branches[-1].text()

    assert program.run(backend=ScriptedBackend()).ret_value.split()[-1] == str(sys.getrecursionlimit() - 1)


def test_a_read_right_after_a_cancel_is_not_answered_as_if_it_had_not_been() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "a" + ft.gen("x")
        s["x"]  # nothing is left to do
        s.cancel()
        with pytest.raises(ft.ProgramCancelled):
            s.text()

    program.run(backend=ScriptedBackend())


def test_a_loop_with_a_large_batch_gives_others_their_turn() -> None:
    async def main() -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(other())
        await forked.arun_batch([(number,) for number in range(200)], num_threads=200, backend=ScriptedBackend())
        beside.cancel()
        return turns

    assert asyncio.run(main()) > 20


@pytest.mark.slow
@pytest.mark.parametrize("way", ["run_batch", "arun_batch"])
def test_a_thousand_programs_cost_what_the_benchmark_says(way: str) -> None:
    """Three times the bars of benchmarks.language, since tests share their machine."""
    crowd(way, 100)
    found = crowd(way, 1000)
    assert found["more_threads"] == 0
    assert found["cpu_s_per_10k_gens"] < 6.0
    assert memory(way, "join", 1000) < 60.0
