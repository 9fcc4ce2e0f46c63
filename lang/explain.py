"""Explain a program like a query: which tokens its calls share, what each computes; and, run, what it did compute.

Here: explain_runs, from a program and its arguments to an Explanation.  Not here: the numbers (forecast), the values
(explanation), how they are shown.  Imported by program.

A program is traced with the arguments that are given, lowered to a plan as it is for a run, and the plan's calls are
played through a prefix cache.  Nothing is asked of the model but what texts are in its tokens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import BoundArguments
from typing import TYPE_CHECKING, Any

from .backends.protocol import Backend, ModelInfo, TokenizingBackend
from .constraints import literals_of
from .errors import ArgumentError
from .explanation import Actual, ExplainedNode, Explanation, Unplanned
from .forecast import Count, Forecast, Item, NodeForecast, forecast, texts_to_tokenize
from .foresight import is_foreseen, is_worth_it
from .graph import GenNode, PrefixGraph, SelectNode
from .graph_views import label_of, shown_source
from .loop import loop_thread
from .meta import Observed
from .nodes import caller_line
from .options import SamplingOptions
from .passes import critical_path, unread_variables
from .plan import MergedPlan, Plan, PlannedNode, make_plan, merge_plans
from .trace import trace_function

if TYPE_CHECKING:
    from .call import Call
    from .program import Program

__all__ = ["explain_runs"]

_MOST_TURNS, _TURN_SECONDS = 100, 0.01  # for a cache to become empty; one that others use never does


def explain_runs(
    program: Program,
    runs: Sequence[BoundArguments],
    options: SamplingOptions,
    backend: Backend,
    *,
    calls: Sequence[Call] | None = None,
) -> Explanation:
    """Of a batch of runs, or of one.  `calls`: the same runs, to be run now and shown beside what was planned."""
    if not isinstance(backend, TokenizingBackend):
        raise ArgumentError(
            f"explain needs a model's tokens, and {type(backend).__name__} does not tell them: name a model on this "
            f"machine, backend=ft.Runtime(), or a forktree server, backend=ft.RuntimeEndpoint(url) (at {caller_line()})"
        )
    work = _Work(program, runs, options, backend)
    planned = work.forecast()
    if calls is None:
        return work.explanation(planned)
    observed, computed, seconds = _run(program, calls, backend)
    work.observe(observed)
    return work.explanation(planned, work.forecast(), actual_computed=computed, actual_seconds=seconds)


class _Work:
    """One explanation while it is made."""

    def __init__(
        self, program: Program, runs: Sequence[BoundArguments], options: SamplingOptions, backend: TokenizingBackend
    ) -> None:
        self._program, self._options, self._backend = program, options, backend
        self._model: ModelInfo = loop_thread().call(backend.model_info())
        self._graphs = [trace_function(program.name, program.func, arguments) for arguments in runs]
        plans = [make_plan(graph, self._model.chat_format, options) for graph in self._graphs]
        foreseen = is_foreseen(program, backend, runs)
        self._is_ahead = [foreseen and is_worth_it(plan, len(plans)) for plan in plans]
        self._groups = merge_plans(plans)
        self._observed: Sequence[Mapping[Any, Observed]] = [{} for _ in runs]
        self._token_ids: Mapping[str, Sequence[int]] = {}

    def observe(self, observed: Sequence[Mapping[Any, Observed]]) -> None:
        self._observed = observed

    def forecast(self) -> Forecast:
        """Of all runs, group by group, in the order in which an engine takes them."""
        items = [self._item(group, at) for group in self._groups for at in range(len(group.runs))]
        texts = list(dict.fromkeys([*texts_to_tokenize(items), *self._literals()]))
        found = loop_thread().call(self._backend.tokenize(texts))
        self._token_ids = dict(zip(texts, found, strict=True))
        return forecast(items, self._token_ids, self._model.bos)

    def _literals(self) -> Iterator[str]:
        return (text for group in self._groups for node in group.plan.nodes for text in _forced_texts(node))

    def num_forced(self, node: PlannedNode) -> int:
        """Tokens of one output that its constraint spells by itself, if it is as short as can be."""
        return sum(len(self._token_ids[text]) for text in _forced_texts(node))

    def _item(self, group: MergedPlan, at: int) -> Item:
        run, positions = group.runs[at], group.plan.positions
        observed = {
            positions[position]: each.outputs for position, each in self._observed[run].items() if position in positions
        }
        return Item(group.plan, group.arguments[at], observed, warms_forks=not self._is_ahead[run])

    def explanation(self, planned: Forecast, again: Forecast | None = None, **actual: Any) -> Explanation:
        nodes: list[ExplainedNode] = []
        first = 0
        for group in self._groups:
            of_group = slice(first, first + len(group.runs))
            first += len(group.runs)
            shown = _Group(self, group, planned.nodes[of_group], again.nodes[of_group] if again else None)
            nodes += shown.nodes(len(nodes))
        longest = max((critical_path(graph, self._options) for graph in self._graphs), key=lambda path: path.num_calls)
        reasons = (graph.open.reason for graph in self._graphs if graph.open is not None)
        arguments = (name for graph in self._graphs for name in graph.arguments)
        unread = (name for graph in self._graphs if graph.closed for name in unread_variables(graph))
        return Explanation(
            program=self._program.name,
            model=self._model.name,
            num_runs=len(self._graphs),
            nodes=tuple(nodes),
            is_ahead=all(self._is_ahead),
            open_reasons=tuple(dict.fromkeys(reasons)),
            open_arguments=tuple(dict.fromkeys(arguments)),
            unread=tuple(dict.fromkeys(unread)),
            critical_calls=longest.num_calls,
            critical_tokens=longest.num_new_tokens,
            kept=planned.cached,
            page_size=self._model.page_size,
            num_pages=self._model.num_pages,
            unplanned=self._unplanned(),
            **actual,
        )

    def _unplanned(self) -> tuple[Unplanned, ...]:
        positions = {run: group.plan.positions for group in self._groups for run in group.runs}
        return tuple(
            _unplanned(each)
            for run, observed in enumerate(self._observed)
            for position, each in observed.items()
            if position not in positions[run]
        )

    def graph_of(self, run: int) -> PrefixGraph:
        return self._graphs[run]

    def observed_at(self, run: int, plan: Plan, index: int) -> Observed | None:
        position = plan.nodes[index].position
        return self._observed[run].get(position) if position is not None else None

    def critical_nodes(self, run: int) -> frozenset[int]:
        return frozenset(critical_path(self._graphs[run], self._options).nodes)


@dataclass
class _Group:
    """Runs whose plans differ in text only, as one tree."""

    work: _Work
    group: MergedPlan
    planned: Sequence[Sequence[NodeForecast]]  # by run, by plan node
    again: Sequence[Sequence[NodeForecast]] | None

    def nodes(self, first_id: int) -> list[ExplainedNode]:
        """Parents before their children, children in order."""
        plan = self.group.plan
        children: dict[int, list[int]] = {}
        for index, node in enumerate(plan.nodes):
            children.setdefault(node.after, []).append(index)
        order, stack = [], deque(children.get(-1, ()))
        while stack:
            order.append(index := stack.popleft())
            stack.extendleft(reversed(children.get(index, ())))
        ids = {index: first_id + at for at, index in enumerate(order)}
        readers = self._readers()
        critical = self.work.critical_nodes(self.group.runs[0])
        return [self._node(index, ids, readers[index], plan.nodes[index].of in critical) for index in order]

    def _node(self, index: int, ids: Mapping[int, int], num_readers: int, is_critical: bool) -> ExplainedNode:
        node, planned = self.group.plan.nodes[index], [run[index] for run in self.planned]
        graph = self.work.graph_of(self.group.runs[0])
        origin = graph.nodes[node.of]
        return ExplainedNode(
            id=ids[index],
            parent=ids.get(node.after),
            kind=node.kind,
            label=label_of(origin) if isinstance(origin, GenNode | SelectNode) else f"before {label_of(origin)}",
            source=shown_source(origin.source),
            branch=graph.branches[origin.branch].path,
            text="".join(self._shown(piece) for piece in node.pieces),
            num_runs=len(planned),
            own=sum((each.own for each in planned), Count()),
            common=_num_common(planned) if len(planned) > 1 else 0,
            num_readers=num_readers,
            num_calls=sum(each.num_calls for each in planned),
            prompt=sum((each.prompt for each in planned), Count()),
            computed=sum((each.computed for each in planned), Count()),
            most_new_tokens=_most_new_tokens(node) * len(planned),
            forced_tokens=self.work.num_forced(node) * _num_calls(node) * len(planned),
            is_critical=is_critical,
            actual=self._actual(index),
        )

    def _readers(self) -> list[int]:
        """Per plan node how many calls' prompts hold its text: its own, and those of what goes on from it."""
        plan = self.group.plan
        found = [_num_calls(node) for node in plan.nodes]
        for index in range(len(plan.nodes) - 1, -1, -1):
            if (after := plan.nodes[index].after) >= 0:
                found[after] += found[index]
        return found

    def _shown(self, piece: Any) -> str:
        if isinstance(piece, str):
            return piece
        if (name := piece.get("argument")) is not None:
            texts = {values[name] for values in self.group.arguments if name in values}
            return f"«{len(texts)} texts»" if texts else f"«{name}»"
        graph = self.work.graph_of(self.group.runs[0])
        return f"«{label_of(graph.nodes[self.group.plan.nodes[piece['node']].of])}»"

    def _actual(self, index: int) -> Actual | None:
        if self.again is None:
            return None
        plan, runs = self.group.plan, self.group.runs
        found = [self.work.observed_at(run, plan, index) for run in runs]
        timings = [timing for each in found if each is not None for timing in each.timings]
        foreseen = sum((run[index].computed for run in self.again), Count())
        if plan.nodes[index].kind == "text" and foreseen == Count():
            return None
        count = max(len(timings), 1)
        return Actual(
            num_calls=sum(run[index].num_calls for run in self.again),
            is_told=bool(timings),
            computed_tokens=sum(timing.computed_tokens for timing in timings),
            new_tokens=sum(_num_new_tokens(each) for each in found if each is not None),
            queue_ms=sum(timing.queue_ms for timing in timings) / count,
            prefill_ms=sum(timing.prefill_ms for timing in timings) / count,
            decode_ms=sum(timing.decode_ms for timing in timings) / count,
            foreseen=foreseen,
        )


def _run(program: Program, calls: Sequence[Call], backend: Backend) -> tuple[list[Mapping[Any, Observed]], int, float]:
    """Run the calls on an empty cache: what came of each, prompt tokens computed in all, and seconds."""
    loop_thread().call(_empty_cache(backend))
    for call in calls:
        call.run.observed = {}
    before: Mapping[str, Any] = loop_thread().call(backend.server_info())
    began = time.monotonic()
    program.execute_all(calls)
    seconds = time.monotonic() - began
    after: Mapping[str, Any] = loop_thread().call(backend.server_info())
    name = "computed_prompt_tokens"
    return [call.run.observed or {} for call in calls], after.get(name, 0) - before.get(name, 0), seconds


async def _empty_cache(backend: Backend) -> None:
    """A request that has just ended may hold its pages for one more step: those take another turn."""
    for _ in range(_MOST_TURNS):
        if not await backend.clear_cache():
            return
        info = await backend.server_info()
        if not info.get("pages_cached") and not info.get("pages_running"):
            return
        await asyncio.sleep(_TURN_SECONDS)


def _unplanned(each: Observed) -> Unplanned:
    return Unplanned(
        label=each.node.label,
        source=shown_source(each.node.source),
        num_calls=max(len(each.timings), 1),
        computed_tokens=sum(timing.computed_tokens for timing in each.timings),
        new_tokens=_num_new_tokens(each),
    )


def _num_new_tokens(observed: Observed) -> int:
    return sum(len(output.token_ids) for output in observed.outputs if output.finish_reason is not None)


def _num_calls(node: PlannedNode) -> int:
    return 0 if node.kind == "text" else node.more["sampling"]["n"] if node.kind == "gen" else 1


def _forced_texts(node: PlannedNode) -> tuple[str, ...]:
    sampling = node.more.get("sampling", {})
    kind = next((kind for kind in ("regex", "json_schema") if kind in sampling), None)
    return literals_of(kind, sampling[kind]) if kind is not None else ()


def _most_new_tokens(node: PlannedNode) -> int:
    if node.kind != "gen":
        return 0
    sampling = node.more["sampling"]
    most: int = sampling["max_new_tokens"] * sampling["n"]
    return most


def _num_common(planned: Sequence[NodeForecast]) -> int:
    """Of the tokens that the node's own text adds, how many from its beginning on are the same in all runs."""
    shared = min(len(each.ends) for each in planned)
    for each in planned[1:]:
        pairs = zip(planned[0].ends[:shared], each.ends[:shared], strict=True)
        shared = next((at for at, (a, b) in enumerate(pairs) if a != b), shared)
    return max(0, shared - planned[0].begins)
