"""What a program asks of the thing that runs it: the Backend protocol and the values that cross it.

Here: frozen values (prompt, sampling, chunk, score) and the calls a backend answers.  Not here: who runs the
model, HTTP, threads.  Every call is made on one background event loop of the process (thread "forktree-lang"); a
backend needs no locks of its own for them. Imports nothing of ours.  After the backend interface of SGLang's
frontend, with cancellation, scores and token ids made part of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

__all__ = [
    "EVERYTHING",
    "Backend",
    "Capabilities",
    "ChatFormat",
    "Chunk",
    "GenerateRequest",
    "ModelInfo",
    "Place",
    "ProgramBackend",
    "ProgramCall",
    "ProgramNews",
    "Prompt",
    "PromptPart",
    "SamplingParams",
    "Score",
    "Timing",
    "TokenLogprob",
    "TokenizingBackend",
    "Usage",
    "asked_from",
]

PromptPart = str | Sequence[int]
Prompt = Sequence[PromptPart]
"""One prompt in parts.  A text part is tokenised by itself (special tokens such as <|im_start|> are recognised in
it); token ids, which are earlier outputs, pass through unchanged, so that their keys and values are found in the
cache.  Parts are never empty; a prompt may be."""


@dataclass(frozen=True)
class ChatFormat:
    """How roles become text, taken from the model's own chat template.

    The text of a conversation is bos, then default_system unless the first message is a system message, then prefix,
    content and suffix of every message.  An open assistant turn ends with the assistant prefix; the model's end-of-turn
    token is the first thing in the assistant suffix."""

    bos: str
    default_system: str  # a whole rendered block, "" = none
    roles: Mapping[str, tuple[str, str]]  # "user", "assistant", mostly "system" -> (prefix, suffix)

    @staticmethod
    def chatml(default_system: str = "", bos: str = "") -> ChatFormat:
        """<|im_start|>user ... <|im_end|>, which many models were trained on; default_system is a message's text."""
        roles = {role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")}
        begin, end = roles["system"]
        return ChatFormat(bos, begin + default_system + end if default_system else "", roles)


@dataclass(frozen=True)
class ModelInfo:
    name: str
    context_length: int  # tokens, 0 = not known
    chat_format: ChatFormat | None  # None: no chat template, or one that can't be split; roles are refused
    bos: tuple[int, ...] = ()  # tokens that a prompt which begins with text begins with
    page_size: int = 1  # tokens a page of the prefix cache; whole pages are shared
    num_pages: int = 0  # 0 = not known


@dataclass(frozen=True)
class Capabilities:
    """What a backend can do.  A node that needs more is refused at the line that adds it, before anything is sent
    (lang/capabilities.py).  `options` are names of SamplingOptions."""

    name: str = "this backend"  # as errors call it
    options: frozenset[str] | None = None  # of those that not every backend has, the ones it takes; None: all
    max_stops: int | None = None  # stop strings of one request
    max_top_logprobs: int | None = None
    select: bool = True
    unconditional_scores: bool = True  # with nothing before them, for unconditional_likelihood_normalized
    token_ids: bool = True  # False: a prompt is text only
    roles: bool = True
    free_text: bool = True  # False: it takes messages, and no text outside of a role
    continues_turn: bool = True  # with messages: a gen may follow other content of its assistant turn
    advice: Mapping[str, str] = field(default_factory=dict)  # what to do instead, by option, or "select", "roles", ...


EVERYTHING = Capabilities()


class Place(NamedTuple):
    """Where in a program a request comes from: for recordings and scripts, not for answering it."""

    variable: str | None
    source: object  # prints as demo.py:12
    path: tuple[int, ...]  # of the branch, in the tree of forks
    node: int  # how many gens, selects and forks its branch had before
    run: str  # the same for all requests of one run of a program


asked_from: ContextVar[Place | None] = ContextVar("forktree_asked_from", default=None)
"""The node for which a backend is being called; each branch's task has its own.  Known only to a backend whose
`wants_places` is True: ten thousand waiting programs would keep as many for nothing."""


@dataclass(frozen=True)
class SamplingParams:
    """Everything a backend needs to sample one output.  Names and defaults are SGLang's; several outputs (n) are
    several requests.

    At most one of regex, json_schema, ebnf and structural_tag is set; a backend that can't enforce the one that is
    refuses the request (RequestRefused, its field).  Sequences are tuples: nobody downstream can change the user's
    lists."""

    max_new_tokens: int = 128  # 0: compute the prompt only
    min_new_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    stop_regex: tuple[str, ...] = ()
    temperature: float = 1.0  # 0: the most likely token
    top_p: float = 1.0
    top_k: int = -1  # -1: off
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    ignore_eos: bool = False
    regex: str | None = None
    json_schema: str | None = None  # JSON text
    ebnf: str | None = None
    structural_tag: str | None = None  # JSON text
    white_space: str | None = None  # how a json_schema's output is written
    order: str | None = None  # of its properties

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it: unset constraints and seed left out, tuples as lists, token ids of logit_bias as
        strings."""
        values: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is None or (name == "logit_bias" and not value):
                continue
            if isinstance(value, tuple):
                value = list(value)
            elif isinstance(value, Mapping):
                value = {str(token_id): bias for token_id, bias in value.items()}
            values[name] = value
        return values


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One output to generate.  `stream` says that somebody reads along: without it a backend may answer in one
    chunk."""

    prompt: Prompt
    sampling: SamplingParams
    stream: bool = False
    return_logprob: bool = False
    logprob_start_len: int = -1  # first prompt token whose log-probability is wanted; -1: outputs only
    top_logprobs_num: int = 0
    request_id: str | None = None
    messages: tuple[tuple[str, str], ...] | None = None
    """(role, content), for a backend without free text; the last one is the open assistant turn if it has content."""


@dataclass(frozen=True)
class TokenLogprob:
    token_id: int | None  # None: the backend tells tokens by their text only
    logprob: float | None  # None: the very first token of a prompt has nothing before it
    text: str | None = None
    top: tuple[tuple[float, int | None, str | None], ...] = ()  # (logprob, token id, text), most likely first


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, found in the cache


@dataclass(frozen=True)
class Timing:
    """Where the time of one call went, and the prompt tokens it computed: those it did not find in the cache."""

    queue_ms: float
    prefill_ms: float  # to the first token, or to the end where none is sampled
    decode_ms: float
    computed_tokens: int


@dataclass(frozen=True)
class Chunk:
    """The next piece of an output.  All fields but the last four are increments; the last chunk, and only it, has a
    finish_reason.

    text excludes the stop string, the end-of-sequence token and special tokens.  The sum of all `text` is the
    output."""

    text: str = ""
    token_ids: tuple[
        int, ...
    ] = ()  # as sampled: may run past the text (a stop string's tokens, the end-of-sequence token)
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] = ()  # with the first chunk that has them
    finish_reason: Literal["stop", "length", "abort"] | None = None
    matched: int | str | None = None  # what stopped it: a token id, a stop string, or nothing
    kept_token_ids: tuple[int, ...] | None = None
    """On the last chunk: token ids that decode to exactly the whole output text, to be sent as a part of later
    prompts.  None: there are none (a stop string cut a token, a character is incomplete); the text is sent instead."""
    usage: Usage = Usage()  # so far
    timing: Timing | None = None  # on the last chunk, from a backend that knows


@dataclass(frozen=True)
class Score:
    """How likely a continuation is after a prompt: one entry per token of the continuation, which is tokenised by
    itself."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]  # natural logarithm, len(token_ids) of them, exact (0.0 is a value like any other)
    timing: Timing | None = None  # of the whole call, the same for each of its scores


@dataclass(frozen=True)
class ProgramNews:
    """News of one node of one item of a program that a backend runs; node -1: the item is over.

    digest   of the prompt the node had: BLAKE2b-128 over its parts, each T or I, its length as a little-endian uint32,
             then UTF-8 or int32 ids; by it a program tells whether this was the prompt it would have sent itself.
             A node's first news may have it alone, so that a program that asks something else need not wait
    chunk    of a gen: the next piece of output number `output`
    scores   of a select: of its choices, in order; `alone`: with nothing before them, where the method asks for it
    error    the node failed, and what needs it will not run"""

    item: int
    node: int
    digest: bytes = b""
    output: int = 0
    chunk: Chunk | None = None
    scores: tuple[Score, ...] | None = None
    alone: tuple[Score, ...] | None = None
    error: Exception | None = None


class ProgramCall(Protocol):
    """A program that runs on a backend: iterate for its news, close it to end it."""

    def __aiter__(self) -> AsyncIterator[ProgramNews]: ...

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        """End one item, or one node of it and what needs it; the news of the rest go on."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Backend(Protocol):
    """Runs prompts.  Errors are raised from forktree.lang.errors (RequestRefused, BackendUnavailable, ...); nothing
    is retried.

    Cancelling the task that awaits a call, or closing the generator of `generate`, ends the request on the other side
    too.

    Two attributes it may have besides: `max_in_flight`, an int, is how many requests it wants at a time at most, and
    more wait their turn in front of it (lang/admission.py); without it, or where it is None, it gets all there are.
    `wants_places` says that it reads `asked_from`."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def model_info(self) -> ModelInfo: ...

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """Yield at least one chunk; the last one has a finish_reason."""
        ...

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        """One Score per continuation, in order.  What they share is computed once: the prompt, and common beginnings.
        No continuation is empty; one may be the beginning of another, or the same.

        An empty prompt stands for the beginning of a text.  None: nothing stands before at all, so nothing predicts
        the first token of a continuation, which counts 0.0."""
        ...

    async def commit(self, prompt: Prompt) -> None:
        """Compute the prompt and leave it in the prefix cache: a fork's children start after this."""
        ...

    async def clear_cache(self) -> bool:
        """Drop what is cached; False where that is not possible now."""
        ...

    async def server_info(self) -> dict[str, Any]: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ProgramBackend(Backend, Protocol):
    """A backend that runs whole programs by itself, once per item of arguments.

    runs_programs  False: it has turned out that it can't, an older server for one"""

    runs_programs: bool

    def run_program(
        self, plan: Mapping[str, Any], arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> ProgramCall:
        """`plan` is Plan.wire().  Starts with the first read; what is wrong with the plan is raised there."""
        ...


@runtime_checkable
class TokenizingBackend(Backend, Protocol):
    """A backend that tells what texts are to its model, so that programs can be explained before they run."""

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text by itself: what a text part of a prompt is, without ModelInfo.bos."""
        ...
