"""The texts of an expression one by one, where they are few."""

from __future__ import annotations

from .expressions import Expressions


def few_texts(expressions: Expressions, e: int, limit: int) -> list[bytes] | None:
    """All texts of an expression, shortest first; None if they are more than `limit`."""
    found: list[bytes] = []
    level: list[tuple[bytes, int]] = [(b"", e)]
    while level:
        following: list[tuple[bytes, int]] = []
        for text, left in level:
            if expressions.nullable[left]:
                found.append(text)
            for members, rest in expressions.derivatives(left):
                if members.bit_count() + len(following) + len(found) > limit:
                    return None
                following += [(text + bytes((b,)), rest) for b in range(256) if members >> b & 1]
        if len(found) > limit:
            return None
        level = following
    return found
