"""The engine loop: drives scheduler and executor, turns their tokens into news for the clients.

Here: the plain and the overlapped loop over the same steps. Imported by core.py. All of it runs on one asyncio loop;
only the executor has a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from forktree.grammar import GrammarError, fill_masks

from ..errors import ForktreeRuntimeError, InvalidRequest, RequestFailed, describe_error
from ..execution.executor import Executor, StepFuture
from ..execution.sampler import NOT_NUMBERS, Logprob, StepResult, TokenMasks
from ..request import IntArray, Request, Span, State, Step
from ..scheduler import Scheduler
from .jump_forward import CONTEXT_TOKENS, JumpForward
from .messages import EngineMessage, Failed, Output
from .output import Finish, OutputStream, StopTooSlow

log = logging.getLogger("forktree.engine")

MAX_STALLS = 8  # one or two are natural; this many are a bug, better seen than waited for


News = Output | Failed


@dataclass(eq=False)
class Served:
    """A request, the output that grows from it, and who hears of it: `tell`, on the loop; None: the client."""

    request: Request
    output: OutputStream
    tell: Callable[[News], None] | None = None


class EngineLoop:
    """Runs steps while there are requests, sleeps while there are none."""

    def __init__(
        self,
        scheduler: Scheduler,
        executor: Executor,
        emit: Callable[[list[EngineMessage]], None],
        *,
        mask_words: int,
        jump_forward: JumpForward | None = None,
    ) -> None:
        self._scheduler, self._executor, self._emit = scheduler, executor, emit
        self._mask_words, self._jump_forward = mask_words, jump_forward
        self._served: dict[int, Served] = {}
        self._news: list[EngineMessage] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._overlapped = False
        self._num_stalls = 0  # turns in a row that planned nothing though requests were there and no step in flight

    # -- requests -----------------------------------------------------------------------------------------------------

    def start(self, *served: Served) -> None:
        """Queue the requests of one call. Raises EngineOverloaded, changing nothing."""
        self._scheduler.add(*(each.request for each in served))
        self._served.update((each.request.request_id, each) for each in served)
        self._wake.set()
        for each in served:
            if each.request.matcher is not None:
                self._begin_forced(each)

    def abort(self, request_id: int) -> None:
        """End a request now; its client is told with finish_reason "abort". Unknown ids are harmless."""
        served = self._served.pop(request_id, None)
        if served is not None:
            self._scheduler.finish(served.request)
            self._tell(served, served.output.close(Finish("abort")))
            self._flush_news()
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()

    # -- the two loops ------------------------------------------------------------------------------------------------

    async def run_overlapped(self) -> None:
        """Each turn: launch step t; while it runs, finish t-1, then hand t's sampler its masks."""
        self._overlapped = True
        previous: StepFuture | None = None
        while not self._closing:
            current = self._launch()
            if previous is not None:
                await self._land(previous)
            if current is not None:
                current.sample(self._token_masks(current.step))
            elif previous is None:
                await self._sleep()
            previous = current
        if previous is not None:
            await self._land(previous)

    async def run_plain(self) -> None:
        """Each turn: one step from plan to end. The same steps in plain order; what the overlapped loop is held to."""
        while not self._closing:
            current = self._launch()
            if current is None:
                await self._sleep()
                continue
            current.sample(self._token_masks(current.step))
            await self._land(current)

    def _launch(self) -> StepFuture | None:
        """Plan a step and send it off; None if there is nothing to compute now."""
        with self._failing_all("planning a step"):
            step = self._scheduler.plan()
            if step is not None:
                self._num_stalls = 0
                _note_first_spans(step)
                return self._executor.launch(step)
        return None

    async def _sleep(self) -> None:
        """Until a request comes, one ends, or the loop is closed."""
        self._wake.clear()
        if not self._scheduler.idle:  # a retraction may have made room just now: plan once more
            self._num_stalls += 1
            if self._num_stalls > MAX_STALLS:
                log.error("the scheduler holds requests, nothing is in flight, and it plans nothing")
                self._fail_all("the engine could make no progress; see its log")
        elif not self._closing:
            await self._wake.wait()

    # -- the end of a step --------------------------------------------------------------------------------------------

    async def _land(self, future: StepFuture) -> None:
        """Wait for a step, the only wait on the device, then advance matchers, stream text and give pages back."""
        with self._failing_all(f"running step {future.step.number}"):
            self._finish(future.step, await future.result())
        self._flush_news()

    def _finish(self, step: Step, result: StepResult) -> None:
        sampled = iter(range(len(result.token_ids)))
        owed = iter(result.prompt_logprobs)
        for span in step.spans:
            row = next(sampled) if span.samples else None
            prompt_logprobs = next(owed) if span.logprobs else []
            if span.request.state is State.ENDED:
                continue  # a failed step before this one ended it
            failure = result.failures.get(row) if row is not None else None
            if any(math.isnan(owed.logprob) for owed in prompt_logprobs):
                failure = NOT_NUMBERS
            if span.is_stale:  # forced tokens came in between: what it sampled is not wanted, nor why it could not
                row, failure = None, failure if failure is not None and failure.corrupt else None
            token_id = result.token_ids[row] if row is not None and failure is None else None
            corrupt = failure is not None and failure.corrupt
            if not self._scheduler.land(span, token_id, keep=not corrupt):
                if corrupt:
                    self._scheduler.flush()
                continue
            served = self._served[span.request.request_id]
            served.output.add_prompt_logprobs(prompt_logprobs)
            if failure is not None:
                self._fail(served, failure.message, corrupt=failure.corrupt)
            elif row is not None and token_id is not None:
                self._take_token(served, token_id, result.logprobs[row])
            elif span.end == served.request.num_prompt and not served.request.params.max_new_tokens:
                self._end(served, served.output.close(Finish("length")))
            else:
                self._tell(served, None)

    def _take_token(self, served: Served, token_id: int, logprob: Logprob | None) -> None:
        """A request's next token: into its text, its matcher, its client's news."""
        matcher = served.request.matcher
        try:
            finish = served.output.push(token_id, logprob)
            if matcher is not None and (finish is None or finish.reason == "length"):
                matcher.advance(token_id)
                if matcher.finished:
                    finish = served.output.close(Finish("stop"))
                elif finish is None:
                    finish = self._jump(served, num_open=1)
            if finish is None:
                self._tell(served, None)
            else:
                self._end(served, finish)
        except StopTooSlow as error:
            self._refuse(served, "stop_regex", str(error))
        except GrammarError as error:
            self._refuse(served, served.request.params.constraint_field, str(error))

    def _begin_forced(self, served: Served) -> None:
        """What the grammar forces at the very start is computed together with the prompt."""
        try:
            finish = self._jump(served, num_open=0)
        except (StopTooSlow, GrammarError) as error:
            field = "stop_regex" if isinstance(error, StopTooSlow) else served.request.params.constraint_field
            self._refuse(served, field, str(error))
        else:
            if finish is None:
                self._tell(served, None)
            else:
                self._end(served, finish)
        self._flush_news()

    def _jump(self, served: Served, *, num_open: int) -> Finish | None:
        """Write what the grammar forces from here on; the finish if that ends the output.

        A step in flight goes on from the last token known before, and samples one that it need not (Span.is_stale); the
        forced tokens enter the next step, as one span."""
        request, output, matcher = served.request, served.output, served.request.matcher
        if self._jump_forward is None or matcher is None or not _may_jump(request):
            return None
        jump = self._jump_forward.plan(
            matcher,
            request.known[-CONTEXT_TOKENS - num_open :].tolist(),
            num_open=num_open,
            tokens_left=request.params.max_new_tokens - request.num_output,
            stop_ids=(*request.params.stop_token_ids, *request.eos_token_ids),
        )
        if jump is None:
            return None
        self._scheduler.cut(request, jump.num_replaced, len(jump.token_ids))
        output.reopen(jump.num_replaced)
        finish: Finish | None = None
        for token_id in jump.token_ids:
            self._scheduler.force(request, token_id)
            finish = output.push(token_id, None)
            if finish is not None and finish.reason != "length":
                return finish
        return output.close(Finish("stop")) if matcher.finished else finish  # the last token may be the last allowed

    def _is_jump_certain(self, request: Request, mask: IntArray) -> bool:
        assert self._jump_forward is not None
        if request.matcher is None or request.state is not State.RUNNING or not _may_jump(request):
            return False
        try:
            return self._jump_forward.is_certain(request.matcher, mask)
        except GrammarError as error:
            self._refuse(self._served[request.request_id], request.params.constraint_field, str(error))
            return False

    def _end(self, served: Served, finish: Finish) -> None:
        del self._served[served.request.request_id]
        self._scheduler.finish(served.request)
        self._tell(served, finish)

    def _tell(self, served: Served, finish: Finish | None) -> None:
        if (output := served.output.take(finish)) is not None:
            self._send(served, output)

    def _fail(self, served: Served, message: str, *, corrupt: bool = False) -> None:
        """End one request with an error. `corrupt`: what it computed is not numbers, so the cache can't be trusted."""
        self._drop(served, RequestFailed(message), keep=not corrupt)
        if corrupt:
            self._scheduler.flush()

    def _refuse(self, served: Served, field: str, message: str) -> None:
        """End one request for a fault of its own that shows only while it runs."""
        self._drop(served, InvalidRequest(field, message, "too_complex"), keep=True)

    def _drop(self, served: Served, error: ForktreeRuntimeError, *, keep: bool) -> None:
        self._served.pop(served.request.request_id, None)
        self._scheduler.finish(served.request, keep=keep)
        self._send(served, Failed(served.request.request_id, *describe_error(error)))

    def _send(self, served: Served, news: News) -> None:
        if served.tell is not None:
            served.tell(news)
        else:
            self._news.append(news)

    @contextmanager
    def _failing_all(self, what: str) -> Iterator[None]:
        """An error that is no request's own must not stop the loop: every request fails, and it goes on."""
        try:
            yield
        except Exception:
            log.exception("%s failed; every request in flight is lost", what)
            self._fail_all(f"{what} failed; see the engine's log")

    def _fail_all(self, message: str) -> None:
        """Nothing that was planned can be trusted: every request fails, the cache starts empty."""
        self._scheduler.reset()
        lost, self._served = self._served, {}
        for request_id, served in lost.items():
            self._send(served, Failed(request_id, "RequestFailed", [message]))
        self._flush_news()

    def _flush_news(self) -> None:
        if self._news:
            self._emit(self._news)
            self._news = []

    # -- masks --------------------------------------------------------------------------------------------------------

    def _token_masks(self, step: Step) -> TokenMasks | None:
        """Masks of the constrained spans that sample in `step`; their matchers know every token before it by now."""
        sampling = [span for span in step.spans if span.samples]
        rows = [i for i, span in enumerate(sampling) if _constrained(span)]
        if not rows:
            return None
        requests = [sampling[i].request for i in rows]
        words = np.full((len(rows), self._mask_words), -1, np.int32)
        with self._failing_all("filling token masks"):
            self._fill_masks(requests, words)
        self._flush_news()
        if self._overlapped and self._jump_forward is not None:
            with self._failing_all("looking for forced tokens"):
                for request, row in zip(requests, words, strict=True):
                    request.awaits_pending = self._is_jump_certain(request, row)
        return TokenMasks(rows, words)

    def _fill_masks(self, requests: list[Request], words: IntArray) -> None:
        """All rows in one call; a grammar that turns out too complex fails its own request and nobody else's."""
        left = [request.params.max_new_tokens - request.num_output for request in requests]
        try:
            fill_masks([request.matcher for request in requests], words, left)
        except GrammarError:  # whose, the call does not say
            for request, row, tokens_left in zip(requests, words, left, strict=True):
                assert request.matcher is not None
                try:
                    request.matcher.fill_mask(row, tokens_left)
                except GrammarError as error:
                    self._refuse(self._served[request.request_id], request.params.constraint_field, str(error))


def _may_jump(request: Request) -> bool:
    """Not where the log-probability of every token is wanted, nor where a bias may favour another spelling."""
    return not request.return_logprob and not request.params.logit_bias


def _note_first_spans(step: Step) -> None:
    now = time.monotonic()
    for span in step.spans:
        if span.request.planned_at is None:
            span.request.planned_at = now


def _constrained(span: Span) -> bool:
    """A request that has ended or gone on meanwhile needs no mask: its token will be dropped."""
    request = span.request
    return request.matcher is not None and request.state in (State.RUNNING, State.RETRACTING) and not span.is_stale
