"""Metrics and logs: true counts, names that dashboards know, and never a word of anyone's text."""

from __future__ import annotations

import io
import json
import logging

import pytest
from prometheus_client.parser import text_string_to_metric_families

from forktree.runtime.observe import logs
from tests.server.fake_engine import FakeEngine
from tests.server.support import Client, serving

SECRET = "correct horse battery staple"


async def samples(client: Client) -> dict[str, float]:
    _, text = await client.get("/metrics")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


async def test_requests_are_counted_by_tokens_and_reason() -> None:
    async with serving() as client:
        await client.post("/v1/completions", {"prompt": "hello!", "max_tokens": 4, "n": 2})
        await client.post("/generate", {"text": "hi", "sampling_params": {"stop": ["c"]}})
        found = await samples(client)
    assert found["forktree:prompt_tokens_total"] == 8
    assert found["forktree:prompt_tokens_cached_total"] == 4
    assert found["forktree:generation_tokens_total"] == 2 * 4 + 3
    assert found["forktree:request_success_total{finished_reason=length}"] == 2
    assert found["forktree:request_success_total{finished_reason=stop}"] == 1
    assert found["forktree:time_to_first_token_seconds_count"] == 2
    assert found["forktree:inter_token_latency_seconds_count"] == 2 * 3 + 2
    assert found["forktree:e2e_request_latency_seconds_count"] == 2
    assert found["forktree:request_time_per_output_token_seconds_count"] == 3
    assert found["forktree:http_responses_total{route=/v1/completions,status=200}"] == 1


async def test_the_engines_counts_are_exported() -> None:
    async with serving() as client:
        found = await samples(client)
    pages = [found[f"forktree:kv_pages{{owner={owner}}}"] for owner in ("free", "cached", "running")]
    assert sum(pages) == found["forktree:kv_pages_limit"] == 100
    assert found["forktree:kv_cache_usage_perc"] == 0.1
    assert found["forktree:num_requests_running"] == found["forktree:num_requests_waiting"] == 0
    assert found["forktree:num_preemptions_total"] == 1
    assert found["forktree:prefix_cache_queries_total"] == 10
    assert found["forktree:prefix_cache_hits_total"] == 4
    assert found["forktree:engine_up"] == 1
    assert found["forktree:model_info{model_name=fake-model}"] == 1


async def test_what_clients_send_makes_no_new_labels() -> None:
    async with serving() as client:
        for i in range(20):
            await client.get(f"/nope/{i}")
            await client.get(f"/v1/models/{i}")
            await client.error("/v1/completions", {"prompt": "x", f"field{i}": 1})
        found = await samples(client)
    responses = {name for name in found if name.startswith("forktree:http_responses_total")}
    assert responses == {
        "forktree:http_responses_total{route=other,status=404}",
        "forktree:http_responses_total{route=/v1/models/{model},status=404}",
        "forktree:http_responses_total{route=/v1/completions,status=400}",
    }


async def test_two_servers_count_for_themselves() -> None:
    async with serving() as one, serving() as other:
        await one.post("/v1/completions", {"prompt": "x", "max_tokens": 2})
        assert (await samples(one))["forktree:generation_tokens_total"] == 2
        assert (await samples(other))["forktree:generation_tokens_total"] == 0


async def test_a_request_is_one_line_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "forktree"):
        async with serving() as client:
            await client.post(
                "/v1/completions", {"prompt": SECRET, "max_tokens": 3, "user": SECRET}, headers={"X-Request-Id": "id-1"}
            )
            await client.error("/v1/completions", {"prompt": SECRET, "regex": "("})
            await client.get("/nope?" + SECRET.replace(" ", "+"))
            await client.get("/health")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3, lines
    assert lines[0].startswith(
        "POST /v1/completions 200 id=id-1 prompt_tokens=28 cached_tokens=14 completion_tokens=3 ttft_ms="
    )
    assert " finish=length ms=" in lines[0]
    assert lines[1].startswith("POST /v1/completions 400 id=")
    assert lines[2].startswith("GET other 404 id=")
    assert not [line for line in lines if "horse" in line or "\n" in line]


async def test_an_error_of_ours_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    engine = FakeEngine()
    engine.error = ZeroDivisionError("by zero")
    with caplog.at_level(logging.INFO, "forktree"):
        async with serving(engine) as client:
            await client.error("/v1/completions", {"prompt": SECRET}, 500)
    (failed,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert failed.exc_info is not None
    assert failed.exc_info[0] is ZeroDivisionError
    assert SECRET not in caplog.text


@pytest.mark.parametrize("format", ["text", "json"])
def test_configured_logs_are_lines_on_stderr(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    logger = logging.getLogger("forktree")
    before = (logger.handlers[:], logger.level, logger.propagate)
    try:
        logs.configure("info", format)  # type: ignore[arg-type]
        logs.configure("info", format)  # type: ignore[arg-type]
        logs.log_request({"method": "GET", "route": "/x", "status": 200, "id": "abc", "ms": 1.5})
        logging.getLogger("forktree.engine").debug("not shown")
    finally:
        logger.handlers[:], logger.level, logger.propagate = before
    (line,) = stderr.getvalue().splitlines()
    if format == "json":
        assert json.loads(line)["status"] == 200
        assert json.loads(line)["id"] == "abc"
    else:
        assert line.endswith("GET /x 200 id=abc ms=1.5")
