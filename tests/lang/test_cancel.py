"""Programs that nobody can read any more stop generating."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, settle, wait_until


def test_cancel_closes_the_backends_requests_and_wakes_readers() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        forks = s.fork(2)
        forks += ft.gen("y")
        wait_until(lambda: backend.num_running == 1)
        s.cancel()
        with pytest.raises(ft.ProgramCancelled):
            s["x"]
        with pytest.raises(ft.ProgramCancelled):
            forks[0]["y"]

    backend = ScriptedBackend(HANG)
    program.run(backend=backend)
    assert (backend.num_cancelled, backend.num_running, len(backend.requests)) == (1, 0, 1)


def test_a_program_that_raises_stops_all_its_branches() -> None:
    kept = []

    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += ft.gen("x")
        kept.append(forks)  # still referenced, as it is by a traceback
        wait_until(lambda: backend.num_running == 3)
        raise RuntimeError("stop")

    backend = ScriptedBackend(HANG)
    with pytest.raises(RuntimeError):
        program.run(backend=backend)
    settle()
    assert (backend.num_running, backend.num_cancelled) == (0, 3)
    with pytest.raises(ft.ProgramCancelled, match="program 'program' raised RuntimeError"):
        kept[0][0]["x"]


def test_branches_that_are_dropped_stop_generating() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        wait_until(lambda: backend.num_running == 2)
        del forks
        wait_until(lambda: backend.num_running == 0)

    backend = ScriptedBackend(HANG)
    program.run(backend=backend)
    assert backend.num_cancelled == 2


def test_branches_that_are_dropped_before_their_fork_never_start() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        forks = s.fork(2)
        forks += ft.gen("y")
        del forks
        settle()
        s.cancel()
        s.error()

    backend = ScriptedBackend(HANG)
    program.run(backend=backend)
    assert len(backend.requests) == 1


def test_a_branch_keeps_its_parent_going_as_far_as_the_fork() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        def branch_only() -> ft.ProgramState:
            middle = s.fork(1)[0]
            middle += "a " + ft.gen("x")
            return middle.fork(1)[0]  # `middle` and its group are dropped here

        branch = branch_only()
        gc.collect()
        branch += " b"
        return branch.text()

    assert program.run(backend=ScriptedBackend("v")).ret_value == "a v b"


def test_a_stream_that_is_dropped_stops_generating() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        try:
            s += ft.gen("x")
            s["x"]
        finally:
            ended.append(True)

    ended: list[bool] = []
    backend = ScriptedBackend(Reply("some text", hang=True))
    for piece in program.stream(backend=backend):
        assert piece
        break
    wait_until(lambda: backend.num_running == 0)
    assert backend.num_cancelled == 1
    assert ended == [True]


def test_a_stream_can_be_cancelled_by_whoever_reads_it() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        s["x"]

    backend = ScriptedBackend(HANG)
    state = program.stream(backend=backend)
    state.cancel()
    with pytest.raises(ft.ProgramCancelled):
        state["x"]
    with pytest.raises(ft.ProgramCancelled):
        list(state.text_iter())
    settle()
    assert backend.num_running == 0


def test_a_program_can_be_cancelled_from_another_thread_while_it_waits() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        there.append(s)
        s["x"]

    def cancel_it() -> None:
        wait_until(lambda: bool(there) and backend.num_running == 1)
        there[0].cancel()

    there: list[ft.ProgramState] = []
    backend = ScriptedBackend(HANG)
    thread = threading.Thread(target=cancel_it)
    thread.start()
    with pytest.raises(ft.ProgramCancelled, match=r"the program was cancelled at .*test_cancel\.py:\d+"):
        program.run(backend=backend)
    thread.join()
    assert (backend.num_running, backend.num_cancelled) == (0, 1)


def test_a_stream_can_be_cancelled_from_another_thread_while_it_is_read() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        s["x"]

    def cancel_it() -> None:
        wait_until(lambda: backend.num_running == 1)
        state.cancel()

    backend = ScriptedBackend(HANG)
    state = program.stream(backend=backend)
    thread = threading.Thread(target=cancel_it)
    thread.start()
    with pytest.raises(ft.ProgramCancelled):
        list(state)
    thread.join()
    wait_until(lambda: backend.num_running == 0)


def test_cancelling_a_branch_ends_it_and_its_own_branches_only() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += lambda i: f"{i}"
        below = forks[0].fork(2)
        below += ft.gen("y")
        forks[1] += ft.gen("x")
        forks[2] += ft.gen("x")
        late = forks[2].fork(1)  # waits for x, so it has not parted from its parent yet
        late += ft.gen("z")
        wait_until(lambda: backend.num_running == 4)
        forks[0].cancel()
        wait_until(lambda: backend.num_running == 2)
        for branch in (forks[0], *below):
            with pytest.raises(ft.ProgramCancelled, match=r"branch 0 of the fork at .* was cancelled at .*cancel\.py:"):
                branch.text()
        forks[2].cancel()
        with pytest.raises(ft.ProgramCancelled, match="branch 2 of the fork"):
            late[0]["z"]
        wait_until(lambda: backend.num_running == 1)
        s += "on" + ft.gen("v")
        assert s["v"] == "ok"  # the parent goes on
        forks[1].cancel()
        with pytest.raises(ft.BranchErrors) as caught:
            forks.join()
        assert sorted(caught.value.errors) == [0, 1, 2]

    backend = ScriptedBackend(lambda prompt, _: "ok" if prompt == "on" else HANG)
    program.run(backend=backend)
    assert backend.num_running == 0


def test_cancelling_a_branch_before_its_fork_leaves_its_siblings_and_parent_alone() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        forks = s.fork(2)
        forks += lambda i: f"{i}" + ft.gen("y")
        forks[0].cancel()
        with pytest.raises(ft.ProgramCancelled):
            forks[0]["y"]
        another.run()  # with it there are two requests, and both are answered
        assert (s["x"], forks[1]["y"]) == ("ok", "ok")

    another = ft.function(lambda s: s.__iadd__("another" + ft.gen("x")))
    backend = ScriptedBackend(hold_for=2)
    program.run(backend=backend)
    assert sorted(backend.prompts) == ["", "another", "ok1"]


def test_runs_that_a_program_starts_are_cancelled_with_it() -> None:
    @ft.function
    def inner(s: ft.ProgramState) -> None:
        s += ft.gen("x")

    @ft.function
    def outer(s: ft.ProgramState) -> None:
        there.append(s)
        inner.run()

    def cancel_it() -> None:
        wait_until(lambda: bool(there) and backend.num_running == 1)
        there[0].cancel()

    there: list[ft.ProgramState] = []
    backend = ScriptedBackend(HANG)
    thread = threading.Thread(target=cancel_it)
    thread.start()
    with pytest.raises(ft.ProgramCancelled):
        outer.run(backend=backend)
    thread.join()
    wait_until(lambda: backend.num_running == 0)


def test_an_interrupted_run_stops_generating() -> None:
    backend = ScriptedBackend(HANG)

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        wait_until(lambda: backend.num_running >= 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program.run(backend=backend)
    wait_until(lambda: backend.num_running == 0)
    with pytest.raises(KeyboardInterrupt):
        program.run_batch([{}] * 3, backend=backend)
    wait_until(lambda: backend.num_running == 0)


def test_a_batch_that_is_left_early_ends_the_programs_that_still_run() -> None:
    @ft.function
    def program(s: ft.ProgramState, i: int) -> None:
        s += f"{i}" + ft.gen("x")
        s["x"]

    backend = ScriptedBackend(lambda prompt, _: "quick" if prompt == "0" else HANG)
    states = program.run_batch([{"i": i} for i in range(4)], generator_style=True, backend=backend)
    assert next(states)["x"] == "quick"
    states.close()
    wait_until(lambda: backend.num_running == 0)


def test_no_threads_are_left_but_the_one_loop() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(50)
        forks += ft.gen("x")
        forks.join()

    before = set(threading.enumerate())
    program.run_batch([{}] * 5, backend=ScriptedBackend())
    list(program.stream(backend=ScriptedBackend()))
    asyncio.run(program.arun(backend=ScriptedBackend()))
    new = [thread.name for thread in set(threading.enumerate()) - before]
    assert set(new) <= {"forktree-lang"}
    assert [thread.name for thread in threading.enumerate()].count("forktree-lang") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT to the own process")
def test_ctrl_c_interrupts_a_read_that_waits() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
        s["x"]

    backend = ScriptedBackend(HANG)
    with pytest.raises(KeyboardInterrupt):
        program.run(backend=backend)
    wait_until(lambda: backend.num_running == 0)


def test_an_interpreter_that_ends_while_programs_run_ends_quietly() -> None:
    code = """
import forktree as ft
from tests.support.scripted_backend import HANG, ScriptedBackend, wait_until
backend = ScriptedBackend(HANG)
program = ft.function(lambda s: s.__iadd__("a" + ft.gen("x")))
state = program.stream(backend=backend)
wait_until(lambda: backend.num_running == 1)
print("end")
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30)
    assert (result.stdout, result.stderr, result.returncode) == ("end\n", "", 0)
