"""A few of the constraints of tests/grammar/fuzz.py, the same on every run: nothing but typed errors comes out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.grammar import fuzz

FEW = settings(
    max_examples=60, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
@FEW
@given(fuzz.SCHEMAS)
def test_any_schema_gives_valid_values_or_a_typed_error(drawn: Any) -> None:
    fuzz.attempt("schema", drawn)


@pytest.mark.slow
@FEW
@given(fuzz.REGEXES)
def test_any_pattern_gives_matches_or_a_typed_error(drawn: str) -> None:
    fuzz.attempt("regex", drawn)


@pytest.mark.slow
@FEW
@given(fuzz.LARKS)
def test_any_lark_text_gives_masks_or_a_typed_error(drawn: str) -> None:
    fuzz.attempt("lark", drawn)


@pytest.mark.slow
@FEW
@given(fuzz.GBNFS)
def test_any_gbnf_text_gives_masks_or_a_typed_error(drawn: str) -> None:
    fuzz.attempt("gbnf", drawn)


@pytest.mark.slow
@FEW
@given(fuzz.TAGS)
def test_any_structural_tag_gives_masks_or_a_typed_error(drawn: Any) -> None:
    fuzz.attempt("tag", drawn)
