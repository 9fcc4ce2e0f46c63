"""forktree.grammar: a constraint (regex, JSON Schema, EBNF, structural tag) becomes token masks.

Importing this costs next to nothing: numpy and numba are loaded when a Vocabulary or Compiler is first asked for,
so `forktree.lang` can check a constraint where it is written.  Knows nothing of torch, transformers or the runtime."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .constraint import Constraint
from .errors import CompilationCancelled, EbnfError, GrammarError, GrammarTooComplex, RegexError, SchemaError

if TYPE_CHECKING:
    from .compiler import Compiler, Grammar
    from .explain import Explanation, Report
    from .front_ends import check
    from .interface import AnyGrammar, AnyMatcher
    from .matcher import Matcher, fill_masks
    from .partial_parser import Draft, Partial, PartialParser, partial
    from .python_types import parse_value, schema_of
    from .spelled import literals
    from .vocabulary import Vocabulary
    from .warm_up import warmup

__all__ = [
    "AnyGrammar",
    "AnyMatcher",
    "CompilationCancelled",
    "Compiler",
    "Constraint",
    "Draft",
    "EbnfError",
    "Explanation",
    "Grammar",
    "GrammarError",
    "GrammarTooComplex",
    "Matcher",
    "Partial",
    "PartialParser",
    "RegexError",
    "Report",
    "SchemaError",
    "Vocabulary",
    "check",
    "fill_masks",
    "literals",
    "parse_value",
    "partial",
    "schema_of",
    "warmup",
]

_HOMES = {
    "AnyGrammar": "interface",
    "AnyMatcher": "interface",
    "Compiler": "compiler",
    "Draft": "partial_parser",
    "Explanation": "explain",
    "Grammar": "compiler",
    "Matcher": "matcher",
    "Partial": "partial_parser",
    "PartialParser": "partial_parser",
    "Report": "explain",
    "Vocabulary": "vocabulary",
    "check": "front_ends",
    "fill_masks": "matcher",
    "literals": "spelled",
    "parse_value": "python_types",
    "partial": "partial_parser",
    "schema_of": "python_types",
    "warmup": "warm_up",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
