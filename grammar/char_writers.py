"""How characters are written: as UTF-8, or inside a JSON string in its canonical spelling or in every one."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Protocol

from . import char_classes as chars
from .char_classes import LAST, Ranges
from .expressions import EMPTY, NOTHING, Expressions, byte_set


class Writer(Protocol):
    """Characters -> expressions."""

    def __call__(self, ranges: Ranges) -> int:
        """One character of the set."""
        ...

    def text(self, text: str) -> int:
        """These characters; NOTHING if one of them is a surrogate."""
        ...


class Utf8Writer:
    """Characters as their UTF-8 bytes."""

    def __init__(self, expressions: Expressions) -> None:
        self._e = expressions
        self._known: dict[Ranges, int] = expressions.remembered("Utf8Writer")

    def __call__(self, ranges: Ranges) -> int:
        known = self._known.get(ranges)
        if known is None:
            known = self._known[ranges] = _expression_of(self._e, _utf8_tree(ranges))
        return known

    def text(self, text: str) -> int:
        try:
            return self._e.literal(text.encode())
        except UnicodeEncodeError:
            return NOTHING


class JsonWriter:
    r"""Characters as json.dumps(..., ensure_ascii=False) writes them: themselves, \n, \u001f.   One spelling each."""

    def __init__(self, expressions: Expressions) -> None:
        self._e, self._utf8 = expressions, Utf8Writer(expressions)
        self._known: dict[Ranges, int] = expressions.remembered("JsonWriter")

    def __call__(self, ranges: Ranges) -> int:
        known = self._known.get(ranges)
        if known is None:
            spelled = [text.encode() for c, text in _ESCAPED.items() if chars.contains(ranges, c)]
            escaped = _expression_of(self._e, _tree([[1 << byte for byte in text] for text in spelled]))
            plain = self._utf8(chars.intersection(ranges, _PLAIN))
            known = self._known[ranges] = self._e.alternative((plain, escaped))
        return known

    def text(self, text: str) -> int:
        spelled = spelled_in_json(text)
        return NOTHING if spelled is None else self._e.literal(spelled)


class AnyJsonWriter:
    r"""Characters in every form that they may have inside a JSON string: themselves, \n, \u000a, surrogate pairs."""

    def __init__(self, expressions: Expressions) -> None:
        self._e, self._utf8 = expressions, Utf8Writer(expressions)
        self._known: dict[Ranges, int] = expressions.remembered("AnyJsonWriter")

    def __call__(self, ranges: Ranges) -> int:
        known = self._known.get(ranges)
        if known is None:
            e = self._e
            short = byte_set(
                *((ord(letter), ord(letter)) for letter, c in _SHORT_ESCAPES.items() if chars.contains(ranges, ord(c)))
            )
            coded = e.concat(e.literal(b"u"), _expression_of(e, _hexadecimal_tree(ranges)))
            escape = e.concat(e.literal(b"\\"), e.alternative((e.bytes_in(short), coded)))
            known = self._known[ranges] = e.alternative((self._utf8(chars.intersection(ranges, _PLAIN)), escape))
        return known

    def text(self, text: str) -> int:
        return self._e.sequence(*(self(chars.of_text(c)) for c in text))


def spelled_in_json(text: str) -> bytes | None:
    """The canonical spelling, without quotes; None if half of a surrogate pair is in it: no output can contain that."""
    try:
        return json.dumps(text, ensure_ascii=False)[1:-1].encode()
    except UnicodeEncodeError:
        return None


_PLAIN = chars.complement(chars.normalised([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]))
_ESCAPED = {c: json.dumps(chr(c))[1:-1] for c in (*range(0x20), 0x22, 0x5C)}
_SHORT_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

_UTF8_LENGTHS = ((0x00, 0x7F), (0x80, 0x7FF), (0x800, 0xFFFF), (0x10000, LAST))


def _utf8_sequences(low: int, high: int) -> list[list[int]]:
    """Code points -> sequences of sets of bytes; heads of different sequences are equal or disjoint."""
    result = []
    for first, last in _UTF8_LENGTHS:
        a, b = max(low, first), min(high, last)
        if a <= b:
            for digits in _digit_boxes(tuple(chr(a).encode()), tuple(chr(b).encode()), 0x80, 0xBF):
                result.append([byte_set(box) for box in digits])
    return result


def _digit_boxes(a: tuple[int, ...], b: tuple[int, ...], least: int, most: int) -> list[list[tuple[int, int]]]:
    """The numbers a..b of equal length, in digits, as boxes of digit ranges; digits after the first: least..most."""
    if len(a) == 1:
        return [[(a[0], b[0])]]
    if a[0] == b[0]:
        return [[(a[0], a[0]), *rest] for rest in _digit_boxes(a[1:], b[1:], least, most)]
    low, high = (least,) * (len(a) - 1), (most,) * (len(a) - 1)
    result: list[list[tuple[int, int]]] = []
    first, last = a[0], b[0]
    if a[1:] != low:
        result += [[(first, first), *rest] for rest in _digit_boxes(a[1:], high, least, most)]
        first += 1
    end: list[list[tuple[int, int]]] = []
    if b[1:] != high:
        end = [[(last, last), *rest] for rest in _digit_boxes(low, b[1:], least, most)]
        last -= 1
    if first <= last:
        result.append([(first, last), *((least, most) for _ in low)])
    return result + end


def _hexadecimal_sequences(low: int, high: int) -> list[list[int]]:
    """Code points -> what follows the u of a JSON escape, beyond the basic plane as a surrogate pair."""
    result = []
    if low <= 0xFFFF:
        result += [_hex_bytes(box) for box in _digit_boxes(_nibbles(low), _nibbles(min(high, 0xFFFF)), 0, 15)]
    if high > 0xFFFF:
        a, b = max(low, 0x10000) - 0x10000, high - 0x10000
        pairs = _digit_boxes((a >> 10, a & 0x3FF), (b >> 10, b & 0x3FF), 0, 0x3FF)
        for (high_first, high_last), (low_first, low_last) in pairs:
            heads = _digit_boxes(_nibbles(0xD800 + high_first), _nibbles(0xD800 + high_last), 0, 15)
            tails = _digit_boxes(_nibbles(0xDC00 + low_first), _nibbles(0xDC00 + low_last), 0, 15)
            for head in heads:
                for tail in tails:
                    result.append([*_hex_bytes(head), 1 << ord("\\"), 1 << ord("u"), *_hex_bytes(tail)])
    return result


def _nibbles(code: int) -> tuple[int, ...]:
    return (code >> 12, code >> 8 & 15, code >> 4 & 15, code & 15)


def _hex_bytes(box: list[tuple[int, int]]) -> list[int]:
    return [byte_set(*((ord(c), ord(c)) for d in range(a, b + 1) for c in {f"{d:x}", f"{d:X}"})) for a, b in box]


Tree = tuple[tuple[int, "Tree"], ...]  # (set of bytes, what follows one of them); () where a sequence ends


@lru_cache(maxsize=256)
def _utf8_tree(ranges: Ranges) -> Tree:
    return _tree([s for low, high in ranges for s in _utf8_sequences(low, high)])


@lru_cache(maxsize=256)
def _hexadecimal_tree(ranges: Ranges) -> Tree:
    return _tree([s for low, high in ranges for s in _hexadecimal_sequences(low, high)])


def _tree(sequences: list[list[int]]) -> Tree:
    """The sequences by what they begin with.  Of any two that go on from one place, next sets are equal or disjoint."""
    by_set: dict[int, list[list[int]]] = {}
    for members, *rest in sequences:
        by_set.setdefault(members, []).append(rest)
    by_rest: dict[Tree, int] = {}
    for members, rests in by_set.items():
        left = _tree(rests) if rests[0] else ()
        by_rest[left] = by_rest.get(left, 0) | members
    return tuple((members, left) for left, members in by_rest.items())


def _expression_of(expressions: Expressions, tree: Tree) -> int:
    return expressions.alternative(
        [
            expressions.concat(expressions.bytes_in(members), _expression_of(expressions, left) if left else EMPTY)
            for members, left in tree
        ]
    )
