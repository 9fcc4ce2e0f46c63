"""Model calls that run ahead of the program: its results are those of a run without them, whatever was foreseen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import weakref
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import GenerateRequest
from forktree.lang.errors import BackendError, BranchErrors, GenerationError, ProgramCancelled
from forktree.lang.loop import loop_thread
from tests.support.program_backend import ProgramsBackend
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, settle, wait_until

S = ft.ProgramState


def answer(prompt: str, request: GenerateRequest) -> str:
    """Another text for every prompt and every way to ask."""
    number = zlib.crc32(f"{prompt}|{request.sampling}".encode())
    return f"<{number % 1000}>"


def scores(prompt: str | None, choice: str) -> list[float]:
    return [-(zlib.crc32(f"{prompt}{choice[:i]}".encode()) % 97) / 10 - 0.1 for i in range(1, len(choice) + 1)]


def plain() -> ScriptedBackend:
    return ScriptedBackend(answer, scores=scores)


def programs() -> ProgramsBackend:
    return ProgramsBackend(answer, scores=scores, jitter=lambda: random.randrange(4))


def everything(state: ft.ProgramState) -> dict[str, Any]:
    """What a user can see of a run."""

    def without_ids(meta: Any) -> Any:
        if isinstance(meta, dict):
            return {name: without_ids(value) for name, value in meta.items() if name != "id"}
        return [without_ids(each) for each in meta] if isinstance(meta, list) else meta

    shared = state._shared
    names = [name for name in shared.slots if not name.startswith("#")]
    return {
        "text": state.text(),
        "messages": state.messages(),
        "values": {name: state[name] for name in names},
        "meta": {name: without_ids(state.get_meta_info(name)) for name in names},
        "returned": shared.return_value,
    }


# ---- programs


def plain_chain(s: S, q: str) -> str:
    s += "Q: " + q + "\n"
    s += "A:" + ft.gen("a", max_tokens=8, stop="\n") + "\n"
    s += "B:" + ft.gen("b", temperature=0)
    return "done " + str(s["b"])


def variables_as_text(s: S, q: str) -> None:
    s += q + ft.gen("a")
    s += f" again {s['a']} and " + s["a"] + ft.gen("b")
    s += "(" + s["a"] + s["b"] + ")" + ft.gen("c")


def forks_and_joins(s: S, q: str) -> None:
    s += "Tips for " + q
    forks = s.fork(3)
    for i, branch in enumerate(forks):
        branch += f" tip {i}:" + ft.gen("tip") + "." + ft.gen("more")
    forks.join()
    s += " ".join(s["tip"]) + ft.gen("end")


def joined_by_text(s: S, q: str) -> None:
    s += q
    forks = s.fork(2)
    forks += ["left " + ft.gen("x"), "right " + ft.gen("x")]
    forks.join("concate_and_append")
    s += ft.gen("end")


def forks_in_forks(s: S, q: str) -> None:
    s += q + ft.gen("root")
    outer = s.fork(2)
    for branch in outer:
        branch += " outer" + ft.gen("o")
        inner = branch.fork(2)
        inner += lambda i: f" inner {i}" + ft.gen("i")
        inner.join()
        branch += ft.gen("after")
    outer.join()
    s += str(len(s["after"])) + ft.gen("end")


def roles_and_choices(s: S, q: str) -> None:
    s += ft.system("Be brief.")
    s += ft.user(q)
    s += ft.assistant(ft.gen("reply", max_tokens=5))
    with s.user():
        s += "Sure?"
    with s.assistant():
        s += "I am " + ft.select("sure", ["sure", "not sure", "s"]) + "."
        s += ft.gen("why")


def no_system(s: S, q: str) -> None:
    s += ft.user(q) + ft.assistant(ft.gen("a", n=2, seed=5)) + ft.user("more") + ft.assistant(ft.gen("b"))


def all_methods(s: S, q: str) -> None:
    s += q
    for method in (
        ft.token_length_normalized,
        ft.greedy_token_selection,
        ft.unconditional_likelihood_normalized,
        ft.exact_probability,
    ):
        s += ft.select(method.name, ["yes", "no", "yes and no"], choices_method=method) + ft.gen()
    s += ft.select("drawn", ["a", "b", "c"], temperature=2.0, seed=3) + ft.gen("last")


def n_outputs(s: S, q: str) -> None:
    s += q + ft.gen("many", n=3, temperature=0.9)
    s += " second: " + s["many"][1] + ft.gen("next")


def logprobs(s: S, q: str) -> None:
    s += q + ft.gen("a", return_logprob=True, top_logprobs_num=1) + ft.gen("b", return_logprob=True)


def constrained(s: S, q: str) -> None:
    s += q + ft.gen("a", regex="[0-9]+") + ft.gen_int("b") + ft.gen("c", json_schema='{"type": "integer"}')


def copies_and_scopes(s: S, q: str) -> None:
    with s.var_scope("all"):
        s += q + ft.gen("a")
        with s.copy() as draft:
            draft += "draft" + ft.gen("draft")
    s += s["all"] + s["draft"][0] + ft.gen("b")


def empty_beginnings(s: S, q: str) -> None:
    s += ft.gen("a")
    s += ""
    s += ft.gen("b") + q


def open_at_the_end(s: S, q: str) -> None:
    s += q + ft.gen("a") + ft.gen("b")
    if "7" in s["b"]:
        s += "lucky" + ft.gen("c")
    else:
        s += ft.gen("d", max_tokens=3)


def text_of_f_strings_looked_into(s: S, q: str) -> None:
    """The trace sees marks where the run sees text: it foresees the wrong length."""
    s += q + ft.gen("a")
    text = f"a{s['a']}b"
    s += str(len(text)) + ft.gen("b") + ft.gen("c")


def another_way_in_the_trace(s: S, q: str) -> None:
    """An f-string is compared as its marks: the trace takes the other way, to other gens at the same places."""
    s += q + ft.gen("a")
    if f"-{s['a']}".startswith("-<"):
        s += ft.gen("b", max_tokens=3) + ft.select("c", ["x", "y"])
    else:
        s += ft.select("b", ["x", "y"]) + ft.gen("c", max_tokens=9)
    s += ft.gen("d")


def nested(s: S, q: str) -> str:
    found = ask(s, q)
    s += " then " + found
    return str(ask(s, "more"))


@ft.function
def ask(s: S, what: str) -> str:
    s += what + ft.gen(f"about {what}")
    return str(s[f"about {what}"])


def branch_left_alone(s: S, q: str) -> None:
    s += q
    forks = s.fork(2)
    forks += ft.gen("x")
    s["first"] = forks[0]["x"]
    s += ft.gen("end")


PROGRAMS = [
    plain_chain,
    variables_as_text,
    forks_and_joins,
    joined_by_text,
    forks_in_forks,
    roles_and_choices,
    no_system,
    all_methods,
    n_outputs,
    logprobs,
    constrained,
    copies_and_scopes,
    empty_beginnings,
    open_at_the_end,
    text_of_f_strings_looked_into,
    another_way_in_the_trace,
    nested,
    branch_left_alone,
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"seed": 11, "temperature": 0.7},
    {"n": 2, "stop": ["###"]},
    {"return_logprob": True, "top_logprobs_num": 2, "logprob_start_len": 0},
    {"ignore_eos": True, "max_new_tokens": 7},
]
FORESEEN_WRONGLY = {"text_of_f_strings_looked_into", "another_way_in_the_trace"}

each_program = pytest.mark.parametrize("func", PROGRAMS, ids=lambda func: func.__name__)


@each_program
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "no options")
def test_a_run_ahead_gives_what_a_plain_run_gives(func: Callable[..., Any], options: dict[str, Any]) -> None:
    expected = everything_or_error(ft.function(func, trace=False), plain(), options)
    backend = programs()
    found = everything_or_error(ft.function(func, trace=True), backend, options)
    assert found == expected
    if "n" not in options:
        assert len(backend.calls) == 1
        assert backend.asked_ahead
    if not options and func.__name__ not in {*FORESEEN_WRONGLY, "open_at_the_end"}:
        assert backend.asked_by_runs == []
    settle()
    backend.check_nothing_runs()


def everything_or_error(program: ft.Program, backend: ScriptedBackend, options: dict[str, Any]) -> Any:
    try:
        return everything(program.run("sky", backend=backend, **options))
    except Exception as error:  # n=2 makes lists of what a program adds to text
        return type(error), str(error)


@each_program
def test_every_way_to_run_gives_the_same(func: Callable[..., Any]) -> None:
    program, without = ft.function(func, trace=True), ft.function(func, trace=False)
    items = [{"q": q} for q in ("sky", "sea", "sky", "sand", "")]
    expected = [everything(state) for state in without.run_batch(items, backend=plain(), seed=1)]
    backend = programs()

    assert [everything(state) for state in program.run_batch(items, backend=backend, seed=1)] == expected
    assert [everything(state) for state in program.run_batch(items, backend=backend, seed=1, num_threads=2)] == expected
    one_by_one = program.run_batch(items, backend=backend, seed=1, generator_style=True)
    assert [everything(state) for state in one_by_one] == expected
    assert [everything(state) for state in asyncio.run(program.arun_batch(items, backend=backend, seed=1))] == expected
    assert everything(asyncio.run(program.arun("sea", backend=backend, seed=1))) == expected[1]
    streamed = program.stream("sea", backend=backend, seed=1)
    assert "".join(streamed) == expected[1]["text"]
    settle()
    backend.check_nothing_runs()


@each_program
@pytest.mark.parametrize("fault", ["lies", "refuses", "breaks at once", "breaks half way"])
def test_what_goes_wrong_ahead_is_asked_again(func: Callable[..., Any], fault: str) -> None:
    expected = everything(ft.function(func, trace=False).run("sky", backend=plain()))
    backend = programs()
    if fault == "lies":
        backend.lies = True
    elif fault == "refuses":
        backend.refuses = BackendError("no programs here")
    else:
        backend.breaks_after = 0 if fault == "breaks at once" else 2
    assert everything(ft.function(func, trace=True).run("sky", backend=backend)) == expected
    settle()
    backend.check_nothing_runs()


def test_branches_of_a_batch_are_planned_together_and_told_apart() -> None:
    backend = programs()
    states = ft.function(plain_chain, trace=True).run_batch([(q,) for q in "abcabc"], backend=backend)
    assert len(backend.calls) == 1
    assert len(backend.calls[0].arguments) == 6
    assert [state["a"] for state in states[:3]] == [state["a"] for state in states[3:]]
    assert len({state["a"] for state in states}) == 3


def test_a_node_that_was_foreseen_wrongly_ends_with_what_needs_it() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a")
        s += str(len(f"a{s['a']}b")) + ft.gen("b") + ft.gen("c")

    backend = ProgramsBackend(lambda prompt, request: "ok" if prompt in ("x", "xok4", "xok4ok") else HANG)
    state = ft.function(program, trace=True).run(backend=backend)
    assert state.text() == "xok4okok"
    assert backend.calls[0].aborts == [(0, 1)]
    assert [each.prompt[-1] for each in backend.asked_by_runs] == ["4", tuple(map(ord, "ok"))]
    settle()
    backend.check_nothing_runs()


def test_after_a_wrong_forecast_a_branch_does_not_wait_for_the_others() -> None:
    """The second gen of the left branch is lost with the first: asking for it may not wait for the right branch."""
    got: list[str] = []

    def script(prompt: str, request: GenerateRequest) -> str | Reply:
        if "right" in prompt and not got:
            return HANG
        return answer(prompt, request)

    def program(s: S) -> None:
        s += "x" + ft.gen("x")
        left, right = s.fork(2)
        right += "right" + ft.gen("r")
        left += str(len(f"a{s['x']}")) + ft.gen("l") + ft.gen("m")
        got.append(left["m"])
        right._shared.branch.cancel("enough")

    ft.function(program, trace=True).run(backend=ProgramsBackend(script))
    assert got


# ---- errors


def test_a_nodes_error_is_raised_with_node_and_line() -> None:
    def program(s: S) -> None:
        s += "a" + ft.gen("x")
        s += ft.gen("y")

    backend = programs()
    backend.fail = lambda item, node: BackendError("out of paper") if node == 1 else None
    with pytest.raises(GenerationError) as raised:
        ft.function(program, trace=True).run(backend=backend)
    assert str(raised.value).startswith('gen("y") at ')
    assert "out of paper" in str(raised.value)
    assert raised.value.source.line == program.__code__.co_firstlineno + 2
    assert backend.asked_by_runs == []


def test_the_error_of_a_branch_reaches_its_join_and_the_others_are_done() -> None:
    def program(s: S) -> None:
        s += "a"
        forks = s.fork(3)
        forks += lambda i: f"{i}" + ft.gen("x")
        try:
            forks.join()
        except BranchErrors as errors:
            s["failed"] = list(errors.errors)
        s["last"] = forks[2]["x"]

    backend = programs()
    backend.fail = lambda item, node: BackendError("no") if node == 2 else None
    state = ft.function(program, trace=True).run(backend=backend)
    assert state["failed"] == [1]
    assert state["last"].startswith("<")


def test_a_program_that_handles_an_error_goes_on_with_what_needed_the_failed_node() -> None:
    def program(s: S) -> None:
        try:
            with s.copy() as draft:
                draft += "draft" + ft.gen("x")
        except (GenerationError, BranchErrors):
            s += "failed"
        s += ft.gen("y")

    backend = programs()
    backend.fail = lambda item, node: BackendError("no") if node == 0 else None
    state = ft.function(program, trace=True).run(backend=backend)
    assert state.text().startswith("failed<")


def test_an_error_of_a_prompt_that_the_program_never_had_is_not_its_error() -> None:
    """The forecast was wrong and failed, say as too long: the program asks with its own prompt, and gets its answer."""
    backend = programs()
    backend.lies = True
    backend.fail = lambda item, node: BackendError("too long") if node == 1 else None
    state = ft.function(plain_chain, trace=True).run("sky", backend=backend)
    assert everything(state) == everything(ft.function(plain_chain, trace=False).run("sky", backend=plain()))


def test_a_select_that_fails_is_raised_at_its_line() -> None:
    backend = programs()
    backend.fail = lambda item, node: BackendError("no scores") if node == 1 else None
    with pytest.raises(GenerationError, match=r'select\("sure"\) at .* failed: no scores'):
        ft.function(roles_and_choices, trace=True).run("sky", backend=backend)


def test_an_engine_that_goes_away_half_way_through_an_output_is_told() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a") + ft.gen("b")

    backend = ProgramsBackend("a long text")
    backend.breaks_after = 2  # that it has begun, and its first piece
    with pytest.raises(GenerationError, match="the connection broke"):
        ft.function(program, trace=True).stream(backend=backend).text()


# ---- ends


def hanging_after(n: int) -> ProgramsBackend:
    return ProgramsBackend(lambda prompt, request: HANG if len(prompt) > n else "ok")


def test_cancelling_a_stream_ends_the_program_on_the_backend() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a") + "y" * 10 + ft.gen("b") + ft.gen("c")

    backend = hanging_after(5)
    state = ft.function(program, trace=True).stream(backend=backend)
    assert state["a"] == "ok"
    state.cancel()
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))
    with pytest.raises(ProgramCancelled):
        state["b"]
    settle()
    backend.check_nothing_runs()


def test_a_stream_nobody_reads_any_more_ends_the_program_on_the_backend() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a") + "y" * 10 + ft.gen("b") + ft.gen("c")

    backend = hanging_after(5)
    state = ft.function(program, trace=True).stream(backend=backend)
    assert state["a"] == "ok"
    del state
    gc.collect()
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))


def test_cancelling_a_coroutine_ends_the_program_on_the_backend() -> None:
    def program(s: S) -> None:
        s += "x" * 10 + ft.gen("a")
        s += s["a"] + ft.gen("b")

    backend = hanging_after(5)

    async def main() -> None:
        task = asyncio.ensure_future(ft.function(program, trace=True).arun(backend=backend))
        while not backend.num_running:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))


def test_a_program_that_raises_ends_what_runs_ahead_of_it() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a") + "y" * 10 + ft.gen("b")
        if s["a"]:
            raise ValueError("no more")

    backend = hanging_after(5)
    with pytest.raises(ValueError, match="no more"):
        ft.function(program, trace=True).run(backend=backend)
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))


def test_a_branch_that_is_left_ends_its_node_and_what_needs_it() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a")
        with contextlib.suppress(KeyError), s.copy() as draft:
            draft += "y" * 10 + ft.gen("b") + ft.gen("c")
            s.sync()
            raise KeyError
        s += ft.gen("d")

    def script(prompt: str, request: GenerateRequest) -> str | Reply:
        return HANG if "y" in prompt else "ok"

    backend = ProgramsBackend(script)
    state = ft.function(program, trace=True).run(backend=backend)
    assert state["d"] == "ok"
    settle()
    backend.check_nothing_runs()


def test_a_gen_that_takes_too_long_ends_its_node() -> None:
    def program(s: S) -> None:
        s += "x" + ft.gen("a") + "y" * 10 + ft.gen("b", timeout=0.01) + ft.gen("c")

    backend = hanging_after(5)
    with pytest.raises(ft.DeadlineExceeded):
        ft.function(program, trace=True).run(backend=backend)["b"]
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))


def test_a_batch_that_is_left_ends_the_runs_that_never_began() -> None:
    def program(s: S, q: str) -> None:
        s += q + ft.gen("a")

    backend = ProgramsBackend(lambda prompt, request: HANG if prompt == "h" else "ok")
    runs = ft.function(program, trace=True).run_batch(
        [(q,) for q in ("a", "b", "h", "h", "h")], backend=backend, num_threads=2, generator_style=True
    )
    assert next(runs)["a"] == "ok"
    assert next(runs)["a"] == "ok"
    runs.close()
    wait_until(lambda: backend.num_running == 0 and all(call.closed for call in backend.calls))


def test_runs_that_are_done_leave_the_others_of_their_batch_alone() -> None:
    def program(s: S, q: str) -> None:
        s += q + ft.gen("a")
        if s["a"] == "fail":
            raise ValueError("no")

    backend = ProgramsBackend(lambda prompt, request: {"f": "fail"}.get(prompt, "ok"))
    states = ft.function(program, trace=True).run_batch(
        [(q,) for q in "afb"], backend=backend, num_threads=3, return_errors=True
    )
    assert [state.error() is None for state in states] == [True, False, True]


def test_nothing_of_what_came_ahead_outlives_the_run() -> None:
    backend = programs()
    states = ft.function(forks_in_forks, trace=True).run_batch([("a",), ("b",)], backend=backend)
    settle()
    assert [state._shared.branch.run.ahead for state in states] == [None, None]
    call = weakref.ref(backend.calls.pop())
    gc.collect()
    assert call() is None
    assert not [task for task in loop_thread().tasks if "_follow" in repr(task)]


# ---- what is run ahead, and what is not


def test_a_single_gen_by_itself_is_not_sent_as_a_program_but_in_a_batch_it_is() -> None:
    @ft.function
    def program(s: S, q: str) -> None:
        s += q + ft.gen("a")

    backend = programs()
    program.run("x", backend=backend)
    assert not backend.calls
    program.run_batch([("x",), ("y",)], backend=backend)
    assert len(backend.calls) == 1


def test_a_program_with_effects_runs_once_and_nothing_ahead() -> None:
    ran: list[str] = []

    @ft.function
    def program(s: S, q: str) -> None:
        ran.append(q)
        s += q + ft.gen("a") + ft.gen("b")

    backend = programs()
    program.run("x", backend=backend)
    assert ran == ["x"]
    assert not backend.calls


def test_a_backend_that_can_not_run_programs_now_is_not_asked_to() -> None:
    backend = programs()
    backend.runs_programs = False
    ft.function(plain_chain, trace=True).run("x", backend=backend)
    assert not backend.calls


def test_a_fork_that_runs_ahead_needs_no_commit() -> None:
    backend = programs()
    ft.function(forks_and_joins, trace=True).run("x", backend=backend)
    assert backend.committed == []
    ft.function(forks_and_joins, trace=False).run("x", backend=backend)
    assert len(backend.committed) == 1


def test_a_chat_format_that_can_not_be_had_is_an_error_at_the_role() -> None:
    backend = programs()
    backend.chat_format = None
    with pytest.raises(ft.RoleError, match="system_begin"):
        ft.function(roles_and_choices, trace=True).run("x", backend=backend)
