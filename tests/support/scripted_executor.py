"""A device without a model: the next token is a hash of the whole prefix, and the prefix is what the pages say it is.

Each slot stores a hash of the prefix that ends there, computed from the slot before it through the page table. A page
given to two owners, freed too early, shared wrongly or not written thus changes the tokens, and the test sees it.
"""

from __future__ import annotations

import numpy as np

from forktree.runtime.execution.executor import StepFuture
from forktree.runtime.execution.sampler import Logprob, StepResult, TokenMasks
from forktree.runtime.execution.step_inputs import PromptRows, StepInputs, build
from forktree.runtime.request import Step

VOCAB_SIZE = 256
_START = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def extend_hash(prefix: int, token_id: int) -> int:
    """The hash of a prefix and one more token."""
    z = (prefix ^ (token_id + 1) * 0xBF58476D1CE4E5B9) & _MASK
    return (z ^ (z >> 29)) * 0x94D049BB133111EB & _MASK


def next_token(prefix: int) -> int:
    return (prefix >> 33) % VOCAB_SIZE


def expected_output(prompt: list[int], num_tokens: int) -> list[int]:
    """What a request alone would get."""
    prefix = _START
    for token_id in prompt:
        prefix = extend_hash(prefix, token_id)
    output = []
    for _ in range(num_tokens):
        output.append(next_token(prefix))
        prefix = extend_hash(prefix, output[-1])
    return output


def next_logprob(prefix: int, token_id: int) -> float:
    """Of a token after the prefix with this hash: a number of its own for each pair, if not one of a distribution."""
    return -float(extend_hash(prefix, token_id) >> 24 & 0xFFFF)


def expected_logprobs(prompt: list[int], continuation: list[int]) -> list[float]:
    """What scoring a continuation alone would give; without a prompt its first token counts 0."""
    prefix = _START
    for token_id in prompt:
        prefix = extend_hash(prefix, token_id)
    logprobs = []
    for token_id in continuation:
        logprobs.append(next_logprob(prefix, token_id))
        prefix = extend_hash(prefix, token_id)
    return logprobs if prompt else [0.0, *logprobs[1:]]


class ScriptedFuture(StepFuture):
    def __init__(
        self,
        step: Step,
        executor: ScriptedExecutor,
        ends: list[int],
        slots: list[int],
        prompt_logprobs: list[list[Logprob]],
    ) -> None:
        super().__init__(step)
        self._executor, self._ends, self._slots = executor, ends, slots
        self._prompt_logprobs = prompt_logprobs

    def sample(self, masks: TokenMasks | None) -> None:
        token_ids = [next_token(end) for end in self._ends]
        if masks is not None:
            for row, words in zip(masks.rows, masks.words, strict=True):
                token_ids[row] = _allowed_token(self._ends[row], words)
        for slot, token_id in zip(self._slots, token_ids, strict=True):
            self._executor.last_tokens[slot] = token_id
        self.resolve(StepResult(token_ids, {}, [None] * len(token_ids), self._prompt_logprobs))


class ScriptedExecutor:
    """Runs each step when it is launched; its sampling when it is told to."""

    def __init__(self, num_pages: int, page_size: int, num_slots: int) -> None:
        self._page_size, self._scratch_page = page_size, num_pages
        self._kv = np.zeros((num_pages + 1) * page_size, np.uint64)
        self.last_tokens = np.zeros(num_slots, np.int64)
        self.num_computed = 0
        self.fail_at: int | None = None

    def launch(self, step: Step) -> StepFuture:
        inputs = build(step, page_size=self._page_size, scratch_page=self._scratch_page)
        if step.number == self.fail_at:
            future = StepFuture(step)
            future.fail(RuntimeError("the device is on fire"))
            return future
        hashes = self._compute(inputs)[inputs.logit_rows].tolist()
        sampled = hashes[: len(inputs.samples)]
        return ScriptedFuture(
            step,
            self,
            sampled,
            [row.slot for row in inputs.samples],
            _owed_logprobs(hashes[len(sampled) :], inputs.prompt_rows),
        )

    def close(self) -> None: ...

    def _compute(self, inputs: StepInputs) -> np.ndarray:
        """Fill the slots of every span in order; the hash at each row."""
        input_ids = inputs.input_ids.copy()
        input_ids[inputs.future_rows] = self.last_tokens[inputs.future_slots]
        hashes = np.zeros(len(input_ids), np.uint64)
        for i, seq_len in enumerate(inputs.seq_lens):
            first, stop = int(inputs.query_starts[i]), int(inputs.query_starts[i + 1])
            prefix = self._prefix(inputs.page_table[i], int(seq_len) - (stop - first))
            for row in range(first, stop):
                prefix = extend_hash(prefix, int(input_ids[row]))
                self._kv[inputs.slots[row]] = hashes[row] = prefix
            self.num_computed += stop - first
        return hashes

    def _prefix(self, pages: np.ndarray, length: int) -> int:
        if length == 0:
            return _START
        at = length - 1
        return int(self._kv[pages[at // self._page_size] * self._page_size + at % self._page_size])


def _allowed_token(prefix: int, words: np.ndarray) -> int:
    allowed = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
    return int(allowed[(prefix >> 33) % len(allowed)])


def _owed_logprobs(hashes: list[int], prompt_rows: list[PromptRows]) -> list[list[Logprob]]:
    owed, first = [], 0
    for rows in prompt_rows:
        asked = zip(rows.rows.tolist(), rows.token_ids.tolist(), strict=True)
        owed.append([Logprob(token_id, next_logprob(hashes[first + at], token_id), []) for at, token_id in asked])
        first += rows.num_rows
    return owed
