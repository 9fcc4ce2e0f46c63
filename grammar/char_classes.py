"""Sets of characters as sorted code point ranges, and how they are written: as UTF-8, or inside a JSON string.

Not here: pattern syntax (regex.py).  Surrogates are no characters: UTF-8 has no form for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

from .expressions import Expressions, byte_set

Ranges = tuple[tuple[int, int], ...]  # inclusive, sorted, disjoint, not adjacent, no surrogates

LAST = 0x10FFFF
SURROGATES = (0xD800, 0xDFFF)
ALL: Ranges = ((0, 0xD7FF), (0xE000, LAST))


def normalised(ranges: Iterable[tuple[int, int]]) -> Ranges:
    merged: list[list[int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    result: list[tuple[int, int]] = []
    for low, high in merged:
        if low < SURROGATES[0]:
            result.append((low, min(high, SURROGATES[0] - 1)))
        if high > SURROGATES[1]:
            result.append((max(low, SURROGATES[1] + 1), high))
    return tuple(result)


def complement(ranges: Ranges) -> Ranges:
    result: list[tuple[int, int]] = []
    start = 0
    for low, high in ranges:
        if low > start:
            result.append((start, low - 1))
        start = high + 1
    if start <= LAST:
        result.append((start, LAST))
    return normalised(result)


def intersection(a: Ranges, b: Ranges) -> Ranges:
    return complement(normalised((*complement(a), *complement(b))))


def contains(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


def of_text(text: str) -> Ranges:
    return normalised((ord(c), ord(c)) for c in text)


# ---- classes of pattern syntax ----------------------------------------------------------------------------------

DIGITS: Ranges = ((0x30, 0x39),)
ASCII_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
ASCII_SPACE: Ranges = ((0x09, 0x0D), (0x20, 0x20))
ECMA_SPACE = normalised((ord(c), ord(c)) for c in "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff")
ECMA_SPACE = normalised((*ECMA_SPACE, (0x2000, 0x200A)))


@cache
def python_class(letter: str) -> Ranges:
    r"""What \d, \w, \s match in Python's re, asked of re itself."""
    text, codes = _assigned()
    return normalised((codes[m.start()], codes[m.end() - 1]) for m in re.finditer(rf"\{letter}+", text))


@cache
def _assigned() -> tuple[str, range]:
    """All characters of the planes that have letters, digits or blanks: those after plane 3 have none."""
    codes = range(0x40000)
    return "".join(map(chr, codes)), codes


@cache
def _case_groups() -> tuple[dict[int, int], dict[int, tuple[int, ...]]]:
    """Lower case of each character that has another one; per lower-case character, those that differ only in case.

    The rule of Python's re: two characters match if their lower-case forms do, or if the lower-case forms share an
    upper-case form."""
    lower: dict[int, int] = {}
    by_upper: dict[str, set[int]] = {}
    for code in (*range(SURROGATES[0]), *range(SURROGATES[1] + 1, 0x1E944)):  # no case beyond Adlam
        char = chr(code)
        low = ord(char.lower()[0])
        if low != code:
            lower[code] = low
        if low != code or char.upper() != char:
            by_upper.setdefault(chr(low).upper(), set()).add(low)
    same: dict[int, tuple[int, ...]] = {}
    for group in by_upper.values():
        for code in group:
            same[code] = tuple(sorted(group))
    return lower, same


@cache
def ignoring_case(ranges: Ranges, ascii_only: bool = False) -> Ranges:
    """All characters that match one of `ranges` under re.IGNORECASE."""
    if ascii_only:
        letters = [c for c in (*range(0x41, 0x5B), *range(0x61, 0x7B)) if contains(ranges, c)]
        return normalised((*ranges, *((c ^ 0x20, c ^ 0x20) for c in letters)))
    lower, same = _case_groups()
    cased = sorted({*lower, *lower.values(), *same})
    folded: set[int] = set()
    for code in cased:
        if contains(ranges, code):
            low = lower.get(code, code)
            folded.update(same.get(low, (low,)))
    return normalised((*ranges, *((c, c) for c in cased if lower.get(c, c) in folded)))


# ---- how characters are written ---------------------------------------------------------------------------------

Writer = Callable[[Ranges], int]  # characters -> the expression of one of them


def utf8_writer(expressions: Expressions) -> Writer:
    """Characters as their UTF-8 bytes."""
    known: dict[Ranges, int] = {}

    def write(ranges: Ranges) -> int:
        if ranges not in known:
            sequences = [s for low, high in ranges for s in _utf8_sequences(low, high)]
            known[ranges] = _alternative_of_sequences(expressions, sequences)
        return known[ranges]

    return write


def json_writer(expressions: Expressions) -> Writer:
    r"""Characters in every form that they may have inside a JSON string: themselves, \n, \u000a, surrogate pairs."""
    known: dict[Ranges, int] = {}
    utf8 = utf8_writer(expressions)
    plain = complement(normalised([(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C)]))

    def write(ranges: Ranges) -> int:
        if ranges in known:
            return known[ranges]
        short = byte_set(
            *((ord(letter), ord(letter)) for letter, c in _SHORT_ESCAPES.items() if contains(ranges, ord(c)))
        )
        sequences = [s for low, high in ranges for s in _hexadecimal_sequences(low, high)]
        coded = expressions.concat(expressions.literal(b"u"), _alternative_of_sequences(expressions, sequences))
        escaped = expressions.alternative((expressions.bytes_in(short), coded))
        known[ranges] = expressions.alternative(
            (utf8(intersection(ranges, plain)), expressions.concat(expressions.literal(b"\\"), escaped))
        )
        return known[ranges]

    return write


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


def _alternative_of_sequences(expressions: Expressions, sequences: list[list[int]]) -> int:
    return expressions.alternative([expressions.sequence(*map(expressions.bytes_in, s)) for s in sequences])
