r"""Unbounded repetitions that hold assertions, such as (\b\w+\b ?)+.

A place in a text is a state: the class of the character before it and of the one after it (0: none).  An assertion that
looks one character far is then a set of states, a node is a matrix of the texts that lead from state to state, and its
repetition is the closure of the matrix.   After Kleene 1956, as in McNaughton & Yamada 1960."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import char_classes as chars
from .expressions import EMPTY, INFINITE, NOTHING
from .regex_tree import Anchor, Assertion, Boundary, Choice, Node, Repeat, Sequence_

if TYPE_CHECKING:
    from .regex import Encoder

MOST_ROUNDS = 100  # of a repetition within one without a bound

State = tuple[int, int]  # (class before, class after), from 1; 0 is the start of the text, and its end
Matrix = dict[tuple[State, State], int]  # texts between states; what is not in it is NOTHING


class Cycles:
    """Repetitions within one tree."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._e = encoder, encoder.expressions
        count = len(encoder.classes) + 1
        self._states = [(before, after) for before in range(count) for after in range(count)]

    def repeat(self, node: Repeat, after: tuple[int, ...]) -> tuple[int, ...] | None:
        """The repetition and then `after`, by class before; None if an assertion in it looks further."""
        rounds = self._matrix(node)
        if rounds is None:
            return None
        found: list[list[int]] = [[] for _ in after]
        for ((before, _), (last, following)), texts in rounds.items():
            found[before].append(self._e.concat(texts, self._begins(after[last], following)))
        return tuple(self._e.alternative(options) for options in found)

    def _begins(self, e: int, following: int) -> int:
        """The part of `e` that begins with a character of the class."""
        if following == 0:
            return self._e.both((e, EMPTY))
        return self._e.both((e, self._encoder.starting(self._encoder.classes[following - 1])))

    def _matrix(self, node: Node) -> Matrix | None:
        if isinstance(node, Assertion):
            return self._assertion(node)
        if self._encoder.assertion(node) is None:
            return self._plain(node)
        if isinstance(node, Repeat):
            inner = self._matrix(node.item)
            optional = 0 if node.most >= INFINITE else node.most - node.least
            if inner is None or max(node.least, optional) > MOST_ROUNDS:
                return None
            result = self._closure(inner) if node.most >= INFINITE else self._identity()
            for _ in range(optional):
                result = self._sum([*self._product(inner, result).items(), *self._identity().items()])
            for _ in range(node.least):
                result = self._product(inner, result)
            return result
        assert isinstance(node, (Choice, Sequence_))
        parts = [self._matrix(item) for item in node.items]
        matrices = [part for part in parts if part is not None]
        if len(matrices) < len(parts):
            return None
        if isinstance(node, Choice):
            return self._sum(edge for matrix in matrices for edge in matrix.items())
        result = self._identity()
        for matrix in matrices:
            result = self._product(result, matrix)
        return result

    def _assertion(self, node: Assertion) -> Matrix | None:
        classes = self._encoder.classes
        if isinstance(node, Boundary):
            word = [False, *(chars.within(c, node.word) for c in classes)]
            passed = [s for s in self._states if (word[s[0]] != word[s[1]]) != node.negated]
            if node.negated and not node.in_empty:
                passed.remove((0, 0))
        elif isinstance(node, Anchor) and not node.before_newline:
            side = 0 if node.at_start else 1
            ends = [True, *(node.lines and chars.within(c, node.line_ends) for c in classes)]
            passed = [s for s in self._states if ends[s[side]]]
        else:
            return None
        return {(s, s): EMPTY for s in passed}

    def _plain(self, node: Node) -> Matrix:
        edges: list[tuple[tuple[State, State], int]] = []
        for last, texts in enumerate(self._encoder.endings(node), 1):
            for first in range(1, len(self._encoder.classes) + 1):
                some = self._begins(texts, first)
                for state in self._states:
                    if some != NOTHING and state[1] == first:
                        edges += [((state, (last, after)), some) for after in range(len(self._encoder.classes) + 1)]
        if self._e.nullable[self._encoder.plain(node)]:
            edges += self._identity().items()
        return self._sum(edges)

    def _identity(self) -> Matrix:
        return {(s, s): EMPTY for s in self._states}

    def _sum(self, edges: Iterable[tuple[tuple[State, State], int]]) -> Matrix:
        found: dict[tuple[State, State], list[int]] = {}
        for ends, texts in edges:
            found.setdefault(ends, []).append(texts)
        return {ends: self._e.alternative(options) for ends, options in found.items()}

    def _product(self, a: Matrix, b: Matrix) -> Matrix:
        return self._sum(((i, j), self._e.concat(x, y)) for (i, k), x in a.items() for (m, j), y in b.items() if k == m)

    def _closure(self, a: Matrix) -> Matrix:
        result = dict(a)
        for k in self._states:
            around = self._e.repeat(result.get((k, k), NOTHING), 0)
            into = [(i, x) for (i, m), x in result.items() if m == k]
            out = [(j, y) for (m, j), y in result.items() if m == k]
            through = [((i, j), self._e.sequence(x, around, y)) for i, x in into for j, y in out]
            result = self._sum([*result.items(), *through])
        return self._sum([*result.items(), *self._identity().items()])
