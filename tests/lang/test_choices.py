"""How select decides: pure functions over exact scores, and what programs see of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forktree as ft
from forktree.lang.backends.protocol import Score
from forktree.lang.choices import METHODS, Ranking, decide, softmax
from forktree.runtime.engine import choices as engine_choices
from tests.support.scripted_backend import ScriptedBackend


def scores(*pairs: tuple[Sequence[int], Sequence[float]]) -> list[Score]:
    return [Score(tuple(ids), tuple(logprobs)) for ids, logprobs in pairs]


def test_the_mean_does_not_punish_length() -> None:
    ranking = ft.token_length_normalized(scores(([1], [-1.0]), ([2, 3, 4], [-0.9, -0.9, -0.9])))
    assert ranking.best == 1
    assert ranking.log_weights == pytest.approx((-1.0, -0.9))


def test_a_log_probability_of_zero_counts_like_any_other() -> None:
    """SGLang drops entries that are exactly 0.0 and divides by what is left."""
    ranking = ft.token_length_normalized(scores(([1], [0.0]), ([2, 3], [0.0, -1.0])))
    assert ranking == Ranking(0, (0.0, -0.5))


def test_token_by_token_follows_the_likeliest_next_token() -> None:
    options = scores(([1, 2], [-1.0, -0.1]), ([1, 3], [-1.0, -3.0]), ([4, 5], [-0.5, -5.0]))
    assert ft.greedy_token_selection(options).best == 2  # the best first token, though not the best mean
    assert ft.token_length_normalized(options).best == 0


def test_token_by_token_keeps_options_with_the_same_tokens_together_despite_rounding() -> None:
    options = scores(([1, 2], [-1.0, -3.0]), ([1, 3], [-1.0000001, -0.1]))
    assert ft.greedy_token_selection(options).best == 1


def test_an_option_that_ends_where_another_goes_on_competes_with_its_mean() -> None:
    shorter_wins = scores(([1], [-0.1]), ([1, 2], [-0.1, -2.0]))
    longer_wins = scores(([1], [-1.0]), ([1, 2], [-1.0, -0.5]))
    assert ft.greedy_token_selection(shorter_wins).best == 0
    assert ft.greedy_token_selection(longer_wins).best == 1


def test_token_by_token_gives_a_distribution_over_the_options() -> None:
    options = scores(
        ([1, 2], [-1.0, -0.1]), ([1, 3], [-1.0, -3.0]), ([1], [-1.0]), ([4], [-0.5]), ([4], [-0.5]), ([9, 9], [-9, -9])
    )
    ranking = ft.greedy_token_selection(options)
    assert sum(map(math.exp, ranking.log_weights)) == pytest.approx(1.0)
    assert ranking.best == 3


def test_the_unconditional_method_prefers_what_the_prompt_speaks_for() -> None:
    frequent_and_rare = scores(([1], [-1.0]), ([2], [-2.0]))
    alone = scores(([1], [-1.5]), ([2], [-6.0]))
    assert ft.unconditional_likelihood_normalized(frequent_and_rare, alone) == Ranking(1, (0.5, 4.0))


def test_softmax_survives_impossible_options() -> None:
    assert softmax([-math.inf, 0.0]) == (0.0, 1.0)
    assert softmax([-math.inf, -math.inf]) == (0.5, 0.5)


def test_above_temperature_zero_the_choice_is_drawn_from_the_distribution() -> None:
    options = scores(([1], [math.log(0.7)]), ([2], [math.log(0.3)]))
    drawn = Counter(decide(["a", "b"], options, [], ft.token_length_normalized, 1.0, seed)[0] for seed in range(2000))
    assert drawn[0] / 2000 == pytest.approx(0.7, abs=0.04)
    assert {decide(["a", "b"], options, [], ft.token_length_normalized, 1.0, 5)[0] for _ in range(20)} in ({0}, {1})
    cold = Counter(decide(["a", "b"], options, [], ft.token_length_normalized, 0.05, seed)[0] for seed in range(200))
    assert cold[0] == 200


def by_table(table: dict[str, float]) -> ScriptedBackend:
    return ScriptedBackend(scores=lambda _, choice: [table[choice]] * len(choice))


@ft.function
def judge(s: ft.ProgramState, **select: Any) -> None:
    s += "Is it? " + ft.select("verdict", ["yes", "no"], **select) + "."


def meta_of(state: ft.ProgramState, name: str = "verdict") -> dict[str, Any]:
    meta = state.get_meta_info(name)
    assert meta is not None
    return meta


def test_select_takes_the_best_and_tells_how_likely_each_was() -> None:
    backend = by_table({"yes": -1.0, "no": -0.5})
    state = judge.run(backend=backend)
    assert (state["verdict"], state.text()) == ("no", "Is it? no.")
    meta = state.get_meta_info("verdict")
    assert meta is not None
    assert meta["choices"] == ["yes", "no"]
    assert meta["choice_index"] == 1
    assert sum(meta["distribution"]) == pytest.approx(1.0)
    assert meta["distribution"] == pytest.approx(softmax([-1.0, -0.5]))
    assert meta["sequence_logprobs"] == pytest.approx([-3.0, -1.0])
    assert meta["normalized_prompt_logprobs"] == pytest.approx([-1.0, -0.5])
    assert backend.scored == [("Is it? ", ("yes", "no"))]  # one request, the prompt is scored once


@pytest.mark.parametrize(
    "method",
    [
        ft.token_length_normalized,
        ft.greedy_token_selection,
        ft.unconditional_likelihood_normalized,
        ft.exact_probability,
    ],
)
@pytest.mark.parametrize("by_name", [True, False])
def test_all_methods_work_in_programs(method: ft.ChoicesMethod, by_name: bool) -> None:
    given = method.name if by_name else method
    meta = meta_of(judge.run(choices_method=given, backend=by_table({"yes": -3.0, "no": -0.5})))
    assert (meta["choice"], meta["choices_method"]) == ("no", repr(method))
    assert meta["probabilities"] == pytest.approx(softmax([-9.0, -1.0])), "exact, whatever the method"


def test_unconditional_scores_are_of_the_same_tokens_with_nothing_before_them() -> None:
    backend = by_table({"yes": -1.0, "no": -1.0})
    state = judge.run(choices_method=ft.unconditional_likelihood_normalized, backend=backend)
    assert backend.scored == [("Is it? ", ("yes", "no")), (None, ("yes", "no"))], "one call each"
    assert backend.requests == []
    meta = state.get_meta_info("verdict")
    assert meta is not None
    assert meta["unconditional_token_logprobs"] == [[0.0, -2.0, -2.0], [0.0, -2.0]]


def test_the_method_left_out_is_the_mean_at_temperature_zero_and_exact_above() -> None:
    """The mean prefers "yes yes yes", the probability "no": a draw at a temperature near zero takes the likelier."""
    backend = by_table({"yes yes yes": -0.5, "no": -1.0})

    @ft.function
    def program(s: ft.ProgramState, **select: Any) -> None:
        s += ft.select("verdict", ["yes yes yes", "no"], **select)

    assert meta_of(program.run(backend=backend))["choices_method"] == "token_length_normalized"
    assert program.run(backend=backend)["verdict"] == "yes yes yes"
    drawn = meta_of(program.bind(temperature=0.01).run(backend=backend))
    assert (drawn["choice"], drawn["choices_method"]) == ("no", "exact_probability")
    assert drawn["distribution"] == drawn["probabilities"] == pytest.approx(softmax([-5.5, -2.0]))
    named = program.bind(temperature=0.01, choices_method="token_length_normalized").run(backend=backend)
    assert named["verdict"] == "yes yes yes", "a method that is named is used for drawing, too"
    assert meta_of(named)["probabilities"] == drawn["probabilities"]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_exact_probabilities_at_their_temperature(temperature: float) -> None:
    options = scores(([1], [math.log(0.6)]), ([2, 3], [math.log(0.5), math.log(0.6)]), ([2], [math.log(0.1)]))
    powers = [p ** (1 / temperature) for p in (0.6, 0.3, 0.1)]
    choices = ["a", "b", "c"]
    drawn = Counter(decide(choices, options, [], ft.exact_probability, temperature, seed)[0] for seed in range(3000))
    assert [drawn[i] / 3000 for i in range(3)] == pytest.approx([p / sum(powers) for p in powers], abs=0.03)
    again = [decide(choices, options, [], ft.exact_probability, temperature, seed)[0] for seed in range(100)]
    assert again == [decide(choices, options, [], ft.exact_probability, temperature, seed)[0] for seed in range(100)]


def test_an_option_that_begins_another_is_never_less_likely() -> None:
    options = scores(([1], [-0.5]), ([1, 2], [-0.5, -0.1]), ([3, 4], [-0.2, -0.2]))
    assert ft.exact_probability(options) == Ranking(2, (-0.5, -0.6, -0.4))
    _, meta = decide(["a", "ab", "cd"], options, [], ft.exact_probability, 0.0, None)
    assert sum(meta["probabilities"]) == pytest.approx(1.0)
    assert meta["probabilities"][0] > meta["probabilities"][1]


def test_an_option_given_twice_counts_twice() -> None:
    options = scores(([1], [-0.7]), ([2], [-0.7]), ([1], [-0.7]))
    _, meta = decide(["a", "b", "a"], options, [], ft.exact_probability, 1.0, 3)
    assert meta["probabilities"] == pytest.approx([1 / 3] * 3)


def test_temperature_and_seed_of_a_select_are_honoured() -> None:
    backend = by_table({"yes": -1.0, "no": -1.0})
    drawn = {judge.bind(temperature=1.0, seed=seed).run(backend=backend)["verdict"] for seed in range(20)}
    assert drawn == {"yes", "no"}

    @ft.function
    def seeded(s: ft.ProgramState) -> None:
        s += ft.select("c", ["yes", "no"], temperature=1.0, seed=4)

    assert len({seeded.run(backend=backend)["c"] for _ in range(10)}) == 1


def test_gen_with_choices_is_a_select() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += ft.gen("c", choices=["yes", "no"], max_tokens=5, choices_method=ft.greedy_token_selection)

    state = program.run(temperature=1.0, backend=by_table({"yes": -0.1, "no": -2.0}))
    assert state["c"] == "yes"  # the run's temperature is for text, a choice's is its own
    meta = state.get_meta_info("c")
    assert meta is not None
    assert meta["choices_method"] == "greedy_token_selection"


def test_a_chosen_options_tokens_go_on_as_tokens() -> None:
    @ft.function
    def program(s: ft.ProgramState) -> None:
        s += "a" + ft.select("c", ["yes", "no"]) + "b" + ft.gen("g")

    backend = by_table({"yes": -0.1, "no": -2.0})
    program.run(backend=backend)
    assert backend.requests[0].prompt == ("a", tuple(map(ord, "yes")), "b")


@pytest.mark.parametrize("choices", [[], ["a", ""], ["a", 1], "ab", None])
def test_choices_that_are_no_list_of_texts_are_refused_where_they_are_written(choices: Any) -> None:
    with pytest.raises(ft.ArgumentError, match=r'select\("x"\), .*test_choices\.py:\d+'):
        ft.select("x", choices)


def test_a_method_that_is_none_is_refused() -> None:
    known = "token_length_normalized, greedy_token_selection, unconditional_likelihood_normalized, exact_probability"
    for wrong in ("mean", "", "EXACT_PROBABILITY"):
        with pytest.raises(ft.ArgumentError, match=f"choices_method: got '{wrong}', wanted a method or one of {known}"):
            ft.select("x", ["a"], choices_method=wrong)
    with pytest.raises(ft.ArgumentError, match=r'choices_method: got 3, .*gen\("x"\), .*test_choices\.py:\d+'):
        ft.gen("x", choices=["a"], choices_method=3)  # type: ignore[arg-type]


def test_a_backend_that_scores_too_few_is_an_error() -> None:
    with pytest.raises(ft.GenerationError, match=r'select\("verdict"\).*without tokens'):
        judge.run(backend=ScriptedBackend(scores=lambda _, choice: []))


@settings(max_examples=60, deadline=None)
@given(
    options=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.floats(-20, 0)), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    seed=st.integers(0, 2**31),
    method=st.sampled_from(list(METHODS)),
)
def test_the_engine_decides_like_the_language(
    options: list[list[tuple[int, float]]], temperature: float, seed: int, method: str
) -> None:
    """A program that runs in the engine goes on from the choice that the language will find in the same scores."""
    by_language = [Score(tuple(id for id, _ in each), tuple(logprob for _, logprob in each)) for each in options]
    alone = [Score(score.token_ids, tuple(x / 2 for x in score.logprobs)) for score in by_language]
    texts = [str(i) for i in range(len(options))]
    index, _ = decide(texts, by_language, alone, METHODS[method], temperature, seed)
    by_engine = engine_choices.decide(
        [score.token_ids for score in by_language],
        [score.logprobs for score in by_language],
        [score.logprobs for score in alone],
        method=method,
        temperature=temperature,
        seed=seed,
    )
    assert index == by_engine
    assert set(engine_choices.METHODS) == set(METHODS)
