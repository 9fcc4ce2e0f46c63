"""What a client gets wrong is refused with its name, and costs nobody anything."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from forktree.runtime import InvalidRequest
from forktree.runtime.engine.call import Call
from tests.server.fake_engine import FakeEngine
from tests.server.support import Client, serving

USER = [{"role": "user", "content": "hi"}]


async def assert_serves(client: Client) -> None:
    status, answer = await client.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
    assert (status, answer["choices"][0]["text"]) == (200, "a")
    assert not client.engine.running


CHAT_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"messages": []}, "messages"),
    ({}, "messages"),
    ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [*USER, {"role": "owl", "content": "x"}]}, "messages[1].role"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role"),
    ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
     "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "x", "odd": 1}]}, "messages[0].odd"),
    ({"tools": [{"type": "function"}]}, "tools"),
    ({"tools": 1}, "tools"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"store": True}, "store"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"reasoning_effort": "low"}, "reasoning_effort"),
    ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    ({"guided_json": 5}, "guided_json"),
    ({"guided_regex": "("}, "guided_regex"),
    ({"guided_choice": []}, "guided_choice"),
    ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
    ({"structured_outputs": {"odd": 1}}, "structured_outputs.odd"),
    ({"ebnf": "a", "regex": "b"}, "ebnf"),
    ({"response_format": {"type": "structural_tag"}}, "response_format"),
    ({"response_format": {"type": "json_object"}, "white_space": "wide"}, "white_space"),
    ({"order": "any"}, "order"),
    ({"temprature": 1}, "temprature"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"top_p": 7}, "top_p"),
    ({"top_p": 0}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"n": 2**62}, "n"),
    ({"n": 1.5}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": -1}, "max_completion_tokens"),
    ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens"),
    ({"min_tokens": 5, "max_tokens": 2}, "min_tokens"),
    ({"top_logprobs": 1}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": {"cat": 1}}, "logit_bias"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["x"] * 1000}, "stop"),
    ({"seed": 2**64}, "seed"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"stream": True, "stream_options": {"odd": 1}}, "stream_options.odd"),
    ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {"schema": 5}}}, "response_format.json_schema.schema"),
    ({"response_format": {"type": "json_object"}, "regex": "a"}, "regex"),
    ({"regex": "("}, "regex"),
    ({"cache_salt": "x" * 300}, "cache_salt"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "param"), CHAT_FAULTS, ids=lambda value: str(value)[:60])
async def test_a_bad_chat_field_is_named(fields: dict[str, Any], param: str) -> None:
    body = {"max_tokens": 1, **({} if not fields else {"messages": USER}), **fields}
    if "max_completion_tokens" in fields and "max_tokens" not in fields:
        del body["max_tokens"]
    async with serving() as client:
        error = await client.error("/v1/chat/completions", body)
        assert error["param"] == param
        assert param in error["message"]
        assert error["type"] == "invalid_request_error"
        await assert_serves(client)


COMPLETION_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"prompt": [[]]}, "prompt"),
    ({"prompt": ["a", 1]}, "prompt"),
    ({"prompt": {"a": 1}}, "prompt"),
    ({"prompt": [1, -1]}, "prompt"),
    ({"prompt": [258]}, "prompt"),
    ({"prompt": [2**70]}, "prompt"),
    ({"prompt": ["x"] * 3000}, "prompt"),
    ({"prompt": ["x"] * 100, "n": 100}, "prompt"),
    ({"prompt": "x", "best_of": 3}, "best_of"),
    ({"prompt": "x", "suffix": "y"}, "suffix"),
    ({"prompt": "x", "logprobs": 21}, "logprobs"),
    ({"prompt": "x", "logprobs": True}, "logprobs"),
    ({"prompt": "x", "messages": []}, "messages"),
]


@pytest.mark.parametrize(("body", "param"), COMPLETION_FAULTS, ids=lambda value: str(value)[:60])
async def test_a_bad_completion_field_is_named(body: dict[str, Any], param: str) -> None:
    async with serving() as client:
        error = await client.error("/v1/completions", body)
        assert (error["param"] or "").split("[")[0] == param
        await assert_serves(client)


NATIVE_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({}, "text"),
    ({"text": "a", "input_ids": [1]}, "input_ids"),
    ({"text": ""}, "text"),
    ({"text": []}, "text"),
    ({"text": 5}, "text"),
    ({"input_ids": [1, [2]]}, "input_ids"),
    ({"input_ids": [999]}, "input_ids"),
    ({"prompt_parts": []}, "prompt_parts"),
    ({"prompt_parts": ["a", [1, "b"]]}, "prompt_parts[1][1]"),
    ({"text": "a", "odd": 1}, "odd"),
    ({"text": "a", "image_data": "aGk="}, "image_data"),
    ({"text": "a", "lora_path": "/etc/passwd"}, "lora_path"),
    ({"text": "a", "custom_logit_processor": "x"}, "custom_logit_processor"),
    ({"text": "a", "return_hidden_states": True}, "return_hidden_states"),
    ({"text": "a", "sampling_params": {"odd": 1}}, "odd"),
    ({"text": "a", "sampling_params": {"temperature": -1}}, "temperature"),
    ({"text": "a", "sampling_params": {"ebnf": "root ::= x", "regex": "a"}}, "ebnf"),
    ({"text": "a", "sampling_params": {"structural_tag": 5}}, "structural_tag"),
    ({"text": "a", "sampling_params": {"regex": "a", "white_space": "compact"}}, "white_space"),
    ({"text": "a", "sampling_params": {"regex": "("}}, "regex"),
    ({"text": "a", "sampling_params": {"n": 200}}, "n"),
    ({"text": "a", "sampling_params": [{}, {}]}, "sampling_params"),
    ({"text": ["a", "b"], "rid": ["one"]}, "rid"),
    ({"text": ["a", "b"], "rid": ["one", "one"]}, "rid"),
    ({"text": "a", "rid": "no\nlines"}, "rid"),
    ({"text": "a", "rid": "x" * 129}, "rid"),
    ({"text": "a", "return_logprob": True, "logprob_start_len": 5}, "logprob_start_len"),
    ({"text": "a", "return_logprob": True, "logprob_start_len": -2}, "logprob_start_len"),
    ({"text": "a", "return_logprob": True, "top_logprobs_num": -1}, "top_logprobs_num"),
    ({"text": "a", "return_logprob": True, "top_logprobs_num": 10**6}, "top_logprobs_num"),
]


@pytest.mark.parametrize(("body", "param"), NATIVE_FAULTS, ids=lambda value: str(value)[:60])
async def test_a_bad_native_field_is_named(body: dict[str, Any], param: str) -> None:
    async with serving() as client:
        error = await client.error("/generate", body)
        assert error["param"] == param
        await assert_serves(client)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"text": "a"}, "continuations"),
        ({"text": "a", "continuations": []}, "continuations"),
        ({"text": "a", "continuations": [""]}, "continuations"),
        ({"text": ["a"], "continuations": ["b"]}, "text"),
        ({"continuations": ["b"]}, "text"),
        ({"text": "a", "unconditional": True, "continuations": ["b"]}, "unconditional"),
        ({"text": "a", "unconditional": 1, "continuations": ["b"]}, "unconditional"),
        ({"text": "a", "cache_salt": "x" * 300, "continuations": ["b"]}, "cache_salt"),
    ],
)
async def test_a_bad_score_field_is_named(body: dict[str, Any], param: str) -> None:
    async with serving() as client:
        assert (await client.error("/score", body))["param"] == param


BODIES = {
    "empty": b"",
    "not JSON": b"{",
    "trailing": b'{"prompt": "x"} x',
    "an array": b"[]",
    "null": b"null",
    "NaN": b'{"prompt": "x", "temperature": NaN}',
    "Infinity": b'{"prompt": "x", "temperature": -Infinity}',
    "too large a number": b'{"prompt": "x", "temperature": 1e999}',
    "100k digits": b'{"prompt": "x", "n": ' + b"9" * 100_000 + b"}",
    "not UTF-8": b'{"prompt": "\xff\xfe"}',
    "a surrogate in UTF-8": b'{"prompt": "\xed\xa0\x80"}',
    "a lone surrogate in a body not worth a search": b'{"prompt": "\\ud800' + b"x" * 300_000 + b'"}',
    "UTF-16": '{"prompt": "x"}'.encode("utf-16"),
    "too deep": b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too deep, not closed": b"[" * 100_000,
}


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/generate", "/score", "/abort_request"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_broken_body_is_refused(path: str, body: bytes) -> None:
    async with serving() as client:
        error = await client.error(path, body)
        assert (error["param"], error["code"]) == ("body", "invalid_json")
        await assert_serves(client)


SURROGATES = [
    ("/v1/completions", b'{"prompt": "\\ud800"}', "prompt"),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "ok \\udc00!"}]}', "messages[0].content"),
    ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "\\ud800\\u0041"}]}', "messages[0].content"),
    (
        "/generate",
        b'{"text": "a", "sampling_params": {"stop": ["\\ud83d\\ude00", "\\uD83D"]}}',
        "sampling_params.stop[1]",
    ),
    ("/generate", b'{"text": "a", "sampling_params": {"\\ud800": {"a": "\\ud800"}}}', "sampling_params"),
]


@pytest.mark.parametrize(("path", "body", "param"), SURROGATES)
async def test_a_lone_surrogate_is_told_where_it_stands(path: str, body: bytes, param: str) -> None:
    """JSON can write half a character; "Input data was truncated" was all a client heard of it."""
    async with serving() as client:
        error = await client.error(path, body)
        assert error["param"] == param
        assert "has a lone surrogate at character" in error["message"]
        await assert_serves(client)


async def test_a_whole_surrogate_pair_is_a_character() -> None:
    async with serving() as client:
        status, _ = await client.post("/v1/completions", b'{"prompt": "\\ud83d\\ude00"}')
    assert status == 200
    assert bytes(client.engine.requests[0]["prompt"]).decode() == "\U0001f600"


IN_WORDS: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/chat/completions", {"messages": [{"role": "owl", "content": "x"}]},
     "messages[0].role: got 'owl', wanted assistant, developer, system or user"),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": 5}]},
     "messages[0].content: wanted a string or an array, got an integer"),
    ("/v1/chat/completions", {"messages": USER, "response_format": {"type": "yaml"}},
     "response_format.type: got 'yaml', wanted json_object, json_schema, structural_tag or text"),
    ("/v1/chat/completions", {"messages": USER, "stop": 5}, "stop: wanted a string or an array, got an integer"),
    ("/v1/chat/completions", {"messages": USER, "n": 1.5}, "n: wanted an integer, got a fraction"),
    ("/v1/chat/completions", {"messages": USER, "echo": {}}, "echo: unknown parameter"),
    ("/v1/chat/completions", {"messages": USER, "store": True}, "store: only false is supported"),
    ("/v1/chat/completions", {"messages": USER, "cache_salt": "x" * 300},
     "cache_salt: wanted a string of at most 256 characters"),
    ("/generate", {"text": "x", "stream": "yes"}, "stream: wanted true or false, got a string"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "message"), IN_WORDS, ids=lambda value: str(value)[:60])
async def test_a_refusal_says_in_words_what_is_allowed(path: str, body: dict[str, Any], message: str) -> None:
    async with serving() as client:
        assert (await client.error(path, body))["message"] == message


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/completions", {"prompt": ""}, "prompt"),
        ("/generate", {"text": ""}, "text"),
        ("/generate", {"prompt_parts": []}, "prompt_parts"),
    ],
)
async def test_an_empty_prompt_gets_the_engines_own_words(path: str, body: dict[str, Any], field: str) -> None:
    async with serving() as client:
        with pytest.raises(InvalidRequest) as local:
            Call.make({"max_new_tokens": 1}).fitted([], client.engine.info)
        assert (await client.error(path, body))["message"] == f"{field}: {local.value.message}"


async def test_a_body_over_the_limit_is_refused_whether_it_says_so_or_not() -> None:
    async def chunks() -> Any:
        for _ in range(100):
            yield b" " * 1000

    async with serving(max_body_bytes=10_000) as client:
        declared = await client.error("/generate", b" " * 20_000, status=413)
        async with client.http.post("/generate", data=chunks()) as response:
            chunked = (response.status, await response.json())
        await assert_serves(client)
    assert (declared["param"], declared["code"]) == ("body", "body_too_large")
    assert (chunked[0], chunked[1]["error"]["param"]) == (413, "body")


async def test_a_compressed_body_is_refused_unopened() -> None:
    async with serving() as client:
        status, answer = await client.post("/generate", b"x" * 100, headers={"Content-Encoding": "gzip"})
        await assert_serves(client)
    assert (status, answer["error"]["param"]) == (415, "body")


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async with serving(body_seconds=0.05) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(client.server.address.rsplit(":", 1)[1]))
        writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = await reader.readline()
        writer.close()
        await assert_serves(client)
    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_prompt_over_the_context_gets_openais_words() -> None:
    async with serving(FakeEngine(context_length=50)) as client:
        for prompt in ("x" * 50, "x" * 100_000):
            for path, body, param in [
                ("/v1/completions", {"prompt": prompt}, "prompt"),
                ("/v1/chat/completions", {"messages": [{"role": "user", "content": prompt}]}, "messages"),
            ]:
                error = await client.error(path, body)
                assert error["code"] == "context_length_exceeded"
                assert error["message"].startswith("This model's maximum context length is 50 tokens")
                assert error["param"] == param
        error = await client.error("/v1/completions", {"prompt": "x" * 40, "max_tokens": 11})
        await assert_serves(client)
    assert (error["code"], error["param"]) == ("context_length_exceeded", "max_tokens")
    assert "you requested 51 tokens (40 in the prompt, 11 in the completion)" in error["message"]


async def test_unknown_paths_and_methods_have_the_error_shape() -> None:
    async with serving() as client:
        status, answer = await client.get("/v1/embeddings")
        async with client.http.get("/v1/completions") as response:
            method = (response.status, response.headers["Allow"], json.loads(await response.text()))
    assert (status, answer["error"]["type"]) == (404, "invalid_request_error")
    assert method[:2] == (405, "POST")
    assert method[2]["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "raw", [b"GARBAGE", b"GET / HTTP/9.9", b"GET / HTTP/1.1\r\nBad Header", b"GET /" + b"a" * 9000]
)
async def test_what_is_no_http_is_refused_without_saying_what_we_run_on(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as client:
        with caplog.at_level("CRITICAL"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(client.server.address.rsplit(":", 1)[1]))
            writer.write(raw + b"\r\n\r\n")
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
        await assert_serves(client)
    assert head.split(b"\r\n")[0].endswith(b" 400 Bad Request")
    assert b"\r\nServer: forktree" in head
    assert json.loads(body)["error"]["code"] == "invalid_http"
