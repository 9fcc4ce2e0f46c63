"""A graph for people."""

from __future__ import annotations

import inspect
from pathlib import Path

import forktree as ft
from forktree.lang.graph import PrefixGraph

HERE = Path(__file__).name


def traced() -> PrefixGraph:
    def essay(s: ft.ProgramState, topic: str) -> None:
        s += ft.user(f"Write about {topic}.")
        for branch in s.fork(2):
            branch += ft.assistant(ft.gen("body"))
        s += ft.assistant(ft.select("grade", ["good", "bad"]))
        if s["grade"] == "good":
            s += "!"

    traced.first_line = inspect.getsourcelines(essay)[1]  # type: ignore[attr-defined]
    return ft.function(essay).trace()


def test_the_text_has_a_line_per_node_and_branches_below_their_fork() -> None:
    graph = traced()
    head, *lines = str(graph).splitlines()
    assert head == "program essay(topic), as far as it can be foreseen"
    shown = [line.rstrip() for line in lines]
    first = traced.first_line  # type: ignore[attr-defined]
    assert shown[0].split() == ["0", "user", "begins", f"{HERE}:{first + 1}"]
    body = [line.partition("  " + HERE)[0].rstrip() for line in shown]
    assert body == [
        "0  user begins",
        "1  text 'Write about '",
        "2  argument topic",
        "3  text '.'",
        "4  user ends",
        "5  fork(2)",
        "   branch 1",
        "     6  assistant begins",
        '     7  gen("body")',
        "     8  assistant ends",
        "   branch 2",
        "     9  assistant begins",
        '     10  gen("body")',
        "     11  assistant ends",
        "12  assistant begins",
        '13  select("grade", 2 choices)',
        "14  assistant ends",
        "15  open: select(\"grade\") is compared",
    ]  # fmt: skip


def test_a_long_text_is_cut_and_an_output_that_is_used_is_named() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "x" * 200 + ft.gen("a")
        s += s["a"]

    text = str(ft.function(write).trace())
    assert "…'" in text
    assert max(map(len, text.splitlines())) < 120
    assert "2  output 1 as text  uses 1" in text


def test_forks_may_lie_deeper_than_python_recurses() -> None:
    def write(s: ft.ProgramState) -> None:
        for _ in range(1500):
            (s,) = s.fork(1)
        s += ft.gen("deep")

    assert 'gen("deep")' in str(ft.function(write).trace())


def test_dot_draws_what_continues_what_and_dashes_what_is_used_besides() -> None:
    def write(s: ft.ProgramState) -> None:
        s += 'a "quoted\\ text\n' + ft.gen("a")
        s += s["a"]

    dot = ft.function(write).trace().to_dot()
    assert dot.startswith('digraph "write" {')
    assert dot.endswith("}")
    assert "n0 -> n1;" in dot
    assert "n1 -> n2;" in dot
    assert "n1 -> n2 [style=dashed, constraint=false];" in dot
    label = dot.split("n0 [label=")[1].splitlines()[0]
    assert '\\"quoted' in label, "a quote must not end the label"


def test_mermaid_lets_no_text_out_of_its_box() -> None:
    def write(s: ft.ProgramState) -> None:
        s += 'a "]; <b> #1' + ft.gen("a")

    lines = ft.function(write).trace().to_mermaid().splitlines()
    assert lines[0] == "flowchart TD"
    assert '"' not in lines[1].partition('["')[2].removesuffix('"]')
    assert "<b>" not in lines[1]
    assert "  n0 --> n1" in lines
