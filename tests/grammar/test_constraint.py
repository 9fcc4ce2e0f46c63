"""A constraint as a value: what is the same constraint, and what it is called."""

from __future__ import annotations

import pytest

from forktree.grammar import Constraint, GrammarError, SchemaError


def test_options_as_by_default_are_none() -> None:
    assert Constraint.json_schema({}) == Constraint.json_schema("{}", white_space="bounded", order="auto")
    assert Constraint.json_schema({}).options == ""


def test_options_are_canonical_json() -> None:
    options = Constraint.json_schema(True, white_space=("pretty", 2), order="any").options
    assert options == '{"order":"any","white_space":["pretty",2]}'


@pytest.mark.parametrize(
    ("grammar", "kind"),
    [
        ('root ::= "a" rest\nrest ::= [0-9]+', "gbnf"),
        ("# a comment: with a colon\n  root   ::= item", "gbnf"),
        ('start: "::=" NAME\nNAME: /[a-z]+/', "lark"),
        ('?start: "a"', "lark"),
    ],
)
def test_the_syntax_of_a_grammar_is_seen_from_its_rules(grammar: str, kind: str) -> None:
    constraint = Constraint.ebnf(grammar)
    assert (constraint.kind, constraint.text) == (kind, grammar)


@pytest.mark.parametrize("grammar", ["", " \n", None, 5])
def test_an_empty_grammar_is_refused(grammar: object) -> None:
    for make in (Constraint.lark, Constraint.gbnf, Constraint.ebnf):
        with pytest.raises(GrammarError, match="wanted the text of a grammar"):
            make(grammar)  # type: ignore[arg-type]


def test_a_structural_tag_is_an_object_of_json() -> None:
    assert Constraint.structural_tag('{"format": {"a": 1}}').text == '{"format":{"a":1}}'
    for wrong in ("{", "[]", {"format": {1}}):
        with pytest.raises(SchemaError, match="structural tag is"):
            Constraint.structural_tag(wrong)  # type: ignore[arg-type]
