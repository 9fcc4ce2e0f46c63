"""Request, Span, Step: the words that scheduler and executor share.

A request is its tokens and one number: `computed`, how many of them have keys and values in the cache or in a step
already launched. Prefill, chunked prefill, decode and a prefix hit are then one thing: compute the span
[computed, computed + n). Imported by scheduler, execution and engine; imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .sampling_params import SamplingParams

if TYPE_CHECKING:
    from forktree.grammar import AnyMatcher
    from forktree.radix_cache import RadixNode

IntArray = NDArray[np.int32]


class State(Enum):
    QUEUED = "queued"  # waits for pages and for a place among the running
    RUNNING = "running"  # holds pages; gets spans
    RETRACTING = "retracting"  # gives its pages up when the steps in flight have finished, then queues again
    ENDING = "ending"  # finished or aborted with steps in flight; tokens that still arrive are dropped
    ENDED = "ended"  # holds nothing


_MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.ENDED}),
    State.RUNNING: frozenset({State.RETRACTING, State.QUEUED, State.ENDING, State.ENDED}),
    State.RETRACTING: frozenset({State.QUEUED, State.ENDING, State.ENDED}),
    State.ENDING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


class IllegalMove(RuntimeError):
    """A request was asked to go where its state does not lead; nothing changed."""


@dataclass(eq=False)
class Request:
    """One sequence that the engine computes.

    tokens            token ids known on the host: the prompt, then the output; capacity is reserved at the start
    num_pending       tokens that launched steps sample and the host does not know yet: 2 between a launch and the
                      landing of the step before, else at most 1
    revision          how often the host has written the end of the output itself; what a span samples that was planned
                      under an older one is not wanted any more
    awaits_pending    the pending token will bring forced ones with it: computing it by itself is not worth a step
    computed          tokens whose keys and values are in the cache, or will be when the launched steps have run
    pages             page ids; the first num_shared_pages belong to the radix tree, the rest to this request
    node              the tree node this request has locked: where its shared pages end
    num_admitted      tokens that were known when the request last began to run: what it prefills
    num_inherited     prompt tokens that another request of the same call brings, and that count there
    logprob_next      first prompt position at which log-probabilities are still owed; None: none are
    asked             of which tokens, at each of the last len(asked) positions up to the one past the prompt's end;
                      None: at each position of the prompt's own token
    """

    request_id: int
    tokens: IntArray
    num_tokens: int
    num_prompt: int
    params: SamplingParams
    seed: int
    eos_token_ids: tuple[int, ...]
    namespace: bytes = b""
    num_inherited: int = 0
    logprob_next: int | None = None
    asked: list[IntArray] | None = None
    return_logprob: bool = False
    num_top_logprobs: int = 0
    matcher: AnyMatcher | None = None
    state: State = State.QUEUED
    arrival: int = 0
    computed: int = 0
    num_admitted: int = 0
    num_pending: int = 0
    revision: int = 0
    awaits_pending: bool = False
    steps_in_flight: int = 0
    pages: IntArray = field(default_factory=lambda: np.empty(0, np.int32))
    num_pages: int = 0
    num_shared_pages: int = 0
    node: RadixNode | None = None
    slot: int = -1
    num_cached: int | None = None  # prompt tokens found in the cache when the request first ran
    num_forced: int = 0  # output tokens that were not sampled
    num_computed_prompt: int = 0  # prompt tokens in spans so far, again after a retraction included
    planned_at: float | None = None  # when its first span was planned, by the loop's clock
    num_retractions: int = 0
    keep: bool = True  # False: what it computed must not enter the cache

    @classmethod
    def create(
        cls, request_id: int, prompt: list[int], params: SamplingParams, *, seed: int, eos_token_ids: tuple[int, ...]
    ) -> Request:
        """`params.max_new_tokens` is taken as it stands: cap it by the context before."""
        tokens = np.empty(len(prompt) + params.max_new_tokens, np.int32)
        tokens[: len(prompt)] = prompt
        return cls(request_id, tokens, len(prompt), len(prompt), params, seed, eos_token_ids)

    @property
    def length(self) -> int:
        """Tokens there are, the pending one included."""
        return self.num_tokens + self.num_pending

    @property
    def num_output(self) -> int:
        return self.num_tokens - self.num_prompt

    @property
    def known(self) -> IntArray:
        """int32 [num_tokens]; a view."""
        return self.tokens[: self.num_tokens]

    @property
    def wants_token(self) -> bool:
        """Whether one more token may be sampled after those that are known or pending."""
        return self.length - self.num_prompt < self.params.max_new_tokens

    @property
    def needs_span(self) -> bool:
        """Whether something is left to compute: the prompt, or a next token."""
        if self.awaits_pending and self.num_pending:
            return False
        return self.computed < self.num_prompt or (self.wants_token and self.computed < self.length)

    @property
    def logprob_stop(self) -> int:
        """Past the last position at which log-probabilities can be owed."""
        return self.num_prompt + (self.asked is not None)

    @property
    def least_recompute(self) -> int:
        """Where computing starts at the latest, even on a full prefix hit: the last token's logits are always wanted,
        and those before each prompt position at which log-probabilities are owed."""
        start = self.length - 1
        if self.logprob_next is not None and self.logprob_next < self.num_prompt:
            start = min(start, max(self.logprob_next - 1, 0))
        return start

    @property
    def running(self) -> bool:
        return self.state is State.RUNNING

    def move(self, to: State) -> None:
        if to not in _MOVES[self.state]:
            raise IllegalMove(f"request {self.request_id} is {self.state.value}, it can't become {to.value}")
        self.state = to

    def append(self, token_id: int) -> None:
        """The pending token arrived."""
        self.tokens[self.num_tokens] = token_id
        self.num_tokens += 1
        self.num_pending -= 1

    def cut(self, num_kept: int) -> None:
        """Forget the tokens from `num_kept` on, and those that launched steps sample."""
        self.num_tokens = num_kept
        self.computed = min(self.computed, num_kept)
        self.num_pending = 0
        self.revision += 1


@dataclass(frozen=True, eq=False)
class Span:
    """One request's share of one step: its tokens [start, start + length).

    write_from   first position whose keys and values this span stores; those before are in pages that others own, and
                 are computed again only for their logits
    samples      whether a token is sampled from the last row
    position     of the token that is sampled, counted from the first output token
    revision     the request's, when this was planned
    logprobs     prompt positions at which this span yields log-probabilities; the row before each holds its logits
    """

    request: Request
    start: int
    length: int
    write_from: int
    samples: bool
    position: int
    logprobs: range
    revision: int = 0

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def is_stale(self) -> bool:
        """Whether the tokens from which it samples are no longer the request's last: its token is dropped."""
        return self.revision != self.request.revision


@dataclass(frozen=True, eq=False)
class Step:
    """What the device computes in one go: spans under a token budget, in order."""

    number: int
    spans: list[Span]

    @property
    def num_tokens(self) -> int:
        return sum(span.length for span in self.spans)
