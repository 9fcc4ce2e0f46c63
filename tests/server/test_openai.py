"""OpenAI's endpoints on the fake engine: what is asked reaches the engine, what it answers reaches the client."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.support import serving

USER = [{"role": "user", "content": "hi"}]


async def test_a_completion_is_whole_and_counted() -> None:
    async with serving() as client:
        status, answer = await client.post(
            "/v1/completions", {"model": "fake-model", "prompt": "hello", "max_tokens": 3}
        )
    assert status == 200
    assert answer["object"] == "text_completion"
    assert answer["model"] == "fake-model"
    assert answer["id"].startswith("cmpl-")
    (choice,) = answer["choices"]
    assert (choice["index"], choice["text"], choice["finish_reason"]) == (0, "abc", "length")
    assert answer["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 3,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


async def test_every_sampling_field_reaches_the_engine() -> None:
    fields = {
        "n": 2, "seed": 7, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "frequency_penalty": 0.2,
        "presence_penalty": 0.3, "repetition_penalty": 1.1, "ignore_eos": True, "skip_special_tokens": False,
    }  # fmt: skip
    other = {"max_tokens": 4, "min_tokens": 1, "stop": ["z"], "stop_token_ids": [9], "logit_bias": {"7": -5}}
    async with serving() as client:
        status, answer = await client.post("/v1/completions", {"prompt": "x", **fields, **other, "regex": "[a-z]+"})
    assert status == 200, answer
    params = client.engine.requests[0]["params"]
    assert {name: getattr(params, name) for name in fields} == fields
    assert (params.max_new_tokens, params.min_new_tokens, params.regex) == (4, 1, "[a-z]+")
    assert (params.stop, params.stop_token_ids, params.logit_bias) == (("z",), (9,), {7: -5.0})


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ("ab", [[97, 98]]),
        ([97, 98], [[97, 98]]),
        (["ab", "c"], [[97, 98], [99]]),
        ([[97], [98, 99]], [[97], [98, 99]]),
    ],
)
async def test_a_prompt_comes_in_four_forms(prompt: Any, sent: list[list[int]]) -> None:
    async with serving() as client:
        status, answer = await client.post("/v1/completions", {"prompt": prompt, "max_tokens": 1, "n": 2})
    assert status == 200
    assert [request["prompt"] for request in client.engine.requests] == sent
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(sent)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, sent)), "a prompt counts once, not once per choice"
    assert answer["usage"]["completion_tokens"] == 2 * len(sent)


async def test_the_default_length_of_a_completion_is_sixteen() -> None:
    async with serving() as client:
        _, answer = await client.post("/v1/completions", {"prompt": "x"})
    assert len(answer["choices"][0]["text"]) == 16


async def test_a_stop_string_is_told_and_left_out() -> None:
    async with serving() as client:
        _, answer = await client.post("/v1/completions", {"prompt": "x", "stop": "c"})
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("ab", "stop", "c")


async def test_echo_with_logprobs_scores_the_prompt() -> None:
    """What lm-eval asks: no output, the prompt's log-probabilities, the first one null."""
    body = {"prompt": "xyz", "max_tokens": 0, "echo": True, "logprobs": 1}
    async with serving() as client:
        _, answer = await client.post("/v1/completions", body)
    choice = answer["choices"][0]
    assert choice["text"] == "xyz"
    assert choice["logprobs"]["tokens"] == ["x", "y", "z"]
    assert choice["logprobs"]["token_logprobs"] == [None, -0.1, -0.2]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    assert choice["logprobs"]["top_logprobs"][0] is None
    assert choice["logprobs"]["top_logprobs"][1] == {"a": -0.1, "y": -0.1}


async def test_a_stream_says_what_the_whole_answer_says() -> None:
    body = {"prompt": ["ab", "c"], "max_tokens": 3, "n": 2, "logprobs": 1, "echo": True, "return_token_ids": True}
    async with serving() as client:
        _, whole = await client.post("/v1/completions", body)
        events = await client.stream("/v1/completions", body)
    assert all("usage" not in event for event in events), "usage was not asked for"
    for choice in whole["choices"]:
        parts = [part for event in events for part in event["choices"] if part["index"] == choice["index"]]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [id for part in parts for id in part["token_ids"]] == choice["token_ids"]
        assert parts[0]["prompt_token_ids"] == choice["prompt_token_ids"]
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            assert [value for part in parts[:-1] for value in part["logprobs"][name]] == choice["logprobs"][name]
        assert [part["finish_reason"] for part in parts] == [None, None, None, "length"]
        assert (parts[-1]["text"], parts[-1]["logprobs"]) == ("", None), "the finish reason comes by itself"


async def test_a_stream_ends_with_usage_if_asked() -> None:
    body = {"prompt": ["ab", "c"], "max_tokens": 2, "n": 2, "stream_options": {"include_usage": True}}
    async with serving() as client:
        _, whole = await client.post("/v1/completions", {k: v for k, v in body.items() if k != "stream_options"})
        events = await client.stream("/v1/completions", body)
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert all(event["usage"] is None for event in events[:-1])


async def test_the_body_of_our_benchmark_harness_is_taken() -> None:
    """shared/bench/serving/engines/http.py, class Forktree."""
    schema = {"name": "reply", "strict": True, "schema": {"type": "object"}}
    body = {
        "model": "default",
        "prompt": [1, 2, 3],
        "max_tokens": 2,
        "temperature": 0,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "logit_bias": {"97": 100},
        "response_format": {"type": "json_schema", "json_schema": schema},
        "return_token_ids": True,
    }
    async with serving() as client:
        events = await client.stream("/v1/completions", body)
    assert [id for event in events for choice in event["choices"] for id in choice["token_ids"]] == [97, 98]
    assert events[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 1


async def test_a_chat_answer_has_the_form_clients_know() -> None:
    body = {"messages": USER, "max_tokens": 2, "n": 2, "logprobs": True, "top_logprobs": 1}
    async with serving() as client:
        status, answer = await client.post("/v1/chat/completions", body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert bytes(client.engine.requests[0]["prompt"]) == b"<user>hi</user><assistant>"
    for index, choice in enumerate(answer["choices"]):
        assert choice["index"] == index
        assert choice["message"] == {"role": "assistant", "content": "ab", "refusal": None}
        assert "delta" not in choice
        second = choice["logprobs"]["content"][1]
        top = [{"token": "a", "logprob": -0.1, "bytes": [97]}]
        assert second == {"token": "b", "logprob": -0.1, "bytes": [98], "top_logprobs": top}


async def test_a_chat_stream_opens_with_the_role_and_ends_with_a_reason() -> None:
    body = {"messages": USER, "max_tokens": 2, "stream_options": {"include_usage": True}}
    async with serving() as client:
        events = await client.stream("/v1/chat/completions", body)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    choices = [event["choices"][0] for event in events[:-1]]
    assert [choice["delta"] for choice in choices] == [
        {"role": "assistant", "content": ""},
        {"content": "a"},
        {"content": "b"},
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [None, None, None, "length"]
    assert events[-1]["usage"]["completion_tokens"] == 2


async def test_a_chat_goes_on_for_as_long_as_the_context_allows() -> None:
    async with serving(FakeEngine(context_length=60)) as client:
        await client.post("/v1/chat/completions", {"messages": USER})
    request = client.engine.requests[0]
    assert request["params"].max_new_tokens == 60 - len(request["prompt"])


async def test_message_forms_become_plain_messages() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c", "refusal": None, "tool_calls": [], "annotations": [], "audio": None},
        {"role": "user", "content": "d"},
    ]
    async with serving() as client:
        status, answer = await client.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})
    assert status == 200, answer
    prompt = bytes(client.engine.requests[0]["prompt"]).decode()
    assert prompt == "<system>be brief</system><user>ab</user><assistant>c</assistant><user>d</user><assistant>"


@pytest.mark.parametrize(
    ("format", "schema"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, {"type": "object"}),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [1]}}}, {"enum": [1]}),
        ({"type": "json_schema", "json_schema": {"schema": True, "strict": None, "description": None}}, True),
    ],
)
async def test_response_format_becomes_a_schema(format: dict[str, Any], schema: Any) -> None:
    async with serving() as client:
        body = {"messages": USER, "max_tokens": 1, "response_format": format}
        status, answer = await client.post("/v1/chat/completions", body)
    assert status == 200, answer
    sent = client.engine.requests[0]["params"].json_schema
    assert (None if sent is None else json.loads(sent)) == schema


async def test_null_is_absent_and_harmless_fields_are_taken() -> None:
    body = {
        "messages": USER, "max_tokens": 1, "stop": None, "tools": None, "logit_bias": None, "user": "u",
        "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "tool_choice": "none", "best_of": 1,
        "parallel_tool_calls": True, "functions": [], "response_format": None,
    }  # fmt: skip
    async with serving() as client:
        status, answer = await client.post("/v1/chat/completions", body)
    assert status == 200, answer


@pytest.mark.parametrize(
    "names", [("max_tokens",), ("max_completion_tokens",), ("max_tokens", "max_completion_tokens")]
)
async def test_the_limit_has_two_names(names: tuple[str, ...]) -> None:
    async with serving() as client:
        _, answer = await client.post("/v1/chat/completions", {"messages": USER, **dict.fromkeys(names, 4)})
    assert answer["usage"]["completion_tokens"] == 4


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
async def test_an_empty_stop_is_none_and_unpadded_chunks_are_what_we_send(path: str) -> None:
    prompt = {"messages": USER} if "chat" in path else {"prompt": "x"}
    async with serving() as client:
        events = await client.stream(
            path, {**prompt, "max_tokens": 1, "stop": "", "stream_options": {"include_obfuscation": False}}
        )
    assert client.engine.requests[0]["params"].stop == ()
    assert events[-1]["choices"][0]["finish_reason"] == "length"
    assert "usage" not in events[-1]


async def test_models_are_listed_and_found_by_name() -> None:
    async with serving(served_model_name="org/name") as client:
        _, listed = await client.get("/v1/models")
        status, one = await client.get("/v1/models/org/name")
        missing, answer = await client.get("/v1/models/other")
        accepted = [
            (await client.post("/v1/completions", {"model": name, "prompt": "x"}))[0]
            for name in ("org/name", "default", "fake-model")
        ]
    assert [card["id"] for card in listed["data"]] == ["org/name"]
    assert (status, one) == (200, listed["data"][0])
    assert (missing, answer["error"]["code"], answer["error"]["param"]) == (404, "model_not_found", "model")
    assert accepted == [200, 200, 200]


async def test_cache_salt_reaches_the_engine() -> None:
    async with serving() as client:
        await client.post("/v1/completions", {"prompt": "x", "cache_salt": "tenant-1"})
        await client.post("/generate", {"text": "x", "cache_salt": "tenant-2"})
    assert [request["cache_salt"] for request in client.engine.requests] == ["tenant-1", "tenant-2"]


TAG = {"structures": [{"begin": "<f>", "schema": {}, "end": "</f>"}], "triggers": ["<"]}


@pytest.mark.parametrize(
    ("fields", "constraint", "value"),
    [
        ({"regex": "a+"}, "regex", "a+"),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a.b", "c"]}, "regex", r"a\.b|c"),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, "regex", "yes|no"),
        ({"guided_json": {"type": "null"}}, "json_schema", '{"type":"null"}'),
        ({"guided_json": '{"type": "null"}'}, "json_schema", '{"type": "null"}'),
        ({"structured_outputs": {"json": True}}, "json_schema", "true"),
        ({"structured_outputs": {"json_object": True}}, "json_schema", '{"type":"object"}'),
        ({"ebnf": 'root ::= "a"'}, "ebnf", 'root ::= "a"'),
        ({"guided_grammar": 'start: "a"'}, "ebnf", 'start: "a"'),
        ({"structured_outputs": {"grammar": 'start: "a"', "regex": None}}, "ebnf", 'start: "a"'),
        ({"structural_tag": {"format": {}}}, "structural_tag", '{"format":{}}'),
        ({"regex": "", "ebnf": "", "structural_tag": ""}, "", None),
    ],
    ids=str,
)
async def test_each_way_to_ask_for_a_constraint_reaches_the_engine(
    fields: dict[str, Any], constraint: str, value: str | None
) -> None:
    async with serving() as client:
        status, answer = await client.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1, **fields})
        assert status == 200, answer
    params = client.engine.requests[0]["params"]
    assert params.constraint_field == constraint
    assert value is None or getattr(params, constraint) == value


@pytest.mark.parametrize("form", [TAG, {"format": {"type": "any_text"}}], ids=["triggers", "format"])
async def test_a_structural_tag_is_a_response_format(form: dict[str, Any]) -> None:
    format = {"type": "structural_tag", **form}
    async with serving() as client:
        await client.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1, "response_format": format})
    assert json.loads(client.engine.requests[0]["params"].structural_tag) == format


async def test_how_json_is_written_is_an_option() -> None:
    format = {"response_format": {"type": "json_object"}, "white_space": "pretty:4", "order": "any"}
    async with serving() as client:
        await client.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1, **format})
    params = client.engine.requests[0]["params"]
    assert (params.white_space, params.order) == ("pretty:4", "any")


async def test_a_constrained_completion_may_take_the_whole_context() -> None:
    """A limit of 16 tokens, which OpenAI's clients get by default, would refuse most schemas."""
    async with serving() as client:
        await client.post("/v1/completions", {"prompt": "abc", "regex": "a+", "stop": "e"})
        room = client.engine.info.context_length - 3
    assert client.engine.requests[0]["params"].max_new_tokens == room
