"""The tree as text, for people: what is cached, what is pinned, what goes first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .node import IntArray, RadixNode
from .tree import RadixCache


def render(
    tree: RadixCache,
    *,
    detokenize: Callable[[IntArray], str] | None = None,
    max_nodes: int = 200,
    max_tokens: int = 8,
) -> str:
    """One line per node, least recently used children last.

    detokenize   shows tokens as text; without it their ids are shown
    max_nodes    lines drawn before the rest is only counted
    max_tokens   tokens shown of each node
    """
    lines = [
        f"{_counted(tree.num_cached_pages, 'page')} of {_counted(tree.page_size, 'token')} cached, "
        f"{tree.num_locked_pages} locked, {tree.num_evictable_pages} evictable"
    ]
    drawn = _drawn(tree)
    for num_drawn, (indent, node) in enumerate(drawn):
        if num_drawn == max_nodes:
            lines.append(f"... and {1 + sum(1 for _ in drawn)} more nodes")
            break
        lines.append(indent + _line(node, detokenize, max_tokens))
    return "\n".join(lines)


def _drawn(tree: RadixCache) -> Iterator[tuple[str, RadixNode]]:
    """Nodes from top to bottom, each with what stands before it.  No recursion: a long prompt is a deep chain."""
    stack = [("", "", root) for _, root in sorted(tree.roots.items(), reverse=True)]
    while stack:
        indent, indent_below, node = stack.pop()
        yield indent, node
        least_recent_first = sorted(node.children.values(), key=lambda child: (child.last_used, child.id))
        for position, child in enumerate(least_recent_first):  # the stack turns the order around
            branch, below = ("└─ ", "   ") if position == 0 else ("├─ ", "│  ")
            stack.append((indent_below + branch, indent_below + below, child))


def _line(node: RadixNode, detokenize: Callable[[IntArray], str] | None, max_tokens: int) -> str:
    if node.is_root:
        return f"namespace {node.namespace!r}"
    shown = node.tokens[:max_tokens]
    text = repr(detokenize(shown)) if detokenize else "[" + " ".join(map(str, shown.tolist())) + "]"
    more = " ..." if len(node.tokens) > max_tokens else ""
    locked = f", locked {node.lock_count}" if node.lock_count else ""
    expected = f", expected at {node.uses.soonest:g}" if node.uses is not None else ""
    size = f"{_counted(len(node.tokens), 'token')}, pages {_ranges(node.pages)}"
    return f"{text}{more}  {size}, used {node.last_used}{expected}{locked}"


def _ranges(pages: IntArray, max_ranges: int = 4) -> str:
    """Page ids, runs of consecutive ones as first-last."""
    runs: list[list[int]] = []
    for page in pages.tolist():
        if runs and page == runs[-1][1] + 1:
            runs[-1][1] = page
        elif len(runs) == max_ranges:
            return ",".join(map(_range, runs)) + ",..."
        else:
            runs.append([page, page])
    return ",".join(map(_range, runs))


def _range(run: list[int]) -> str:
    first, last = run
    return str(first) if first == last else f"{first}-{last}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
