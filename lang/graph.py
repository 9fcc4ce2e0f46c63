"""PrefixGraph: what a program will ask of a model, as frozen values with data-flow edges.

Here: the nodes, the graph, its versioned JSON.  Not here: how a graph is found (trace), changed (passes), drawn
(graph_views) or turned into requests (plan).  Imports what nodes hold; loads no model.

A graph is a tree of branches.  Nodes of a branch follow one another; a fork's branches begin where the fork stands.
`uses` are the data-flow edges: outputs that a node needs besides the text before it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from .errors import ArgumentError, GraphError
from .nodes import SourceLine
from .options import CONSTRAINTS, SamplingOptions, read_options

__all__ = [
    "GRAPH_VERSION",
    "ArgumentNode",
    "ForkNode",
    "GenNode",
    "GraphBranch",
    "GraphNode",
    "JoinNode",
    "OpenNode",
    "OutputNode",
    "PrefixGraph",
    "RoleBeginNode",
    "RoleEndNode",
    "SelectNode",
    "TextNode",
    "VariableNode",
]

GRAPH_VERSION = 1


@dataclass(frozen=True)
class GraphNode:
    """One thing that happens in one branch.  `id` is its place in PrefixGraph.nodes, which is program order."""

    kind: ClassVar[str] = ""

    id: int
    branch: int
    source: SourceLine

    @property
    def uses(self) -> tuple[int, ...]:
        """Ids of the nodes whose outputs this one needs, besides what stands before it in its branch."""
        return ()


@dataclass(frozen=True)
class TextNode(GraphNode):
    """Text that the program wrote."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class ArgumentNode(GraphNode):
    """Text of an argument that was left open when the program was traced."""

    kind: ClassVar[str] = "argument"
    name: str


@dataclass(frozen=True)
class VariableNode(GraphNode):
    """The text of an earlier output, written again as text: `s += s["name"]`.  `output` is which of a gen's n."""

    kind: ClassVar[str] = "variable"
    of: int
    output: int = 0

    @property
    def uses(self) -> tuple[int, ...]:
        return (self.of,)


@dataclass(frozen=True)
class OutputNode(GraphNode):
    """An earlier output taken over with its tokens, as when a branch's text is appended to its parent's."""

    kind: ClassVar[str] = "output"
    of: int

    @property
    def uses(self) -> tuple[int, ...]:
        return (self.of,)


@dataclass(frozen=True)
class GenNode(GraphNode):
    """`index` counts the gens, selects and forks of a branch; with the branch's path it is the place in a run."""

    kind: ClassVar[str] = "gen"
    name: str | None
    index: int
    options: SamplingOptions
    extra_stops: tuple[str, ...] = ()


@dataclass(frozen=True)
class SelectNode(GraphNode):
    """`method` is the name of a choices method; None: what select does by itself."""

    kind: ClassVar[str] = "select"
    name: str | None
    index: int
    choices: tuple[str, ...]
    temperature: float
    method: str | None
    seed: int | None = None


@dataclass(frozen=True)
class RoleBeginNode(GraphNode):
    kind: ClassVar[str] = "role_begin"
    role: str


@dataclass(frozen=True)
class RoleEndNode(GraphNode):
    kind: ClassVar[str] = "role_end"
    role: str


@dataclass(frozen=True)
class ForkNode(GraphNode):
    """`children` are the ids of the branches that begin here."""

    kind: ClassVar[str] = "fork"
    index: int
    children: tuple[int, ...]


@dataclass(frozen=True)
class JoinNode(GraphNode):
    """The branch waits for `children`; `ends` are the outputs it waits for."""

    kind: ClassVar[str] = "join"
    children: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def uses(self) -> tuple[int, ...]:
        return self.ends


@dataclass(frozen=True)
class OpenNode(GraphNode):
    """The trace ends here: what follows depends on something that only a run knows."""

    kind: ClassVar[str] = "open"
    reason: str


@dataclass(frozen=True)
class GraphBranch:
    """One branch: `path` says where in the tree of forks, as (index of the fork in its branch, number of the child)
    pairs in a row; () is the program's own."""

    id: int
    parent: int | None
    fork: int | None  # id of the node
    path: tuple[int, ...] = ()


@dataclass(frozen=True)
class PrefixGraph:
    """`arguments` are those left open, `open` the node where the trace ended, None if it saw the whole program."""

    program: str
    arguments: tuple[str, ...]
    branches: tuple[GraphBranch, ...]
    nodes: tuple[GraphNode, ...]

    @property
    def open(self) -> OpenNode | None:
        last = self.nodes[-1] if self.nodes else None
        return last if isinstance(last, OpenNode) else None

    @property
    def closed(self) -> bool:
        return self.open is None

    def outputs(self) -> Iterator[GenNode | SelectNode]:
        """The nodes that ask the model for something, in program order."""
        return (node for node in self.nodes if isinstance(node, GenNode | SelectNode))

    def in_branch(self, branch: int) -> list[GraphNode]:
        return [node for node in self.nodes if node.branch == branch]

    def before(self, node: GraphNode) -> list[GraphNode]:
        """Everything that `node` continues: its branch up to it, and the branches above up to their forks."""
        found: list[GraphNode] = []
        branch, end = self.branches[node.branch], node.id
        while True:
            found[:0] = [each for each in self.nodes[:end] if each.branch == branch.id]
            if branch.parent is None or branch.fork is None:
                return found
            end = branch.fork
            branch = self.branches[branch.parent]

    # ---- JSON

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": GRAPH_VERSION,
            "program": self.program,
            "arguments": list(self.arguments),
            "branches": [_plain(branch) for branch in self.branches],
            "nodes": [{"kind": node.kind, **_plain(node)} for node in self.nodes],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> PrefixGraph:
        """Raises GraphError with the JSON pointer of what is wrong."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise GraphError("", f"is not JSON: {error}") from None
        return cls.from_dict(found)

    @classmethod
    def from_dict(cls, found: Any) -> PrefixGraph:
        if not isinstance(found, Mapping):
            raise GraphError("", "wanted an object")
        version = found.get("version")
        if version != GRAPH_VERSION or isinstance(version, bool):
            raise GraphError("/version", f"got {version!r:.40}, this forktree reads version {GRAPH_VERSION}")
        for name in ("arguments", "branches", "nodes"):
            if not isinstance(found.get(name), (list, tuple)):
                raise GraphError(f"/{name}", "wanted a list")
        program = _typed(str, found.get("program"), "/program")
        arguments = tuple(_typed(str, each, f"/arguments/{i}") for i, each in enumerate(found["arguments"]))
        branches = [_read(GraphBranch, each, f"/branches/{i}") for i, each in enumerate(found["branches"])]
        nodes = [_read_node(each, f"/nodes/{i}") for i, each in enumerate(found["nodes"])]
        graph = cls(program, arguments, tuple(branches), tuple(nodes))
        _check(graph)
        return graph


_KINDS: dict[str, type[GraphNode]] = {
    each.kind: each
    for each in (
        TextNode,
        ArgumentNode,
        VariableNode,
        OutputNode,
        GenNode,
        SelectNode,
        RoleBeginNode,
        RoleEndNode,
        ForkNode,
        JoinNode,
        OpenNode,
    )
}


def _plain(value: Any) -> dict[str, Any]:
    """A frozen value's fields as JSON takes them; sampling options without those that say nothing."""
    plain: dict[str, Any] = {}
    for each in dataclasses.fields(value):
        found = getattr(value, each.name)
        if isinstance(found, SamplingOptions):
            plain[each.name] = {name: option for name, option in found.__dict__.items() if option is not None}
        elif isinstance(found, tuple):
            plain[each.name] = list(found)
        else:
            plain[each.name] = found
    return plain


def _read_node(found: Any, pointer: str) -> GraphNode:
    if not isinstance(found, Mapping):
        raise GraphError(pointer, "wanted an object")
    kind = found.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise GraphError(pointer + "/kind", f"wanted one of {', '.join(_KINDS)}")
    fields = {name: value for name, value in found.items() if name != "kind"}
    node: GraphNode = _read(_KINDS[kind], fields, pointer)
    return node


def _read(cls: Any, found: Any, pointer: str) -> Any:
    if not isinstance(found, Mapping):
        raise GraphError(pointer, "wanted an object")
    known = _types_of(cls)
    if unknown := [name for name in found if name not in known]:
        raise GraphError(f"{pointer}/{unknown[0]}", f"unknown; known are {', '.join(known)}")
    values = {name: _typed(known[name], value, f"{pointer}/{name}") for name, value in found.items()}
    for each in dataclasses.fields(cls):
        if each.name not in values and each.default is dataclasses.MISSING:
            raise GraphError(f"{pointer}/{each.name}", "is missing")
    return cls(**values)


@cache
def _types_of(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {each.name: hints[each.name] for each in dataclasses.fields(cls)}


def _typed(wanted: Any, value: Any, pointer: str) -> Any:
    """The value as its field holds it.  Raises GraphError where it is of another type."""
    if wanted is SourceLine:
        if not isinstance(value, (list, tuple)) or len(value) != 2:
            raise GraphError(pointer, "wanted [file, line]")
        return SourceLine(_typed(str, value[0], f"{pointer}/0"), _typed(int, value[1], f"{pointer}/1"))
    if wanted is SamplingOptions:
        return _options(value, pointer)
    if get_origin(wanted) is tuple:
        if not isinstance(value, (list, tuple)):
            raise GraphError(pointer, "wanted a list")
        return tuple(_typed(get_args(wanted)[0], each, f"{pointer}/{i}") for i, each in enumerate(value))
    kinds = get_args(wanted) or (wanted,)  # X | None
    if float in kinds:
        kinds = (*kinds, int)
    if not isinstance(value, kinds) or isinstance(value, bool):
        names = " or ".join("null" if each is type(None) else each.__name__ for each in kinds)
        raise GraphError(pointer, f"got {value!r:.40}, wanted {names}")
    return value


def _options(found: Any, pointer: str) -> SamplingOptions:
    if not isinstance(found, Mapping):
        raise GraphError(pointer, "wanted an object")
    for name, value in found.items():
        if name not in SamplingOptions.__dataclass_fields__:
            raise GraphError(f"{pointer}/{name}", "is no sampling option")
        if name in CONSTRAINTS:
            _typed(str, value, f"{pointer}/{name}")
        else:
            try:
                read_options({name: value}, "a graph")
            except ArgumentError as error:
                raise GraphError(f"{pointer}/{name}", str(error)) from None
    return read_options(found, "a graph")


def _check(graph: PrefixGraph) -> None:
    """Ids are places, branches begin at forks, nothing uses what comes after it, and nothing follows an open node."""
    nodes, branches = graph.nodes, graph.branches
    if not branches:
        raise GraphError("/branches", "wanted the program's own branch at least")
    if (branches[0].parent, branches[0].fork) != (None, None):
        raise GraphError("/branches/0", "the program's own branch has no parent and no fork")
    for i, branch in enumerate(branches):
        if branch.id != i:
            raise GraphError(f"/branches/{i}/id", f"got {branch.id!r}, wanted its place, {i}")
        if i and not _is_place(branch.parent, i):
            raise GraphError(f"/branches/{i}/parent", "wanted the id of an earlier branch")
        if i and not _begins_at(branch, nodes):
            raise GraphError(f"/branches/{i}/fork", "wanted the id of a fork of its parent that has it as a child")
    for i, node in enumerate(nodes):
        _check_node(node, i, graph)


def _check_node(node: GraphNode, i: int, graph: PrefixGraph) -> None:
    pointer, branches = f"/nodes/{i}", graph.branches
    if node.id != i:
        raise GraphError(f"{pointer}/id", f"got {node.id!r}, wanted its place, {i}")
    if not _is_place(node.branch, len(branches)):
        raise GraphError(f"{pointer}/branch", "wanted the id of a branch")
    if (fork := branches[node.branch].fork) is not None and fork >= i:
        raise GraphError(f"{pointer}/branch", f"the branch begins after this, at node {fork}")
    if isinstance(node, ForkNode | JoinNode):
        for at, child in enumerate(node.children):
            if not (_is_place(child, len(branches)) and branches[child].parent == node.branch):
                raise GraphError(f"{pointer}/children/{at}", "wanted the id of a branch of this one")
            if isinstance(node, ForkNode) and branches[child].fork != i:
                raise GraphError(f"{pointer}/children/{at}", "wanted the id of a branch that begins here")
    for used in node.uses:
        if not (_is_place(used, i) and isinstance(graph.nodes[used], GenNode | SelectNode)):
            raise GraphError(pointer, f"uses {used!r}, wanted the id of an earlier gen or select")
    if isinstance(node, OpenNode) and i != len(graph.nodes) - 1:
        raise GraphError(pointer, "nothing can follow where a trace ends")


def _begins_at(branch: GraphBranch, nodes: tuple[GraphNode, ...]) -> bool:
    if not _is_place(branch.fork, len(nodes)):
        return False
    fork = nodes[branch.fork or 0]
    return isinstance(fork, ForkNode) and fork.branch == branch.parent and branch.id in fork.children


def _is_place(value: int | None, stop: int) -> bool:
    return value is not None and 0 <= value < stop
