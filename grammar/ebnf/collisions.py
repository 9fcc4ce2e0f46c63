"""Terminals that can match the same text at the same place, found by interegular.

Such a grammar is no mistake for us, who have no lexer, but with one the parser would only ever see one of the two."""

from __future__ import annotations

import itertools
import logging
import re
import time
from typing import Any

from ..expressions import Expressions
from ..limits import Budget
from .lark_syntax import load
from .lark_terminals import Terminals

MOST_PAIRS = 300
LONGEST = 300  # characters of a pattern that is looked at: interegular builds whole automata

logger = logging.getLogger("forktree.grammar")


def terminal_collisions(text: str, seconds: float = 0.5) -> list[str]:
    """One line for each two regular expressions among the terminals of one place of a lark grammar that collide.

    Two are at one place if alternatives of a rule begin with them.  Fixed texts are not compared with expressions:
    every keyword is a name.  What cannot be looked at within `seconds` is left out.
    Raises what compile_lark raises."""
    grammar = load(text)
    definitions = {name: tree for name, _, tree, _ in grammar.rule_defs}
    terminals = Terminals(text, grammar.term_defs, Expressions(Budget()))
    found: list[str] = []
    deadline = time.monotonic() + seconds
    seen: set[frozenset[str]] = set()
    for rule, tree in definitions.items():
        for a, b in itertools.islice(itertools.combinations(_first(tree, definitions, terminals), 2), MOST_PAIRS):
            if time.monotonic() > deadline:
                return found
            pair = frozenset((a, b))
            if pair in seen or len(pair) < 2:
                continue
            seen.add(pair)
            example = _common(terminals.patterns[a], terminals.patterns[b])
            if example is not None:
                found.append(f"the terminals {a} and {b} can match the same text, such as {example!r} (rule {rule})")
                logger.warning(found[-1])
    return found


def _first(tree: Any, definitions: dict[str, Any], terminals: Terminals) -> list[str]:
    """Names of the regular expressions that a rule may begin with; not of what stands behind something optional."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if not hasattr(node, "data"):
            if node.is_term:
                terminals.named(node.name)
                if not _is_fixed(terminals.patterns[node.name]):
                    names[node.name] = None
            elif node.name in definitions:
                waiting.append(definitions[node.name])
        elif node.data == "expansions":
            waiting.extend(node.children)
        elif node.data in ("literal", "range"):
            terminals.literal(node)
            name = "..".join(node.children)
            if not _is_fixed(terminals.patterns[name]):
                names[name] = None
        else:
            waiting.extend(node.children[:1])
    return list(names)


def _is_fixed(pattern: str) -> bool:
    return re.fullmatch(r"(?:\\\W|[^\\()\[\]{}*+?|.^$])*", pattern) is not None


def _common(a: str, b: str) -> str | None:
    """A text that both match, or None: there is none, or interegular does not know such patterns."""
    from interegular import Comparator, InvalidSyntax, Unsupported, parse_pattern

    if max(len(a), len(b)) > LONGEST or _largest_count(a) > 100 or _largest_count(b) > 100:
        return None
    try:
        comparator = Comparator({0: parse_pattern(a), 1: parse_pattern(b)})
        if comparator.isdisjoint(0, 1):
            return None
        return str(comparator.get_example_overlap(0, 1, max_time=0.2).full_text)
    except (InvalidSyntax, Unsupported, ValueError):
        return None


def _largest_count(pattern: str) -> int:
    return max((int(number[:9]) for number in re.findall(r"[{,](\d+)", pattern)), default=0)
