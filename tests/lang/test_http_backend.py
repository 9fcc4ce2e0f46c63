"""RuntimeEndpoint against a small server that speaks the wire."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import forktree as ft
from tests.support.scripted_backend import wait_until
from tests.support.wire_server import WireServer

INFO = {
    "model_path": "/models/tiny",
    "served_model_name": "tiny",
    "context_length": 128,
    "chat_format": {
        "bos": "",
        "default_system": "",
        "roles": {role: [f"<{role}>", "</>"] for role in ("system", "user", "assistant")},
    },
}


def meta(ids: list[int], **more: Any) -> dict[str, Any]:
    return {
        "id": "r",
        "finish_reason": {"type": "stop", "matched": 9},
        "prompt_tokens": 5,
        "completion_tokens": len(ids),
        "cached_tokens": 3,
        "kept_token_ids": ids,
        **more,
    }


@pytest.fixture(scope="module")
def running() -> Iterator[WireServer]:
    server = WireServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: WireServer) -> WireServer:
    running.forget()
    running.info = INFO
    running.reply = lambda body: {"text": "hello", "output_ids": [1, 2], "meta_info": meta([1, 2])}
    return running


@pytest.fixture
def endpoint(server: WireServer) -> Iterator[ft.RuntimeEndpoint]:
    endpoint = ft.RuntimeEndpoint(server.url + "/", api_key="secret")
    yield endpoint
    endpoint.close()


@ft.function(trace=False)  # its requests one by one
def ask(s: ft.ProgramState, question: str) -> None:
    s += question + ft.gen("answer", max_tokens=7, stop="END", temperature=0.0)
    s += " more" + ft.gen("second")


def test_a_gen_is_one_request_and_its_tokens_go_back_as_parts(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    state = ask.run("Q", backend=endpoint)
    assert state.text() == "Qhello morehello"
    (path, first), (_, second) = server.bodies
    assert path == "POST /generate"
    assert first["prompt_parts"] == ["Q"]
    assert first["stream"] is False
    assert first["sampling_params"]["max_new_tokens"] == 7
    assert first["sampling_params"]["stop"] == ["END"]
    assert first["sampling_params"]["temperature"] == 0.0
    assert second["prompt_parts"] == ["Q", [1, 2], " more"]
    assert first["rid"] != second["rid"]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0].get("Connection", "").lower() != "close"
    found = state.get_meta_info("answer")
    assert found is not None
    assert (found["prompt_tokens"], found["cached_tokens"]) == (5, 3)


def test_constraints_that_only_some_servers_know_are_sent(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    tag = {"type": "structural_tag", "format": {"type": "any_text"}}
    nodes = ft.gen("a", ebnf='root ::= "a"') + ft.gen("b", structural_tag=tag) + ft.gen("c")
    ft.function(lambda s: s.__iadd__(nodes)).run(backend=endpoint)
    first, second, third = (body["sampling_params"] for path, body in server.bodies if path == "POST /generate")
    assert first["ebnf"] == 'root ::= "a"'
    assert json.loads(second["structural_tag"]) == tag
    assert not {"ebnf", "structural_tag"} & set(third)


def test_without_kept_ids_the_text_goes_back(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    server.reply = lambda body: {"text": "hello", "output_ids": [1, 2], "meta_info": meta([1, 2], kept_token_ids=None)}
    ask.run("Q", backend=endpoint)
    assert server.bodies[1][1]["prompt_parts"] == ["Q", "hello", " more"]


def test_roles_come_from_the_servers_chat_format(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    @ft.function
    def chat(s: ft.ProgramState) -> None:
        s += ft.user("hi") + ft.assistant(ft.gen("a"))

    assert chat.run(backend=endpoint).text() == "<user>hi</><assistant>hello</>"
    server.info = {"model_path": "base"}
    with pytest.raises(ft.RoleError, match="model 'base' has no chat template, or one that can't be split"):
        chat.run(backend=ft.RuntimeEndpoint(server.url))


def test_streams_are_put_together_from_cumulative_text(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    def event(text: str, ids: list[int], last: bool = False) -> dict[str, Any]:
        logprobs = [[-0.5, ids[-1], "t"]]
        more = meta(ids, output_token_logprobs=logprobs) if last else {"completion_tokens": len(ids)}
        return {"text": text, "output_ids": ids, "meta_info": {**more, "output_token_logprobs": logprobs}}

    events = [event("Hel", [1]), event("Hello", [1, 2]), event("Hello world", [1, 2, 3], last=True)]
    raw = b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in events)
    server.reply = lambda body: [raw[:31], raw[31:300], raw[300:], b"data: [DONE]\n\n"]

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", return_logprob=True)

    state = program.stream(backend=endpoint)
    assert "".join(state.text_iter("a")) == "Hello world"
    found = state.get_meta_info("a")
    assert found is not None
    assert found["output_ids"] == [1, 2, 3]
    assert len(found["output_token_logprobs"]) == 3
    assert server.bodies[0][1]["stream"] is True
    assert server.bodies[0][1]["return_logprob"] is True


def test_a_server_that_streams_increments_is_refused_not_garbled(
    server: WireServer, endpoint: ft.RuntimeEndpoint
) -> None:
    events = [{"text": text, "output_ids": [], "meta_info": {}} for text in ("Hello", " brave", " new world")]
    server.reply = lambda body: [*events, b"data: [DONE]\n\n"]
    with pytest.raises(ft.GenerationError, match="does not stream cumulative text"):
        list(ask.stream("Q", backend=endpoint))


def test_a_stream_that_breaks_off_is_an_error(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    server.reply = lambda body: [{"text": "Hel", "output_ids": [1], "meta_info": {}}]
    with pytest.raises(ft.GenerationError, match="ended before it was finished"):
        list(ask.stream("Q", backend=endpoint))


def test_an_error_inside_a_stream_is_raised(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    error = {"error": {"message": "too long", "type": "invalid_request_error", "code": "c", "param": "prompt"}}
    server.reply = lambda body: [{"text": "Hel", "output_ids": [1], "meta_info": {}}, error, b"data: [DONE]\n\n"]
    with pytest.raises(ft.GenerationError, match="too long") as caught:
        list(ask.stream("Q", backend=endpoint))
    assert isinstance(caught.value.cause, ft.RequestRefused)
    assert caught.value.cause.field == "prompt"


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, {"error": {"message": "bad top_p", "param": "top_p", "code": "x"}}, ft.RequestRefused, "bad top_p"),
        (401, {"error": {"message": "no key"}}, ft.RequestRefused, "no key"),
        (404, "nothing here", ft.RequestRefused, "nothing here"),
        (500, {"error": {"message": "broke"}}, ft.BackendError, "broke"),
        (503, {"error": "full"}, ft.BackendUnavailable, "full"),
        (502, "", ft.BackendUnavailable, "answered with status 502"),
    ],
)
def test_statuses_become_typed_errors_with_the_servers_message_and_field(
    server: WireServer, endpoint: ft.RuntimeEndpoint, status: int, body: Any, kind: type, message: str
) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    server.reply = lambda _: web.Response(status=status, text=text)
    with pytest.raises(ft.GenerationError, match=message) as caught:
        ask.run("Q", backend=endpoint)
    assert type(caught.value.cause) is kind
    if status == 400:
        assert isinstance(caught.value.cause, ft.RequestRefused)
        assert (caught.value.cause.field, caught.value.cause.code, caught.value.cause.status) == ("top_p", "x", 400)
    assert len(server.bodies) == 1  # nothing is retried


def test_answers_that_are_no_answers_say_so(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    server.reply = lambda body: web.Response(text="<html>")
    with pytest.raises(ft.GenerationError, match="answered with no JSON"):
        ask.run("Q", backend=endpoint)
    server.reply = lambda body: web.json_response([1, 2])
    with pytest.raises(ft.GenerationError, match=r"answered with no JSON object: \[1, 2\]"):
        ask.run("Q", backend=endpoint)
    server.reply = lambda body: {"choices": []}
    with pytest.raises(ft.GenerationError, match="no 'text'; is this a forktree server"):
        ask.run("Q", backend=endpoint)


def test_a_server_that_is_not_there_is_named() -> None:
    endpoint = ft.RuntimeEndpoint("http://127.0.0.1:9")
    with pytest.raises(ft.GenerationError, match=r"http://127\.0\.0\.1:9/generate can't be reached") as caught:
        ask.run("Q", backend=endpoint)
    assert isinstance(caught.value.cause, ft.BackendUnavailable)
    shown = "".join(traceback.format_exception(caught.value))
    assert "BackendUnavailable" in shown
    for inside in ("aiohttp", "asyncio", "During handling", "lang/backends"):
        assert inside not in shown, shown
    assert endpoint.used


def test_a_server_that_does_not_answer_runs_into_the_timeout(server: WireServer) -> None:
    server.reply = lambda body: None
    endpoint = ft.RuntimeEndpoint(server.url, timeout=0.05)
    with pytest.raises(
        ft.GenerationError, match=r"did not answer in time \(timeout=0\.05 s, connect_timeout=10\.0 s\)"
    ) as caught:
        ask.run("Q", backend=endpoint)
    assert isinstance(caught.value.cause, ft.BackendTimeout)
    endpoint.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_program_that_is_dropped_closes_its_request(
    server: WireServer, endpoint: ft.RuntimeEndpoint, stream: bool
) -> None:
    server.reply = lambda body: [{"text": "Hel", "output_ids": [1], "meta_info": {}}, None] if body["stream"] else None

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a")
        wait_until(lambda: server.num_waiting == 1)
        s.cancel()

    with pytest.raises(ft.ProgramCancelled):
        program.run(stream=stream, backend=endpoint).text()
    wait_until(lambda: server.num_disconnected == 1)


def test_select_is_one_score_request(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    server.reply = lambda body: {
        "scores": [{"token_ids": [i], "logprobs": [-float(i)]} for i, _ in enumerate(body["continuations"], 1)]
    }

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Is it? " + ft.select("c", ["no", "yes"])

    assert program.run(backend=endpoint)["c"] == "no"
    assert server.bodies == [("POST /score", {"prompt_parts": ["Is it? "], "continuations": ["no", "yes"]})]


def test_scores_without_a_prompt_say_so(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    server.reply = lambda body: {"scores": [{"token_ids": [1, 2], "logprobs": [-1.0, -1.0]}]}

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Is it? " + ft.select("c", ["no"], choices_method="unconditional_likelihood_normalized")

    program.run(backend=endpoint).text()
    assert server.bodies[1] == ("POST /score", {"unconditional": True, "continuations": ["no"]})


def test_a_fork_warms_the_cache_with_an_empty_generation(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    @ft.function(trace=False)
    def program(s: ft.ProgramState) -> None:
        s += "Common"
        forks = s.fork(2)
        forks += ft.gen("a")
        forks.join()

    assert program.run(backend=endpoint)["a"] == ["hello", "hello"]
    first = server.bodies[0][1]
    assert (first["prompt_parts"], first["sampling_params"]["max_new_tokens"]) == (["Common"], 0)


def test_server_calls(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    assert endpoint.get_model_name() == "tiny"
    assert endpoint.get_server_info() == {"status": "ok"}
    assert ft.flush_cache(endpoint) is True
    assert [path for path, _ in server.bodies] == ["GET /get_model_info", "GET /server_info", "POST /flush_cache"]


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(ft.ArgumentError, match="base_url: got 'localhost'"):
        ft.RuntimeEndpoint("localhost")


def test_sglangs_arguments_of_an_endpoint_are_taken_in_their_places(tmp_path: Path) -> None:
    endpoint = ft.RuntimeEndpoint("http://localhost:1", "key", False, "llama-3")
    assert not endpoint.used
    ft.RuntimeEndpoint("http://localhost:1", verify=None, chat_template_name="chatml")
    with pytest.raises(ft.ArgumentError, match=r"verify: can't read .* \(at .*test_http_backend\.py:\d+\)"):
        ft.RuntimeEndpoint("https://localhost:1", verify=str(tmp_path / "none.pem"))


def test_many_programs_share_connections(server: WireServer, endpoint: ft.RuntimeEndpoint) -> None:
    states = ask.run_batch([(f"Q{i}",) for i in range(100)], backend=endpoint)
    assert {state["second"] for state in states} == {"hello"}
    assert len(server.bodies) == 200
