"""Tracing: what a program would ask of a model, found without asking; and where and why that ends."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import forktree as ft
from forktree.lang.graph import PrefixGraph
from forktree.lang.placeholders import Placeholders, Reference, TracedText, TraceEnds
from tests.support.program_backend import ProgramsBackend

S = ft.ProgramState


def kinds(graph: PrefixGraph) -> list[str]:
    return [node.kind for node in graph.nodes]


def trace(func: Callable[..., Any], *args: Any, **kwargs: Any) -> PrefixGraph:
    graph = ft.function(func).trace(*args, **kwargs)
    assert PrefixGraph.from_json(graph.to_json()) == graph
    return graph


def open_at(func: Callable[..., Any], *args: Any) -> tuple[str, str]:
    """Why the trace of `func` ends, and the text of the line where it does."""
    graph = trace(func, *args)
    assert graph.open is not None, kinds(graph)
    lines, first = inspect.getsourcelines(func)
    return graph.open.reason, lines[graph.open.source.line - first].strip()


def test_text_outputs_and_variables_become_nodes_with_edges() -> None:
    def program(s: S, question: str) -> None:
        s += "Q: " + question + "\nA:" + ft.gen("answer", max_tokens=8, stop="\n")
        s += f"\nAgain: {s['answer']}!"
        s += ft.select("verdict", ["good", "bad"], temperature=0.5, seed=3)

    graph = trace(program, "why?")
    assert kinds(graph) == ["text", "gen", "text", "variable", "text", "select"]
    assert graph.closed
    assert graph.arguments == ()
    assert graph.nodes[3].uses == (1,)
    assert graph.nodes[5].choices == ("good", "bad")  # type: ignore[attr-defined]
    assert graph.nodes[0].text == "Q: why?\nA:"  # type: ignore[attr-defined]


def test_arguments_left_out_stay_open_and_defaults_are_taken() -> None:
    def program(s: S, question: str, *, language: str, style: str = "plain") -> None:
        s += f"{style} {language}: {question}"

    graph = trace(program, language="en")
    assert graph.arguments == ("question",)
    assert kinds(graph) == ["text", "argument"]
    assert trace(program).arguments == ("question", "language")


def test_a_node_can_be_added_to_traced_text_from_both_sides() -> None:
    def program(s: S) -> None:
        s += ft.gen("a")
        s += s["a"] + ft.gen("b") + s["a"]
        s += ft.gen("c") + s["a"]

    assert kinds(trace(program)) == ["gen", "variable", "gen", "variable", "gen", "variable"]


def test_loops_and_branches_on_concrete_values_are_unrolled() -> None:
    def program(s: S, items: list[str], loud: bool) -> None:
        for item in items:
            s += item.upper() if loud else item
            s += ft.gen(f"about_{item}")

    graph = trace(program, ["a", "b"], True)
    assert [node.name for node in graph.outputs()] == ["about_a", "about_b"]
    assert graph.nodes[0].text == "A"  # type: ignore[attr-defined]


def test_forks_joins_and_appended_branches() -> None:
    def program(s: S) -> None:
        s += "Tips."
        forks = s.fork(2)
        forks += lambda i: f" Tip {i}:" + ft.gen("tip")
        forks.join("concate_and_append")
        with s.copy() as draft:
            draft += ft.gen("draft")
        s += s["draft"][0]

    graph = trace(program)
    assert [branch.path for branch in graph.branches] == [(), (1, 0), (1, 1), (2, 0)]
    assert graph.closed
    assert kinds(graph).count("output") == 2  # the branches' tokens, not their text
    joins = [node for node in graph.nodes if node.kind == "join"]
    assert [node.uses for node in joins] == [(3, 5), (12,)]
    assert [node.kind for node in graph.before(graph.nodes[5])] == ["text", "text"]


def test_roles_are_nodes_and_their_text_is_the_models() -> None:
    def program(s: S) -> None:
        s += ft.system("Be brief.")
        with s.user():
            s += "Hi"
        s += ft.assistant(ft.gen("reply"))
        s["log"] = s.messages()[1]["content"]

    graph = trace(program)
    assert kinds(graph)[:3] == ["role_begin", "text", "role_end"]
    assert graph.closed


def test_n_outputs_are_a_list_and_a_scopes_variable_is_its_text() -> None:
    def program(s: S) -> None:
        with s.var_scope("all"):
            s += "x" + ft.gen("many", n=3)
        s += s["many"][2] + s["all"]

    graph = trace(program)
    assert kinds(graph) == ["text", "gen", "variable", "text", "variable"]
    assert (graph.nodes[2].of, graph.nodes[2].output) == (1, 2)  # type: ignore[attr-defined]


LOOKS: list[Callable[[Any], Any]] = [
    lambda x: x == "yes",
    lambda x: x != "yes",
    lambda x: x < "b",
    lambda x: len(x),
    lambda x: bool(x),
    lambda x: not x,
    lambda x: "a" in x,
    lambda x: x[0],
    lambda x: x[:2],
    lambda x: list(x),
    lambda x: {x: 1},
    lambda x: {x},
    lambda x: int(x),
    lambda x: float(x),
    lambda x: x.strip(),
    lambda x: x.upper(),
    lambda x: x.split(),
    lambda x: x.startswith("a"),
    lambda x: x.encode(),
    lambda x: x.join(["a", "b"]),
    lambda x: x.format(1),
    lambda x: x % 1,
    lambda x: repr(x),
    lambda x: f"{x!r}",
    lambda x: f"{x:>10}",
    lambda x: hash(x),
    lambda x: json.loads(x),
    lambda x: x > "a",
    lambda x: x in ("a", "b"),
    lambda x: sorted([x, "b"]),
    lambda x: x or "nothing",
    lambda x: max(x, "b"),
]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: inspect.getsource(look).strip().strip(",")[10:])
def test_looking_into_what_a_run_will_generate_ends_the_trace(look: Callable[[Any], Any]) -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        look(s["x"])
        s += ft.gen("never")

    graph = trace(program)
    assert kinds(graph) == ["gen", "open"]
    assert graph.open is not None
    assert 'gen("x")' in graph.open.reason


WRITES: list[Callable[[Any], str]] = [
    lambda x: x + "b",
    lambda x: "b" + x,
    lambda x: f"b{x}",
    lambda x: f"{x}" + f"{x!s}",
    lambda x: "%s" % x,  # noqa: UP031
    lambda x: "b{}c".format(x),  # noqa: UP032
    lambda x: "b{0}{0}".format(x),  # noqa: UP032
    lambda x: "".join([x]),
    lambda x: "".join(["a", x]),
    lambda x: x * 2,
    lambda x: str(x),
    lambda x: " ".join(part for part in (x, x)),
]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: inspect.getsource(write).strip().strip(",")[10:])
def test_writing_with_what_a_run_will_generate_does_not(write: Callable[[Any], str]) -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        s += write(s["x"])
        s += ft.gen("then")

    graph = trace(program)
    assert graph.closed, graph.open
    shown = "".join("<x>" if node.kind == "variable" else node.text for node in graph.nodes[1:-1])  # type: ignore[attr-defined]
    assert shown == write("<x>")


CHANGES: list[Callable[[str], str]] = [
    lambda text: text.upper(),
    lambda text: text.title(),
    lambda text: text[6:],
    lambda text: text[:-4],
    lambda text: text.split(":")[0],
    lambda text: text.split(":")[-1],
    lambda text: json.dumps({"a": text}),
    lambda text: re.sub(r"\W", "", text),
    lambda text: text.encode("ascii", "backslashreplace").decode(),
    lambda text: text[::-1],
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: inspect.getsource(change).strip().strip(",")[13:])
def test_a_changed_f_string_ends_the_trace_and_no_mark_becomes_text(change: Callable[[str], str]) -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        s += change(f"a {s['x']} b")
        s += ft.gen("never")

    graph = trace(program)
    assert kinds(graph) == ["gen", "open"]
    assert graph.open is not None
    assert "was changed" in graph.open.reason


def test_json_of_traced_text_ends_the_trace() -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        s += json.dumps([s["x"]])

    assert kinds(trace(program)) == ["gen", "open"]


@pytest.mark.parametrize(
    "make",
    [
        lambda x: ft.select("pick", [f"{x}?", "no"]),
        lambda x: ft.gen("y", stop=f"{x}."),
        lambda x: ft.gen("y", stop=["a", f"-{x}"]),
        lambda x: ft.gen("y", regex=f"({x}|b)"),
        lambda x: ft.gen(f"about {x}"),
        lambda x: ft.gen("y", choices=[f"{x}!"]),
    ],
)
def test_choices_stops_and_names_made_of_an_output_end_the_trace(make: Callable[[Any], ft.Node]) -> None:
    def program(s: S) -> None:
        s += ft.gen("x")
        s += make(s["x"])

    graph = trace(program)
    assert kinds(graph) == ["gen", "open"]
    assert graph.open is not None
    assert "depends on what a run will generate" in graph.open.reason
    assert "\ufdd0" not in graph.to_json()


def test_the_end_names_its_line_and_reason() -> None:
    def compares(s: S) -> None:
        s += ft.gen("x")
        if s["x"] == "yes":
            s += "more"

    def measures_an_argument(s: S, text: str) -> None:
        s += "a"
        assert len(text)

    def parses(s: S) -> None:
        s += ft.gen("x")
        json.loads(s["x"])

    def asks_for_meta(s: S) -> None:
        s += ft.gen("x")
        s += str(s.get_meta_info("x")["prompt_tokens"])  # type: ignore[index]

    def fails(s: S) -> None:
        s += "a"
        raise ValueError("no")

    def reads_what_is_not_there(s: S) -> None:
        s += ft.gen("x")
        s += s[f"{s['x']} y"]

    assert open_at(compares) == ('gen("x") is compared', 'if s["x"] == "yes":')
    assert open_at(measures_an_argument) == ("argument 'text' is measured", "assert len(text)")
    assert open_at(parses)[1] == 'json.loads(s["x"])'
    assert open_at(asks_for_meta) == (
        'what is known of gen("x") is cut',
        's += str(s.get_meta_info("x")["prompt_tokens"])  # type: ignore[index]',
    )
    assert open_at(fails) == ("it raised ValueError: no", 'raise ValueError("no")')
    assert "'{gen(\"x\")} y'" in open_at(reads_what_is_not_there)[0]


def test_an_end_that_the_program_catches_is_an_end_all_the_same() -> None:
    def bare_except(s: S) -> None:
        s += ft.gen("x")
        try:
            number = int(s["x"])
        except:  # noqa: E722
            number = 0
        s += str(number) + ft.gen("y")

    def tidies_up(s: S) -> None:
        s += ft.gen("x")
        try:
            assert s["x"] == "yes"
        finally:
            s += ft.gen("tidy")

    def in_a_role(s: S) -> None:
        with s.assistant():
            s += ft.gen("x")
            assert s["x"]

    def says_nothing_more(s: S) -> None:
        s += ft.gen("x")
        with contextlib.suppress(BaseException):
            assert s["x"]

    def raises_something_else(s: S) -> None:
        s += ft.gen("x")
        try:
            assert s["x"]
        except BaseException as error:
            raise ValueError("hm") from error

    for program in (bare_except, tidies_up, says_nothing_more, raises_something_else):
        assert kinds(trace(program)) == ["gen", "open"], program
    assert kinds(trace(in_a_role)) == ["role_begin", "gen", "open"]
    assert open_at(bare_except)[1] == 'number = int(s["x"])'
    assert open_at(raises_something_else) == ('gen("x") decides what comes next', 'assert s["x"]')


def test_an_except_for_errors_does_not_catch_the_end() -> None:
    def program(s: S) -> None:
        while True:
            s += ft.gen("x")
            try:
                int(s["x"])
                break
            except ValueError:
                continue

    assert kinds(trace(program)) == ["gen", "open"]


def test_a_program_without_end_is_traced_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forktree.lang.trace.MAX_NODES", 50)

    def program(s: S) -> None:
        while True:
            s += "again" + ft.gen()

    graph = trace(program)
    assert len(graph.nodes) == 51
    assert graph.open is not None
    assert "over 50 nodes" in graph.open.reason


def test_a_fork_where_the_trace_is_full_leaves_no_branch_without_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forktree.lang.trace.MAX_NODES", 50)

    def program(s: S) -> None:
        for _ in range(50):
            s += "x"
        s.fork(2)

    graph = trace(program)  # which reads it back
    assert len(graph.branches) == 1


def test_nothing_is_run_by_a_traced_program() -> None:
    @ft.function
    def other(s: S) -> None:
        s += ft.gen("x")

    for run in (
        lambda: other.run(),
        lambda: other.stream(),
        lambda: other(),
        lambda: other.run_batch([{}]),
        lambda: other.astream(),
    ):

        def program(s: S, run: Callable[[], Any] = run) -> None:
            s += "a"
            run()

        graph = trace(program)
        assert graph.open is not None
        assert graph.open.reason == "it runs program 'other' by itself"


def test_a_nested_program_is_traced_where_it_stands() -> None:
    @ft.function
    def ask(s: S, what: str) -> str:
        s += what + ft.gen(what)
        return str(s[what])

    def program(s: S) -> None:
        found = ask(s, "a")
        s += "so " + found

    graph = trace(program)
    assert kinds(graph) == ["text", "gen", "text", "variable"]


def test_a_trace_inside_a_trace_keeps_the_two_apart() -> None:
    @ft.function
    def inner(s: S) -> None:
        s += ft.gen("x")
        assert s["x"]

    def program(s: S) -> None:
        assert not inner.trace().closed
        s += ft.gen("y")

    graph = trace(program)
    assert graph.closed
    assert kinds(graph) == ["gen"]


def test_marks_are_found_whole_and_nothing_else_is_taken_for_one() -> None:
    placeholders = Placeholders()
    first, second = Reference("output", 1), Reference("argument", "q")
    text = f"a{placeholders.mark(first)}{placeholders.mark(second)}b\ue000"
    assert list(placeholders.pieces(text)) == ["a", first, second, "b\ue000"]
    assert placeholders.mark(first) == placeholders.mark(Reference("output", 1))
    assert isinstance(placeholders.traced({"k": [text]})["k"][0], TracedText)
    assert placeholders.traced("plain") == "plain"
    with pytest.raises(TraceEnds):
        list(placeholders.pieces(text[:4]))


def test_a_run_is_not_affected_by_what_was_traced() -> None:
    from tests.support.scripted_backend import ScriptedBackend

    @ft.function
    def program(s: S) -> None:
        s += ft.gen("x")
        s["copy"] = s["x"]

    program.trace()
    state = program.run(backend=ScriptedBackend("out"))
    assert type(state["copy"]) is str
    assert state["copy"] == "out"


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemError])
def test_a_programs_own_error_that_holds_a_generated_text_ends_the_trace_and_nothing_else(
    error: type[Exception],
) -> None:
    """Its text was asked for as any text is, and the placeholder in it refused: the end of the trace came out of the
    user's run, in place of the run."""

    def program(s: S) -> None:
        s += "a" + ft.gen("x") + ft.gen("y")
        raise error(s["x"])

    reason, line = open_at(program)
    assert reason.startswith(f"it raised {error.__name__}")
    assert line == 'raise error(s["x"])'

    for may_trace in (True, None):
        with pytest.raises(error) as caught:
            ft.function(program, trace=may_trace).run(backend=ProgramsBackend("out"))
        assert caught.value.args == ("out",)
