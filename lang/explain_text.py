"""An explanation as text: the tree of segments, then what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .explanation import ExplainedNode, Explanation
from .forecast import Count

__all__ = ["cells", "headings", "shown_count", "summary", "to_text"]

_MOST_CHARS = 40


def to_text(explanation: Explanation) -> str:
    analyzed = explanation.actual_computed is not None
    rows = [headings(explanation)]
    rows += [
        [_named(node, indent), *cells(node, analyzed=analyzed)] for node, indent in _with_indents(explanation.nodes)
    ]
    title = f"{explanation.program} on {explanation.model}"
    return "\n".join([title, "", *_table(rows), "", *summary(explanation)])


def headings(explanation: Explanation) -> list[str]:
    heads = ["segment", "own", "read by", "prompt", "computed", "reused", "new"]
    if explanation.actual_computed is not None:
        heads += ["run: computed", "foreseen", "new", "queue ms", "prefill ms", "decode ms"]
    return heads


def cells(node: ExplainedNode, *, analyzed: bool) -> list[str]:
    """What stands below the headings, but for the first."""
    readers = f"{node.num_readers} calls" if node.num_readers > 1 else ""
    if node.common:
        runs = f"{node.num_runs} runs" if node.own == Count(node.common * node.num_runs) else f"{node.common} by all"
        readers = f"{readers}, {runs}" if readers else runs
    has_calls = node.num_calls > 0
    found = [shown_count(node.own), readers]
    found += [shown_count(count) if has_calls else "" for count in (node.prompt, node.computed, node.reused)]
    found.append(f"{node.most_new_tokens:,}" if node.most_new_tokens else "")
    if not analyzed:
        return found
    actual = node.actual
    if actual is None:
        return [*found, *[""] * 6]
    if not actual.is_told:
        return [*found, "", shown_count(actual.foreseen), "", "", "", ""]
    times = [f"{each:,.1f}" for each in (actual.queue_ms, actual.prefill_ms, actual.decode_ms)]
    return [*found, f"{actual.computed_tokens:,}", shown_count(actual.foreseen), f"{actual.new_tokens:,}", *times]


def summary(explanation: Explanation) -> Iterator[str]:
    """What the tree comes to, a line each."""
    it = explanation
    runs = f" of {it.num_runs} runs" if it.num_runs > 1 else ""
    how = "run by the engine next to its scheduler" if it.is_ahead else "asked for one after another by the program"
    yield f"{_calls(it.num_calls)}{runs}, {how}"
    yield f"prompt tokens without sharing  {shown_count(it.prompt)}"
    yield f"prompt tokens with sharing     {shown_count(it.computed)}{_percent(it)}"
    chain = f"{_calls(it.critical_calls)} in a row, up to {it.critical_tokens:,} new tokens"
    yield f"critical path                  {chain}"
    yield f"new tokens                     up to {it.most_new_tokens:,}"
    if it.forced_tokens:
        why = "none of them saves a forward pass, the engine takes one for each"
        yield f"forced tokens                  {it.forced_tokens:,} in the shortest outputs; {why}"
    of = f" of {it.num_pages:,}" if it.num_pages else ""
    tokens = "1 token" if it.page_size == 1 else f"{it.page_size} tokens"
    yield f"estimated pages                up to {it.num_estimated_pages:,}{of}, {tokens} each"
    if it.actual_computed is not None:
        yield from _actual(it)
    if it.open_arguments:
        yield f"left open: {', '.join(it.open_arguments)}; their tokens are not counted"
    for reason in it.open_reasons:
        yield f"foreseen as far as this goes: {reason}"
    if it.unread:
        yield f"unread in the program: {', '.join(it.unread)}"


def _calls(number: int) -> str:
    return f"{number:,} call" if number == 1 else f"{number:,} calls"


def _actual(it: Explanation) -> Iterator[str]:
    assert it.actual_computed is not None
    seconds = f" in {it.actual_seconds:.2f} s" if it.actual_seconds is not None else ""
    yield f"computed by the run            {it.actual_computed:,}{seconds}"
    if it.planned_actual is not None and it.unplanned:
        yield f"  by the calls above           {it.planned_actual:,}"
    if it.foreseen is not None and it.foreseen != it.computed:
        yield f"  as foreseen from its outputs {shown_count(it.foreseen)}"
    for call in it.unplanned:
        yield (
            f"  not planned: {call.label}  {call.source}  computed {call.computed_tokens:,}, "
            f"{call.new_tokens:,} new tokens"
        )


def shown_count(count: Count) -> str:
    """1,234, or 1,234 to 1,300 where a run decides."""
    if not count.more:
        return f"{count.known:,}"
    return f"{count.known:,} to {count.known + count.more:,}"


def _percent(it: Explanation) -> str:
    if not it.prompt.known or it.computed.more:
        return ""
    at_least = "at least " if it.prompt.more else ""
    return f"  ({at_least}{100 * (1 - it.computed.known / it.prompt.known):.0f} % less)"


def _with_indents(nodes: Sequence[ExplainedNode]) -> Iterator[tuple[ExplainedNode, str]]:
    """Only where several segments go on from one does the tree grow a level deeper: a chain stays a list."""
    num_children: dict[int | None, int] = {}
    for node in nodes:
        num_children[node.parent] = num_children.get(node.parent, 0) + 1
    depths: dict[int, int] = {}
    for node in nodes:
        above = depths[node.parent] if node.parent is not None else 0
        depths[node.id] = above + (node.parent is not None and num_children[node.parent] > 1)
        yield node, "  " * depths[node.id]


def _named(node: ExplainedNode, indent: str) -> str:
    """A star marks the critical path."""
    mark, text = "* " if node.is_critical else "", _shortened(node.text)
    return f"{indent}{mark}{node.label}  {node.source}" + (f"  {text}" if text else "")


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The first column to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()


def _shortened(text: str) -> str:
    shown = repr(text) if text else ""
    return shown if len(shown) <= _MOST_CHARS else f"{shown[: _MOST_CHARS - 1]}…{shown[0]}"
