"""Clients that leave, engines that fail, models still loading: what happens to one request never reaches another."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from forktree.runtime import EngineDead, EngineOverloaded, InvalidRequest, RequestFailed
from tests.server.fake_engine import FakeEngine
from tests.server.support import Client, serving

COMPLETION = {"prompt": "x", "max_tokens": 100}
CHAT = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 100}
GENERATE = {"text": ["x", "y"], "sampling_params": {"max_new_tokens": 100}}
ENDPOINTS = [("/v1/completions", COMPLETION), ("/v1/chat/completions", CHAT), ("/generate", GENERATE)]


async def until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("did not happen within 2 s")


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_the_first_token_ends_its_request(
    path: str, body: dict[str, Any], stream: bool
) -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    async with serving(engine) as client:
        task = asyncio.create_task(client.post(path, {**body, "stream": stream}))
        await until(lambda: engine.running)
        started = len(engine.running)
        task.cancel()
        await until(lambda: not engine.running)
        assert len(engine.aborted) == started
        engine.gate.set()
        assert (await client.post("/generate", {"text": "x"}))[0] == 200


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_client_that_leaves_its_stream_ends_its_request(path: str, body: dict[str, Any]) -> None:
    engine = FakeEngine()
    engine.token_seconds = 0.005
    async with serving(engine) as client:
        async with client.http.post(path, json={**body, "stream": True}) as response:
            await response.content.readline()
            response.close()
        await until(lambda: not engine.running)
        assert engine.aborted


@pytest.mark.parametrize("id_length", range(1, 60, 6))  # events of other sizes: any write may be the one that waits
async def test_a_client_that_does_not_read_is_cut_off_and_others_are_not(id_length: int) -> None:
    engine = FakeEngine(context_length=10**7)
    async with serving(engine, stall_seconds=0.1) as client:
        port = int(client.server.address.rsplit(":", 1)[1])
        asked = {
            "text": "x" * 100,
            "sampling_params": {"max_new_tokens": 10**6},
            "stream": True,
            "rid": "r" * id_length,
        }
        body = json.dumps(asked).encode()
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await until(lambda: engine.running)
        status, _ = await client.post("/v1/completions", {"prompt": "y", "max_tokens": 5})
        assert status == 200
        for _ in range(5000):
            if not engine.running:
                break
            await asyncio.sleep(0.001)
        assert not engine.running
        writer.close()


FAILURES = [
    (EngineDead("killed by signal 9 at /usr/lib/secret"), 503, "engine_dead"),
    (EngineOverloaded("queue"), 503, "overloaded"),
    (RequestFailed("the step failed;\nothers go on"), 500, "request_failed"),
    (RuntimeError("/home/user/secret.py broke"), 500, "internal_error"),
]


@pytest.mark.parametrize(("error", "status", "code"), FAILURES)
@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_fails_before_the_first_token_gives_a_status(
    error: Exception, status: int, code: str, path: str, body: dict[str, Any], stream: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    engine = FakeEngine()
    engine.error = error
    async with serving(engine) as client:
        with caplog.at_level(logging.CRITICAL, "forktree"):
            answer = await client.error(path, {**body, "stream": stream}, status)
    assert (answer["code"], answer["type"]) == (code, "server_error")
    assert "secret" not in str(answer)


@pytest.mark.parametrize(("error", "status", "code"), FAILURES)
@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_an_engine_that_fails_in_a_stream_says_so_in_an_event(
    error: Exception, status: int, code: str, path: str, body: dict[str, Any]
) -> None:
    engine = FakeEngine()
    engine.error, engine.error_after = error, 3
    async with serving(engine) as client:
        events = await client.stream(path, body)
    assert events[-1]["error"]["code"] == code
    assert "secret" not in str(events[-1])
    assert "error" not in str(events[:-1])


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
@pytest.mark.parametrize("after", [0, 3])
async def test_a_failed_request_is_told_why_and_leaves_one_line_in_the_log(
    path: str, body: dict[str, Any], after: int, caplog: pytest.LogCaptureFixture
) -> None:
    engine = FakeEngine()
    engine.error, engine.error_after = RequestFailed("the step failed;\nothers go on"), after
    async with serving(engine) as client:
        with caplog.at_level(logging.WARNING, "forktree"):
            async with client.http.post(
                path, json={**body, "stream": after > 0}, headers={"X-Request-Id": "id-7"}
            ) as response:
                answer = await response.text()
    assert '"message":"the step failed;\\nothers go on"' in answer
    assert [record.getMessage() for record in caplog.records] == [
        "request id-7 could not be finished: the step failed; others go on"
    ]


@pytest.mark.parametrize(("path", "body"), ENDPOINTS)
async def test_a_fault_of_the_client_that_shows_late_is_still_the_clients(path: str, body: dict[str, Any]) -> None:
    """A constraint can give up, or a stop pattern take too long, once tokens are out: 400 before the first, else an
    event of the stream. Neither is a failure worth a log line."""
    engine = FakeEngine()
    engine.error = InvalidRequest("prompt", "gave up")
    field = {"/v1/completions": "prompt", "/v1/chat/completions": "messages", "/generate": "text"}[path]
    wanted = {
        "message": f"{field}: gave up",
        "type": "invalid_request_error",
        "param": field,
        "code": "invalid_request",
    }
    async with serving(engine) as client:
        assert await client.error(path, body) == wanted
        assert await client.error(path, {**body, "stream": True}) == wanted
        engine.error_after = 3
        events = await client.stream(path, body)
        assert await client.error(path, body) == wanted
    assert events[-1] == {"error": wanted}
    assert len(events) > 3


@pytest.mark.parametrize(("path", "body"), ENDPOINTS[:2])
async def test_an_aborted_request_is_an_error_to_openais_clients(path: str, body: dict[str, Any]) -> None:
    """Their finish reasons have none for it, so "abort" there broke clients that check."""
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    headers = {"X-Request-Id": "id-7"}
    async with serving(engine) as client:
        for stream in (False, True):
            waiting = asyncio.create_task(client.post(path, {**body, "stream": stream}, headers=headers))
            await until(lambda: engine.running)
            assert await client.post("/abort_request", {"rid": "id-7"}) == (200, {"aborted": 1})
            status, answer = await waiting
            assert (status, answer["error"]["code"]) == (499, "request_aborted")
        engine.gate.set()
        engine.token_seconds = 0.005
        async with client.http.post(path, json={**body, "stream": True}, headers=headers) as response:
            first = await response.content.readline()
            await client.post("/abort_request", {"rid": "id-7"})
            rest = (await response.read()).decode().split("\n\n")
    assert b"error" not in first
    assert json.loads(rest[-3].strip().removeprefix("data: "))["error"]["code"] == "request_aborted"
    assert rest[-2] == "data: [DONE]"
    assert '"finish_reason":"' not in "".join(rest)


async def test_one_failure_in_a_batch_ends_the_others() -> None:
    engine = FakeEngine(context_length=50)
    engine.gate = asyncio.Event()
    async with serving(engine) as client:
        error = await client.error("/generate", {"text": ["x", "y" * 60, "z"]})
        assert error["code"] == "context_length_exceeded"
        await until(lambda: not engine.running)


async def test_while_the_model_loads_everything_says_so() -> None:
    async with serving(loaded=False) as client:
        for path in ("/health", "/ready", "/v1/models", "/server_info"):
            status, answer = await client.get(path)
            assert (status, answer["error"]["code"]) == (503, "model_loading"), path
        async with client.http.post("/v1/completions", json=COMPLETION) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "2")
        assert "forktree:engine_up 0.0" in (await client.get("/metrics"))[1]
        client.server.service.ready(client.engine)
        assert (await client.get("/health"))[0] == 200
        assert (await client.post("/v1/completions", {"prompt": "x"}))[0] == 200


async def test_a_dead_engine_is_unhealthy_but_answers() -> None:
    async with serving() as client:
        client.engine.is_alive = False
        for path in ("/health", "/ready", "/health_generate"):
            status, answer = await client.get(path)
            assert (status, answer["error"]["code"]) == (503, "engine_dead"), path
        assert "forktree:engine_up 0.0" in (await client.get("/metrics"))[1]


async def test_an_engine_that_makes_no_token_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forktree.runtime.server.info.HEALTH_SECONDS", 0.02)
    engine = FakeEngine()
    async with serving(engine) as client:
        assert (await client.get("/health_generate"))[0] == 200
        engine.gate = asyncio.Event()
        status, answer = await client.get("/health_generate")
        assert (status, answer["error"]["code"]) == (503, "unhealthy")
        assert not engine.running


@pytest.mark.parametrize("given", ["abc-1.2:3_4", "x" * 128])
async def test_a_request_id_comes_back(given: str) -> None:
    async with serving() as client:
        for path in ("/health", "/nope"):
            async with client.http.get(path, headers={"X-Request-Id": given}) as response:
                assert response.headers["X-Request-Id"] == given
        async with client.http.post(
            "/generate", json={"text": "x", "stream": True}, headers={"X-Request-Id": given}
        ) as response:
            assert response.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "a;b"])
async def test_an_unsafe_request_id_is_replaced(given: str) -> None:
    async with serving() as client, client.http.get("/health", headers={"X-Request-Id": given}) as response:
        assert response.headers["X-Request-Id"] not in ("", given)


async def test_two_requests_with_one_request_id_do_not_meet() -> None:
    engine = FakeEngine()
    engine.token_seconds = 0.002
    async with serving(engine) as client:
        headers = {"X-Request-Id": "same"}
        body = {"prompt": "x", "max_tokens": 3}
        answers = await asyncio.gather(*(client.post("/v1/completions", body, headers=headers) for _ in range(3)))
    assert [status for status, _ in answers] == [200, 200, 200]


async def _hundred(client: Client) -> list[int]:
    bodies = [{"prompt": "x" * (i + 1), "max_tokens": 5} for i in range(100)]
    return [status for status, _ in await asyncio.gather(*(client.post("/v1/completions", body) for body in bodies))]


@pytest.mark.slow
async def test_a_hundred_requests_at_once_are_all_answered() -> None:
    async with serving() as client:
        assert await _hundred(client) == [200] * 100
        assert not client.engine.aborted
