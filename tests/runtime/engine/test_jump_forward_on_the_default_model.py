"""Jump-forward on the default model: the text of a run without it, in fewer steps, in the tokenizer's own tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from forktree.runtime import Engine, InvalidRequest

pytestmark = pytest.mark.slow

RECORDS: list[dict[str, Any]] = [
    {"passenger_count": 4, "vehicle_type": "Car", "fuel_consumption": 7.5},
    {"customer_name": "Zoë Müller", "shipping_address": "12 Rue de l'Église", "is_gift": True},
    {"current_savings": 50000, "retirement_age": 65, "currency_code": "EUR"},
]
KINDS = {int: "integer", float: "number", str: "string", bool: "boolean"}
GREEDY = {"temperature": 0.0, "max_new_tokens": 64}


def prompt(record: dict[str, Any]) -> str:
    line = json.dumps(record, ensure_ascii=False)
    return f"Each record is written twice, the second time just as the first.\n\n{line}\n"


def schema(record: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": KINDS[type(value)]} for name, value in record.items()}
    if "currency_code" in properties:
        properties["currency_code"] = {"enum": ["EUR", "EURO", "USD"]}
    return {"type": "object", "properties": properties, "required": list(record), "additionalProperties": False}


@pytest.fixture(scope="module")
def without() -> Iterator[list[tuple[str, int]]]:
    """Text and steps of each record where every token is sampled."""
    with Engine(in_process=True, num_pages=1024, jump_forward=False) as engine:
        yield [answer(engine, record)[::2] for record in RECORDS]


def answer(engine: Engine, record: dict[str, Any], **options: Any) -> tuple[str, list[int], int]:
    engine.flush_cache()
    before = engine.stats().steps
    done = engine.generate(prompt(record), GREEDY, json_schema=schema(record), **options)
    return done.text, done.token_ids, engine.stats().steps - before


def test_the_text_is_that_of_a_run_without_it_in_fewer_steps(engine: Engine, without: list[tuple[str, int]]) -> None:
    for record, (text, steps) in zip(RECORDS, without, strict=True):
        jumped, token_ids, fewer = answer(engine, record)
        assert jumped == text
        assert list(json.loads(jumped)) == list(record)
        assert token_ids == engine.tokenize(text), "forced text is in the tokenizer's own tokens"
        assert fewer <= 0.75 * steps, f"{fewer} of {steps} steps"


def test_tokens_are_the_same_in_the_plain_loop_and_in_a_batch_and_streamed(engine: Engine) -> None:
    alone = [answer(engine, record)[1] for record in RECORDS]
    asked = [(prompt(record), {**GREEDY, "json_schema": json.dumps(schema(record))}) for record in RECORDS]
    with Engine(in_process=True, num_pages=96, overlap=False, prefill_chunk=5) as plain:
        assert [plain.generate(*each).token_ids for each in asked] == alone
        streams = [plain.stream(*each) for each in asked]
        assert [[token for delta in stream for token in delta.token_ids] for stream in streams] == alone
    assert [each.token_ids for each in engine.generate_n(asked[0][0], {**asked[0][1], "n": 2})] == [alone[0]] * 2


def test_with_log_probabilities_every_token_has_one(engine: Engine, without: list[tuple[str, int]]) -> None:
    done = engine.generate(prompt(RECORDS[0]), GREEDY, json_schema=schema(RECORDS[0]), return_logprob=True)
    assert [entry.token_id for entry in done.logprobs] == done.token_ids
    assert done.text == without[0][0]


def test_an_answer_is_whole_in_the_fewest_tokens_it_takes_or_refused(engine: Engine) -> None:
    record = RECORDS[2]
    with pytest.raises(InvalidRequest, match="the shortest output that json_schema allows takes") as refused:
        engine.generate(prompt(record), {"max_new_tokens": 5}, json_schema=schema(record))
    assert refused.value.field == "max_new_tokens"
    fewest = int(str(refused.value).split("takes ")[1].split()[0])
    for limit in (fewest, fewest + 1, fewest + 7):
        done = engine.generate(prompt(record), {**GREEDY, "max_new_tokens": limit}, json_schema=schema(record))
        assert set(json.loads(done.text)) == set(record), f"{limit} tokens: {done.text}"
