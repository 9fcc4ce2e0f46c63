"""A compiled regex accepts exactly what interegular's automaton of the same pattern does.

Both are deterministic, so walking them side by side through all pairs of states that one text reaches decides it, for
texts of ASCII characters."""

from __future__ import annotations

import re
from collections import deque

import interegular
import pytest

from forktree.grammar.expressions import NOTHING, Expressions
from forktree.grammar.limits import Budget
from forktree.grammar.regex import compile_regex

MOST_PAIRS = 3_000
NOWHERE = -1  # interegular leaves out the state from which nothing is accepted

PATTERNS = [
    "a", "ab*c", "(a|b)*abb", "a?b?c?", "(ab|a)(bc|c)?", "[a-f0-9]{4}", "[^a-z]+x", "a{2,4}b{0,3}", "(a{1,3}){2}",
    "(a*)*b",
    r"\d+(\.\d+)?", r"[+-]?(0|[1-9][0-9]*)", "(foo|foobar|bar)+", "x(yz?)*", "[01]*1[01]{4}",
    "(a|ab|abc)(c|bc)?d", "..a",
    r"\w+@\w+\.(com|org)", r"[ \t]*key[ \t]*=[ \t]*[^ \t]+", "(0[1-9]|1[0-2])/(3[01]|[12][0-9]|0[1-9])",
    "((a|b)(c|d)){2,3}", "[a-]b[c]",
    r'"([^"\\]|\\.)*"', "(?:ab?){3}", "a|b|", r"[\w.-]+", r"\D\W\w", r"\x41\t?", r"[^\d\W]{2}",
    "(yes|no|maybe)( (yes|no))*",
]  # fmt: skip


# Where interegular is not Python: to it, \s has no \x1c to \x1f, and a ] at the beginning ends the class.
DEPARTURES = [r"[^\s]", r"a\s", "[a-]b[]c]"]


def difference(pattern: str, to_interegular: str | None = None) -> tuple[str, bool] | None:
    """A shortest text that one accepts and the other does not, and whether it is we who do; None: there is none."""
    expressions = Expressions(Budget())
    start = compile_regex(pattern, expressions)
    theirs = interegular.parse_pattern(to_interegular or pattern).to_fsm()
    rows: dict[int, list[int]] = {}

    def row(e: int) -> list[int]:
        if e not in rows:
            rows[e] = [NOTHING] * 128
            for members, left in expressions.derivatives(e):
                for byte in range(128):
                    if members >> byte & 1:
                        rows[e][byte] = left
        return rows[e]

    seen = {(start, theirs.initial)}
    waiting = deque([(start, theirs.initial, "")])
    while waiting:
        mine, other, text = waiting.popleft()
        if expressions.nullable[mine] != (other in theirs.finals):
            return text, expressions.nullable[mine]
        for byte in range(128):
            after = row(mine)[byte], theirs.map.get(other, {}).get(theirs.alphabet[chr(byte)], NOWHERE)
            if after not in seen:
                seen.add(after)
                assert len(seen) <= MOST_PAIRS, "more pairs of states than are looked at"
                waiting.append((*after, text + chr(byte)))
    return None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_means_what_it_means_to_interegular(pattern: str) -> None:
    assert difference(pattern) is None


def test_a_difference_is_found() -> None:
    assert difference("a(b|c){2}d*", "a(b|c){2,3}d*") == ("abbb", False)


@pytest.mark.parametrize("pattern", DEPARTURES)
def test_where_interegular_differs_python_is_with_us(pattern: str) -> None:
    found = difference(pattern)
    assert found is not None
    text, accepted = found
    assert accepted == (re.fullmatch(pattern, text) is not None)
