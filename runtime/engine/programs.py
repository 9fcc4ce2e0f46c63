"""Runs whole programs next to the scheduler: a node starts in the turn in which what it needs has ended.

Here: ProgramRunner, which turns nodes into requests of the engine and their news into further nodes.
Not here: plans (program_plan.py), requests (core.py).  Imported by core.py; one thread, the engine loop's.

A program's item is one set of arguments.  Items start in their order, as many at a time as the engine takes well; a
node that is ready waits in a queue in which the longest chains of calls still to come go first."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import msgspec

from ..errors import ForktreeRuntimeError as Error
from ..errors import InvalidRequest, describe_error
from .call import Call, scoring
from .choices import decide, needs_alone
from .loop import News
from .messages import (
    AbortProgram,
    EngineMessage,
    Failed,
    ModelInfo,
    Output,
    ProgramNews,
    RunProgram,
    ScoredChoice,
    Scores,
    Submit,
    SubmitScore,
    Timing,
)
from .program_plan import PlanNode, ProgramPlan, Reference
from .program_uses import Announcements, ItemUses
from .prompt_text import PromptText, TextEncoder
from .scoring import OnEnd

MAX_ITEMS_AT_A_TIME = 256


class Requests(Protocol):
    """The engine as a program's nodes use it.  `tell` and `answer` may be called at once, while the call still runs."""

    def submit(self, message: Submit, tell: Callable[[News], None]) -> None: ...

    def score(self, message: SubmitScore, answer: OnEnd) -> None: ...

    def abort(self, request_id: int) -> None: ...


class ProgramRunner:
    """All programs of one engine."""

    def __init__(
        self,
        requests: Requests,
        emit: Callable[[list[EngineMessage]], None],
        encoder: TextEncoder,
        info: ModelInfo,
        new_id: Callable[[], int],
        cache: Announcements,
        *,
        max_requests: int,
    ) -> None:
        self._requests, self._emit, self._encoder, self._info = requests, emit, encoder, info
        self._max_requests = max(1, max_requests)
        self._programs: dict[int, _Program] = {}
        self._new_id, self._cache = new_id, cache
        self._serving: set[int] = set()  # ids of the requests that are under way
        self._ready: list[tuple[int, int, _Item, int]] = []  # heap: (-calls still to come, age, item, node)
        self._ages = itertools.count()
        self._starting = False
        self._full = False  # the engine's queue was full a moment ago

    def run(self, message: RunProgram) -> None:
        program = _Program(message, ProgramPlan(message.nodes, message.whole))
        self._programs[message.call_id] = program
        self._start_items(program)
        self._start_ready()

    def abort(self, message: AbortProgram) -> None:
        """End a program, one item of it, or one node and what needs it.  Ids that are not known are harmless."""
        program = self._programs.get(message.call_id)
        if program is None:
            return
        if message.item is None:
            del self._programs[message.call_id]
            program.waiting.clear()
            for item in list(program.active.values()):
                self._drop(item, range(len(item.plan.nodes)))
                item.uses.over()
            return
        if (active := program.active.get(message.item)) is None:
            program.waiting = deque(each for each in program.waiting if each != message.item)
        else:
            every = range(len(active.plan.nodes))
            self._drop(active, every if message.node is None else _with_dependents(active.plan, message.node))
            self._end_if_done(active)
        self._start_ready()

    def _hear(self, item: _Item, running: _Running, number: int, news: News) -> None:
        """News of request `number` of a gen."""
        if news.request_id not in self._serving:  # aborted meanwhile
            return
        if isinstance(news, Failed):
            self._serving.discard(news.request_id)
            self._request_failed(item, running, news.kind, news.args)
        else:
            if news.finish_reason is not None:
                self._serving.discard(news.request_id)
            running.take(number, news)
            self._emit([item.news(running, output=number, delta=news)])
            if running.done:
                first = running.outputs[0]
                item.texts[running.node] = [output.text for output in running.outputs]
                self._end_node(item, running, first.text, first.kept)
        self._start_ready()

    def _hear_scores(
        self, item: _Item, running: _Running, number: int, message: SubmitScore, result: Scores | Error
    ) -> None:
        """The choices' scores: number 0 after the prompt, 1 with nothing before them."""
        if message.request_id not in self._serving:
            return
        self._serving.discard(message.request_id)
        if isinstance(result, Error):
            self._request_failed(item, running, *describe_error(result))
        else:
            trie = message.trie
            pairs = zip(trie.along(trie.tokens), trie.along(result.logprobs), strict=True)
            running.scores[number] = [ScoredChoice(ids, logprobs) for ids, logprobs in pairs]
            running.timing = running.timing.beside(result.timing) if running.timing is not None else result.timing
            if running.done:
                self._choose(item, running)
        self._start_ready()

    def _request_failed(self, item: _Item, running: _Running, kind: str, args: list[Any]) -> None:
        """Where others fill the engine's queue, the node gets another turn at our next news."""
        if kind == "EngineOverloaded" and self._serving:
            self._abort_requests(running)
            del item.running[running.node]
            self._make_ready(item, running.node)
            self._full = True
        else:
            self._fail(item, running.node, kind, args)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start_items(self, program: _Program) -> None:
        while program.waiting and len(program.active) < MAX_ITEMS_AT_A_TIME:
            index = program.waiting.popleft()
            item = program.active[index] = _Item(program, index, self._cache)
            for node, needed in enumerate(program.plan.nodes):
                if not needed.needs:
                    self._make_ready(item, node)
            self._end_if_done(item)  # a program of nothing but text

    def _make_ready(self, item: _Item, node: int) -> None:
        """Everything that the node needs is done."""
        if item.plan.nodes[node].kind == "text":
            end = item.ends[node] = item.prompt_of(node, self._encoder)
            item.uses.ended(node, end, others_go_on=True)
            self._unlock(item, node)
        else:
            item.open.add(node)
            heapq.heappush(self._ready, (-item.plan.remaining[node], next(self._ages), item, node))

    def _unlock(self, item: _Item, node: int) -> None:
        for dependent in item.plan.dependents[node]:
            item.num_missing[dependent] -= 1
            if not item.num_missing[dependent] and dependent not in item.dropped:
                self._make_ready(item, dependent)

    def _start_ready(self) -> None:
        """Turn ready nodes into requests while there is room.  Submitting may fail at once, and so come back here."""
        if self._starting:
            return
        self._starting = True
        try:
            self._full = False
            while self._ready and not self._full and len(self._serving) < self._max_requests:
                _, _, item, node = heapq.heappop(self._ready)
                if node in item.dropped:
                    continue
                try:
                    self._start(item, node)
                except Error as error:
                    self._fail(item, node, *describe_error(error))
        finally:
            self._starting = False

    def _start(self, item: _Item, index: int) -> None:
        node, prompt = item.plan.nodes[index], item.prompt_of(index, self._encoder)
        ids = prompt.token_ids()
        running = _Running(index, node, prompt)
        item.running[index] = running
        item.uses.begun(index)
        if node.kind == "gen":
            self._start_gen(item, running, ids)
        else:
            self._start_select(item, running, ids)

    def _start_gen(self, item: _Item, running: _Running, ids: list[int]) -> None:
        node = running.plan_node
        calls = [self._call_of(item, node, output).fitted(ids, self._info) for output in range(node.sampling.n)]
        submits = [call.submit(self._new_id(), ids, 0) for call in calls]
        running.outputs = [_Output() for _ in submits]
        self._serve(running, [submit.request_id for submit in submits])
        for number, submit in enumerate(submits):
            if submit.request_id in self._serving:  # the first may have failed, and its node with it
                self._requests.submit(submit, partial(self._hear, item, running, number))

    def _start_select(self, item: _Item, running: _Running, ids: list[int]) -> None:
        node = running.plan_node
        tails = [self._encoder.encode_continuation(choice) for choice in node.choices]
        heads = [ids or self._encoder.start_ids()]
        if needs_alone(node.method):
            heads.append([])
        salt = item.program.namespace.decode()
        messages = [scoring(self._new_id(), head, tails, self._info, salt) for head in heads]
        running.scores = [None for _ in messages]
        self._serve(running, [message.request_id for message in messages])
        for number, message in enumerate(messages):
            if message.request_id in self._serving:
                self._requests.score(message, partial(self._hear_scores, item, running, number, message))

    def _serve(self, running: _Running, request_ids: list[int]) -> None:
        running.request_ids = request_ids
        self._serving.update(request_ids)

    def _call_of(self, item: _Item, node: PlanNode, output: int) -> Call:
        """Each of n outputs is a request by itself, with the next seed."""
        seed = node.sampling.seed
        params = msgspec.structs.replace(node.sampling, n=1, seed=seed + output if seed is not None else None)
        start = node.logprob_start_len if node.return_logprob and node.logprob_start_len >= 0 else None
        return Call(
            params,
            node.return_logprob,
            start,
            node.top_logprobs_num,
            item.program.namespace,
            None,
            live=item.program.stream,
        )

    # -- ending -------------------------------------------------------------------------------------------------------

    def _choose(self, item: _Item, running: _Running) -> None:
        node = running.plan_node
        choices, alone = running.scores[0] or [], (running.scores[1:] or [None])[0] or []
        chosen = decide(
            [each.token_ids for each in choices],
            [each.logprobs for each in choices],
            [each.logprobs for each in alone],
            method=node.method,
            temperature=node.temperature,
            seed=node.seed,
        )
        self._emit([item.news(running, scores=choices, alone=alone or None)])
        item.texts[running.node] = [node.choices[chosen]]
        self._end_node(item, running, node.choices[chosen], choices[chosen].token_ids)

    def _end_node(self, item: _Item, running: _Running, text: str, kept: list[int] | None) -> None:
        node = running.node
        item.ends[node] = running.prompt.with_output(text, kept)
        del item.running[node]
        item.open.discard(node)
        item.uses.ended(node, item.ends[node], others_go_on=bool(item.open) or bool(item.plan.dependents[node]))
        self._unlock(item, node)
        self._end_if_done(item)

    def _fail(self, item: _Item, node: int, kind: str, args: list[object]) -> None:
        """The node's error is told; what needs it never begins, and the rest of the item goes on."""
        self._emit([ProgramNews(item.program.call_id, item.index, node, error=(kind, list(args)))])
        self._drop(item, _with_dependents(item.plan, node))
        self._end_if_done(item)

    def _drop(self, item: _Item, nodes: range | list[int]) -> None:
        """These nodes are not wanted any more; an entry of theirs in the heap is passed over when it comes up."""
        for node in nodes:
            if node in item.ends or node in item.dropped:
                continue
            item.dropped.add(node)
            item.open.discard(node)
            if (running := item.running.pop(node, None)) is not None:
                self._abort_requests(running)
            else:
                item.uses.begun(node)

    def _abort_requests(self, running: _Running) -> None:
        for request_id in running.request_ids:
            if request_id in self._serving:
                self._serving.discard(request_id)
                self._requests.abort(request_id)

    def _end_if_done(self, item: _Item) -> None:
        program = item.program
        if item.open or program.active.get(item.index) is not item:
            return
        del program.active[item.index]
        item.uses.over()
        if program.call_id not in self._programs:
            return
        self._emit([ProgramNews(program.call_id, item.index, -1)])
        if program.waiting:
            self._start_items(program)
        elif not program.active:
            del self._programs[program.call_id]


class _Program:
    def __init__(self, message: RunProgram, plan: ProgramPlan) -> None:
        self.call_id, self.plan = message.call_id, plan
        self.items, self.stream, self.namespace = message.items, message.stream, message.namespace
        self.waiting: deque[int] = deque(range(len(message.items)))
        self.active: dict[int, _Item] = {}


class _Item:
    """One set of arguments on its way through the plan."""

    def __init__(self, program: _Program, index: int, cache: Announcements) -> None:
        self.uses = ItemUses(cache, (program.call_id, index), program.plan, program.namespace)
        self.program, self.plan, self.index = program, program.plan, index
        self.arguments = program.items[index]
        self.num_missing = [len(node.needs) for node in self.plan.nodes]
        self.open: set[int] = set()  # nodes that are ready or running
        self.running: dict[int, _Running] = {}
        self.dropped: set[int] = set()
        self.ends: dict[int, PromptText] = {}  # of nodes that are done: their text, their output included
        self.texts: dict[int, list[str]] = {}  # what nodes that are done have put out

    def __lt__(self, other: _Item) -> bool:
        return False  # the heap never gets so far: ages differ

    def prompt_of(self, index: int, encoder: TextEncoder) -> PromptText:
        node = self.plan.nodes[index]
        prompt = self.ends[node.after] if node.after >= 0 else PromptText(encoder)
        for piece in node.pieces:
            if isinstance(piece, str):
                prompt = prompt.with_text(piece)
            elif piece.argument is not None:
                prompt = prompt.with_text(self.arguments[piece.argument])
            else:
                prompt = self._with_reference(prompt, piece)
        return prompt

    def _with_reference(self, prompt: PromptText, piece: Reference) -> PromptText:
        if piece.as_tokens:
            text, token_ids = self.ends[piece.node].last_output
            return prompt.with_output(text, token_ids)
        texts = self.texts[piece.node]
        if piece.output >= len(texts):
            raise InvalidRequest("plan", f"node {piece.node} has no output {piece.output}")
        return prompt.with_text(texts[piece.output])

    def news(
        self,
        running: _Running,
        *,
        output: int = 0,
        delta: Output | None = None,
        scores: list[ScoredChoice] | None = None,
        alone: list[ScoredChoice] | None = None,
    ) -> ProgramNews:
        return ProgramNews(
            self.program.call_id,
            self.index,
            running.node,
            output=output,
            digest=running.digest,
            delta=delta,
            scores=scores,
            alone=alone,
            timing=running.timing,
        )


@dataclass
class _Output:
    """One output of a gen so far."""

    text: str = ""
    kept: list[int] | None = None
    done: bool = False


class _Running:
    """A node whose requests are in the engine: one for each output of a gen, one or two for the scores of a select."""

    def __init__(self, node: int, plan_node: PlanNode, prompt: PromptText) -> None:
        self.node, self.plan_node, self.prompt = node, plan_node, prompt
        self.digest = prompt.digest()
        self.request_ids: list[int] = []
        self.outputs: list[_Output] = []
        self.scores: list[list[ScoredChoice] | None] = []
        self.timing: Timing | None = None  # of the scores

    @property
    def done(self) -> bool:
        return all(output.done for output in self.outputs) and None not in self.scores

    def take(self, number: int, news: Output) -> None:
        output = self.outputs[number]
        output.text += news.text
        if news.finish_reason is not None:
            output.kept, output.done = news.kept_token_ids, True


def _with_dependents(plan: ProgramPlan, node: int) -> list[int]:
    """The node and everything that needs it, directly or not."""
    found, stack = {node}, [node]
    while stack:
        for dependent in plan.dependents[stack.pop()]:
            if dependent not in found:
                found.add(dependent)
                stack.append(dependent)
    return sorted(found)
