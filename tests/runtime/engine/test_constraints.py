"""Constraints of requests: what becomes of each field, and that compiling one holds up nobody."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from forktree.grammar import CompilationCancelled, Compiler, Constraint, Grammar
from forktree.runtime.engine.constraints import NUM_WORKERS, Constraints, _constraint
from forktree.runtime.errors import InvalidRequest
from forktree.runtime.sampling_params import SamplingParams
from tests.support.merging_tokenizer import MergingTokenizer

TOKENIZER = MergingTokenizer([b"name", b"street"])
LARK, GBNF = 'start: "a" | "b"', 'root ::= "a" | "b"'
TAG = '{"structures":[],"triggers":["<"]}'


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"regex": "a+"}, Constraint.regex("a+")),
        ({"json_schema": "{}"}, Constraint.json_schema({})),
        ({"json_schema": "{}", "white_space": "bounded", "order": "auto"}, Constraint.json_schema({})),
        (
            {"json_schema": "{}", "white_space": "bounded", "order": "schema"},
            Constraint.json_schema({}, order="schema"),
        ),
        ({"json_schema": "{}", "white_space": "any"}, Constraint.json_schema({}, white_space="any")),
        ({"json_schema": "{}", "white_space": "pretty"}, Constraint.json_schema({}, white_space=("pretty", 2))),
        ({"json_schema": "{}", "white_space": "pretty:4"}, Constraint.json_schema({}, white_space=("pretty", 4))),
        ({"json_schema": "{}", "order": "any"}, Constraint.json_schema({}, order="any")),
        ({"json_schema": "{}", "order": "schema"}, Constraint.json_schema({}, order="schema")),
        ({"ebnf": LARK}, Constraint.lark(LARK)),
        ({"ebnf": GBNF}, Constraint.gbnf(GBNF)),
        ({"structural_tag": TAG}, Constraint.structural_tag(TAG)),
    ],
    ids=str,
)
def test_each_field_is_a_constraint(fields: dict[str, str], constraint: Constraint) -> None:
    assert _constraint(SamplingParams(**fields)) == constraint  # type: ignore[arg-type]


def compiled(fields: dict[str, object], *, room: int = 1000) -> object:
    constraints = Constraints(TOKENIZER, (TOKENIZER.end,), "forktree")
    try:
        return asyncio.run(constraints.compile(SamplingParams(**fields), room=room))  # type: ignore[arg-type]
    finally:
        constraints.close()


def test_no_constraint_is_no_matcher() -> None:
    assert compiled({"max_new_tokens": 1}) is None


@pytest.mark.parametrize("limit", [0, 4, 5])
def test_an_output_that_fits_is_taken(limit: int) -> None:
    """name - street !: four tokens; no more, for a whole output ends without one. 0 computes the prompt only."""
    assert compiled({"regex": "name-street!", "max_new_tokens": limit}) is not None


def test_an_output_that_cannot_fit_is_refused_before_it_begins() -> None:
    with pytest.raises(InvalidRequest) as refused:
        compiled({"regex": "name-street!", "max_new_tokens": 3})
    assert (refused.value.field, refused.value.code) == ("max_new_tokens", "max_tokens_too_small")
    assert "got 3; the shortest output that regex allows takes 4 tokens" in str(refused.value)


def test_a_limit_that_the_context_sets_is_called_so() -> None:
    with pytest.raises(InvalidRequest, match="got 3 that the context leaves room for; the shortest"):
        compiled({"regex": "name-street!", "max_new_tokens": 3}, room=3)


@pytest.mark.parametrize("fields", [{"regex": "(a"}, {"ebnf": " "}, {"structural_tag": "[]"}])
def test_a_constraint_that_is_none_names_its_field(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        compiled(fields)
    assert (refused.value.field, refused.value.code) == (next(iter(fields)), "invalid_grammar")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Constraints that begin with "slow" compile when this is set."""
    may_go = threading.Event()
    compile: Callable[..., Grammar] = Compiler.compile

    def wait_then_compile(
        self: Compiler, constraint: Constraint, cancelled: Callable[[], bool] | None = None
    ) -> Grammar:
        if constraint.text.startswith("slow"):
            assert may_go.wait(10)
        return compile(self, constraint, cancelled)

    monkeypatch.setattr(Compiler, "compile", wait_then_compile)
    return may_go


def test_a_constraint_that_takes_long_holds_up_no_other(slow: threading.Event) -> None:
    async def main() -> None:
        constraints = Constraints(TOKENIZER, (TOKENIZER.end,), "forktree")
        long = asyncio.create_task(constraints.compile(SamplingParams(regex="slow"), room=99))
        await asyncio.wait_for(constraints.compile(SamplingParams(regex="quick"), room=99), 10)
        assert not long.done()
        slow.set()
        assert await long is not None
        constraints.close()

    asyncio.run(main())


def test_a_constraint_that_nobody_waits_for_any_more_is_not_compiled(slow: threading.Event) -> None:
    prepared: list[str] = []

    async def main() -> None:
        constraints = Constraints(TOKENIZER, (TOKENIZER.end,), "forktree")
        busy = [
            asyncio.create_task(constraints.compile(SamplingParams(regex=f"slow{i}"), room=99))
            for i in range(NUM_WORKERS)
        ]
        given_up = asyncio.create_task(constraints.compile(SamplingParams(regex="late"), room=99))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await asyncio.sleep(0)
        slow.set()
        await asyncio.gather(*busy)
        assert constraints._compiler is not None
        prepared.extend(constraint.text for constraint in constraints._compiler._cached)
        constraints.close()

    asyncio.run(main())
    assert sorted(prepared) == [f"slow{i}" for i in range(NUM_WORKERS)]


def test_a_compilation_under_way_ends_when_its_request_does(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(self: Compiler, constraint: Constraint, cancelled: Callable[[], bool]) -> Grammar:
        begun.set()
        deadline = time.monotonic() + 10
        while not cancelled() and time.monotonic() < deadline:
            time.sleep(0.001)
        ended.set()
        raise CompilationCancelled

    monkeypatch.setattr(Compiler, "compile", endless)

    async def main() -> None:
        constraints = Constraints(TOKENIZER, (TOKENIZER.end,))
        given_up = asyncio.create_task(constraints.compile(SamplingParams(regex="a"), room=99))
        await asyncio.to_thread(begun.wait, 10)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert await asyncio.to_thread(ended.wait, 5)
        constraints.close()

    asyncio.run(main())


def test_what_the_first_constraint_needs_can_be_prepared() -> None:
    constraints = Constraints(TOKENIZER, (TOKENIZER.end,))
    constraints.prepare()
    constraints._workers.shutdown(wait=True)
    assert constraints._compiler is not None
    assert "_base" in vars(constraints._compiler)
