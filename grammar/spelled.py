"""What a constraint spells by itself: the runs of bytes that are forced on its shortest text.

For whoever plans a program without a vocabulary (lang's explain): plain sets, no compiled loops.  pda.py does the same
for running outputs, fast."""

from __future__ import annotations

from collections.abc import Iterator

from .constraint import Constraint
from .front_ends import build
from .rules import DISTINCT, DISTINCT_END, EMPTY, END, LITERAL, RULE, SCOPE, SILENT, TERMINAL, Rules

MAX_BYTES = 4096

# What is left of a terminal (an expression, or the bytes of a literal), and the nodes that follow it, the nearest last.
Item = tuple[int | bytes, tuple[int, ...]]


def literals(constraint: Constraint) -> list[bytes]:
    """The runs of bytes that are forced on the shortest text of a constraint, as far as MAX_BYTES.

    Raises what front_ends.check raises."""
    rules, node = build(constraint)
    walk = _Walk(rules, node)
    runs, length = [bytearray()], 0
    while length < MAX_BYTES:
        choices = walk.choices()
        if not choices:
            break
        length += 1
        if len(choices) == 1 and not walk.complete:
            runs[-1].append(next(iter(choices)))
        elif runs[-1]:
            runs.append(bytearray())
        if walk.complete:
            break
        walk.take(min(choices, key=lambda byte: (choices[byte], byte < 0x21, byte)))
    return [bytes(run) for run in runs if run]


class _Walk:
    """A set of items that moves byte by byte."""

    def __init__(self, rules: Rules, node: int) -> None:
        self._rules, self._e = rules, rules.expressions
        self._items: set[Item] = set()
        self.complete = False
        self._close((node,))

    def choices(self) -> dict[int, int]:
        """The bytes that may come next, each with the bytes that complete the text after it."""
        found: dict[int, int] = {}
        for left, stack in self._items:
            below = sum(self._rules.shortest[node] for node in stack)
            for byte, cost in self._next(left):
                found[byte] = min(found.get(byte, below + cost), below + cost)
        return found

    def _next(self, left: int | bytes) -> Iterator[tuple[int, int]]:
        if isinstance(left, bytes):
            yield left[0], len(left) - 1
            return
        for members, rest in self._e.derivatives(left):
            while members:
                low = members & -members
                yield low.bit_length() - 1, self._e.shortest[rest]
                members ^= low

    def take(self, byte: int) -> None:
        items, self._items, self.complete = self._items, set(), False
        for left, stack in items:
            if isinstance(left, bytes):
                if left[0] == byte:
                    self._enter(left[1:], len(left) == 1, stack)
                continue
            for members, rest in self._e.derivatives(left):
                if members >> byte & 1:
                    self._enter(rest, self._e.nullable[rest], stack)

    def _enter(self, left: int | bytes, may_end: bool, stack: tuple[int, ...]) -> None:
        if left and not (isinstance(left, int) and not self._e.derivatives(left)):
            self._items.add((left, stack))
        if may_end:
            self._close(stack)

    def _close(self, stack: tuple[int, ...]) -> None:
        waiting, seen = [stack], set()
        while waiting:
            stack = waiting.pop()
            if stack in seen:
                continue
            seen.add(stack)
            if not stack:
                self.complete = True
                continue
            below = stack[:-1]
            for op, target, then in self._rules.edges(stack[-1]):
                after = below if then == EMPTY else (*below, then)
                if op == END:
                    waiting.append(below)
                elif op == TERMINAL:
                    self._enter(self._rules.parts[target], self._e.nullable[self._rules.parts[target]], after)
                elif op in (LITERAL, SILENT):
                    self._items.add((self._rules.parts[target], after))
                elif op == DISTINCT_END:
                    waiting.append(after)
                elif op in (RULE, SCOPE, DISTINCT):
                    waiting.append((*after, target))
