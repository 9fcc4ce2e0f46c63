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
from typing import Any, ClassVar

from .errors import GraphError
from .nodes import SourceLine
from .options import SamplingOptions

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

    # ---- for people

    def to_text(self) -> str:
        from .graph_views import to_text

        return to_text(self)

    __str__ = to_text

    def to_dot(self) -> str:
        """For Graphviz."""
        from .graph_views import to_dot

        return to_dot(self)

    def to_mermaid(self) -> str:
        from .graph_views import to_mermaid

        return to_mermaid(self)

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
        except ValueError as error:
            raise GraphError("", f"is not JSON: {error}") from None
        return cls.from_dict(found)

    @classmethod
    def from_dict(cls, found: Any) -> PrefixGraph:
        if not isinstance(found, Mapping):
            raise GraphError("", "wanted an object")
        version = found.get("version")
        if version != GRAPH_VERSION:
            raise GraphError("/version", f"got {version!r}, this forktree reads version {GRAPH_VERSION}")
        for name in ("arguments", "branches", "nodes"):
            if not isinstance(found.get(name), list):
                raise GraphError(f"/{name}", "wanted a list")
        branches = [_read(GraphBranch, each, f"/branches/{i}") for i, each in enumerate(found["branches"])]
        nodes = [_read_node(each, f"/nodes/{i}") for i, each in enumerate(found["nodes"])]
        graph = cls(str(found.get("program", "")), tuple(found["arguments"]), tuple(branches), tuple(nodes))
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
    if not isinstance(found, Mapping) or found.get("kind") not in _KINDS:
        raise GraphError(pointer + "/kind", f"wanted one of {', '.join(_KINDS)}")
    fields = {name: value for name, value in found.items() if name != "kind"}
    node: GraphNode = _read(_KINDS[found["kind"]], fields, pointer)
    return node


def _read(cls: type[Any], found: Any, pointer: str) -> Any:
    if not isinstance(found, Mapping):
        raise GraphError(pointer, "wanted an object")
    known = {each.name: each for each in dataclasses.fields(cls)}
    if unknown := [name for name in found if name not in known]:
        raise GraphError(f"{pointer}/{unknown[0]}", f"unknown; known are {', '.join(known)}")
    values = {name: _value(name, value, f"{pointer}/{name}") for name, value in found.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise GraphError(pointer, str(error).partition("() ")[2] or str(error)) from None


def _value(name: str, value: Any, pointer: str) -> Any:
    if name == "source":
        if not isinstance(value, list) or len(value) != 2:
            raise GraphError(pointer, "wanted [file, line]")
        return SourceLine(str(value[0]), int(value[1]))
    if name == "options":
        if not isinstance(value, Mapping):
            raise GraphError(pointer, "wanted an object")
        known = SamplingOptions.__dataclass_fields__
        if unknown := [option for option in value if option not in known]:
            raise GraphError(f"{pointer}/{unknown[0]}", "is no sampling option")
        return SamplingOptions(**{option: _frozen(each) for option, each in value.items()})
    return _frozen(value)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):  # logit_bias: JSON has string keys only
        return {int(token_id): bias for token_id, bias in value.items()}
    return tuple(value) if isinstance(value, list) else value


def _check(graph: PrefixGraph) -> None:
    """Ids are places, branches begin at forks, and nothing uses what comes after it."""
    for i, branch in enumerate(graph.branches):
        if branch.id != i:
            raise GraphError(f"/branches/{i}/id", f"got {branch.id!r}, wanted its place, {i}")
        if i and not _is_place(branch.parent, i):
            raise GraphError(f"/branches/{i}/parent", "wanted the id of an earlier branch")
        if i and not (_is_place(branch.fork, len(graph.nodes)) and graph.nodes[branch.fork or 0].kind == "fork"):
            raise GraphError(f"/branches/{i}/fork", "wanted the id of a fork")
    for i, node in enumerate(graph.nodes):
        if node.id != i:
            raise GraphError(f"/nodes/{i}/id", f"got {node.id!r}, wanted its place, {i}")
        if not _is_place(node.branch, len(graph.branches)):
            raise GraphError(f"/nodes/{i}/branch", "wanted the id of a branch")
        for used in node.uses:
            if not (_is_place(used, i) and graph.nodes[used].kind in ("gen", "select")):
                raise GraphError(f"/nodes/{i}", f"uses {used!r}, wanted the id of an earlier gen or select")


def _is_place(value: object, stop: int) -> bool:
    return isinstance(value, int) and 0 <= value < stop
