"""forktree grammar: what a constraint allows, and why it does not allow something, without a model.

Imported by cli, which adds the command.  The work is forktree.grammar's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from forktree.grammar import Constraint

__all__ = ["KINDS", "explain_grammar", "kind_of"]

KINDS = ("json-schema", "regex", "lark", "gbnf", "structural-tag")
_BY_SUFFIX = {".json": "json-schema", ".lark": "lark", ".gbnf": "gbnf", ".ebnf": "lark", ".regex": "regex"}


def kind_of(file: Path) -> str:
    """By the name of the file; a pattern where that says nothing."""
    return _BY_SUFFIX.get(file.suffix, "regex")


def constraint_of(text: str, kind: str) -> Constraint:
    if kind == "json-schema":
        return Constraint.json_schema(text)
    if kind == "structural-tag":
        return Constraint.structural_tag(text)
    if kind == "regex":
        return Constraint.regex(text.removesuffix("\n"))
    return Constraint.gbnf(text) if kind == "gbnf" else Constraint.lark(text)


def explain_grammar(
    text: str,
    kind: str,
    *,
    prefix: str,
    token: str | None,
    say: Callable[[str], None],
    progress: Callable[[float], None],
) -> bool:
    """Say what the constraint costs; what may come after `prefix`, or why `prefix` or `token` does not fit.

    Returns whether they fit.  Raises GrammarError for a constraint that is none."""
    from forktree.grammar import Grammar, Vocabulary, warmup

    warmup(progress)  # the first time on a machine, half a minute
    vocabulary = Vocabulary([*(bytes((byte,)) for byte in range(256)), None], [256])
    grammar = Grammar(constraint_of(text, kind), vocabulary)
    matcher = grammar.matcher()
    wanted = prefix.encode()
    for i, byte in enumerate(wanted):
        if not matcher.try_advance(byte):
            say(f"after {i} of {len(wanted)} bytes: {matcher.explain_text(wanted[i:])}")
            return False
    matcher.mask()
    if token is not None:
        found = matcher.explain_text(token)
        fits = found.allowed
    else:
        found = matcher.explain(256)
        fits = True
    say(str(found))
    say(str(grammar.report()))
    return fits
