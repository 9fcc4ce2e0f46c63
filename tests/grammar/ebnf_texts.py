"""Random small grammars, and all short texts that one derives: a slow judge that shares nothing with forktree."""

from __future__ import annotations

import copy
import itertools

from hypothesis import strategies as st

from forktree.grammar.ebnf import compile_gbnf, compile_lark
from forktree.grammar.errors import EbnfError
from forktree.grammar.expressions import Expressions
from forktree.grammar.limits import Budget
from forktree.grammar.rules import Rules
from tests.grammar.rules_reference import Reference

Alternatives = tuple[tuple[str, ...], ...]  # symbols: "a" "b" are themselves, A B C are rules
Productions = dict[str, Alternatives]

LONGEST = 5
TEXTS = ["".join(letters) for size in range(LONGEST + 1) for letters in itertools.product("ab", repeat=size)]


def productions(names: str = "ABC", symbols: int = 3) -> st.SearchStrategy[Productions]:
    """Grammars with all that can go wrong: left recursion, hidden and indirect, cycles, ambiguity, empty rules."""
    symbol = st.sampled_from([*"ab", *names])
    alternative = st.lists(symbol, max_size=symbols).map(tuple)
    body = st.lists(alternative, min_size=1, max_size=3).map(tuple)
    return st.fixed_dictionaries(dict.fromkeys(names, body))


def derived(grammar: Productions, start: str = "A") -> set[str]:
    """Its texts of up to LONGEST letters, as the least solution of its equations."""
    texts: dict[str, set[str]] = {name: set() for name in grammar} | {"a": {"a"}, "b": {"b"}}
    changed = True
    while changed:
        changed = False
        for name, alternatives in grammar.items():
            for alternative in alternatives:
                found = {""}
                for symbol in alternative:
                    found = {x + y for x in found for y in texts[symbol] if len(x) + len(y) <= LONGEST}
                if not found <= texts[name]:
                    texts[name] |= found
                    changed = True
    return texts[start]


def compiled(text: str, syntax: str) -> Reference | None:
    """None: no text at all can be completed."""
    rules = Rules(Expressions(Budget()))
    try:
        node = (compile_lark if syntax == "lark" else compile_gbnf)(text, rules)
    except EbnfError as error:
        if "no text at all" not in error.message:
            raise
        return None
    return Reference(rules, node)


def accepted(text: str, syntax: str, most_items: int = 3_000) -> set[str] | None:
    """The short texts that the compiled grammar accepts; None if it is too ambiguous to say, one stack per reading."""
    start = compiled(text, syntax)
    found: set[str] = set()
    waiting = [] if start is None else [("", start)]
    while waiting:
        before, reference = waiting.pop()
        if reference.accepts:
            found.add(before)
        if len(reference._items) > most_items:
            return None
        for letter in "ab" if len(before) < LONGEST else "":
            after = copy.copy(reference)
            if after.step(ord(letter)):
                waiting.append((before + letter, after))
    return found


def accepts(text: str, syntax: str, candidate: str) -> bool:
    reference = compiled(text, syntax)
    return reference is not None and reference.accepts_text(candidate.encode())
