"""What goes wrong in SGLang's frontend (0.5.23), number by number, and does not here.

The numbers are those of the inventory that was made by running it.  Each test would fail on that behaviour."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

BROKEN = ft.RequestRefused("refused")


def run(body: Any, backend: ScriptedBackend, **options: Any) -> ft.ProgramState:
    return ft.function(body).run(backend=backend, **options)


@pytest.mark.parametrize(
    "method", [ft.token_length_normalized, ft.greedy_token_selection, ft.unconditional_likelihood_normalized]
)
def test_1_every_choice_method_works_with_zeros_and_repeated_tokens(method: ft.ChoicesMethod) -> None:
    """Two methods raised TypeError; the third dropped logprobs of exactly 0.0, divided by zero if all were, counted the
    prompt's last token in, and crashed where the prompt ends in a repeated token."""
    backend = ScriptedBackend(scores=lambda _, choice: [0.0] * len(choice) if choice == "aa" else [-1.0] * len(choice))
    state = run(lambda s: s.__iadd__("aa aa" + ft.select("c", ["b", "aa"], choices_method=method)), backend)
    assert state["c"] == "aa"


def test_2_after_an_error_every_read_ends_with_its_cause() -> None:
    """The first read raised a bare KeyError, every later one waited for ever, the cause was a warning."""

    def program(s: ft.ProgramState) -> None:
        s += ft.gen("a")
        for read in (lambda: s["a"], lambda: s["a"], s.text, s.messages, lambda: s.get_meta_info("a")):
            with pytest.raises(
                ft.GenerationError, match=r'gen\("a"\) at .*test_sglang_defects\.py:\d+ failed: refused'
            ):
                read()
        s.sync()
        assert isinstance(s.error(), ft.GenerationError)

    run(program, ScriptedBackend(BROKEN))


def test_3_join_reports_failed_branches_and_indices_never_shift() -> None:
    """fork(3) with one failing gave a list of two and no error."""

    def program(s: ft.ProgramState) -> None:
        forks = s.fork(3)
        forks += lambda i: f"{i}" + ft.gen("x")
        with pytest.raises(ft.BranchErrors, match="1 of 3 branches") as caught:
            forks.join()
        assert list(caught.value.errors) == [1]
        assert "x" not in s

    run(program, ScriptedBackend({"0": "a", "1": BROKEN, "2": "c"}))


def test_4_join_by_appending_works_without_a_route_on_the_server() -> None:
    """It posted to a route that no longer exists, then hung."""

    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += lambda i: f"{i}" + ft.gen("x")
        forks.join("concate_and_append")
        s += "."

    assert run(program, ScriptedBackend({"0": "a", "1": "b"})).text() == "0a1b."


def test_5_streamed_text_is_the_text() -> None:
    """Streaming increments turned "Hello brave new world" into "Helloe".  (Over HTTP: test_http_backend.)"""

    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")

    for size in (1, 5, 100):
        backend = ScriptedBackend("Hello brave new world", chunk_size=size)
        assert "".join(ft.function(program).stream(backend=backend).text_iter("x")) == "Hello brave new world"


def test_6_a_stream_ends_whatever_use_thread_says() -> None:
    """run(stream=True, use_thread=False) never ended its iterator."""
    program = ft.function(lambda s: s.__iadd__("a" + ft.gen("x")))
    for use_thread in (True, False):
        state = program.run(stream=True, use_thread=use_thread, backend=ScriptedBackend())
        assert "".join(state.text_iter()) == "aok"


def test_7_a_batch_runs_each_program_once_and_loops_on_generated_values_end() -> None:
    """Tracing ran every body one extra time with dummy arguments, and for ever where a loop waits for a value."""
    calls = []

    @ft.function
    def program(s: ft.ProgramState, word: str) -> None:
        calls.append(word)
        s += f"{word.upper()} "
        while True:
            s += ft.gen("step")
            if s["step"] == "done":
                break

    backend = ScriptedBackend(lambda prompt, _: "done" if prompt.endswith("more") else "more")
    states = program.run_batch([{"word": "a"}, {"word": "b"}], backend=backend)
    assert calls == ["a", "b"]
    assert [state.text() for state in states] == ["A moredone", "B moredone"]


def test_8_lists_of_stops_stay_as_they_were() -> None:
    """Each gen appended the template's stop string to the user's own list, until the server refused it."""
    stops = ["END"]

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.user("q") + ft.assistant(ft.gen("x", stop=stops))

    backend = ScriptedBackend()
    for _ in range(40):
        program.run(stop=stops, backend=backend)
    assert stops == ["END"]
    assert {request.sampling.stop for request in backend.requests} == {("END", "<|im_end|>")}


def test_9_small_things_that_crashed_or_got_mixed_up() -> None:
    """dtype=int with a str stop; unnamed gens; n > 1; a branch's meta info of a parent's variable; bind."""

    def program(s: ft.ProgramState) -> Any:
        s += ft.gen("number", dtype=int, stop="z")
        s += ft.gen() + ft.gen()
        s += ft.gen("many", n=2)
        return s.fork(1)[0].get_meta_info("number")

    state = run(program, ScriptedBackend("1"))
    assert state.text() == "1111"
    assert state["many"] == ["1", "1"]
    assert state.ret_value["completion_tokens"] == 1
    assert "None" not in str(state._shared.slots)
    bound = ft.function(num_api_spec_tokens=5)(program).bind()
    assert bound.num_api_spec_tokens == 5


def test_10_a_wide_fork_has_no_threads_and_warms_the_cache_first() -> None:
    """fork(50) made 50 threads and connections, and the warm-up lost the race."""
    seen = []

    def program(s: ft.ProgramState) -> None:
        s += "Common text"
        forks = s.fork(50)
        forks += ft.gen("x")
        seen.append(threading.active_count())
        forks.join()

    before = threading.active_count()
    backend = ScriptedBackend()
    run(program, backend)
    assert seen[0] <= before + 1
    assert backend.log == ["commit"] + ["generate"] * 50


def test_11_state_crosses_programs_set_var_wakes_readers_and_temperature_counts() -> None:
    """References to another state's variable were dead; a set variable woke nobody; select asserted temperature 0."""

    @ft.function
    def inner(s: ft.ProgramState) -> None:
        s += "in" + ft.gen("x")

    def program(s: ft.ProgramState) -> None:
        s += inner()
        s["y"] = s["x"] + "!"
        assert list(s.text_iter("y")) == ["ok!"]
        s += ft.select("c", ["a", "b"], temperature=1.0, seed=1)

    state = run(program, ScriptedBackend())
    assert state["c"] in ("a", "b")


def test_12_abandoned_programs_stop_and_an_event_loop_is_never_blocked() -> None:
    """An abandoned state kept generating; there was no way to run a program from an event loop."""

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        s["x"]

    backend = ScriptedBackend(HANG)
    state = program.stream(backend=backend)
    wait_until(lambda: backend.num_running == 1)
    del state
    wait_until(lambda: backend.num_running == 0)

    async def with_a_deadline() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(program.arun(backend=backend), 0.02)

    asyncio.run(with_a_deadline())
    wait_until(lambda: backend.num_running == 0)


def test_what_users_asked_for_is_there() -> None:
    """Seeds (#20041), schemas as dicts (#1254), a fork before any text (#2755), an empty regex (#276), CJK (#377)."""

    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x", seed=7, json_schema={"type": "integer"})
        forks.join()
        s += ft.gen("y", regex="[一-龥]")
        with pytest.raises(ft.RegexError):
            ft.gen("z", regex="")

    backend = ScriptedBackend(Reply("1"))
    run(program, backend)
    assert backend.committed == []
    assert [request.sampling.seed for request in backend.requests] == [7, 7, None]
