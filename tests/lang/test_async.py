"""Programs in an event loop: reads give way to it, cancelling ends them."""

from __future__ import annotations

import asyncio
import threading

import pytest

import forktree as ft
from forktree.lang.loop import loop_thread
from tests.support.scripted_backend import HANG, ScriptedBackend, wait_until


@ft.function
def echo(s: ft.ProgramState, word: str) -> tuple[str, int]:
    s += word + " " + ft.gen("x")
    return s["x"], threading.get_ident()


def parrot() -> ScriptedBackend:
    broken = ft.RequestRefused("no")
    return ScriptedBackend(lambda prompt, _: broken if prompt == "bad " else prompt.strip() + "!")


def test_arun_runs_the_program_in_the_loops_thread() -> None:
    state = asyncio.run(echo.arun("a", backend=parrot()))
    assert state.ret_value == ("a!", threading.get_ident())


def test_other_tasks_go_on_while_a_program_waits() -> None:
    backend = ScriptedBackend(HANG)
    ticks = []

    async def main() -> None:
        task = asyncio.create_task(echo.arun("a", backend=backend))
        while not backend.num_running:
            await asyncio.sleep(0)
            ticks.append(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ticks
    wait_until(lambda: backend.num_running == 0)


def test_many_aruns_share_the_loop() -> None:
    async def main() -> list[str]:
        backend = parrot()
        states = await asyncio.gather(*(echo.arun(str(i), backend=backend) for i in range(300)))
        return [state["x"] for state in states]

    assert asyncio.run(main()) == [f"{i}!" for i in range(300)]


def test_arun_batch_keeps_order_and_limit() -> None:
    backend = parrot()
    states = asyncio.run(echo.arun_batch([(str(i),) for i in range(50)], num_threads=5, backend=backend))
    assert [state["x"] for state in states] == [f"{i}!" for i in range(50)]
    assert backend.most_running <= 5


def test_arun_batch_reports_errors_like_run_batch() -> None:
    with pytest.raises(ft.BatchErrors, match="1 of 2 programs failed"):
        asyncio.run(echo.arun_batch([("a",), ("bad",)], backend=parrot()))
    states = asyncio.run(echo.arun_batch([("a",), ("bad",)], return_errors=True, backend=parrot()))
    assert isinstance(states[1].error(), ft.GenerationError)


def test_errors_come_out_of_the_await() -> None:
    with pytest.raises(ft.GenerationError, match=r'gen\("x"\)'):
        asyncio.run(echo.arun("bad", backend=parrot()))


def test_a_plain_run_inside_a_running_loop_works_as_in_a_notebook() -> None:
    async def cell() -> str:
        return str(echo.run("a", backend=parrot())["x"])

    assert asyncio.run(cell()) == "a!"


def test_programs_called_from_an_async_program_do_not_block_its_loop() -> None:
    @ft.function
    def outer(s: ft.ProgramState) -> str:
        return ",".join(str(state["x"]) for state in echo.run_batch([("a",), ("b",)])) + echo.run("c")["x"]

    assert asyncio.run(outer.arun(backend=parrot())).ret_value == "a!,b!c!"


def test_a_program_on_forktrees_own_loop_is_refused_instead_of_waiting_for_itself() -> None:
    async def misuse() -> None:
        echo.run("a", backend=parrot())

    with pytest.raises(RuntimeError, match="own event loop thread"):
        loop_thread().call(misuse())
