"""Free text as expressions: any characters, without certain words, or up to the first of them.

As intersections: what is left after each byte is one of few states, one per beginning of a word that has been written,
and where none has, plain text leads back to the same state."""

from __future__ import annotations

from collections.abc import Iterable

from . import char_classes as chars
from .char_writers import Utf8Writer
from .expressions import NOTHING, Expressions


def containing_none(expressions: Expressions, words: Iterable[bytes]) -> int:
    """Any text in which none of the words (each of one byte or more) stands."""
    return expressions.both((_text(expressions),), minus=_somewhere(expressions, words, after=0))


def up_to_first(expressions: Expressions, word: bytes, words: Iterable[bytes]) -> int:
    """Any text that ends with `word`, no word of `words` standing anywhere before that end."""
    ending = expressions.concat(_text(expressions), expressions.literal(word))
    return expressions.both((ending,), minus=_somewhere(expressions, words, after=1))


def _text(expressions: Expressions) -> int:
    return expressions.repeat(Utf8Writer(expressions)(chars.ALL), 0)


def _somewhere(expressions: Expressions, words: Iterable[bytes], after: int) -> int:
    """Bytes with a word in them and at least `after` more bytes behind it."""
    anything = expressions.repeat(expressions.any_byte, 0)
    any_word = expressions.alternative(expressions.literal(word) for word in words)
    if any_word == NOTHING:
        return NOTHING
    return expressions.sequence(anything, any_word, expressions.repeat(expressions.any_byte, after))
