"""Structural tags (tool calls, reasoning then JSON): free text with structures in it -> a node of `Rules`.

Two forms, as SGLang and xgrammar have them:
    {"type": "structural_tag", "structures": [{"begin": .., "schema": {..}, "end": ..}], "triggers": [..]}
    {"type": "structural_tag", "format": {"type": "sequence" | "tag" | "triggered_tags" | ..., ..}}
Free text goes on until a trigger is complete for the first time; then a structure must follow whose `begin` starts with
it.  Free text that a fixed text follows (the end of its tag, the next element of its sequence) ends where that stands
first.  What is not known is refused with a JSON pointer.

Here: the formats.  Not here: free text as an expression (free_text.py), schemas (given as a callback)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .errors import EbnfError, RegexError, SchemaError
from .expressions import INFINITE
from .free_text import containing_none, up_to_first
from .rules import EMPTY, NEVER, Rules

CompileSchema = Callable[[str, Rules], int]

MAX_NESTING = 50
REFUSED = {
    "qwen_xml_parameter": "describe the parameters with a grammar",
    "token": "write the text that the token stands for",
    "exclude_token": "exclude texts with any_text",
    "any_tokens": "any_text is free text",
    "token_triggered_tags": "triggered_tags has texts as triggers",
    "token_dispatch": "triggered_tags has texts as triggers",
    "dispatch": "triggered_tags has the same with tags",
}


def compile_structural_tag(spec: dict[str, object], rules: Rules, compile_schema: CompileSchema) -> int:
    """The node for the texts of a structural tag.   Raises SchemaError, GrammarTooComplex.

    compile_schema(text, rules): the node of a JSON Schema, given as JSON text"""
    rules.expressions.budget.place = "the structural tag"
    return _Reader(spec, rules, compile_schema).read()


class _Reader:
    def __init__(self, spec: dict[str, object], rules: Rules, compile_schema: CompileSchema) -> None:
        self._spec, self._rules, self._compile_schema = spec, rules, compile_schema
        self._depth = 0

    def read(self) -> int:
        spec = self._object(self._spec, "#")
        kind = spec.get("type", "structural_tag")
        if kind != "structural_tag":
            self._fail("is not structural_tag", "#", "type", kind)
        if "format" in spec:
            self._only(spec, "#", "format")
            node = self._format(spec["format"], "#/format", ())
        else:
            self._only(spec, "#", "structures", "triggers")
            node = self._legacy(spec)
        if node == NEVER:
            self._fail("no text at all satisfies it", "#")
        return node

    def _legacy(self, spec: dict[str, Any]) -> int:
        tags: list[tuple[bytes, int]] = []
        for i, structure in enumerate(self._list(spec, "#", "structures")):
            at = f"#/structures/{i}"
            structure = self._object(structure, at)
            self._only(structure, at, "begin", "schema", "end")
            schema = self._schema(structure.get("schema", True), f"{at}/schema")
            begin, end = self._text(structure, at, "begin"), self._text(structure, at, "end", empty=True)
            tags.append((begin, self._rules.sequence(schema, self._rules.literal(end))))
        places = [f"#/structures/{i}/begin" for i in range(len(tags))]
        return self._triggered(self._triggers(spec, "#"), tags, places, (), (), at_least_one=False, once=False)

    # ---- formats --------------------------------------------------------------------------------------------------

    def _format(self, value: object, at: str, stops: Sequence[bytes]) -> int:
        """The texts of a format, followed by one of `stops` if there are any."""
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail(f"more than {MAX_NESTING} formats within formats", at)
        self._rules.expressions.budget.tick()
        spec = self._object(value, at)
        kind = spec.get("type")
        if kind is None and "begin" in spec:
            kind = "tag"
        build = FORMATS.get(kind) if isinstance(kind, str) else None
        if build is None:
            hint = REFUSED.get(kind, "") if isinstance(kind, str) else ""
            self._fail("this format cannot be enforced", at, "type", kind, hint or f"known: {', '.join(FORMATS)}")
        node = build(self, spec, at, stops)
        self._depth -= 1
        return node

    def _then(self, node: int, stops: Sequence[bytes]) -> int:
        rules = self._rules
        return rules.sequence(node, rules.choice(rules.literal(stop) for stop in stops)) if stops else node

    def _const_string(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "value")
        return self._then(self._rules.literal(self._text(spec, at, "value", empty=True)), stops)

    def _json_schema(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "json_schema", "style", "any_order")
        if spec.get("style", "json") != "json":
            self._fail("only JSON can be written", at, "style", spec["style"], "describe it with a grammar")
        if spec.get("any_order", False) is not False:
            self._fail("cannot be enforced", at, "any_order", spec["any_order"])
        if "json_schema" not in spec:
            self._fail("json_schema is missing", at)
        return self._then(self._schema(spec["json_schema"], f"{at}/json_schema"), stops)

    def _regex(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        from .regex import compile_regex

        self._only(spec, at, "pattern")
        pattern = self._string(spec, at, "pattern")
        try:
            expression = compile_regex(pattern, self._rules.expressions)
        except RegexError as error:
            self._fail(f"{error.message} (at offset {error.offset})", at, "pattern", pattern, error.hint)
        return self._then(self._rules.terminal(expression), stops)

    def _grammar(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        from .ebnf import compile_gbnf

        self._only(spec, at, "grammar")
        text = self._string(spec, at, "grammar")
        try:
            node = compile_gbnf(text, self._rules)
        except EbnfError as error:
            place = f"(at line {error.line}, column {error.column})"
            self._fail(f"{error.message} {place}", at, "grammar", text, error.hint)
        return self._then(node, stops)

    def _any_text(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "excludes")
        excludes = self._texts(spec, at, "excludes")
        expressions = self._rules.expressions
        if not stops:
            return self._rules.terminal(containing_none(expressions, excludes))
        ends = [up_to_first(expressions, stop, [*stops, *excludes]) for stop in stops]
        return self._rules.terminal(expressions.alternative(ends))

    def _sequence(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "elements")
        elements = self._list(spec, at, "elements")
        nodes: list[int] = []
        begun = False  # the text before an element has been told to end with the element's beginning
        for i, element in enumerate(elements):
            place = f"{at}/elements/{i}"
            beginning = self._beginning(elements[i + 1]) if i + 1 < len(elements) and _is_free(element) else b""
            after = stops if i == len(elements) - 1 else (beginning,) if beginning else ()
            if not begun:
                nodes.append(self._format(element, place, after))
            elif element.get("type") == "const_string":
                self._only(element, place, "value")
                nodes.append(self._then(EMPTY, after))
            else:
                nodes.append(self._then(self._tag_parts(element, place)[1], after))
            begun = bool(beginning)
        return self._rules.sequence(*nodes)

    def _beginning(self, element: object) -> bytes:
        """The fixed text that an element begins with, if any."""
        if not isinstance(element, dict):
            return b""
        key = {"const_string": "value", "tag": "begin"}.get(str(element.get("type")), "")
        value = element.get(key)
        return _utf8(value) or b"" if isinstance(value, str) else b""

    def _or(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "elements")
        elements = self._list(spec, at, "elements")
        return self._rules.choice(self._format(e, f"{at}/elements/{i}", stops) for i, e in enumerate(elements))

    def _repeat(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        kind = spec["type"]
        self._only(spec, at, "content", *(("min", "max") if kind == "repeat" else ()))
        least, most = {"optional": (0, 1), "star": (0, -1), "plus": (1, -1)}.get(kind) or (
            self._integer(spec, at, "min"), self._integer(spec, at, "max"))  # fmt: skip
        if least < 0 or (most < least and most != -1):
            self._fail("bad bounds", at, "max", most)
        content = self._format(spec.get("content"), f"{at}/content", ())
        return self._then(self._rules.repeat(content, least, INFINITE if most == -1 else most), stops)

    def _tag(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        begin, rest = self._tag_parts(spec, at)
        return self._then(self._rules.sequence(self._rules.literal(begin), rest), stops)

    def _tag_parts(self, value: object, at: str) -> tuple[bytes, int]:
        """(how a tag begins, the node of what comes after that)"""
        spec = self._object(value, at)
        self._only(spec, at, "begin", "content", "end")
        begin = self._text(spec, at, "begin", empty=True)
        ends = spec.get("end")
        if isinstance(ends, list) and ends:
            stops = self._texts(spec, at, "end")
        else:
            stops = [self._text(spec, at, "end", empty=True)]
        if "content" not in spec:
            self._fail("content is missing", at)
        return begin, self._format(spec["content"], f"{at}/content", () if stops == [b""] else stops)

    def _triggered_tags(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "triggers", "tags", "at_least_one", "stop_after_first", "excludes")
        tags = [self._tag_parts(tag, f"{at}/tags/{i}") for i, tag in enumerate(self._list(spec, at, "tags"))]
        places = [f"{at}/tags/{i}/begin" for i in range(len(tags))]
        return self._triggered(
            self._triggers(spec, at), tags, places, stops, self._texts(spec, at, "excludes"),
            at_least_one=self._flag(spec, at, "at_least_one"), once=self._flag(spec, at, "stop_after_first"),
        )  # fmt: skip

    def _tags_with_separator(self, spec: dict[str, Any], at: str, stops: Sequence[bytes]) -> int:
        self._only(spec, at, "tags", "separator", "at_least_one", "stop_after_first")
        rules = self._rules
        tags = self._list(spec, at, "tags")
        tag = rules.choice(self._format({"type": "tag", **self._object(t, f"{at}/tags/{i}")}, f"{at}/tags/{i}", ())
                           for i, t in enumerate(tags))  # fmt: skip
        separator = rules.literal(self._text(spec, at, "separator", empty=True))
        if not self._flag(spec, at, "stop_after_first"):
            tag = rules.sequence(tag, rules.repeat(rules.sequence(separator, tag), 0))
        return self._then(tag if self._flag(spec, at, "at_least_one") else rules.optional(tag), stops)

    def _triggered(
        self, triggers: Sequence[tuple[bytes, str]], tags: Sequence[tuple[bytes, int]], places: Sequence[str],
        stops: Sequence[bytes], excludes: Sequence[bytes], *, at_least_one: bool, once: bool,
    ) -> int:  # fmt: skip
        """Free text, a tag where a trigger is complete, and so on until a stop, or for as long as it likes.

        tags: (how it begins, the node after that);   places: JSON pointers of the beginnings"""
        rules, expressions = self._rules, self._rules.expressions
        words = [word for word, _ in triggers]
        for word, place in triggers:
            other = next((w for w in [*words, *stops, *excludes] if w != word and w in word), None)
            if other is not None:
                self._fail(f"can never be complete: it contains {other.decode()!r}", place, value=word.decode())
        for (begin, _), place in zip(tags, places, strict=True):
            if not any(begin.startswith(word) for word in words):
                self._fail("begins with none of the triggers", place, value=begin.decode())
        everything = [*words, *stops, *excludes]
        end = EMPTY if not stops else rules.choice(rules.literal(stop) for stop in stops)

        def text_with_tags(after: int) -> int:
            ways = [rules.terminal(up_to_first(expressions, stop, everything)) for stop in stops]
            if not stops:
                ways.append(rules.terminal(containing_none(expressions, everything)))
            for word in words:
                rests = [rules.sequence(rules.literal(begin[len(word) :]), node)
                         for begin, node in tags if begin.startswith(word)]  # fmt: skip
                ways.append(rules.sequence(rules.terminal(up_to_first(expressions, word, everything)),
                                           rules.choice(rests), after))  # fmt: skip
            return rules.choice(ways)

        key = ("structural tag", self._identity(places[0] if places else "#"), tuple(stops))
        # Free text can always go on to a stop, or end: a shortest text has no tag in it.
        to_stops = [expressions.shortest[up_to_first(expressions, stop, everything)] for stop in stops]
        again = rules.rule(key, lambda: text_with_tags(again), min(to_stops, default=0))
        whole = [rules.sequence(rules.literal(begin), node) for begin, node in tags]
        if at_least_one:
            return rules.sequence(rules.choice(whole), end if once else again)
        return text_with_tags(end) if once else again

    def _identity(self, place: str) -> str:
        text = json.dumps(self._spec, sort_keys=True, default=repr)
        return hashlib.sha256(f"{place}\0{text}".encode(errors="replace")).hexdigest()

    # ---- parts of a specification ---------------------------------------------------------------------------------

    def _schema(self, schema: object, at: str) -> int:
        try:
            text = json.dumps(schema, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(f"the schema is not JSON: {error}", at)
        try:
            return self._compile_schema(text, self._rules)
        except SchemaError as error:
            pointer = at + error.pointer.removeprefix("#")
            raise SchemaError(
                error.message, pointer=pointer, keyword=error.keyword, value=error.value, hint=error.hint
            ) from None

    def _triggers(self, spec: dict[str, Any], at: str) -> list[tuple[bytes, str]]:
        words = self._texts(spec, at, "triggers")
        if not words:
            self._fail("at least one trigger is needed", at, "triggers", spec.get("triggers"))
        return [(word, f"{at}/triggers/{i}") for i, word in enumerate(dict.fromkeys(words))]

    def _texts(self, spec: dict[str, Any], at: str, key: str, *, empty: bool = False) -> list[bytes]:
        value = spec.get(key, [])
        if not isinstance(value, list):
            self._fail("is not a list", at, key, value)
        return [self._text({str(i): text}, f"{at}/{key}", str(i), empty=empty) for i, text in enumerate(value)]

    def _text(self, spec: dict[str, Any], at: str, key: str, *, empty: bool = False) -> bytes:
        text = self._string(spec, at, key)
        encoded = _utf8(text)
        if encoded is None:
            self._fail("half of a surrogate pair is no character", at, key, text)
        if not encoded and not empty:
            self._fail("is empty", at, key, text)
        return encoded

    def _string(self, spec: dict[str, Any], at: str, key: str) -> str:
        value = spec.get(key)
        if not isinstance(value, str):
            self._fail("is missing" if value is None else "is not a string", at, key, value)
        return value

    def _integer(self, spec: dict[str, Any], at: str, key: str) -> int:
        value = spec.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            self._fail("is not an integer", at, key, value)
        return value

    def _flag(self, spec: dict[str, Any], at: str, key: str) -> bool:
        value = spec.get(key, False)
        if not isinstance(value, bool):
            self._fail("is neither true nor false", at, key, value)
        return value

    def _list(self, spec: dict[str, Any], at: str, key: str) -> list[Any]:
        value = spec.get(key)
        if not isinstance(value, list) or not value:
            self._fail("is missing or empty" if not value else "is not a list", at, key, value)
        return value

    def _object(self, value: object, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._fail("is not an object", at, value=value)
        return value

    def _only(self, spec: dict[str, Any], at: str, *known: str) -> None:
        for key, value in spec.items():
            if key not in known and key != "type" and value is not None:
                self._fail("is not known here", at, str(key), value, f"known: {', '.join(known)}")

    def _fail(self, message: str, at: str, keyword: str = "", value: object = None, hint: str = "") -> NoReturn:
        raise SchemaError(message, pointer=at, keyword=keyword, value=value, hint=hint) from None


FORMATS: dict[str, Callable[[_Reader, dict[str, Any], str, Sequence[bytes]], int]] = {
    "const_string": _Reader._const_string,
    "json_schema": _Reader._json_schema,
    "regex": _Reader._regex,
    "grammar": _Reader._grammar,
    "any_text": _Reader._any_text,
    "sequence": _Reader._sequence,
    "or": _Reader._or,
    "optional": _Reader._repeat,
    "star": _Reader._repeat,
    "plus": _Reader._repeat,
    "repeat": _Reader._repeat,
    "tag": _Reader._tag,
    "triggered_tags": _Reader._triggered_tags,
    "tags_with_separator": _Reader._tags_with_separator,
}


def _is_free(element: object) -> bool:
    return isinstance(element, dict) and element.get("type") in ("any_text", "triggered_tags")


def _utf8(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None
