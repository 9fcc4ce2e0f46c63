"""Sets of characters as sorted code point ranges.

Not here: pattern syntax (regex_syntax.py), how characters are written (char_writers.py).  Surrogates are no characters:
UTF-8 has no form for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache

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


@lru_cache(maxsize=1024)
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
    result: list[tuple[int, int]] = []
    i = j = 0
    while i < len(a) and j < len(b):
        low, high = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if low <= high:
            result.append((low, high))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(result)


def contains(ranges: Ranges, code: int) -> bool:
    return any(low <= code <= high for low, high in ranges)


def within(a: Ranges, b: Ranges) -> bool:
    return not intersection(a, complement(b))


def of_text(text: str) -> Ranges:
    return normalised((ord(c), ord(c)) for c in text)


# ---- classes of pattern syntax ----------------------------------------------------------------------------------

DIGITS: Ranges = ((0x30, 0x39),)
ASCII_WORD: Ranges = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
ASCII_SPACE: Ranges = ((0x09, 0x0D), (0x20, 0x20))
ECMA_SPACE = normalised((ord(c), ord(c)) for c in "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff")
ECMA_SPACE = normalised((*ECMA_SPACE, (0x2000, 0x200A)))


# Before Python 3.14, neither \b nor \B matches an empty text.
EMPTY_TEXT_IS_NO_BOUNDARY = re.search(r"\B", "") is not None


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
