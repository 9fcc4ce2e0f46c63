"""The operations of a branch: append a role, generate, select, fork, read.  Each is performed on the loop, in the
branch's order.

Here: what each does to the branch and to its backend.  Not here: order and failure (executor), user code (state)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from .backends.protocol import GenerateRequest
from .choices import decide
from .errors import BackendError, RoleError
from .executor import Branch, Slot
from .meta import Observed, Output, timing_meta
from .nodes import Fork, Gen, Node, RoleBegin, RoleEnd, Select
from .options import node_seed
from .plan import Position
from .prompt import Segment
from .waiting import Promise

__all__ = ["Append", "Choose", "Finish", "ForkOff", "Generate", "Read", "Role", "ScopeBegin", "ScopeEnd", "Written"]

T = TypeVar("T")


class _Quiet:
    """An operation that nobody waits for."""

    node: Node | None = None

    def abandon(self, error: BaseException) -> None:
        return None


@dataclass
class Role(_Quiet):
    """Open or close a role."""

    node: RoleBegin | RoleEnd

    def perform(self, branch: Branch) -> Awaitable[None] | None:
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


@dataclass
class Generate:
    """One gen: one output, or n outputs of the same prompt, of which the first goes on in the text."""

    node: Gen
    slot: Slot

    async def perform(self, branch: Branch) -> None:
        options = self.node.options.over(branch.run.options)
        branch.asks_for(self.node, self.node.name)
        index = branch.num_nodes
        branch.num_nodes += 1
        num_outputs = options.n or 1
        seed = _seed(self.node.options.seed, branch, index)
        stops = self.node.extra_stops
        if not options.ignore_eos:
            stops += branch.conversation.end_of_turn(branch.run.model)
        prompt = branch.prompt()
        messages = None if branch.run.capabilities.free_text else branch.conversation.to_send(branch.text)

        def request(output: int) -> GenerateRequest:
            own_seed = seed + output if seed is not None else None
            return GenerateRequest(
                prompt=prompt,
                sampling=options.to_params(more_stops=stops, seed=own_seed),
                stream=branch.run.stream,
                return_logprob=bool(options.return_logprob),
                logprob_start_len=-1 if options.logprob_start_len is None else options.logprob_start_len,
                top_logprobs_num=options.top_logprobs_num or 0,
                request_id=branch.run.next_request_id(),
                messages=messages,
            )

        with_text = bool(options.return_text_in_logprobs)
        outputs = await _all_or_none(
            self._one(branch, request(output), with_text, (branch.path, index), output) for output in range(num_outputs)
        )
        first = outputs[0]
        if branch.run.observed is not None:
            branch.run.observed[branch.path, index] = Observed.of_outputs(self.node, outputs)
        branch.text.add_generated(first.text, first.kept_token_ids)
        if num_outputs == 1:
            self.slot.meta = first.meta()
            self.slot.set(first.text)
        else:
            self.slot.meta = {**first.meta(), "outputs": [output.meta() for output in outputs]}
            self.slot.set([output.text for output in outputs])
        if self.slot.feed is not None:
            self.slot.feed.close()

    async def _one(
        self, branch: Branch, request: GenerateRequest, with_text: bool, position: Position, number: int
    ) -> Output:
        output, run = Output(request, with_text), branch.run
        if run.ahead is None:
            source = run.backend.generate(request)
        else:
            source = run.ahead.generate(run.backend, request, position, number)
        async with contextlib.aclosing(source) as chunks:
            async for chunk in chunks:
                output.add(chunk)
                if number == 0 and self.slot.feed is not None:
                    delta = output.delta_meta(chunk)
                    self.slot.feed.push(chunk.text, delta)
                    branch.show(chunk.text, delta)
                if chunk.finish_reason is not None:
                    break
        output.check_finished()
        return output

    def abandon(self, error: BaseException) -> None:
        self.slot.fail(error)


@dataclass
class Choose:
    node: Select
    slot: Slot

    async def perform(self, branch: Branch) -> None:
        branch.asks_for(self.node, self.node.name)
        index = branch.num_nodes
        branch.num_nodes += 1
        choices, method = self.node.choices, self.node.method
        prompt = branch.prompt()
        ahead = branch.run.ahead
        found = await ahead.scores(prompt, choices, (branch.path, index)) if ahead is not None else None
        scores, unconditional = found or (await branch.run.backend.score(prompt, choices), [])
        if len(scores) != len(choices) or not all(score.logprobs for score in scores):
            raise BackendError(f"the backend scored {len(scores)} of {len(choices)} choices, or some without tokens")
        if method.needs_unconditional and not unconditional:
            unconditional = await branch.run.backend.score(None, choices)
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


@dataclass
class ForkOff:
    """Let the children start, once what they share is computed: several never prefill the same prefix side by side."""

    node: Fork
    children: list[Branch]

    async def perform(self, branch: Branch) -> None:
        branch.asks_for(self.node, None)
        branch.num_nodes += 1
        ahead = branch.run.ahead
        is_ahead = ahead is not None and await ahead.covers_fork(branch.path, branch.num_nodes)
        if not is_ahead and len(self.children) > 1 and branch.text.length > branch.text.cached_length:
            await branch.run.backend.commit(branch.prompt())
            branch.text.cached_length = branch.text.length
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


@dataclass
class Append(_Quiet):
    """Append what other branches have written; generated tokens stay tokens."""

    written: Written
    node: Node | None

    def perform(self, branch: Branch) -> None:
        if branch.conversation.role is not None and self.written.messages:
            raise RoleError(f"a conversation can't be added inside an open {branch.conversation.role} role")
        branch.text.add_segments(self.written.segments)
        branch.conversation.messages.extend(self.written.messages)
        branch.show("".join(segment.text for segment in self.written.segments))


@dataclass
class ScopeBegin(_Quiet):
    start: int = 0

    def perform(self, branch: Branch) -> None:
        self.start = branch.text.length


@dataclass
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


@dataclass
class Read:
    """Look at the branch once everything before is done."""

    promise: Promise
    look: Callable[[Branch], Any]
    node: Node | None = None

    def perform(self, branch: Branch) -> None:
        self.promise.set(self.look(branch))

    def abandon(self, error: BaseException) -> None:
        self.promise.fail(error)


@dataclass
class Finish:
    """Everything submitted so far is done or abandoned.  last: nothing will follow."""

    promise: Promise
    branch: Branch
    last: bool
    node: Node | None = None

    def perform(self, branch: Branch) -> None:
        self._finish()

    def abandon(self, error: BaseException) -> None:
        self._finish()

    def _finish(self) -> None:
        if self.last:
            self.branch.settle()
        self.promise.set()


def _seed(own: int | None, branch: Branch, index: int) -> int | None:
    return node_seed(own, branch.run.options.seed, branch.path, index)


async def _all_or_none(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; the first error cancels the others, so that no request outlives its node."""
    first, *others = coroutines
    if not others:
        return [await first]
    tasks = [asyncio.ensure_future(each) for each in (first, *others)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
