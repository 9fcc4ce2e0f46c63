"""What would otherwise be done while the first constrained request waits: loops compiled, tables worked out.

Imports numba when it is called, not before."""

from __future__ import annotations

from collections.abc import Callable

from . import front_ends
from .constraint import Constraint

UNICODE_PATTERN = r"(?i)[\w\d\s\p{Lu}\p{Alphabetic}k]"  # whatever of Unicode is worked out once, on first use
LOOPS, RUN = 0.9, 0.95  # of the progress: what has been done when loops are compiled, and have run


def warmup(on_progress: Callable[[float], None] | None = None) -> None:
    """Compile this package's loops or load them from numba's cache on disk, run each once, and build the tables of
    Unicode: half a minute the first time on a machine, less than a second in each process after that.

    on_progress: told what fraction is done, from 0 to 1"""
    report = on_progress or (lambda _fraction: None)
    from . import jit

    total, ready = jit.num_loops(), 0

    def count() -> None:
        nonlocal ready
        ready += 1
        report(LOOPS * min(1.0, ready / total))

    report(0.0)
    jit.watchers.append(count)
    try:
        from . import compiler  # noqa: F401  # and with it every loop
    finally:
        jit.watchers.remove(count)
    report(LOOPS)
    _run_everything()
    report(RUN)
    front_ends.check(Constraint.regex(UNICODE_PATTERN))
    front_ends.check(Constraint.lark('start: "a"'))  # lark is loaded for the first one
    front_ends.check(Constraint.gbnf('root ::= "a"'))
    report(1.0)


def _run_everything() -> None:
    import numpy as np

    from .compiler import Grammar
    from .vocabulary import Vocabulary

    vocabulary = Vocabulary([bytes((b,)) for b in range(256)] + [b'": "', None], [257])
    for constraint in (
        Constraint.regex("ab?"),
        Constraint.json_schema({"type": "array", "uniqueItems": True, "items": {"type": "string"}}),
    ):
        matcher = Grammar(constraint, vocabulary).matcher()
        row = np.zeros(vocabulary.num_words, dtype=np.int32)
        matcher.fill_mask(row)
        matcher.fill_mask(row, 1)
        matcher.forced()
        matcher.tokens_needed()
