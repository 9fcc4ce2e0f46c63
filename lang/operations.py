"""The operations of a branch: append a role, generate, select, fork, read.  Each is performed on the loop, in the
branch's order.

Here: what each does to the branch and to its backend.  Not here: order and failure (executor), user code (state)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from .backends.protocol import GenerateRequest, Prompt
from .choices import decide
from .errors import BackendError, RoleError
from .executor import Branch, Slot
from .meta import Observed, Output, timing_meta
from .nodes import Fork, Gen, Node, RoleBegin, RoleEnd, Select
from .options import SamplingOptions, node_seed
from .plan import Position
from .prompt import Segment
from .waiting import Promise

__all__ = ["Append", "Choose", "Finish", "ForkOff", "Generate", "Read", "Role", "ScopeBegin", "ScopeEnd", "Written"]


class _Quiet:
    """An operation that nobody waits for."""

    __slots__ = ()
    node: Node | None = None

    def abandon(self, error: BaseException) -> None:
        return None


@dataclass(slots=True)
class Role(_Quiet):
    """Open or close a role."""

    node: RoleBegin | RoleEnd

    def perform(self, branch: Branch) -> Coroutine[Any, Any, None] | None:
        if branch.run.model is None:
            return self._after_asking(branch)
        self._write(branch)
        return None

    async def _after_asking(self, branch: Branch) -> None:
        await branch.run.fetch_model()
        self._write(branch)

    def _write(self, branch: Branch) -> None:
        assert branch.run.model is not None
        if isinstance(self.node, RoleBegin):
            branch.show(branch.conversation.begin(self.node, branch.text, branch.run.model))
        else:
            branch.show(branch.conversation.end(self.node, branch.text, branch.run.model))


@dataclass(slots=True)
class Generate:
    """One gen: one output, or n outputs of the same prompt, of which the first goes on in the text."""

    node: Gen
    slot: Slot
    thoughts: Slot | None = None  # where a gen's thoughts are told from its answer

    def perform(self, branch: Branch) -> Coroutine[Any, Any, None]:
        run, node = branch.run, self.node
        options = node.options.over(run.options)
        position = (branch.path, branch.num_nodes)
        branch.num_nodes += 1
        seed = _seed(node.options.seed, branch, position[1])
        stops = node.extra_stops
        if not options.ignore_eos:
            stops += branch.conversation.end_of_turn(run.model)
        first = self._output(branch, options, branch.prompt(), stops, seed)
        if options.n is None or options.n == 1:
            return self._one(branch, first, position)
        outputs = [first]
        for number in range(1, options.n):
            own_seed = seed + number if seed is not None else None
            outputs.append(self._output(branch, options, first.request.prompt, stops, own_seed))
        return self._many(branch, outputs, position)

    @staticmethod
    def _output(
        branch: Branch, options: SamplingOptions, prompt: Prompt, stops: tuple[str, ...], seed: int | None
    ) -> Output:
        run = branch.run
        request = GenerateRequest(
            prompt=prompt,
            sampling=options.to_params(more_stops=stops, seed=seed),
            stream=run.stream,
            return_logprob=bool(options.return_logprob),
            logprob_start_len=-1 if options.logprob_start_len is None else options.logprob_start_len,
            top_logprobs_num=options.top_logprobs_num or 0,
            request_id=run.next_request_id(),
            messages=None if run.capabilities.free_text else branch.conversation.to_send(branch.text),
        )
        return Output(request, bool(options.return_text_in_logprobs))

    async def _one(self, branch: Branch, output: Output, position: Position, number: int | None = None) -> None:
        """Generate one output; number: which of several, None if it is the only one.  One coroutine for all there is
        to do, since thousands of them wait at a time."""
        run, feed = branch.run, None if number else self.slot.feed
        branch.asks_for(self.node, self.node.name, position[1])
        if run.ahead is None:
            chunks = run.requests.generate(output.request)
        else:
            chunks = run.ahead.generate(run.requests, output.request, position, number or 0)
        try:
            async for chunk in chunks:
                output.add(chunk)
                if feed is not None:
                    delta = output.delta_meta(chunk)
                    feed.push(chunk.text, delta)
                    branch.show(chunk.text, delta)
                if chunk.finish_reason is not None:
                    break
        finally:
            await chunks.aclose()
        output.check_finished()
        if number is None:
            self.slot.meta = output.meta()
            self._deliver(branch, [output], position, output.text)

    async def _many(self, branch: Branch, outputs: list[Output], position: Position) -> None:
        await _all_or_none(self._one(branch, output, position, number) for number, output in enumerate(outputs))
        self.slot.meta = {**outputs[0].meta(), "outputs": [output.meta() for output in outputs]}
        self._deliver(branch, outputs, position, [output.text for output in outputs])

    def _deliver(self, branch: Branch, outputs: list[Output], position: Position, value: str | list[str]) -> None:
        if branch.run.observed is not None:
            branch.run.observed[position] = Observed.of_outputs(self.node, outputs)
        if self.thoughts is not None and self.node.reasoning is not None:
            found, value = self.node.reasoning.split(outputs[0].text)
            self.thoughts.meta = {}
            self.thoughts.set_constant(found)
            kept = outputs[0].kept_token_ids if value == outputs[0].text else None
            branch.text.add_generated(value, kept)
        else:
            branch.text.add_generated(outputs[0].text, outputs[0].kept_token_ids)
        self.slot.set(value)
        if self.slot.feed is not None:
            self.slot.feed.close()

    def abandon(self, error: BaseException) -> None:
        self.slot.fail(error)
        if self.thoughts is not None:
            self.thoughts.fail(error)


@dataclass(slots=True)
class Choose:
    node: Select
    slot: Slot

    async def perform(self, branch: Branch) -> None:
        index = branch.num_nodes
        branch.asks_for(self.node, self.node.name, index)
        branch.num_nodes += 1
        choices, method = self.node.choices, self.node.method
        prompt = branch.prompt()
        ahead = branch.run.ahead
        found = await ahead.scores(prompt, choices, (branch.path, index)) if ahead is not None else None
        scores, unconditional = found or (await branch.run.requests.score(prompt, choices), [])
        if len(scores) != len(choices) or not all(score.logprobs for score in scores):
            raise BackendError(f"the backend scored {len(scores)} of {len(choices)} choices, or some without tokens")
        if method.needs_unconditional and not unconditional:
            unconditional = await branch.run.requests.score(None, choices)
            if [len(alone.logprobs) for alone in unconditional] != [len(score.logprobs) for score in scores]:
                raise BackendError("the backend scored other tokens without the prompt than after it")
        seed = _seed(self.node.seed, branch, index)
        chosen, meta = decide(choices, scores, unconditional, method, self.node.temperature, seed)
        meta.update(timing_meta(scores[0].timing))
        if branch.run.observed is not None:
            branch.run.observed[branch.path, index] = Observed.of_choice(
                self.node, choices[chosen], scores[chosen], unconditional
            )
        branch.text.add_generated(choices[chosen], scores[chosen].token_ids)
        branch.show(choices[chosen], meta)
        self.slot.meta = meta
        self.slot.set(choices[chosen])
        if self.slot.feed is not None:
            self.slot.feed.push(choices[chosen], meta)
            self.slot.feed.close()

    def abandon(self, error: BaseException) -> None:
        self.slot.fail(error)


@dataclass(slots=True)
class ForkOff:
    """Let the children start, once what they share is computed: several never prefill the same prefix side by side."""

    node: Fork
    children: list[Branch]

    def perform(self, branch: Branch) -> Coroutine[Any, Any, None] | None:
        branch.num_nodes += 1
        if len(self.children) > 1 and branch.text.length > branch.text.cached_length:
            return self._after_commit(branch)
        self._open(branch)
        return None

    async def _after_commit(self, branch: Branch) -> None:
        branch.asks_for(self.node, None, branch.num_nodes - 1)
        ahead = branch.run.ahead
        if ahead is None or not await ahead.covers_fork(branch.path, branch.num_nodes):
            await branch.run.requests.commit(branch.prompt())
            branch.text.cached_length = branch.text.length
        self._open(branch)

    def _open(self, branch: Branch) -> None:
        for index, child in enumerate(self.children):
            if child.error is None:
                child.open(branch, index)

    def abandon(self, error: BaseException) -> None:
        for child in self.children:
            child.fail(error)


@dataclass(frozen=True)
class Written:
    """What a branch has written, as a value that another branch can append."""

    segments: tuple[Segment, ...]
    messages: tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Append(_Quiet):
    """Append what other branches have written; generated tokens stay tokens."""

    written: Written
    node: Node | None

    def perform(self, branch: Branch) -> None:
        if branch.conversation.role is not None and self.written.messages:
            raise RoleError(f"a conversation can't be added inside an open {branch.conversation.role} role")
        branch.text.add_segments(self.written.segments)
        branch.conversation.messages += self.written.messages
        branch.show("".join(segment.text for segment in self.written.segments))


@dataclass(slots=True)
class ScopeBegin(_Quiet):
    start: int = 0

    def perform(self, branch: Branch) -> None:
        self.start = branch.text.length


@dataclass(slots=True)
class ScopeEnd:
    """The variable of a scope is all text since its beginning."""

    begin: ScopeBegin
    slot: Slot
    node: Node | None = None

    def perform(self, branch: Branch) -> None:
        text = branch.text.text(self.begin.start)
        self.slot.meta = {}
        self.slot.set_constant(text)

    def abandon(self, error: BaseException) -> None:
        self.slot.fail(error)


class Read(Promise):
    """Look at the branch once everything before is done; a promise of what was seen."""

    __slots__ = ("look",)
    node: Node | None = None

    def __init__(self, look: Callable[[Branch], Any]) -> None:
        super().__init__()
        self.look = look

    def perform(self, branch: Branch) -> None:
        self.set(self.look(branch))

    def abandon(self, error: BaseException) -> None:
        self.fail(error)


class Finish(Promise):
    """A promise, kept once everything submitted so far is done or abandoned.  last: nothing will follow."""

    __slots__ = ("_branch", "_last")
    node: Node | None = None

    def __init__(self, branch: Branch, *, last: bool) -> None:
        super().__init__()
        self._branch, self._last = branch, last

    def perform(self, branch: Branch) -> None:
        self.abandon(None)

    def abandon(self, error: BaseException | None) -> None:
        if self._last:
            self._branch.settle()
        self.set()


def _seed(own: int | None, branch: Branch, index: int) -> int | None:
    return node_seed(own, branch.run.options.seed, branch.path, index)


async def _all_or_none(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """The first error cancels the others, so that no request outlives its node."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
