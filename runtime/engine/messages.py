"""What crosses between the engine's process and its client: typed, versioned, msgpack, never pickle.

Client -> engine: ClientMessage. Engine -> client: lists of EngineMessage, one list per step.
Imported by both sides; msgspec and what a plan is made of.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..sampling_params import SamplingParams
from .program_plan import PlanNode
from .token_trie import TokenTrie

PROTOCOL_VERSION = 1


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """log P(token) in nats under the model itself. None for the first token of a prompt: nothing predicts it.

    top   the most probable tokens there: (log-probability, token id, text), best first
    """

    logprob: float | None
    token_id: int
    text: str
    top: list[tuple[float, int, str]] = []


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one request; `cached_tokens` of the prompt came from the prefix cache, `forced_tokens` of the output
    were not sampled: its constraint left no choice."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    forced_tokens: int = 0


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """Where the time of one request went, and the prompt tokens it computed, again after a retraction included.

    queue_ms     until its first span was planned; the compiling of its constraint is part of it
    prefill_ms   from there to its first token, forced ones before it aside, or to the end if it samples none
    decode_ms    from the first token to the end
    """

    queue_ms: float
    prefill_ms: float
    decode_ms: float
    computed_tokens: int

    def beside(self, other: Timing) -> Timing:
        """Of two requests of one call, which began together."""
        return Timing(
            max(self.queue_ms, other.queue_ms),
            max(self.prefill_ms, other.prefill_ms),
            max(self.decode_ms, other.decode_ms),
            self.computed_tokens + other.computed_tokens,
        )


class ChatFormat(msgspec.Struct, frozen=True):
    """A chat template as text around each message, where it can be told apart like that.

    bos              text before everything
    default_system   whole system message that the template puts first when the first message is not a system one
    roles            role -> (text before the content, text after it)
    """

    bos: str
    default_system: str
    roles: dict[str, tuple[str, str]]


class ModelInfo(msgspec.Struct, frozen=True):
    """What an engine serves. `context_length`: tokens of prompt and output of one request at most."""

    name: str
    model_path: str
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    add_bos: bool  # plain text begins with bos_token_id
    chat_format: ChatFormat | None
    chat_template: str | None
    tokenizer_path: str
    num_pages: int
    page_size: int


class EngineStats(msgspec.Struct, frozen=True):
    """Totals since the start, and the engine's state now. pages_free + pages_cached + pages_running == pages_total.

    forced_tokens   of the generated ones, those that a constraint left no choice about and nobody sampled
    saved_passes    times that a request did not enter a step because of them
    """

    prompt_tokens: int
    computed_prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    forced_tokens: int
    saved_passes: int
    retractions: int
    evicted_pages: int
    steps: int
    requests_running: int
    requests_waiting: int
    pages_free: int
    pages_cached: int
    pages_running: int
    pages_total: int
    uptime_seconds: float
    device_seconds: float  # of them, spent computing steps


# -- client -> engine


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Start a request. `stream`: answer step by step, else once at the end."""

    request_id: int
    prompt: list[int]
    params: SamplingParams
    stream: bool
    return_logprob: bool = False
    logprob_start: int | None = None
    num_top_logprobs: int = 0
    namespace: bytes = b""


class SubmitScore(msgspec.Struct, frozen=True, tag=True):
    """Score the continuations in `trie`; without a prompt nothing predicts their first tokens, which count 0."""

    request_id: int
    prompt: list[int]
    trie: TokenTrie
    namespace: bytes = b""


class Abort(msgspec.Struct, frozen=True, tag=True):
    request_id: int


class RunProgram(msgspec.Struct, frozen=True, tag=True):
    """Run a plan once per item of arguments.  `stream`: outputs step by step, else each once at its end."""

    call_id: int
    nodes: tuple[PlanNode, ...]
    items: list[dict[str, str]]
    stream: bool
    whole: bool
    namespace: bytes = b""


class AbortProgram(msgspec.Struct, frozen=True, tag=True):
    """End a program; or one item of it; or one node of that item, and what needs it."""

    call_id: int
    item: int | None = None
    node: int | None = None


class AskStats(msgspec.Struct, frozen=True, tag=True):
    call_id: int


class Flush(msgspec.Struct, frozen=True, tag=True):
    call_id: int


class Close(msgspec.Struct, frozen=True, tag=True):
    pass


ClientMessage = Submit | SubmitScore | Abort | RunProgram | AbortProgram | AskStats | Flush | Close

# -- engine -> client


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Something long is under way while the engine starts: 0 <= fraction <= 1."""

    what: str
    fraction: float


class Ready(msgspec.Struct, frozen=True, tag=True):
    info: ModelInfo
    version: int = PROTOCOL_VERSION


class StartFailed(msgspec.Struct, frozen=True, tag=True):
    """The engine could not start; `kind` is a class of runtime/errors.py, `args` what it is made from."""

    kind: str
    args: list[Any]


class Output(msgspec.Struct, frozen=True, tag=True):
    """News of one request. Text and token ids are what is new since the last Output.

    kept_token_ids   with finish_reason: the output tokens that spell exactly the whole text; None if none do (a stop
                      string was cut off in the middle of a token)
    timing           with finish_reason
    """

    request_id: int
    text: str
    token_ids: list[int]
    logprobs: list[TokenLogprob]
    prompt_logprobs: list[TokenLogprob] | None
    usage: Usage
    finish_reason: str | None = None
    matched: int | str | None = None
    kept_token_ids: list[int] | None = None
    timing: Timing | None = None


class ScoredChoice(msgspec.Struct, frozen=True, array_like=True):
    """Tokens of a choice, and log P of each after what stands before it, in nats."""

    token_ids: list[int]
    logprobs: list[float]


class ProgramNews(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """News of one node of a running program; node -1: the item is over, whatever of it did not run never will.  A
    node's first news is its digest alone, when it begins: whoever asked something else need not wait for its end.

    digest   of the prompt that the node had (prompt_text.PromptText.digest)
    delta    of a gen: what is new of output number `output`
    scores   of a select: of its choices, in order; `alone`: the same with nothing before them, where that was asked for
    timing   of a select; that of a gen is in its delta
    error    the node failed: a class of runtime/errors.py and what it is made from
    """

    call_id: int
    item: int
    node: int
    output: int = 0
    digest: bytes = b""
    delta: Output | None = None
    scores: list[ScoredChoice] | None = None
    alone: list[ScoredChoice] | None = None
    timing: Timing | None = None
    error: tuple[str, list[Any]] | None = None


class Scores(msgspec.Struct, frozen=True, tag=True):
    """The log-probability of each node of a SubmitScore's trie, in nats."""

    request_id: int
    logprobs: list[float]
    timing: Timing


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The request ended with an error: a class of runtime/errors.py and what it is made from."""

    request_id: int
    kind: str
    args: list[Any]


class Stats(msgspec.Struct, frozen=True, tag=True):
    call_id: int
    stats: EngineStats


class Flushed(msgspec.Struct, frozen=True, tag=True):
    call_id: int


EngineMessage = Progress | Ready | StartFailed | Output | ProgramNews | Scores | Failed | Stats | Flushed
