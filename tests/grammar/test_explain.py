"""Why a token may not come next, and where in the constraint; what a grammar took and holds."""

from __future__ import annotations

import pytest

from forktree.grammar import Compiler, Constraint, Explanation, Grammar, Matcher
from forktree.grammar.shown_bytes import shown_set, shown_text
from tests.support.byte_vocabulary import ByteVocabulary, allowed

VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY)
ORDER = {
    "type": "object",
    "properties": {
        "a": {"type": "integer", "minimum": 30},
        "b": {"type": "integer", "minimum": 30},
        "c": {"enum": ["red", "green"]},
        "d": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 2},
        "e": {"$ref": "#"},
    },
    "required": ["a"],
    "additionalProperties": False,
}


def after(constraint: Constraint, text: str) -> Matcher:
    matcher = COMPILER.compile(constraint).matcher()
    for byte in text.encode():
        matcher.advance(byte)
    assert isinstance(matcher, Matcher)
    return matcher


def token(text: bytes) -> int:
    return VOCABULARY.tokens.index(text)


def test_a_token_is_explained_byte_by_byte() -> None:
    matcher = after(Constraint.regex("ab[0-9]x"), "")
    found = matcher.explain(token(b"abc"))
    reason = "«abc» does not fit: byte 3 of 3, «c», cannot come after «ab»"
    assert found == Explanation(token(b"abc"), b"abc", False, reason, 2, ("0-9",))
    assert str(found).splitlines() == [found.reason, "    may come: 0-9"]
    assert matcher.explain(ord("x")).reason == "«x» cannot come"
    assert matcher.explain(token(b"ab")).reason == "«ab» fits; 2 bytes or more must follow it"
    assert after(Constraint.regex("ab?"), "").explain(token(b"ab")).reason == "«ab» fits; the output may end after it"


def test_the_end_of_the_output_is_explained() -> None:
    matcher = after(Constraint.regex("abc+"), "ab")
    assert "not complete" in matcher.explain(VOCABULARY.eos).reason
    assert "«c»" in matcher.explain(VOCABULARY.eos).reason
    matcher.advance(ord("c"))
    assert matcher.explain(VOCABULARY.eos).allowed
    assert matcher.explain(ord("x")).expected == ("c", "the end of the output")
    matcher.advance(VOCABULARY.eos)
    assert matcher.explain(ord("x")).reason == "the output has ended"


def test_special_tokens_and_ids_that_are_none() -> None:
    matcher = after(Constraint.regex("a"), "")
    assert "special" in matcher.explain(VOCABULARY.eos - 1).reason
    assert "no token id" in matcher.explain(-1).reason
    assert not matcher.explain(10**9).allowed


def test_a_token_that_fits_but_not_in_time() -> None:
    matcher = after(Constraint.regex("(ay{50}|b)"), "")
    assert matcher.explain(ord("a")).allowed
    found = matcher.explain(ord("a"), tokens_left=5)
    assert not found.allowed
    assert found.reason.endswith("50 more tokens are needed after it, and 4 are left")
    assert matcher.explain(ord("b"), tokens_left=5).allowed


@pytest.mark.parametrize(
    ("text", "wrong", "expected", "places"),
    [
        ("", "[", '«{"a":»', ["#/type"]),
        ("{", "}", '«"a":»', ["#/required", "#/properties", "#/additionalProperties"]),
        ('{"a": ', '"', "1-9", ["#/properties/a/type"]),
        ('{"a": 3', ",", "0-9", ["#/properties/a/minimum"]),
        ('{"a":30,"b":', "x", "1-9", ["#/properties/b/type"]),  # the schema of a is equal, and shares its node
        ('{"a":30,"b":3', "}", "0-9", ["#/properties/b/minimum"]),
        ('{"a":30,"c":"', "b", "g, r", ["#/properties/c/enum"]),
        ('{"a":30,"d":["abc', "d", '«"»', ["#/properties/d/items/maxLength"]),
        ('{"a":30,"d":["a","b"', ",", "«]»", ["#/properties/d/items", "#/properties/d/maxItems"]),
        ('{"a":30,"e":{"', "b", '«a":»', ["#/required", "#/properties", "#/additionalProperties"]),
    ],
)
def test_a_schema_is_named_by_pointer_and_keyword(text: str, wrong: str, expected: str, places: list[str]) -> None:
    found = after(Constraint.json_schema(ORDER, order="schema"), text).explain_text(wrong)
    assert not found.allowed
    assert expected in ", ".join(found.expected), found
    assert [str(place) for place in found.places] == places


def test_equal_schemas_are_told_apart_by_the_name_in_any_order() -> None:
    found = after(Constraint.json_schema(ORDER, order="any"), '{"a":30,"b":').explain_text("x")
    assert {place.pointer for place in found.places} == {"#/properties/b"}


def test_a_grammar_is_named_by_its_rules() -> None:
    calculator = 'start: sum\nsum: atom | sum "+" atom\natom: /[0-9]+/ | "(" sum ")"'
    assert "rule atom" in map(str, after(Constraint.lark(calculator), "1+").explain_text("x").places)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint.json_schema(ORDER),
        Constraint.json_schema({"type": "array", "uniqueItems": True, "items": {"type": ["string", "number"]}}),
        Constraint.json_schema({"anyOf": [{"type": "string", "format": "date"}, {"type": "object"}]}, order="any"),
        Constraint.regex(r"[\w ]{2,5}é?(yes|no)*"),
        Constraint.gbnf('root ::= "(" root ")" root | [a-c]*'),
    ],
    ids=lambda constraint: constraint.text[:20],
)
def test_explanations_agree_with_masks(constraint: Constraint) -> None:
    matcher = after(constraint, "")
    for step in range(12):
        mask = allowed(matcher)
        for token_id in (*range(step, 256, 11), *range(256, len(VOCABULARY))):
            found = matcher.explain(token_id)
            assert found.allowed == (token_id in mask), found
            assert found.allowed or found.expected or found.text is None, found
        rest = sorted(mask - {VOCABULARY.eos})
        if not rest:
            break
        matcher.advance(rest[step * 7 % len(rest)])


def test_an_explanation_leaves_nothing_behind() -> None:
    matcher = after(Constraint.json_schema(ORDER), '{"a":30,"d":["a')
    matcher.explain_text("zzz")
    before = matcher.grammar.report()
    matcher.explain_text("zzz")
    assert matcher.grammar.report() == before


def test_a_report_says_what_a_grammar_took_and_holds() -> None:
    grammar = Grammar(Constraint.json_schema(ORDER), VOCABULARY)
    fresh = grammar.report()
    assert (fresh.kind, fresh.walks, fresh.masks, fresh.first_mask_seconds) == ("json_schema", 0, 0, 0.0)
    assert fresh.compile_seconds > 0
    matcher = grammar.matcher()
    for byte in b'{"a": 31, "c": "red"}':
        matcher.mask()
        matcher.advance(byte)
    used = grammar.report()
    assert used.masks == used.walks > 5
    assert used.first_mask_seconds > 0
    assert used.configurations > fresh.configurations
    assert used.states > fresh.states
    assert used.num_bytes == grammar.num_bytes > 0
    grammar._automaton.rules.notes.append(("#/properties/a", "format", "is ignored"))
    assert str(grammar.report()).splitlines()[-1] == "    #/properties/a/format: is ignored"


@pytest.mark.parametrize(
    ("members", "shown"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"ab", ["a", "b"]),
        (b"abc019 \n", ["a blank", "0", "1", "9", "a-c", "newline"]),
        (bytes(range(256)), ["any byte"]),
        (bytes(b for b in range(0x20, 0x7F) if b not in b'"'), ['any graphic ASCII character but "']),
        (bytes(range(0x80, 0xC0)), ["the rest of a character"]),
        (bytes(range(0xC2, 0xF5)), ["characters beyond ASCII"]),
    ],
)
def test_sets_of_bytes_are_shown_in_few_words(members: bytes, shown: list[str]) -> None:
    assert shown_set(frozenset(members)) == shown


def test_texts_are_shown_whole_or_cut() -> None:
    assert shown_text(b"a\n") == "«a\\n»"
    assert shown_text(b"\xff") == "b'\\xff'"
    assert shown_text(b"x" * 100).endswith("x»...")


def test_a_report_names_terminals_that_can_match_the_same_text() -> None:
    grammar = COMPILER.compile(Constraint.lark("start: (A | B)+\nA: /[a-z]+/\nB: /[a-c][0-9]*/"))
    assert isinstance(grammar, Grammar)
    (note,) = grammar.report().notes
    assert "the terminals B and A can match the same text, such as 'a'" in str(note)
