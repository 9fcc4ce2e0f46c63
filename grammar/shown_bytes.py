"""Sets of bytes and short texts as people read them."""

from __future__ import annotations

from collections.abc import Iterable

MOST = 8  # pieces of a list that are shown
MOST_LEFT_OUT = 12  # characters that a set lacks and that are listed, rather than those that it has
LONGEST = 40  # bytes of a text that are shown

_GRAPHIC = range(0x20, 0x7F)
_NAMES = {0x09: "tab", 0x0A: "newline", 0x0D: "carriage return", 0x20: "a blank", 0x7F: "DEL"}


def shown_text(text: bytes) -> str:
    """In double quotes, cut short in the middle of nothing; bytes that are no text as in Python."""
    cut = text[:LONGEST]
    try:
        shown = cut.decode()
    except UnicodeDecodeError:
        return repr(cut) + ("..." if len(text) > LONGEST else "")
    quoted = shown.translate({0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r"})
    return f"«{quoted}»" + ("..." if len(text) > LONGEST else "")


def shown_set(members: frozenset[int]) -> list[str]:
    """The members of a set of bytes, in few words."""
    if not members:
        return []
    if len(members) == 256:
        return ["any byte"]
    graphic = [byte for byte in _GRAPHIC if byte in members]
    missing = [byte for byte in _GRAPHIC if byte not in members]
    parts: list[str] = []
    if len(missing) <= MOST_LEFT_OUT and len(graphic) > 1:
        but = f" but {_listed(_ranges(missing))}" if missing else ""
        parts.append(f"any graphic ASCII character{but}")
    else:
        parts += _ranges(graphic)
    parts += [_NAMES.get(byte, f"byte {byte:02x}") for byte in sorted(members) if byte < 0x20 or byte == 0x7F]
    if any(byte >= 0xC2 for byte in members):
        parts.append("characters beyond ASCII")
    if any(0x80 <= byte < 0xC0 for byte in members):
        parts.append("the rest of a character")
    return parts


def _ranges(codes: list[int]) -> list[str]:
    found: list[tuple[int, int]] = []
    for code in codes:
        if found and found[-1][1] == code - 1 and _alike(code - 1, code):
            found[-1] = (found[-1][0], code)
        else:
            found.append((code, code))
    parts = []
    for low, high in found:
        if high > low + 1:
            parts.append(f"{chr(low)}-{chr(high)}")
        else:
            parts += [_shown(code) for code in range(low, high + 1)]
    return parts


def _alike(a: int, b: int) -> bool:
    """Both digits, both small letters, or both capitals."""
    return all(chr(code).isalnum() for code in (a, b))


def _shown(code: int) -> str:
    return _NAMES.get(code) or chr(code)


def _listed(parts: Iterable[str]) -> str:
    return " ".join(parts)
