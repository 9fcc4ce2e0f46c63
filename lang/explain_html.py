"""An explanation as one HTML page by itself: no script, nothing loaded from elsewhere, light and dark.

The drawing: a segment is as wide as its tokens and begins where its parent ends; what goes on from it lies to its
right, one way below the other.  The table below has the numbers, planned and actual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from .explain_text import cells, headings, summary
from .explanation import ExplainedNode, Explanation

__all__ = ["to_html"]

_ROW_PX = 26
_LEAST_PERCENT = 0.3  # a segment of a few tokens can still be seen


def to_html(explanation: Explanation) -> str:
    title = f"{explanation.program} on {explanation.model}"
    facts = "\n".join(escape(line) for line in summary(explanation))
    return _PAGE.format(
        title=escape(title),
        facts=facts,
        height=_ROW_PX * max(1, len(_leaves(explanation.nodes))),
        boxes="\n".join(_boxes(explanation)),
        heads="".join(f"<th>{escape(head)}</th>" for head in headings(explanation)),
        rows="\n".join(_rows(explanation)),
    )


@dataclass(frozen=True)
class _Box:
    """Where a segment stands: tokens from the left, rows from the top.  `output` follows its own text."""

    start: float
    own: float
    output: float
    first_row: int
    num_rows: int

    @property
    def end(self) -> float:
        return self.start + self.own + self.output


def _boxes(explanation: Explanation) -> Iterator[str]:
    boxes = _placed(explanation.nodes)
    widest = max((box.end for box in boxes.values()), default=0.0) or 1.0
    for node in explanation.nodes:
        box = boxes[node.id]
        top, height = box.first_row * _ROW_PX, box.num_rows * _ROW_PX
        kinds = ["shared" if node.is_shared else "own", *(["critical"] if node.is_critical else [])]
        hint = _quoted(_hint(node))
        yield _box(box.start, box.own, widest, top, height, kinds, hint, node.text.strip() or node.label)
        if box.output:
            yield _box(box.start + box.own, box.output, widest, top, height, ["output"], hint, node.label)


def _box(
    start: float, width: float, widest: float, top: int, height: int, kinds: Sequence[str], hint: str, label: str
) -> str:
    left, percent = 100 * start / widest, max(100 * width / widest, _LEAST_PERCENT)
    place = f"left:{left:.3f}%;width:{percent:.3f}%;top:{top}px;height:{height - 2}px"
    shown = escape(" ".join(label.split())[:200])
    return f'<div class="box {" ".join(kinds)}" style="{place}" title="{hint}" tabindex="0">{shown}</div>'


def _placed(nodes: Sequence[ExplainedNode]) -> dict[int, _Box]:
    """Tokens of one run, on average; nodes come parents first, so rows are counted from the last up."""
    rows = {leaf: row for row, leaf in enumerate(_leaves(nodes))}
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for node in reversed(nodes):
        first.setdefault(node.id, rows.get(node.id, 0))
        last.setdefault(node.id, rows.get(node.id, 0))
        if node.parent is not None:
            first[node.parent] = min(first.get(node.parent, len(nodes)), first[node.id])
            last[node.parent] = max(last.get(node.parent, 0), last[node.id])
    boxes: dict[int, _Box] = {}
    for node in nodes:
        start = boxes[node.parent].end if node.parent is not None else 0.0
        own = (node.own.known + node.own.more / 2) / node.num_runs
        boxes[node.id] = _Box(start, own, _output_tokens(node), first[node.id], last[node.id] - first[node.id] + 1)
    return boxes


def _leaves(nodes: Sequence[ExplainedNode]) -> list[int]:
    parents = {node.parent for node in nodes}
    return [node.id for node in nodes if node.id not in parents]


def _output_tokens(node: ExplainedNode) -> float:
    """Of one of its calls: as many as it did generate, else as it may."""
    if node.kind == "text" or not node.num_calls:
        return 0.0
    if node.kind == "select":
        return 1.0
    if node.actual is not None and node.actual.is_told:
        return node.actual.new_tokens / node.num_calls
    return node.most_new_tokens / node.num_calls


def _hint(node: ExplainedNode) -> str:
    heads = ("own", "read by", "prompt", "computed", "reused", "new", *_ACTUAL)
    found = zip(heads, cells(node, analyzed=node.actual is not None), strict=False)
    lines = [f"{node.label}  {node.source}", *(f"{head}: {cell}" for head, cell in found if cell)]
    return "\n".join([*lines, "", node.text])


_ACTUAL = ("computed by the run", "foreseen", "new in the run", "queue ms", "prefill ms", "decode ms")


def _rows(explanation: Explanation) -> Iterator[str]:
    depths: dict[int, int] = {}
    for node in explanation.nodes:
        depths[node.id] = depths[node.parent] + 1 if node.parent is not None else 0
        numbers = cells(node, analyzed=explanation.actual_computed is not None)
        mark = ' class="critical"' if node.is_critical else ""
        text = f"<code>{escape(node.text[:300])}</code>" if node.text else ""
        label = f"<b>{escape(node.label)}</b> <small>{escape(node.source)}</small>"
        indent = f"padding-left:{0.6 + 0.9 * min(depths[node.id], 40):.1f}em"
        yield (
            f'<tr{mark}><td style="{indent}">{label}{text}</td>'
            + "".join(f"<td>{escape(number)}</td>" for number in numbers)
            + "</tr>"
        )


def _quoted(text: str) -> str:
    return escape(text).replace("\n", "&#10;")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --back: #ffffff; --text: #1c2430; --soft: #5b6675; --line: #d8dee6;
  --own: #dbe4f0; --shared: #b5e0cf; --output: #fdf0cc; --accent: #c2410c; --code: #f4f6f9; }}
@media (prefers-color-scheme: dark) {{ :root {{ --back: #14181f; --text: #e4e9f0; --soft: #98a4b5; --line: #333c49;
  --own: #2c3a4e; --shared: #1f5746; --output: #54481f; --accent: #fb923c; --code: #1d232d; }} }}
body {{ margin: 2rem auto; max-width: 1400px; padding: 0 1rem; background: var(--back); color: var(--text);
  font: 14px/1.45 system-ui, sans-serif; }}
h1 {{ font-size: 1.3rem; }}
pre {{ background: var(--code); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px; }}
.tree {{ position: relative; margin: 1rem 0; }}
.box {{ position: absolute; box-sizing: border-box; overflow: hidden; white-space: nowrap; text-overflow: ellipsis;
  padding: 2px 4px; font-size: 12px; border: 1px solid var(--back); border-radius: 3px; background: var(--own); }}
.box.shared {{ background: var(--shared); }}
.box.output {{ background: var(--output); border: 1px dashed var(--soft); }}
.box.critical {{ border-bottom: 2px solid var(--accent); }}
.box:hover, .box:focus {{ outline: 2px solid var(--text); z-index: 1; }}
.key span {{ position: static; display: inline-block; margin-right: 1rem; padding: 1px 8px; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: right; vertical-align: top; }}
th {{ color: var(--soft); font-weight: 600; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.critical td:first-child {{ box-shadow: inset 3px 0 var(--accent); }}
code {{ display: block; max-height: 4.5em; overflow: hidden; color: var(--soft); font-size: 12px;
  white-space: pre-wrap; word-break: break-word; }}
small {{ color: var(--soft); }}
</style>
</head>
<body>
<h1>{title}</h1>
<pre>{facts}</pre>
<p class="key"><span class="box shared">shared</span><span class="box own">read by one call</span><span
 class="box output">output</span><span class="box own critical">on the critical path</span></p>
<div class="tree" style="height:{height}px">
{boxes}
</div>
<div class="wide"><table>
<thead><tr>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
</body>
</html>
"""
