"""The engine on the default model: generating, stopping, scoring, refusing. What a user of the runtime sees."""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import Any

import pytest

from forktree.runtime import ContextLengthExceeded, Engine, InvalidRequest, SamplingParams

pytestmark = pytest.mark.slow

PROMPT = "The capital of France is"


def pages(engine: Engine) -> tuple[int, int]:
    """(pages accounted for, pages there are) once nothing runs."""
    deadline = time.monotonic() + 5
    while (stats := engine.stats()).requests_running or stats.requests_waiting:
        assert time.monotonic() < deadline, stats
    return stats.pages_free + stats.pages_cached + stats.pages_running, stats.pages_total


def test_greedy_output_names_paris(engine: Engine) -> None:
    done = engine.generate(PROMPT, {"max_new_tokens": 5, "temperature": 0})
    assert done.text.startswith(" Paris")
    assert (done.finish_reason, done.usage.completion_tokens, len(done.token_ids)) == ("length", 5, 5)
    assert engine.detokenize(done.token_ids) == done.text


def test_streamed_pieces_add_up_to_the_whole(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=20, temperature=0.0)
    deltas = list(engine.stream(PROMPT, params))
    assert len(deltas) == 20
    assert "".join(delta.text for delta in deltas) == engine.generate(PROMPT, params).text
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * 19


def test_a_batch_keeps_its_order(engine: Engine) -> None:
    prompts = ["1 2 3 4", "a b c d", "Monday Tuesday"]
    params = {"max_new_tokens": 4, "temperature": 0}
    assert [done.text for done in engine.generate(prompts, params)] == [
        engine.generate(prompt, params).text for prompt in prompts
    ]


def test_a_prompt_in_parts_passes_token_ids_through(engine: Engine) -> None:
    head = engine.generate(PROMPT, {"max_new_tokens": 4, "temperature": 0})
    whole = engine.generate(PROMPT, {"max_new_tokens": 8, "temperature": 0})
    parts = [engine.tokenize(PROMPT), head.token_ids]
    rest = list(engine.stream([PROMPT, head.token_ids], {"max_new_tokens": 4, "temperature": 0}))
    assert head.text + "".join(delta.text for delta in rest) == whole.text
    assert rest[-1].usage.prompt_tokens == sum(map(len, parts))


def test_the_same_seed_gives_the_same_text_whatever_else_runs(engine: Engine) -> None:
    seeds = range(8)
    params = [{"max_new_tokens": 16, "temperature": 1.5, "seed": seed} for seed in seeds]
    engine.flush_cache()
    alone = [engine.generate(PROMPT, each).text for each in params]
    streams = [engine.stream(PROMPT, each) for each in params]
    together = ["".join(delta.text for delta in stream) for stream in streams]
    assert together == alone
    assert len(set(alone)) == len(seeds)


def test_n_outputs_of_one_prompt_differ_and_share_its_pages(engine: Engine) -> None:
    engine.flush_cache()
    before = engine.stats().computed_prompt_tokens
    prompt = "A list of " + "strange, " * 40
    outputs = engine.generate_n(prompt, {"n": 4, "max_new_tokens": 8, "temperature": 1.5, "seed": 3})
    assert len({done.text for done in outputs}) == 4
    num_prompt = outputs[0].usage.prompt_tokens
    assert engine.stats().computed_prompt_tokens - before == num_prompt + 3, "each but the first computes one token"
    assert [d.text for d in outputs] == [
        d.text for d in engine.generate_n(prompt, {"n": 4, "max_new_tokens": 8, "temperature": 1.5, "seed": 3})
    ]


def test_stop_strings_tokens_and_patterns_end_the_output(engine: Engine) -> None:
    text = engine.generate(PROMPT, {"max_new_tokens": 12, "temperature": 0}).text
    stop = text[6:9]
    done = engine.generate(PROMPT, {"max_new_tokens": 12, "temperature": 0, "stop": stop})
    assert (done.text, done.finish_reason, done.matched) == (text[: text.index(stop)], "stop", stop)
    done = engine.generate(PROMPT, {"max_new_tokens": 40, "temperature": 0, "stop_regex": r"\d+"})
    assert not re.search(r"\d", done.text)
    token = engine.generate(PROMPT, {"max_new_tokens": 3, "temperature": 0}).token_ids[2]
    done = engine.generate(PROMPT, {"max_new_tokens": 12, "temperature": 0, "stop_token_ids": [token]})
    assert (len(done.token_ids), done.matched) == (3, token)


def test_min_new_tokens_holds_the_end_off(engine: Engine) -> None:
    chat = engine.apply_chat_template([{"role": "user", "content": "Say: ok"}])
    short = engine.generate(chat, {"max_new_tokens": 60, "temperature": 0})
    assert short.finish_reason == "stop"
    least = short.usage.completion_tokens + 5
    longer = engine.generate(chat, {"max_new_tokens": 60, "min_new_tokens": least, "temperature": 0})
    assert longer.usage.completion_tokens >= least


def test_output_logprobs_come_with_alternatives(engine: Engine) -> None:
    done = engine.generate(PROMPT, {"max_new_tokens": 3, "temperature": 0}, return_logprob=True, top_logprobs_num=4)
    assert [entry.token_id for entry in done.logprobs] == done.token_ids
    for entry in done.logprobs:
        assert len(entry.top) == 4
        assert entry.top[0][1] == entry.token_id
        assert entry.top[0][0] == pytest.approx(entry.logprob)
    assert done.prompt_logprobs is None


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_prompt_logprobs_start_where_asked(engine: Engine, start: int) -> None:
    params = {"max_new_tokens": 1, "temperature": 0}
    done = engine.generate(PROMPT, params, return_logprob=True, logprob_start_len=start)
    again = engine.generate(PROMPT, params, return_logprob=True, logprob_start_len=start)
    ids = engine.tokenize(PROMPT)
    assert done.prompt_logprobs is not None
    assert again.prompt_logprobs is not None
    assert [entry.token_id for entry in done.prompt_logprobs] == ids[start:]
    assert (done.prompt_logprobs[0].logprob is None) == (start == 0)
    for a, b in zip(done.prompt_logprobs, again.prompt_logprobs, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4), "the cache must not change them"


def test_score_agrees_with_prompt_logprobs_and_prefers_paris(engine: Engine) -> None:
    paris, tokyo = engine.score(PROMPT, [" Paris", " Tokyo, I think"])
    assert paris.total > tokyo.total
    ids = [*engine.tokenize(PROMPT), *tokyo.token_ids]
    done = engine.generate(ids, {"max_new_tokens": 0}, return_logprob=True, logprob_start_len=5)
    assert done.prompt_logprobs is not None
    assert tokyo.logprobs == pytest.approx([entry.logprob for entry in done.prompt_logprobs], abs=1e-4)


def test_an_empty_prompt_scores_the_beginning_of_a_text(engine: Engine) -> None:
    (score,) = engine.score("", ["The"])
    assert len(score.logprobs) == 1


def test_closing_a_stream_frees_its_pages(engine: Engine) -> None:
    stream = engine.stream(PROMPT, {"max_new_tokens": 500, "ignore_eos": True})
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert pages(engine)[0] == pages(engine)[1]


def test_abort_by_name_ends_the_reader_with_what_there_is(engine: Engine) -> None:
    stream = engine.stream(PROMPT, {"max_new_tokens": 500, "ignore_eos": True}, request_id="mine")
    next(stream)
    engine.abort("mine")
    assert list(stream)[-1].finish_reason == "abort"
    engine.abort("mine")
    engine.abort("nobody's")


def test_async_twins_run_beside_each_other(engine: Engine) -> None:
    async def main() -> list[str]:
        params = {"max_new_tokens": 6, "temperature": 0}
        text = ""
        async for delta in engine.astream(PROMPT, params):
            text += delta.text
        done, batch = await asyncio.gather(engine.agenerate(PROMPT, params), engine.agenerate([PROMPT] * 2, params))
        scores = await engine.ascore(PROMPT, [" Paris"])
        assert scores[0].token_ids == engine.tokenize(" Paris")
        assert (await engine.astats()).pages_total == 8192
        return [text, done.text, *(each.text for each in batch)]

    assert len(set(asyncio.run(main()))) == 1


def test_cancelling_the_reader_aborts_the_request(engine: Engine) -> None:
    async def main() -> None:
        task = asyncio.create_task(engine.agenerate(PROMPT, {"max_new_tokens": 2000, "ignore_eos": True}))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(50):
            if not (await engine.astats()).requests_running:
                return
            await asyncio.sleep(0.02)
        pytest.fail("the request went on")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"temperatur": 1}, "temperatur"),
        ({"temperature": -0.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -5}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
        ({"max_new_tokens": 1.5}, "max_new_tokens"),
        ({"n": 0}, "n"),
        ({"n": 2**62}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": [3]}, "stop"),
        ({"stop": ["x"] * 1000}, "stop"),
        ({"stop_regex": "("}, "stop_regex"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {10**9: 1}}, "logit_bias"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
        ({"seed": 2**70}, "seed"),
        ({"regex": "(a"}, "regex"),
        ({"regex": "a", "json_schema": "{}"}, "json_schema"),
        ({"json_schema": "{"}, "json_schema"),
        ({"json_schema": json.dumps({"items": {"type": "strnig"}})}, "json_schema"),
    ],
)
def test_a_bad_field_is_named_and_the_next_request_is_served(
    engine: Engine, params: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.generate(PROMPT, params)
    assert refused.value.field == field, str(refused.value)
    assert engine.generate(PROMPT, {"max_new_tokens": 1, "temperature": 0}).text == " Paris"
    assert pages(engine)[0] == pages(engine)[1]


@pytest.mark.parametrize("prompt", ["", [10**6], [2**70], [-1], 5, [None], {"a": 1}, "\ud800"])
def test_a_bad_prompt_is_refused(engine: Engine, prompt: object) -> None:
    with pytest.raises(InvalidRequest) as refused:
        engine.generate(prompt)  # type: ignore[call-overload]
    assert refused.value.field == "prompt"


def test_a_prompt_over_the_context_is_refused_in_the_words_clients_look_for(engine: Engine) -> None:
    too_long = [1] * engine.info.context_length
    with pytest.raises(ContextLengthExceeded, match="maximum context length is"):
        engine.generate(too_long)
    assert engine.generate(PROMPT, {"max_new_tokens": 1, "temperature": 0}).text == " Paris"


def test_max_new_tokens_is_capped_by_the_context(engine: Engine) -> None:
    params = SamplingParams(max_new_tokens=10**6, temperature=0.0, stop=(" Paris",))
    assert engine.generate(PROMPT, params).finish_reason == "stop"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"sampling_params": SamplingParams(temperature=0.0, stop_token_ids=[1.5])}, "stop_token_ids"),  # type: ignore[list-item]
        ({"return_logprob": 1}, "return_logprob"),
        ({"top_logprobs_num": "3"}, "top_logprobs_num"),
        ({"top_logprobs_num": 10**6}, "top_logprobs_num"),
        ({"logprob_start_len": 2**70}, "logprob_start_len"),
        ({"cache_salt": None}, "cache_salt"),
        ({"cache_salt": "\ud800"}, "cache_salt"),
        ({"regex": 5}, "regex"),
        ({"json_schema": {"a": {1, 2}}}, "json_schema"),
        ({"sampling_params": {"stop": "\ud800"}}, "stop"),
        ({"sampling_params": {"logit_bias": {2**70: 1}}}, "logit_bias"),
        ({"sampling_params": {"logit_bias": {1.9: 1}}}, "logit_bias"),
        ({"sampling_params": {"stop_regex": "(" * 3000 + ")" * 3000}}, "stop_regex"),
    ],
)
def test_an_option_of_the_wrong_type_is_named_and_leaves_nothing_behind(
    engine: Engine, options: dict[str, Any], field: str
) -> None:
    for _ in range(2):  # the name is free again after the first refusal
        with pytest.raises(InvalidRequest) as refused:
            engine.generate(PROMPT, **options, request_id="x")
        assert refused.value.field == field, str(refused.value)


def test_sampling_params_refuse_wrong_types_where_they_are_built() -> None:
    for fields in ({"stop": "END"}, {"temperature": "hot"}, {"temperature": True}):
        with pytest.raises(InvalidRequest) as refused:
            SamplingParams(**fields)  # type: ignore[arg-type]
        assert refused.value.field == next(iter(fields))


def test_a_pattern_that_backtracks_without_end_fails_its_own_request(engine: Engine) -> None:
    bomb = {"max_new_tokens": 60, "temperature": 0, "stop_regex": r"(?:.|\s|[^~])*[~|]", "ignore_eos": True}
    with pytest.raises(InvalidRequest, match="takes over") as refused:
        engine.generate(PROMPT, bomb)
    assert refused.value.field == "stop_regex"
    assert engine.generate(PROMPT, {"max_new_tokens": 1, "temperature": 0}).text == " Paris"


def test_abort_while_the_constraint_compiles_reaches_the_reader(engine: Engine) -> None:
    stream = engine.stream(PROMPT, {"regex": "[ab]{3}c|" + "x" * 500}, request_id="compiling")
    engine.abort("compiling")
    assert [delta.finish_reason for delta in stream] == ["abort"]


def test_a_special_token_can_be_a_stop_string(engine: Engine) -> None:
    chat = engine.apply_chat_template([{"role": "user", "content": "Say: ok"}])
    params = {"max_new_tokens": 60, "temperature": 0, "ignore_eos": True, "stop": "<|im_end|>"}
    done = engine.generate(chat, params)
    assert (done.finish_reason, done.matched) == ("stop", "<|im_end|>")


def test_an_empty_batch_has_no_outputs(engine: Engine) -> None:
    assert engine.generate([]) == []


def test_a_regex_constrains_the_output(engine: Engine) -> None:
    for seed in range(5):
        done = engine.generate(
            "Date:", {"max_new_tokens": 30, "temperature": 1.5, "seed": seed}, regex=r"\d{4}-\d\d-\d\d"
        )
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", done.text), done.text
        assert done.finish_reason == "stop"


def test_a_json_schema_constrains_the_output(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for seed in range(5):
        done = engine.generate(
            "A person:", {"max_new_tokens": 60, "temperature": 1.3, "seed": seed}, json_schema=schema
        )
        value = json.loads(done.text)
        assert set(value) == {"name", "age"}
        assert 0 <= value["age"] <= 120
        assert len(value["name"]) <= 12


def test_many_constrained_requests_run_in_one_batch(engine: Engine) -> None:
    outputs = engine.generate(["Number:"] * 6, {"max_new_tokens": 12, "temperature": 1.0}, regex="[1-9][0-9]{2}")
    assert all(re.fullmatch("[1-9][0-9]{2}", done.text) for done in outputs)


def test_salted_requests_share_nothing_with_others(engine: Engine) -> None:
    prompt = "Salt is a mineral composed primarily of sodium chloride, and"
    params = {"max_new_tokens": 2, "temperature": 0}
    engine.generate(prompt, params)
    assert engine.generate(prompt, params).usage.cached_tokens > 0
    assert engine.generate(prompt, params, cache_salt="mine").usage.cached_tokens == 0
    assert engine.generate(prompt, params, cache_salt="mine").usage.cached_tokens > 0


def test_an_unknown_option_is_a_type_error(engine: Engine) -> None:
    with pytest.raises(TypeError, match="return_logprobs"):
        engine.generate(PROMPT, return_logprobs=True)


def test_outlines_may_compile_an_engines_constraints() -> None:
    pytest.importorskip("outlines_core")
    with Engine(in_process=True, num_pages=512, grammar_backend="outlines") as engine:
        done = engine.generate("Is Paris in France? Answer:", {"max_new_tokens": 8}, regex=" (yes|no)[!.]")
        assert re.fullmatch(" (yes|no)[!.]", done.text)
        with pytest.raises(InvalidRequest, match=r'#/minimum: backend="outlines" does not enforce this'):
            engine.generate("Number:", json_schema={"type": "integer", "minimum": 3})
