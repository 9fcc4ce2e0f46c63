"""What can be told from a prefix graph alone: pure functions, graph -> graph or graph -> facts.

Here: text merged, what a batch shares and in which order it runs best, variables nobody reads, forks to warm, next
uses, the critical path.  Not here: token counts (explain), requests (plan).  Imports graph and options only; asks no
model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .backends.protocol import SamplingParams
from .graph import (
    ArgumentNode,
    ForkNode,
    GenNode,
    GraphNode,
    JoinNode,
    OutputNode,
    PrefixGraph,
    RoleBeginNode,
    RoleEndNode,
    SelectNode,
    TextNode,
    VariableNode,
)
from .options import SamplingOptions

__all__ = [
    "CriticalPath",
    "NextUse",
    "call_dependencies",
    "common_beginning",
    "critical_path",
    "depth_first_order",
    "forks_to_warm",
    "merge_constant_text",
    "most_new_tokens",
    "next_uses",
    "shared_prefix",
    "unread_variables",
]

_WRITES = (TextNode, ArgumentNode, VariableNode, OutputNode, RoleBeginNode, RoleEndNode)


def merge_constant_text(graph: PrefixGraph) -> PrefixGraph:
    """Text nodes that follow one another in a branch become one, which keeps the line of the first."""
    kept: list[GraphNode] = []
    last: dict[int, int] = {}  # branch -> place in `kept` of its last node
    new_ids: dict[int, int] = {}
    for node in graph.nodes:
        before = last.get(node.branch)
        if before is not None and isinstance(node, TextNode):
            other = kept[before]
            if isinstance(other, TextNode):
                kept[before] = replace(other, text=other.text + node.text)
                new_ids[node.id] = before
                continue
        last[node.branch] = new_ids[node.id] = len(kept)
        kept.append(node)
    branches = tuple(
        replace(branch, fork=new_ids[branch.fork] if branch.fork is not None else None) for branch in graph.branches
    )
    return replace(graph, branches=branches, nodes=tuple(_renumbered(node, i, new_ids) for i, node in enumerate(kept)))


def _renumbered(node: GraphNode, id: int, new_ids: Mapping[int, int]) -> GraphNode:
    if isinstance(node, VariableNode | OutputNode):
        return replace(node, id=id, of=new_ids[node.of])
    if isinstance(node, JoinNode):
        return replace(node, id=id, ends=tuple(new_ids[end] for end in node.ends))
    return replace(node, id=id)


def unread_variables(graph: PrefixGraph) -> tuple[str, ...]:
    """Names of outputs that no node of the program uses besides the text they stand in.

    Whoever ran the program can read them, so they are no waste; and what follows an open node is not known."""
    used = {used for node in graph.nodes if not isinstance(node, JoinNode) for used in node.uses}
    return tuple(dict.fromkeys(node.name for node in graph.outputs() if node.name is not None and node.id not in used))


def shared_prefix(graphs: Sequence[PrefixGraph]) -> tuple[GraphNode, ...]:
    """What all graphs begin with, before any of them forks; of a text in which they part, what it has in common."""
    merged = [merge_constant_text(graph).in_branch(0) for graph in graphs]
    found: list[GraphNode] = []
    for nodes in zip(*merged, strict=False):
        first = nodes[0]
        if isinstance(first, ForkNode):
            break
        if all(_meaning(node) == _meaning(first) for node in nodes):
            found.append(first)
            continue
        texts = [node.text for node in nodes if isinstance(node, TextNode)]
        common = common_beginning(texts) if len(texts) == len(nodes) else ""
        if isinstance(first, TextNode) and common:
            found.append(replace(first, text=common))
        break
    return tuple(found)


def _meaning(node: GraphNode) -> tuple[Any, ...]:
    """A node but for where it stands."""
    fields = (each.name for each in dataclasses.fields(node) if each.name not in ("id", "source"))
    return (node.kind, *(getattr(node, name) for name in fields))


def common_beginning(texts: Sequence[str]) -> str:
    first, last = min(texts), max(texts)  # in order of text, so that all others lie between them
    length = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), None)
    return first[:length] if length is not None else first


def depth_first_order(paths: Sequence[Sequence[str]]) -> list[int]:
    """The order in which to take runs, each given by its texts from the beginning on: a depth-first walk of the tree
    that they form.  Neighbours then have as much in common as any order can give them, so that what a cache must hold
    is one path of the tree."""
    return sorted(range(len(paths)), key=lambda run: tuple(paths[run]))


def forks_to_warm(graph: PrefixGraph) -> tuple[int, ...]:
    """Forks of several branches that stand after text which no call before them has computed: were it not computed
    once before they start, each branch would begin with it."""
    found: list[int] = []
    dirty: dict[int, bool] = {0: False}  # branch -> whether it has text that is not computed
    for node in graph.nodes:
        if isinstance(node, _WRITES):
            dirty[node.branch] = True
        elif isinstance(node, GenNode | SelectNode):
            dirty[node.branch] = False
        elif isinstance(node, ForkNode):
            if dirty[node.branch] and len(node.children) > 1:
                found.append(node.id)
                dirty[node.branch] = False
            dirty.update(dict.fromkeys(node.children, dirty[node.branch]))
    return tuple(found)


def call_dependencies(graph: PrefixGraph) -> dict[int, tuple[int, ...]]:
    """For each gen and select those that it waits for directly: the one before it in its branch, and whose outputs it
    or a join before it uses."""
    found: dict[int, tuple[int, ...]] = {}
    waits: dict[int, set[int]] = {0: set()}  # branch -> calls that its next call waits for
    for node in graph.nodes:
        waiting = waits[node.branch]
        waiting.update(node.uses)
        if isinstance(node, GenNode | SelectNode):
            found[node.id] = tuple(sorted(waiting))
            waits[node.branch] = {node.id}
        elif isinstance(node, ForkNode):
            waits.update({child: set(waiting) for child in node.children})
    return found


@dataclass(frozen=True)
class NextUse:
    """`node` is the next call that goes on from a prefix, `calls_away` how many calls in a row end first, its own
    begin included: 1 is the very next."""

    node: int
    calls_away: int


def next_uses(graph: PrefixGraph) -> dict[int, tuple[NextUse, ...]]:
    """For each prefix that ends with an output or at a fork, by that node's id: the calls that continue it next, the
    nearest first.  None: nothing in the program comes back to it, so it may be forgotten."""
    depths = _depths(call_dependencies(graph), lambda node: (1, 0))
    found: dict[int, list[NextUse]] = {}
    depth_at: dict[int, int] = {}  # prefix -> calls that have ended when it is there
    ends: dict[int, list[int]] = {0: []}  # branch -> prefixes that its next call continues
    for node in graph.nodes:
        if isinstance(node, GenNode | SelectNode):
            own = depths[node.id][0]
            for prefix in ends[node.branch]:
                found[prefix].append(NextUse(node.id, own - depth_at[prefix]))
            ends[node.branch] = [node.id]
            found[node.id], depth_at[node.id] = [], own
        elif isinstance(node, ForkNode):
            found[node.id] = []
            depth_at[node.id] = max((depth_at[prefix] for prefix in ends[node.branch]), default=0)
            ends[node.branch] = [*ends[node.branch], node.id]
            ends.update({child: list(ends[node.branch]) for child in node.children})
    return {prefix: tuple(sorted(uses, key=lambda use: (use.calls_away, use.node))) for prefix, uses in found.items()}


@dataclass(frozen=True)
class CriticalPath:
    """The longest chain of calls each of which waits for the one before; of several the one that may generate most."""

    nodes: tuple[int, ...]
    num_new_tokens: int  # at most, over the chain; a select generates none

    @property
    def num_calls(self) -> int:
        return len(self.nodes)


def critical_path(graph: PrefixGraph, options: SamplingOptions | None = None) -> CriticalPath:
    """`options` are those of the run, for gens that don't say how much they may generate."""
    dependencies = call_dependencies(graph)
    depths = _depths(dependencies, lambda node: (1, most_new_tokens(graph.nodes[node], options)))
    if not depths:
        return CriticalPath((), 0)
    last = max(depths, key=lambda node: (depths[node], -node))
    chain, total = [last], depths[last][1]
    while before := dependencies[chain[-1]]:
        chain.append(max(before, key=lambda node: (depths[node], -node)))
    return CriticalPath(tuple(reversed(chain)), total)


def most_new_tokens(node: GraphNode, options: SamplingOptions | None = None) -> int:
    """What a call may generate at most, per output."""
    if not isinstance(node, GenNode):
        return 0
    own = node.options.over(options or SamplingOptions()).max_new_tokens
    return own if own is not None else SamplingParams.max_new_tokens


def _depths(dependencies: Mapping[int, Iterable[int]], weight: Any) -> dict[int, tuple[int, int]]:
    """Per call the heaviest chain that ends with it; (calls, tokens), calls first."""
    found: dict[int, tuple[int, int]] = {}
    for node, before in dependencies.items():
        calls, tokens = max((found[each] for each in before), default=(0, 0))
        own_calls, own_tokens = weight(node)
        found[node] = calls + own_calls, tokens + own_tokens
    return found
