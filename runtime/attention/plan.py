"""AttentionBatch: what one step of spans looks like to the model.

Here: the arrays of a step, and nothing else.  Not here: who fills them (execution/step_inputs.py), what reads them
(the attention backends, each of which may derive a plan of its own from a batch, once per step)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class AttentionBatch:
    """One step: the spans of N requests, T tokens in all, over pages of `page_size` tokens.

    Span i owns rows query_starts[i]:query_starts[i+1]; they stand at positions seq_lens[i] - length .. seq_lens[i] - 1.
    A query at position p sees the keys at positions <= p of its own request's pages.  Spans of one step may read pages
    that other spans of the step write (keys and values of all T tokens are stored before any are read), and no two
    tokens of a step share a slot.  Nothing here is checked on the hot path: the scheduler owns these invariants."""

    positions: torch.Tensor  # [T] int64
    slots: torch.Tensor  # [T] int64: page_id * page_size + offset, where this token's keys and values go
    query_starts: torch.Tensor  # [N + 1] int32, from 0 to T
    seq_lens: torch.Tensor  # [N] int32, in tokens, this span included
    page_table: torch.Tensor  # [N, M] int32 page ids; entries past a sequence's last page are never read
    page_size: int  # in tokens

    @property
    def num_tokens(self) -> int:
        return self.positions.shape[0]

    @property
    def num_spans(self) -> int:
        return self.seq_lens.shape[0]
