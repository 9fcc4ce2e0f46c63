"""The requests of SGLang's client byte for byte, on the default model: what it sends, and what it reads of the answers.

Here so that the wire is tested where the client itself is not installed (test_sglang_client.py drives it)."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import forktree as ft
from tests.support.serving import serving_on_a_thread

pytestmark = pytest.mark.slow

PROMPT, CHOICES = "The capital of France is", [" Paris", " London", " Berlin, Germany"]
GEN = {
    "skip_special_tokens": True, "spaces_between_special_tokens": True, "max_new_tokens": 4, "min_new_tokens": 0,
    "n": 1, "stop": [], "stop_token_ids": [], "stop_regex": [], "temperature": 0.0, "top_p": 1.0, "top_k": -1,
    "min_p": 0.0, "frequency_penalty": 0.0, "presence_penalty": 0.0, "ignore_eos": False, "regex": None,
    "json_schema": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def url(engine: ft.Engine) -> Iterator[str]:
    with serving_on_a_thread(engine) as url:
        yield url


def call(url: str, path: str, body: Any = None, method: str | None = None) -> tuple[int, Any]:
    """As the client does: urllib, a connection each."""
    data = bytes(json.dumps(body), encoding="utf-8") if body is not None else None
    headers = {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers, method=method)) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, text = error.code, error.read()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()


def generate(url: str, body: Any) -> Any:
    status, found = call(url, "/generate", body)
    assert status == 200, found
    return found


def test_the_constructor_and_the_calls_beside_generate(url: str) -> None:
    status, info = call(url, "/get_model_info")
    assert (status, "SmolLM2" in info["model_path"]) == (200, True)
    assert call(url, "/flush_cache", method="POST")[0] == 200
    for path in ("/server_info", "/get_server_info"):
        status, info = call(url, path)
        assert (status, info["status"]) == (200, "ready")
    assert call(url, "/health_generate")[0] == 200


def test_a_gen_and_what_fills_the_cache_before_it(url: str) -> None:
    filled = generate(url, {"text": PROMPT, "sampling_params": {"max_new_tokens": 0}})
    assert (filled["text"], filled["meta_info"]["completion_tokens"]) == ("", 0)
    found = generate(url, {"text": PROMPT, "sampling_params": GEN})
    assert found["text"] == " Paris.\n\n"
    assert found["meta_info"]["finish_reason"] == {"type": "length", "length": 4}
    assert found["meta_info"]["cached_tokens"] > 0


def test_a_stream_is_cumulative_text_with_the_logprobs_of_what_is_new(url: str) -> None:
    body = {"text": PROMPT, "sampling_params": GEN, "return_logprob": True, "top_logprobs_num": 2, "stream": True}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + "/generate", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        lines = [line.decode().strip() for line in response if line.strip()]
    assert lines.pop() == "data: [DONE]"
    position, text, num_logprobs = 0, "", 0
    for line in lines:
        event = json.loads(line.removeprefix("data: "))
        text += event["text"][position:]
        position = len(event["text"])
        meta = event["meta_info"]
        num_logprobs += len(meta["output_token_logprobs"])
        assert num_logprobs == meta["output_token_logprobs_length"] == meta["completion_tokens"]
    assert text == " Paris.\n\n"


def test_select_reads_the_logprobs_of_each_choices_own_tokens(url: str, engine: ft.Engine) -> None:
    filled = generate(url, {"text": PROMPT, "sampling_params": {"max_new_tokens": 0}})
    body = {
        "text": [PROMPT + choice for choice in CHOICES],
        "sampling_params": {"max_new_tokens": 0, "temperature": 0},
        "return_logprob": True,
        "return_text_in_logprobs": True,
        "logprob_start_len": max(filled["meta_info"]["prompt_tokens"] - 2, 0),
    }
    found = generate(url, body)
    for each, score, choice in zip(found, engine.score(PROMPT, CHOICES), CHOICES, strict=True):
        # The client drops what stands before the choice: one token of the prompt, recognised by its text.
        before, *own = each["meta_info"]["input_token_logprobs"]
        assert before[2] == " is"
        assert "".join(text for _, _, text in own) == choice
        assert all(math.isclose(a, b, abs_tol=1e-4) for (a, _, _), b in zip(own, score.logprobs, strict=True))
        assert all(value < 0.0 for value, _, _ in own), "the client drops a log-probability of exactly 0.0"
        assert each["meta_info"]["output_token_logprobs"] == []

    ids = [[token_id for _, token_id, _ in each["meta_info"]["input_token_logprobs"]] for each in found]
    alone = generate(url, {"input_ids": ids, "sampling_params": {"max_new_tokens": 0}, "return_logprob": True})
    for each, given in zip(alone, ids, strict=True):
        first, *rest = each["meta_info"]["input_token_logprobs"]
        assert first[0] is None
        assert [first[1], *(token_id for _, token_id, _ in rest)] == given
        assert all(value is not None for value, _, _ in rest)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"regex": "(?<=a)b"}, "offset"), ({"json_schema": "{"}, "json_schema"), ({"temperature": -1}, "temperature")],
)
def test_what_is_wrong_comes_back_as_the_body_of_a_400(url: str, change: dict[str, Any], words: str) -> None:
    status, found = call(url, "/generate", {"text": "x", "sampling_params": {**GEN, **change}})
    assert status == 400
    assert words in found["error"]["message"]


def test_constraints_are_enforced(url: str) -> None:
    found = generate(url, {"text": "Digits: ", "sampling_params": {**GEN, "regex": "[0-9]{3}"}})
    assert found["text"].isdigit()
    schema = '{"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}'
    found = generate(url, {"text": "x", "sampling_params": {**GEN, "json_schema": schema, "max_new_tokens": 30}})
    assert isinstance(json.loads(found["text"])["a"], bool)


def test_the_call_that_the_released_server_no_longer_has_is_not_found(url: str) -> None:
    status, _ = call(url, "/concate_and_append_request", {"src_rids": ["a"], "dst_rid": "b"})
    assert status == 404
