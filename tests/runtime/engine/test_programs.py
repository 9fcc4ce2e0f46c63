"""Programs next to the scheduler: what starts when, what ends when, and that nothing is left of it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.runtime.engine import programs
from forktree.runtime.engine.loop import News
from forktree.runtime.engine.messages import (
    AbortProgram,
    EngineMessage,
    Failed,
    ModelInfo,
    Output,
    ProgramNews,
    RunProgram,
    Scores,
    Submit,
    SubmitScore,
    Timing,
    Usage,
)
from forktree.runtime.engine.program_plan import ProgramPlan
from forktree.runtime.engine.programs import ProgramRunner
from forktree.runtime.engine.prompt_text import PromptText, TextEncoder
from forktree.runtime.engine.scoring import OnEnd
from forktree.runtime.errors import EngineOverloaded, RequestFailed
from tests.support.byte_tokenizer import ByteTokenizer

INFO = ModelInfo("bytes", "", 1000, 256, (0,), None, False, None, None, "", 100, 16)


@dataclass
class Asked:
    """One request that the runner made."""

    message: Submit | SubmitScore
    tell: Callable[[News], None] | None = None
    answer: OnEnd | None = None
    said: str = ""

    @property
    def id(self) -> int:
        return self.message.request_id

    @property
    def prompt(self) -> str:
        return bytes(self.message.prompt).decode()

    def say(self, text: str, finish: str | None = None) -> None:
        assert self.tell is not None
        self.said += text
        kept = list(self.said.encode()) if finish else None
        self.tell(Output(self.id, text, list(text.encode()), [], None, Usage(1, 1, 0), finish, kept_token_ids=kept))

    def end(self, text: str = "") -> None:
        """A gen puts out `text`; a select's choices are the likelier the earlier they stand in the alphabet."""
        if self.answer is None:
            self.say(text, "stop")
        else:
            assert isinstance(self.message, SubmitScore)
            logprobs = [-float(token) for token in self.message.trie.tokens]
            self.answer(Scores(self.id, logprobs, Timing(0.0, 0.0, 0.0, 1)))

    def fail(self, kind: str = "RequestFailed") -> None:
        if self.tell is not None:
            self.tell(Failed(self.id, kind, ["no"]))
        else:
            assert self.answer is not None
            self.answer(EngineOverloaded("no") if kind == "EngineOverloaded" else RequestFailed("no"))


@dataclass
class Cache:
    """Keeps who expects to come back to something."""

    pages_are_short: bool = False
    owners: set[Hashable] = field(default_factory=set)

    def expect(self, owner: Hashable, uses: Sequence[object], namespace: bytes = b"") -> None:
        self.owners.discard(owner)
        if uses:
            self.owners.add(owner)

    def forget(self, owner: Hashable) -> None:
        self.owners.discard(owner)

    def retire(self, tokens: object, num_shared: int, namespace: bytes = b"") -> None:
        return None


@dataclass
class Rig:
    """A runner whose requests wait for the test, and everything that its clients hear."""

    room: int = 100
    full: bool = False  # the engine's queue takes nothing
    running: dict[int, Asked] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    aborted: list[int] = field(default_factory=list)
    news: list[ProgramNews] = field(default_factory=list)
    begun: list[ProgramNews] = field(default_factory=list)  # of nodes whose requests were made
    most_running: int = 0
    hold_back: bool = False  # what is put off waits for the test
    held: list[Callable[[], None]] = field(default_factory=list)
    cache: Cache = field(default_factory=Cache)

    def __post_init__(self) -> None:
        ids = itertools.count(-1, -1)
        encoder = TextEncoder(ByteTokenizer(), INFO)
        self.runner = ProgramRunner(
            self, self._emit, encoder, INFO, ids.__next__, self.cache, max_requests=self.room, later=self._later
        )

    # ---- what the runner sees

    def submit(self, message: Submit, tell: Callable[[News], None]) -> None:
        if self.full:
            tell(Failed(message.request_id, "EngineOverloaded", ["the queue is full"]))
        else:
            self._add(Asked(message, tell=tell))

    def score(self, message: SubmitScore, answer: OnEnd) -> None:
        if self.full:
            answer(EngineOverloaded("the queue is full"))
        else:
            self._add(Asked(message, answer=answer))

    def abort(self, request_id: int) -> None:
        """As the engine: whoever asked hears of the end at once, and ids that are not known are harmless."""
        if (asked := self.running.pop(request_id, None)) is None:
            return
        self.aborted.append(request_id)
        if asked.tell is not None:
            asked.say("", "abort")
        else:
            asked.fail()

    def _later(self, what: Callable[[], None]) -> None:
        """At once, one after the other, unless the test holds them back."""
        self.held.append(what)
        if not self.hold_back:
            self.hold_back = True
            while self.held:
                self.held.pop()()
            self.hold_back = False

    def _add(self, asked: Asked) -> None:
        self.running[asked.id] = asked
        self.asked.append(asked)
        self.most_running = max(self.most_running, len(self.running))

    def _emit(self, messages: list[EngineMessage]) -> None:
        for message in messages:
            assert isinstance(message, ProgramNews)
            said = message.node < 0 or message.delta or message.scores or message.error
            (self.news if said else self.begun).append(message)

    # ---- what the test does

    def run(self, *nodes: dict[str, Any], items: Sequence[dict[str, str]] = ({},), call: int = 1, **more: Any) -> None:
        plan = ProgramPlan.read({"version": 1, "nodes": list(nodes)})
        self.runner.run(RunProgram(call, plan.nodes, list(items), stream=more.get("stream", False), whole=True))

    def end(self, prompt: str, text: str = "") -> None:
        asked = next(each for each in self.running.values() if each.prompt == prompt)
        del self.running[asked.id]
        asked.end(text)

    def fail(self, prompt: str, kind: str = "RequestFailed") -> None:
        asked = next(each for each in self.running.values() if each.prompt == prompt)
        del self.running[asked.id]
        asked.fail(kind)

    @property
    def prompts(self) -> list[str]:
        return sorted(asked.prompt for asked in self.running.values())

    @property
    def over(self) -> list[int]:
        return [news.item for news in self.news if news.node < 0]

    def errors(self) -> list[tuple[int, int, str]]:
        return [(news.item, news.node, news.error[0]) for news in self.news if news.error is not None]

    def check_empty(self) -> None:
        runner = self.runner
        assert not runner._programs
        assert not runner._startable
        assert not runner._serving
        assert runner._load == 0
        assert not self.cache.owners
        assert not self.running
        runner._start()  # entries of dropped nodes are passed over
        assert not runner._ready
        assert not self.running


def gen(*pieces: Any, after: int = -1, **sampling: Any) -> dict[str, Any]:
    return {"kind": "gen", "after": after, "pieces": list(pieces), "sampling": sampling}


def select(*pieces: Any, after: int = -1, choices: Sequence[str] = ("b", "a"), **more: Any) -> dict[str, Any]:
    return {"kind": "select", "after": after, "pieces": list(pieces), "choices": list(choices), **more}


def text(*pieces: Any, after: int = -1) -> dict[str, Any]:
    return {"kind": "text", "after": after, "pieces": list(pieces)}


def test_a_node_starts_when_what_it_needs_has_ended() -> None:
    rig = Rig()
    rig.run(text("Tips."), gen("A:", after=0), gen("B:", after=0), gen(" So ", {"node": 2}, after=1), select(after=3))
    assert rig.prompts == ["Tips.A:", "Tips.B:"]
    rig.end("Tips.A:", "x")
    assert rig.prompts == ["Tips.B:"]
    rig.end("Tips.B:", "y")
    assert rig.prompts == ["Tips.A:x So y"]
    rig.end("Tips.A:x So y", "!")
    assert rig.prompts == ["Tips.A:x So y!"]
    assert rig.over == []
    assert [news.node for news in rig.begun] == [1, 2, 3, 4]
    assert rig.begun[0].digest == PromptText(TextEncoder(ByteTokenizer(), INFO)).with_text("Tips.A:").digest()
    rig.end("Tips.A:x So y!")
    assert [news.node for news in rig.news] == [1, 2, 3, 4, -1]
    rig.check_empty()


def test_a_choice_goes_on_in_the_text_and_by_name() -> None:
    rig = Rig()
    rig.run(select("is it", method="greedy_token_selection"), gen(" (", {"node": 0}, ")", after=0))
    rig.end("is it")
    assert rig.prompts == ["is ita (a)"]
    assert rig.news[0].scores is not None
    assert [score.token_ids for score in rig.news[0].scores] == [[98], [97]]


def test_scores_without_the_prompt_come_too_where_the_method_asks() -> None:
    rig = Rig()
    rig.run(select("x", method="unconditional_likelihood_normalized"))
    assert rig.prompts == ["", "x"]
    rig.end("x")
    assert rig.news == []
    rig.end("")
    assert rig.news[0].alone is not None
    assert rig.over == [0]
    rig.check_empty()


def test_n_outputs_are_requests_with_seeds_in_a_row_and_the_first_goes_on() -> None:
    rig = Rig()
    rig.run(gen("x", n=3, seed=7), gen({"node": 0, "output": 2}, after=0))
    assert [asked.message.params.seed for asked in rig.asked] == [7, 8, 9]  # type: ignore[union-attr]
    for number in (2, 0, 1):
        asked = rig.asked[number]
        del rig.running[asked.id]
        asked.end(f"out{number}")
    assert rig.prompts == ["xout0out2"]
    assert [news.output for news in rig.news] == [2, 0, 1]


def test_streamed_pieces_are_passed_on_and_added_up() -> None:
    rig = Rig()
    rig.run(gen("x"), gen(after=0), stream=True)
    assert rig.asked[0].message.stream  # type: ignore[union-attr]
    rig.asked[0].say("a")
    rig.asked[0].say("b")
    rig.end("x", "c")
    assert rig.prompts == ["xabc"]


def test_each_item_has_its_arguments_and_its_end() -> None:
    rig = Rig()
    rig.run(gen("Q: ", {"argument": "q"}), items=[{"q": "a"}, {"q": "b"}])
    assert rig.prompts == ["Q: a", "Q: b"]
    rig.end("Q: b")
    assert rig.over == [1]
    rig.end("Q: a")
    assert rig.over == [1, 0]
    rig.check_empty()


def test_items_begin_in_their_order_as_room_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_ITEMS_AT_A_TIME", 2)
    rig = Rig()
    rig.run(gen({"argument": "q"}), items=[{"q": each} for each in "abcd"])
    assert rig.prompts == ["a", "b"]
    rig.end("b")
    assert rig.prompts == ["a", "c"]
    for each in "acd":
        rig.end(each)
    assert rig.over == [1, 0, 2, 3]
    rig.check_empty()


def test_the_longest_chain_of_calls_goes_first_when_there_is_little_room() -> None:
    rig = Rig(room=1)
    rig.run(gen("short"), gen("long"), gen(after=1), gen(after=2))
    assert rig.prompts == ["long"]
    rig.end("long", "1")
    assert rig.prompts == ["long1"]
    rig.end("long1", "2")
    assert rig.most_running == 1
    rig.end(rig.prompts[0])
    rig.end(rig.prompts[0])
    rig.check_empty()


def test_a_program_of_text_alone_is_over_at_once_however_many_items_and_nodes() -> None:
    rig = Rig()
    rig.run(text("a"), items=[{}] * 4096)
    assert rig.over == list(range(4096))
    rig.run(text("a"), *[text("a", after=i) for i in range(5000)], gen(after=5000, max_new_tokens=1), call=2)
    assert rig.errors() == [(0, 5001, "ContextLengthExceeded")]
    rig.check_empty()


def test_thousands_of_nodes_that_fail_at_once_let_the_engine_go_on_between_them() -> None:
    """All in one turn they held the engine, and everybody's requests with it, for minutes."""
    rig = Rig(hold_back=True)
    rig.run(*[gen()] * 1000, items=[{}] * 3)
    turns = 0
    while rig.held:
        assert len(rig.held) == 1
        assert len(rig.errors()) <= programs.PORTION * (turns + 1)
        turns += 1
        rig.held.pop()()
    assert len(rig.errors()) == 3000
    assert turns >= 3000 // programs.PORTION
    rig.check_empty()


def test_no_more_items_begin_than_keep_the_engine_busy_and_one_of_each_program() -> None:
    rig = Rig(room=2)
    rig.run(*[gen({"argument": "q"})] * 5, items=[{"q": each} for each in "ab"])
    rig.run(gen("other"), call=2)
    assert len(rig.runner._ready) == 4
    rig.runner.abort(AbortProgram(1))
    assert rig.prompts == ["other"]
    rig.end("other")
    rig.check_empty()


def test_a_program_that_has_not_begun_can_be_ended() -> None:
    rig = Rig(hold_back=True)
    rig.run(*[gen()] * 100)
    rig.run(gen("b"), call=2)
    rig.runner.abort(AbortProgram(2))
    assert rig.over == [0]
    while rig.held:
        rig.held.pop()()
    rig.check_empty()


def test_long_texts_are_kept_once_and_what_no_context_holds_is_not_tokenised() -> None:
    """Each node kept the whole text up to it: half a megabyte of plan took gigabytes, and the engine with them."""
    rig = Rig()
    row = [text("x" * 100, after=i - 1) for i in range(2000)]
    twice = gen({"argument": "a"}, {"argument": "a"})
    rig.run(*row, gen(after=1999), text({"node": 2000}, after=1999), gen("b"), twice, items=[{"a": "y" * 40_000}])
    assert rig.errors() == [(0, 2000, "InvalidRequest"), (0, 2003, "InvalidRequest")]
    rig.end("b")
    assert rig.over == [0]
    rig.run(gen("o"), text(*["x" * 64_001], after=-1), text({"node": 0, "as_tokens": True}, after=1), call=2)
    rig.end("o", "1")
    assert rig.errors()[2:] == [(0, 2, "InvalidRequest")]
    assert rig.over == [0, 0]
    rig.check_empty()


def test_a_failed_node_takes_along_what_needs_it_and_nothing_else() -> None:
    rig = Rig()
    rig.run(gen("a"), gen("b"), gen(after=0), gen({"node": 2}, after=1), gen(after=1))
    rig.fail("a")
    assert rig.errors() == [(0, 0, "RequestFailed")]
    assert rig.news[0].digest == PromptText(TextEncoder(ByteTokenizer(), INFO)).with_text("a").digest()
    rig.end("b", "1")
    assert rig.prompts == ["b1"]
    rig.end("b1")
    assert rig.over == [0]
    rig.check_empty()


def test_a_prompt_that_is_refused_fails_its_node_only() -> None:
    rig = Rig()
    rig.run(gen("x" * 2000), gen(), gen("b"), select(choices=["c" * 2000]))
    assert sorted(rig.errors()) == [
        (0, 0, "ContextLengthExceeded"),
        (0, 1, "InvalidRequest"),
        (0, 3, "ContextLengthExceeded"),
    ]
    rig.end("b")
    assert rig.over == [0]
    rig.check_empty()


def test_one_of_n_outputs_that_fails_ends_the_others() -> None:
    rig = Rig()
    rig.run(gen("x", n=3))
    asked = rig.asked[1]
    del rig.running[asked.id]
    asked.fail()
    assert sorted(rig.aborted) == sorted([rig.asked[0].id, rig.asked[2].id])
    assert rig.errors() == [(0, 0, "RequestFailed")]
    assert rig.over == [0]
    rig.check_empty()


# ---- ending from outside


def test_ending_a_program_ends_its_requests_and_tells_of_every_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_ITEMS_AT_A_TIME", 2)
    rig = Rig()
    rig.run(gen({"argument": "q"}), gen(after=0), items=[{"q": each} for each in "abcd"])
    rig.run(gen("other"), call=2)
    rig.runner.abort(AbortProgram(1))
    assert sorted(rig.over) == [0, 1, 2, 3]
    assert rig.prompts == ["other"]
    rig.end("other")
    rig.check_empty()


def test_ending_an_item_that_waits_or_runs_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "MAX_ITEMS_AT_A_TIME", 1)
    rig = Rig()
    rig.run(gen({"argument": "q"}), items=[{"q": each} for each in "abc"])
    rig.runner.abort(AbortProgram(1, 1))
    assert rig.over == [1]
    rig.runner.abort(AbortProgram(1, 0))
    assert rig.over == [1, 0]
    assert rig.prompts == ["c"]
    rig.end("c")
    assert rig.over == [1, 0, 2]
    rig.check_empty()


def test_ending_a_node_ends_what_needs_it_too() -> None:
    rig = Rig()
    rig.run(gen("a"), gen("b"), gen(after=0), gen({"node": 0}, after=1), gen(after=1))
    rig.runner.abort(AbortProgram(1, 0, 0))
    assert rig.prompts == ["b"]
    rig.end("b", "1")
    assert rig.prompts == ["b1"]
    rig.runner.abort(AbortProgram(1, 0, 1))  # it has ended: what needs it goes, what it said stays
    assert rig.over == [0]
    rig.check_empty()


@pytest.mark.parametrize("ids", [(9,), (1, 9), (1, -1), (1, 0, 99), (1, 0, -1)])
def test_ending_what_is_not_there_is_harmless(ids: tuple[int, ...]) -> None:
    rig = Rig()
    rig.run(gen("a"))
    rig.runner.abort(AbortProgram(*ids))
    rig.end("a")
    assert rig.over == [0]
    rig.check_empty()


# ---- a queue that is full


def test_a_node_that_meets_a_full_queue_is_put_off_until_ours_make_room() -> None:
    rig = Rig()
    rig.run(gen("a"), gen("a2", after=0))
    rig.full = True
    rig.run(gen("b", n=2), call=2)
    assert rig.errors() == []
    assert rig.prompts == ["a"]
    rig.full = False
    rig.end("a", "1")
    assert rig.prompts == ["a1a2", "b", "b"]


@pytest.mark.parametrize("node", [gen("b", n=3), gen("b"), select("b", method="unconditional_likelihood_normalized")])
def test_a_queue_that_others_fill_is_an_error_since_nothing_of_ours_would_wake_us(node: dict[str, Any]) -> None:
    rig = Rig(full=True)
    rig.run(node)
    assert rig.errors() == [(0, 0, "EngineOverloaded")]
    assert rig.over == [0]
    rig.check_empty()


def test_a_node_told_later_of_a_full_queue_waits_for_news_of_another() -> None:
    rig = Rig()
    rig.run(gen("a"), gen("b"))
    rig.fail("b", "EngineOverloaded")  # as when its constraint had to be compiled first
    assert rig.prompts == ["a"]
    assert rig.errors() == []
    rig.end("a")
    assert rig.prompts == ["b"]
    rig.fail("b", "EngineOverloaded")
    assert rig.errors() == [(0, 1, "EngineOverloaded")]
    rig.check_empty()


# ---- any plan, any order


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    for i in range(draw(st.integers(1, 8))):
        after = draw(st.integers(-1, i - 1))
        outputs = [k for k in range(i) if nodes[k]["kind"] != "text"]
        pieces: list[Any] = [f"<{i}>"]
        if outputs and draw(st.booleans()):
            of = draw(st.sampled_from(outputs))
            n = nodes[of].get("sampling", {}).get("n", 1)
            pieces.append({"node": of, "output": draw(st.integers(0, n - 1))})
        make = draw(st.sampled_from([text, gen, gen, select]))
        more = {"n": draw(st.integers(1, 3))} if make is gen else {}
        nodes.append(make(*pieces, {"argument": "q"}, after=after, **more))
    return nodes


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4))
def test_every_node_runs_once_and_every_item_ends_once(
    nodes: list[dict[str, Any]], seed: int, room: int, num_items: int
) -> None:
    draw = random.Random(seed)
    rig = Rig(room=room)
    rig.run(*nodes, items=[{"q": f"({i})"} for i in range(num_items)])
    while rig.running:
        asked = rig.running.pop(draw.choice(list(rig.running)))
        asked.end(str(draw.randrange(10)))
    assert not rig.errors()
    assert sorted(rig.over) == list(range(num_items))
    for item in range(num_items):
        told = [(news.node, news.output) for news in rig.news if news.item == item and news.node >= 0]
        wanted = [
            (i, output)
            for i, node in enumerate(nodes)
            if node["kind"] != "text"
            for output in range(node.get("sampling", {}).get("n", 1))
        ]
        assert sorted(told) == wanted
        ended = [node for node, _ in told]
        for i, node in enumerate(ProgramPlan.read({"version": 1, "nodes": nodes}).nodes):
            if i in ended:
                assert all(ended.index(i) > ended.index(need) for need in node.needs if need in ended)
    rig.check_empty()


@settings(max_examples=150, deadline=None)
@given(plans(), st.integers(0, 2**32), st.integers(1, 6))
def test_whatever_fails_or_is_ended_in_whatever_order_nothing_is_left(
    nodes: list[dict[str, Any]], seed: int, room: int
) -> None:
    draw = random.Random(seed)
    rig = Rig(room=room)
    rig.run(*nodes, items=[{"q": str(i)} for i in range(3)])
    for _ in range(1000):
        if not rig.running:
            break
        rig.full, rig.cache.pages_are_short = draw.random() < 0.2, draw.random() < 0.7
        what = draw.randrange(10)
        if what == 0:
            rig.runner.abort(AbortProgram(1, draw.randrange(3), draw.randrange(len(nodes))))
        elif what == 1:
            rig.runner.abort(AbortProgram(1, draw.randrange(3)))
        else:
            asked = rig.running.pop(draw.choice(list(rig.running)))
            if what in (2, 3):
                asked.fail("EngineOverloaded" if what == 2 else "RequestFailed")
            else:
                asked.end("x")
    assert sorted(rig.over) == [0, 1, 2]
    for news in rig.news[-1:]:
        assert news.node == -1
    rig.check_empty()


def test_an_older_program_goes_before_a_younger_one_with_a_longer_chain() -> None:
    rig = Rig(room=1)
    rig.run(gen("first"), gen("second"))
    rig.run(gen("long"), gen("longer", after=0), gen("longest", after=1), call=2)
    rig.end("first")
    assert rig.prompts == ["second"]
    rig.end("second")
    assert rig.prompts == ["long"]


def test_a_select_takes_as_much_room_as_it_has_choices() -> None:
    rig = Rig(room=3)
    rig.run({"kind": "select", "pieces": ["pick"], "choices": ["a", "b", "c"]}, gen("other"))
    assert rig.prompts == ["pick"]
    rig.end("pick")
    assert rig.prompts == ["other"]


def test_the_text_of_a_node_is_kept_only_while_others_will_go_on_from_it() -> None:
    rig = Rig()
    rig.run(gen("a"), gen("b", after=0), gen("c", after=1))
    (program,) = rig.runner._programs.values()
    (item,) = program.active.values()
    rig.end("a", "1")
    assert not item._ends  # what goes on from it has begun
    rig.end("a1b", "2")
    assert not item._ends
    rig.end("a1b2c")
    rig.check_empty()


def test_a_node_that_is_put_off_and_then_given_up_takes_nothing_from_the_others_beside_it() -> None:
    """It was counted twice as gone on from its parent, whose text was let go while another node still waited for it."""
    rig = Rig(room=10)
    rig.run(gen("a"), gen("b", after=0), gen("slow"), gen({"node": 2}, after=0))
    rig.full = True  # others fill the engine's queue: b, which may start when a has ended, is put off
    rig.end("a", "1")
    rig.runner.abort(AbortProgram(1, 0, 1))
    rig.full = False
    rig.end("slow", "2")
    assert rig.prompts == ["a12"]
    rig.end("a12")
    assert rig.over == [0]
    rig.check_empty()
