r"""What \p{...} means: general categories, scripts and a few properties of Unicode.

Names are read loosely, as UTS #18 has it: case, blanks, hyphens and underscores do not count.  Categories are those of
the running Python's unicodedata."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

from .char_classes import ALL, DIGITS, LAST, Ranges, complement, normalised
from .unicode_tables import TABLES

_CATEGORIES = {
    "l": "letter", "lu": "uppercaseletter", "ll": "lowercaseletter", "lt": "titlecaseletter", "lm": "modifierletter",
    "lo": "otherletter", "m": "mark", "mn": "nonspacingmark", "mc": "spacingmark", "me": "enclosingmark", "n": "number",
    "nd": "decimalnumber", "nl": "letternumber", "no": "othernumber", "p": "punctuation", "pc": "connectorpunctuation",
    "pd": "dashpunctuation", "ps": "openpunctuation", "pe": "closepunctuation", "pi": "initialpunctuation",
    "pf": "finalpunctuation", "po": "otherpunctuation", "s": "symbol", "sm": "mathsymbol", "sc": "currencysymbol",
    "sk": "modifiersymbol", "so": "othersymbol", "z": "separator", "zs": "spaceseparator", "zl": "lineseparator",
    "zp": "paragraphseparator", "c": "other", "cc": "control", "cf": "format", "co": "privateuse", "cn": "unassigned",
}  # fmt: skip
_CATEGORY_OF = {name: short for short, long in _CATEGORIES.items() for name in (short, long)} | {
    "digit": "nd", "punct": "p", "cntrl": "cc", "combiningmark": "m",
}  # fmt: skip
_SCRIPT_OF = {
    "latn": "latin", "grek": "greek", "cyrl": "cyrillic", "armn": "armenian", "hebr": "hebrew", "arab": "arabic",
    "syrc": "syriac", "thaa": "thaana", "deva": "devanagari", "beng": "bengali", "guru": "gurmukhi", "gujr": "gujarati",
    "orya": "oriya", "taml": "tamil", "telu": "telugu", "knda": "kannada", "mlym": "malayalam", "sinh": "sinhala",
    "laoo": "lao", "tibt": "tibetan", "mymr": "myanmar", "geor": "georgian", "hang": "hangul", "ethi": "ethiopic",
    "cher": "cherokee", "khmr": "khmer", "mong": "mongolian", "hira": "hiragana", "kana": "katakana",
    "bopo": "bopomofo", "hani": "han", "yiii": "yi", "zyyy": "common", "zinh": "inherited",
}  # fmt: skip
_NOT_SCRIPTS = {"otheralphabetic", "emoji", "emojipresentation", "extendedpictographic", "whitespace", "ideographic"}


def named(name: str) -> Ranges | None:
    """The characters of \\p{name}, or None for a name that is not known."""
    key, sign, value = name.partition("=")
    plain = _loose(key)
    if sign:
        value = _loose(value)
        if plain in ("gc", "generalcategory"):
            return _category(value)
        return _script(value) if plain in ("sc", "script") else None
    for found in (_category(plain), _property(plain), _script(plain)):
        if found is not None:
            return found
    return named(plain[2:]) if plain.startswith("is") else None


def _loose(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "_- ")


def _category(name: str) -> Ranges | None:
    if name in ("lc", "casedletter", "l&"):
        return normalised((*_by_category("lu"), *_by_category("ll"), *_by_category("lt")))
    short = _CATEGORY_OF.get(name)
    return None if short is None else _by_category(short)


def _script(name: str) -> Ranges | None:
    name = _SCRIPT_OF.get(name, name)
    return None if name in _NOT_SCRIPTS or name not in TABLES else _table(name)


def _property(name: str) -> Ranges | None:
    if name in ("any", "ascii", "assigned"):
        return {"any": ALL, "ascii": ((0, 0x7F),)}.get(name) or complement(_by_category("cn"))
    if name in ("alphabetic", "alpha"):
        return normalised((*_by_category("l"), *_by_category("nl"), *_table("otheralphabetic")))
    if name == "alnum":
        return normalised((*(_property("alpha") or ()), *_by_category("nd")))
    if name in ("lowercase", "lower"):
        return _where(str.islower)
    if name in ("uppercase", "upper"):
        return _where(str.isupper)
    if name in ("xidstart", "idstart"):
        return complement(normalised([*complement(_where(str.isidentifier)), (0x5F, 0x5F)]))
    if name in ("xidcontinue", "idcontinue"):
        return _where(lambda c: ("a" + c).isidentifier())
    if name in ("xdigit", "hexdigit", "asciihexdigit"):
        wide = () if name == "asciihexdigit" else ((0xFF10, 0xFF19), (0xFF21, 0xFF26), (0xFF41, 0xFF46))
        return normalised((*DIGITS, (0x41, 0x46), (0x61, 0x66), *wide))
    if name in ("space", "whitespace"):
        return _table("whitespace")
    return _table(name) if name in _NOT_SCRIPTS else None


@cache
def _table(name: str) -> Ranges:
    pairs = (text.partition("-") for text in TABLES[name].split())
    return normalised((int(low, 16), int(high or low, 16)) for low, _, high in pairs)


_EVERY = (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200))  # beyond: private use and unassigned


@cache
def _where(test: Callable[[str], bool]) -> Ranges:
    return normalised((code, code) for code in _EVERY if test(chr(code)))


@cache
def _by_category(short: str) -> Ranges:
    return normalised(pair for name, pairs in _categories().items() if name.startswith(short) for pair in pairs)


@cache
def _categories() -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {}
    start, current = 0, unicodedata.category("\0")
    category = unicodedata.category
    for code in (*range(1, 0x40000), *range(0xE0000, 0xE0200)):
        name = category(chr(code))
        if name != current or code == 0xE0000:
            found.setdefault(current.lower(), []).append((start, code - 1))
            start, current = code, name
    found.setdefault(current.lower(), []).append((start, 0xEFFFF))
    found.setdefault("co", []).extend(((0xF0000, 0xFFFFD), (0x100000, LAST - 2)))
    found.setdefault("cn", []).extend(((0xFFFFE, 0xFFFFF), (LAST - 1, LAST)))
    return found
