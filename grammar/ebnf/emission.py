"""A context-free grammar -> a node of `Rules`.

Here: which parts are regular and become one terminal, writing the rest as rules built when they are entered.
Not here: nodes (cfg.py), left recursion (recursion.py).

A terminal costs the automaton one state where rules cost a stack, so whatever has no recursion becomes one expression,
up to a size: an expression that repeats another holds it twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..expressions import EMPTY as EMPTY_EXPRESSION
from ..expressions import INFINITE
from ..expressions import REPEAT as EXPRESSION_REPEAT
from ..rules import EMPTY as NO_TEXT
from ..rules import NEVER as NO_NODE
from ..rules import Rules
from .cfg import CHOICE, EMPTY_KIND, REFERENCE, REPEAT, SEQUENCE, TERMINAL, Cfg, components
from .factoring import factor
from .recursion import complete, node_without_empty, remove_left_recursion, right_linear

MOST_TERMINALS = 500  # in one expression
DEEPEST = 40  # expressions within each other: derivatives recurse


class Regular:
    """What is known of a node without recursion: its expression, the terminals in it, how deep it is."""

    __slots__ = ("depth", "expression", "size")

    def __init__(self, expression: int, size: int, depth: int) -> None:
        self.expression, self.size, self.depth = expression, size, depth


def emit(cfg: Cfg, start: str, rules: Rules, identity: str) -> int | None:
    """The node for the texts of rule `start`, or None if it has none.   identity: tells this grammar from all others"""
    if not cfg.trim(start):
        return None
    remove_left_recursion(cfg, start)
    return _Emission(cfg, rules, identity).run(start)


class _Emission:
    def __init__(self, cfg: Cfg, rules: Rules, identity: str) -> None:
        self._cfg, self._rules, self._identity = cfg, rules, identity
        self._regular_rules: dict[str, Regular | None] = {}
        self._regular: dict[int, Regular | None] = {}
        self._shortest: dict[str, int] = {}
        self._emitted: dict[int, int] = {}

    def run(self, start: str) -> int:
        cfg = self._cfg
        mentioned = {name: cfg.references(body) for name, body in cfg.bodies.items()}
        for component in components(list(cfg.bodies), mentioned.__getitem__):
            name = component[0]
            recursive = len(component) > 1 or name in mentioned[name]
            if recursive:
                body = right_linear(cfg, name) if len(component) == 1 else None
                complete(cfg)
                regular = None if body is None else self._find_regular(body)
            else:
                regular = self._find_regular(cfg.bodies[name])
            self._regular_rules.update(dict.fromkeys(component, regular))
        self._drop_empty_rounds()
        factor(cfg, lambda node: self._find_regular(node) is not None)
        self._shortest = cfg.shortest()
        return self._of_rule(start)

    # ---- regular parts --------------------------------------------------------------------------------------------

    def _find_regular(self, root: int) -> Regular | None:
        """Rules that `root` mentions have been looked at, or are recursive with it."""
        cfg, expressions, known = self._cfg, self._rules.expressions, self._regular
        for n in cfg.upwards((root,), known):
            kind, parts = cfg.kind[n], cfg.parts[n]
            if kind == TERMINAL:
                known[n] = Regular(parts, 1, 1)
            elif kind == EMPTY_KIND:
                known[n] = Regular(EMPTY_EXPRESSION, 0, 0)
            elif kind == REFERENCE:
                known[n] = self._regular_rules.get(parts)
            elif kind == SEQUENCE:
                first, rest = known[parts[0]], known[parts[1]]
                both = _fitting((first, rest))
                if both is not None and first is not None and rest is not None:
                    both.expression = expressions.concat(first.expression, rest.expression)
                    both.depth = max(first.depth + 1, rest.depth)
                known[n] = both
            elif kind == CHOICE:
                members = [known[member] for member in parts]
                any_ = _fitting(members)
                if any_ is not None:
                    any_.expression = expressions.alternative(m.expression for m in members if m is not None)
                known[n] = any_
            elif kind == REPEAT:
                round_ = known[parts[0]]
                again = _fitting((round_,))
                if again is not None and round_ is not None:
                    again.expression = expressions.repeat(round_.expression, *parts[1:])
                known[n] = again
            else:
                known[n] = None  # NEVER: has no expression that could be a terminal
        return known[root]

    # ---- rules ------------------------------------------------------------------------------------------------------

    def _drop_empty_rounds(self) -> None:
        """Rounds of a repetition that can be empty would be left recursion: A* enters A again without a byte."""
        cfg = self._cfg
        done: set[str] = set()
        while len(done) < len(cfg.bodies):
            for name in [name for name in cfg.bodies if name not in done]:
                done.add(name)
                new: dict[int, int] = {}
                for n in cfg.upwards((cfg.bodies[name],), new):
                    kind, parts = cfg.kind[n], cfg.parts[n]
                    if kind == SEQUENCE:
                        new[n] = cfg.sequence(new[parts[0]], new[parts[1]])
                    elif kind == CHOICE:
                        new[n] = cfg.choice(new[member] for member in parts)
                    elif kind == REPEAT and cfg.nullable(parts[0]) and self._find_regular(n) is None:
                        new[n] = cfg.repeat(node_without_empty(cfg, new[parts[0]]), 0, parts[2])
                    elif kind == REPEAT:
                        new[n] = cfg.repeat(self._round(new[parts[0]], *parts[1:]), *parts[1:])
                    else:
                        new[n] = n
                cfg.bodies[name] = new[cfg.bodies[name]]
            complete(cfg)

    def _round(self, node: int, least: int, most: int) -> int:
        """What to repeat in the place of `node`: (a | b+)* is (a | b)*, which reads a text in one way, not in many."""
        cfg, expressions = self._cfg, self._rules.expressions
        if least > 1 or most < INFINITE or self._find_regular(node) is not None:
            return node
        members = cfg.members(cfg.bodies[cfg.parts[node]] if cfg.kind[node] == REFERENCE else node)
        rounds = []
        for member in members:
            kind, parts = cfg.kind[member], cfg.parts[member]
            if kind == TERMINAL and expressions.kind[parts] == EXPRESSION_REPEAT:
                body, low, high = expressions.parts[parts]
                member = cfg.terminal(body) if low == 1 and high >= INFINITE else member
            elif kind == REPEAT and parts[1] == 1 and parts[2] >= INFINITE:
                member = parts[0]
            rounds.append(member)
        return node if rounds == list(members) else cfg.choice(rounds)

    def _of_rule(self, name: str) -> int:
        regular = self._regular_rules.get(name)
        if regular is not None:
            node = self._rules.terminal(regular.expression)
        else:
            key = ("ebnf", self._identity, name)
            shortest = self._shortest.get(name, INFINITE)
            node = self._rules.rule(key, lambda: self._emit(self._cfg.bodies[name]), shortest)
        place = (f"rule {name}", "")
        if self._rules.places.setdefault(node, place) != place:
            self._rules.places[node] = ("", "")  # of several rules
        return node

    def _emit(self, root: int) -> int:
        cfg, rules, known = self._cfg, self._rules, self._emitted

        def needed(n: int) -> Sequence[int]:
            if self._find_regular(n):
                return ()
            return cfg.items(n) if cfg.kind[n] == SEQUENCE else cfg.children(n)  # what a sequence ends with: not alone

        for n in cfg.upwards((root,), known, needed):
            regular = self._find_regular(n)
            kind, parts = cfg.kind[n], cfg.parts[n]
            if regular is not None:
                known[n] = rules.terminal(regular.expression)
            elif kind == REFERENCE:
                known[n] = self._of_rule(parts)
            elif kind == SEQUENCE:
                known[n] = self._sequence(n)
            elif kind == CHOICE:
                known[n] = self._choice(parts)
            elif kind == REPEAT:
                known[n] = rules.repeat(known[parts[0]], *parts[1:])
            else:
                known[n] = NO_NODE
        return known[root]

    def _sequence(self, node: int) -> int:
        """Neighbours that are regular become one terminal."""
        expressions, rules = self._rules.expressions, self._rules
        done: list[int] = []
        run: list[int] = []
        size = 0
        for item in self._cfg.items(node):
            regular = self._find_regular(item)
            if regular is None or size + regular.size > MOST_TERMINALS:
                done.append(rules.terminal(expressions.sequence(*run)))
                run, size = [], 0
            if regular is None:
                done.append(self._emitted[item])
            else:
                run.append(regular.expression)
                size += regular.size
        return rules.sequence(*done, rules.terminal(expressions.sequence(*run)))

    def _choice(self, members: Iterable[int]) -> int:
        """Alternatives that are regular become one terminal."""
        expressions: list[int] = []
        others: list[int] = []
        for member in members:
            regular = self._find_regular(member)
            if regular is not None:
                expressions.append(regular.expression)
            else:
                others.append(self._emitted[member])
        together = self._rules.terminal(self._rules.expressions.alternative(expressions))
        return self._rules.choice((NO_TEXT, *others) if together == NO_TEXT else (together, *others))


def _fitting(parts: Iterable[Regular | None]) -> Regular | None:
    """The measures of what consists of `parts`; None if one is not regular or the whole would be too large."""
    size = depth = 0
    for part in parts:
        if part is None:
            return None
        size, depth = size + part.size, max(depth, part.depth + 1)
    return Regular(EMPTY_EXPRESSION, size, depth) if size <= MOST_TERMINALS and depth <= DEEPEST else None
