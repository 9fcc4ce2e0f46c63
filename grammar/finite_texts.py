"""The texts of an expression one by one, where they are few; one expression for many given texts."""

from __future__ import annotations

from collections.abc import Iterable

from .expressions import EMPTY, Expressions


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


def any_of_texts(expressions: Expressions, texts: Iterable[bytes]) -> int:
    """Exactly these texts: a tree in which common beginnings stand once."""
    ordered = sorted(set(texts))
    # open: (length of the common beginning, what may follow it), outermost first
    open_: list[tuple[int, list[int]]] = [(0, [])]
    previous = b""
    for text in [*ordered, None]:
        common = -1 if text is None else _common(previous, text)
        if previous or open_[0][1] or text is None:
            rest, end = EMPTY, len(previous)
            while open_[-1][0] > common:
                start, options = open_.pop()
                options.append(expressions.concat(expressions.literal(previous[start:end]), rest))
                rest, end = expressions.alternative(options), start
                if not open_:
                    return rest
            if open_[-1][0] < common:
                start = common
                open_.append((start, [expressions.concat(expressions.literal(previous[start:end]), rest)]))
            elif ordered and previous is not text:
                open_[-1][1].append(expressions.concat(expressions.literal(previous[common:end]), rest))
        previous = text or b""
    return open_[0][1][0] if open_[0][1] else EMPTY


def _common(a: bytes, b: bytes) -> int:
    n = min(len(a), len(b))
    return next((i for i in range(n) if a[i] != b[i]), n)
