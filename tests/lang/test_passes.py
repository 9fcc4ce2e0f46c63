"""What can be told from a graph without a model."""

from __future__ import annotations

import random
from itertools import pairwise, permutations
from typing import Any

import pytest

import forktree as ft
from forktree.lang.graph import PrefixGraph
from forktree.lang.passes import (
    NextUse,
    call_dependencies,
    common_beginning,
    critical_path,
    depth_first_order,
    forks_to_warm,
    merge_constant_text,
    next_uses,
    shared_prefix,
    unread_variables,
)


def traced(write: Any) -> PrefixGraph:
    return ft.function(write).trace()


def calls(graph: PrefixGraph) -> dict[str, int]:
    """Name of a call -> its node."""
    return {node.name or "": node.id for node in graph.outputs()}


def fork_of_two(s: ft.ProgramState) -> None:
    s += "Some"
    s += " text."
    branches = s.fork(2)
    for branch, name in zip(branches, "ab", strict=True):
        branch += f" In {name}"
        branch += ft.gen(name, max_tokens=10)
    branches.join()
    s += "So"
    s += ft.gen("end", max_tokens=5)


# ---- text


def test_text_that_follows_text_becomes_one_node_and_ids_stay_places() -> None:
    graph = traced(fork_of_two)
    merged = merge_constant_text(graph)
    assert [node.kind for node in merged.nodes if node.branch == 0] == ["text", "fork", "join", "text", "gen"]
    assert merged.nodes[0].text == "Some text."  # type: ignore[attr-defined]
    assert PrefixGraph.from_dict(merged.to_dict()) == merged, "a graph that is well formed reads back"


def random_program(seed: int) -> Any:
    """Text, gens, forks and joins at random."""

    def write(s: ft.ProgramState, depth: int = 0) -> None:
        chance = random.Random(f"{seed} {depth}")
        for step in range(chance.randrange(1, 6)):
            kind = chance.choice(["text", "text", "gen", "fork", "again"])
            if kind == "text":
                s += chance.choice(["one ", "two ", ""])
            elif kind == "gen":
                s += ft.gen(f"g{depth}{step}", max_tokens=chance.randrange(1, 9))
            elif kind == "again":
                s += s["g0"]
            elif kind == "fork" and depth < 2:
                branches = s.fork(chance.randrange(1, 4))
                for branch in branches:
                    write(branch, depth + 1)
                if chance.random() < 0.5:
                    branches.join()

    def program(s: ft.ProgramState) -> None:
        s += ft.gen("g0")
        write(s)

    return program


def texts_before_each_call(graph: PrefixGraph) -> list[str]:
    return [
        "".join(node.text if node.kind == "text" else f"<{node.kind}>" for node in graph.before(call))  # type: ignore[attr-defined]
        for call in graph.outputs()
    ]


@pytest.mark.parametrize("seed", range(40))
def test_merging_text_changes_no_prompt(seed: int) -> None:
    graph = traced(random_program(seed))
    assert graph.closed
    merged = merge_constant_text(graph)
    assert texts_before_each_call(merged) == texts_before_each_call(graph)
    assert merge_constant_text(merged) == merged
    assert PrefixGraph.from_dict(merged.to_dict()) == merged
    for branch in merged.branches:
        kinds = [node.kind for node in merged.in_branch(branch.id)]
        assert ("text", "text") not in pairwise(kinds)


# ---- what is read


def test_a_variable_that_no_node_uses_is_unread_in_the_program() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.gen("draft") + ft.gen("aside")
        s += s["draft"]
        s += ft.gen()

    assert unread_variables(traced(write)) == ("aside",)


def test_waiting_for_a_branch_reads_nothing_of_it() -> None:
    assert unread_variables(traced(fork_of_two)) == ("a", "b", "end")


# ---- batches


@ft.function
def ask(s: ft.ProgramState, animal: str) -> None:
    s += "Name a colour.\n"
    s += f"Animal: {animal}\nColour:"
    s += ft.gen("colour")


def test_the_prefix_of_a_batch_ends_where_its_texts_part() -> None:
    (prefix,) = shared_prefix([ask.trace(animal) for animal in ("dog", "door mouse", "dove")])
    assert prefix.text == "Name a colour.\nAnimal: do"  # type: ignore[attr-defined]


def test_graphs_that_are_equal_share_everything_before_a_fork() -> None:
    graphs = [traced(fork_of_two)] * 2
    assert [node.kind for node in shared_prefix(graphs)] == ["text"]


def test_graphs_that_begin_differently_share_nothing() -> None:
    assert shared_prefix([ask.trace("a"), traced(lambda s: s.__iadd__(ft.gen("x")))]) == ()


@pytest.mark.parametrize("seed", range(20))
def test_no_order_has_more_in_common_between_neighbours_than_the_depth_first_one(seed: int) -> None:
    chance = random.Random(seed)
    texts = ["".join(chance.choices("ab", k=chance.randrange(5))) for _ in range(6)]

    def shared(order: Any) -> int:
        return sum(len(common_beginning([texts[a], texts[b]])) for a, b in pairwise(order))

    found = depth_first_order([(text,) for text in texts])
    assert sorted(found) == list(range(6))
    assert shared(found) == max(map(shared, permutations(range(6))))


# ---- forks


def test_a_fork_is_warmed_where_text_stands_that_no_call_has_computed() -> None:
    def write(s: ft.ProgramState) -> None:
        s += "text"
        first = s.fork(2)  # warm: the text
        first[0] += ft.gen()
        first[1].fork(2)  # nothing since the fork above
        s += ft.gen()
        s.fork(3)  # a call has just computed all of it
        s += "more"
        s.fork(1)  # nobody to share with

    graph = traced(write)
    forks = [node.id for node in graph.nodes if node.kind == "fork"]
    assert forks_to_warm(graph) == (forks[0],)


def test_role_text_and_variables_have_to_be_computed_too() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.gen("a")
        s += s["a"]
        s.fork(2)

    graph = traced(write)
    assert forks_to_warm(graph) == (graph.nodes[-1].id,)


# ---- order and time


def test_calls_wait_for_their_branch_for_joins_and_for_what_they_use() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.gen("first")
        left, right = branches = s.fork(2)
        left += ft.gen("left")
        right += ft.gen("right")
        right += ft.gen("more")
        s += ft.gen("beside")
        branches.join()
        s += ft.gen("after")

    graph = traced(write)
    ids = calls(graph)
    waits = {node.name: call_dependencies(graph)[node.id] for node in graph.outputs()}
    assert waits["first"] == ()
    assert waits["left"] == waits["right"] == waits["beside"] == (ids["first"],)
    assert waits["more"] == (ids["right"],)
    assert waits["after"] == tuple(sorted([ids["left"], ids["more"], ids["beside"]]))


def test_the_critical_path_is_the_longest_chain_of_calls() -> None:
    graph = traced(fork_of_two)
    ids = calls(graph)
    path = critical_path(graph)
    assert path.nodes in [(ids["a"], ids["end"]), (ids["b"], ids["end"])]
    assert (path.num_calls, path.num_new_tokens) == (2, 15)


def test_a_data_edge_between_branches_makes_one_wait_for_the_other() -> None:
    def write(s: ft.ProgramState) -> None:
        left, right = s.fork(2)
        left += ft.gen("left", max_tokens=3)
        right += left["left"]
        right += ft.gen("right", max_tokens=4)

    graph = traced(write)
    assert critical_path(graph).nodes == (calls(graph)["left"], calls(graph)["right"])


def test_a_program_without_calls_has_an_empty_critical_path() -> None:
    assert critical_path(traced(lambda s: s.__iadd__("text"))).num_calls == 0


@pytest.mark.parametrize("seed", range(40))
def test_the_critical_path_is_what_trying_every_chain_finds(seed: int) -> None:
    graph = traced(random_program(seed))
    waits = call_dependencies(graph)

    def longest(node: int) -> tuple[int, int]:
        calls, tokens = max((longest(each) for each in waits[node]), default=(0, 0))
        return calls + 1, tokens + (graph.nodes[node].options.max_new_tokens or 128)  # type: ignore[attr-defined]

    path = critical_path(graph)
    assert (path.num_calls, path.num_new_tokens) == max(map(longest, waits))
    assert all(a in waits[b] for a, b in pairwise(path.nodes))


def test_next_uses_tell_who_continues_a_prefix_and_how_far_away() -> None:
    graph = traced(fork_of_two)
    ids = calls(graph)
    (fork,) = (node.id for node in graph.nodes if node.kind == "fork")
    uses = next_uses(graph)
    assert uses[fork] == (NextUse(ids["a"], 1), NextUse(ids["b"], 1), NextUse(ids["end"], 2))
    assert uses[ids["a"]] == uses[ids["b"]] == uses[ids["end"]] == ()


def test_an_output_is_continued_by_the_next_call_of_its_branch_and_by_forks_after_it() -> None:
    def write(s: ft.ProgramState) -> None:
        s += ft.gen("a") + "then" + ft.gen("b")
        for branch in s.fork(2):
            branch += ft.gen("c")

    graph = traced(write)
    a, b, *leaves = (node.id for node in graph.outputs())
    assert next_uses(graph)[a] == (NextUse(b, 1),)
    assert next_uses(graph)[b] == tuple(NextUse(leaf, 1) for leaf in leaves)
