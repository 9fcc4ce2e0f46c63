"""A Backend that answers from a script: no model, every request recorded, failing or hanging on demand.

A token is a character: its id is its code point, so that prompts made of ids and of text can both be read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forktree.lang.backends.protocol import (
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    Score,
    TokenLogprob,
    Usage,
)
from forktree.lang.loop import loop_thread

CHATML = ChatFormat(
    bos="<s>",
    default_system="<|im_start|>system\nBe nice.<|im_end|>\n",
    roles={role: (f"<|im_start|>{role}\n", "<|im_end|>\n") for role in ("system", "user", "assistant")},
)


@dataclass(frozen=True)
class Reply:
    """How one request is answered.  hang: after the text, nothing more comes until the request is cancelled."""

    text: str
    finish_reason: str = "stop"
    matched: int | str | None = None
    exact: bool = True  # its token ids spell exactly the text
    hang: bool = False


HANG = Reply("", hang=True)

Answer = str | Reply | Exception
Script = Answer | Sequence[Answer] | Mapping[str, Answer] | Callable[[str, GenerateRequest], Answer]


def text_of(prompt: Prompt) -> str:
    return "".join(part if isinstance(part, str) else "".join(map(chr, part)) for part in prompt)


def token_ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


@dataclass
class ScriptedBackend:
    """script: one answer for all, answers in order, answers by how the prompt ends, or a function of prompt, request.

    scores: a function of prompt and continuation; by default -1 for every character of a continuation. Without a
    prompt every character but the first has -2."""

    script: Script = "ok"
    scores: Callable[[str, str], Sequence[float]] | None = None
    chat_format: ChatFormat | None = CHATML
    chunk_size: int = 3  # characters, when streaming
    commit_error: Exception | None = None
    hold_for: int = 0  # nobody is answered before so many requests run at once
    requests: list[GenerateRequest] = field(default_factory=list)
    scored: list[tuple[str | None, tuple[str, ...]]] = field(default_factory=list)
    committed: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)  # "commit", "generate", "score" in order of arrival
    num_running: int = 0
    most_running: int = 0
    num_cancelled: int = 0
    num_flushed: int = 0
    _all_there: asyncio.Event | None = None

    @property
    def prompts(self) -> list[str]:
        return [text_of(request.prompt) for request in self.requests]

    async def model_info(self) -> ModelInfo:
        return ModelInfo("scripted", 4096, self.chat_format)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.requests.append(request)
        self.log.append("generate")
        self.num_running += 1
        self.most_running = max(self.most_running, self.num_running)
        finished = False
        try:
            await self._held_back()
            if request.sampling.max_new_tokens == 0:
                yield self._prompt_only(request)
                finished = True
                return
            answer = self._answer(text_of(request.prompt), request)
            if isinstance(answer, Exception):
                finished = True
                raise answer
            reply = answer if isinstance(answer, Reply) else Reply(answer)
            size = self.chunk_size if request.stream or reply.hang else max(len(reply.text), 1)
            for start in range(0, len(reply.text), size):
                piece = reply.text[start : start + size]
                yield self._chunk(request, piece, start + len(piece))
                await asyncio.sleep(0)
            if reply.hang:
                await asyncio.Event().wait()
            finished = True
            yield Chunk(
                finish_reason=reply.finish_reason,  # type: ignore[arg-type]
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
        await asyncio.sleep(0)
        if text is None:
            return [Score(token_ids(each), (0.0, *[-2.0] * (len(each) - 1))) for each in continuations]
        find = self.scores or (lambda _, continuation: [-1.0] * len(continuation))
        return [Score(token_ids(each), tuple(find(text, each))) for each in continuations]

    async def commit(self, prompt: Prompt) -> None:
        self.committed.append(text_of(prompt))
        self.log.append("commit")
        await asyncio.sleep(0)
        if self.commit_error is not None:
            raise self.commit_error

    async def clear_cache(self) -> bool:
        self.num_flushed += 1
        return True

    async def server_info(self) -> dict[str, Any]:
        return {"requests": len(self.requests)}

    async def aclose(self) -> None:
        return None

    async def _held_back(self) -> None:
        if self.hold_for:
            self._all_there = self._all_there or asyncio.Event()
            if self.num_running >= self.hold_for:
                self._all_there.set()
            await self._all_there.wait()
        await asyncio.sleep(0)

    def _answer(self, prompt: str, request: GenerateRequest) -> Answer:
        script = self.script
        if isinstance(script, (str, Reply, Exception)):
            return script
        if isinstance(script, Mapping):
            endings = [ending for ending in script if prompt.endswith(ending)]
            assert endings, f"the script has no answer for a prompt that ends {prompt[-60:]!r}"
            return script[max(endings, key=len)]
        if callable(script):
            return script(prompt, request)
        return script[len([each for each in self.requests if each.sampling.max_new_tokens]) - 1]

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


def settle() -> None:
    """Let the background loop do what was posted to it."""

    async def some_turns() -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    loop_thread().call(some_turns())


def wait_until(condition: Callable[[], bool]) -> None:
    """Until the background loop has made it true."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        settle()
