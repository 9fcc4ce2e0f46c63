"""Which part of a constraint an output is in, read off the stacks of a configuration.

A stack holds nodes to return to.  What is being written stands before such a node in the sequence that the node ends:
the nodes of values know their schema (Rules.places), the rules of objects and arrays theirs.  Equal schemas share a
node; then the name before the value tells which it is.  Used by explain.py alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from .rules import LITERAL, RULE, SEQUENCE, TERMINAL

if TYPE_CHECKING:
    from .compiler import Grammar
    from .pda.automaton import Configuration
    from .rules import Rules

MOST_PLACES = 8
DEEPEST = 64  # frames looked through
FARTHEST_NAME = 3  # pieces between the name of a property and its value: colon and blanks

_ALWAYS = ("const", "enum", "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if")
_SCALARS = (
    "pattern", "format", "minLength", "maxLength",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
)  # fmt: skip
_CONTAINERS = (
    "required", "properties", "additionalProperties", "patternProperties", "propertyNames", "minProperties",
    "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties",
    "items", "prefixItems", "additionalItems", "contains", "minItems", "maxItems", "uniqueItems", "unevaluatedItems",
)  # fmt: skip


class Place(NamedTuple):
    """Part of a constraint.   pointer: JSON pointer as a URI fragment, or the rule of a grammar;  keyword: or "" """

    pointer: str
    keyword: str = ""

    def __str__(self) -> str:
        return f"{self.pointer}/{self.keyword}" if self.keyword else self.pointer


def places_of(grammar: Grammar, here: Configuration, members: frozenset[int]) -> tuple[Place, ...]:
    """Of each way in which the output may go on, the innermost place that is known."""
    looker = _Looker(grammar)
    found: dict[Place, None] = {}
    items = [
        (state, frame)
        for state, frame, _ in here.items.tolist()
        if state > 0 or grammar._automaton.literal_from(state)[0] in members
    ]
    telling = [item for item in items if item[0] > 0 or not grammar._automaton.literal_from(item[0]).isspace()]
    for state, frame in telling or items:
        found.update(dict.fromkeys(looker.of_item(state, frame)))
        if len(found) >= MOST_PLACES:
            break
    if here.accepting and not found:
        found.update(dict.fromkeys(looker.of_root()))
    return tuple(found)[:MOST_PLACES]


class _Looker:
    def __init__(self, grammar: Grammar) -> None:
        self._automaton, self._rules = grammar._automaton, grammar._automaton.rules
        self._root = grammar._root
        self._document: Any = json.loads(grammar.constraint.text) if grammar.constraint.kind == "json_schema" else None
        self._before = _sequences(self._rules)

    def of_item(self, state: int, frame: int) -> list[Place]:
        started = not self._begins(state)
        inner = True  # nothing between the item and what stands before the node
        for node in self._nodes(frame):
            value = self._value_before(node)
            if value is not None:
                return self._with_keywords(value, started, scalar=inner and state > 0)
            container = self._container(node)
            if container is not None:
                return self._with_keywords(container, started or state > 0, scalar=False)
            inner = False
        return self.of_root(started, scalar=inner and state > 0)

    def of_root(self, started: bool = True, *, scalar: bool = False) -> list[Place]:
        pointer = self._rules.places.get(self._root, ("", ""))[0]
        if not pointer and self._document is not None:
            pointer = "#"
        return self._with_keywords(pointer, started, scalar=scalar) if pointer else []

    def _nodes(self, frame: int) -> Iterator[int]:
        frames = self._automaton.memory.frames
        for _ in range(DEEPEST):
            if frame == 0:
                return
            yield int(frames[frame, 0])
            frame = int(frames[frame, 1])

    def _begins(self, state: int) -> bool:
        """Of the value nothing is written yet: a terminal that a rule names, or the bracket of an object or array."""
        if state < 0:
            return self._automaton.literal_from(state)[:1] in (b"{", b"[")
        expression = self._automaton.states.expression_of(state)
        return expression in self._before.terminals

    def _value_before(self, node: int) -> str | None:
        """Where the value that ends before `node` has its schema, if that is one place."""
        pointers = set()
        for value in self._before.heads.get(node, ()):
            if value in self._rules.places:
                pointers.add(self._rules.places[value][0] or self._by_name(value, node))
        return (pointers.pop() or None) if len(pointers) == 1 else None

    def _by_name(self, value: int, node: int) -> str:
        """The property of the object around it that has the name written before `value`; "" if that does not tell."""
        container = self._container(node)
        if container is None:
            return ""
        names = set()
        waiting = [(value, node, 0)]
        while waiting:
            head, tail, steps = waiting.pop()
            whole = self._before.pairs[head, tail]
            for same in (whole, *self._before.rules.get(whole, ())):
                for before in self._before.heads.get(same, ()):
                    text = self._rules.parts[before] if self._rules.kind[before] == LITERAL else b""
                    if text.startswith(b'"'):
                        names.add(json.loads(text[: text.rindex(b'"') + 1]))
                    elif steps < FARTHEST_NAME:
                        waiting.append((before, same, steps + 1))
        if len(names) != 1:
            return ""
        name = names.pop().replace("~", "~0").replace("/", "~1")
        pointer = f"{container}/properties/{name}"
        return pointer if self._schema_at(pointer) is not None else ""

    def _container(self, node: int) -> str | None:
        """The schema of the object or array that goes on with `node`."""
        rules = self._rules
        while rules.kind[node] == SEQUENCE:
            node = rules.parts[node][1]
        key = rules.parts[node]
        if rules.kind[node] == RULE and isinstance(key, tuple) and len(key) > 1:
            pointer = getattr(key[1], "pointer", None)
            return pointer if isinstance(pointer, str) else None
        return None

    def _with_keywords(self, pointer: str, started: bool, *, scalar: bool) -> list[Place]:
        """The keywords of a schema that can have a say: about its kind, a value that has begun, or what it holds."""
        schema = self._schema_at(pointer)
        if not isinstance(schema, dict):
            return [Place(pointer)]
        wanted: tuple[str, ...]
        if not started:
            wanted = ("type", *_ALWAYS, *_SCALARS, *_CONTAINERS)
        else:
            wanted = _ALWAYS + (_SCALARS if scalar else _CONTAINERS)
        keywords = [keyword for keyword in wanted if keyword in schema]
        if (not started and "type" in keywords) or (not keywords and "type" in schema):
            keywords = ["type"]
        return [Place(pointer, keyword) for keyword in keywords] or [Place(pointer)]

    def _schema_at(self, pointer: str) -> Any:
        """None if there is no such place in the document itself."""
        if not pointer.startswith("#") or self._document is None:
            return None
        at = self._document
        for part in unquote(pointer[1:]).split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(at, dict) and part in at:
                at = at[part]
            elif isinstance(at, list) and part.isdecimal() and int(part) < len(at):
                at = at[int(part)]
            else:
                return None
        return at


class _Sequences:
    """heads: what stands before a node in sequences;  pairs: (head, tail) -> the sequence;  terminals: expressions
    rules: by their bodies"""

    def __init__(self) -> None:
        self.heads: dict[int, list[int]] = {}
        self.pairs: dict[tuple[int, int], int] = {}
        self.terminals: set[int] = set()
        self.rules: dict[int, list[int]] = {}


def _sequences(rules: Rules) -> _Sequences:
    found = _Sequences()
    for node, kind in enumerate(rules.kind):
        if kind == SEQUENCE:
            head, tail = rules.parts[node]
            found.heads.setdefault(tail, []).append(head)
            found.pairs[head, tail] = node
        elif kind == TERMINAL:
            found.terminals.add(rules.parts[node])
    for rule, body in rules.bodies():
        found.rules.setdefault(body, []).append(rule)
    return found
