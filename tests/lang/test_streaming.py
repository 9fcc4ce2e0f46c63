"""Reading along: whole programs and single variables, sync and async."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import HANG, Reply, ScriptedBackend, wait_until

BROKEN = ft.RequestRefused("no")


@ft.function
def talk(s: ft.ProgramState, question: str) -> str:
    s += question + " -> "
    s += ft.gen("a")
    s += " (" + s["a"].upper() + ") "
    s += ft.gen("b", max_tokens=2)
    return s["b"]


def backend() -> ScriptedBackend:
    return ScriptedBackend(["hello world", "good bye"])


WHOLE = "hi -> hello world (HELLO WORLD) good bye"


def test_the_pieces_of_a_program_are_its_text() -> None:
    assert "".join(talk.stream("hi", backend=backend())) == WHOLE


def test_run_with_stream_is_sglangs_spelling() -> None:
    state = talk.run(question="hi", stream=True, backend=backend())
    assert "".join(state.text_iter()) == WHOLE
    assert state.ret_value == "good bye"


def test_one_variable_can_be_followed_and_then_the_next() -> None:
    state = talk.stream("hi", backend=backend())
    assert "".join(state.text_iter("a")) == "hello world"
    assert "".join(state.text_iter(var_name="b")) == "good bye"
    assert "".join(state.stream("a")) == "hello world"  # again, from the beginning
    assert state.text() == WHOLE


def test_reading_a_value_drives_the_program_as_far_as_that() -> None:
    state = talk.stream("hi", backend=backend())
    assert state["b"] == "good bye"
    meta = state.get_meta_info("a")
    assert meta is not None
    assert meta["completion_tokens"] == 11


def test_a_stream_starts_by_itself_and_arrives_piece_by_piece() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "begin " + ft.gen("x")

    script = ScriptedBackend(Reply("abcdef", hang=True))
    state = program.stream(backend=script)
    wait_until(lambda: script.num_running == 1)  # before anybody reads
    text = ""
    for piece in state:
        text += piece
        if text == "begin abcdef":
            break
    state.cancel()


def test_text_and_messages_of_a_stream_are_those_of_the_whole_program() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a"))
        s["a"]
        s += ft.user("Bye")

    state = program.stream(backend=ScriptedBackend())
    assert [message["content"] for message in state.messages()] == ["Hi", "ok", "Bye"]
    assert "".join(program.stream(backend=ScriptedBackend())) == state.text()


def test_a_select_comes_in_one_piece_and_set_variables_too() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.select("c", ["yes", "no"])
        s["v"] = 5
        with s.var_scope("w"):
            s += "in" + "side"

    state = program.stream(backend=ScriptedBackend())
    assert [list(state.text_iter(name)) for name in ("c", "v", "w")] == [["yes"], ["5"], ["inside"]]


def test_branches_of_a_stream_stream() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> list[list[str]]:
        forks = s.fork(2)
        forks += ft.gen("x")
        pieces = [list(branch.text_iter("x")) for branch in forks]
        forks.join()
        return pieces

    state = program.stream(backend=ScriptedBackend("abcdefg"))
    assert ["".join(pieces) for pieces in state.ret_value] == ["abcdefg"] * 2
    assert "".join(state.text_iter("x")) == "['abcdefg', 'abcdefg']"


def test_what_does_not_stream_is_read_in_one_piece() -> None:
    state = talk.run("hi", backend=backend())
    assert list(state) == [WHOLE]
    assert list(state.text_iter("a")) == ["hello world"]


def test_errors_come_after_the_text_before_them() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "good " + ft.gen("a") + " bad " + ft.gen("b")
        s["b"]

    script = ScriptedBackend(lambda prompt, _: BROKEN if prompt.endswith("bad ") else "fine")
    state = program.stream(backend=script)
    pieces: list[str] = []
    with pytest.raises(ft.GenerationError, match=r'gen\("b"\)'):
        pieces.extend(state.text_iter())  # keeps what came before the error
    assert "".join(pieces) == "good fine bad "
    assert list(state.text_iter("a"))
    with pytest.raises(ft.GenerationError):
        list(state.text_iter("b"))
    assert isinstance(state.error(), ft.GenerationError)


def test_the_programs_own_exception_comes_out_of_the_iterator() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "text" + ft.gen("a")
        raise ZeroDivisionError(s["a"])

    state = program.stream(backend=ScriptedBackend())
    with pytest.raises(ZeroDivisionError, match="ok"):
        list(state)
    with pytest.raises(ZeroDivisionError):
        state["never"]
    assert state["a"] == "ok"


def test_a_variable_that_never_comes_is_missing_when_the_program_has_ended() -> None:
    with pytest.raises(ft.MissingVariable, match="this state has: 'a', 'b'"):
        list(talk.stream("hi", backend=backend()).text_iter("c"))


def test_a_stream_read_in_another_thread_says_where_to_read_it() -> None:
    script = ScriptedBackend("hello", hold_for=2)  # the program waits in this thread until the other has asked, too
    state = talk.stream("hi", backend=script)
    caught: list[BaseException] = []

    def read() -> None:
        other = talk.stream("other", backend=script)
        try:
            list(state)
        except ft.ProgramError as error:
            caught.append(error)
        list(other)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert "driven by the thread that called stream()" in str(caught[0])
    assert "".join(state) == "hi -> hello (HELLO) hello"


def test_streams_can_be_read_side_by_side_inside_programs() -> None:
    @ft.function
    def outer(s: ft.ProgramState) -> str:
        inner = talk.stream("hi")
        return "".join(inner) + inner.ret_value

    states = outer.run_batch([{}], backend=backend())
    assert states[0].ret_value == WHOLE + "good bye"


def test_async_streams() -> None:
    async def read() -> tuple[str, str, str]:
        state = talk.astream("hi", backend=backend())
        a = "".join([piece async for piece in state.text_async_iter("a")])
        whole = "".join([piece async for piece in state])
        return a, whole, state.ret_value

    assert asyncio.run(read()) == ("hello world", WHOLE, "good bye")


def test_async_streams_run_side_by_side_in_one_thread() -> None:
    async def one(i: int) -> str:
        return "".join([piece async for piece in talk.astream(f"hi{i}", backend=backend())])

    async def read() -> list[str]:
        return await asyncio.gather(*(one(i) for i in range(20)))

    assert asyncio.run(read()) == [WHOLE.replace("hi ", f"hi{i} ") for i in range(20)]


def test_meta_data_of_a_stream_has_counts_so_far_and_the_pieces_own_log_probabilities() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "x" + ft.gen("a", return_logprob=True)

    async def read() -> list[tuple[str, dict[str, Any]]]:
        state = program.run(stream=True, backend=ScriptedBackend("hello"))
        return [pair async for pair in state.text_async_iter("a", return_meta_data=True)]

    pairs = asyncio.run(read())
    assert "".join(text for text, _ in pairs) == "hello"
    assert [meta["completion_tokens"] for _, meta in pairs] == [3, 5, 5]
    assert [len(meta["output_token_logprobs"]) for _, meta in pairs] == [3, 2, 0]
    assert [meta["output_token_logprobs_length"] for _, meta in pairs] == [3, 5, 5]
    assert pairs[-1][1]["finish_reason"] == {"type": "stop", "matched": None}


def test_an_async_reader_that_is_cancelled_ends_the_program() -> None:
    script = ScriptedBackend(HANG)
    pieces = []

    async def read() -> None:
        async for piece in talk.astream("hi", backend=script):
            pieces.append(piece)

    async def main() -> None:
        task = asyncio.create_task(read())
        while not (script.num_running and pieces):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    wait_until(lambda: script.num_running == 0)
    assert pieces == ["hi -> "]


def test_a_stream_that_is_cancelled_says_by_whom_and_one_that_is_dropped_that_it_was() -> None:
    script = ScriptedBackend(Reply("abc", hang=True))
    stream = talk.stream("hi", backend=script)
    pieces = stream.text_iter()
    next(pieces)
    stream.cancel()
    with pytest.raises(ft.ProgramCancelled, match=r"was cancelled at .*test_streaming\.py"):
        list(pieces)
    assert "was cancelled at" in str(stream.error())
