"""Runs whole programs next to the scheduler: a node starts in the turn in which what it needs has ended.

Here: ProgramRunner, which turns nodes into requests of the engine and their news into further nodes.
Not here: the state of a program under way (program_items.py), plans (program_plan.py), requests (core.py).
Imported by core.py; one thread, the engine loop's.

A program's item is one set of arguments.  Items start in their order, as many at a time as the engine takes well; a
node that is ready waits in a queue in which the longest chains of calls still to come go first.  Beginning is done in
portions, between which the engine goes on: a plan may hold thousands of nodes that fail at once, or long texts."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import msgspec

from ..errors import ForktreeRuntimeError as Error
from ..errors import describe_error
from .call import Call, scoring
from .choices import decide, needs_alone
from .loop import News
from .messages import (
    AbortProgram,
    EngineMessage,
    Failed,
    ModelInfo,
    ProgramNews,
    RunProgram,
    ScoredChoice,
    Scores,
    Submit,
    SubmitScore,
)
from .program_items import GrowingOutput, Item, RunningNode, RunningProgram
from .program_plan import PlanNode, ProgramPlan
from .program_uses import Announcements
from .prompt_text import TextEncoder
from .scoring import OnEnd

MAX_ITEMS_AT_A_TIME = 256
PORTION = 64  # begun at a time: a node counts 1 and its text 1 for each TEXT_OF_ONE characters to be tokenised
TEXT_OF_ONE = 1024


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
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        """later   calls something when the engine has had its turn"""
        self._requests, self._emit, self._encoder, self._info = requests, emit, encoder, info
        self._max_requests = max(1, max_requests)
        self._programs: dict[int, RunningProgram] = {}
        self._new_id, self._cache = new_id, cache
        self._serving: dict[int, int] = {}  # requests under way: id -> how many places in the queue one may take
        self._load = 0  # places in all
        self._ready: list[tuple[int, int, int, Item, int]] = []  # heap: (item's age, -calls to come, age, item, node)
        self._ages = itertools.count()  # of items and of entries of the heap: no two are equal
        self._startable: dict[int, RunningProgram] = {}  # those that may have items to begin; the next to do so first
        self._later = later
        self._news: list[EngineMessage] = []  # told together when what brought them about is done
        self._starting = False
        self._left = 0  # of the portion
        self._to_go_on = False  # the next portion is on its way
        self._full = False  # the engine's queue was full a moment ago

    def run(self, message: RunProgram) -> None:
        program = RunningProgram(message, ProgramPlan(message.nodes, message.whole))
        self._programs[message.call_id] = self._startable[message.call_id] = program
        self._full = False
        self._start()

    def abort(self, message: AbortProgram) -> None:
        """End a program, one item of it, or one node and what needs it.  Ids that are not known are harmless."""
        program = self._programs.get(message.call_id)
        if program is None:
            return
        for index in [*program.waiting, *program.active] if message.item is None else [message.item]:
            self._abort_item(program, index, message.node)
        self._full = False
        self._start()

    def _abort_item(self, program: RunningProgram, index: int, node: int | None) -> None:
        """One item, whether it has begun or not; or one node of an item that has."""
        every = range(len(program.plan.nodes))
        if (item := program.active.get(index)) is None:
            if node is None and index in program.waiting:
                program.waiting.remove(index)
                self._news.append(ProgramNews(program.call_id, index, -1))
                self._forget_if_over(program)
        elif node is None or node in every:
            self._drop(item, every if node is None else item.plan.with_dependents(node))
            self._end_if_done(item)

    def _hear(self, item: Item, running: RunningNode, number: int, news: News) -> None:
        """News of request `number` of a gen."""
        if news.request_id not in self._serving:  # aborted meanwhile
            return
        self._full = False
        if isinstance(news, Failed):
            self._served(news.request_id)
            self._request_failed(item, running, news.kind, news.args)
        else:
            if news.finish_reason is not None:
                self._served(news.request_id)
            running.take(number, news)
            self._news.append(item.news(running, output=number, delta=news))
            if running.done:
                first = running.outputs[0]
                item.texts[running.node] = [output.text for output in running.outputs]
                self._end_node(item, running, first.text, first.kept)
        self._start()

    def _hear_scores(
        self, item: Item, running: RunningNode, number: int, message: SubmitScore, result: Scores | Error
    ) -> None:
        """The choices' scores: number 0 after the prompt, 1 with nothing before them."""
        if message.request_id not in self._serving:
            return
        self._served(message.request_id)
        self._full = False
        if isinstance(result, Error):
            self._request_failed(item, running, *describe_error(result))
        else:
            trie = message.trie
            pairs = zip(trie.along(trie.tokens), trie.along(result.logprobs), strict=True)
            running.scores[number] = [ScoredChoice(ids, logprobs) for ids, logprobs in pairs]
            running.timing = running.timing.beside(result.timing) if running.timing is not None else result.timing
            if running.done:
                self._choose(item, running)
        self._start()

    def _request_failed(self, item: Item, running: RunningNode, kind: str, args: list[Any]) -> None:
        """Where others of ours fill the engine's queue, the node gets another turn at their next news."""
        self._abort_requests(running)
        if kind == "EngineOverloaded" and self._serving:
            del item.running[running.node]
            item.put_off[running.node] = running.prompt
            self._make_ready(item, running.node)
            self._full = True
        else:
            self._fail(item, running.node, kind, args)

    # -- starting -----------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Begin items and ready nodes, as far as there is room; then tell all there is.  What fails at once comes back
        here."""
        if self._starting:
            return
        if not self._to_go_on:
            self._start_portion()
        news, self._news = self._news, []
        if news:
            self._emit(news)

    def _start_portion(self) -> None:
        self._starting, self._left = True, PORTION
        try:
            while self._left > 0 and (self._start_item() or self._start_node()):
                pass
        finally:
            self._starting = False
        if self._left <= 0:
            self._to_go_on = True
            self._later(self._go_on)

    def _go_on(self) -> None:
        self._to_go_on = False
        self._start()

    def _start_item(self) -> bool:
        """Begin the next item, of each program in turn; False: none may begin now."""
        enough = len(self._ready) >= self._max_requests
        program = next((each for each in self._startable.values() if not enough or not each.active), None)
        if program is None:
            return False
        del self._startable[program.call_id]
        if not program.waiting or len(program.active) >= MAX_ITEMS_AT_A_TIME:
            return True
        self._startable[program.call_id] = program
        index = program.waiting.popleft()
        item = program.active[index] = Item(program, index, self._cache, next(self._ages))
        self._left -= 1 + len(program.plan.nodes) // PORTION
        for node, num_needs in enumerate(program.plan.num_needs):
            if not num_needs:
                self._make_ready(item, node)
        self._end_if_done(item)  # a program of nothing but text
        return True

    def _make_ready(self, item: Item, node: int) -> None:
        """Everything that the node needs is done.  The item may be done then too, which is for the caller to see."""
        ready = [node]
        while ready:  # text is done at once, and a plan may hold a long row of it
            node = ready.pop()
            if item.plan.nodes[node].kind != "text":
                item.open.add(node)
                heapq.heappush(self._ready, (item.age, -item.plan.remaining[node], next(self._ages), item, node))
                continue
            try:
                end = item.prompt_of(node, self._encoder)
                item.uses.ended(node, end, others_go_on=True)
            except Error as error:
                self._tell_failure(item, node, *describe_error(error))
            else:
                item.done(node, end)
                ready += reversed(self._unlocked(item, node))

    def _unlocked(self, item: Item, node: int) -> list[int]:
        """What can begin now that the node is done."""
        found = []
        for dependent in item.plan.dependents[node]:
            item.num_missing[dependent] -= 1
            if not item.num_missing[dependent] and dependent not in item.dropped:
                found.append(dependent)
        return found

    def _start_node(self) -> bool:
        """Turn the first ready node into requests; False: none is ready, or there is no room."""
        if not self._ready or self._full or self._load >= self._max_requests:
            return False
        _, _, _, item, node = heapq.heappop(self._ready)
        if node not in item.dropped:
            try:
                self._begin(item, node)
            except Error as error:
                self._fail(item, node, *describe_error(error))
        return True

    def _begin(self, item: Item, index: int) -> None:
        node = item.plan.nodes[index]
        prompt = item.put_off.pop(index, None) or item.prompt_of(index, self._encoder)
        self._left -= 1 + (prompt.num_open_characters + sum(map(len, node.choices))) // TEXT_OF_ONE
        ids = prompt.token_ids()
        running = RunningNode(index, node, prompt)
        item.running[index] = running
        self._news.append(item.news(running))
        if node.kind == "gen":
            self._start_gen(item, running, ids)
        else:
            self._start_select(item, running, ids)

    def _start_gen(self, item: Item, running: RunningNode, ids: list[int]) -> None:
        node = running.plan_node
        calls = [self._call_of(item, node, output).fitted(ids, self._info) for output in range(node.sampling.n)]
        submits = [call.submit(self._new_id(), ids, 0) for call in calls]
        running.outputs = [GrowingOutput() for _ in submits]
        self._serve(running, [submit.request_id for submit in submits], 1)
        for number, submit in enumerate(submits):
            if submit.request_id in self._serving:  # the first may have failed, and its node with it
                self._requests.submit(submit, partial(self._hear, item, running, number))

    def _start_select(self, item: Item, running: RunningNode, ids: list[int]) -> None:
        node = running.plan_node
        tails = [self._encoder.encode_continuation(choice) for choice in node.choices]
        heads = [ids or self._encoder.start_ids()]
        if needs_alone(node.method):
            heads.append([])
        salt = item.program.namespace.decode()
        messages = [scoring(self._new_id(), head, tails, self._info, salt) for head in heads]
        running.scores = [None for _ in messages]
        self._serve(running, [message.request_id for message in messages], len(node.choices))
        for number, message in enumerate(messages):
            if message.request_id in self._serving:
                self._requests.score(message, partial(self._hear_scores, item, running, number, message))

    def _serve(self, running: RunningNode, request_ids: list[int], num_places: int) -> None:
        running.request_ids = request_ids
        self._serving.update(dict.fromkeys(request_ids, num_places))
        self._load += num_places * len(request_ids)

    def _served(self, request_id: int) -> None:
        self._load -= self._serving.pop(request_id)

    def _call_of(self, item: Item, node: PlanNode, output: int) -> Call:
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

    def _choose(self, item: Item, running: RunningNode) -> None:
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
        self._news.append(item.news(running, scores=choices, alone=alone or None))
        item.texts[running.node] = [node.choices[chosen]]
        self._end_node(item, running, node.choices[chosen], choices[chosen].token_ids)

    def _end_node(self, item: Item, running: RunningNode, text: str, kept: list[int] | None) -> None:
        node = running.node
        end = running.prompt.with_output(text, kept)
        item.outputs[node] = text, kept
        item.done(node, end)
        del item.running[node]
        item.open.discard(node)
        item.uses.ended(node, end, others_go_on=bool(item.open) or bool(item.plan.dependents[node]))
        for dependent in self._unlocked(item, node):
            self._make_ready(item, dependent)
        self._end_if_done(item)

    def _fail(self, item: Item, node: int, kind: str, args: list[object]) -> None:
        self._tell_failure(item, node, kind, args)
        self._end_if_done(item)

    def _tell_failure(self, item: Item, node: int, kind: str, args: list[object]) -> None:
        """The node's error is told; what needs it never begins, and the rest of the item goes on."""
        running = item.running.get(node)
        digest = running.digest if running is not None else b""
        self._news.append(ProgramNews(item.program.call_id, item.index, node, digest=digest, error=(kind, list(args))))
        self._drop(item, item.plan.with_dependents(node))

    def _drop(self, item: Item, nodes: range | list[int]) -> None:
        """These nodes are not wanted any more; an entry of theirs in the heap is passed over when it comes up."""
        for node in nodes:
            if node in item.ended or node in item.dropped:
                continue
            item.dropped.add(node)
            item.open.discard(node)
            if (running := item.running.pop(node, None)) is not None:
                self._abort_requests(running)
            else:
                item.begun(node)

    def _abort_requests(self, running: RunningNode) -> None:
        for request_id in running.request_ids:
            if request_id in self._serving:
                self._served(request_id)
                self._requests.abort(request_id)

    def _end_if_done(self, item: Item) -> None:
        program = item.program
        if item.open or program.active.get(item.index) is not item:
            return
        del program.active[item.index]
        item.uses.over()
        self._news.append(ProgramNews(program.call_id, item.index, -1))
        if program.waiting:
            self._startable[program.call_id] = program
        self._forget_if_over(program)

    def _forget_if_over(self, program: RunningProgram) -> None:
        if not program.active and not program.waiting:
            self._programs.pop(program.call_id, None)
            self._startable.pop(program.call_id, None)
