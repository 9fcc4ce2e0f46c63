"""Starting and stopping: on an event loop of our own, and as a process that gets signals."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from forktree.runtime.server import ServerConfig
from tests.server.fake_engine import FakeEngine
from tests.server.support import serving
from tests.server.test_faults import until


async def test_draining_finishes_what_runs_and_takes_nothing_new() -> None:
    engine = FakeEngine()
    engine.gate = asyncio.Event()
    async with serving(engine) as client:
        running = asyncio.create_task(client.stream("/v1/completions", {"prompt": "x", "max_tokens": 3}))
        await until(lambda: engine.running)
        drain = asyncio.create_task(client.server.service.drain(5))
        await asyncio.sleep(0)
        ready, answer = await client.get("/ready")
        health, _ = await client.get("/health")
        async with client.http.post("/v1/completions", json={"prompt": "y"}) as refused:
            shown = (refused.status, refused.headers["Retry-After"], refused.headers["Connection"])
        assert not drain.done()
        engine.gate.set()
        events = await running
        assert await drain
    assert (ready, answer["error"]["code"], health) == (503, "shutting_down", 200)
    assert shown == (503, "5", "close")
    assert "".join(event["choices"][0]["text"] for event in events) == "abc"


async def test_what_is_not_done_in_time_ends_with_an_error() -> None:
    engine = FakeEngine()
    engine.token_seconds = 0.01
    async with serving(engine) as client:
        streamed = asyncio.create_task(client.stream("/v1/completions", {"prompt": "x", "max_tokens": 150}))
        whole = asyncio.create_task(client.post("/v1/completions", {"prompt": "x", "max_tokens": 150}))
        await until(lambda: len(engine.running) == 2)
        assert not await client.server.service.drain(0.03)
        events, (status, answer) = await streamed, await whole
        assert not engine.running
    assert events[-1]["error"]["code"] == "shutting_down"
    assert events[0]["choices"][0]["text"] == "a"
    assert (status, answer["error"]["code"]) == (503, "shutting_down")


async def test_a_port_in_use_is_an_error_at_once() -> None:
    async with serving() as client:
        port = int(client.server.address.rsplit(":", 1)[1])
        with pytest.raises(OSError):
            async with serving(port=port):
                pass


@pytest.mark.parametrize(
    ("field", "value"),
    [("port", 70000), ("port", -1), ("host", ""), ("max_body_bytes", 0), ("drain_seconds", -1), ("max_choices", 0)],
)
def test_a_bad_setting_is_named(field: str, value: Any) -> None:
    with pytest.raises(ValueError) as raised:
        ServerConfig(**{field: value})
    assert str(raised.value).startswith(f"{field}: ")


# As a process

PROGRAM = """
import sys, time
from forktree.runtime.server import ServerConfig, serve
from tests.server.fake_engine import FakeEngine

token_seconds, load_seconds, drain_seconds = map(float, sys.argv[1:])

def load():
    time.sleep(load_seconds)
    engine = FakeEngine()
    engine.token_seconds = token_seconds
    return engine

def ready(server, engine):
    print("ready", flush=True)

print("loading", flush=True)
serve(ServerConfig(port=PORT, drain_seconds=drain_seconds), load, ready)
print("left", flush=True)
"""


@contextmanager
def server_process(token: float = 0.0, load: float = 0.0, drain: float = 5.0) -> Iterator[tuple[Any, str]]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    code = PROGRAM.replace("PORT", str(port))
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(token), str(load), str(drain)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def open_stream(url: str) -> Any:
    body = {"prompt": "x", "max_tokens": 100, "stream": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode())
    return urllib.request.urlopen(request, timeout=20)


def status_of(url: str) -> int | None:
    """None while nobody listens."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code
    except urllib.error.URLError:
        return None


def await_line(process: Any, wanted: str) -> None:
    for line in process.stdout:
        if line.strip() == wanted:
            return
    raise AssertionError(f"{wanted!r} was not printed; the process ended with {process.wait()}")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_a_stream_finish_and_the_process_leave_with_zero(number: signal.Signals) -> None:
    with server_process(token=0.01) as (process, url):
        await_line(process, "ready")
        with open_stream(url) as stream:
            stream.readline()
            process.send_signal(number)
            lines = stream.read().decode().split()
        assert lines[-1] == "[DONE]"
        assert '"finish_reason":"length"' in lines[-3]
        assert process.wait(10) == 0


@pytest.mark.slow
def test_a_second_signal_stops_at_once() -> None:
    with server_process(token=0.1, drain=60) as (process, url):
        await_line(process, "ready")
        with open_stream(url) as stream:
            stream.readline()
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            assert process.poll() is None
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            assert time.monotonic() - start < 3


@pytest.mark.slow
def test_a_signal_while_the_model_loads_ends_the_process() -> None:
    with server_process(load=60) as (process, url):
        await_line(process, "loading")
        for _ in range(200):
            if status_of(url + "/health") == 503:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
