"""The one intermediate form of all constraints: rules over byte-level terminals.

Regular expressions, JSON Schema and EBNF become nodes of one `Rules` store; the pushdown automaton (pda) runs
nodes.
Here: building nodes, what each may begin with (`edges`), shortest texts.  Not here: what a terminal is
(expressions.py), tokens, masks.

A node is an int, equal structure is the same int.  A node stands for a set of texts; every node but NEVER has at least
one, which is what keeps masks free of dead ends: whoever builds a rule says how long its shortest text is, and a rule
without any is NEVER.  Rules are built when they are first entered, so a large schema costs what is used of it, and
whatever must be remembered while writing (properties seen, items counted) stands in the key of a rule.
Rules must not be left-recursive.  Not thread-safe: the owner's lock guards a store and its expressions."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

from .errors import GrammarError
from .expressions import ALL_BYTES, INFINITE, Expressions
from .expressions import EMPTY as EMPTY_EXPRESSION
from .expressions import NOTHING as NOTHING_EXPRESSION

NEVER, EMPTY = 0, 1  # no text at all; the empty text

(NEVER_KIND, EMPTY_KIND, TERMINAL, LITERAL, SILENT, SEQUENCE, CHOICE, RULE, SCOPE, DISTINCT, DISTINCT_END) = range(11)


# One way in which a node can go on:
# op      END: it is complete;  TERMINAL, LITERAL, SILENT: bytes of node `target`;  RULE: all of node `target`;
#         SCOPE: as RULE, in a scope of its own;  DISTINCT: as RULE, its text recorded;
#         DISTINCT_END: the recorded text is complete, go on with node `then` if it is new
# target  a node
# then    the node that follows after that
Edge = tuple[int, int, int]  # op, target, then

END = EMPTY_KIND


class Rules:
    """One store of nodes.   Per node n, each list at [n]:

    kind      which of the constants above        parts     its arguments, by kind (see the constructors)
    shortest  bytes of a shortest text; 0 exactly if the empty text is one

    What a front end leaves for explanations:
    notes     (pointer, keyword, message): what it narrowed or ignored
    places    node -> (pointer, keyword or "") of the schema whose value or member the node begins;
              ("", "") for a node that several schemas have
    """

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.kind: list[int] = []
        self.parts: list[Any] = []
        self.shortest: list[int] = []
        self._ids: dict[tuple[int, Any], int] = {}
        self._builders: dict[int, Callable[[], int]] = {}  # of rules that nobody has entered yet
        self._bodies: dict[int, int] = {}
        self._edges: dict[int, tuple[Edge, ...]] = {}
        # for people (explain.py): where in its schema a node comes from, and what of it was narrowed or ignored
        self.places: dict[int, tuple[str, str]] = {}  # node -> JSON pointer, keyword
        self.notes: list[tuple[str, str, str]] = []  # JSON pointer, keyword, message
        self.has_distinct = False  # whether there is any `distinct` node
        self.is_crowded = False  # some scope must have several distinct texts: `shortest` takes no heed of them
        self._intern(NEVER_KIND, (), INFINITE)
        self._intern(EMPTY_KIND, (), 0)

    def __len__(self) -> int:
        return len(self.kind)

    # ---- constructors -------------------------------------------------------------------------------------------

    def terminal(self, expression: int) -> int:
        """The texts of an expression of this store's `expressions`.   parts: the expression"""
        if expression == NOTHING_EXPRESSION:
            return NEVER
        if expression == EMPTY_EXPRESSION:
            return EMPTY
        return self._intern(TERMINAL, expression, self.expressions.shortest[expression])

    def literal(self, text: bytes, *, silent: bool = False) -> int:
        """Exactly these bytes.   parts: bytes.   silent: not part of the text that `distinct` records (white space)"""
        if not text:
            return EMPTY
        alphabet = self.expressions.alphabet
        if alphabet != ALL_BYTES and not all(alphabet >> byte & 1 for byte in text):
            return NEVER
        return self._intern(SILENT if silent else LITERAL, text, len(text))

    def sequence(self, *nodes: int) -> int:
        """One after the other.   parts: (head, tail); the head is no sequence"""
        result = EMPTY
        for node in reversed(nodes):
            result = self._pair(node, result)
        return result

    def choice(self, nodes: Iterable[int]) -> int:
        """Any of the nodes.   parts: tuple of two or more, in the given order, none of them a choice or NEVER"""
        flat: dict[int, None] = {}
        for node in nodes:
            if self.kind[node] == CHOICE:
                flat.update(dict.fromkeys(self.parts[node]))
            elif node != NEVER:
                flat[node] = None
        members = tuple(flat)
        if len(members) < 2:
            return members[0] if members else NEVER
        return self._intern(CHOICE, members, min(self.shortest[node] for node in members))

    def optional(self, node: int) -> int:
        return self.choice((node, EMPTY))

    def repeat(self, node: int, least: int, most: int = INFINITE) -> int:
        """`node`, `least` to `most` times; unrolled as it is written, so a large count costs nothing."""
        if most == 0 or node == EMPTY or least > most:
            return EMPTY if least <= most else NEVER
        if node == NEVER:
            return EMPTY if least == 0 else NEVER
        if self.shortest[node] == 0:
            least = 0
        if least == most == 1:
            return node
        key = ("repeat", node, least, most)

        def build() -> int:
            again = self.repeat(node, max(0, least - 1), most if most >= INFINITE else most - 1)
            some = self._pair(self._not_empty(node), again)
            return self.choice((some, EMPTY)) if least == 0 else some

        return self.rule(key, build, min(INFINITE - 1, least * self.shortest[node]))

    def rule(self, key: Hashable, build: Callable[[], int], shortest: int) -> int:
        """A node whose body is built on first entry.

        key       says all that the body depends on: the same key is the same rule, and `build` is then not looked at
        shortest  bytes of a shortest text of the body, exactly; INFINITE if it has none, then the result is NEVER
        """
        if shortest >= INFINITE:
            return NEVER
        known = self._ids.get((RULE, key))
        if known is None:
            known = self._intern(RULE, key, shortest)
            self._builders[known] = build
        return known

    def scope(self, node: int) -> int:
        """`node`, where the texts of all `distinct` nodes (outside of inner scopes) differ from each other."""
        return node if node in (NEVER, EMPTY) else self._intern(SCOPE, node, self.shortest[node])

    def distinct(self, node: int) -> int:
        """`node`, with a text (without its silent bytes) that no other distinct node of the scope has written.

        Its texts must be infinitely many at every point where there is a choice, or more than the scope can ask for:
        the automaton doesn't look ahead whether an unused one is left."""
        if node in (NEVER, EMPTY):
            return node
        self.has_distinct = True
        return self._intern(DISTINCT, node, self.shortest[node])

    # ---- what the automaton asks --------------------------------------------------------------------------------

    def body(self, rule: int) -> int:
        """The body of a RULE node."""
        known = self._bodies.get(rule)
        if known is None:
            known = self._bodies[rule] = self._builders[rule]()  # which stays where it is if that fails
            self._builders.pop(rule, None)
            if self.shortest[known] != self.shortest[rule]:
                # Lengths are found without a vocabulary; one that lacks a byte makes some text longer, or impossible.
                assert self.expressions.alphabet != ALL_BYTES, f"rule {self.parts[rule]!r}: shortest is not exact"
                raise GrammarError("what the constraint allows cannot be spelled in this vocabulary")
        return known

    def bodies(self) -> Iterable[tuple[int, int]]:
        """The rules that have been entered, and their bodies."""
        return self._bodies.items()

    def edges(self, node: int) -> tuple[Edge, ...]:
        """The ways in which a node can go on; builds rules that stand at its beginning."""
        known = self._edges.get(node)
        if known is None:
            known = self._edges[node] = tuple(dict.fromkeys(self._find_edges(node)))
        return known

    def _find_edges(self, node: int) -> list[Edge]:
        found: list[Edge] = []
        waiting = [(node, EMPTY)]
        while waiting:
            node, then = waiting.pop()
            kind, parts = self.kind[node], self.parts[node]
            if kind == SEQUENCE:
                waiting.append((parts[0], self._pair(parts[1], then)))
            elif kind == CHOICE:
                waiting.extend((member, then) for member in reversed(parts))
            elif kind == EMPTY_KIND:
                if then == EMPTY:
                    found.append((END, EMPTY, EMPTY))
                else:
                    waiting.append((then, EMPTY))
            elif kind == RULE and then == EMPTY:
                waiting.append((self.body(node), EMPTY))
            elif kind == DISTINCT:
                found.append((DISTINCT, parts, self._intern(DISTINCT_END, then, self.shortest[then])))
            elif kind == DISTINCT_END:
                found.append((DISTINCT_END, EMPTY, parts))
            elif kind != NEVER_KIND:
                found.append((kind, parts if kind == SCOPE else node, then))
        return found

    # ---- interning ----------------------------------------------------------------------------------------------

    def _pair(self, head: int, tail: int) -> int:
        if head == NEVER or tail == NEVER:
            return NEVER
        if head == EMPTY:
            return tail
        if tail == EMPTY:
            return head
        if self.kind[head] == SEQUENCE:
            first, rest = self.parts[head]
            return self._pair(first, self._pair(rest, tail))
        return self._intern(SEQUENCE, (head, tail), min(INFINITE - 1, self.shortest[head] + self.shortest[tail]))

    def _not_empty(self, node: int) -> int:
        """A repetition's rounds need not be empty: of a choice, the empty member is left out."""
        if self.kind[node] == CHOICE and EMPTY in self.parts[node]:
            return self.choice(member for member in self.parts[node] if member != EMPTY)
        return node

    def _intern(self, kind: int, parts: Any, shortest: int) -> int:
        key = (kind, parts)
        known = self._ids.get(key)
        if known is not None:
            return known
        self.expressions.budget.tick()
        node = len(self.kind)
        self._ids[key] = node
        self.kind.append(kind)
        self.parts.append(parts)
        self.shortest.append(shortest)
        return node
