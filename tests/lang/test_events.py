"""One stream of events for a whole program: every branch's text in order, every variable, every error."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

BROKEN = ft.RequestRefused("refused")


@ft.function
def program(s: ft.ProgramState) -> None:
    s += "begin " + ft.gen("a")
    s += " said " + s["a"]
    forks = s.fork(2)
    forks += lambda i: f" {i}" + ft.gen("x") + "." + ft.select("c", ["yes", "no"])
    forks.join()
    s += "end"


def backend() -> ScriptedBackend:
    return ScriptedBackend({"begin ": "hello", " 0": "zero point", " 1": "one point"})


def texts(events: list[ft.StreamEvent]) -> dict[tuple[int, ...], str]:
    found: dict[tuple[int, ...], str] = {}
    for event in events:
        if event.kind == "text":
            found[event.path] = found.get(event.path, "") + event.delta
    return found


def values(events: list[ft.StreamEvent]) -> dict[tuple[Any, ...], Any]:
    return {(event.path, event.variable): event.value for event in events if event.kind == "value"}


EXPECTED_TEXTS = {(): "begin hello said helloend", (2, 0): " 0zero point.yes", (2, 1): " 1one point.yes"}
EXPECTED_VALUES = {
    ((), "a"): "hello",
    ((2, 0), "x"): "zero point",
    ((2, 1), "x"): "one point",
    ((2, 0), "c"): "yes",
    ((2, 1), "c"): "yes",
    ((), "x"): ["zero point", "one point"],
    ((), "c"): ["yes", "yes"],
}


def test_events_tell_all_text_and_all_variables_of_all_branches() -> None:
    events = list(program.stream_events(backend=backend()))
    assert texts(events) == EXPECTED_TEXTS
    assert values(events) == EXPECTED_VALUES


def test_the_order_of_a_branch_is_that_of_its_text() -> None:
    events = list(program.stream_events(backend=backend()))
    of_branch = [event for event in events if event.path == (2, 1)]
    shown = [(event.kind, event.variable, event.delta or event.value) for event in of_branch]
    assert shown == [
        ("text", None, " 1"),
        ("text", "x", "one"),
        ("text", "x", " po"),
        ("text", "x", "int"),
        ("value", "x", "one point"),
        ("text", None, "."),
        ("text", "c", "yes"),
        ("value", "c", "yes"),
    ]


def test_events_of_branches_come_while_they_run() -> None:
    @ft.function
    def endless(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ft.gen("x")
        forks.join()

    script = ScriptedBackend(Reply("abcdef", hang=True))
    found: dict[tuple[int, ...], str] = {}
    for event in endless.stream_events(backend=script):
        found[event.path] = found.get(event.path, "") + event.delta
        if list(found.values()) == ["abcdef", "abcdef"]:
            break
    del event
    wait_until(lambda: script.num_running == 0)  # the stream was dropped, so the program ends


def test_async_events_of_plain_and_async_programs() -> None:
    @ft.function
    async def twin(s: ft.AsyncState) -> None:
        s += "begin " + ft.gen("a")
        s += " said " + await s.read("a")
        forks = s.fork(2)
        forks += lambda i: f" {i}" + ft.gen("x") + "." + ft.select("c", ["yes", "no"])
        await forks.ajoin()
        s += "end"

    async def read(which: ft.Program) -> list[ft.StreamEvent]:
        return [event async for event in which.astream_events(backend=backend())]

    for which in (program, twin):
        events = asyncio.run(read(which))
        assert texts(events) == EXPECTED_TEXTS
        assert values(events) == EXPECTED_VALUES


def test_errors_are_events_and_the_programs_error_ends_the_stream() -> None:
    @ft.function
    def failing(s: ft.ProgramState) -> None:
        forks = s.fork(2)
        forks += ["good " + ft.gen("x"), "bad " + ft.gen("x") + ft.gen("y")]
        forks.join()

    events: list[ft.StreamEvent] = []
    with pytest.raises(ft.BranchErrors):
        events.extend(failing.stream_events(backend=ScriptedBackend({"good ": "fine", "bad ": BROKEN})))
    errors = {(event.path, event.variable): str(event.error) for event in events if event.kind == "error"}
    assert set(errors) == {((1, 1), "x"), ((1, 1), "y")}
    assert all("refused" in message for message in errors.values())
    assert values(events) == {((1, 0), "x"): "fine"}


def test_typed_values_and_values_that_are_none_of_their_type() -> None:
    @ft.function
    def typed(s: ft.ProgramState) -> None:
        s += ft.gen("a", type=int) + ft.gen("b", type=int)

    events = list(typed.stream_events(backend=ScriptedBackend(["1", "x"])))
    assert values(events) == {((), "a"): 1}
    [error] = [event for event in events if event.kind == "error"]
    assert isinstance(error.error, ft.GenerationError)


def test_set_variables_and_scopes_are_events_too() -> None:
    @ft.function
    def scoped(s: ft.ProgramState) -> None:
        s["v"] = 5
        with s.var_scope("w"):
            s += "in" + ft.gen() + "side"

    events = list(scoped.stream_events(backend=ScriptedBackend("-")))
    assert values(events) == {((), "v"): 5, ((), None): "-", ((), "w"): "in-side"}


def test_a_reader_that_falls_behind_gets_fewer_pieces_and_all_text() -> None:
    text = "word " * 2000
    script = ScriptedBackend(text, chunk_size=1)
    state = ft.function(lambda s: s.__iadd__(ft.gen("x"))).stream(backend=script)
    assert state["x"] == text  # without reading an event
    events = list(state.events())
    assert len(events) < 300
    assert texts(events) == {(): text}


def test_the_body_goes_on_while_branches_stream() -> None:
    """Events of a branch that never ends must not keep the program's own code from its next step."""

    @ft.function
    def busy(s: ft.ProgramState) -> None:
        forks = s.fork(1)
        forks += ft.gen("endless", ignore_eos=True)
        s += "now" + ft.gen("x")
        s["x"]
        forks[0].cancel()

    script = ScriptedBackend(lambda prompt, _: "ok" if prompt == "now" else Reply("z" * 3_000_000, hang=True))
    events, num_characters = [], 0
    for event in busy.stream_events(backend=script):
        if event.path == ():
            events.append(event.delta or event.value)
        else:
            num_characters += len(event.delta)
    assert events == ["now", "ok", "ok"]
    assert num_characters < 3_000_000  # the branch was cancelled on its way


def test_events_of_a_program_that_does_not_stream_are_refused() -> None:
    state = program.run(backend=backend())
    with pytest.raises(ft.ArgumentError, match=r"started with stream\(\.\.\.\) \(at .*test_events\.py:\d+"):
        next(state.events())


def test_an_async_reader_of_events_that_is_cancelled_ends_the_program() -> None:
    script = ScriptedBackend(HANG)

    async def read() -> None:
        async for event in program.astream_events(backend=script):
            assert event.kind == "text"

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(read(), 0.02)

    asyncio.run(main())
    wait_until(lambda: script.num_running == 0)
