"""No backend gets more requests at a time than it likes: others wait their turn, and those given up leave the line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import forktree as ft
from forktree.lang.admission import _lines, admitted
from forktree.lang.backends.local import BackendOnFirstUse, LocalBackend
from forktree.lang.backends.protocol import Chunk, GenerateRequest, Prompt, SamplingParams, Score
from forktree.runtime import Engine
from tests.support.scripted_backend import HANG, ScriptedBackend, settle, wait_until


@dataclass
class StrictBackend(ScriptedBackend):
    """Refuses what goes beyond `max_in_flight`, as a server with a full queue does."""

    max_in_flight: int = 1
    num_calls: int = 0
    most_calls: int = 0

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        with self._counted():
            async for chunk in super().generate(request):
                yield chunk

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        with self._counted():
            return await super().score(prompt, continuations)

    async def commit(self, prompt: Prompt) -> None:
        with self._counted():
            await super().commit(prompt)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.num_calls += 1
        self.most_calls = max(self.most_calls, self.num_calls)
        try:
            if self.num_calls > self.max_in_flight:
                raise ft.BackendUnavailable("too many at a time")
            yield
        finally:
            self.num_calls -= 1


@ft.function
def one_gen(s: ft.ProgramState, word: str) -> str:
    s += word + ft.gen("x")
    return str(s["x"])


@ft.function
def many_calls(s: ft.ProgramState, word: str) -> str:
    s += word + ft.gen("x", n=2)
    forks = s.fork(3)
    forks += ", and " + ft.select("y", ["yes", "no"])
    for branch in forks:
        inner = branch.fork(2)
        inner += " so " + ft.gen("z")
        inner.join()
    forks.join()
    return str(s["z"])


def test_a_crowd_is_never_more_than_the_backend_takes() -> None:
    backend = StrictBackend(max_in_flight=7)
    items = [(str(number),) for number in range(100)]
    states = many_calls.run_batch(items, num_threads=100, backend=backend)
    assert {state.ret_value for state in states} == {str([["ok", "ok"]] * 3)}
    assert backend.most_calls == 7


@pytest.mark.parametrize("bound", [1, 2])
def test_programs_of_many_calls_need_only_one_at_a_time(bound: int) -> None:
    backend = StrictBackend(max_in_flight=bound)
    assert many_calls.run("a", backend=backend).ret_value == str([["ok", "ok"]] * 3)
    assert backend.most_calls == bound


def test_first_come_first_served() -> None:
    backend = StrictBackend(max_in_flight=1)
    words = [f"{number}:" for number in range(50)]
    one_gen.run_batch([(word,) for word in words], num_threads=50, backend=backend)
    assert backend.prompts == words


def test_a_program_that_is_cancelled_leaves_the_line_and_the_next_one_moves_up() -> None:
    backend = StrictBackend(lambda prompt, _: HANG if prompt == "first" else "ok", max_in_flight=1)
    first = one_gen.stream("first", backend=backend)
    wait_until(lambda: len(backend.requests) == 1)
    second, third = one_gen.stream("second", backend=backend), one_gen.stream("third", backend=backend)
    settle()
    second.cancel()
    settle()
    assert backend.prompts == ["first"]
    first.cancel()
    assert third["x"] == "ok"
    assert backend.prompts == ["first", "third"]
    assert backend.most_calls == 1


def test_a_turn_that_comes_to_a_request_just_cancelled_is_passed_on() -> None:
    async def scenario() -> list[str]:
        backend = StrictBackend(max_in_flight=1)
        requests = admitted(backend)
        first = requests.generate(GenerateRequest(("first",), SamplingParams()))
        await anext(first)
        second, third = [asyncio.create_task(requests.commit((word,))) for word in ("second", "third")]
        await asyncio.sleep(0)
        await first.aclose()  # the second one's turn has come, and it has not run yet
        second.cancel()
        await asyncio.wait_for(third, 5)
        assert second.cancelled()
        return backend.committed

    assert asyncio.run(scenario()) == ["third"]
    assert _lines == {}


def test_failed_requests_give_their_turn_back() -> None:
    backend = StrictBackend(ft.RequestRefused("no"), max_in_flight=2)
    states = one_gen.run_batch([("a",)] * 20, return_errors=True, backend=backend)
    assert {type(state.error()) for state in states} == {ft.GenerationError}
    assert backend.most_calls == 2
    settle()
    assert _lines == {}


def test_two_backends_have_a_line_each() -> None:
    backends = [StrictBackend(hold_for=3, max_in_flight=3) for _ in range(2)]

    async def both() -> None:
        runs = [one_gen.arun_batch([("a",)] * 3, backend=backend) for backend in backends]
        await asyncio.gather(*runs)

    asyncio.run(both())
    assert [backend.most_calls for backend in backends] == [3, 3]


def test_auto_runs_twice_as_many_programs_as_their_backend_takes_requests() -> None:
    active: list[int] = []
    most = 0

    @ft.function
    def program(s: ft.ProgramState, number: int) -> None:
        nonlocal most
        active.append(number)
        most = max(most, len(active))
        s += ft.gen("x")
        s["x"]
        active.remove(number)

    program.run_batch([(number,) for number in range(40)], backend=StrictBackend(max_in_flight=3))
    assert most == 6
    asyncio.run(program.arun_batch([(number,) for number in range(40)], backend=StrictBackend(max_in_flight=4)))
    assert most == 8


def test_an_endpoint_takes_as_many_as_it_has_connections() -> None:
    assert ft.RuntimeEndpoint("http://localhost:1", max_connections=17).max_in_flight == 17


@pytest.mark.slow
@pytest.mark.parametrize("foresee", [True, False])
def test_no_program_sees_that_the_engines_queue_is_short(foresee: bool) -> None:
    @ft.function(trace=foresee)
    def program(s: ft.ProgramState, number: int) -> None:
        s += f"Number {number} is" + ft.gen("x", max_tokens=2)
        forks = s.fork(3)
        forks += " and" + ft.gen("y", max_tokens=1)
        forks.join()

    with Engine(in_process=True, num_pages=2048, max_running_requests=2, max_queued_requests=3) as engine:
        backend = LocalBackend(engine)
        assert backend.max_in_flight == 3
        states = program.run_batch([(number,) for number in range(40)], num_threads=40, backend=backend)
        assert [len(state["y"]) for state in states] == [3] * 40


@pytest.mark.slow
def test_an_engine_on_first_use_tells_its_bound_once_it_runs(engine: Engine) -> None:
    backend = BackendOnFirstUse(lambda: engine)
    assert backend.max_in_flight == 8
    one_gen.run("a", backend=backend, max_new_tokens=1)
    assert backend.max_in_flight == LocalBackend(engine).max_in_flight == 512
