"""PrefixGraph: values that come back from JSON as they were, and JSON that is none, with a pointer to what is wrong."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import forktree as ft
from forktree.lang.backends.protocol import ChatFormat
from forktree.lang.errors import GraphError
from forktree.lang.graph import GRAPH_VERSION, PrefixGraph
from forktree.lang.options import SamplingOptions
from forktree.lang.plan import make_plan

S = ft.ProgramState
CHATML = ChatFormat.chatml("Be nice.", "<s>")


def random_program(draw: random.Random, depth: int = 0) -> Any:
    """A function of a state that does a few things, some of them to its forks."""
    steps: list[Any] = [draw.choice(range(8 if depth < 2 else 6)) for _ in range(draw.randrange(1, 6))]
    inner = [random_program(draw, depth + 1) if step >= 6 else None for step in steps]
    numbers = [draw.randrange(100) for _ in steps]

    def program(s: S, q: str = "q") -> None:
        read: list[Any] = []
        for step, each, number in zip(steps, inner, numbers, strict=True):
            if step == 0:
                s += f"text {number} " + q
            elif step == 1:
                options: dict[str, Any] = {
                    "max_tokens": number,
                    "stop": ["\n", "."],
                    "seed": number,
                    "temperature": 0.5,
                }
                s += ft.gen(f"g{number}", **options)
                read.append(f"g{number}")
            elif step == 2:
                s += ft.gen(logit_bias={number: 1.5}, regex="a+", return_logprob=True, top_logprobs_num=2)
            elif step == 3:
                s += ft.select(f"s{number}", ["a", "b"], temperature=number / 10, seed=number)
                read.append(f"s{number}")
            elif step == 4:
                s += ft.user("hi") + ft.assistant(ft.gen("reply", n=1 + number % 3))
            elif step == 5:
                for name in read:
                    s += f"({s[name]})"
            else:
                forks = s.fork(1 + number % 3)
                for branch in forks:
                    each(branch, q)
                if step == 6:
                    forks.join("gather_variable")

    return program


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_any_graph_comes_back_from_json_as_it_was(seed: int, with_argument: bool) -> None:
    program = ft.function(random_program(random.Random(seed)))
    graph = program.trace(*(["x"] if with_argument else []))
    again = PrefixGraph.from_json(graph.to_json())
    assert again == graph
    assert PrefixGraph.from_dict(graph.to_dict()) == graph
    assert again.to_json() == graph.to_json()
    assert json.loads(graph.to_json())["version"] == GRAPH_VERSION
    for node in graph.nodes:  # everything before a node is its branch and those above, in program order
        before = graph.before(node)
        assert [each.id for each in before] == sorted(each.id for each in before)
        assert all(each.id < node.id for each in before)
    assert make_plan(again, CHATML, SamplingOptions()) == make_plan(graph, CHATML, SamplingOptions())


def a_graph() -> dict[str, Any]:
    @ft.function
    def program(s: S, q: str) -> None:
        s += "a" + q + ft.gen("x", max_tokens=3, stop="\n")
        forks = s.fork(2)
        forks += ft.select("y", ["a", "b"])
        forks.join()
        s += s["x"]
        assert s["x"]

    found: dict[str, Any] = json.loads(program.trace().to_json())
    return found


NODES = [node["kind"] for node in a_graph()["nodes"]]
assert NODES == ["text", "argument", "gen", "fork", "select", "select", "join", "variable", "open"]


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/version", 2),
        ("/version", True),
        ("/version", None),
        ("/program", 5),
        ("/arguments", "q"),
        ("/arguments/0", 5),
        ("/branches", None),
        ("/branches", []),
        ("/branches/0", 7),
        ("/branches/1/id", 2),
        ("/branches/1/id", "1"),
        ("/branches/1/parent", 1),
        ("/branches/1/parent", None),
        ("/branches/1/fork", 2),
        ("/branches/1/fork", 99),
        ("/branches/1/fork", None),
        ("/branches/1/path", "1"),
        ("/branches/1/path/0", "1"),
        ("/branches/1/colour", "red"),
        ("/nodes", {}),
        ("/nodes/0", None),
        ("/nodes/0/kind", "song"),
        ("/nodes/0/kind", []),
        ("/nodes/0/id", 1),
        ("/nodes/0/id", True),
        ("/nodes/0/branch", 9),
        ("/nodes/0/branch", 1),
        ("/nodes/0/branch", [0]),
        ("/nodes/0/text", 5),
        ("/nodes/0/text", {"a": 1}),
        ("/nodes/0/source", ["a.py"]),
        ("/nodes/0/source/1", "one"),
        ("/nodes/0/source/0", 1),
        ("/nodes/0/colour", 1),
        ("/nodes/1/name", None),
        ("/nodes/2/index", "0"),
        ("/nodes/2/options", []),
        ("/nodes/2/options/heat", 1),
        ("/nodes/2/options/temperature", "hot"),
        ("/nodes/2/options/temperature", -1),
        ("/nodes/2/options/logit_bias", {"a": 1}),
        ("/nodes/2/options/regex", 5),
        ("/nodes/2/options/stop", [""]),
        ("/nodes/2/extra_stops/0", None),
        ("/nodes/3/children", 1),
        ("/nodes/4/choices/1", 3),
        ("/nodes/4/temperature", "0"),
        ("/nodes/4/seed", 1.5),
        ("/nodes/6/ends/0", "x"),
        ("/nodes/6/children/0", 0),
        ("/nodes/8/reason", None),
    ],
)
def test_json_that_is_no_graph_is_refused_with_its_pointer(pointer: str, value: object) -> None:
    graph = a_graph()
    *above, last = pointer.strip("/").split("/")
    place: Any = graph
    for step in above:
        place = place[int(step) if isinstance(place, list) else step]
    if isinstance(place, list):
        place[int(last) :] = [value, *place[int(last) + 1 :]]
    else:
        place[last] = value
    with pytest.raises(GraphError) as refused:
        PrefixGraph.from_json(json.dumps(graph))
    found = refused.value.pointer
    assert pointer.startswith(found) or found.startswith(pointer) or pointer.split("/")[:3] == found.split("/")[:3]
    assert f"#{found}" in str(refused.value)


@pytest.mark.parametrize(
    ("node", "field", "value", "wanted"),
    [
        (7, "of", 7, "an earlier gen or select"),
        (7, "of", 3, "an earlier gen or select"),
        (6, "ends", [2, 7], "an earlier gen or select"),
    ],
)
def test_nothing_uses_what_comes_after_it(node: int, field: str, value: object, wanted: str) -> None:
    graph = a_graph()
    graph["nodes"][node][field] = value
    with pytest.raises(GraphError, match=wanted):
        PrefixGraph.from_dict(graph)


def test_nothing_follows_an_open_node_and_nothing_is_missing() -> None:
    graph = a_graph()
    graph["nodes"].append({**graph["nodes"][0], "id": 9})
    with pytest.raises(GraphError, match="at #/nodes/8: nothing can follow"):
        PrefixGraph.from_dict(graph)
    graph = a_graph()
    del graph["nodes"][0]["text"]
    with pytest.raises(GraphError, match="at #/nodes/0/text: is missing"):
        PrefixGraph.from_dict(graph)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"graph"', "[" * 100_000])
def test_text_that_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(GraphError) as refused:
        PrefixGraph.from_json(text)
    assert refused.value.pointer == ""


JUNK = st.sampled_from([None, True, -1, 0, 1, 3, 99, 1.5, "", "a", [], [0], [1, 2], {}, {"a": 1}, "gen", float("nan")])


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_whatever_is_changed_in_a_graph_it_is_refused_or_sound(data: st.DataObject) -> None:
    graph = copy.deepcopy(a_graph())
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = graph
        while True:
            keys = list(range(len(place))) if isinstance(place, list) else sorted(place)
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], (list, dict)) or data.draw(st.integers(0, 4)) == 0:
                place[key] = copy.deepcopy(data.draw(JUNK))
                break
            place = place[key]
    try:
        read = PrefixGraph.from_dict(graph)
    except GraphError:
        return
    assert PrefixGraph.from_json(read.to_json()) == read
    make_plan(read, CHATML, SamplingOptions())
    for node in read.nodes:
        read.before(node)
