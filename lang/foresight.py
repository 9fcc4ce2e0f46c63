"""When a run's model calls are planned before the program's own code runs, and how.

Here: plan_ahead for one run and for a batch.  Not here: what a program may do so that this is allowed (purity), the
trace, the plan, following it (ahead).  Imported by program."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from inspect import BoundArguments
from typing import TYPE_CHECKING

from .ahead import RunAhead
from .backends.protocol import Backend, ChatFormat, ProgramBackend
from .executor import Run
from .loop import loop_thread
from .plan import Plan, make_plan, merge_plans
from .purity import is_plain_data, why_not_foreseeable
from .trace import trace_function

if TYPE_CHECKING:
    from .graph import PrefixGraph
    from .program import Program

__all__ = ["ITEMS_AT_ONCE", "is_foreseen", "is_worth_it", "plan_ahead"]

ITEMS_AT_ONCE = 256  # runs of a batch whose calls are sent together
_MOST_TEXT = 32 * 1024 * 1024  # characters of one program call; beyond, runs ask for themselves

log = logging.getLogger("forktree.lang")


def plan_ahead(program: Program, runs: Sequence[tuple[Run, BoundArguments]]) -> None:
    """Trace each run, send what an engine can do by itself in one call, and tell each run of it.

    Does nothing where the backend can't run programs, or where tracing might do what only a run should."""
    if not runs or not is_foreseen(program, runs[0][0].backend, [arguments for _, arguments in runs]):
        return
    graphs = [trace_function(program.name, program.func, arguments, run.options) for run, arguments in runs]
    chat = _chat_format(graphs, runs[0][0])
    plans = [make_plan(graph, chat, run.options) for graph, (run, _) in zip(graphs, runs, strict=True)]
    worth_it = [at for at, plan in enumerate(plans) if is_worth_it(plan, len(plans))]
    for merged in merge_plans([plans[at] for at in worth_it]):
        backend = runs[0][0].backend
        assert isinstance(backend, ProgramBackend)
        ahead = RunAhead(backend, merged.plan, merged.arguments, stream=runs[0][0].stream)
        for item, at in zip(ahead.items, merged.runs, strict=True):
            runs[worth_it[at]][0].ahead = item
        ahead.start()


def is_foreseen(program: Program, backend: Backend, runs: Sequence[BoundArguments]) -> bool:
    """Whether runs with these arguments may be traced, and what they ask be sent ahead."""
    if program.foresee is False or not isinstance(backend, ProgramBackend) or not backend.runs_programs:
        return False
    if program.foresee:
        return True
    reason = why_not_foreseeable(program.func)
    if reason is None and all(is_plain_data(arguments.arguments) for arguments in runs):
        return True
    log.debug("program %r is not run ahead: %s", program.name, reason or "an argument is no plain data")
    return False


def _chat_format(graphs: Sequence[PrefixGraph], run: Run) -> ChatFormat | None:
    if not any(node.kind == "role_begin" for graph in graphs for node in graph.nodes):
        return None
    try:
        run.model = loop_thread().call(run.backend.model_info())
    except Exception:  # the run meets it again, where it has a node and a line
        return None
    return run.model.chat_format if run.model is not None else None


def is_worth_it(plan: Plan, num_runs: int) -> bool:
    """A single call by itself gains nothing from company."""
    num_chars = sum(len(piece) for node in plan.nodes for piece in node.pieces if isinstance(piece, str))
    return plan.num_calls >= (2 if num_runs == 1 else 1) and num_chars <= _MOST_TEXT
