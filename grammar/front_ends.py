"""Constraint -> a node of rules: the one place that knows all front ends.  Needs neither numba nor a vocabulary.

Here: building, checking, what a constraint spells by itself.  Not here: automata and masks (compiler.py)."""

from __future__ import annotations

from .constraint import Constraint
from .errors import GrammarTooComplex
from .expressions import ALL_BYTES, Expressions
from .limits import COMPILE_SECONDS, COMPILE_STEPS, Budget
from .regex import compile_regex
from .rules import Rules


def build(constraint: Constraint, expressions: Expressions | None = None) -> tuple[Rules, int]:
    """(rules, the node to match), or the error that the constraint deserves."""
    if expressions is None:
        expressions = Expressions(Budget(), ALL_BYTES)
    expressions.budget.renew(COMPILE_STEPS, COMPILE_SECONDS)
    rules = Rules(expressions)
    try:
        return rules, _node(constraint, rules)
    except RecursionError:
        raise GrammarTooComplex("is nested too deeply", place=expressions.budget.place) from None


def _node(constraint: Constraint, rules: Rules) -> int:
    if constraint.kind == "regex":
        return rules.terminal(compile_regex(constraint.text, rules.expressions))
    from .json_schema import compile_schema

    return compile_schema(constraint.text, rules)


def check(constraint: Constraint) -> None:
    """Raise what Compiler.compile would raise, without a vocabulary: RegexError, SchemaError, GrammarTooComplex."""
    build(constraint)
