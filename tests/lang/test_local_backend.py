"""LocalBackend around an engine that is written down: what it is asked, what becomes of its answers and errors."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.local import BackendOnFirstUse, LocalBackend
from forktree.runtime import (
    Completion,
    Delta,
    Engine,
    EngineDead,
    InvalidRequest,
    SamplingParams,
    Score,
    TokenLogprob,
    Usage,
)
from forktree.runtime.engine.messages import Timing
from tests.support.scripted_backend import wait_until

USAGE = Usage(prompt_tokens=4, completion_tokens=2, cached_tokens=1)


@dataclass
class WrittenEngine:
    error: Exception | None = None
    asked: list[tuple[str, Any, Any, dict[str, Any]]] = field(default_factory=list)
    closed: bool = False
    info: Any = field(
        default_factory=lambda: SimpleNamespace(
            name="m",
            context_length=64,
            bos_token_id=None,
            add_bos=False,
            page_size=1,
            num_pages=8,
            chat_format=SimpleNamespace(bos="", default_system="", roles={"user": ("<u>", "</u>")}),
        )
    )

    async def agenerate(self, prompt: Any, sampling_params: Any, **options: Any) -> Completion:
        self.asked.append(("agenerate", prompt, sampling_params, options))
        if self.error is not None:
            raise self.error
        SamplingParams.from_dict(sampling_params)  # as the engine does: what it does not know is refused
        entry = TokenLogprob(-0.5, 7, "h", [(-0.5, 7, "h")])
        return Completion("hi", [7, 8, 2], "stop", 2, USAGE, [entry], kept_token_ids=[7, 8])

    async def astream(self, prompt: Any, sampling_params: Any, **options: Any) -> AsyncGenerator[Delta, None]:
        self.asked.append(("astream", prompt, sampling_params, options))
        yield Delta(0, "h", [7], [], None, USAGE)
        yield Delta(0, "i", [8], [], None, USAGE, "length", None, [7, 8])

    async def ascore(self, prompt: Any, continuations: Any) -> list[Any]:
        self.asked.append(("ascore", prompt, continuations, {}))
        return [Score([i], [-float(i)], Timing(1.0, 2.0, 0.0, 5)) for i, _ in enumerate(continuations)]

    def close(self) -> None:
        self.closed = True

    async def aflush_cache(self) -> None: ...

    async def astats(self) -> Any:
        return SimpleNamespace(__struct_fields__=("prompt_tokens",), prompt_tokens=3)


def backend_on(engine: WrittenEngine) -> LocalBackend:
    return LocalBackend(engine)  # type: ignore[arg-type]


@ft.function
def program(s: ft.ProgramState) -> None:
    s += "Q: " + ft.gen("a", return_logprob=True, top_logprobs_num=1, regex="[a-z]+", seed=3) + " and " + ft.gen("b")


def test_a_program_runs_on_an_engine() -> None:
    engine = WrittenEngine()
    state = program.run(backend=backend_on(engine))
    assert state.text() == "Q: hi and hi"
    (_, prompt, sampling, options), (_, second, _, plain) = engine.asked
    assert prompt == "Q: "
    assert (sampling["regex"], sampling["seed"]) == ("[a-z]+", 3)
    assert options.pop("request_id")
    assert options == {"return_logprob": True, "logprob_start_len": -1, "top_logprobs_num": 1}
    assert second == ["Q: ", [7, 8], " and ", []]  # not a batch of prompts
    assert list(plain) == ["request_id"]
    meta = state.get_meta_info("a")
    assert meta is not None
    assert meta["output_top_logprobs"] == [[[-0.5, 7, None]]]
    assert meta["finish_reason"] == {"type": "stop", "matched": 2}


def test_sampling_params_are_those_the_runtime_takes() -> None:
    from forktree.lang.backends.protocol import SamplingParams
    from forktree.runtime import SamplingParams as OfTheRuntime

    ours = SamplingParams(stop=("a",), stop_token_ids=(1,), stop_regex=("b",), logit_bias={5: 1.0}, seed=1, regex="a")
    theirs = OfTheRuntime.from_dict(ours.to_dict())
    for name, value in vars(ours).items():
        assert getattr(theirs, name) == value, name


@pytest.mark.parametrize(
    "constraint",
    [
        {"ebnf": 'root ::= "a"'},
        {"structural_tag": {"structures": [], "triggers": ["<"]}},
        {"json_schema": {"type": "null"}, "white_space": "compact", "order": "any"},
    ],
)
def test_every_constraint_reaches_the_engine(constraint: dict[str, Any]) -> None:
    engine = WrittenEngine()
    ft.function(lambda s: s.__iadd__(ft.gen("x", **constraint))).run(backend=backend_on(engine))
    [params] = [asked[2] for asked in engine.asked]
    for name, value in constraint.items():
        found = params[name]
        assert (found if isinstance(value, str) else json.loads(found)) == value


def test_streams_pass_through() -> None:
    engine = WrittenEngine()
    assert "".join(program.stream(backend=backend_on(engine)).text_iter("a")) == "hi"
    assert engine.asked[0][0] == "astream"


def test_choices_are_scored() -> None:
    engine = WrittenEngine()
    state = ft.function(lambda s: s.__iadd__("x" + ft.select("c", ["a", "b"]))).run(backend=backend_on(engine))
    assert state["c"] == "a"
    assert engine.asked == [("ascore", "x", ["a", "b"], {})]
    alone = ft.select("c", ["a", "b"], choices_method="unconditional_likelihood_normalized")
    ft.function(lambda s: s.__iadd__("x" + alone)).run(backend=backend_on(engine))
    assert engine.asked[2] == ("ascore", None, ["a", "b"], {})


def test_prompts_of_ids_only_and_of_texts_only_stay_one_prompt() -> None:
    from forktree.lang.backends.local import _one_prompt

    assert _one_prompt(((1, 2), (3,))) == [1, 2, 3]
    assert _one_prompt(("a", "b")) == ["a", "b", []]
    assert _one_prompt(("a",)) == "a"
    assert _one_prompt(()) == ""  # an empty list would be no prompt at all


def test_the_engines_errors_are_the_causes() -> None:
    refused = WrittenEngine(InvalidRequest("top_p", "got 7", "invalid"))
    with pytest.raises(ft.GenerationError, match="top_p: got 7") as caught:
        program.run(backend=backend_on(refused))
    assert isinstance(caught.value.cause, ft.RequestRefused)
    assert caught.value.cause.field == "top_p"
    with pytest.raises(ft.GenerationError, match="the engine has ended") as caught:
        program.run(backend=backend_on(WrittenEngine(EngineDead("gone"))))
    assert isinstance(caught.value.cause, ft.BackendUnavailable)


def test_roles_and_server_calls_come_from_the_engine() -> None:
    backend = backend_on(WrittenEngine())
    assert ft.function(lambda s: s.__iadd__(ft.user("hi"))).run(backend=backend).text() == "<u>hi</u>"
    assert ft.flush_cache(backend) is True
    assert ft.get_server_info(backend) == {"prompt_tokens": 3}


def test_a_role_that_the_template_lacks_is_refused_with_the_line_and_the_others_work() -> None:
    """A format may have no system role: Mistral's and Llama 2's put it into the first user message."""
    backend = backend_on(WrittenEngine())
    assert (
        ft.function(lambda s: s.__iadd__(ft.user("Q") + "A: " + ft.gen("a"))).run(backend=backend).text()
        == "<u>Q</u>A: hi"
    )
    with pytest.raises(
        ft.RoleError,
        match=r"system_begin\(\) at .*test_local_backend\.py:\d+: the chat template of model 'm' has no system role",
    ):
        ft.function(lambda s: s.__iadd__(ft.system("Be nice."))).run(backend=backend)


def test_a_backend_on_first_use_starts_one_engine_and_not_on_the_loop() -> None:
    threads, engine = [], WrittenEngine()

    def start() -> Any:
        threads.append(threading.current_thread().name)
        return engine

    backend = BackendOnFirstUse(start)
    backend.close()
    assert not backend.used
    states = program.run_batch([{}] * 3, backend=backend)
    assert [state["b"] for state in states] == ["hi"] * 3
    assert threads == ["forktree-engine-start"]
    assert ft.get_server_info(backend) == {"prompt_tokens": 3}
    assert ft.flush_cache(backend)
    assert ft.function(lambda s: s.__iadd__("x" + ft.select("c", ["no", "yes"]))).run(backend=backend)["c"] == "no"
    backend.close()
    assert engine.closed
    assert backend.used


def test_a_first_use_that_can_not_start_says_so_each_time_and_starts_once() -> None:
    starts = []

    def start() -> Any:
        starts.append(1)
        raise InvalidRequest("model", "no such directory")

    backend = BackendOnFirstUse(start)
    for _ in range(2):
        with pytest.raises(ft.GenerationError, match="no such directory"):
            program.run(backend=backend)
    assert len(starts) == 1
    backend.close()


def test_a_runtime_takes_sglangs_harmless_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("forktree.runtime.Engine", lambda model, **fields: made.append((model, fields)))
    ft.Runtime(model_path="m", log_level="error", launch_timeout=300.0, tp_size=1, page_size=4)
    assert made == [("m", {"page_size": 4})]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tp_size": 2}, "tp_size is 1, got 2: an engine has one device"),
        ({"mem_fraction_static": 0.8}, "no mem_fraction_static: say kv_cache_bytes"),
        ({"port": 30000}, "no port: nothing listens here"),
        ({"model": "a", "model_path": "b"}, "two names of one thing"),
    ],
)
def test_a_runtime_refuses_what_it_can_not_do_by_name_and_reason(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ft.ArgumentError, match=rf"{said}.*\(at .*test_local_backend\.py:\d+\)"):
        ft.Runtime(**arguments)


@pytest.mark.slow
def test_without_the_engine_extra_runtime_says_what_to_install() -> None:
    code = "import sys; sys.modules['msgspec'] = None; import forktree as ft; ft.Runtime()"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "needs msgspec: pip install 'forktree[engine]'" in done.stderr


@pytest.mark.slow
def test_programs_that_are_cancelled_give_their_pages_back_at_once(engine: Engine) -> None:
    @ft.function(trace=False)
    def program(s: ft.ProgramState, number: int) -> None:
        s += f"Story number {number}:" + ft.gen("x", max_tokens=1000, ignore_eos=True)

    backend = LocalBackend(engine)

    async def cancel_all() -> None:
        batch = asyncio.create_task(program.arun_batch([(i,) for i in range(100)], num_threads=100, backend=backend))
        while not engine.stats().pages_running:
            await asyncio.sleep(0.01)
        batch.cancel()
        await asyncio.wait([batch])

    before = engine.stats()
    asyncio.run(cancel_all())
    wait_until(lambda: engine.stats().pages_running == engine.stats().requests_waiting == 0)
    assert engine.stats().generated_tokens - before.generated_tokens < 10_000  # of 100,000
