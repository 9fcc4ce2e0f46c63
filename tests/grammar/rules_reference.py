"""What a node of `Rules` means, in plain sets: the oracle for the pushdown automaton, and a judge for front ends.

A configuration is a set of (what is left of the current terminal, stack of frames, recorded text)."""

from __future__ import annotations

from forktree.grammar import rules as r
from forktree.grammar.expressions import EMPTY as EMPTY_EXPRESSION
from forktree.grammar.rules import Rules

# A frame: (kind of return, node to go on with, texts seen in this scope | text recorded outside)
Stack = tuple[tuple[int, int, object], ...]
Item = tuple[object, Stack, bytes | None, bool]  # left: ("e", expression) or ("l", bytes); last: silent


class Reference:
    def __init__(self, rules: Rules, node: int) -> None:
        self._rules = rules
        self._items: set[Item] = set()
        self.accepts = False
        self._close(node, (), None, set())

    @property
    def alive(self) -> bool:
        return bool(self._items) or self.accepts

    def step(self, byte: int) -> bool:
        items, self._items, self.accepts = self._items, set(), False
        visited: set[object] = set()
        for left, stack, text, silent in items:
            kind, value = left  # type: ignore[misc]
            after = text if text is None or silent else text + bytes((byte,))
            if kind == "l":
                if value[0] == byte:
                    self._into(("l", value[1:]) if len(value) > 1 else None, stack, after, silent, visited)
                continue
            e = self._rules.expressions
            for members, rest in e.derivatives(value):
                if members >> byte & 1:
                    if e.nullable[rest]:
                        self._into(None, stack, after, silent, visited)
                    if rest != EMPTY_EXPRESSION:
                        self._into(("e", rest), stack, after, silent, visited)
        return self.alive

    def accepts_text(self, text: bytes) -> bool:
        return all(self.step(byte) for byte in text) and self.accepts

    def _into(self, left: object, stack: Stack, text: bytes | None, silent: bool, visited: set[object]) -> None:
        if left is not None:
            self._items.add((left, stack, text, silent))
        else:
            self._return(stack, text, visited)

    def _return(self, stack: Stack, text: bytes | None, visited: set[object]) -> None:
        if not stack:
            self.accepts = True
            return
        (_, node, _), rest = stack[-1], stack[:-1]
        self._close(node, rest, text, visited) if stack[-1][0] != r.DISTINCT else self._close(
            node, stack, text, visited
        )

    def _close(self, node: int, stack: Stack, text: bytes | None, visited: set[object]) -> None:
        if (node, stack, text) in visited:
            return
        visited.add((node, stack, text))
        rules = self._rules
        for op, target, then in rules.edges(node):
            pushed = stack if then == r.EMPTY else (*stack, (r.RULE, then, None))
            if op == r.END:
                self._return(stack, text, visited)
            elif op in (r.LITERAL, r.SILENT):
                self._items.add((("l", rules.parts[target]), pushed, text, op == r.SILENT))
            elif op == r.TERMINAL:
                expression = rules.parts[target]
                self._items.add((("e", expression), pushed, text, False))
                if rules.expressions.nullable[expression]:
                    self._return(pushed, text, visited)
            elif op == r.RULE:
                self._close(rules.body(target), pushed, text, visited)
            elif op == r.SCOPE:
                self._close(target, (*stack, (r.SCOPE, then, frozenset())), text, visited)
            elif op == r.DISTINCT:
                self._close(target, (*stack, (r.DISTINCT, then, text)), b"", visited)
            else:  # DISTINCT_END: the frame on top is the distinct node's own
                self._end_distinct(then, stack, text, visited)

    def _end_distinct(self, then: int, stack: Stack, text: bytes | None, visited: set[object]) -> None:
        assert text is not None
        outer, frames = stack[-1][2], list(stack[:-1])
        at = max(i for i, frame in enumerate(frames) if frame[0] == r.SCOPE)
        kind, node, seen = frames[at]
        assert isinstance(seen, frozenset)
        if text in seen:
            return
        frames[at] = (kind, node, seen | {text})
        assert outer is None or isinstance(outer, bytes)
        self._close(then, tuple(frames), None if outer is None else outer + text, visited)
