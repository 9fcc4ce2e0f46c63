"""Free text with structures in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.grammar.errors import SchemaError
from forktree.grammar.expressions import Expressions
from forktree.grammar.free_text import containing_none, up_to_first
from forktree.grammar.limits import Budget
from forktree.grammar.regex import compile_regex
from forktree.grammar.rules import Rules
from forktree.grammar.structural_tags import compile_structural_tag
from tests.grammar.rules_reference import Reference


def compile_schema(text: str, rules: Rules) -> int:
    if text == '"wrong"':
        raise SchemaError("is wrong", pointer="#/a", keyword="type")
    return rules.terminal(compile_regex(r'\{("[a-z]*": ?[0-9]+)?\}', rules.expressions))


def accepts(spec: dict[str, Any], text: str) -> bool:
    rules = Rules(Expressions(Budget()))
    return Reference(rules, compile_structural_tag(spec, rules, compile_schema)).accepts_text(text.encode())


def format_(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


JSON = format_("json_schema", json_schema={})
TEXT = format_("any_text")
GET = {"begin": "<function=get>", "schema": {}, "end": "</function>"}
PUT = {"begin": "<function=put>", "schema": {}, "end": "</function>"}
CALLS: dict[str, Any] = {"type": "structural_tag", "structures": [GET, PUT], "triggers": ["<function="]}
CALL = format_("tag", begin="<call a>", content=JSON, end="</call>")


def triggered(**fields: Any) -> dict[str, Any]:
    return format_("triggered_tags", triggers=["<call"], tags=[CALL], **fields)


def sequence(*elements: dict[str, Any]) -> dict[str, Any]:
    return format_("sequence", elements=list(elements))


THINK = format_("tag", begin="<think>", content=TEXT, end="</think>")


@pytest.mark.parametrize(
    ("spec", "yes", "no"),
    [
        (CALLS,
         ["", "héllo 日本", "a <functio <<function=get>{}</function> b <function=put>{}</function>"],
         ["<function=", "<function=foo>", "<function=get>{}</function", "<function=get>[]</function>"]),
        (sequence(TEXT, format_("const_string", value="</think>"), JSON),
         ["so</think>{}", "</think</think>{}"], ["", "so", "{}", "a</think>b</think>{}"]),
        (sequence(THINK, JSON), ["<think>a</b</think>{}"], ["<think>{}", "<think></think></think>{}"]),
        (sequence(TEXT, CALL), ["x<call<call a>{}</call>"], ["x", "<call a><call a>{}</call>"]),
        (triggered(), ["", "x<call a>{}</call>y<call a>{}</call>"], ["<call b", "<call", "<call a>{}"]),
        (triggered(at_least_one=True), ["<call a>{}</call>y"], ["", "x<call a>{}</call>"]),
        (triggered(stop_after_first=True), ["x", "x<call a>{}</call>"], ["<call", "x<call a>{}</call>y"]),
        (triggered(at_least_one=True, stop_after_first=True), ["<call a>{}</call>"], ["", "<call a>{}</call> "]),
        (triggered(excludes=["bad"]), ["ba", "<call a>{}</call>"], ["bad", "<call a>{}</call>bad"]),
        (format_("tag", begin="[", content=triggered(), end="]"),
         ["[]", "[x<call a>{}</call>y]"], ["[x]]", "[", "[<call]"]),
        (format_("tag", begin="<", content=TEXT, end=[">", "/>"]), ["<>", "<a/>", "<b>"], ["<a>>", "<"]),
        (format_("tags_with_separator", tags=[CALL], separator=","),
         ["", "<call a>{}</call>,<call a>{}</call>"], ["<call a>{}</call>,"]),
        (format_("tags_with_separator", tags=[CALL], separator=",", at_least_one=True, stop_after_first=True),
         ["<call a>{}</call>"], ["", "<call a>{}</call>,<call a>{}</call>"]),
        (format_("any_text", excludes=["ab", "c"]), ["", "ba日"], ["xabx", "c"]),
        (format_("or", elements=[format_("regex", pattern="[0-9]+"), format_("grammar", grammar='root ::= "a" root?')]),
         ["12", "aaa"], ["1a", ""]),
        (format_("repeat", content=format_("const_string", value="ab"), min=1, max=2), ["ab", "abab"], ["", "ababab"]),
        (format_("star", content=format_("const_string", value="a")), ["", "aa"], ["b"]),
        (sequence(format_("optional", content=THINK), JSON), ["{}", "<think>x</think>{}"], ["x{}"]),
    ],
)  # fmt: skip
def test_formats(spec: dict[str, Any], yes: list[str], no: list[str]) -> None:
    whole = spec if "structures" in spec else {"type": "structural_tag", "format": spec}
    assert [text for text in yes if not accepts(whole, text)] == []
    assert [text for text in no if accepts(whole, text)] == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=6), max_size=20),
)
def test_free_text_is_what_find_says(words: list[str], texts: list[str]) -> None:
    expressions = Expressions(Budget())
    rules = Rules(expressions)
    encoded = [word.encode() for word in words]
    none = rules.terminal(containing_none(expressions, encoded))
    first = rules.terminal(up_to_first(expressions, encoded[0], encoded))
    for text in texts:
        ends = [match.start() + len(word) for word in words for match in re.finditer(f"(?={word})", text)]
        assert Reference(rules, none).accepts_text(text.encode()) == (not ends)
        expected = text.endswith(words[0]) and min(ends) == len(text)
        assert Reference(rules, first).accepts_text(text.encode()) == expected, (words, text)


def test_free_text_has_one_state_per_beginning_of_a_trigger() -> None:
    """Plain text leads back to the same configuration, which is what makes its mask cheap."""
    rules = Rules(Expressions(Budget()))
    reference = Reference(rules, compile_structural_tag(CALLS, rules, compile_schema))
    seen = set()
    for byte in b"some <text> with < and <func and <<functio, a" * 3:
        assert reference.step(byte)
        seen.add(frozenset(reference._items))
    assert len(seen) <= len("<function=")


@pytest.mark.parametrize(
    ("spec", "place", "message"),
    [
        ({"type": "other"}, "#/type", "is not structural_tag"),
        ({"structures": [], "triggers": ["a"]}, "#/structures", "missing or empty"),
        ({"structures": [GET], "triggers": []}, "#/triggers", "at least one trigger"),
        ({"structures": [GET], "triggers": ["<call"]}, "#/structures/0/begin", "begins with none of the triggers"),
        ({"structures": [GET], "triggers": ["<f", "<function="]}, "#/triggers/1", "can never be complete"),
        ({"structures": [{**GET, "schema": "wrong"}], "triggers": ["<"]}, "#/structures/0/schema/a/type", "is wrong"),
        ({"structures": [{**GET, "begin": 1}], "triggers": ["<"]}, "#/structures/0/begin", "is not a string"),
        ({"structures": [{**GET, "begin": "<\ud800"}], "triggers": ["<"]}, "#/structures/0/begin", "surrogate"),
        ({"format": {"type": "qwen_xml_parameter"}}, "#/format/type", "cannot be enforced"),
        ({"format": {"type": ["x"]}}, "#/format/type", "cannot be enforced"),
        ({"format": []}, "#/format", "is not an object"),
        ({"format": {"type": "any_text", "max_tokens": 3}}, "#/format/max_tokens", "is not known here"),
        ({"format": {**JSON, "style": "qwen_xml"}}, "#/format/style", "only JSON"),
        ({"format": {"type": "regex", "pattern": "(a"}}, "#/format/pattern", "missing )"),
        ({"format": {"type": "grammar", "grammar": "root ::= a"}}, "#/format/grammar", "line 1, column 10"),
        ({"format": {"type": "sequence", "elements": [JSON, {"type": "or"}]}},
         "#/format/elements/1/elements", "missing"),
        ({"format": {"type": "tag", "begin": "", "content": {"type": "any_text", "excludes": ["b"]}, "end": "abc"}},
         "#", "no text at all"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_pointer(spec: dict[str, Any], place: str, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        compile_structural_tag(spec, Rules(Expressions(Budget())), compile_schema)
    error = caught.value
    assert f"{error.pointer}/{error.keyword}".rstrip("/") == place
    assert message in error.message


def test_deep_nesting_is_refused() -> None:
    spec: dict[str, Any] = TEXT
    for _ in range(1_000):
        spec = sequence(spec)
    with pytest.raises(SchemaError, match="formats within formats"):
        compile_structural_tag({"format": spec}, Rules(Expressions(Budget())), compile_schema)
