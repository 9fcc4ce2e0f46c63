"""`async def` programs: reads are awaited, branches run as coroutines, and nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

import forktree as ft
from forktree.lang.async_state import AsyncReader
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

BROKEN = ft.RequestRefused("refused")


@ft.function
async def echo(s: ft.AsyncState, word: str) -> tuple[str, int]:
    s += word + " " + ft.gen("x")
    return await s.read("x"), threading.get_ident()


def parrot() -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: BROKEN if prompt == "bad " else prompt.strip() + "!")


def test_run_drives_an_async_program_in_the_callers_thread() -> None:
    state = echo.run("a", backend=parrot())
    assert state.ret_value == ("a!", threading.get_ident())
    assert (state["x"], state.text()) == ("a!", "a a!")
    assert echo("b", backend=parrot())["x"] == "b!"


def test_run_inside_a_running_loop_says_what_to_await() -> None:
    async def main() -> Any:
        with pytest.raises(ft.ArgumentError, match=r"event loop is running here.*await echo\.arun\(.*programs\.py:\d+"):
            echo.run("a", backend=parrot())
        with pytest.raises(ft.ArgumentError, match=r"await echo\.arun_batch"):
            echo.run_batch([("a",)], backend=parrot())
        return await echo.arun("a", backend=parrot())

    assert asyncio.run(main())["x"] == "a!"


def test_batches_keep_order_and_limit() -> None:
    backend = parrot()
    states = echo.run_batch([(str(i),) for i in range(30)], num_threads=4, backend=backend)
    assert [state["x"] for state in states] == [f"{i}!" for i in range(30)]
    assert backend.most_running <= 4
    states = asyncio.run(echo.arun_batch([{"word": "a"}, {"word": "bad"}], backend=parrot(), return_errors=True))
    assert states[0]["x"] == "a!"
    assert isinstance(states[1].error(), ft.GenerationError)
    with pytest.raises(ft.ArgumentError, match="generator_style"):
        echo.run_batch([("a",)], generator_style=True, backend=parrot())


def test_every_read_has_an_awaitable_twin() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> list[Any]:
        s += ft.user("Hi") + ft.assistant(ft.gen("a"))
        found = [await s.read("a"), await s.read_messages(), (await s.read_text())[-13:], await s.read_error()]
        meta = await s.read_meta_info("a")
        assert meta is not None
        await s.wait()
        return [*found, meta["text"], s["a"], s.get_var("a")]

    assert program.run(backend=ScriptedBackend()).ret_value == [
        "ok",
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "ok"}],
        "ok<|im_end|>\n",
        None,
        "ok",
        "ok",  # plain, for it is there
        "ok",
    ]


def test_plain_reads_of_what_is_not_there_name_the_line_and_the_awaitable_ones() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        s += ft.gen("x")
        forks = s.fork(2)
        reads = (lambda: s["x"], s.text, s.messages, s.sync, s.error, lambda: s.get_meta_info("x"), forks[0].text)
        for read in reads:
            with pytest.raises(ft.BlockingRead, match=r'test_async_programs\.py:\d+ .*await s\.read\("name"\)'):
                read()
        with pytest.raises(ft.BlockingRead, match=r"forks\.ajoin\(\)"):
            forks.join()
        with pytest.raises(ft.MissingVariable):
            s["y"]
        s.cancel()

    backend = ScriptedBackend(HANG)
    with pytest.raises(ft.ProgramCancelled):
        program.run(backend=backend)
    assert backend.num_running == 0


def test_branches_run_as_coroutines_and_are_joined() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> list[str]:
        async def explore(branch: ft.AsyncState, i: int) -> str:
            branch += f"{i}" + ft.gen("x")
            found = await branch.read("x")
            branch += "," + ft.gen("y")
            return str(found)

        s += "start "
        forks = s.fork(3)
        values = await asyncio.gather(*(explore(branch, i) for i, branch in enumerate(forks)))
        await forks.ajoin()
        return values

    backend = ScriptedBackend(lambda prompt, _: prompt[-1] + "!", hold_for=3)
    state = program.run(backend=backend)
    assert state.ret_value == ["0!", "1!", "2!"]
    assert state["x"] == ["0!", "1!", "2!"]
    assert state["y"] == [",!"] * 3


def test_join_can_append_and_a_copy_comes_back() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        forks = s.fork(2)
        forks += lambda i: f"{i}" + ft.gen("x")
        await forks.ajoin("concate_and_append")
        async with s.acopy() as branch:
            branch += ft.gen("z")

    state = program.run(backend=ScriptedBackend({"0": "a", "1": "b", "0a1b": "c"}))
    assert (state.text(), state["z"]) == ("0a1b", ["c"])


def test_errors_reach_the_await_and_join_names_every_branch() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        forks = s.fork(2)
        forks += ["bad " + ft.gen("x"), "good " + ft.gen("x")]
        with pytest.raises(ft.GenerationError, match=r'gen\("x"\) at .*test_async_programs\.py:\d+ failed: refused'):
            await forks[0].read("x")
        await forks.ajoin()

    with pytest.raises(ft.BranchErrors, match="1 of 2 branches"):
        program.run(backend=parrot())
    with pytest.raises(ft.GenerationError, match="refused"):
        echo.run("bad", backend=parrot())


def test_the_event_loop_is_never_blocked() -> None:
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


def test_a_time_limit_ends_an_async_program() -> None:
    backend = ScriptedBackend(HANG)
    with pytest.raises(ft.DeadlineExceeded, match=r'program \'echo\' did not end .*gen\("x"\)'):
        echo.run("a", backend=backend, timeout=0.02)
    wait_until(lambda: backend.num_running == 0)


@ft.function
def plain_helper(s: ft.ProgramState, word: str) -> str:
    s += f"<{word}" + ft.gen("h") + ">"
    forks = s.fork(2)
    forks += ft.gen("f")
    forks.join()
    return str(s["h"])


@ft.function
async def async_helper(s: ft.AsyncState, word: str) -> str:
    s += f"({word}" + ft.gen("g") + ")"
    return str(await s.read("g"))


def test_programs_called_on_the_state_of_an_async_one_are_awaited() -> None:
    @ft.function
    async def outer(s: ft.AsyncState) -> list[str]:
        values = [await plain_helper(s, "a"), await async_helper(s, word="b")]
        inner = await plain_helper.arun("c")
        return [*values, inner["h"]]

    state = outer.run(backend=ScriptedBackend("1"))
    assert state.ret_value == ["1", "1", "1"]
    assert state.text() == "<a1>(b1)"
    assert state["f"] == ["1", "1"]


def test_an_async_program_on_a_plain_state_is_refused() -> None:
    @ft.function
    def outer(s: ft.ProgramState) -> None:
        async_helper(s, "a")

    with pytest.raises(ft.ArgumentError, match=r"'async_helper' is an async def.*test_async_programs\.py:\d+"):
        outer.run(backend=ScriptedBackend())


@ft.function
async def talk(s: ft.AsyncState, question: str) -> str:
    s += question + " -> "
    s += ft.gen("a")
    s += " (" + (await s.read("a")).upper() + ") "
    s += ft.gen("b")
    return str(await s.read("b"))


def talker() -> ScriptedBackend:
    return ScriptedBackend(["hello world", "good bye"])


WHOLE = "hi -> hello world (HELLO WORLD) good bye"


def test_async_programs_stream() -> None:
    async def read() -> tuple[Any, ...]:
        state = talk.astream("hi", backend=talker())
        a = "".join([piece async for piece in state.text_async_iter("a")])
        whole = "".join([piece async for piece in state])
        assert isinstance(state, AsyncReader)
        return a, whole, await state.read("b"), state.ret_value

    assert asyncio.run(read()) == ("hello world", WHOLE, "good bye", "good bye")
    with pytest.raises(ft.ArgumentError, match=r"with astream\(\.\.\.\)"):
        talk.stream("hi", backend=talker())


def test_errors_come_after_the_text_before_them() -> None:
    @ft.function
    async def program(s: ft.AsyncState) -> None:
        s += "good " + ft.gen("a") + "bad " + ft.gen("b")
        await s.read("b")

    async def read() -> str:
        pieces: list[str] = []

        async def read_on() -> None:
            async for piece in program.astream(backend=ScriptedBackend({"good ": "fine ", "bad ": BROKEN})):
                pieces.append(piece)

        with pytest.raises(ft.GenerationError, match="refused"):
            await read_on()
        return "".join(pieces)

    assert asyncio.run(read()) == "good fine bad "


@pytest.mark.parametrize("how", ["drop", "cancel", "cancel the reader"])
def test_a_stream_that_nobody_reads_any_more_stops(how: str) -> None:
    backend = ScriptedBackend(Reply("some text", hang=True))
    ended = []

    @ft.function
    async def program(s: ft.AsyncState) -> None:
        s += ft.gen("x")
        try:
            await s.read("x")
        finally:
            ended.append(True)

    async def main() -> None:
        state = program.astream(backend=backend)
        async for piece in state:
            assert piece
            break
        if how == "cancel":
            state.cancel()
            with pytest.raises(ft.ProgramCancelled):
                [piece async for piece in state]
        elif how == "cancel the reader":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(state.read_text(), 0.01)  # type: ignore[union-attr]
        else:
            del state
            gc.collect()
        while not ended:
            await asyncio.sleep(0)

    asyncio.run(main())
    wait_until(lambda: backend.num_running == 0)


def test_an_async_program_is_traced_like_a_plain_one() -> None:
    @ft.function
    async def program(s: ft.AsyncState, word: str) -> None:
        s += word + ft.gen("a")
        s += "twice " + await s.read("a")
        forks = s.fork(2)
        forks += ft.gen("b")
        await forks.ajoin()

    kinds = [node.kind for node in program.trace().nodes]
    assert kinds == ["argument", "gen", "text", "variable", "fork", "gen", "gen", "join"]
