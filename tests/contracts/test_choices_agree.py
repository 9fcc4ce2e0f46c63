"""The engine and the language choose alike: neither may import the other, and this holds both to one rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.lang import choices as lang
from forktree.lang.backends.protocol import Score
from forktree.runtime.engine import choices as runtime

LOGPROB = st.one_of(st.floats(-30, 0), st.just(-math.inf), st.sampled_from([0.0, -1.0, -2.0]))


def test_both_know_the_same_methods() -> None:
    assert set(runtime.METHODS) == set(lang.METHODS)
    for name, method in lang.METHODS.items():
        assert runtime.needs_alone(name) == method.needs_unconditional
    assert not runtime.needs_alone(None)


@pytest.mark.parametrize("name", sorted(lang.METHODS))
@settings(max_examples=200, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**31), temperature=st.sampled_from([0.0, 1e-6, 0.1, 1.0, 50.0]))
def test_both_take_the_same_choice(name: str, data: st.DataObject, seed: int, temperature: float) -> None:
    """Few different tokens, so that choices share beginnings, contain one another and come twice."""
    ids = data.draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=6))
    logprobs = [data.draw(st.lists(LOGPROB, min_size=len(each), max_size=len(each))) for each in ids]
    finite = st.floats(-20, 0)
    alone = [data.draw(st.lists(finite, min_size=len(each), max_size=len(each))) for each in ids]
    method = lang.METHODS[name]
    asked = alone if method.needs_unconditional else []
    scores = [Score(tuple(tokens), tuple(values)) for tokens, values in zip(ids, logprobs, strict=True)]
    unconditional = [Score(tuple(tokens), tuple(values)) for tokens, values in zip(ids, asked, strict=False)]
    texts = [str(i) for i in range(len(ids))]
    expected, _ = lang.decide(texts, scores, unconditional, method, temperature, seed)
    found = runtime.decide(ids, logprobs, asked, method=name, temperature=temperature, seed=seed)
    assert found == expected


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_both_do_the_same_where_no_method_is_named(temperature: float) -> None:
    """The language names one at the line of the select."""
    import forktree as ft

    node = ft.select("x", ["a", "b"], temperature=temperature)
    assert isinstance(node, ft.lang.nodes.Select)
    ids, logprobs = [[1, 1, 1], [2]], [[-0.4, -0.4, -0.4], [-0.9]]
    scores = [Score(tuple(tokens), tuple(values)) for tokens, values in zip(ids, logprobs, strict=True)]
    for seed in range(20):
        expected, _ = lang.decide(["a", "b"], scores, [], node.method, temperature, seed)
        assert runtime.decide(ids, logprobs, [], method=None, temperature=temperature, seed=seed) == expected


def test_thousands_of_choices_that_each_begin_with_the_one_before_are_walked() -> None:
    """One call per token met the recursion limit: in the engine that was the end of it, whoever else it served."""
    ids = [[1] * (length + 1) for length in range(1200)]
    logprobs = [[-0.5] * len(each) for each in ids]
    found = runtime.decide(ids, logprobs, [], method="greedy_token_selection", temperature=0.0, seed=None)
    scores = [Score(tuple(tokens), tuple(values)) for tokens, values in zip(ids, logprobs, strict=True)]
    expected, _ = lang.decide([str(i) for i in range(1200)], scores, [], lang.greedy_token_selection, 0.0, None)
    assert (found, expected) == (0, 0)
