"""Time limits of a gen, a select and a whole run: requests end on the backend, and the read says what was not done."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import Prompt, Score
from forktree.lang.loop import loop_thread
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

SOON = 0.02  # seconds


def hangs_at(ending: str) -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: HANG if prompt.endswith(ending) else "ok")


class NeverScores(ScriptedBackend):
    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        self.num_running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.num_running -= 1
        return []


def test_a_gen_whose_time_is_up_fails_at_its_read_with_node_and_line() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> ft.DeadlineExceeded:
        s += "a" + ft.gen("x") + "slow" + ft.gen("y", timeout=SOON) + ft.gen("z")
        assert s["x"] == "ok"
        with pytest.raises(ft.DeadlineExceeded) as caught:
            s["y"]
        with pytest.raises(TimeoutError):
            s["z"]
        assert s.error() is caught.value
        return caught.value

    backend = hangs_at("slow")
    error = program.run(backend=backend).ret_value
    assert str(error).startswith('gen("y") at ')
    assert "test_deadlines.py:" in str(error)
    assert str(error).endswith("did not end within its 0.02 s")
    assert error.node is not None
    assert error.node.label == 'gen("y")'
    assert (backend.num_running, backend.num_cancelled, len(backend.requests)) == (0, 1, 2)


def test_a_select_has_a_time_limit_too() -> None:
    backend = NeverScores()
    for node in (ft.select("c", ["a", "b"], timeout=SOON), ft.gen("c", choices=["a", "b"], timeout=SOON)):
        with pytest.raises(ft.DeadlineExceeded, match=r'select\("c"\) at .*test_deadlines\.py:\d+ did not end'):
            ft.function(lambda s, node=node: s.__iadd__(node)).run(backend=backend)
        assert backend.num_running == 0


def test_the_time_of_a_gen_counts_from_its_turn() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "slow" + ft.gen("x") + ft.gen("y", timeout=5)
        wait_until(lambda: backend.num_running == 1)
        assert len(backend.requests) == 1
        s.cancel()
        s.error()

    backend = hangs_at("slow")
    program.run(backend=backend)


def test_a_time_limit_that_is_kept_changes_nothing() -> None:
    state = ft.function(lambda s: s.__iadd__(ft.gen("x", timeout=30) + ft.gen("y", n=2, timeout=30))).run(
        backend=ScriptedBackend(), timeout=30
    )
    assert (state["x"], state["y"]) == ("ok", ["ok", "ok"])


def test_all_outputs_of_a_gen_end_with_its_time() -> None:
    backend = ScriptedBackend(HANG)
    with pytest.raises(ft.DeadlineExceeded):
        ft.function(lambda s: s.__iadd__(ft.gen("x", n=3, timeout=SOON))).run(backend=backend)
    assert (backend.num_running, backend.num_cancelled) == (0, 3)


def test_other_branches_go_on_when_the_time_of_one_is_up() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += lambda i: ("slow" if i == 1 else f"{i}") + ft.gen("x", timeout=SOON if i == 1 else None)
        with pytest.raises(ft.BranchErrors) as caught:
            forks.join()
        assert [type(error) for error in caught.value.errors.values()] == [ft.DeadlineExceeded]
        assert list(caught.value.errors) == [1]
        assert (forks[0]["x"], forks[2]["x"]) == ("ok", "ok")

    program.run(backend=hangs_at("slow"))


def test_the_text_of_a_stream_before_its_deadline_is_read() -> None:
    state = ft.function(lambda s: s.__iadd__(ft.gen("x", timeout=SOON))).stream(
        backend=ScriptedBackend(Reply("half", hang=True))
    )
    pieces: list[str] = []
    with pytest.raises(ft.DeadlineExceeded):
        pieces.extend(state.text_iter("x"))
    assert "".join(pieces) == "half"


@ft.function
def two_branches(s: ft.ProgramState) -> None:
    s += "a" + ft.gen("first")
    forks = s.fork(2)
    forks += ft.gen("x")
    forks.join()


def first_only() -> ScriptedBackend:
    return ScriptedBackend(lambda prompt, _: "ok" if prompt == "a" else HANG)


def test_a_run_whose_time_is_up_ends_all_its_branches_and_names_what_they_did() -> None:
    backend = first_only()
    with pytest.raises(ft.BranchErrors) as caught:
        two_branches.run(backend=backend, timeout=SOON)
    assert sorted(caught.value.errors) == [0, 1]
    for error in caught.value.errors.values():
        assert isinstance(error, ft.DeadlineExceeded)
        assert str(error).startswith("program 'two_branches' did not end within its 0.02 s: gen(\"x\") at ")
    wait_until(lambda: backend.num_running == 0)
    assert backend.num_cancelled == 2


def test_every_program_of_a_batch_has_its_own_time() -> None:
    @ft.function
    def program(s: ft.ProgramState, word: str) -> None:
        s += word + ft.gen("x")

    states = program.options(timeout=SOON).run_batch(
        [("slow",), ("quick",)], backend=hangs_at("slow"), return_errors=True
    )
    assert isinstance(states[0].error(), ft.DeadlineExceeded)
    assert states[1]["x"] == "ok"


def test_time_limits_hold_in_an_event_loop_and_for_streams() -> None:
    with pytest.raises(ft.BranchErrors, match="DeadlineExceeded"):
        asyncio.run(two_branches.arun(backend=first_only(), timeout=SOON))
    with pytest.raises(ft.BranchErrors, match="DeadlineExceeded"):
        list(two_branches.stream(backend=first_only(), timeout=SOON))


def test_runs_that_a_program_starts_end_with_its_time() -> None:
    @ft.function
    def inner(s: ft.ProgramState) -> None:
        s += ft.gen("x")

    @ft.function
    def outer(s: ft.ProgramState, again: bool) -> None:
        if again:
            with pytest.raises(ft.DeadlineExceeded):
                inner.run()
        inner.run()

    backend = ScriptedBackend(HANG)
    for again in (False, True):
        with pytest.raises(ft.DeadlineExceeded, match=r"program 'outer' did not end within its 0\.02 s"):
            outer.run(again, backend=backend, timeout=SOON)
        wait_until(lambda: backend.num_running == 0)


def test_a_program_may_go_on_without_the_model_after_its_deadline() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> str:
        s += ft.gen("x")
        try:
            return str(s["x"])
        except TimeoutError:
            return "no answer"

    assert program.run(backend=ScriptedBackend(HANG), timeout=SOON).ret_value == "no answer"


def test_time_limits_that_are_kept_leave_no_timers_behind() -> None:
    async def count() -> int:
        """On the loop, after what was posted to it.  asyncio's handles and uvloop's have this name."""
        handles = [each for each in gc.get_objects() if type(each).__name__ == "TimerHandle"]
        return len([each for each in handles if not each.cancelled()])

    def num_timers() -> Any:
        gc.collect()
        return loop_thread().call(count())

    before = num_timers()
    started = time.monotonic()
    ft.function(lambda s: s.__iadd__(ft.gen("x", timeout=1000))).run(backend=ScriptedBackend(), timeout=1000)
    assert num_timers() == before
    assert time.monotonic() - started < 10
