"""POST /v1/programs: what arrives at the engine, what comes back, what is refused, and how a program ends early."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forktree.runtime.errors import ContextLengthExceeded, RequestFailed
from tests.server.support import serving

PLAN: dict[str, Any] = {
    "version": 1,
    "nodes": [
        {"kind": "text", "pieces": ["About ", {"argument": "it"}]},
        {"kind": "gen", "after": 0, "pieces": [":"], "sampling": {"max_new_tokens": 4, "stop": ["\n"]}},
        {"kind": "select", "after": 1, "pieces": [{"node": 1}], "choices": [" a", " bc"]},
    ],
}
PROGRAM = {"plan": PLAN, "arguments": [{"it": "x"}, {"it": "y"}]}


async def test_events_come_as_one_list_or_as_a_stream() -> None:
    async with serving() as client:
        status, answer = await client.post("/v1/programs", PROGRAM)
        streamed = await client.stream("/v1/programs", PROGRAM)
    assert status == 200
    assert answer["events"] == streamed
    assert [(event["item"], event["node"]) for event in streamed] == [(0, 1), (0, 2), (0, -1), (1, 1), (1, 2), (1, -1)]
    gen, select = streamed[0], streamed[1]
    assert (gen["digest"], gen["delta"]["text"], gen["delta"]["finish_reason"]) == ("0102", "ok", "stop")
    assert gen["delta"]["kept_token_ids"] == [111, 107]
    assert [score["token_ids"] for score in select["scores"]] == [[32, 97], [32, 98, 99]]


async def test_the_engine_gets_plan_arguments_salt_and_whether_somebody_reads_along() -> None:
    async with serving() as client:
        await client.post("/v1/programs", {**PROGRAM, "cache_salt": "mine"})
        await client.stream("/v1/programs", PROGRAM)
        await client.stream("/v1/programs", {**PROGRAM, "whole_outputs": True})
        whole, live, pieces = client.engine.programs
    assert (whole.stream, live.stream, pieces.stream) == (False, True, False)
    assert (whole.salt, live.salt) == ("mine", "")
    assert [dict(item) for item in live.arguments] == PROGRAM["arguments"]
    assert live.plan.nodes[1].sampling.stop == ("\n",)
    assert live.closed


async def test_a_node_that_fails_is_an_event_and_the_program_goes_on() -> None:
    async with serving() as client:
        client.engine.error = ContextLengthExceeded(300, 200)
        events = await client.stream("/v1/programs", PROGRAM)
        client.engine.error = RequestFailed("the device hiccuped")
        again = await client.stream("/v1/programs", PROGRAM)
    assert events[0]["failure"]["code"] == "context_length_exceeded"
    assert events[0]["failure"]["status"] == 400
    assert again[0]["failure"] == {
        "message": "the device hiccuped", "param": None, "code": "request_failed", "status": 500,
    }  # fmt: skip
    assert events[-1] == {"item": 1, "node": -1}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "plan"),
        ({"plan": {"version": 2, "nodes": []}}, "plan.version"),
        ({"plan": {"version": 1, "nodes": []}}, "plan.nodes"),
        ({"plan": {"version": 1, "nodes": [{"kind": "gen", "after": 0}]}}, "plan.nodes.0.after"),
        ({"plan": {"version": 1, "nodes": [{"kind": "dream"}]}}, "plan.nodes.0"),
        ({"plan": {"version": 1, "nodes": [{"kind": "gen", "sampling": {"tempo": 1}}]}}, "plan.nodes.0.sampling.tempo"),
        ({"plan": {"version": 1, "nodes": [{"kind": "select", "choices": []}]}}, "plan.nodes.0.choices"),
        ({"plan": PLAN, "arguments": []}, "arguments"),
        ({"plan": PLAN, "program_id": "a b"}, "program_id"),
        ({"plan": PLAN, "colour": "red"}, "colour"),
    ],
)
async def test_what_is_wrong_is_refused_by_name(body: dict[str, Any], param: str) -> None:
    async with serving() as client:
        error = await client.error("/v1/programs", body)
        assert client.engine.programs == []
    assert error["param"] == param


async def test_a_running_program_is_aborted_by_its_id_whole_or_in_part() -> None:
    async with serving() as client:
        client.engine.gate = asyncio.Event()
        running = asyncio.create_task(client.stream("/v1/programs", {**PROGRAM, "program_id": "mine"}))
        while not client.engine.programs:
            await asyncio.sleep(0)
        twice = await client.error("/v1/programs", {**PROGRAM, "program_id": "mine"})
        status, _ = await client.post("/v1/programs/mine/abort", {"item": 1, "node": 2})
        await running
        gone = await client.error("/v1/programs/mine/abort", {}, 404)
        half = await client.error("/v1/programs/mine/abort", {"node": 2})
        far = await client.error("/v1/programs/mine/abort", {"item": 10**30})
        assert client.engine.programs[0].aborted == [(1, 2)]
    assert (twice["param"], status, gone["code"], half["param"]) == ("program_id", 200, "program_not_found", "item")
    assert far["param"] == "item"


async def test_a_program_that_is_not_done_when_the_server_ends_says_so() -> None:
    """It was answered with 200 and what there was of it."""
    async with serving() as client:
        client.engine.gate = asyncio.Event()  # which an abort opens
        whole = asyncio.create_task(client.post("/v1/programs", PROGRAM))
        streamed = asyncio.create_task(client.stream("/v1/programs", PROGRAM))
        while len(client.engine.programs) < 2:
            await asyncio.sleep(0)
        assert not await client.server.service.drain(0.01)
        (status, answer), events = await whole, await streamed
    assert (status, answer["error"]["code"]) == (503, "shutting_down")
    assert events[-1]["error"]["code"] == "shutting_down"


async def test_a_client_that_leaves_ends_its_program() -> None:
    async with serving() as client:
        body = {**PROGRAM, "arguments": [{"it": "x"}] * 2000, "stream": True}
        async with client.http.post("/v1/programs", json=body) as response:
            await response.content.readline()
        (program,) = client.engine.programs
        while not program.closed:
            await asyncio.sleep(0)
        assert program.num_told < 2000 * 3
