"""Step -> arrays: what the model and the sampler need to know of a step, read off the requests before it is launched.

The host goes on changing requests while the device runs, so everything the device needs is copied here.
Imported by the executor; numpy only. One thread: the engine loop's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..request import IntArray, Request, Span, Step
from ..sampling_params import SamplingParams

LongArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SampleRow:
    """How one token of a step is to be sampled.

    slot            where the sampled token is left for the next step to read
    history         int32: prompt and output so far, only where a penalty asks for it; without the pending token
    pending         whether one more token of the output is on the device only, in `slot`
    banned          token ids that may not be sampled yet (min_new_tokens)
    """

    params: SamplingParams
    seed: int
    position: int
    slot: int
    history: IntArray | None
    num_prompt: int
    pending: bool
    banned: tuple[int, ...]
    num_top_logprobs: int | None  # None: no log-probabilities wanted


@dataclass(frozen=True, eq=False)
class StepInputs:
    """Arrays of one step of N spans and T tokens; R rows of hidden states are turned into logits.

    The first len(samples) logit rows are sampled, in the order of the spans that sample; then, span by span, come the
    rows before each prompt position at which log-probabilities are owed.
    """

    input_ids: LongArray  # [T]; 0 where the token is on the device only
    future_rows: LongArray  # [F] rows of input_ids to fill from
    future_slots: LongArray  # [F] these slots
    positions: LongArray  # [T]
    slots: LongArray  # [T] page_id * page_size + offset
    query_starts: IntArray  # [N + 1]
    seq_lens: IntArray  # [N]
    page_table: IntArray  # [N, M]
    logit_rows: LongArray  # [R]
    samples: list[SampleRow]
    prompt_rows: list[PromptRows]


@dataclass(frozen=True, eq=False)
class PromptRows:
    """What one span owes: the log-probability of each of some tokens, at its position among the span's `num_rows`."""

    num_rows: int
    rows: LongArray  # [K] ascending, each row at least once
    token_ids: LongArray  # [K]
    num_top: int


def build(step: Step, *, page_size: int, scratch_page: int) -> StepInputs:
    """Lay out `step`. Tokens before a span's `write_from` are stored in `scratch_page`, which nobody reads."""
    spans, num_tokens = step.spans, step.num_tokens
    input_ids = np.zeros(num_tokens, np.int64)
    positions = np.empty(num_tokens, np.int64)
    slots = np.empty(num_tokens, np.int64)
    query_starts = np.zeros(len(spans) + 1, np.int32)
    query_starts[1:] = np.cumsum([span.length for span in spans])
    most_pages = max(-(-span.end // page_size) for span in spans)
    page_table = np.zeros((len(spans), most_pages), np.int32)
    future_rows: list[int] = []
    future_slots: list[int] = []
    for i, span in enumerate(spans):
        request, first, stop = span.request, int(query_starts[i]), int(query_starts[i + 1])
        known = min(span.end, request.num_tokens)
        input_ids[first : first + known - span.start] = request.tokens[span.start : known]
        if known < span.end:
            future_rows.append(stop - 1)
            future_slots.append(request.slot)
        at = np.arange(span.start, span.end)
        positions[first:stop] = at
        slots[first:stop] = request.pages[at // page_size].astype(np.int64) * page_size + at % page_size
        if span.write_from > span.start:
            slots[first : first + min(span.write_from, span.end) - span.start] = scratch_page * page_size
        num_pages = -(-span.end // page_size)
        page_table[i, :num_pages] = request.pages[:num_pages]
    return StepInputs(
        input_ids=input_ids,
        future_rows=np.array(future_rows, np.int64),
        future_slots=np.array(future_slots, np.int64),
        positions=positions,
        slots=slots,
        query_starts=query_starts,
        seq_lens=np.array([span.end for span in spans], np.int32),
        page_table=page_table,
        logit_rows=_logit_rows(spans, query_starts),
        samples=[_sample_row(span) for span in spans if span.samples],
        prompt_rows=[_prompt_rows(span) for span in spans if span.logprobs],
    )


def _logit_rows(spans: list[Span], query_starts: IntArray) -> LongArray:
    sampled = [int(query_starts[i + 1]) - 1 for i, span in enumerate(spans) if span.samples]
    owed = [
        int(query_starts[i]) + position - 1 - span.start for i, span in enumerate(spans) for position in span.logprobs
    ]
    return np.array(sampled + owed, np.int64)


def _sample_row(span: Span) -> SampleRow:
    request = span.request
    params = request.params
    penalised = params.repetition_penalty != 1.0 or params.frequency_penalty != 0.0 or params.presence_penalty != 0.0
    return SampleRow(
        params=params,
        seed=request.seed,
        position=span.position,
        slot=request.slot,
        history=request.known.copy() if penalised else None,
        num_prompt=request.num_prompt,
        pending=span.end > request.num_tokens,
        banned=_banned(request, span.position),
        num_top_logprobs=request.num_top_logprobs if request.return_logprob else None,
    )


def _banned(request: Request, position: int) -> tuple[int, ...]:
    """A constrained output ends where its grammar says, so min_new_tokens does not hold it open."""
    if position >= request.params.min_new_tokens or request.matcher is not None:
        return ()
    return (*request.eos_token_ids, *request.params.stop_token_ids)


def _prompt_rows(span: Span) -> PromptRows:
    owed, request = span.logprobs, span.request
    rows = np.arange(len(owed))
    if request.asked is None:
        token_ids = request.tokens[owed.start : owed.stop]
    else:
        first = request.logprob_stop - len(request.asked)
        asked = request.asked[owed.start - first : owed.stop - first]
        rows = rows.repeat([len(tokens) for tokens in asked])
        token_ids = np.concatenate(asked)
    return PromptRows(len(owed), rows, token_ids.astype(np.int64), request.num_top_logprobs)
