"""backend="outlines": the same interface through outlines-core, and its masks as an oracle for ours."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import numpy as np
import pytest

from forktree.grammar import Compiler, Constraint, GrammarError, GrammarTooComplex, SchemaError
from forktree.grammar.outlines_backend import OutlinesGrammar
from tests.support.byte_vocabulary import ByteVocabulary, allowed

pytest.importorskip("outlines_core")
pytestmark = pytest.mark.slow  # a process for each index

VOCABULARY = ByteVocabulary()
OURS, THEIRS = Compiler(VOCABULARY), Compiler(VOCABULARY, backend="outlines")
CALL = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 9}, "n": {"type": "integer"}, "unit": {"enum": ["m", None]}},
    "required": ["name", "n", "unit"],
    "additionalProperties": False,
}

# In none of these can the text end where it can also go on to where it cannot end: see the backend's docstring.
PATTERNS = [
    "[ab]{2,5}c", "(true|false)", "[0-9]+", "a*", "(ab|ba)*c", "[^x]{3}", "é+日本", "x{40}y?",
    "(a|b)(c|[de])+",
    "[0-9]{4}-[0-9]{2}", r'"[a-z]*"', "(?i:ab)c", "[日月]?本", r"\+?[1-9]{3,5}",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_its_masks_are_ours_at_every_step_of_random_walks(pattern: str) -> None:
    rng = random.Random(1)
    ours, theirs = OURS.compile(Constraint.regex(pattern)), THEIRS.compile(Constraint.regex(pattern))
    for _ in range(5):
        mine, other = ours.matcher(), theirs.matcher()
        for _ in range(12):
            choice = allowed(mine)
            assert allowed(other) == choice
            assert (other.complete, other.finished, other.num_tokens) == (mine.complete, mine.finished, mine.num_tokens)
            token_id = rng.choice(sorted(choice))
            mine.advance(token_id)
            other.advance(token_id)
            if token_id == VOCABULARY.eos:
                break


def test_what_it_loses_is_only_what_leads_on_from_where_the_text_could_end() -> None:
    """outlines-core 0.2.14; when this fails, the docstring and PATTERNS can be freed of it."""
    matcher = THEIRS.compile(Constraint.regex("a(-1)?")).matcher()
    matcher.advance(ord("a"))
    assert allowed(matcher) == {VOCABULARY.eos, VOCABULARY.ids[b"-1"]}
    assert ord("-") not in allowed(matcher)


def walk(matcher: Any, rng: random.Random, tokens: int) -> bytes:
    text = b""
    for left in range(tokens, -1, -1):
        choice = allowed(matcher, left)
        if VOCABULARY.eos in choice and (len(choice) == 1 or left == 0 or rng.random() < 0.3):
            return text
        token_id = rng.choice(sorted(choice - {VOCABULARY.eos}))
        matcher.advance(token_id)
        text += VOCABULARY.tokens[token_id] or b""
    raise AssertionError(f"not complete after {tokens} tokens: {text!r}")


def test_walks_within_a_budget_end_in_valid_json() -> None:
    grammar = THEIRS.compile(Constraint.json_schema(CALL))
    assert isinstance(grammar, OutlinesGrammar)
    needed = grammar.tokens_needed(0)
    for seed in range(10):
        text = walk(grammar.matcher(), random.Random(seed), needed + seed)
        jsonschema.Draft202012Validator(CALL).validate(json.loads(text))


def test_a_matcher_goes_back_and_refuses_as_ours_does() -> None:
    matcher = THEIRS.compile(Constraint.regex("ab?")).matcher()
    with pytest.raises(GrammarError, match="not complete"):
        matcher.advance(VOCABULARY.eos)
    with pytest.raises(GrammarError, match="not allowed here"):
        matcher.advance(ord("b"))
    before = allowed(matcher)
    matcher.advance(ord("a"))
    assert matcher.complete
    matcher.advance(VOCABULARY.eos)
    assert matcher.terminated
    assert allowed(matcher) == {VOCABULARY.eos}
    with pytest.raises(GrammarError, match="after the end"):
        matcher.advance(ord("a"))
    matcher.rollback(2)
    assert allowed(matcher) == before
    with pytest.raises(GrammarError, match="cannot roll back 1"):
        matcher.rollback(1)
    row = np.zeros(VOCABULARY.num_words, dtype=np.int32)
    assert matcher.fill_mask(row)
    assert (matcher.forced(), matcher.forced_bytes(), matcher.tokens_needed()) == ([], b"", 1)
    assert not matcher.try_advance(ord("b"))
    assert matcher.try_advance(ord("a"))
    assert np.array_equal(matcher.mask(), matcher.grammar.mask(matcher.grammar.after(0, ord("a"))))


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({}, "#"), ({"type": "integer", "minimum": 3}, "#/minimum"), ({"type": "string", "pattern": "a"}, "#/pattern"),
        ({"type": "array", "items": {"type": "string", "format": "date"}}, "#/items/format"),
        ({"type": "array"}, "#/items"),
        ({"type": "object", "properties": {"a": {"not": {}}}}, "#/properties/a/type"),
        ({"anyOf": [{"type": "null"}, {"type": ["null"]}]}, "#/anyOf/1/type"), ({"type": "object"}, "#/properties"),
        ({"enum": [1], "type": "string"}, "#/type"), ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, "#/$defs/a"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, "#/required"),
    ],
)  # fmt: skip
def test_a_schema_that_it_would_loosen_is_refused_with_its_pointer(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(SchemaError, match='backend="outlines" does not enforce this') as caught:
        THEIRS.compile(Constraint.json_schema(schema))
    assert str(caught.value).startswith(f"at {place}: ")


def test_what_outlines_core_cannot_compile_is_a_grammar_error() -> None:
    with pytest.raises(GrammarError, match="cannot compile this: ValueError: Failed to build DFA"):
        THEIRS.compile(Constraint.regex("(?=a)b"))
    recursive = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}
    with pytest.raises(GrammarError, match="cannot compile this"):
        THEIRS.compile(Constraint.json_schema(recursive))


def test_an_index_that_takes_too_long_is_given_up() -> None:
    with pytest.raises(GrammarTooComplex, match=r"more than 0\.3 s"):
        OutlinesGrammar(Constraint.regex(r"\w{200}"), VOCABULARY, seconds=0.3)


def test_the_backend_is_one_of_two() -> None:
    with pytest.raises(ValueError, match="backend must be one of forktree, outlines, not 'xgrammar'"):
        Compiler(VOCABULARY, backend="xgrammar")  # type: ignore[arg-type]
