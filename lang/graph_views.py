"""A prefix graph for people: as text, as Graphviz dot, as Mermaid.

Here: to_text, to_dot, to_mermaid; PrefixGraph has them as methods.  Not here: token counts (explain).
Imports graph only."""

from __future__ import annotations

from collections.abc import Iterator
from os.path import basename

from .graph import (
    ArgumentNode,
    ForkNode,
    GenNode,
    GraphBranch,
    GraphNode,
    JoinNode,
    OpenNode,
    OutputNode,
    PrefixGraph,
    RoleBeginNode,
    RoleEndNode,
    SelectNode,
    TextNode,
    VariableNode,
)
from .nodes import SourceLine

__all__ = ["label_of", "shown_source", "to_dot", "to_mermaid", "to_text"]

_MOST_CHARS = 48  # of a text, in text
_MOST_CHARS_IN_A_BOX = 32


def to_text(graph: PrefixGraph) -> str:
    """One line per node, branches below the fork where they begin, with source lines and the outputs each node uses."""
    arguments = ", ".join(graph.arguments)
    head = f"program {graph.program}({arguments})" + ("" if graph.closed else ", as far as it can be foreseen")
    lines = list(_lines(graph))
    width = max((len(line) for line, _ in lines), default=0)
    return "\n".join([head, *(f"{line:{width}}  {source}" for line, source in lines)])


def to_dot(graph: PrefixGraph) -> str:
    """Solid edges: what a node continues.  Dashed: outputs it uses besides."""
    lines = [f"digraph {_quoted(graph.program)} {{", "  rankdir=TB; node [shape=box, fontsize=10];"]
    for node in graph.nodes:
        shape = ", style=rounded, penwidth=2" if isinstance(node, GenNode | SelectNode) else ""
        lines.append(f"  n{node.id} [label={_quoted(_boxed(node))}{shape}];")
    for start, end, is_data in _edges(graph):
        lines.append(f"  n{start} -> n{end}{' [style=dashed, constraint=false]' if is_data else ''};")
    return "\n".join([*lines, "}"])


def to_mermaid(graph: PrefixGraph) -> str:
    """The edges as in to_dot."""
    lines = ["flowchart TD"]
    for node in graph.nodes:
        opening, closing = ("([", "])") if isinstance(node, GenNode | SelectNode) else ("[", "]")
        lines.append(f'  n{node.id}{opening}"{_escaped(_boxed(node))}"{closing}')
    lines += [f"  n{start} {'-.->' if is_data else '-->'} n{end}" for start, end, is_data in _edges(graph)]
    return "\n".join(lines)


def label_of(node: GraphNode, most_chars: int = _MOST_CHARS) -> str:
    """What a node is, in a few words: gen("answer"), text "..."."""
    if isinstance(node, TextNode):
        return f"text {_shortened(node.text, most_chars)}"
    if isinstance(node, ArgumentNode):
        return f"argument {node.name}"
    if isinstance(node, VariableNode):
        return f"output {node.of} as text" + (f", number {node.output}" if node.output else "")
    if isinstance(node, OutputNode):
        return f"output {node.of}"
    if isinstance(node, GenNode):
        return f'gen("{node.name}")' if node.name is not None else "gen()"
    if isinstance(node, SelectNode):
        name = f'"{node.name}", ' if node.name is not None else ""
        return f"select({name}{len(node.choices)} choices)"
    if isinstance(node, RoleBeginNode | RoleEndNode):
        return f"{node.role} {'begins' if isinstance(node, RoleBeginNode) else 'ends'}"
    if isinstance(node, ForkNode):
        return f"fork({len(node.children)})"
    if isinstance(node, JoinNode):
        return "join of branches " + ", ".join(map(str, node.children))
    if isinstance(node, OpenNode):
        return f"open: {_one_line(node.reason)}"
    return node.kind


def shown_source(source: SourceLine) -> str:
    return f"{basename(source.file)}:{source.line}"


def _by_branch(graph: PrefixGraph) -> list[list[GraphNode]]:
    found: list[list[GraphNode]] = [[] for _ in graph.branches]
    for node in graph.nodes:
        found[node.branch].append(node)
    return found


def _lines(graph: PrefixGraph) -> Iterator[tuple[str, str]]:
    """A line and its source for each node, a fork's branches below it; on a stack, for forks may lie as deep as they
    like."""
    nodes = _by_branch(graph)
    walks: list[tuple[Iterator[GraphNode | GraphBranch], str]] = [(iter(nodes[0]), "")]
    while walks:
        walk, indent = walks[-1]
        node = next(walk, None)
        if node is None:
            walks.pop()
        elif isinstance(node, GraphBranch):
            yield f"{indent}branch {node.id}", ""
            walks.append((iter(nodes[node.id]), indent + "  "))
        else:
            uses = f"  uses {', '.join(map(str, node.uses))}" if node.uses and not isinstance(node, JoinNode) else ""
            yield f"{indent}{node.id}  {label_of(node)}{uses}", shown_source(node.source)
            if isinstance(node, ForkNode):
                walks.append((iter([graph.branches[child] for child in node.children]), indent + "   "))


def _edges(graph: PrefixGraph) -> Iterator[tuple[int, int, bool]]:
    """(from, to, whether it is data); what a node continues comes first."""
    last: dict[int, int] = {}
    for node in graph.nodes:
        before = last.get(node.branch, graph.branches[node.branch].fork)
        if before is not None:
            yield before, node.id, False
        last[node.branch] = node.id
        for used in node.uses:
            yield used, node.id, True


def _boxed(node: GraphNode) -> str:
    return f"{node.id} {label_of(node, _MOST_CHARS_IN_A_BOX)}\n{shown_source(node.source)}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _shortened(text: str, most_chars: int) -> str:
    shown = repr(text)
    if len(shown) <= most_chars:
        return shown
    return f"{shown[: most_chars - 1]}…{shown[0]}"


def _quoted(text: str) -> str:
    """A string of dot; a newline begins a line of the label."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _escaped(text: str) -> str:
    """Text between Mermaid's quotes: everything that could end it, or be taken for markup, as an entity."""
    entities = {ord(c): f"#{ord(c)};" for c in '"#&<>`\\;'}
    return text.translate(entities).replace("\n", "<br/>")
