"""What @function makes: arguments, options of a run, nesting."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import forktree as ft
from tests.support.scripted_backend import ScriptedBackend


@ft.function
def greet(s: ft.ProgramState, name: str, mark: str = "!") -> str:
    s += "Hello " + name + ft.gen("x") + mark
    return f"greeted {name}"


def test_arguments_by_name_by_position_and_by_default() -> None:
    backend = ScriptedBackend("~")
    assert greet.run(name="Ann", backend=backend).text() == "Hello Ann~!"
    assert greet.run("Bob", "?", backend=backend).text() == "Hello Bob~?"
    assert greet("Cy", backend=backend).text() == "Hello Cy~!"
    assert greet.bind(mark=".").run("Di", backend=backend).text() == "Hello Di~."
    assert greet.bind(mark=".").run("Di", mark="..", backend=backend).text() == "Hello Di~.."


def test_the_value_that_the_function_returns_is_kept() -> None:
    assert greet.run("Ann", backend=ScriptedBackend()).ret_value == "greeted Ann"


def test_function_works_with_parentheses_and_keeps_the_name() -> None:
    @ft.function(num_api_spec_tokens=64)
    def documented(s: ft.ProgramState) -> None:
        """What it does."""

    assert (documented.__name__, documented.__doc__) == ("documented", "What it does.")
    assert documented.bind().num_api_spec_tokens == 64


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "missing a required argument: 'name'"),
        (("a", "b", "c"), {}, "too many positional arguments"),
        (("a",), {"colour": 1}, "program 'greet' has no argument 'colour'; it has name, mark"),
    ],
)
def test_wrong_arguments_name_the_program_and_what_it_takes(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=message):
        greet.run(*args, **kwargs, backend=ScriptedBackend())


def test_bind_refuses_an_argument_that_the_program_has_not() -> None:
    with pytest.raises(ft.ArgumentError, match="no argument 'colour'"):
        greet.bind(colour=1)


@ft.function
def clashing(s: ft.ProgramState, n: int, temperature: str, backend: str = "mine", stream: bool = False) -> str:
    s += ft.gen("x", max_tokens=1)
    return f"{n} {temperature} {backend} {stream}"


def test_a_programs_own_arguments_win_over_options_of_the_same_name() -> None:
    backend = ScriptedBackend()
    with_options = clashing.options(backend=backend, temperature=0.5)
    state = with_options.run(n=1, temperature="hot", backend="there", stream=True)
    assert state.ret_value == "1 hot there True"
    assert with_options.run(1, "hot", top_p=0.5).ret_value == "1 hot mine False"
    assert with_options.bind(n=1, temperature="hot").run().ret_value == "1 hot mine False"
    assert [(each.sampling.temperature, each.sampling.top_p) for each in backend.requests] == [
        (0.5, 1.0),
        (0.5, 0.5),
        (0.5, 1.0),
    ]
    states = clashing.run_batch([{"n": 1, "temperature": "hot"}, (2, "cold")], temperature=0.25, backend=backend)
    assert [state.ret_value for state in states] == ["1 hot mine False", "2 cold mine False"]
    assert [request.sampling.temperature for request in backend.requests[-2:]] == [0.25, 0.25]


def test_options_hold_for_every_way_to_run_and_the_nearest_goes_first() -> None:
    backend = ScriptedBackend()
    program = greet.options(temperature=0.5, max_new_tokens=5).options(backend=backend, max_new_tokens=6)
    program.run("a")
    program("a")
    program.bind(name="a").run()
    list(program.stream("a"))
    program.run_batch([("a",)])
    asyncio.run(program.arun("a"))
    asyncio.run(program.arun_batch([("a",)]))
    found = [(request.sampling.temperature, request.sampling.max_new_tokens) for request in backend.requests]
    assert found == [(0.5, 6)] * 7
    program.run("a", max_new_tokens=7)
    assert backend.requests[-1].sampling.max_new_tokens == 7
    greet.run("a", backend=backend)
    assert backend.requests[-1].sampling.max_new_tokens == 128  # the program itself is as it was


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "Ann"}, r"no option 'name'; arguments of the program are fixed with greet\.bind"),
        ({"temperature": "hot"}, "temperature: got 'hot'.*in greet.options"),
        ({"backend": "there"}, "backend: got 'there'"),
        ({"timeout": -1}, "timeout: got -1, wanted seconds"),
    ],
)
def test_options_are_checked_where_they_are_written(options: Any, message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=rf"(?s){message}.*test_program\.py:\d+"):
        greet.options(**options)


def test_options_of_a_program_that_runs_on_anothers_state_are_refused_not_ignored() -> None:
    helper = greet.options(temperature=0)

    @ft.function
    def outer(s: ft.ProgramState) -> None:
        helper(s, "Ann")

    with pytest.raises(ft.ArgumentError, match=r"program 'greet' has options of its own.*test_program\.py:\d+"):
        outer.run(backend=ScriptedBackend())


def test_a_gen_takes_the_runs_options_where_it_has_none() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("a") + ft.gen("b", max_tokens=3, temperature=0.0, stop=["x"])

    backend = ScriptedBackend()
    program.run(
        max_new_tokens=7, temperature=0.25, top_p=0.5, top_k=4, min_p=0.1, frequency_penalty=0.5, presence_penalty=-0.5,
        repetition_penalty=1.5, logit_bias={5: 1}, stop="s", stop_token_ids=[9], stop_regex="r", ignore_eos=True,
        backend=backend,
    )  # fmt: skip
    first, second = (request.sampling for request in backend.requests)
    assert (first.max_new_tokens, first.temperature, first.top_p, first.top_k, first.min_p) == (7, 0.25, 0.5, 4, 0.1)
    assert (first.frequency_penalty, first.presence_penalty, first.repetition_penalty) == (0.5, -0.5, 1.5)
    assert (first.stop, first.stop_token_ids, first.stop_regex) == (("s",), (9,), ("r",))
    assert (first.logit_bias, first.ignore_eos) == ({5: 1.0}, True)
    assert (second.max_new_tokens, second.temperature, second.stop, second.top_p) == (3, 0.0, ("x",), 0.5)


def test_defaults_are_sglangs() -> None:
    backend = ScriptedBackend()
    greet.run("Ann", backend=backend)
    sampling = backend.requests[0].sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (128, 1.0, 1.0, -1)


def test_a_program_without_backend_says_what_to_do() -> None:
    with pytest.raises(ft.NoBackend, match=r"ft\.set_default_backend\(ft\.Runtime\(\)\).*backend="):
        greet.run("Ann")


def test_the_default_backend_is_used_where_none_is_named() -> None:
    backend, other = ScriptedBackend("1"), ScriptedBackend("2")
    ft.set_default_backend(backend)
    assert greet.run("Ann")["x"] == "1"
    assert greet.run("Ann", backend=other)["x"] == "2"
    assert ft.flush_cache() is True
    assert ft.get_server_info() == {"requests": 1}
    assert (backend.num_flushed, other.num_flushed) == (1, 0)


def test_something_that_is_no_backend_is_refused() -> None:
    with pytest.raises(ft.ArgumentError, match="backend: got 'http://x'"):
        greet.run("Ann", backend="http://x")
    with pytest.raises(ft.ArgumentError, match=r"wanted ft\.Runtime"):
        ft.set_default_backend(ScriptedBackend)


def test_generator_functions_are_refused_with_what_to_do_instead() -> None:
    def generator(s: ft.ProgramState) -> Any:
        yield s

    async def asynchronous(s: ft.ProgramState) -> Any:
        yield s

    with pytest.raises(TypeError, match=r"read along with generator\.stream"):
        ft.function(generator)
    with pytest.raises(TypeError, match=r"read along with asynchronous\.stream"):
        ft.function(asynchronous)
    with pytest.raises(TypeError, match=r"write def <lambda>\(s"):
        ft.function(lambda: None)


def test_a_program_run_inside_another_uses_its_backend() -> None:
    @ft.function
    def outer(s: ft.ProgramState) -> str:
        inner = greet.run(name="Ann")
        s += inner["x"] + ft.gen("y")
        return str(greet("Bob").text())

    ft.set_default_backend(ScriptedBackend("wrong"))
    state = outer.run(backend=ScriptedBackend("~"))
    assert (state.text(), state.ret_value) == ("~~", "Hello Bob~!")


def test_a_program_called_with_the_state_runs_on_it_and_returns_its_value() -> None:
    @ft.function
    def outer(s: ft.ProgramState) -> str:
        s += "["
        value = greet(s, "Ann", mark="?")
        s += "]"
        return str(value)

    state = outer.run(backend=ScriptedBackend("~"))
    assert (state.text(), state.ret_value, state["x"]) == ("[Hello Ann~?]", "greeted Ann", "~")


def test_a_finished_program_can_be_appended_with_its_variables() -> None:
    @ft.function
    def talk(s: ft.ProgramState, question: str) -> None:
        s += ft.user(question) + ft.assistant(ft.gen("answer"))

    @ft.function
    def outer(s: ft.ProgramState) -> None:
        s += ft.user("first")
        s += talk(question="second")
        s += ft.user("third") + ft.assistant(ft.gen("last"))

    backend = ScriptedBackend("yes")
    state = outer.run(backend=backend)
    assert state["answer"] == "yes"
    assert [message["content"] for message in state.messages()] == ["first", "second", "yes", "third", "yes"]
    assert state.text().count("<s>") == state.text().count("Be nice.") == 1  # a conversation opens once
    assert tuple(map(ord, "yes")) in backend.requests[-1].prompt  # tokens stay tokens


def test_programs_run_in_the_thread_that_called_them() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> int:
        s += ft.gen("x")
        s["x"]
        return threading.get_ident()

    backend = ScriptedBackend()
    assert program.run(backend=backend).ret_value == threading.get_ident()
    batch = program.run_batch([{}] * 3, backend=backend)
    assert {state.ret_value for state in batch} == {threading.get_ident()}
    assert program.stream(backend=backend).ret_value == threading.get_ident()


def test_a_run_has_one_seed_for_all_and_every_gen_its_own() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("a") + ft.gen("b") + ft.gen("c", seed=3)
        forks = s.fork(2)
        forks += ft.gen("d")
        forks.join()

    def seeds(seed: int) -> set[int | None]:
        backend = ScriptedBackend()
        program.run(seed=seed, backend=backend)
        assert len(backend.requests) == 5
        return {request.sampling.seed for request in backend.requests}

    assert len(seeds(1)) == 5  # branches of a fork would otherwise all say the same
    assert seeds(1) == seeds(1)
    assert seeds(1) & seeds(2) == {3}


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: greet.run(1, 2, 3),
        lambda: greet.run(nothing_like_it=1),
        lambda: greet.run("a", temperature="hot", backend=ScriptedBackend()),
        lambda: greet.run("a", backend="there"),
        lambda: greet.run_batch("text"),
        lambda: greet.run_batch([3], backend=ScriptedBackend()),
        lambda: greet.run_batch([{}], top_p=2, backend=ScriptedBackend()),
        lambda: greet.run_batch([], num_threads=0),
        lambda: greet.bind(nothing_like_it=1),
        lambda: ft.function(lambda: None),
    ],
)
def test_wrong_arguments_of_a_run_are_refused_with_the_line(mistake: Any) -> None:
    ft.set_default_backend(ScriptedBackend())
    with pytest.raises(ft.ArgumentError, match=r"test_program\.py:\d+\)"):
        mistake()
