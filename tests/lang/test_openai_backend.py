"""ft.OpenAI against a small server that speaks OpenAI's API: what is sent, how answers are read, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

import forktree as ft
from forktree.lang.capabilities import check_node
from forktree.lang.options import SamplingOptions
from tests.support.wire_server import WireServer

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}


def chat(content: str, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **more}], "usage": USAGE}


def completion(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": "length", **more}], "usage": USAGE}


@pytest.fixture(scope="module")
def running() -> Iterator[WireServer]:
    server = WireServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running: WireServer) -> WireServer:
    running.forget()
    running.reply = lambda body: chat("hello") if "messages" in body else completion("hello")
    return running


@pytest.fixture
def endpoints() -> Iterator[list[ft.OpenAI]]:
    made: list[ft.OpenAI] = []
    yield made
    for each in made:
        each.close()


@pytest.fixture
def model(server: WireServer, endpoints: list[ft.OpenAI]) -> ft.OpenAI:
    endpoints.append(ft.OpenAI("m", base_url=server.url + "/v1", api_key="secret"))
    return endpoints[0]


@ft.function
def talk(s: ft.ProgramState, **options: Any) -> None:
    s += ft.system("Be brief.") + ft.user("Hi")
    s += ft.assistant(ft.gen("a", **options))


# ---- what is sent


def test_a_chat_is_sent_as_messages_turn_after_turn(server: WireServer, model: ft.OpenAI) -> None:
    @ft.function
    def turns(s: ft.ProgramState) -> None:
        s += ft.system("Be brief.") + ft.user("Hi") + ft.assistant(ft.gen("a", max_tokens=5, temperature=0.0))
        s += ft.user("More") + ft.assistant(ft.gen("b"))

    state = turns.run(backend=model)
    (path, first), (_, second) = server.bodies
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    assert path == "POST /v1/chat/completions"
    assert first == {"model": "m", "max_tokens": 5, "temperature": 0.0, "messages": [system, user]}
    assert second["messages"] == [
        system,
        user,
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "More"},
    ]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert state.messages()[-1] == {"role": "assistant", "content": "hello"}
    assert state.text() == "system: Be brief.\nuser: Hi\nassistant: hello\nuser: More\nassistant: hello\n"
    found = state.get_meta_info("a")
    assert found is not None
    assert (found["prompt_tokens"], found["completion_tokens"], found["cached_tokens"]) == (9, 2, 4)
    assert (model.token_usage.prompt_tokens, model.token_usage.completion_tokens) == (18, 4)


def test_options_have_openais_names(server: WireServer, model: ft.OpenAI) -> None:
    options = {"stop": "END", "top_p": 0.5, "frequency_penalty": 0.1, "presence_penalty": 0.2, "seed": 0}
    talk.run(backend=model, **options, logit_bias={5: -1.0})
    body = server.bodies[0][1]
    assert body["stop"] == ["END"]
    assert {name: body[name] for name in options if name not in ("stop", "seed")} == {
        "top_p": 0.5,
        "frequency_penalty": 0.1,
        "presence_penalty": 0.2,
    }
    assert isinstance(body["seed"], int)
    assert body["logit_bias"] == {"5": -1.0}


def test_extensions_are_sent_by_name_and_never_left_to_the_servers_defaults(
    server: WireServer, endpoints: list[ft.OpenAI]
) -> None:
    endpoints.append(ft.OpenAI("m", base_url=server.url, extensions=True))
    endpoints.append(ft.OpenAI("m", base_url=server.url, extensions=("min_tokens", "regex")))
    talk.run(backend=endpoints[0], top_k=5)
    talk.bind(regex="[ab]+").run(backend=endpoints[1], min_new_tokens=2)
    first, second = (body for _, body in server.bodies)
    assert (first["top_k"], first["min_p"], first["repetition_penalty"], first["top_p"]) == (5, 0.0, 1.0, 1.0)
    assert "regex" not in first
    assert (second["min_tokens"], second["regex"]) == (2, "[ab]+")


def test_a_schema_is_a_strict_response_format(server: WireServer, model: ft.OpenAI) -> None:
    schema = {"title": "The city!", "type": "object", "properties": {"n": {"type": "integer"}}}
    talk.bind(json_schema=schema).run(backend=model)
    given = server.bodies[0][1]["response_format"]
    assert given == {"type": "json_schema", "json_schema": {"name": "The_city_", "schema": schema, "strict": True}}


def test_several_outputs_are_several_requests(server: WireServer, model: ft.OpenAI) -> None:
    assert talk.bind(n=2).run(backend=model)["a"] == ["hello", "hello"]
    assert len(server.bodies) == 2


def test_forks_share_their_messages(server: WireServer, model: ft.OpenAI) -> None:
    @ft.function
    def forking(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a"))
        forks = s.fork(2)
        forks += lambda i: ft.user(f"branch {i}")
        forks += ft.assistant(ft.gen("b"))
        forks.join()

    assert forking.run(backend=model)["b"] == ["hello", "hello"]
    asked = [body["messages"] for _, body in server.bodies]
    assert all(messages[:2] == asked[1][:2] for messages in asked[1:])
    assert sorted(messages[2]["content"] for messages in asked[1:]) == ["branch 0", "branch 1"]


def test_completions_are_sent_as_one_text(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url))

    @ft.function
    def plain(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", stop="\n") + "more" + ft.gen("b")

    assert plain.run(backend=endpoints[0]).text() == "Qhellomorehello"
    assert [path for path, _ in server.bodies] == ["POST /completions"] * 2
    assert [body["prompt"] for _, body in server.bodies] == ["Q", "Qhellomore"]


def test_a_schema_on_completions_is_an_extension(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url, extensions="json_schema"))

    @ft.function
    def plain(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", json_schema={"type": "boolean"})

    plain.run(backend=endpoints[0])
    assert server.bodies[0][1]["response_format"]["json_schema"]["schema"] == {"type": "boolean"}


def test_a_turn_is_continued_where_the_endpoint_can(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    endpoints.append(ft.OpenAI("m", base_url=server.url, continues_turn=True))

    @ft.function
    def begun(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant("Well, " + ft.gen("a"))

    begun.run(backend=endpoints[0])
    body = server.bodies[0][1]
    assert body["messages"][-1] == {"role": "assistant", "content": "Well, "}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


# ---- how answers are read


def test_streams_are_read_piece_by_piece_with_usage_at_their_end(server: WireServer, model: ft.OpenAI) -> None:
    def event(content: str | None = None, finish: str | None = None) -> dict[str, Any]:
        delta = {} if content is None else {"content": content}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    events = [event(""), event("Hel"), event("lo"), event(finish="length"), {"choices": [], "usage": USAGE}]
    server.reply = lambda body: [*events, b"data: [DONE]\n\n"]
    state = talk.stream(backend=model)
    assert "".join(state.text_iter("a")) == "Hello"
    body = server.bodies[0][1]
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
    found = state.get_meta_info("a")
    assert found is not None
    assert (found["finish_reason"]["type"], found["prompt_tokens"]) == ("length", 9)
    server.reply = lambda body: [event("Hel"), b"data: [DONE]\n\n"]
    with pytest.raises(ft.GenerationError, match="ended before it was finished"):
        list(talk.stream(backend=model))


def test_logprobs_of_chats_and_completions(server: WireServer, endpoints: list[ft.OpenAI], model: ft.OpenAI) -> None:
    top = [{"token": "hello", "logprob": -0.1}, {"token": "hi", "logprob": -2.0}]
    content = [{"token": "hello", "logprob": -0.1, "top_logprobs": top}]
    server.reply = lambda body: chat("hello", logprobs={"content": content})
    found = talk.bind(top_logprobs_num=2, return_text_in_logprobs=True).run(backend=model).get_meta_info("a")
    assert found is not None
    assert found["output_token_logprobs"] == [[-0.1, None, "hello"]]
    assert found["output_top_logprobs"] == [[[-0.1, None, "hello"], [-2.0, None, "hi"]]]
    assert (server.bodies[0][1]["logprobs"], server.bodies[0][1]["top_logprobs"]) == (True, 2)

    logprobs = {"tokens": ["hel", "lo"], "token_logprobs": [-0.1, -0.2], "top_logprobs": None}
    server.reply = lambda body: completion("hello", logprobs=logprobs)
    endpoints.append(ft.OpenAI("m", False, base_url=server.url))

    @ft.function
    def plain(s: ft.ProgramState) -> None:
        s += "Q" + ft.gen("a", return_logprob=True)

    found = plain.run(backend=endpoints[-1]).get_meta_info("a")
    assert found is not None
    assert [logprob for logprob, _, _ in found["output_token_logprobs"]] == [-0.1, -0.2]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (chat("", "content_filter"), "ended the output early: finish_reason 'content_filter'"),
        ({"choices": [{"message": {"refusal": "No."}, "finish_reason": "stop"}]}, "refused to answer: No."),
        ({"object": "list"}, "no 'choices'; is this an OpenAI-compatible endpoint"),
    ],
)
def test_answers_that_are_no_outputs_are_errors(
    server: WireServer, model: ft.OpenAI, reply: dict[str, Any], message: str
) -> None:
    server.reply = lambda body: reply
    with pytest.raises(ft.GenerationError, match=message):
        talk.run(backend=model)


def test_a_refusal_has_the_endpoints_words(server: WireServer, model: ft.OpenAI) -> None:
    error = {"error": {"message": "no such model", "param": "model", "code": "model_not_found"}}
    server.reply = lambda body: web.Response(status=404, text=json.dumps(error))
    with pytest.raises(ft.GenerationError, match="no such model") as caught:
        talk.run(backend=model)
    assert isinstance(caught.value.cause, ft.RequestRefused)
    assert (caught.value.cause.code, caught.value.cause.status) == ("model_not_found", 404)


@pytest.mark.parametrize(
    ("status", "headers", "retries", "num_requests"),
    [
        (429, {"Retry-After": "0"}, 2, 3),
        (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 1, 2),
        (429, {"Retry-After": "0"}, 0, 1),  # off by default
        (429, {}, 2, 1),
        (429, {"Retry-After": "3600"}, 2, 1),  # longer than anyone waits
        (429, {"Retry-After": "later"}, 2, 1),
        (500, {"Retry-After": "0"}, 2, 1),
    ],
)
def test_only_what_was_turned_away_is_tried_again_and_only_so_often(
    server: WireServer,
    endpoints: list[ft.OpenAI],
    status: int,
    headers: dict[str, str],
    retries: int,
    num_requests: int,
) -> None:
    server.reply = lambda body: web.Response(status=status, headers=headers, text="busy")
    endpoints.append(ft.OpenAI("m", base_url=server.url, retries=retries))
    with pytest.raises(ft.GenerationError, match="busy"):
        talk.run(backend=endpoints[0])
    assert len(server.bodies) == num_requests


def test_a_retry_that_is_answered_is_an_answer(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    busy = [web.Response(status=429, headers={"Retry-After": "0"})]
    server.reply = lambda body: busy.pop() if busy else chat("hello")
    endpoints.append(ft.OpenAI("m", base_url=server.url, retries=1))
    assert talk.run(backend=endpoints[0])["a"] == "hello"


# ---- what is refused, at the line that asks for it and before anything is sent


def refused(backend: ft.OpenAI, *items: object) -> str:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        for item in items:
            s += item  # here

    with pytest.raises(ft.UnsupportedByBackend) as caught:
        program.run(backend=backend)
    assert not backend.used, "nothing was sent"
    return str(caught.value)


@pytest.mark.parametrize(
    ("options", "what", "advice"),
    [
        ({"ebnf": 'root ::= "a"'}, "wants ebnf", r"extensions=\('ebnf',\)"),
        ({"regex": "a+"}, "wants regex", r"extensions=\('regex',\)"),
        ({"dtype": int}, "wants regex", "regex"),
        ({"top_k": 3}, "wants top_k", "extensions=True"),
        ({"min_p": 0.1}, "wants min_p", "extensions=True"),
        ({"min_tokens": 1}, "wants min_tokens", ""),
        ({"stop_token_ids": [1]}, "wants stop_token_ids", ""),
        ({"stop_regex": "a"}, "wants stop_regex", ""),
        ({"ignore_eos": True}, "wants ignore_eos", ""),
        ({"return_logprob": True, "logprob_start_len": 0}, "wants logprob_start_len", ""),
        ({"top_logprobs_num": 21}, "top_logprobs_num=21, and 20 is the most", ""),
        ({"choices": ["a", "b"]}, "log-probabilities of choices", r"ft.Runtime\(\)"),
    ],
)
def test_what_an_endpoint_has_not_is_refused_with_the_line_and_what_to_do(
    model: ft.OpenAI, options: dict[str, Any], what: str, advice: str
) -> None:
    message = refused(model, ft.user("Hi"), ft.assistant_begin(), ft.gen("a", **options))
    assert re.search(what, message), message
    assert re.search(advice, message), message
    assert "test_openai_backend.py:" in message
    assert "ft.OpenAI('m') at http://127.0.0.1" in message


def test_options_that_change_nothing_are_no_reason_to_refuse(model: ft.OpenAI) -> None:
    unset = {"top_k": -1, "min_p": 0.0, "ignore_eos": False, "stop_token_ids": [], "repetition_penalty": 1.0}
    assert talk.bind(**unset).run(backend=model)["a"] == "hello"


def test_options_of_the_run_are_held_against_the_backend_too(model: ft.OpenAI) -> None:
    with pytest.raises(ft.UnsupportedByBackend, match="top_k"):
        talk.run(backend=model, top_k=3)
    assert not model.used


def test_a_chat_model_takes_no_text_outside_of_messages(model: ft.OpenAI) -> None:
    assert "the text 'Q: ' at" in refused(model, "Q: ")
    assert "messages only" in refused(model, ["Q: ", ft.gen("a")])
    assert "stands outside of any role" in refused(model, ft.gen("a"))
    assert "stands in the user role opened at" in refused(model, ft.user_begin(), ft.gen("a"))


def test_an_assistants_message_is_generated_whole(model: ft.OpenAI) -> None:
    begun = refused(model, ft.user("Hi"), ft.assistant_begin(), "Well, ", ft.gen("a"))
    assert "to go on from other content of its assistant message" in begun

    @ft.function
    def twice(s: ft.ProgramState) -> None:
        s += ft.user("Hi") + ft.assistant(ft.gen("a") + ft.gen("b"))

    with pytest.raises(ft.UnsupportedByBackend, match=r'gen\("b"\) at .* wants to go on'):
        twice.run(backend=model)


def test_branches_that_bring_text_back_outside_of_a_role_are_refused(model: ft.OpenAI) -> None:
    @ft.function
    def forking(s: ft.ProgramState) -> None:
        s += ft.user_begin()
        forks = s.fork(2)
        forks += "text"
        for fork in forks:
            fork += ft.user_end()
        s += ft.user_end()
        forks.join("concate_and_append")

    with pytest.raises(ft.UnsupportedByBackend, match="outside of any role"):
        forking.run(backend=model)


def test_completions_have_no_roles_no_schema_and_no_select(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    plain = ft.OpenAI("m", False, base_url=server.url)
    endpoints.append(plain)
    assert "user_begin() at" in refused(plain, ft.user("Hi"))
    assert "is_chat_model=True" in refused(plain, ft.user("Hi"))
    assert "json_schema" in refused(plain, ft.gen("a", json_schema={"type": "object"}))
    assert "echo=True" in refused(plain, ft.select("a", ["b", "c"]))


def test_openais_own_address_takes_four_stops_and_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ft.ArgumentError, match=r"OPENAI_API_KEY is not set.*\(at .*test_openai_backend\.py:\d+\)"):
        ft.OpenAI("gpt-4o")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    gpt = ft.OpenAI("gpt-4o")
    assert gpt.is_chat_model
    assert not ft.OpenAI("davinci-002").is_chat_model
    message = refused(gpt, ft.user("Hi"), ft.assistant_begin(), ft.gen("a", stop=list("abcde")))
    assert "5 stop strings, and 4 is the most" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model_name": ""}, "model_name"),
        ({"is_azure": True}, "Azure"),
        ({"extensions": ["no_such"]}, "extensions: got 'no_such', wanted True or some of .*regex"),
        ({"extensions": "top-k"}, "extensions: got 'top-k'"),
        ({"echo": True}, "echo: chat endpoints"),
        ({"base_url": "localhost"}, "base_url: got 'localhost'"),
    ],
)
def test_arguments_that_can_not_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ft.ArgumentError, match=message):
        ft.OpenAI(**{"model_name": "m", "base_url": "http://localhost:1", **arguments})


def test_a_whole_program_can_be_held_against_a_backend_node_by_node(model: ft.OpenAI) -> None:
    """As a trace does: without a state, by the nodes alone."""
    gen = ft.gen("a", seed=1)
    check_node(gen, model.capabilities, SamplingOptions())
    with pytest.raises(ft.UnsupportedByBackend, match="min_p"):
        check_node(gen, model.capabilities, SamplingOptions(min_p=0.5))


# ---- select, where an endpoint echoes


def echo_server(server: WireServer, tokens_of: Any) -> None:
    def reply(body: dict[str, Any]) -> dict[str, Any]:
        choices = []
        for index, text in enumerate(body["prompt"]):
            tokens = tokens_of(text)
            offsets = [sum(map(len, tokens[:i])) for i in range(len(tokens))]
            logprobs = [None, *(-float(len(token)) for token in tokens[1:])]
            found = {"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets, "top_logprobs": None}
            choices.append({"index": index, "text": text, "logprobs": found, "finish_reason": "length"})
        return {"choices": choices[::-1], "usage": USAGE}

    server.reply = reply


@ft.function
def pick(s: ft.ProgramState) -> None:
    s += "go " + ft.select("c", ["aa", "b"])


def test_select_by_echo_is_one_request_and_counts_the_choices_tokens_only(
    server: WireServer, endpoints: list[ft.OpenAI]
) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url, echo=True))
    echo_server(server, list)
    state = pick.run(backend=endpoints[0])
    (_, body), *others = server.bodies
    assert others == []
    assert (body["prompt"], body["max_tokens"], body["echo"]) == (["go aa", "go b"], 0, True)
    found = state.get_meta_info("c")
    assert found is not None
    assert found["sequence_logprobs"] == [-2.0, -1.0]


def test_a_token_across_the_boundary_is_counted_for_every_choice(
    server: WireServer, endpoints: list[ft.OpenAI]
) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url, echo=True))
    echo_server(server, lambda text: ["g", "o", " aa"] if text == "go aa" else ["g", "o", " ", "b"])
    found = pick.run(backend=endpoints[0]).get_meta_info("c")
    assert found is not None
    assert found["sequence_logprobs"] == [-3.0, -2.0]


def test_an_endpoint_that_does_not_echo_says_so(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url, echo=True))
    server.reply = lambda body: {"choices": [{"index": i, "text": ""} for i in range(2)]}
    with pytest.raises(ft.GenerationError, match="does not echo log-probabilities"):
        pick.run(backend=endpoints[0])


def test_choices_without_context_can_not_be_scored_by_echo(server: WireServer, endpoints: list[ft.OpenAI]) -> None:
    endpoints.append(ft.OpenAI("m", False, base_url=server.url, echo=True))
    choice = ft.select("c", ["a"], choices_method=ft.unconditional_likelihood_normalized)
    assert "scores choices without context" in refused(endpoints[0], choice)
