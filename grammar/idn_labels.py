"""Internationalised host names (RFC 5890 to 5893), as far as a pattern over their characters can tell.

Here: names of labels whose characters are valid wherever they stand.  Not here: characters with contextual rules (RFC
5892, appendix A), labels xn--..., labels of over 15 characters, whose encoded form might exceed 63."""

from __future__ import annotations

import unicodedata
from functools import cache

from .char_classes import Ranges, complement, intersection, normalised
from .unicode_properties import named

LONGEST = 15  # characters of a label that is not ASCII

_STABLE = ((0x4E00, 0x9FFF), (0xAC00, 0xD7A3))  # as they are under NFKC and case folding
_REFUSED: Ranges = normalised([
    (0x1100, 0x11FF), (0xA960, 0xA97F), (0xD7B0, 0xD7FF),  # old Hangul jamo
    (0x034F, 0x034F), (0x17B4, 0x17B5), (0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF),  # ignorable
    (0x302E, 0x302F),  # tone marks
])  # fmt: skip
_EXCEPTIONS = "\xdf\u03c2\u0f0b\u3007"  # valid, though case folding changes some of them


@cache
def idn_hostname(ascii_hostname: str) -> str:
    """The pattern of host names, given that of ASCII ones."""
    left, right, marks = _characters()
    start, more = _in_class(left), _in_class(marks)
    label = rf"[a-z0-9{start}](?:-?[a-z0-9{start}]|[{more}]){{0,{LONGEST - 1}}}"
    # Where one label goes from right to left, none may begin with a digit (RFC 5893, section 2).
    other = rf"(?:[{_in_class(right)}]{{1,{LONGEST}}}|[a-z][a-z0-9]{{0,62}})"
    return rf"(?:{ascii_hostname}|{label}(?:\.{label}){{0,2}}|{other}(?:\.{other}){{0,2}})"


def _characters() -> tuple[Ranges, Ranges, Ranges]:
    """(letters from left to right, letters from right to left, marks)"""
    composing = {
        ord(parts[1])
        for code in (*range(0xD800), *range(0xE000, 0x20000))
        if len(parts := [chr(int(p, 16)) for p in unicodedata.decomposition(chr(code)).split() if "<" not in p]) > 1
    }
    found: dict[str, list[tuple[int, int]]] = {"L": list(_STABLE), "R": [], "mark": []}
    beyond = complement(normalised([(0, 0x7F), *_STABLE, *_REFUSED]))
    for category in ("Ll", "Lo", "Mn", "Mc"):
        for low, high in intersection(named(category) or (), beyond):
            for code in range(low, high + 1):
                c = chr(code)
                folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", c).casefold())
                if folded != c and c not in _EXCEPTIONS:
                    continue
                direction = unicodedata.bidirectional(c)
                if category in ("Ll", "Lo"):
                    kind = "L" if direction == "L" else "R" if direction in ("R", "AL") else ""
                else:
                    fits = unicodedata.combining(c) in (0, 9) and direction in ("L", "NSM")
                    kind = "mark" if fits and code not in composing else ""
                if kind:
                    found[kind].append((code, code))
    return normalised(found["L"]), normalised(found["R"]), normalised(found["mark"])


def _in_class(ranges: Ranges) -> str:
    return "".join(rf"\U{low:08X}-\U{high:08X}" for low, high in ranges)
