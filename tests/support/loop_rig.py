"""An engine loop with everything around it but a model: the scripted device computes, page owners are checked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from forktree.grammar import Matcher
from forktree.runtime.config import EngineConfig
from forktree.runtime.engine.jump_forward import JumpForward
from forktree.runtime.engine.loop import EngineLoop, Served
from forktree.runtime.engine.messages import EngineMessage, Failed, Output, Scores, Timing
from forktree.runtime.engine.output import OutputStream
from forktree.runtime.engine.scoring import Scoring
from forktree.runtime.engine.token_trie import TokenTrie
from forktree.runtime.engine.tokenizer import Tokenizer
from forktree.runtime.errors import ForktreeRuntimeError
from forktree.runtime.memory.page_pool import PagePool
from forktree.runtime.request import Request
from forktree.runtime.sampling_params import SamplingParams
from tests.support.byte_tokenizer import ByteTokenizer
from tests.support.checked_scheduler import CheckedScheduler, check_pages
from tests.support.scripted_executor import ScriptedExecutor

NEVER = (999,)  # an end-of-sequence id that is never sampled


@dataclass
class Rig:
    """The loop, and what comes of requests and score calls."""

    config: EngineConfig
    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)
    news: list[EngineMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.config.num_pages is not None
        self.scheduler = CheckedScheduler(self.config, PagePool(self.config.num_pages))
        self.executor = ScriptedExecutor(self.config.num_pages, self.config.page_size, self.config.max_running_requests)
        mask_words = -(-self.tokenizer.vocab_size // 32)
        jump_forward = JumpForward(self.tokenizer, mask_words=mask_words) if self.config.jump_forward else None
        self.loop = EngineLoop(
            self.scheduler, self.executor, self._receive, mask_words=mask_words, jump_forward=jump_forward
        )
        self._finished: dict[int, Output] = {}
        self._failed: set[int] = set()
        self.prompts: dict[int, list[int]] = {}
        self.aborted: set[int] = set()
        internal_ids = count(-1, -1)
        self.scoring = Scoring(self.loop, self.tokenizer, lambda: next(internal_ids))
        self.calls: dict[int, TokenTrie] = {}
        self.scores: dict[int, list[list[float]] | ForktreeRuntimeError] = {}
        self.score_timings: dict[int, Timing] = {}

    def submit(
        self,
        prompt: list[int],
        max_new_tokens: int,
        *,
        eos: tuple[int, ...] = NEVER,
        matcher: Matcher | None = None,
        stream: bool = False,
        return_logprob: bool = False,
        **params: Any,
    ) -> int:
        request_id = len(self.prompts) + 1
        sampling = SamplingParams(max_new_tokens=max_new_tokens, temperature=0.0, **params)
        request = Request.create(request_id, prompt, sampling, seed=0, eos_token_ids=eos)
        request.matcher, request.return_logprob = matcher, return_logprob
        self.prompts[request_id] = prompt
        self.loop.start(Served(request, OutputStream(request, self.tokenizer, stream=stream)))
        return request_id

    def score(self, prompt: list[int], continuations: Sequence[Sequence[int]], *, namespace: bytes = b"") -> int:
        call_id = len(self.calls) + 1
        trie = self.calls[call_id] = TokenTrie.of(continuations)

        def on_end(result: Scores | ForktreeRuntimeError) -> None:
            assert call_id not in self.scores, "a call ends once"
            if isinstance(result, ForktreeRuntimeError):
                self.scores[call_id] = result
            else:
                self.scores[call_id], self.score_timings[call_id] = trie.along(result.logprobs), result.timing

        self.scoring.start(call_id, prompt, trie, on_end, namespace=namespace)
        return call_id

    def abort(self, request_id: int) -> None:
        self.aborted.add(request_id)
        self.loop.abort(request_id)

    def _receive(self, news: list[EngineMessage]) -> None:
        self.news += news
        self._failed.update(m.request_id for m in news if isinstance(m, Failed) and m.request_id in self.prompts)
        self._finished.update((m.request_id, m) for m in news if isinstance(m, Output) and m.finish_reason is not None)

    @property
    def num_unfinished(self) -> int:
        num_ended = len(self.finished()) + len(self._failed) + len(self.scores)
        return len(self.prompts) + len(self.calls) - num_ended

    def finished(self) -> dict[int, Output]:
        return self._finished

    def run(self, drive: Callable[[], object] | None = None) -> dict[int, Output]:
        """Run the loop until everything submitted has ended; `drive` is an async function run beside it."""

        async def main() -> None:
            run = self.loop.run_overlapped if self.config.overlap else self.loop.run_plain
            task = asyncio.create_task(run())
            if drive is not None:
                await drive()  # type: ignore[misc]
            while self.num_unfinished and not task.done():
                await asyncio.sleep(0)
            self.loop.close()
            await task

        asyncio.run(main())
        check_pages(self.scheduler)
        return self.finished()


def rig(tokenizer: Tokenizer | None = None, **fields: object) -> Rig:
    defaults = {"num_pages": 64, "page_size": 1, "max_running_requests": 8, "step_tokens": 32}
    config = EngineConfig(**{**defaults, **fields})  # type: ignore[arg-type]
    return Rig(config) if tokenizer is None else Rig(config, tokenizer)


both_loops = pytest.mark.parametrize("overlap", [True, False], ids=["overlapped", "plain"])
