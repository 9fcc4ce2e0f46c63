"""A context-free grammar as hash-consed nodes: what both syntaxes are read into, before it becomes rules.

Here: building nodes, which rules can be empty, shortest texts, dropping what can never be completed.
Not here: syntax (lark_syntax.py, gbnf.py), left recursion (recursion.py), the way into `Rules` (emission.py).

A node is an int, equal structure is the same int, and a node's parts have smaller numbers than itself: whatever is
worked out from the parts upwards is a loop over ascending numbers, so that deep grammars need no deep recursion."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ..alternatives import MANY
from ..expressions import EMPTY as EMPTY_EXPRESSION
from ..expressions import INFINITE, Expressions
from ..expressions import NOTHING as NOTHING_EXPRESSION

NEVER, EMPTY = 0, 1
(NEVER_KIND, EMPTY_KIND, TERMINAL, REFERENCE, SEQUENCE, CHOICE, REPEAT) = range(7)

LONGEST = 1 << 20  # bytes: a rule whose shortest text is longer is as good as one without any

Value = TypeVar("Value")


class Cfg:
    """One grammar.   bodies: rule name -> node.   Per node n, each list at [n]:

    kind     which of the constants above        parts    its arguments, by kind (see the constructors)
    """

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.bodies: dict[str, int] = {}
        self.kind: list[int] = []
        self.parts: list[Any] = []
        self.not_empty: dict[str, str] = {}  # a rule that can be empty -> the rule of its other texts (recursion.py)
        self.nullable_rules: set[str] = set()  # set by `trim`
        self._nullable: dict[int, bool] = {}
        self._ids: dict[tuple[int, Any], int] = {}
        self._intern(NEVER_KIND, ())
        self._intern(EMPTY_KIND, ())

    # ---- constructors -------------------------------------------------------------------------------------------

    def terminal(self, expression: int) -> int:
        """The texts of an expression.   parts: the expression"""
        if expression == NOTHING_EXPRESSION:
            return NEVER
        return EMPTY if expression == EMPTY_EXPRESSION else self._intern(TERMINAL, expression)

    def reference(self, name: str) -> int:
        """The texts of a rule.   parts: its name"""
        return self._intern(REFERENCE, name)

    def sequence(self, *nodes: int) -> int:
        """One after the other.   parts: (head, tail); the head is no sequence"""
        if NEVER in nodes:
            return NEVER
        result = EMPTY
        for node in reversed(nodes):
            if result == EMPTY:
                result = node
            elif node != EMPTY:
                for item in reversed(self.items(node)):
                    result = self._intern(SEQUENCE, (item, result))
        return result

    def choice(self, nodes: Iterable[int]) -> int:
        """Any of the nodes.   parts: two or more nodes, none of them a choice or NEVER"""
        flat: dict[int, None] = {}
        for node in nodes:
            if self.kind[node] == CHOICE:
                flat.update(dict.fromkeys(self.parts[node]))
            elif node != NEVER:
                flat[node] = None
        if len(flat) > MANY:
            terminals = {self.parts[node]: node for node in flat if self.kind[node] == TERMINAL}
            kept = self.expressions.with_words(set(terminals))
            for expression, node in terminals.items():
                if expression not in kept:
                    del flat[node]
            flat.update(dict.fromkeys(self.terminal(e) for e in sorted(kept - terminals.keys())))
        if len(flat) < 2:
            return next(iter(flat), NEVER)
        return self._intern(CHOICE, tuple(flat))

    def repeat(self, node: int, least: int, most: int = INFINITE) -> int:
        """`node`, `least` to `most` times.   parts: (node, least, most)"""
        if most == 0 or node == EMPTY:
            return EMPTY
        if node == NEVER:
            return EMPTY if least == 0 else NEVER
        if self.kind[node] == REPEAT:  # (x*)+ and its like
            inner, low, high = self.parts[node]
            if (high >= INFINITE and low <= 1) or (low == 0 and most >= INFINITE):
                return self.repeat(inner, low * least, INFINITE)
        return node if least == most == 1 else self._intern(REPEAT, (node, least, most))

    def _intern(self, kind: int, parts: Any) -> int:
        key = (kind, parts)
        known = self._ids.get(key)
        if known is None:
            self.expressions.budget.tick()
            known = self._ids[key] = len(self.kind)
            self.kind.append(kind)
            self.parts.append(parts)
        return known

    # ---- looking at nodes ---------------------------------------------------------------------------------------

    def items(self, node: int) -> list[int]:
        """The nodes that stand one after the other in `node`."""
        result = []
        while self.kind[node] == SEQUENCE:
            head, node = self.parts[node]
            result.append(head)
        return [*result, node]

    def members(self, node: int) -> tuple[int, ...]:
        """The alternatives of `node`."""
        return self.parts[node] if self.kind[node] == CHOICE else (node,)

    def children(self, node: int) -> Sequence[int]:
        kind = self.kind[node]
        if kind in (SEQUENCE, CHOICE):
            return self.parts[node]  # type: ignore[no-any-return]
        return self.parts[node][:1] if kind == REPEAT else ()

    def upwards(
        self, roots: Iterable[int], known: dict[int, Value], needed: Callable[[int], Sequence[int]] | None = None
    ) -> list[int]:
        """The nodes that `roots` consist of, as far as they are not `known`, parts before wholes.

        needed: the parts of a node that matter, if not all do"""
        needed = needed or self.children
        found: set[int] = set()
        waiting = list(roots)
        while waiting:
            node = waiting.pop()
            if node not in found and node not in known:
                found.add(node)
                waiting.extend(needed(node))
        for _ in range(0, len(found), 32):
            self.expressions.budget.tick()
        return sorted(found)

    def references(self, *roots: int) -> list[str]:
        """Names of the rules that the nodes mention."""
        return [self.parts[node] for node in self.upwards(roots, {}) if self.kind[node] == REFERENCE]

    def nullable(self, node: int) -> bool:
        """Whether the empty text is one of the node's."""
        known = self._nullable
        for n in self.upwards((node,), known):
            kind, parts = self.kind[n], self.parts[n]
            if kind == TERMINAL:
                known[n] = self.expressions.nullable[parts]
            elif kind == REFERENCE:
                known[n] = parts in self.nullable_rules
            elif kind == SEQUENCE:
                known[n] = known[parts[0]] and known[parts[1]]
            elif kind == CHOICE:
                known[n] = any(known[member] for member in parts)
            elif kind == REPEAT:
                known[n] = parts[1] == 0 or known[parts[0]]
            else:
                known[n] = kind == EMPTY_KIND
        return known[node]

    # ---- the whole grammar --------------------------------------------------------------------------------------

    def reachable(self, start: str) -> list[str]:
        found = {start: None}
        waiting = [start]
        seen: dict[int, None] = {}
        while waiting:
            for node in self.upwards((self.bodies[waiting.pop()],), seen):
                seen[node] = None
                if self.kind[node] == REFERENCE and self.parts[node] not in found:
                    found[self.parts[node]] = None
                    waiting.append(self.parts[node])
        return list(found)

    def shortest(self) -> dict[str, int]:
        """Bytes of a shortest text of each rule that has one of reasonable length.   After Knuth 1977."""
        nodes = self.upwards(self.bodies.values(), {})
        users: dict[int, list[int]] = {}  # node -> what it is part of
        mentions: dict[str, list[int]] = {}
        rules_of: dict[int, list[str]] = {}
        waiting: list[tuple[int, int]] = []
        for name, body in self.bodies.items():
            rules_of.setdefault(body, []).append(name)
        for n in nodes:
            kind, parts = self.kind[n], self.parts[n]
            if kind == REFERENCE:
                mentions.setdefault(parts, []).append(n)
            elif kind == TERMINAL:
                waiting.append((self.expressions.shortest[parts], n))
            elif kind == EMPTY_KIND or (kind == REPEAT and parts[1] == 0):
                waiting.append((0, n))
            for child in self.children(n):
                users.setdefault(child, []).append(n)
        heapq.heapify(waiting)
        known: dict[int, int] = {}
        rules: dict[str, int] = {}
        while waiting:
            length, n = heapq.heappop(waiting)
            if n in known or length > LONGEST:
                continue
            known[n] = length
            for name in rules_of.get(n, ()):
                rules[name] = length
                for mention in mentions.get(name, ()):
                    heapq.heappush(waiting, (length, mention))
            for user in users.get(n, ()):
                kind, parts = self.kind[user], self.parts[user]
                if kind == CHOICE:
                    heapq.heappush(waiting, (length, user))
                elif kind == REPEAT:
                    heapq.heappush(waiting, (length * parts[1], user))
                elif parts[0] in known and parts[1] in known:
                    heapq.heappush(waiting, (known[parts[0]] + known[parts[1]], user))
        return rules

    def trim(self, start: str) -> bool:
        """Drop what `start` never gets to and what can never be completed.  False if `start` cannot."""
        self.bodies = {name: self.bodies[name] for name in self.reachable(start)}
        shortest = self.shortest()
        if start not in shortest:
            return False
        self.nullable_rules = {name for name, length in shortest.items() if length == 0}
        self._nullable.clear()
        if len(shortest) < len(self.bodies):
            self.substitute(lambda name: None if name in shortest else NEVER)
        self.bodies = {name: self.bodies[name] for name in self.reachable(start)}
        return True

    def substitute(self, replacement: Callable[[str], int | None]) -> None:
        """In all bodies, put other nodes in the place of references; None: leave it."""
        new: dict[int, int] = {}
        for n in self.upwards(self.bodies.values(), {}):
            kind, parts = self.kind[n], self.parts[n]
            if kind == REFERENCE:
                other = replacement(parts)
                new[n] = n if other is None else other
            elif kind == SEQUENCE:
                new[n] = self.sequence(new[parts[0]], new[parts[1]])
            elif kind == CHOICE:
                new[n] = self.choice(new[member] for member in parts)
            elif kind == REPEAT:
                new[n] = self.repeat(new[parts[0]], *parts[1:])
            else:
                new[n] = n
        self.bodies = {name: new[body] for name, body in self.bodies.items()}

    def fresh(self, name: str, mark: str) -> str:
        """A name for a rule derived from another; no syntax can write it."""
        result = f"{name} {mark}"
        while result in self.bodies:
            result += mark
        return result


def components(names: Iterable[str], edges: Callable[[str], Iterable[str]]) -> list[list[str]]:
    """Strongly connected components, those that are pointed at first.   Tarjan 1972, without recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    on_stack: set[str] = set()
    stack: list[str] = []
    result: list[list[str]] = []
    for root in names:
        if root in index:
            continue
        work: list[tuple[str, Iterator[str]]] = []
        _enter(root, index, low, stack, on_stack, work, edges)
        while work:
            name, rest = work[-1]
            other = next(rest, None)
            if other is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == index[name]:
                    at = stack.index(name) if stack[-1] != name else len(stack) - 1
                    result.append(stack[at:])
                    on_stack.difference_update(stack[at:])
                    del stack[at:]
            elif other not in index:
                _enter(other, index, low, stack, on_stack, work, edges)
            elif other in on_stack:
                low[name] = min(low[name], index[other])
    return result


def _enter(
    name: str,
    index: dict[str, int],
    low: dict[str, int],
    stack: list[str],
    on_stack: set[str],
    work: list[tuple[str, Iterator[str]]],
    edges: Callable[[str], Iterable[str]],
) -> None:
    index[name] = low[name] = len(index)
    stack.append(name)
    on_stack.add(name)
    work.append((name, iter(edges(name))))
