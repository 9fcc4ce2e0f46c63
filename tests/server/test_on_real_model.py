"""The server as users start it, `python -m forktree serve`, on the default model."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
import pytest

import forktree as ft
from tests.server.support import Api

pytestmark = pytest.mark.slow

FRANCE = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "people": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["city", "people"],
    "additionalProperties": False,
}


@dataclass
class Served:
    process: subprocess.Popen[str]
    url: str
    said: str

    def engine_pids(self) -> list[int]:
        lists = Path(f"/proc/{self.process.pid}/task").glob("*/children")  # by the thread that started them
        return [int(pid) for list in lists for pid in list.read_text().split()]


@contextmanager
def serve(*options: str) -> Iterator[Served]:
    """`forktree serve` on a free port, once it has said where it listens."""
    command = [sys.executable, "-m", "forktree", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line.lstrip().startswith("try"):
                break
        found = re.search(r"address +(http://\S+)", said)
        assert found, f"it said {said!r} and ended with {process.wait(10)}"
        yield Served(process, found[1], said)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    with serve("--log-level", "warning") as served:
        yield served


@asynccontextmanager
async def api(served: Served) -> AsyncIterator[Api]:
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(served.url, timeout=timeout) as http:
        yield Api(http)


async def pages(client: Api) -> dict[str, int]:
    """The account of pages, which must be complete at any time."""
    _, info = await client.get("/server_info")
    assert info["pages_free"] + info["pages_cached"] + info["pages_running"] == info["pages_total"], info
    return {name: info[name] for name in info if name.startswith("pages_")}


async def idle(client: Api, seconds: float = 5.0) -> None:
    """Nothing runs any more, and no page is lost."""
    deadline = time.monotonic() + seconds
    while (await pages(client))["pages_running"]:
        assert time.monotonic() < deadline, await pages(client)
        await asyncio.sleep(0.05)


def test_it_says_what_it_serves_and_how_to_try_it(server: Served) -> None:
    assert "SmolLM2-135M-Instruct" in server.said
    assert re.search(r"[\d,]+ pages of 1 = [\d,]+ tokens", server.said)
    (line,) = [line for line in server.said.splitlines() if "curl" in line]
    command = line.split("try", 1)[1].strip()
    answer = subprocess.run(["sh", "-c", command + " -s"], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"]


async def test_a_completion_comes_from_the_model(server: Served) -> None:
    async with api(server) as client:
        _, answer = await client.post("/v1/completions", FRANCE)
        _, native = await client.post(
            "/generate",
            {"text": FRANCE["prompt"], "sampling_params": {"max_new_tokens": 8, "temperature": 0}},
        )
    text = answer["choices"][0]["text"]
    assert text.startswith(" Paris")
    assert native["text"] == text
    assert answer["usage"]["completion_tokens"] == 8


async def test_a_stream_is_the_whole_answer_in_pieces(server: Served) -> None:
    body = {**FRANCE, "max_tokens": 24, "return_token_ids": True, "stream_options": {"include_usage": True}}
    async with api(server) as client:
        _, whole = await client.post("/v1/completions", {k: v for k, v in body.items() if k != "stream_options"})
        events = await client.stream("/v1/completions", body)
    choices = [choice for event in events for choice in event["choices"]]
    assert len(choices) > 4
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [id for choice in choices for id in choice["token_ids"]] == whole["choices"][0]["token_ids"]
    assert events[-1]["usage"]["completion_tokens"] == 24


async def test_a_stream_never_splits_a_character(server: Served) -> None:
    body = {"prompt": "Translate to Japanese: 日本語は", "max_tokens": 40, "temperature": 1.2, "seed": 3}
    async with api(server) as client:
        events = await client.stream("/v1/completions", body)
        _, whole = await client.post("/v1/completions", body)
    assert "".join(choice["text"] for event in events for choice in event["choices"]) == whole["choices"][0]["text"]


@pytest.mark.parametrize("seed", range(3))
async def test_a_schema_is_kept_at_any_temperature(server: Served, seed: int) -> None:
    body = {
        "messages": [{"role": "user", "content": "Name a large city and its population in millions."}],
        "max_tokens": 64,
        "temperature": 1.5,
        "seed": seed,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": CITY}},
    }
    async with api(server) as client:
        _, answer = await client.post("/v1/chat/completions", body)
        events = await client.stream("/v1/chat/completions", body)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop"
    jsonschema.validate(json.loads(choice["message"]["content"]), CITY)
    streamed = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert streamed == choice["message"]["content"]


async def test_json_object_and_regex_are_kept(server: Served) -> None:
    question = {"messages": [{"role": "user", "content": "Describe a cat."}], "max_tokens": 60, "temperature": 0}
    async with api(server) as client:
        _, free = await client.post("/v1/chat/completions", {**question, "response_format": {"type": "json_object"}})
        _, date = await client.post("/v1/chat/completions", {**question, "regex": r"\d{4}-\d\d-\d\d"})
    choice = free["choices"][0]
    assert choice["message"]["content"].startswith("{")
    if choice["finish_reason"] == "stop":
        assert isinstance(json.loads(choice["message"]["content"]), dict)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", date["choices"][0]["message"]["content"])


async def test_grammars_and_structural_tags_are_kept(server: Served) -> None:
    city = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
            "additionalProperties": False}  # fmt: skip
    tag = {"begin": "<call>", "content": {"type": "json_schema", "json_schema": city}, "end": "</call>"}
    question = {"messages": [{"role": "user", "content": "Describe a cat."}], "max_tokens": 40, "temperature": 1.5}
    async with api(server) as client:
        _, gbnf = await client.post("/v1/chat/completions", {**question, "ebnf": 'root ::= ("yes" | "no") "!"{2,4}'})
        _, lark = await client.post("/v1/chat/completions", {**question, "guided_grammar": 'start: start "b" | "a"'})
        format = {"type": "structural_tag", "format": {"type": "tag", **tag}}
        _, call = await client.post("/v1/chat/completions", {**question, "response_format": format})
    gbnf, lark, call = (answer["choices"][0]["message"]["content"] for answer in (gbnf, lark, call))
    assert re.fullmatch("(yes|no)!{2,4}", gbnf)
    assert re.fullmatch("ab*", lark)
    assert call.startswith("<call>")
    assert call.endswith("</call>")
    assert list(json.loads(call.removeprefix("<call>").removesuffix("</call>"))) == ["city"]


async def test_logit_bias_chooses_among_tokens(server: Served) -> None:
    """As the benchmark harness puts a choice."""
    async with api(server) as client:
        _, scored = await client.post("/score", {"text": "x", "continuations": [" yes", " no"]})
        ids = [each["token_ids"][0] for each in scored["scores"]]
        body = {**FRANCE, "max_tokens": 1, "logit_bias": {str(id): 100 for id in ids}, "return_token_ids": True}
        _, answer = await client.post("/v1/completions", body)
    assert answer["choices"][0]["token_ids"][0] in ids


async def test_a_prompt_seen_before_is_found_in_the_cache(server: Served) -> None:
    prompt = "A tale of two servers. " + "It was the best of caches, it was the worst of caches. " * 20
    async with api(server) as client:
        await client.post("/flush_cache", b"")
        used = [
            (await client.post("/v1/completions", {**FRANCE, "prompt": prompt + end, "max_tokens": 2}))[1]["usage"]
            for end in ("One", "One", "Two")
        ]
        _, salted = await client.post("/v1/completions", {**FRANCE, "prompt": prompt, "cache_salt": "mine"})
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in used]
    total = used[0]["prompt_tokens"]
    assert cached[0] == 0
    assert cached[1] == total - 1
    assert total - 4 <= cached[2] < total
    assert salted["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_a_second_turn_of_a_chat_reuses_the_first(server: Served) -> None:
    talk = [{"role": "user", "content": "Tell me a story about a river that forks into many branches."}]
    async with api(server) as client:
        _, first = await client.post("/v1/chat/completions", {"messages": talk, "max_tokens": 16, "temperature": 0})
        talk += [first["choices"][0]["message"], {"role": "user", "content": "Go on."}]
        _, second = await client.post("/v1/chat/completions", {"messages": talk, "max_tokens": 4, "temperature": 0})
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"], "the first turn's prompt was computed twice"


async def test_echo_and_score_agree(server: Served) -> None:
    async with api(server) as client:
        body = {"prompt": "The sky is blue", "max_tokens": 0, "echo": True, "logprobs": 1}
        _, echoed = await client.post("/v1/completions", body)
        _, scored = await client.post("/score", {"text": "The sky is", "continuations": [" blue"]})
    logprobs = echoed["choices"][0]["logprobs"]
    assert logprobs["tokens"] == ["The", " sky", " is", " blue"]
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["token_logprobs"][-1] == pytest.approx(scored["scores"][0]["logprobs"][0], abs=1e-3)


async def test_many_at_once_get_what_each_gets_alone(server: Served) -> None:
    prompts = [f"Question {i}: what is {i} plus {i}? Answer:" for i in range(12)]
    bodies = [{"prompt": prompt, "max_tokens": 12, "temperature": 0.8, "seed": i} for i, prompt in enumerate(prompts)]
    async with api(server) as client:
        alone = [(await client.post("/v1/completions", body))[1]["choices"][0]["text"] for body in bodies]
        await client.post("/flush_cache", b"")
        together = await asyncio.gather(*(client.post("/v1/completions", body) for body in bodies))
        await idle(client)
    assert [answer["choices"][0]["text"] for _, answer in together] == alone


async def test_a_batch_with_several_choices_and_seeds(server: Served) -> None:
    body = {"prompt": ["One", "Two"], "n": 2, "max_tokens": 6, "seed": 1, "temperature": 1.0}
    async with api(server) as client:
        answers = [(await client.post("/v1/completions", body))[1] for _ in range(2)]
    texts = [[choice["text"] for choice in answer["choices"]] for answer in answers]
    assert texts[0] == texts[1], "same seed, same text"
    assert texts[0][0] != texts[0][1], "two choices of one prompt are two samples"


BAD: list[tuple[str, Any, int, str]] = [
    ("/v1/completions", {**FRANCE, "prompt": "word " * 9000}, 400, "prompt"),
    ("/v1/completions", {**FRANCE, "max_tokens": 9000}, 400, "max_tokens"),
    ("/v1/completions", {**FRANCE, "temprature": 1}, 400, "temprature"),
    ("/v1/completions", {**FRANCE, "temperature": -1}, 400, "temperature"),
    ("/v1/completions", {**FRANCE, "prompt": [49152]}, 400, "prompt"),
    ("/v1/completions", {**FRANCE, "prompt": ""}, 400, "prompt"),
    ("/v1/completions", {**FRANCE, "logit_bias": {"49152": 1}}, 400, "logit_bias"),
    ("/v1/completions", {**FRANCE, "regex": "(ab|*c)"}, 400, "regex"),
    ("/v1/completions", {**FRANCE, "regex": "(?=a)b"}, 400, "regex"),
    ("/v1/completions", {**FRANCE, "model": "gpt-9"}, 404, "model"),
    ("/v1/completions", b'{"prompt": "\xff"}', 400, "body"),
    ("/v1/completions", b'{"prompt": ', 400, "body"),
    (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": "x"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"schema": {"type": "array", "minItems": "two"}},
            },
        },
        400,
        "response_format",
    ),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, 400, "tools"),
    ("/generate", {"text": "x", "sampling_params": {"temperature": -1}}, 400, "temperature"),
    ("/generate", {"text": "x", "sampling_params": {"heat": 1}}, 400, "heat"),
    ("/generate", {"text": "x", "sampling_params": {"json_schema": "{"}}, 400, "json_schema"),
    ("/generate", {"text": "x", "sampling_params": {"regex": "["}}, 400, "regex"),
    ("/generate", {"text": "x", "sampling_params": {"ebnf": "root ::= missing"}}, 400, "ebnf"),
    (
        "/generate",
        {"text": "x", "sampling_params": {"structural_tag": {"format": {"type": "x"}}}},
        400,
        "structural_tag",
    ),
    ("/generate", {"text": ["x", "word " * 9000]}, 400, "text"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD, ids=lambda value: str(value)[:48])
async def test_bad_input_gets_a_clear_answer_and_changes_nothing(
    server: Served, path: str, body: Any, status: int, param: str
) -> None:
    async with api(server) as client:
        start = time.monotonic()
        error = await client.error(path, body, status)
        took = time.monotonic() - start
        assert error["param"] == param, error
        _, after = await client.post("/v1/completions", FRANCE)
        assert after["choices"][0]["text"].startswith(" Paris")
        await idle(client)
    assert took < 5, f"{took:.2f} s to refuse"


async def test_clients_that_leave_give_their_pages_back(server: Served) -> None:
    body = {"prompt": "Once upon a time", "max_tokens": 400, "ignore_eos": True}
    async with api(server) as client:
        before = await pages(client)

        async def leave(i: int) -> None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(client.post("/v1/completions", {**body, "stream": i % 2 == 0}), 0.3 + i / 20)

        await asyncio.gather(*(leave(i) for i in range(8)))
        await idle(client, 2.0)
        after = await pages(client)
        _, info = await client.get("/server_info")
    assert info["requests_running"] == info["requests_waiting"] == 0
    assert after["pages_total"] == before["pages_total"]


async def test_a_client_that_leaves_ends_its_score(server: Served) -> None:
    async with api(server) as client:
        body = {"text": "Once upon a time", "continuations": [f"{i}" + " and then" * 700 for i in range(6)]}
        before = (await client.get("/server_info"))[1]["computed_prompt_tokens"]
        leaving = asyncio.ensure_future(client.post("/score", body))
        info = {"requests_running": 0}
        while not info["requests_running"]:
            _, info = await client.get("/server_info")
        leaving.cancel()
        while info["requests_running"] or info["requests_waiting"]:  # until the steps in flight have landed
            _, info = await client.get("/server_info")
        assert info["computed_prompt_tokens"] - before < 6 * 700, "the call went on to its end"
        await idle(client)


def test_a_program_runs_on_it_over_http(server: Served) -> None:
    @ft.function
    def program(s: Any) -> None:
        s += ft.user("Name a colour.")
        s += ft.assistant(ft.gen("colour", max_tokens=8, temperature=0))
        branches = s.fork(2)
        for i, branch in enumerate(branches):
            branch += ft.user(f"Give me example {i} of something of that colour.")
            branch += ft.assistant(ft.gen("thing", max_tokens=8, temperature=0))
        s["things"] = [branch["thing"] for branch in branches]
        s += ft.user("Is that colour warm?")
        s += ft.assistant(ft.select("warm", ["yes", "no"]))

    backend = ft.RuntimeEndpoint(server.url)
    try:
        state = program.run(backend=backend)
        assert state["colour"]
        assert len(state["things"]) == 2
        assert state["warm"] in ("yes", "no")
    finally:
        backend.close()


def test_forktree_run_runs_a_file_on_it(server: Served, tmp_path: Any) -> None:
    file = tmp_path / "program.py"
    file.write_text(
        "import sys\nimport forktree as ft\n"
        "@ft.function\ndef p(s):\n    s += 'The capital of France is' + ft.gen('x', max_tokens=2, temperature=0)\n"
        "if __name__ == '__main__':\n    print(sys.argv[1:], p.run()['x'])\n"
    )
    command = [sys.executable, "-m", "forktree", "run", "--url", server.url, str(file), "one", "--two"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['one', '--two']  Paris")


async def test_a_signal_drains_and_leaves_nothing_behind() -> None:
    with serve("--num-pages", "600") as served:
        engines = served.engine_pids()
        async with api(served) as client:
            body = {**FRANCE, "max_tokens": 40, "ignore_eos": True}
            running = asyncio.create_task(client.stream("/v1/completions", body))
            while not (await client.get("/server_info"))[1]["requests_running"]:
                await asyncio.sleep(0.02)
            served.process.send_signal(signal.SIGTERM)
            events = await running
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        assert await asyncio.to_thread(served.process.wait, 20) == 0
        assert engines
        assert not [pid for pid in engines if Path(f"/proc/{pid}").exists()]


async def test_an_engine_that_is_killed_is_reported_within_two_seconds() -> None:
    with serve("--num-pages", "600") as served:
        (engine,) = served.engine_pids()
        async with api(served) as client:
            body = {**FRANCE, "max_tokens": 500, "ignore_eos": True}
            async with client.http.post("/v1/completions", json={**body, "stream": True}) as response:
                await response.content.readline()
                whole = asyncio.create_task(client.post("/v1/completions", {**body, "prompt": "Something else"}))
                await asyncio.sleep(0.2)
                os.kill(engine, signal.SIGKILL)
                start = time.monotonic()
                lines = (await response.text()).split("\n\n")
                status, answer = await whole
                took = time.monotonic() - start
            health, _ = await client.get("/health")
        assert json.loads(lines[-3].removeprefix("data: "))["error"]["code"] == "engine_dead", lines[-3:]
        assert lines[-2] == "data: [DONE]"
        assert (status, answer["error"]["code"]) == (503, "engine_dead")
        assert took < 2
        assert health == 503
        served.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(served.process.wait, 20) == 0


@pytest.mark.parametrize("exists", [False, True])
def test_what_is_no_model_is_named(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "model"
    if exists:
        path.mkdir()
    command = [sys.executable, "-m", "forktree", "serve", str(path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


def test_fetch_says_where_the_default_model_lies() -> None:
    command = [sys.executable, "-m", "forktree", "fetch"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    name, _, path = done.stdout.strip().partition(": ")
    assert name == "SmolLM2-135M-Instruct"
    assert Path(path).is_dir()
