"""Forced text as the model's own tokens: what is planned, and what the two loops make of it."""

from __future__ import annotations

import asyncio
import random
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forktree.grammar import Compiler, Constraint, Grammar, Matcher
from forktree.runtime.engine.jump_forward import Jump, JumpForward
from forktree.runtime.engine.messages import Output
from tests.support.checked_scheduler import check_pages
from tests.support.loop_rig import Rig, both_loops, rig
from tests.support.merging_tokenizer import MergingTokenizer

PIECES = (b'{"', b'": ', b'", "', b'"}', b"name", b"street", b"st", b"be", b"beta", b"alpha", b"alphabet", b'":', b' "')
TOKENIZER = MergingTokenizer(PIECES)
COMPILER = Compiler(TOKENIZER.grammar_vocabulary())
RECORD = r'\{"name": "(alpha|alphabet|beta|x{1,3})", "street": "[a-c]{2,5}"(, "number": [1-9]{1,4})?\}'


def grammar(pattern: str) -> Grammar:
    return COMPILER.compile(Constraint.regex(pattern))


def after(pattern: str, *tokens: bytes) -> tuple[Matcher, list[int]]:
    """A matcher that has taken these tokens, and their ids."""
    matcher = grammar(pattern).matcher()
    ids = [TOKENIZER._ids[token] for token in tokens]
    for token_id in ids:
        matcher.advance(token_id)
    return matcher, ids


def plan(pattern: str, *tokens: bytes, num_open: int = 1, left: int = 100, stop: tuple[int, ...] = ()) -> list[bytes]:
    """The jump after these tokens: the tokens it replaces count as a minus."""
    matcher, ids = after(pattern, *tokens)
    planner = JumpForward(TOKENIZER, mask_words=-(-TOKENIZER.vocab_size // 32))
    jump = planner.plan(matcher, ids, num_open=min(num_open, len(ids)), tokens_left=left, stop_ids=stop)
    taken = [] if jump is None else jump.token_ids
    kept = ids[: len(ids) - (jump.num_replaced if jump else 0)]
    assert matcher.num_tokens == len(kept) + len(taken), "the matcher stands where the tokens end"
    return [*[b"-"] * (jump.num_replaced if jump else 0), *map(TOKENIZER.bytes_of, taken)]


def test_a_forced_run_is_split_as_the_tokenizer_would_split_it() -> None:
    assert plan("x?name-street[0-9]", num_open=0) == []
    assert plan("xname-street[0-9]", num_open=0) == [b"x", b"name", b"-", b"street"]


def test_a_token_that_the_run_completes_is_replaced() -> None:
    assert plan("(s|t)treet[0-9]", b"s") == [b"-", b"street"]


def test_a_token_that_has_been_told_of_is_not_replaced() -> None:
    assert plan("(s|t)treet[0-9]", b"s", num_open=0) == [b"t", b"r", b"e", b"e", b"t"]


def test_a_token_that_a_longer_one_may_take_the_place_of_is_left_to_the_model() -> None:
    assert plan("xalpha(bet|!)", num_open=0) == [b"x"]
    assert plan("xalpha[!?]", num_open=0) == [b"x", b"alpha"]


def test_no_jump_leaves_too_little_for_the_rest_of_the_output() -> None:
    assert plan("xname[0-9]{3}", num_open=0, left=5) == [b"x", b"name"]
    assert plan("xname[0-9]{3}", num_open=0, left=4) == []


def test_a_token_that_ends_the_output_is_left_to_the_model() -> None:
    assert plan("xname;[0-9]", num_open=0, stop=(ord(";"),)) == [b"x", b"name"]


def test_a_run_that_ends_inside_a_character_stops_before_it() -> None:
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert plan("a(é|è)", num_open=0) == [b"a"]
    assert plan("(é|e)!", first) == [second, b"!"]
    assert plan("(é|e)!", first, num_open=0) == [second, b"!"]


def test_a_jump_tells_what_it_gains() -> None:
    assert Jump(1, [5, 6, 7]).num_gained == 2


@pytest.mark.parametrize(
    ("pattern", "certain"),
    [
        ("(a-name-street|b-street-name)[0-9]", True),
        ("(a-name-street|b-[0-9]*)[0-9]", False),
        ("(a-name-street|b-street-name)?", False),
        ("(a-be|b-be)[0-9]", False),
        ("[a-z]-name-street[0-9]", False),
    ],
)
def test_a_jump_is_foreseen_where_much_is_forced_after_each_of_a_few_tokens(pattern: str, certain: bool) -> None:
    matcher = grammar(pattern).matcher()
    mask = np.empty(-(-TOKENIZER.vocab_size // 32), np.int32)
    matcher.fill_mask(mask)
    assert JumpForward(TOKENIZER, mask_words=len(mask)).is_certain(matcher, mask) is certain
    assert matcher.num_tokens == 0


# -- in the loops


def records(it: Rig, count: int = 6, *, stream: bool = False) -> None:
    compiled = grammar(RECORD)
    for i in range(count):
        it.submit([1, 2, 3, 40 + i], 60, matcher=compiled.matcher(), stream=stream, eos=(TOKENIZER.end,))


def tokens_of(it: Rig) -> list[list[int]]:
    """What each request's client was told, piece by piece."""
    told: dict[int, list[int]] = {}
    for news in it.news:
        if isinstance(news, Output):
            told.setdefault(news.request_id, []).extend(news.token_ids)
    return [told[request_id] for request_id in sorted(told)]


@pytest.fixture(scope="module")
def expected() -> list[list[int]]:
    it = rig(TOKENIZER, overlap=False, num_pages=512, prefix_cache=False)
    records(it)
    outputs = it.run()
    assert all(re.fullmatch(RECORD, output.text) for output in outputs.values())
    assert it.scheduler.counters.forced_tokens > 40
    return tokens_of(it)


@both_loops
@pytest.mark.parametrize(
    "fields",
    [
        {"num_pages": 512},
        {"num_pages": 128, "page_size": 4},
        {"num_pages": 60},
        {"num_pages": 20, "page_size": 4},
        {"num_pages": 512, "prefill_chunk": 2},
        {"num_pages": 512, "step_tokens": 5},
        {"num_pages": 512, "max_running_requests": 2, "prefix_cache": False},
    ],
    ids=str,
)
def test_tokens_do_not_depend_on_how_steps_are_planned(
    overlap: bool, fields: dict[str, object], expected: list[list[int]]
) -> None:
    it = rig(TOKENIZER, overlap=overlap, **fields)
    records(it)
    it.run()
    assert tokens_of(it) == expected
    if fields.get("num_pages") == 60:
        assert it.scheduler.counters.retractions > 0, "the test means to run out of pages"


@both_loops
def test_tokens_told_of_are_not_taken_back(overlap: bool, expected: list[list[int]]) -> None:
    it = rig(TOKENIZER, overlap=overlap, num_pages=512)
    records(it, stream=True)
    outputs = dict(sorted(it.run().items()))
    assert tokens_of(it) == expected
    texts = ["".join(n.text for n in it.news if isinstance(n, Output) and n.request_id == i) for i in outputs]
    assert texts == [TOKENIZER.decode(tokens) for tokens in expected]
    assert [outputs[i].kept_token_ids for i in outputs] == expected
    assert [outputs[i].usage.completion_tokens for i in outputs] == [len(tokens) for tokens in expected]


@both_loops
def test_forced_tokens_take_no_step_of_their_own(overlap: bool) -> None:
    counts = []
    for jump_forward in (True, False):
        it = rig(TOKENIZER, overlap=overlap, num_pages=512, jump_forward=jump_forward)
        records(it, 1)
        it.run()
        counters = it.scheduler.counters
        assert counters.generated_tokens == sum(map(len, tokens_of(it)))
        counts.append((counters.steps, counters.saved_passes, counters.generated_tokens))
    (steps, saved, generated), (all_steps, none, _) = counts
    assert none == 0
    assert steps < 0.7 * all_steps
    assert steps - (generated - saved) in (0, int(overlap)), "every other token takes a step, one may be in flight"


@both_loops
def test_what_is_forced_entirely_is_not_computed(overlap: bool) -> None:
    it = rig(TOKENIZER, overlap=overlap)
    it.submit([1, 2], 60, matcher=grammar("name: street").matcher())
    output = it.run()[1]
    assert (output.text, output.finish_reason, it.executor.num_computed) == ("name: street", "stop", 0)
    assert output.timing is not None
    assert output.timing.prefill_ms >= 0


@both_loops
def test_a_stop_string_in_a_forced_run_ends_the_output_there(overlap: bool) -> None:
    it = rig(TOKENIZER, overlap=overlap)
    it.submit([1, 2], 60, matcher=grammar("[ab]{3}-name-street-[0-9]").matcher(), stop=("e-s",))
    output = it.run()[1]
    assert re.fullmatch("[ab]{3}-nam", output.text)
    assert (output.finish_reason, output.matched) == ("stop", "e-s")


@both_loops
def test_the_output_is_whole_in_as_few_tokens_as_it_takes(overlap: bool) -> None:
    compiled = grammar(RECORD)
    needed = compiled.matcher().tokens_needed()
    for limit in range(needed, needed + 6):
        it = rig(TOKENIZER, overlap=overlap)
        it.submit([1, 2], limit, matcher=compiled.matcher())
        output = it.run()[1]
        assert re.fullmatch(RECORD, output.text), f"{limit} tokens: {output.text}"
        assert output.finish_reason == "stop", "whole, even if with the last token it may have"


@both_loops
def test_a_request_for_log_probabilities_samples_every_token(overlap: bool) -> None:
    it = rig(TOKENIZER, overlap=overlap)
    it.submit([1, 2], 60, matcher=grammar("name: street").matcher(), return_logprob=True)
    assert it.run()[1].text == "name: street"
    assert it.scheduler.counters.forced_tokens == 0


@both_loops
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), page_size=st.sampled_from([1, 4]), num_pages=st.sampled_from([48, 200]))
def test_aborts_lose_no_page(overlap: bool, seed: int, page_size: int, num_pages: int) -> None:
    draw = random.Random(seed)
    it = rig(TOKENIZER, overlap=overlap, num_pages=num_pages, page_size=page_size)

    async def drive() -> None:
        for _ in range(6):
            records(it, 2)
            for _ in range(draw.randrange(12)):
                await asyncio.sleep(0)
            if draw.random() < 0.6:
                it.abort(draw.choice(list(it.prompts)))

    whole = [output for output in it.run(drive).values() if output.finish_reason == "stop"]
    assert all(re.fullmatch(RECORD, output.text) for output in whole)
    check_pages(it.scheduler)
