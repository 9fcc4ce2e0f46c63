"""SGLang's /generate, and /score, on the fake engine: the forms that SGLang's frontend reads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.support import serving

TWO = {"max_new_tokens": 2}


async def test_one_prompt_gives_one_object() -> None:
    async with serving() as client:
        status, answer = await client.post("/generate", {"text": "hello", "sampling_params": TWO, "rid": "r1"})
    assert status == 200
    assert (answer["text"], answer["output_ids"]) == ("ab", [97, 98])
    meta = answer["meta_info"]
    assert meta["id"] == "r1"
    assert meta["finish_reason"] == {"type": "length", "length": 2}
    assert (meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]) == (5, 2, 2)
    assert meta["e2e_latency"] > 0


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [
        ({"text": ["ab", "c"]}, [[97, 98], [99]]),
        ({"text": ["ab"]}, [[97, 98]]),
        ({"input_ids": [[97, 98], [99]]}, [[97, 98], [99]]),
    ],
)
async def test_a_batch_gives_a_list_in_order(prompt: dict[str, Any], sent: list[list[int]]) -> None:
    async with serving() as client:
        _, answer = await client.post("/generate", {**prompt, "sampling_params": TWO})
    assert isinstance(answer, list)
    assert [each["text"] for each in answer] == ["ab"] * len(sent)
    assert sorted(request["prompt"] for request in client.engine.requests) == sorted(sent)


@pytest.mark.parametrize(
    ("prompt", "sent"),
    [({"input_ids": [97, 98]}, [97, 98]), ({"prompt_parts": ["ab", [1, 2], "c"]}, [97, 98, 1, 2, 99])],
)
async def test_ids_and_parts_are_one_prompt(prompt: dict[str, Any], sent: list[int]) -> None:
    async with serving() as client:
        _, answer = await client.post("/generate", {**prompt, "sampling_params": TWO, "return_prompt_token_ids": True})
    assert client.engine.requests[0]["prompt"] == sent
    assert answer["prompt_token_ids"] == sent


async def test_each_prompt_of_a_batch_may_have_its_own_parameters() -> None:
    params = [{"max_new_tokens": 1}, {"max_new_tokens": 3}]
    async with serving() as client:
        _, answer = await client.post("/generate", {"text": ["x", "y"], "sampling_params": params})
    assert [each["text"] for each in answer] == ["a", "abc"]


async def test_several_choices_are_a_list() -> None:
    async with serving() as client:
        _, one = await client.post("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 1, "n": 3}})
        _, two = await client.post("/generate", {"text": ["x", "y"], "sampling_params": {"max_new_tokens": 1, "n": 2}})
    assert [each["text"] for each in one] == ["a"] * 3
    assert len(two) == 4


async def test_the_request_of_sglangs_frontend_is_taken() -> None:
    """Field by field what sglang.lang's RuntimeEndpoint sends for a gen, and for filling the cache."""
    params = {
        "skip_special_tokens": True, "spaces_between_special_tokens": True, "max_new_tokens": 3, "min_new_tokens": 0,
        "n": 1, "stop": [], "stop_token_ids": [], "stop_regex": [], "temperature": 1.0, "top_p": 1.0, "top_k": -1,
        "min_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "ignore_eos": False, "regex": None,
        "json_schema": None,
    }  # fmt: skip
    async with serving() as client:
        status, answer = await client.post("/generate", {"text": "x", "sampling_params": params})
        commit, filled = await client.post("/generate", {"text": "xyz", "sampling_params": {"max_new_tokens": 0}})
    assert (status, answer["text"]) == (200, "abc")
    assert (commit, filled["text"], filled["meta_info"]["prompt_tokens"]) == (200, "", 3)


async def test_a_stop_is_told_with_what_matched() -> None:
    async with serving() as client:
        _, answer = await client.post("/generate", {"text": "x", "sampling_params": {"stop": ["c"]}})
    assert answer["text"] == "ab"
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "c"}


async def test_a_stream_has_cumulative_text_and_new_logprobs() -> None:
    body = {"text": "x", "sampling_params": {"max_new_tokens": 3}, "return_logprob": True, "top_logprobs_num": 1}
    async with serving() as client:
        events = await client.stream("/generate", body)
    assert [event["text"] for event in events] == ["a", "ab", "abc"]
    assert [event["output_ids"] for event in events] == [[97], [97, 98], [97, 98, 99]]
    metas = [event["meta_info"] for event in events]
    assert [meta["output_token_logprobs"] for meta in metas] == [
        [[0.0, 97, None]],
        [[-0.1, 98, None]],
        [[-0.2, 99, None]],
    ]
    assert [meta["output_token_logprobs_length"] for meta in metas] == [1, 2, 3]
    assert [meta["completion_tokens"] for meta in metas] == [1, 2, 3]
    assert [meta["finish_reason"] for meta in metas] == [None, None, {"type": "length", "length": 3}]
    assert all("index" not in event for event in events)


async def test_a_streamed_batch_has_indexes() -> None:
    params = {"max_new_tokens": 2, "n": 2}
    async with serving() as client:
        events = await client.stream("/generate", {"text": ["x", "y"], "sampling_params": params})
    last = {event["index"]: event["text"] for event in events}
    assert last == {0: "ab", 1: "ab", 2: "ab", 3: "ab"}


async def test_prompt_logprobs_cover_the_prompt_from_the_start_asked_for() -> None:
    body = {"text": "wxyz", "sampling_params": TWO, "return_logprob": True, "return_text_in_logprobs": True}
    async with serving() as client:
        _, outputs = await client.post("/generate", body)
        _, whole = await client.post("/generate", {**body, "logprob_start_len": 0, "top_logprobs_num": 1})
        _, part = await client.post("/generate", {**body, "logprob_start_len": 2})
    assert outputs["meta_info"]["input_token_logprobs"] == []
    assert outputs["meta_info"]["output_token_logprobs"] == [[0.0, 97, "a"], [-0.1, 98, "b"]]
    given = whole["meta_info"]["input_token_logprobs"]
    assert given == [[None, 119, "w"], [-0.1, 120, "x"], [-0.2, 121, "y"], [-0.3, 122, "z"]]
    assert whole["meta_info"]["input_top_logprobs"][:2] == [None, [[-0.1, 97, "a"]]]
    assert part["meta_info"]["input_token_logprobs"] == given[2:]


async def test_select_of_sglangs_frontend_gets_the_form_it_can_read() -> None:
    """It counts tokens from start + 1 on, takes null for a crash, and drops log-probabilities of exactly 0.0."""
    body = {
        "text": ["xy", "xyz"],
        "sampling_params": {"max_new_tokens": 0, "temperature": 0},
        "return_logprob": True,
        "return_text_in_logprobs": True,
        "logprob_start_len": 1,
    }
    async with serving() as client:
        _, answer = await client.post("/generate", body)
    lists = [each["meta_info"]["input_token_logprobs"] for each in answer]
    assert lists == [[], [[-0.2, 122, "z"]]]
    assert [each["meta_info"]["output_token_logprobs"] for each in answer] == [[], []]


async def test_scoring_token_ids_without_a_start_means_from_the_first() -> None:
    body = {"input_ids": [[97, 98]], "sampling_params": {"max_new_tokens": 0}, "return_logprob": True}
    async with serving() as client:
        _, answer = await client.post("/generate", body)
    assert answer[0]["meta_info"]["input_token_logprobs"] == [[None, 97, None], [-0.1, 98, None]]


async def test_a_schema_may_be_text_or_an_object() -> None:
    async with serving() as client:
        for schema in ('{"type":"integer"}', {"type": "integer"}):
            await client.post("/generate", {"text": "x", "sampling_params": {"json_schema": schema}})
    assert [request["params"].json_schema for request in client.engine.requests] == ['{"type":"integer"}'] * 2


async def test_scores_come_per_continuation() -> None:
    async with serving() as client:
        status, answer = await client.post("/score", {"prompt_parts": ["x", [7]], "continuations": ["a", "bc"]})
        at_start, _ = await client.post("/score", {"text": "", "continuations": ["a"]})
    assert status == 200
    assert answer["scores"] == [
        {"token_ids": [97], "logprobs": [-0.5]},
        {"token_ids": [98, 99], "logprobs": [-0.5, -0.5]},
    ]
    assert at_start == 200


async def test_what_stands_before_scores_reaches_the_engine() -> None:
    async with serving() as client:
        for body in ({"text": "x", "cache_salt": "mine"}, {"text": ""}, {"unconditional": True}):
            status, answer = await client.post("/score", {**body, "continuations": ["a"]})
            assert (status, len(answer["scores"])) == (200, 1)
    assert client.engine.scored == [([ord("x")], "mine"), ([], ""), (None, "")]


async def test_a_text_begins_as_the_model_wants_it() -> None:
    engine = FakeEngine(add_bos=True)
    async with serving(engine) as client:
        for prompt in (
            {"text": "x"},
            {"prompt_parts": ["x", "y"]},
            {"prompt_parts": [[120], "y"]},
            {"input_ids": [120]},
        ):
            await client.post("/generate", {**prompt, "sampling_params": TWO})
        await client.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
    assert [request["prompt"] for request in engine.requests] == [
        [256, 120],
        [256, 120, 121],
        [120, 121],
        [120],
        [256, 120],
    ]


@pytest.mark.parametrize("path", ["/get_model_info", "/model_info"])
async def test_model_info_has_what_clients_choose_templates_by(path: str) -> None:
    async with serving() as client:
        _, info = await client.get(path)
    assert info["model_path"] == "/models/fake"
    assert info["served_model_name"] == "fake-model"
    assert (info["is_generation"], info["context_length"], info["vocab_size"]) == (True, 200, 258)
    assert info["chat_format"]["roles"]["user"] == ["<user>", "</user>"]
    assert info["forktree_version"]


async def test_server_info_accounts_for_every_page() -> None:
    async with serving() as client:
        _, info = await client.get("/server_info")
    assert info["pages_free"] + info["pages_cached"] + info["pages_running"] == info["pages_total"]
    assert info["status"] == "ready"


async def test_the_cache_is_flushed_by_either_method() -> None:
    async with serving() as client:
        assert (await client.post("/flush_cache", b""))[0] == 200
        assert (await client.get("/flush_cache"))[0] == 200
    assert client.engine.flushes == 2


@pytest.mark.parametrize("by", [{"rid": "job"}, {"abort_all": True}])
async def test_abort_ends_a_batch_by_its_id(by: dict[str, Any]) -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    async with serving(engine) as client:
        body = {"text": ["x", "y"], "sampling_params": TWO, "rid": "job"}
        running = asyncio.create_task(client.post("/generate", body))
        while len(engine.running) < 2:
            await asyncio.sleep(0.001)
        unknown = await client.post("/abort_request", {"rid": "other"})
        duplicate = await client.error("/generate", {"text": "z", "rid": "job_0"})
        aborted = await client.post("/abort_request", by)
        status, answer = await running
    assert unknown == (200, {"aborted": 0})
    assert (duplicate["param"], duplicate["code"]) == ("rid", "duplicate_id")
    assert aborted == (200, {"aborted": 2})
    assert status == 200
    assert [each["meta_info"]["finish_reason"]["type"] for each in answer] == ["abort", "abort"]


async def test_abort_wants_to_know_what() -> None:
    async with serving() as client:
        for body in ({}, {"rid": "x", "abort_all": True}):
            assert (await client.error("/abort_request", body))["param"] == "rid"


async def test_an_empty_stop_is_none() -> None:
    async with serving() as client:
        status, _ = await client.post("/generate", {"text": "x", "sampling_params": {**TWO, "stop": ""}})
        error = await client.error("/generate", {"text": "x", "sampling_params": {**TWO, "stop": [""]}})
    assert (status, client.engine.requests[0]["params"].stop) == (200, ())
    assert error["param"] == "stop"


async def test_grammars_and_structural_tags_reach_the_engine() -> None:
    tag = {"type": "structural_tag", "format": {"type": "any_text"}}
    asked = [
        {"ebnf": 'root ::= "a"', "regex": ""},
        {"structural_tag": tag},
        {"structural_tag": json.dumps(tag), "ebnf": ""},
        {"json_schema": {"type": "null"}, "white_space": "compact", "order": "required-first"},
    ]
    async with serving() as client:
        for params in asked:
            status, answer = await client.post(
                "/generate", {"text": "a", "sampling_params": {"max_new_tokens": 1, **params}}
            )
            assert status == 200, answer
    grammar, one, other, schema = (request["params"] for request in client.engine.requests)
    assert grammar.ebnf == 'root ::= "a"'
    assert json.loads(one.structural_tag) == json.loads(other.structural_tag) == tag
    assert (schema.json_schema, schema.white_space, schema.order) == ('{"type":"null"}', "compact", "required-first")
