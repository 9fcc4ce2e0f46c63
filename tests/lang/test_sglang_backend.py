"""ft.SGLangEndpoint against a small server that answers as SGLang's does: a token is a character, but for pairs that
the test says are one token."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

import forktree as ft
from tests.support.wire_server import WireServer

MERGED = {"s ": 500, " y": 501}


def tokens_of(text: str) -> list[int]:
    found: list[int] = []
    while text:
        pair = MERGED.get(text[:2])
        found.append(pair if pair is not None else ord(text[0]))
        text = text[2 if pair is not None else 1 :]
    return found


def logprob_of(token_id: int) -> float:
    return -token_id / 1000


class SGLangServer:
    """The reply to /generate.  legacy: log-probabilities of a prompt begin one token after the start asked for."""

    def __init__(self, *, legacy: bool = False) -> None:
        self.legacy = legacy

    def __call__(self, body: dict[str, Any]) -> Any:
        text = body.get("text")
        if isinstance(text, str):
            return self._one(body, tokens_of(text))
        prompts = body["input_ids"] if text is None else [tokens_of(each) for each in text]
        return web.json_response([self._one(body, ids) for ids in prompts])

    def _one(self, body: dict[str, Any], ids: list[int]) -> dict[str, Any]:
        output = "hello"[: body["sampling_params"].get("max_new_tokens", 128)]
        meta: dict[str, Any] = {
            "id": body.get("rid"),
            "finish_reason": {"type": "stop", "matched": 2},
            "prompt_tokens": len(ids),
            "completion_tokens": len(output),
            "cached_tokens": 1,
        }
        if body.get("return_logprob"):
            start = body["logprob_start_len"]
            triples: list[Any] = [[logprob_of(each), each, None] for each in ids]
            if start >= 0:
                triples[start][0] = None
                meta["input_token_logprobs"] = triples[start + (self.legacy and start > 0) :]
            meta["output_token_logprobs"] = [[-0.5, ord(each), each] for each in output]
        return {"text": output, "output_ids": [ord(each) for each in output], "meta_info": meta}


@pytest.fixture(scope="module")
def running() -> Iterator[WireServer]:
    server = WireServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: WireServer) -> WireServer:
    running.forget()
    running.info = {"model_path": "meta-llama/Llama-3.1-8B-Instruct", "is_generation": True}
    running.reply = SGLangServer()
    return running


@pytest.fixture
def endpoint(server: WireServer) -> Iterator[ft.SGLangEndpoint]:
    endpoint = ft.SGLangEndpoint(server.url, api_key="secret")
    yield endpoint
    endpoint.close()


@ft.function
def ask(s: ft.ProgramState) -> None:
    s += "Q" + ft.gen("a", max_tokens=7, stop="END", temperature=0.0, seed=3)
    s += " more" + ft.gen("b", regex="[a-z]+")


def test_a_gen_is_text_and_sampling_params_in_sglangs_words(server: WireServer, endpoint: ft.SGLangEndpoint) -> None:
    state = ask.run(backend=endpoint)
    assert state.text() == "Qhello morehello"
    (path, first), (_, second) = server.bodies
    assert path == "POST /generate"
    assert (first["text"], first["stream"]) == ("Q", False)
    params = first["sampling_params"]
    assert (params["max_new_tokens"], params["stop"], params["sampling_seed"]) == (7, ["END"], 3)
    assert "seed" not in params
    assert second["text"] == "Qhello more"
    assert second["sampling_params"]["regex"] == "[a-z]+"
    assert server.headers[0]["Authorization"] == "Bearer secret"
    found = state.get_meta_info("a")
    assert found is not None
    assert (found["prompt_tokens"], found["output_ids"]) == (1, [ord(each) for each in "hello"])


@pytest.mark.parametrize(
    ("name", "value"), [("ebnf", 'root ::= "a"'), ("json_schema", '{"type": "boolean"}'), ("regex", "a|b")]
)
def test_every_constraint_passes_through(
    server: WireServer, endpoint: ft.SGLangEndpoint, name: str, value: str
) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", **{name: value})

    program.run(backend=endpoint)
    assert server.bodies[0][1]["sampling_params"][name] == value


@pytest.mark.parametrize("cumulative_logprobs", [False, True])
def test_streams_of_cumulative_text_with_logprobs_of_either_kind(
    server: WireServer, endpoint: ft.SGLangEndpoint, cumulative_logprobs: bool
) -> None:
    def event(text: str, last: bool = False) -> dict[str, Any]:
        shown = text if cumulative_logprobs else text[-2:]
        meta = {
            "finish_reason": {"type": "length", "length": 6} if last else None,
            "prompt_tokens": 1,
            "completion_tokens": len(text),
            "output_token_logprobs": [[-0.5, ord(each), each] for each in shown],
            "output_token_logprobs_length": len(text),
        }
        return {"text": text, "output_ids": [ord(each) for each in text], "meta_info": meta}

    server.reply = lambda body: [event("he"), event("hell"), event("hellos", last=True), b"data: [DONE]\n\n"]

    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", return_logprob=True)

    state = program.stream(backend=endpoint)
    assert "".join(state.text_iter("a")) == "hellos"
    found = state.get_meta_info("a")
    assert found is not None
    assert [token_id for _, token_id, _ in found["output_token_logprobs"]] == [ord(each) for each in "hellos"]


def test_a_server_that_streams_increments_is_told_apart(server: WireServer, endpoint: ft.SGLangEndpoint) -> None:
    events = [{"text": text, "meta_info": {"completion_tokens": 1}} for text in ("Hello", " world")]
    server.reply = lambda body: [*events, b"data: [DONE]\n\n"]
    with pytest.raises(ft.GenerationError, match="start it without --incremental-streaming-output"):
        list(ask.stream(backend=endpoint))


@ft.function
def pick(s: ft.ProgramState, prompt: str, choices: list[str], method: ft.ChoicesMethod) -> None:
    s += prompt + ft.select("c", choices, choices_method=method)


def meta_of(state: ft.ProgramState) -> dict[str, Any]:
    found = state.get_meta_info("c")
    assert found is not None
    return found


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prompt", ["go:", "g", "a much longer prompt:"])
def test_choices_are_scored_by_their_own_tokens_in_both_forms(
    server: WireServer, endpoint: ft.SGLangEndpoint, legacy: bool, prompt: str
) -> None:
    server.reply = SGLangServer(legacy=legacy)
    state = pick.run(prompt, ["ab", "abc", "z"], ft.token_length_normalized, backend=endpoint)
    ids = [[token_id for _, token_id, _ in each] for each in meta_of(state)["input_token_logprobs"]]
    assert ids == [list(map(ord, each)) for each in ("ab", "abc", "z")]
    assert meta_of(state)["sequence_logprobs"] == pytest.approx([-(97 + 98) / 1000, -(97 + 98 + 99) / 1000, -0.122])
    assert len(server.bodies) == 2
    assert server.bodies[1][1]["text"] == [prompt, prompt + "ab", prompt + "abc", prompt + "z"]


def test_a_choice_that_changes_the_prompts_last_token_moves_the_start_for_all(
    server: WireServer, endpoint: ft.SGLangEndpoint
) -> None:
    """yes + " a" ends in the tokens y, e, "s ", a: they part from the prompt's at the s, for the other choice too."""
    state = pick.run("say yes", [" a", "b"], ft.token_length_normalized, backend=endpoint)
    ids = [[token_id for _, token_id, _ in each] for each in meta_of(state)["input_token_logprobs"]]
    assert ids == [[MERGED["s "], ord("a")], [ord("s"), ord("b")]]


def test_every_method_works_and_unconditional_scores_send_the_ids(
    server: WireServer, endpoint: ft.SGLangEndpoint
) -> None:
    for method in (ft.greedy_token_selection, ft.unconditional_likelihood_normalized):
        assert pick.run("go:", ["b", "a"], method, backend=endpoint)["c"] in ("a", "b")
    assert [body["input_ids"] for _, body in server.bodies if "input_ids" in body] == [[[98], [97]]]


def test_choices_need_text_before_them(endpoint: ft.SGLangEndpoint) -> None:
    with pytest.raises(ft.GenerationError, match="no text before them"):
        pick.run("", ["a", "b"], ft.token_length_normalized, backend=endpoint)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"text": "", "meta_info": {"prompt_tokens": 3}}, "is not a list of as many"),
        ({"generated": ""}, "no 'meta_info'; is this an SGLang server"),
    ],
)
def test_answers_of_another_kind_of_server_are_told(
    server: WireServer, endpoint: ft.SGLangEndpoint, reply: Any, message: str
) -> None:
    server.reply = lambda body: reply
    with pytest.raises(ft.GenerationError, match=message):
        pick.run("go:", ["a", "b"], ft.token_length_normalized, backend=endpoint)


def test_roles_need_a_chat_format(server: WireServer, endpoint: ft.SGLangEndpoint) -> None:
    @ft.function
    def chat(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a"))

    with pytest.raises(ft.RoleError, match=r"meta-llama/Llama-3\.1-8B-Instruct"):
        chat.run(backend=endpoint)
    with_format = ft.SGLangEndpoint(server.url, chat_format=ft.ChatFormat.chatml())
    assert chat.run(backend=with_format)["a"] == "hello"
    assert server.bodies[-1][1]["text"] == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert server.bodies[-1][1]["sampling_params"]["stop"] == ["<|im_end|>"]
    with_format.close()


def test_a_fork_fills_the_cache_first(server: WireServer, endpoint: ft.SGLangEndpoint) -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "Common"
        forks = s.fork(2)
        forks += ft.gen("a")
        forks.join()

    assert program.run(backend=endpoint)["a"] == ["hello", "hello"]
    assert server.bodies[0][1] == {"text": "Common", "sampling_params": {"max_new_tokens": 0}}


def test_errors_and_calls_beside_generate(server: WireServer, endpoint: ft.SGLangEndpoint) -> None:
    assert endpoint.get_model_name() == "meta-llama/Llama-3.1-8B-Instruct"
    assert endpoint.get_server_info() == {"status": "ok"}
    assert ft.flush_cache(endpoint) is True
    error = {"error": {"message": "Failed to compile regex"}}
    server.reply = lambda body: web.Response(status=400, text=json.dumps(error))
    with pytest.raises(ft.GenerationError, match="Failed to compile regex") as caught:
        ask.run(backend=endpoint)
    assert isinstance(caught.value.cause, ft.RequestRefused)
