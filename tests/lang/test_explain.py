"""Programs explained, on a script: what is shown of the plan, and beside it what a run did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import Chunk, GenerateRequest, Timing
from forktree.lang.explanation import ExplainedNode, Explanation
from forktree.lang.forecast import Count
from forktree.testing import ScriptedBackend


@ft.function
def tips(s: ft.ProgramState, topic: str) -> None:
    s += f"About {topic}. "
    branches = s.fork(2)
    for branch, word in zip(branches, ("first", "next"), strict=True):
        branch += f"The {word}:" + ft.gen(word, max_tokens=6)
    branches.join()
    s += "So:" + ft.gen("sum", max_tokens=4)


def explained(**more: Any) -> Explanation:
    return tips.explain("cats", backend=ScriptedBackend("ok"), **more)


def by_label(it: Explanation) -> dict[str, ExplainedNode]:
    return {node.label: node for node in it.nodes}


def test_segments_are_a_tree_with_counts_readers_and_what_is_shared() -> None:
    it = explained()
    assert [(node.label, node.parent) for node in it.nodes] == [
        ("before fork(2)", None),
        ('gen("first")', 0),
        ('gen("next")', 0),
        ('gen("sum")', 0),
    ]
    fork, first, _, last = it.nodes
    assert (fork.own, fork.num_readers, fork.is_shared) == (Count(len("About cats. ")), 3, True)
    assert (first.own, first.prompt, first.is_shared) == (Count(len("The first:")), Count(22), False)
    assert last.reused == Count(len("About cats. "))
    assert first.source.startswith("test_explain.py:")
    assert it.prompt.known == sum(node.prompt.known for node in it.nodes)
    assert (it.critical_calls, it.critical_tokens) == (2, 10)
    assert it.actual_computed is None


def test_the_text_names_the_totals_and_every_segment() -> None:
    text = str(explained())
    for part in ("tips on scripted", 'gen("first")', "3 calls", "without sharing", "2 calls in a row", "unread"):
        assert part in text


def test_arguments_that_are_left_out_stay_open() -> None:
    it = tips.explain(backend=ScriptedBackend())
    assert it.open_arguments == ("topic",)
    assert "«topic»" in it.nodes[0].text
    assert "left open: topic" in it.to_text()


def test_a_batch_is_one_tree_that_says_what_its_runs_share() -> None:
    it = tips.explain_batch([{"topic": "cats"}, ("cars",), {"topic": "dogs"}], backend=ScriptedBackend())
    assert it.num_runs == 3
    fork = it.nodes[0]
    assert (fork.num_runs, fork.common) == (3, len("About "))
    assert fork.own == Count(3 * len("About cats. "))
    assert it.computed.known < sum(
        tips.explain(t, backend=ScriptedBackend()).computed.known for t in ("cats", "cars", "dogs")
    )


def test_runs_that_ask_different_things_are_trees_of_their_own() -> None:
    @ft.function
    def some(s: ft.ProgramState, count: int) -> None:
        for _ in range(count):
            s += "x" + ft.gen()

    it = some.explain_batch([{"count": 1}, {"count": 2}], backend=ScriptedBackend())
    assert [node.parent for node in it.nodes] == [None, None, 1]


def test_the_program_is_not_run_and_the_model_not_asked() -> None:
    backend = ScriptedBackend()
    tips.explain("cats", backend=backend)
    assert backend.log == []


# ---- analyze


@dataclass
class TimedBackend(ScriptedBackend):
    """Says of every generation that it took 1, 2 and 3 ms, and that it computed 5 tokens."""

    async def generate(self, request: GenerateRequest) -> Any:
        async for chunk in super().generate(request):
            is_last = chunk.finish_reason is not None
            yield Chunk(**{**chunk.__dict__, "timing": Timing(1.0, 2.0, 3.0, 5) if is_last else None})

    async def server_info(self) -> dict[str, Any]:
        return {"computed_prompt_tokens": 5 * len(self.requests)}


def test_analyze_runs_the_program_on_an_empty_cache_and_shows_both() -> None:
    backend = TimedBackend("good")
    it = tips.explain("cats", backend=backend, analyze=True)
    assert backend.num_flushed == 1
    assert len(backend.requests) == 3
    first = by_label(it)['gen("first")'].actual
    assert first is not None
    assert (first.computed_tokens, first.new_tokens) == (5, 4)
    assert (first.queue_ms, first.prefill_ms, first.decode_ms) == (1.0, 2.0, 3.0)
    assert it.actual_computed == 15
    assert "prefill ms" in it.to_text()


def test_calls_that_no_plan_had_are_listed() -> None:
    @ft.function
    def agent(s: ft.ProgramState) -> None:
        s += "Think:" + ft.gen("thought")
        if s["thought"] == "go on":
            s += "More:" + ft.gen("more")

    it = agent.explain(backend=TimedBackend({"thought": "go on", "more": "done"}), analyze=True)
    assert [node.label for node in it.nodes] == ['gen("thought")']
    assert [(call.label, call.computed_tokens) for call in it.unplanned] == [('gen("more")', 5)]
    assert (it.planned_actual, it.actual_computed) == (5, 10)
    assert 'gen("thought") is compared' in it.open_reasons[0]
    assert 'not planned: gen("more")' in it.to_text()


def test_what_a_backend_does_not_tell_is_not_shown() -> None:
    it = tips.explain("cats", backend=ScriptedBackend("ok"), analyze=True)
    assert it.planned_actual is None
    assert not any(node.actual.is_told for node in it.nodes if node.actual is not None)
    assert it.to_text()


def test_an_error_of_the_run_is_the_runs_own() -> None:
    with pytest.raises(ft.BatchErrors, match="first"):
        tips.explain("cats", backend=ScriptedBackend({"first": ft.BackendError("no")}), analyze=True)


def test_times_are_in_the_meta_info_of_a_variable() -> None:
    meta = tips.run("cats", backend=TimedBackend("ok")).get_meta_info("sum")
    assert (meta["queue_time"], meta["prefill_time"], meta["decode_time"]) == (0.001, 0.002, 0.003)
    assert meta["first_token_latency"] == pytest.approx(0.003)
    assert meta["computed_tokens"] == 5


# ---- refused


class NoTokens:
    """Everything of a backend but tokens."""

    def __init__(self) -> None:
        backend = ScriptedBackend()
        for name in ("model_info", "generate", "score", "commit", "clear_cache", "server_info", "aclose"):
            setattr(self, name, getattr(backend, name))
        self.capabilities = backend.capabilities


def test_a_backend_without_tokens_is_refused_with_what_to_do() -> None:
    with pytest.raises(ft.ArgumentError, match=r"tokens, and NoTokens does not tell them.*ft\.Runtime\(\)"):
        tips.explain("cats", backend=NoTokens())


def test_what_analyze_needs_is_said() -> None:
    with pytest.raises(ft.ArgumentError, match="topic"):
        tips.explain(backend=ScriptedBackend(), analyze=True)
    with pytest.raises(ft.ArgumentError, match="batch is empty"):
        tips.explain_batch([], backend=ScriptedBackend())
    with pytest.raises(ft.ArgumentError, match="no argument 'colour'"):
        tips.explain(colour=1, backend=ScriptedBackend())


# ---- JSON and HTML


def test_json_has_the_nodes_and_the_totals() -> None:
    found = json.loads(explained(analyze=True).to_json())
    assert found["version"] == 1
    assert [node["label"] for node in found["nodes"]] == [node.label for node in explained().nodes]
    assert found["totals"]["computed"]["known"] == explained().computed.known


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_by_itself_and_draws_every_segment() -> None:
    page = Page()
    page.feed(explained(analyze=True).to_html())
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not any(name in ("src", "href") for _, attributes in page.tags for name in attributes)
    boxes = [attributes for tag, attributes in page.tags if tag == "div" and "box" in (attributes.get("class") or "")]
    assert len(boxes) == 4 + 3, "four segments, and the outputs of three calls"
    assert sum("shared" in (box["class"] or "") for box in boxes) == 1
    assert all("%" in (box["style"] or "") and box["title"] for box in boxes)


def test_no_text_of_a_program_gets_out_of_its_place_on_the_page() -> None:
    nasty = '"><script>alert(1)</script>{0}</style>&'

    @ft.function
    def write(s: ft.ProgramState) -> None:
        s += nasty + ft.gen(nasty)

    page = Page()
    page.feed(write.explain(backend=ScriptedBackend()).to_html())
    assert "script" not in {tag for tag, _ in page.tags}
    assert nasty in page.text


def test_a_program_without_calls_is_explained_too() -> None:
    it = ft.function(lambda s: s.__iadd__("text")).explain(backend=ScriptedBackend())
    assert (it.num_calls, it.nodes) == (0, ())
    assert it.to_text()
    assert it.to_html()
