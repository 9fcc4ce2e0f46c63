"""benchmarks.grammar: its cases are what they say, by oracles of other people; its figures come out of tiny runs."""

from __future__ import annotations

import lark
import pytest
import regex

from benchmarks.grammar import cases, data, speed


@pytest.mark.parametrize("case", cases.REGEXES, ids=lambda case: case.name)
def test_texts_belong_to_their_regex_or_not(case: cases.Case) -> None:
    assert [text for text in case.members if not regex.fullmatch(case.source, text)] == []
    assert [text for text in case.others if regex.fullmatch(case.source, text)] == []


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in cases.GRAMMARS if case.kind == "lark"], ids=lambda case: case.name)
def test_texts_belong_to_their_lark_grammar_or_not(case: cases.Case) -> None:
    parser = lark.Lark(case.source, parser="earley")
    for text in case.members:
        parser.parse(text)
    for text in case.others:
        with pytest.raises(lark.exceptions.LarkError):
            parser.parse(text)


def test_percentiles_are_microseconds() -> None:
    assert speed.percentiles([1000, 2000, 3000]) == pytest.approx((2.0, 2.8, 2.98))
    assert speed.percentiles([]) != speed.percentiles([]), "nan: there is nothing to say"


def test_instances_are_spelled_as_models_write_them() -> None:
    sample = data.Sample("one", "keyword", True, (({"é": ["\n", 1.5]}, True), ("\ud800", False)))
    assert sample.spelled(data.COMPACT, data.SPACED) == [
        ('{"é":["\\n",1.5]}', True),
        ('{"é": ["\\n", 1.5]}', True),
        ('"\\ud800"', False),
        ('"\\ud800"', False),
    ]
