"""A plan from outside is checked once, and refused with the field that is wrong: nothing later meets a bad one."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from forktree.runtime.engine.client import EngineClient
from forktree.runtime.engine.messages import RunProgram
from forktree.runtime.engine.program_call import ProgramCall
from forktree.runtime.engine.program_plan import MAX_NODES, ProgramPlan
from forktree.runtime.errors import InvalidRequest

GEN: dict[str, Any] = {"kind": "gen", "pieces": ["a"]}
TEXT: dict[str, Any] = {"kind": "text", "pieces": ["a"]}
SELECT: dict[str, Any] = {"kind": "select", "pieces": ["a"], "choices": ["x", "y"]}


def plan(*nodes: Any, **more: Any) -> dict[str, Any]:
    return {"version": 1, "nodes": list(nodes), **more}


def test_a_plan_says_what_depends_on_what() -> None:
    read = ProgramPlan.read(
        plan(
            {"kind": "text", "pieces": ["You judge.", {"argument": "essay"}]},
            {"kind": "gen", "after": 0, "pieces": ["Clarity:"], "sampling": {"max_new_tokens": 8, "n": 2}},
            {"kind": "gen", "after": 0, "pieces": ["Style:"]},
            {"kind": "select", "after": 1, "pieces": [{"node": 2}, {"node": 1, "output": 1}], "choices": ["x"]},
        )
    )
    assert read.arguments == {"essay"}
    assert read.num_needs == (0, 1, 1, 2)
    assert read.dependents == ((1, 2), (3,), (3,), ())
    assert read.remaining == (2, 2, 2, 1)


BAD: list[tuple[Any, str]] = [
    (None, "plan"),
    ([], "plan"),
    ({"nodes": [GEN]}, "plan.version"),
    ({"version": 2, "nodes": [GEN]}, "plan.version"),
    (plan(), "plan.nodes"),
    ({"version": 1, "nodes": "gen"}, "plan.nodes"),
    (plan(*[TEXT] * (MAX_NODES + 1)), "plan.nodes"),
    (plan(GEN, name="x"), "plan.name"),
    (plan(GEN, 5), "plan.nodes.1"),
    (plan({"kind": "fork"}), "plan.nodes.0"),
    (plan({"pieces": ["a"]}), "plan.nodes.0"),
    (plan({**GEN, "colour": 1}), "plan.nodes.0"),
    (plan({**GEN, "after": 0}), "plan.nodes.0.after"),
    (plan(GEN, {**GEN, "after": -2}), "plan.nodes.1.after"),
    (plan(GEN, {**GEN, "after": 7}), "plan.nodes.1.after"),
    (plan({**GEN, "after": "0"}), "plan.nodes.0"),
    (plan({**GEN, "pieces": "text"}), "plan.nodes.0.pieces"),
    (plan({**GEN, "pieces": 5}), "plan.nodes.0.pieces"),
    (plan({**GEN, "pieces": [5]}), "plan.nodes.0"),
    (plan({**GEN, "pieces": [{}]}), "plan.nodes.0.pieces.0"),
    (plan({**GEN, "pieces": ["a", {"node": 0}]}), "plan.nodes.0.pieces.1"),
    (plan(GEN, {**GEN, "pieces": [{"node": -1}]}), "plan.nodes.1.pieces.0"),
    (plan(TEXT, {**GEN, "pieces": [{"node": 0}]}), "plan.nodes.1.pieces.0"),
    (plan(TEXT, {**GEN, "pieces": [{"node": 0, "as_tokens": True}]}), "plan.nodes.1.pieces.0"),
    (plan(GEN, {**GEN, "pieces": [{"node": 0, "output": 1}]}), "plan.nodes.1.pieces.0"),
    (plan(GEN, {**TEXT, "pieces": [{"node": 0, "output": -1}]}), "plan.nodes.1.pieces.0"),
    (plan(SELECT, {**GEN, "pieces": [{"node": 0, "output": 1}]}), "plan.nodes.1.pieces.0"),
    (plan({**GEN, "sampling": {"n": 2}}, {**GEN, "pieces": [{"node": 0, "output": 2}]}), "plan.nodes.1.pieces.0"),
    (
        plan({**GEN, "sampling": {"n": 2}}, {**GEN, "pieces": [{"node": 0, "output": 1, "as_tokens": True}]}),
        "plan.nodes.1.pieces.0",
    ),
    (plan(GEN, {**GEN, "pieces": [{"argument": "q", "node": 0}]}), "plan.nodes.1.pieces.0"),
    (plan({**GEN, "pieces": [{"argument": "q", "as_tokens": True}]}), "plan.nodes.0.pieces.0"),
    (plan({**GEN, "pieces": ["\ud800"]}), "plan.nodes.0.pieces.0"),
    (plan({**GEN, "sampling": {"temperature": -1}}), "plan.nodes.0.sampling.temperature"),
    (plan({**GEN, "sampling": {"heat": 1}}), "plan.nodes.0.sampling.heat"),
    (plan({**GEN, "sampling": {"n": 0}}), "plan.nodes.0.sampling.n"),
    (plan({**GEN, "sampling": 7}), "plan.nodes.0.sampling"),
    (plan({**GEN, "top_logprobs_num": -1}), "plan.nodes.0.top_logprobs_num"),
    (plan({**GEN, "top_logprobs_num": 100_000}), "plan.nodes.0.top_logprobs_num"),
    (plan({**GEN, "logprob_start_len": -2}), "plan.nodes.0.logprob_start_len"),
    (plan({**GEN, "logprob_start_len": 10**30}), "plan.nodes.0.logprob_start_len"),
    (plan({**GEN, "sampling": {"logit_bias": {str(10**30): 1}}}), "plan.nodes.0.sampling.logit_bias"),
    (plan({**GEN, "sampling": {"logit_bias": {-1: 1}}}), "plan.nodes.0.sampling.logit_bias"),
    (plan({**GEN, "sampling": {"stop_token_ids": [10**30]}}), "plan.nodes.0.sampling.stop_token_ids"),
    (plan({**GEN, "sampling": {"n": 2, "seed": 2**64 - 1}}), "plan.nodes.0.sampling.seed"),
    (plan({**GEN, "sampling": {"n": 10**9}}), "plan.nodes.0.sampling.n"),
    (plan(*[{**GEN, "sampling": {"stop_regex": ["a+"] * 64}}] * 17), "plan.nodes.16.sampling.stop_regex"),
    (plan({**SELECT, "seed": 10**30}), "plan.nodes.0.seed"),
    (plan({"kind": "select", "pieces": ["a"]}), "plan.nodes.0.choices"),
    (plan({**SELECT, "choices": ["x", ""]}), "plan.nodes.0.choices"),
    (plan({**SELECT, "choices": ["x", "\udc00"]}), "plan.nodes.0.choices.1"),
    (plan({**SELECT, "choices": ["x"] * 5000}), "plan.nodes.0.choices"),
    (plan({**SELECT, "method": "coin"}), "plan.nodes.0.method"),
    (plan({**SELECT, "temperature": -0.5}), "plan.nodes.0.temperature"),
    (plan({**SELECT, "temperature": float("nan")}), "plan.nodes.0.temperature"),
]


@pytest.mark.parametrize(("found", "field"), BAD, ids=[field for _, field in BAD])
def test_a_bad_plan_is_refused_with_its_field(found: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ProgramPlan.read(found)
    assert refused.value.field == field, refused.value


def test_what_a_plan_may_say_crosses_to_the_engine() -> None:
    """An integer that msgpack has no room for was the client's error, and read as ours."""
    sampling = {"n": 2, "seed": 2**64 - 2, "logit_bias": {"2147483647": 1.0}, "stop_token_ids": [2**31 - 1]}
    read = ProgramPlan.read(
        plan({**GEN, "sampling": sampling, "logprob_start_len": 2**31}, {**SELECT, "seed": 2**64 - 1})
    )
    message = RunProgram(1, read.nodes, [{}], stream=False, whole=False)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=RunProgram) == message


def test_a_call_that_asks_for_millions_of_outputs_is_refused() -> None:
    many = plan(*[{**GEN, "sampling": {"n": 128}}] * 100, TEXT, SELECT)
    assert ProgramPlan.read(many).num_outputs == 12_801
    with pytest.raises(InvalidRequest) as refused:
        ProgramCall(Mock(spec=EngineClient), many, [{}] * 100, stream=False, cache_salt="")
    assert refused.value.field == "arguments"


def test_arguments_are_texts_one_for_each_name() -> None:
    read = ProgramPlan.read(plan({**GEN, "pieces": [{"argument": "q"}]}))
    assert read.check_arguments({"q": "x"}, 0) == {"q": "x"}
    for item, field in (
        (None, "arguments.3"),
        ({}, "arguments.3.q"),
        ({"q": 5}, "arguments.3.q"),
        ({"q": "\ud800"}, "arguments.3.q"),
        ({"q": "x", "r": "y"}, "arguments.3.r"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            read.check_arguments(item, 3)
        assert refused.value.field == field
