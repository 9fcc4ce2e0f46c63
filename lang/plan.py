"""A prefix graph as an engine takes it: generations and choices, each after another's output.

Here: make_plan (graph + model's chat format + run options -> Plan), merge_plans (the plans of a batch as one plan and
a list of arguments).  Not here: running it (ahead), the graph (graph).  The wire form is the engine's, version 1: see
runtime/engine/program_plan.py.  Imported by ahead and explain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from .backends.protocol import ChatFormat, SamplingParams
from .chat import end_of_turn, opening_of
from .choices import METHODS
from .graph import (
    ArgumentNode,
    ForkNode,
    GenNode,
    GraphNode,
    OpenNode,
    OutputNode,
    PrefixGraph,
    RoleBeginNode,
    RoleEndNode,
    SelectNode,
    TextNode,
    VariableNode,
)
from .options import SamplingOptions, node_seed
from .passes import common_beginning, depth_first_order

__all__ = ["MergedPlan", "Plan", "PlannedNode", "Position", "make_plan", "merge_plans"]

PLAN_VERSION = 1

Position = tuple[tuple[int, ...], int]
"""Where in a run: the path of the branch in the tree of forks, and which of its gens, selects and forks."""


@dataclass(frozen=True)
class PlannedNode:
    """One node of a plan.  `of` is the graph node's id; of text that several nodes continue, the fork's."""

    kind: str
    after: int
    pieces: tuple[Any, ...]  # str, or a reference as the wire has it
    of: int
    position: Position | None = None
    more: Mapping[str, Any] = field(default_factory=dict)  # what the wire says of a gen or a select

    def wire(self) -> dict[str, Any]:
        return {"kind": self.kind, "after": self.after, "pieces": list(self.pieces), **self.more}


@dataclass(frozen=True)
class Plan:
    """What can be asked of an engine in one go.  `whole`: that is everything in the graph."""

    nodes: tuple[PlannedNode, ...]
    whole: bool

    @property
    def positions(self) -> dict[Position, int]:
        return {node.position: i for i, node in enumerate(self.nodes) if node.position is not None}

    @property
    def forks(self) -> frozenset[tuple[int, ...]]:
        """Forks below which something is planned: the path of the branch, then the fork's number in paths."""
        paths = {node.position[0] for node in self.nodes if node.position is not None}
        return frozenset(path[:length] for path in paths for length in range(1, len(path), 2))

    @cached_property
    def dependents(self) -> tuple[tuple[int, ...], ...]:
        """For each node those that continue it or use its output."""
        found: list[set[int]] = [set() for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            used = {piece["node"] for piece in node.pieces if not isinstance(piece, str) and "node" in piece}
            for of in used | ({node.after} if node.after >= 0 else set()):
                found[of].add(i)
        return tuple(map(tuple, map(sorted, found)))

    @property
    def num_calls(self) -> int:
        return sum(node.kind != "text" for node in self.nodes)

    def wire(self) -> dict[str, Any]:
        return {"version": PLAN_VERSION, "whole": self.whole, "nodes": [node.wire() for node in self.nodes]}


def make_plan(graph: PrefixGraph, chat: ChatFormat | None, options: SamplingOptions) -> Plan:
    """As much of the graph as an engine can run by itself: up to where it is open, or has what an engine lacks."""
    lowering = _Lowering(graph, chat, options)
    whole = all(lowering.take(node) for node in graph.nodes)  # ends with the first that can't be taken
    return Plan(tuple(lowering.nodes), whole)


@dataclass
class _Branch:
    """A branch while it is lowered: what the next node continues, and the text since."""

    after: int = -1
    pieces: list[Any] = field(default_factory=list)
    role: str | None = None
    in_conversation: bool = False
    at_the_start: bool = True

    def add(self, piece: Any) -> None:
        if isinstance(piece, str):
            if not piece:
                return
            if self.pieces and isinstance(self.pieces[-1], str):
                piece = self.pieces.pop() + piece
        self.pieces.append(piece)
        self.at_the_start = False


class _Lowering:
    def __init__(self, graph: PrefixGraph, chat: ChatFormat | None, options: SamplingOptions) -> None:
        self._graph, self._chat, self._options = graph, chat, options
        self._branches = {0: _Branch()}
        self._plan_ids: dict[int, int] = {}  # graph node -> plan node
        self.nodes: list[PlannedNode] = []

    def take(self, node: GraphNode) -> bool:
        """Whether it could be taken."""
        if not self._can_take(node):
            return False
        branch = self._branches[node.branch]
        if isinstance(node, TextNode):
            branch.add(node.text)
        elif isinstance(node, ArgumentNode):
            branch.add({"argument": node.name})
        elif isinstance(node, VariableNode):
            branch.add({"node": self._plan_ids[node.of], "output": node.output})
        elif isinstance(node, OutputNode):
            branch.add({"node": self._plan_ids[node.of], "as_tokens": True})
        elif isinstance(node, RoleBeginNode):
            self._begin_role(branch, node.role)
        elif isinstance(node, RoleEndNode):
            assert self._chat is not None
            branch.add(self._chat.roles[node.role][1])
            branch.role, branch.in_conversation = None, True
        elif isinstance(node, ForkNode):
            self._fork(branch, node)
        elif isinstance(node, GenNode):
            self._call(branch, node, node.index, "gen", self._gen(branch, node))
        elif isinstance(node, SelectNode):
            self._call(branch, node, node.index, "select", self._select(node))
        return True

    def _can_take(self, node: GraphNode) -> bool:
        if isinstance(node, OpenNode):
            return False
        if isinstance(node, SelectNode):
            return node.method is None or node.method in METHODS
        if isinstance(node, (RoleBeginNode, RoleEndNode)):
            return self._chat is not None and node.role in self._chat.roles
        return True

    def _begin_role(self, branch: _Branch, role: str) -> None:
        assert self._chat is not None
        if not branch.in_conversation:
            branch.add(opening_of(self._chat, role, at_the_start=branch.at_the_start))
        branch.add(self._chat.roles[role][0])
        branch.role = role

    def _fork(self, branch: _Branch, node: ForkNode) -> None:
        """Text that several branches continue is said once."""
        if branch.pieces and len(node.children) > 1:
            self.nodes.append(PlannedNode("text", branch.after, tuple(branch.pieces), node.id))
            branch.after, branch.pieces = len(self.nodes) - 1, []
        for child in node.children:
            self._branches[child] = replace(branch, pieces=list(branch.pieces))

    def _call(self, branch: _Branch, node: GraphNode, index: int, kind: str, more: Mapping[str, Any]) -> None:
        position = (self._graph.branches[node.branch].path, index)
        self.nodes.append(PlannedNode(kind, branch.after, tuple(branch.pieces), node.id, position, more))
        self._plan_ids[node.id] = branch.after = len(self.nodes) - 1
        branch.pieces, branch.at_the_start = [], False

    def _gen(self, branch: _Branch, node: GenNode) -> dict[str, Any]:
        options = node.options.over(self._options)
        path = self._graph.branches[node.branch].path
        seed = node_seed(node.options.seed, self._options.seed, path, node.index)
        stops = node.extra_stops
        if not options.ignore_eos:
            stops += end_of_turn(branch.role, self._chat)
        params: SamplingParams = options.to_params(more_stops=stops, seed=seed)
        more: dict[str, Any] = {"sampling": {**params.to_dict(), "n": options.n or 1}}
        if options.return_logprob:
            more["return_logprob"] = True
            more["logprob_start_len"] = -1 if options.logprob_start_len is None else options.logprob_start_len
            more["top_logprobs_num"] = options.top_logprobs_num or 0
        return more

    def _select(self, node: SelectNode) -> dict[str, Any]:
        path = self._graph.branches[node.branch].path
        seed = node_seed(node.seed, self._options.seed, path, node.index)
        return {
            "choices": list(node.choices),
            "method": node.method,
            "temperature": node.temperature,
            "seed": seed,
        }


@dataclass(frozen=True)
class MergedPlan:
    """One plan for several runs.  `runs` are their numbers, in the order in which an engine should take them:
    a depth-first walk of the tree of their texts, so that what two have in common is computed right before both."""

    plan: Plan
    runs: tuple[int, ...]
    arguments: tuple[Mapping[str, str], ...]


def merge_plans(plans: Sequence[Plan]) -> list[MergedPlan]:
    """Plans that differ in text only become one, whose arguments are where they differ; what the texts have in common
    at their beginning stays in the plan."""
    groups: dict[str, list[int]] = {}
    for run, plan in enumerate(plans):
        groups.setdefault(_shape(plan), []).append(run)
    return [_merged([plans[run] for run in runs], runs) for runs in groups.values()]


def _shape(plan: Plan) -> str:
    """Everything of a plan but its texts."""
    nodes = [{**node.wire(), "pieces": [0 if isinstance(p, str) else p for p in node.pieces]} for node in plan.nodes]
    return json.dumps(nodes, sort_keys=True)


def _merged(plans: Sequence[Plan], runs: Sequence[int]) -> MergedPlan:
    arguments: list[dict[str, str]] = [{} for _ in plans]
    nodes: list[PlannedNode] = []
    for i, node in enumerate(plans[0].nodes):
        pieces: list[Any] = []
        for at, piece in enumerate(node.pieces):
            if not isinstance(piece, str):
                pieces.append(piece)
                continue
            texts = [plan.nodes[i].pieces[at] for plan in plans]
            shared = common_beginning(texts)
            if shared:
                pieces.append(shared)
            if any(len(text) > len(shared) for text in texts):
                name = f"{i}.{at}"
                pieces.append({"argument": name})
                for values, text in zip(arguments, texts, strict=True):
                    values[name] = text[len(shared) :]
        nodes.append(replace(node, pieces=tuple(pieces)))
    order = depth_first_order([tuple(values.values()) for values in arguments])
    return MergedPlan(
        Plan(tuple(nodes), plans[0].whole),
        tuple(runs[each] for each in order),
        tuple(arguments[each] for each in order),
    )
