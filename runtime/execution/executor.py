"""The way to the device: `launch(step) -> StepFuture`.

Here: the Executor interface, the future of a step, and the executor that runs a torch model on a thread of its own.
Imported by the engine loop; nothing else meets the model. Steps run one after the other, in the order of their launch.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Protocol

import torch

from ..attention.plan import AttentionBatch
from ..memory.kv_store import KvStore
from ..models.causal_lm import CausalLM
from ..request import Step
from .sampler import Logprob, StepResult, TokenMasks, sample, score_prompt
from .step_inputs import StepInputs, build


class StepFuture:
    """A step on its way. It samples once `sample` hands it the masks, which need the tokens of the step before."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._masks: TokenMasks | None = None
        self._may_sample = threading.Event()
        self._done: Future[StepResult] = Future()

    def sample(self, masks: TokenMasks | None) -> None:
        """Let the step sample, under these masks. A second call has no effect."""
        if not self._may_sample.is_set():
            self._masks = masks
            self._may_sample.set()

    async def result(self) -> StepResult:
        """The step's tokens; raises what the device raised."""
        return await asyncio.wrap_future(self._done)

    # for the executor

    def wait_for_masks(self) -> TokenMasks | None:
        self._may_sample.wait()
        return self._masks

    def resolve(self, result: StepResult) -> None:
        self._done.set_result(result)

    def fail(self, error: BaseException) -> None:
        self._done.set_exception(error)


class Executor(Protocol):
    """A device. Steps run in the order of their launch; a launch returns at once."""

    def launch(self, step: Step) -> StepFuture: ...

    def close(self) -> None: ...


class TorchExecutor:
    """Runs a model on one thread of its own, so that the engine loop overlaps with it."""

    def __init__(self, model: CausalLM, kv: KvStore, *, page_size: int, scratch_page: int, num_slots: int) -> None:
        self._model, self._kv = model, kv
        self._page_size, self._scratch_page = page_size, scratch_page
        self._last_tokens = torch.zeros(num_slots, dtype=torch.int64)
        self.busy_seconds = 0.0  # that steps have computed, without what they waited for; written by its thread only
        self._launched: SimpleQueue[tuple[StepFuture, StepInputs] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="forktree-executor", daemon=True)
        self._thread.start()

    def launch(self, step: Step) -> StepFuture:
        future = StepFuture(step)
        self._launched.put((future, build(step, page_size=self._page_size, scratch_page=self._scratch_page)))
        return future

    def close(self) -> None:
        """Let the launched steps run to their end, then stop the thread."""
        self._launched.put(None)
        self._thread.join()

    def _run(self) -> None:
        with torch.inference_mode():
            while (job := self._launched.get()) is not None:
                future, inputs = job
                try:
                    future.resolve(self._compute(future, inputs))
                except BaseException as error:  # crosses to the loop's thread, which raises it
                    future.fail(error)

    def _compute(self, future: StepFuture, inputs: StepInputs) -> StepResult:
        started = time.perf_counter()
        input_ids = torch.from_numpy(inputs.input_ids)
        if len(inputs.future_rows):
            input_ids[torch.from_numpy(inputs.future_rows)] = self._last_tokens[torch.from_numpy(inputs.future_slots)]
        batch = AttentionBatch(
            positions=torch.from_numpy(inputs.positions),
            slots=torch.from_numpy(inputs.slots),
            query_starts=torch.from_numpy(inputs.query_starts),
            seq_lens=torch.from_numpy(inputs.seq_lens),
            page_table=torch.from_numpy(inputs.page_table),
            page_size=self._page_size,
        )
        hidden = self._model.forward(input_ids, batch, self._kv)
        num_samples = len(inputs.samples)
        logits = self._model.logits(hidden[torch.from_numpy(inputs.logit_rows)]) if len(inputs.logit_rows) else hidden
        prompt_logprobs = score_prompt(logits[num_samples:], inputs.prompt_rows)
        computed = time.perf_counter()
        masks = future.wait_for_masks()
        waited = time.perf_counter() - computed
        try:
            return self._sampled(inputs, logits[:num_samples], masks, prompt_logprobs)
        finally:
            self.busy_seconds += time.perf_counter() - started - waited

    def _sampled(
        self,
        inputs: StepInputs,
        logits: torch.Tensor,
        masks: TokenMasks | None,
        prompt_logprobs: list[list[Logprob]],
    ) -> StepResult:
        if not len(logits):
            return StepResult([], {}, [], prompt_logprobs)
        token_ids, failures, logprobs = sample(logits, inputs.samples, masks, self._last_tokens)
        slots = torch.tensor([row.slot for row in inputs.samples])
        self._last_tokens[slots] = torch.tensor(token_ids)
        return StepResult(token_ids, failures, logprobs, prompt_logprobs)
