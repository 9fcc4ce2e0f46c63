"""Scoring: how likely continuations of a prompt are, as ordinary requests under the scheduler.

Here: one score call -> one request per chain of its token trie, queued together; their log-probabilities -> the call's.
Imported by core.py, and by whatever else works inside the engine. One thread: the engine loop's.

Every token is computed once: a chain finds what is above it in the radix tree, where pages stand as soon as they are
planned, so that a whole call may fit into one step. The prompt's tokens and those of the trie that others follow are
what is computed on an empty cache; where pages hold several tokens only whole ones are shared, and each chain but the
first computes up to page_size - 1 tokens above it again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..errors import EngineOverloaded, ForktreeRuntimeError, RequestFailed, make_error
from ..request import Request
from ..sampling_params import SamplingParams
from .loop import EngineLoop, News, Served
from .messages import Failed, Scores, Timing
from .output import OutputStream
from .token_trie import Chain, TokenTrie
from .tokenizer import Tokenizer

_NO_TIME = Timing(0.0, 0.0, 0.0, 0)
_COMPUTE_ONLY = SamplingParams(max_new_tokens=0, temperature=0.0)

OnEnd = Callable[[Scores | ForktreeRuntimeError], None]


@dataclass(eq=False)
class _Call:
    """A score call under way: what is known of each node, and the requests that are not done."""

    on_end: OnEnd
    logprobs: list[float]
    unfinished: set[int] = field(default_factory=set)
    timing: Timing = _NO_TIME


class Scoring:
    """The score calls of one engine. `new_id` gives ids that no other request has."""

    def __init__(self, loop: EngineLoop, tokenizer: Tokenizer, new_id: Callable[[], int]) -> None:
        self._loop, self._tokenizer, self._new_id = loop, tokenizer, new_id
        self._calls: dict[int, _Call] = {}

    def start(self, call_id: int, prompt: list[int], trie: TokenTrie, on_end: OnEnd, *, namespace: bytes = b"") -> None:
        """Score the continuations that `trie` holds after `prompt`; without a prompt their first tokens count 0.

        `on_end` is called once, maybe at once: with the log-probability of every node, or with what went wrong."""
        chains = trie.chains(after_prompt=bool(prompt))
        call = self._calls[call_id] = _Call(on_end, [0.0] * len(trie.tokens))
        requests = [_request(self._new_id(), prompt, trie, chain, namespace) for chain in chains]
        for request, chain in zip(requests[1:], chains[1:], strict=True):
            request.num_inherited = len(prompt) + len(chain.above)
        call.unfinished.update(request.request_id for request in requests)
        try:
            self._loop.start(
                *(
                    Served(
                        request,
                        OutputStream(request, self._tokenizer, stream=False),
                        partial(self._hear, call_id, request.request_id, chain),
                    )
                    for request, chain in zip(requests, chains, strict=True)
                )
            )
        except EngineOverloaded as error:
            self._end(call_id, error)
            return
        if not chains:
            self._end(call_id)

    def abort(self, call_id: int) -> None:
        """End a call now. Unknown ids are harmless."""
        self._end(call_id, RequestFailed("the request was aborted"))

    def _hear(self, call_id: int, request_id: int, chain: Chain, news: News) -> None:
        """A chain has ended. The first failure is the call's."""
        call = self._calls.get(call_id)
        if call is None:
            return
        call.unfinished.discard(request_id)
        if isinstance(news, Failed):
            self._end(call_id, make_error(news.kind, news.args))
            return
        assert news.timing is not None
        call.timing = call.timing.beside(news.timing)
        nodes = [node for asked in chain.asked for node in asked]
        for node, found in zip(nodes, news.prompt_logprobs or (), strict=True):
            assert found.logprob is not None
            call.logprobs[node] = found.logprob
        if not call.unfinished:
            self._end(call_id)

    def _end(self, call_id: int, error: ForktreeRuntimeError | None = None) -> None:
        call = self._calls.pop(call_id, None)
        if call is None:
            return
        for request_id in call.unfinished:
            self._loop.abort(request_id)
        call.on_end(error or Scores(call_id, call.logprobs, call.timing))


def _request(request_id: int, prompt: list[int], trie: TokenTrie, chain: Chain, namespace: bytes) -> Request:
    tokens = [*prompt, *chain.above, *chain.tokens]
    request = Request.create(request_id, tokens, _COMPUTE_ONLY, seed=0, eos_token_ids=())
    request.namespace = namespace
    request.asked = [np.array([trie.tokens[node] for node in nodes], np.int32) for nodes in chain.asked]
    request.logprob_next = request.logprob_stop - len(chain.asked)
    return request
