"""Runs whole programs next to the scheduler: a node starts in the turn in which what it needs has ended.

Here: ProgramRunner, which turns nodes into requests of the engine and their news into further nodes.
Not here: plans (program_plan.py), requests (core.py).  Imported by core.py; one thread, the engine loop's; no torch.

A program's item is one set of arguments.  Items start in their order, as many at a time as the engine takes well; a
node that is ready waits in a queue in which the longest chains of calls still to come go first."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ..errors import ForktreeRuntimeError, InvalidRequest, describe_error
from .call import Call, scoring
from .choices import decide, needs_alone
from .messages import (
    AbortProgram,
    EngineMessage,
    Failed,
    ModelInfo,
    Output,
    ProgramNews,
    RunProgram,
    ScoredChoice,
    Submit,
)
from .program_plan import PlanNode, ProgramPlan, Reference
from .prompt_text import PromptText, TextEncoder

MAX_ITEMS_AT_A_TIME = 256


class Requests(Protocol):
    """The engine as a program's nodes use it.  News of a request arrive at ProgramRunner.take."""

    def submit(self, message: Submit) -> None: ...

    def abort(self, request_id: int) -> None: ...


class ProgramRunner:
    """All programs of one engine."""

    def __init__(
        self,
        requests: Requests,
        emit: Callable[[list[EngineMessage]], None],
        encoder: TextEncoder,
        info: ModelInfo,
        *,
        max_requests: int,
    ) -> None:
        self._requests, self._emit, self._encoder, self._info = requests, emit, encoder, info
        self._max_requests = max(1, max_requests)
        self._programs: dict[int, _Program] = {}
        self._serving: dict[int, tuple[_Item, _Running]] = {}  # by request id, which is negative: no client's is
        self._ids = itertools.count(-1, -1)
        self._ready: list[tuple[int, int, _Item, int]] = []  # heap: (-calls still to come, age, item, node)
        self._ages = itertools.count()
        self._starting = False
        self._full = False  # the engine's queue was full a moment ago

    @property
    def idle(self) -> bool:
        return not self._programs

    def run(self, message: RunProgram) -> None:
        program = _Program(message, ProgramPlan(message.nodes))
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
            return
        if (active := program.active.get(message.item)) is None:
            program.waiting = deque(each for each in program.waiting if each != message.item)
        else:
            every = range(len(active.plan.nodes))
            self._drop(active, every if message.node is None else _with_dependents(active.plan, message.node))
            self._end_if_done(active)
        self._start_ready()

    def take(self, news: Output | Failed) -> None:
        """News of a request that `submit` started."""
        found = self._serving.get(news.request_id)
        if found is None:  # aborted meanwhile
            return
        item, running = found
        if isinstance(news, Failed):
            del self._serving[news.request_id]
            if news.kind == "EngineOverloaded" and self._serving:
                self._put_off(item, running)  # others fill the queue; it gets another turn at our next news
                return
            else:
                self._fail(item, running.node, news.kind, news.args)
        else:
            if news.finish_reason is not None:
                del self._serving[news.request_id]
            running.take(news)
            if running.is_score:
                self._finish_score(item, running)
            else:
                self._pass_on(item, running, news)
        self._start_ready()

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start_items(self, program: _Program) -> None:
        while program.waiting and len(program.active) < MAX_ITEMS_AT_A_TIME:
            index = program.waiting.popleft()
            item = program.active[index] = _Item(program, index)
            for node, needed in enumerate(program.plan.nodes):
                if not needed.needs:
                    self._make_ready(item, node)
            self._end_if_done(item)  # a program of nothing but text

    def _make_ready(self, item: _Item, node: int) -> None:
        """Everything that the node needs is done."""
        if item.plan.nodes[node].kind == "text":
            item.ends[node] = item.prompt_of(node, self._encoder)
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
                except ForktreeRuntimeError as error:
                    self._fail(item, node, *describe_error(error))
        finally:
            self._starting = False

    def _start(self, item: _Item, index: int) -> None:
        node, prompt = item.plan.nodes[index], item.prompt_of(index, self._encoder)
        ids = prompt.token_ids()
        item.prompts[index] = prompt
        if node.kind == "gen":
            calls = [self._call_of(item, node, output) for output in range(node.sampling.n)]
            prompts = [ids] * len(calls)
        else:
            head = ids or self._encoder.start_ids()
            tails = [self._encoder.encode_continuation(choice) for choice in node.choices]
            calls, prompts = [scoring(len(head))] * len(tails), [[*head, *tail] for tail in tails]
            if needs_alone(node.method):
                calls += [scoring(0)] * len(tails)
                prompts += tails
        running = _Running(index, node, prompt.digest(), len(calls))
        item.running[index] = running
        submits = []
        for number, (call, ids) in enumerate(zip(calls, prompts, strict=True)):
            request_id = next(self._ids)
            running.numbers[request_id] = number
            submits.append(call.fitted(ids, self._info).submit(request_id, ids, 0))
        for submit in submits:
            self._serving[submit.request_id] = item, running
        for submit in submits:
            if submit.request_id in self._serving:  # the first may have failed, and its node with it
                self._requests.submit(submit)

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

    def _put_off(self, item: _Item, running: _Running) -> None:
        self._abort_requests(running)
        del item.running[running.node]
        self._make_ready(item, running.node)
        self._full = True

    # -- ending -------------------------------------------------------------------------------------------------------

    def _pass_on(self, item: _Item, running: _Running, news: Output) -> None:
        number = running.numbers[news.request_id]
        item.tell(self._emit, running, output=number, delta=news)
        if not running.done:
            return
        first = running.outputs[0]
        item.texts[running.node] = [output.text for output in running.outputs]
        self._end_node(item, running, first.text, first.kept)

    def _finish_score(self, item: _Item, running: _Running) -> None:
        if not running.done:
            return
        node = running.plan_node
        scored = [ScoredChoice(ids, logprobs) for ids, logprobs in running.scores()]
        choices, alone = scored[: len(node.choices)], scored[len(node.choices) :]
        chosen = decide(
            [each.token_ids for each in choices],
            [each.logprobs for each in choices],
            [each.logprobs for each in alone],
            method=node.method,
            temperature=node.temperature,
            seed=node.seed,
        )
        item.tell(self._emit, running, scores=choices, alone=alone)
        text = node.choices[chosen]
        item.texts[running.node] = [text]
        self._end_node(item, running, text, choices[chosen].token_ids)

    def _end_node(self, item: _Item, running: _Running, text: str, kept: list[int] | None) -> None:
        node = running.node
        item.ends[node] = item.prompts.pop(node).with_output(text, kept)
        item.running.pop(node, None)
        item.open.discard(node)
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
            if node not in item.ends:
                item.dropped.add(node)
                item.open.discard(node)
                if (running := item.running.pop(node, None)) is not None:
                    self._abort_requests(running)

    def _abort_requests(self, running: _Running) -> None:
        for request_id in running.numbers:
            if self._serving.pop(request_id, None) is not None:
                self._requests.abort(request_id)

    def _end_if_done(self, item: _Item) -> None:
        program = item.program
        if item.open or program.active.get(item.index) is not item:
            return
        del program.active[item.index]
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

    def __init__(self, program: _Program, index: int) -> None:
        self.program, self.plan, self.index = program, program.plan, index
        self.arguments = program.items[index]
        self.num_missing = [len(node.needs) for node in self.plan.nodes]
        self.open: set[int] = set()  # nodes that are ready or running
        self.running: dict[int, _Running] = {}
        self.dropped: set[int] = set()
        self.prompts: dict[int, PromptText] = {}  # of running nodes
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

    def tell(
        self,
        emit: Callable[[list[EngineMessage]], None],
        running: _Running,
        *,
        output: int = 0,
        delta: Output | None = None,
        scores: list[ScoredChoice] | None = None,
        alone: list[ScoredChoice] | None = None,
    ) -> None:
        emit(
            [
                ProgramNews(
                    self.program.call_id,
                    self.index,
                    running.node,
                    output=output,
                    digest=running.digest,
                    delta=delta,
                    scores=scores,
                    alone=alone or None,
                )
            ]
        )


@dataclass
class _Output:
    text: str = ""
    kept: list[int] | None = None
    done: bool = False
    ids: list[int] = field(default_factory=list)  # of a score: the tokens scored, and how likely each is
    logprobs: list[float] = field(default_factory=list)


class _Running:
    """A node whose requests are in the engine."""

    def __init__(self, node: int, plan_node: PlanNode, digest: bytes, num_requests: int) -> None:
        self.node, self.plan_node, self.digest = node, plan_node, digest
        self.numbers: dict[int, int] = {}  # request id -> which of the node's requests
        self.outputs = [_Output() for _ in range(num_requests)]

    @property
    def is_score(self) -> bool:
        return self.plan_node.kind == "select"

    @property
    def done(self) -> bool:
        return all(output.done for output in self.outputs)

    def take(self, news: Output) -> None:
        output = self.outputs[self.numbers[news.request_id]]
        output.text += news.text
        for entry in news.prompt_logprobs or ():
            output.ids.append(entry.token_id)
            output.logprobs.append(entry.logprob or 0.0)  # the first token of all has no probability, and counts 0
        if news.finish_reason is not None:
            output.kept, output.done = news.kept_token_ids, True

    def scores(self) -> list[tuple[list[int], list[float]]]:
        return [(output.ids, output.logprobs) for output in self.outputs]


def _with_dependents(plan: ProgramPlan, node: int) -> list[int]:
    """The node and everything that needs it, directly or not."""
    found, stack = {node}, [node]
    while stack:
        for dependent in plan.dependents[stack.pop()]:
            if dependent not in found:
                found.add(dependent)
                stack.append(dependent)
    return sorted(found)
