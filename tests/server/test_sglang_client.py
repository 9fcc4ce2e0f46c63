"""SGLang's own client, unmodified, drives our server on the default model (make test installs it: sglang==0.5.9)."""

from __future__ import annotations

import asyncio
import faulthandler
import json
import math
import re
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

import forktree as ft
from tests.support.serving import serving_on_a_thread
from tests.support.sglang_client import HOME, load_sglang, unload_sglang

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HOME.is_dir(), reason=f"SGLang's client is not in {HOME}; make test installs it"),
]

PROMPT, CHOICES = "The capital of France is", [" Paris", " London", " Berlin, Germany"]


@pytest.fixture(scope="module")
def sgl(engine: ft.Engine) -> Iterator[Any]:
    """The module, with our server as its default backend."""
    with serving_on_a_thread(engine) as url:
        module = load_sglang()
        module.url = url
        module.set_default_backend(module.RuntimeEndpoint(url, chat_template_name="chatml"))
        yield module
        unload_sglang()


@pytest.fixture(autouse=True)
def never_hangs() -> Iterator[None]:
    """The client waits for ever on a server that does not answer as it wants."""
    faulthandler.dump_traceback_later(120, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def test_a_conversation(sgl: Any, engine: ft.Engine) -> None:
    @sgl.function
    def turns(s: Any) -> None:
        s += sgl.system("Be brief.")
        s += sgl.user("What is the capital of France?")
        s += sgl.assistant(sgl.gen("first", max_tokens=16, temperature=0))
        s += sgl.user("And of Italy?")
        with s.assistant():
            s += sgl.gen("second", max_tokens=16, temperature=0)

    state = turns.run()
    assert "Paris" in state["first"]
    assert "<|im_end|>" not in state["first"]
    assert [message["role"] for message in state.messages()] == ["system", "user", "assistant", "user", "assistant"]
    meta = state.get_meta_info("second")
    assert meta["finish_reason"]["type"] in ("stop", "length")
    assert meta["cached_tokens"] > 0, "the second turn begins with the first"

    @ft.function
    def ours(s: ft.ProgramState) -> None:
        s += ft.system("Be brief.") + ft.user("What is the capital of France?")
        s += ft.assistant(ft.gen("first", max_tokens=16, temperature=0))

    assert ours.run(backend=engine)["first"] == state["first"]


def test_streams_as_text_and_with_logprobs(sgl: Any) -> None:
    @sgl.function
    def program(s: Any, logprobs: bool) -> None:
        s += PROMPT + sgl.gen("a", max_tokens=8, temperature=0, return_logprob=logprobs, top_logprobs_num=2)

    whole = program.run(logprobs=False)["a"]
    assert "".join(program.run(logprobs=False, stream=True).text_iter("a")) == whole

    async def read_along() -> list[tuple[str, Any]]:
        state = program.run(logprobs=True, stream=True)
        return [piece async for piece in state.text_async_iter("a", return_meta_data=True)]

    read = asyncio.run(read_along())
    assert "".join(text for text, _ in read) == whole
    assert read[-1][1]["output_token_logprobs_length"] == 8
    for _, meta in read:  # the client shows the newest chunk only, where it reads more slowly than they come
        assert meta["output_token_logprobs_length"] == meta["completion_tokens"]
        assert len(meta["output_top_logprobs"]) == len(meta["output_token_logprobs"])


@pytest.mark.parametrize(
    "method", ["token_length_normalized", "greedy_token_selection", "unconditional_likelihood_normalized"]
)
def test_select_by_each_method_over_exact_scores(sgl: Any, engine: ft.Engine, method: str) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += PROMPT + sgl.select("c", CHOICES, choices_method=getattr(sgl, method))

    state = program.run()
    assert state["c"] == " Paris"
    meta = state.get_meta_info("c")
    scores = engine.score(PROMPT, CHOICES)
    for ours, theirs in zip(scores, meta["input_token_logprobs"], strict=True):
        assert [token_id for _, token_id, _ in theirs] == list(ours.token_ids)
        assert all(
            math.isclose(value, logprob, abs_tol=1e-4)
            for (value, _, _), logprob in zip(theirs, ours.logprobs, strict=True)
        )


def test_select_where_a_choice_begins_another_and_the_prompt_ends_in_a_repeated_token(sgl: Any) -> None:
    @sgl.function
    def program(s: Any, prompt: str) -> None:
        s += prompt + sgl.select("c", [" ha", " ha ha", " no"])

    assert program.run(prompt="ha ha ha ha ha")["c"] in (" ha", " ha ha")


def test_constraints(sgl: Any) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

    @sgl.function
    def program(s: Any) -> None:
        s += "An address: " + sgl.gen("ip", regex=r"\d{1,3}(\.\d{1,3}){3}", max_tokens=24, temperature=0)
        s += " A number: " + sgl.gen("i", dtype=int, max_tokens=5, temperature=0)
        s += " True or False: " + sgl.gen("b", dtype=bool, max_tokens=5, temperature=0)
        s += " JSON: " + sgl.gen("j", json_schema=json.dumps(schema), max_tokens=40, temperature=0)

    state = program.run()
    assert re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", state["ip"])
    assert re.fullmatch(r"[-+]?\d+", state["i"].strip())
    assert state["b"] in ("True", "False")
    assert isinstance(json.loads(state["j"])["n"], int)


def test_stops_and_sampling_options(sgl: Any) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "1, 2, 3, 4," + sgl.gen("a", max_tokens=16, stop=" 6", temperature=0, top_p=0.9, top_k=40, min_p=0.01)

    state = program.run(frequency_penalty=0.0, presence_penalty=0.0)
    assert state["a"] == " 5,"
    assert state.get_meta_info("a")["finish_reason"] == {"type": "stop", "matched": " 6"}


def test_forks_are_joined_after_the_cache_was_filled(sgl: Any) -> None:
    @sgl.function
    def program(s: Any) -> None:
        s += "Some numbers: one, two, three. Some colours: red, green, blue."
        forks = s.fork(3)
        forks += lambda i: f" Number {i + 1} is"
        forks += sgl.gen("x", max_tokens=4, temperature=0)
        forks.join()
        s += " So:" + sgl.gen("end", max_tokens=4, temperature=0)

    state = program.run()
    assert len(state["x"]) == 3
    assert all(isinstance(each, str) and each for each in state["x"])
    assert state["end"]


def test_batches_prefixes_and_the_calls_beside_programs(sgl: Any) -> None:
    shots = "".join(f"Question: what is {i} and {i}? Answer: {2 * i}. " for i in range(6))

    @sgl.function
    def program(s: Any, n: int) -> None:
        s += shots
        s += f"Question: what is {n} and {n}? Answer:"
        s += sgl.gen("a", max_tokens=4, temperature=0)

    states = program.run_batch([{"n": n} for n in range(8)], num_threads=8)
    assert len({state["a"] for state in states}) > 1
    assert all(state.get_meta_info("a")["cached_tokens"] > 40 for state in states), "the traced prefix was cached"
    program.cache()
    sgl.flush_cache()
    assert sgl.get_server_info()["status"] == "ready"


def test_what_the_server_refuses_reaches_the_client(sgl: Any) -> None:
    """Its threads then warn with the server's words; what it does with them afterwards is its own affair."""

    @sgl.function
    def program(s: Any) -> None:
        s += "x" + sgl.gen("a", regex="(?<=a)b", max_tokens=2)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        executor = program.run().stream_executor
        deadline = time.monotonic() + 30
        while executor.error_ is None:
            assert time.monotonic() < deadline, "no error came"
            threading.Event().wait(0.01)
    assert "regex" in str(executor.error_)
    assert "offset" in str(executor.error_)
