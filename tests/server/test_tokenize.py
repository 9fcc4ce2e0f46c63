"""POST /tokenize on the fake engine: a token is a byte."""

from __future__ import annotations

from typing import Any

import pytest

from tests.server.fake_engine import FakeEngine
from tests.server.support import serving


async def test_a_text_gives_its_tokens_and_how_many() -> None:
    async with serving() as client:
        status, answer = await client.post("/tokenize", {"prompt": "ab"})
    assert status == 200
    assert (answer["tokens"], answer["count"]) == ([97, 98], 2)
    assert answer["max_model_len"] == client.engine.info.context_length


async def test_several_texts_give_a_list_each() -> None:
    async with serving() as client:
        _, answer = await client.post("/tokenize", {"prompt": ["ab", "", "c"], "model": "default"})
    assert (answer["tokens"], answer["count"]) == ([[97, 98], [], [99]], [2, 0, 1])


async def test_parts_are_one_prompt_and_ids_pass_through() -> None:
    async with serving() as client:
        _, answer = await client.post("/tokenize", {"prompt_parts": ["a", [1, 2], "b"]})
    assert answer["tokens"] == [97, 1, 2, 98]


async def test_long_texts_are_tokenized_off_the_loop_all_the_same() -> None:
    async with serving() as client:
        _, answer = await client.post("/tokenize", {"prompt": "a" * 5000, "add_special_tokens": False})
    assert answer["count"] == 5000


@pytest.mark.parametrize("special", [True, False])
async def test_special_tokens_are_added_where_the_model_wants_them_and_they_are_asked_for(special: bool) -> None:
    engine = FakeEngine(add_bos=True)
    async with serving(engine) as client:
        _, answer = await client.post("/tokenize", {"prompt": "a", "add_special_tokens": special})
    bos = [engine.info.bos_token_id] if special else []
    assert answer["tokens"] == [*bos, 97]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "prompt"),
        ({"prompt": "a", "prompt_parts": ["a"]}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt_parts": [[-1]]}, "prompt_parts"),
        ({"text": "a"}, "text"),
    ],
)
async def test_what_is_wrong_is_named(body: dict[str, Any], field: str) -> None:
    async with serving() as client:
        status, answer = await client.post("/tokenize", body)
    assert status == 400
    assert answer["error"]["param"] == field


async def test_another_model_is_not_found() -> None:
    async with serving() as client:
        status, _ = await client.post("/tokenize", {"prompt": "a", "model": "gpt"})
    assert status == 404
