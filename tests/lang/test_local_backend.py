"""LocalBackend around an engine that is written down: what it is asked, what becomes of its answers and errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.local import LocalBackend
from forktree.runtime import Completion, Delta, EngineDead, InvalidRequest, TokenLogprob, Usage

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
            chat_format=SimpleNamespace(bos="", default_system="", roles={"user": ("<u>", "</u>")}),
        )
    )

    async def agenerate(self, prompt: Any, sampling_params: Any, **options: Any) -> Completion:
        self.asked.append(("agenerate", prompt, sampling_params, options))
        if self.error is not None:
            raise self.error
        entry = TokenLogprob(-0.5, 7, "h", [(-0.5, 7, "h")])
        return Completion("hi", [7, 8, 2], "stop", 2, USAGE, [entry], kept_token_ids=[7, 8])

    async def astream(self, prompt: Any, sampling_params: Any, **options: Any) -> AsyncGenerator[Delta, None]:
        self.asked.append(("astream", prompt, sampling_params, options))
        yield Delta(0, "h", [7], [], None, USAGE)
        yield Delta(0, "i", [8], [], None, USAGE, "length", None, [7, 8])

    async def ascore(self, prompt: Any, continuations: Any) -> list[Any]:
        self.asked.append(("ascore", prompt, continuations, {}))
        return [SimpleNamespace(token_ids=[i], logprobs=[-float(i)]) for i, _ in enumerate(continuations)]

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


def test_streams_pass_through() -> None:
    engine = WrittenEngine()
    assert "".join(program.stream(backend=backend_on(engine)).text_iter("a")) == "hi"
    assert engine.asked[0][0] == "astream"


def test_choices_are_scored() -> None:
    engine = WrittenEngine()
    state = ft.function(lambda s: s.__iadd__("x" + ft.select("c", ["a", "b"]))).run(backend=backend_on(engine))
    assert state["c"] == "a"
    assert engine.asked == [("ascore", "x", ["a", "b"], {})]


def test_prompts_of_ids_only_and_of_texts_only_stay_one_prompt() -> None:
    from forktree.lang.backends.local import _one_prompt

    assert _one_prompt(((1, 2), (3,))) == [1, 2, 3]
    assert _one_prompt(("a", "b")) == ["a", "b", []]
    assert _one_prompt(("a",)) == "a"
    assert _one_prompt(()) == []


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
