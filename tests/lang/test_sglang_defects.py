"""What goes wrong in SGLang's frontend (0.5.23), number by number, and does not here.

The numbers are those of the inventory that was made by running it.  Each test would fail on that behaviour."""

from __future__ import annotations

import asyncio
import threading
import warnings
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


@pytest.mark.parametrize("logprobs", [[0.0, 0.0], [-0.0, -3.0]])
def test_1_log_probabilities_of_exactly_zero_count(logprobs: list[float]) -> None:
    """They were dropped from the mean, and all of them zero was a ZeroDivisionError."""
    backend = ScriptedBackend(scores=lambda _, choice: logprobs if choice == "ab" else [-2.0])
    state = run(lambda s: s.__iadd__("x" + ft.select("c", ["y", "ab"])), backend)
    meta = state.get_meta_info("c")
    assert meta is not None
    assert state["c"] == "ab"
    assert meta["normalized_prompt_logprobs"] == [-2.0, sum(logprobs) / 2]


def test_2_a_server_that_goes_away_half_way_ends_every_read() -> None:
    """A lost connection left the queue undrained: later reads waited for ever."""
    gone = ft.BackendUnavailable("connection closed")

    def program(s: ft.ProgramState) -> None:
        s += "a" + ft.gen("x") + "b" + ft.gen("y")
        assert s["x"] == "fine"
        for read in (lambda: s["y"], s.text, lambda: s["y"]):
            with pytest.raises(ft.GenerationError, match="connection closed") as caught:
                read()
            assert caught.value.cause is gone
        s.sync()

    run(program, ScriptedBackend({"a": "fine", "afineb": gone}))


def test_2_errors_are_not_warnings() -> None:
    """The cause was only in a warning, and the run itself returned as if all were well."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ft.GenerationError, match="refused"):
            run(lambda s: s.__iadd__(ft.gen("a")), ScriptedBackend(BROKEN))


def test_3_the_error_of_a_branch_that_nobody_joined_is_raised_too() -> None:
    """Errors in children were swallowed, and the parent's error() was None."""

    def program(s: ft.ProgramState) -> None:
        s["keep"] = forks = s.fork(2)
        forks += lambda i: f"{i}" + ft.gen("x")

    with pytest.raises(ft.BranchErrors, match="1 of 2 branches"):
        run(program, ScriptedBackend({"0": "a", "1": BROKEN}))


def test_5_streams_of_branches_side_by_side_are_each_their_own_text() -> None:
    """Slices of one growing text garbled what was streamed."""

    def program(s: ft.ProgramState) -> list[str]:
        forks = s.fork(3)
        forks += lambda i: f"{i}" + ft.gen("x")
        return ["".join(branch.text_iter("x")) for branch in forks]

    backend = ScriptedBackend(lambda prompt, _: f"text number {prompt}", chunk_size=2)
    assert ft.function(program).stream(backend=backend).ret_value == [f"text number {i}" for i in range(3)]


def test_7_side_effects_happen_once_and_an_f_string_with_an_argument_keeps_its_text() -> None:
    """Arguments in f-strings raised TypeError in the tracer, and the prefix was lost."""
    seen: list[str] = []

    @ft.function
    def program(s: ft.ProgramState, word: str) -> None:
        seen.append(word)
        s += f"<{word:>3}|{len(word)}>" + ft.gen("x")

    program.run_batch([(word,) for word in ("a", "bb")], backend=ScriptedBackend("!"))
    assert seen == ["a", "bb"]


def test_8_a_tuple_a_set_and_a_string_of_stops_are_taken_as_they_are() -> None:
    backend = ScriptedBackend()
    for stop in (("a",), {"a"}, "a", ["a"]):
        run(lambda s, stop=stop: s.__iadd__(ft.gen("x", stop=stop)), backend, stop=stop)
    assert {request.sampling.stop for request in backend.requests} == {("a",)}


def test_9_dtype_and_schemas_of_a_gen_are_not_lost_when_a_run_has_options() -> None:
    """Copying the sampling parameters dropped dtype and regex (also number 11)."""
    backend = ScriptedBackend("1")
    run(lambda s: s.__iadd__(ft.gen("a", dtype=int) + ft.gen("b", regex="[a-z]")), backend, temperature=0.5, top_p=0.5)
    first, second = (request.sampling for request in backend.requests)
    assert (first.regex, second.regex) == (r"[-+]?[0-9]+[ \n]*", "[a-z]")
    assert first.temperature == second.temperature == 0.5


def test_10_a_thousand_branches_need_no_thousand_threads() -> None:
    def program(s: ft.ProgramState) -> int:
        forks = s.fork(1000)
        forks += lambda i: ft.gen("x")
        forks.join()
        return threading.active_count()

    before = threading.active_count()
    state = run(program, ScriptedBackend())
    assert state.ret_value <= before + 1
    assert len(state["x"]) == 1000


def test_11_a_reader_that_waits_is_woken_by_a_variable_that_is_set_elsewhere() -> None:
    """set_var did not set what a waiting reader blocks on."""

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("x")
        s["y"] = s["x"] * 2

    state = program.stream(backend=ScriptedBackend("ab"))
    assert state["y"] == "abab"  # the reader was here before the program set it


def test_11_a_select_of_a_stream_is_there_for_readers_of_the_text_and_of_the_variable() -> None:
    """It was emitted once, to one of them."""
    state = ft.function(lambda s: s.__iadd__("a" + ft.select("c", ["b"]) + "d")).stream(backend=ScriptedBackend())
    assert "".join(state.text_iter()) == "abd"
    assert "".join(state.text_iter("c")) == "b"


def test_12_a_program_has_a_deadline_and_its_requests_have_ids_that_name_it() -> None:
    """HTTP without timeouts, no deadline of a program, and nothing on the wire that told programs apart."""

    def program(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join()

    backend = ScriptedBackend(HANG)
    for _ in range(2):
        with pytest.raises(ft.BranchErrors, match="did not end within"):
            run(program, backend, timeout=0.02)
    wait_until(lambda: backend.num_running == 0)
    ids = [str(request.request_id).rpartition("-") for request in backend.requests]
    assert len({run_id for run_id, _, _ in ids}) == 2
    assert [number for _, _, number in ids] == ["1", "2", "1", "2"]


def test_12_async_programs_run_natively() -> None:
    """There was no async API but an iterator that polled a thread."""

    async def program(s: ft.AsyncState) -> str:
        s += ft.gen("x")
        return str(await s.read("x"))

    async def main() -> list[Any]:
        runs = (ft.function(program).arun(backend=ScriptedBackend(f"{i}")) for i in range(20))
        return [state.ret_value for state in await asyncio.gather(*runs)]

    assert asyncio.run(main()) == [f"{i}" for i in range(20)]


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
