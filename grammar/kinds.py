"""The kinds of expressions, and the two that every store has; expressions.py says what they mean."""

from __future__ import annotations

INFINITE = 1 << 60  # "no upper bound": of a repetition, of a length
NOTHING, EMPTY = 0, 1  # no string at all; the empty string

(NOTHING_KIND, EMPTY_KIND, BYTES, LITERAL, CONCAT, ALTERNATIVE, REPEAT, BOTH, RESIDUE, WORDS, CHARACTER) = range(11)
