"""A backend that answers from a script: no model, every request remembered, slow, failing or hanging on demand.

Here: ScriptedBackend and what a script may be.  Not here: recordings of real runs (recorder, replayer).  A token is a
character and its id is the code point, so that prompts made of ids and of text can both be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..backends.protocol import (
    EVERYTHING,
    Capabilities,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    Score,
    TokenLogprob,
    Usage,
    asked_from,
)
from ..errors import BackendError

__all__ = ["HANG", "Answer", "Reply", "Script", "ScriptError", "ScriptedBackend", "text_of"]

_CHATML = ChatFormat.chatml()
_ON_THE_WAY, _OFF_THE_WAY = -0.01, -5.0  # log-probability of a chosen text's characters, and of any others


class ScriptError(BackendError):
    """The script has no answer for what the program asked."""


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    error  raised once the text is out: a stream that breaks off
    hang   after the text nothing more comes until the request is cancelled
    exact  its token ids spell exactly the text, so that later prompts hold these ids
    seconds  how long the answer takes, instead of the backend's latency"""

    text: str
    finish_reason: Literal["stop", "length", "abort"] = "stop"
    matched: int | str | None = None
    error: Exception | None = None
    hang: bool = False
    exact: bool = True
    seconds: float | None = None


HANG = Reply("", hang=True)

Answer = str | Reply | Exception
Script = (
    Answer | Sequence[Answer] | Mapping[str, "Answer | Sequence[Answer]"] | Callable[[str, GenerateRequest], "Answer"]
)
Choices = Sequence[str] | Mapping[str, str] | Callable[[str, Sequence[str]], str]


def text_of(prompt: Prompt) -> str:
    """A prompt's parts as one text."""
    return "".join(part if isinstance(part, str) else "".join(map(chr, part)) for part in prompt)


def token_ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@dataclass
class ScriptedBackend:
    """A Backend for tests: program.run(backend=ft.testing.ScriptedBackend({"name": "Ada", "job: ": "engineer"})).

    script   what gens are answered with: one answer for all; a list, in order of the requests; a dict, by the
             variable's name or else by how the prompt ends, the longest such ending (where the value is a list, in
             order); or a function of (prompt, request).  An answer is a text, a Reply, or an exception to raise.
             max_tokens, stop and constraints of a gen don't change it
    choices  what selects choose: a list in order, a dict by variable or ending as above, or a function of
             (prompt, choices).  None: all are equally likely, so the first is taken
    scores   instead of choices: a function of (prompt, choice) -> the log-probability of each of its characters
    latency  seconds for each request, and per_token for each character on top
    clock    "real": seconds pass.  "virtual": they are counted and not waited for, and `seconds` is how long all would
             have taken: branches and programs side by side, what follows one another added up
    capabilities, chat_format
             of the backend it stands for
    chunk_size  characters that come at a time, where somebody reads along

    What it was asked is in `requests`, `prompts`, `scored`, `committed` and `log`."""

    wants_places = True

    script: Script = "ok"
    choices: Choices | None = None
    scores: Callable[[str, str], Sequence[float]] | None = None
    latency: float = 0.0
    per_token: float = 0.0
    clock: Literal["real", "virtual"] = "real"
    capabilities: Capabilities = EVERYTHING
    chat_format: ChatFormat | None = _CHATML
    chunk_size: int = 3
    name: str = "scripted"
    requests: list[GenerateRequest] = field(default_factory=list)
    scored: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)  # prompt, choices
    committed: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)  # "commit", "generate", "score" in order of arrival
    num_running: int = 0
    most_running: int = 0
    num_cancelled: int = 0
    num_flushed: int = 0

    def __post_init__(self) -> None:
        self._times: dict[str, dict[tuple[tuple[int, ...], int], float]] = {}  # by run, branch and node: its end
        self._counts: dict[object, int] = {}

    @property
    def prompts(self) -> list[str]:
        return [text_of(request.prompt) for request in self.requests]

    @property
    def seconds(self) -> float:
        """On the virtual clock: how long everything so far would have taken."""
        return max((end for branches in self._times.values() for end in branches.values()), default=0.0)

    # ---- the Backend protocol

    async def model_info(self) -> ModelInfo:
        return ModelInfo(self.name, 4096, self.chat_format)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.log.append("generate")
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        finished = False
        try:
            await self._hold_back(request)
            if request.sampling.max_new_tokens == 0:
                yield self._prompt_only(request)
                finished = True
                return
            answer = self._answer(text_of(request.prompt), request)
            reply = answer if isinstance(answer, Reply) else None
            latency = self.latency if reply is None or reply.seconds is None else reply.seconds
            time = await self._pass(self._start(), latency)
            if isinstance(answer, Exception):
                finished = True
                raise answer
            reply = reply or Reply(str(answer))
            size = self.chunk_size if request.stream or reply.hang else max(len(reply.text), 1)
            for start in range(0, len(reply.text), size):
                piece = reply.text[start : start + size]
                time = await self._pass(time, self.per_token * len(piece))
                yield self._chunk(request, piece, start + len(piece))
                await asyncio.sleep(0)
            if reply.hang:
                await asyncio.Event().wait()
            finished = True
            if reply.error is not None:
                raise reply.error
            yield Chunk(
                finish_reason=reply.finish_reason,
                matched=reply.matched,
                kept_token_ids=token_ids(reply.text) if reply.exact else None,
                usage=self._usage(request, len(reply.text)),
            )
        finally:
            self.num_running -= 1
            self.num_cancelled += not finished

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        text = None if prompt is None else text_of(prompt)
        self.scored.append((text, tuple(continuations)))
        self.log.append("score")
        await self._pass(self._start(), self.latency)
        if text is None:
            return [Score(token_ids(each), (0.0, *[-2.0] * (len(each) - 1))) for each in continuations]
        find = self.scores or self._scores_of_choice(text, continuations)
        return [Score(token_ids(each), tuple(find(text, each))) for each in continuations]

    async def commit(self, prompt: Prompt) -> None:
        self.committed.append(text_of(prompt))
        self.log.append("commit")
        await self._pass(self._start(), self.latency)

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return [list(token_ids(text)) for text in texts]

    async def clear_cache(self) -> bool:
        self.num_flushed += 1
        return True

    async def server_info(self) -> dict[str, Any]:
        return {"requests": len(self.requests)}

    async def aclose(self) -> None:
        return None

    # ---- how

    async def _hold_back(self, request: GenerateRequest) -> None:
        """For backends derived from this one: wait here before answering."""
        await asyncio.sleep(0)

    def _start(self) -> float:
        """On the virtual clock: when all has ended that came before in this branch, and in the branches that it forked
        from or joined.  Several outputs of one node run side by side."""
        run, path, node = _run_branch_node()
        before = (
            end
            for (other, number), end in self._times.get(run, {}).items()
            if (other[: len(path)] == path or path[: len(other)] == other) and (other, number) != (path, node)
        )
        return max(before, default=0.0)

    async def _pass(self, time: float, seconds: float) -> float:
        """Wait, or count from `time` on; returns what time it is then."""
        if self.clock == "real":
            await asyncio.sleep(seconds)
            return time
        run, path, node = _run_branch_node()
        ends = self._times.setdefault(run, {})
        ends[path, node] = max(ends.get((path, node), 0.0), time + seconds)
        await asyncio.sleep(0)
        return time + seconds

    def _answer(self, prompt: str, request: GenerateRequest) -> Answer:
        script = self.script
        if isinstance(script, (str, Reply, Exception)):
            return script
        if isinstance(script, Mapping):
            key = self._key(script, prompt, "gen")
            found = script[key]
            answer: Answer = found if isinstance(found, (str, Reply, Exception)) else self._next(found, key, prompt)
        elif isinstance(script, Sequence):
            answer = self._next(script, None, prompt)
        else:
            answer = script(prompt, request)
        return answer

    def _scores_of_choice(self, prompt: str, continuations: Sequence[str]) -> Callable[[str, str], Sequence[float]]:
        given = self.choices
        if given is None:
            return lambda _, continuation: [-1.0] * len(continuation)
        if isinstance(given, Mapping):
            chosen = given[self._key(given, prompt, "select")]
        elif isinstance(given, Sequence):
            chosen = str(self._next(given, "choices", prompt))
        else:
            chosen = given(prompt, continuations)
        if chosen not in continuations:
            raise ScriptError(f"the script chooses {chosen!r}, which is none of {', '.join(map(repr, continuations))}")

        def scores(_: str, continuation: str) -> list[float]:
            on_the_way = [chosen.startswith(continuation[: end + 1]) for end in range(len(continuation))]
            if on_the_way[-1] and continuation != chosen:  # it begins as the chosen one does, and must not win
                on_the_way[-1] = False
            return [_ON_THE_WAY if each else _OFF_THE_WAY for each in on_the_way]

        return scores

    def _key(self, script: Mapping[str, Any], prompt: str, what: str) -> str:
        """The variable's name, or the longest ending of the prompt."""
        place = asked_from.get()
        variable = place.variable if place is not None else None
        if variable in script:
            return str(variable)
        endings = [ending for ending in script if prompt.endswith(ending)]
        if not endings:
            of = f"{what}({variable!r})" if variable is not None else f"a {what} without a name"
            raise ScriptError(
                f"the script has no answer for {of}, whose prompt ends {prompt[-60:]!r}; it has answers for "
                f"{', '.join(map(repr, script)) or 'nothing'}"
            )
        return max(endings, key=len)

    def _next(self, answers: Sequence[Any], key: object, prompt: str) -> Any:
        """The next of a list, which is counted by itself."""
        index = self._counts.get(key, 0)
        self._counts[key] = index + 1
        if index >= len(answers):
            of = f" for {key!r}" if key is not None else ""
            raise ScriptError(
                f"the script has {len(answers)} answers{of}, and this is request {index + 1}; its prompt ends "
                f"{prompt[-60:]!r}"
            )
        return answers[index]

    def _chunk(self, request: GenerateRequest, piece: str, num_so_far: int) -> Chunk:
        entries = tuple(TokenLogprob(ord(each), -0.5, each, ((-0.5, ord(each), each),)) for each in piece)
        return Chunk(
            text=piece,
            token_ids=token_ids(piece),
            logprobs=entries if request.return_logprob else (),
            usage=self._usage(request, num_so_far),
        )

    def _prompt_only(self, request: GenerateRequest) -> Chunk:
        """Log-probabilities of the prompt without context: -2 each, none for the first."""
        ids = token_ids(text_of(request.prompt))
        entries = tuple(TokenLogprob(each, None if i == 0 else -2.0, chr(each)) for i, each in enumerate(ids))
        return Chunk(
            prompt_logprobs=entries if request.return_logprob else (),
            finish_reason="length",
            kept_token_ids=(),
            usage=self._usage(request, 0),
        )

    @staticmethod
    def _usage(request: GenerateRequest, num_new: int) -> Usage:
        return Usage(len(text_of(request.prompt)), num_new, 0)


def _run_branch_node() -> tuple[str, tuple[int, ...], int]:
    place = asked_from.get()
    return (place.run, place.path, place.node) if place is not None else ("", (), 0)
