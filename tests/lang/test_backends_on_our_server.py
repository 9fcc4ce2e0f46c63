"""ft.OpenAI and ft.SGLangEndpoint on our own server and the default model: the same program, the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import forktree as ft

pytest.importorskip("torch")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(engine: ft.Engine) -> Iterator[str]:
    from tests.support.serving import serving_on_a_thread

    with serving_on_a_thread(engine) as url:
        yield url


@ft.function
def text_program(s: ft.ProgramState) -> None:
    s += "The capital of France is" + ft.gen("a", max_tokens=6, temperature=0)
    s += " The capital of Italy is" + ft.select("b", [" London", " Rome", " Rome, the eternal city"])
    forks = s.fork(2)
    forks += [" One:" + ft.gen("c", max_tokens=3, temperature=0), " Two:" + ft.gen("c", max_tokens=3, temperature=0)]
    forks.join()


def test_sglangs_native_api_gives_what_the_engine_gives(url: str, engine: ft.Engine) -> None:
    endpoint = ft.SGLangEndpoint(url)
    there, here = text_program.run(backend=endpoint), text_program.run(backend=engine)
    assert there.text() == here.text()
    assert there["c"] == here["c"]
    ours, theirs = here.get_meta_info("b"), there.get_meta_info("b")
    assert ours is not None
    assert theirs is not None
    assert theirs["sequence_logprobs"] == pytest.approx(ours["sequence_logprobs"], abs=1e-3)
    state = text_program.stream(backend=endpoint)
    assert "".join(state.text_iter("a")) == here["a"]
    assert ft.flush_cache(endpoint) is True
    endpoint.close()


@pytest.mark.parametrize(
    "constraint",
    [
        {"regex": "[0-9]{3}"},
        {"json_schema": {"type": "boolean"}},
        {"ebnf": 'start: "1" | start "0"'},
        {"structural_tag": {"format": {"type": "regex", "pattern": "[0-9]{3}"}}},
    ],
)
def test_constraints_pass_through_sglangs_api(url: str, constraint: dict[str, Any]) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Here it is: " + ft.gen("a", max_tokens=8, temperature=0, **constraint)

    endpoint = ft.SGLangEndpoint(url)
    assert isinstance(json.loads(program.run(backend=endpoint)["a"].lstrip("0") or "0"), (int, bool))
    endpoint.close()


def test_roles_on_our_server_need_no_chat_format(url: str, engine: ft.Engine) -> None:
    endpoint = ft.SGLangEndpoint(url)
    assert chat.run(backend=endpoint)["a"] == chat.run(backend=engine)["a"]
    endpoint.close()


@ft.function
def chat(s: ft.ProgramState) -> None:
    s += ft.system("Be brief.") + ft.user("What is the capital of France?")
    s += ft.assistant(ft.gen("a", max_tokens=12, temperature=0))


def test_chats_through_openais_api(url: str, engine: ft.Engine) -> None:
    endpoint = ft.OpenAI("default", base_url=url + "/v1", extensions=True)
    expected = chat.run(backend=engine)["a"]
    assert chat.run(backend=endpoint)["a"] == expected
    assert "".join(chat.stream(backend=endpoint).text_iter("a")) == expected

    @ft.function
    def typed(s: ft.ProgramState) -> None:
        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
        s += ft.user("A number as JSON") + ft.assistant(ft.gen("a", json_schema=schema, max_tokens=30, temperature=0))

    assert isinstance(json.loads(typed.run(backend=endpoint)["a"])["n"], int)
    assert endpoint.token_usage.completion_tokens > 0
    endpoint.close()


def test_a_run_on_the_model_is_replayed_without_it(engine: ft.Engine, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with ft.testing.record(path, engine) as recording:
        text, talk = text_program.run(backend=recording), chat.run(backend=recording)
    backend = ft.testing.replay(path)
    again = text_program.run(backend=backend)
    assert (again.text(), again["c"], again.get_meta_info("b")) == (text.text(), text["c"], text.get_meta_info("b"))
    assert chat.run(backend=backend).text() == talk.text()
    assert backend.unused == []
    first, left, right, _ = ft.testing.requests_of(path)
    assert left.parent == first.id
    assert left.shared_tokens == first.prompt_tokens + first.completion_tokens < left.prompt_tokens
    assert right.shared_tokens > 0


def test_completions_and_select_by_echo_through_openais_api(url: str, engine: ft.Engine) -> None:
    endpoint = ft.OpenAI("default", False, base_url=url + "/v1", echo=True)
    there, here = text_program.run(backend=endpoint), text_program.run(backend=engine)
    assert there.text() == here.text()
    ours, theirs = here.get_meta_info("b"), there.get_meta_info("b")
    assert ours is not None
    assert theirs is not None
    assert theirs["sequence_logprobs"] == pytest.approx(ours["sequence_logprobs"], abs=1e-3)
    endpoint.close()
