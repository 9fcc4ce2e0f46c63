"""Constraint -> a node of rules: the one place that knows all front ends.  Needs neither numba nor a vocabulary.

Here: building, checking.  Not here: what a constraint spells by itself (spelled.py), masks (compiler.py)."""

from __future__ import annotations

import json
from typing import Any

from .constraint import Constraint
from .errors import GrammarTooComplex
from .expressions import Expressions
from .limits import COMPILE_SECONDS, COMPILE_STEPS, Budget
from .regex import compile_regex
from .rules import Rules


def build(constraint: Constraint, expressions: Expressions | None = None) -> tuple[Rules, int]:
    """(rules, the node to match), or the error that the constraint deserves."""
    if expressions is None:
        expressions = Expressions(Budget())
    expressions.budget.renew(COMPILE_STEPS, COMPILE_SECONDS)
    expressions.budget.look()  # the clock starts now
    rules = Rules(expressions)
    try:
        return rules, _node(constraint, rules)
    except RecursionError:
        raise GrammarTooComplex("is nested too deeply", place=expressions.budget.place) from None


def check(constraint: Constraint) -> None:
    """Raise what Compiler.compile would raise, without a vocabulary: RegexError, SchemaError, EbnfError,
    GrammarTooComplex."""
    build(constraint)


def _node(constraint: Constraint, rules: Rules) -> int:
    if constraint.kind == "regex":
        return rules.terminal(compile_regex(constraint.text, rules.expressions))
    if constraint.kind == "json_schema":
        return _schema(constraint.text, rules, constraint.options)
    if constraint.kind == "lark":
        from .ebnf import compile_lark

        return compile_lark(constraint.text, rules)
    if constraint.kind == "gbnf":
        from .ebnf import compile_gbnf

        return compile_gbnf(constraint.text, rules)
    from .structural_tags import compile_structural_tag

    return compile_structural_tag(json.loads(constraint.text), rules, _schema)


def _schema(text: str, rules: Rules, options: str = "") -> int:
    from .json_schema import JsonOptions, compile_schema

    if not options:
        return compile_schema(text, rules)
    found: dict[str, Any] = json.loads(options)
    if isinstance(found.get("white_space"), list):
        found["white_space"] = tuple(found["white_space"])
    return compile_schema(text, rules, JsonOptions(**found))
