"""An engine of a hundred lines: a byte is a token, and every output is the alphabet over and over.

It keeps an account of what it was asked and what was aborted, and goes wrong on demand, so that the server's part in
every fault can be tested without a model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

from forktree.runtime import EngineStats, ModelInfo, SamplingParams, Score, TokenLogprob, Usage
from forktree.runtime.engine.messages import ChatFormat
from forktree.runtime.engine.program_plan import ProgramPlan
from forktree.runtime.engine.results import Delta, ProgramEvent
from forktree.runtime.errors import ContextLengthExceeded, InvalidRequest

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
BOS, EOS = 256, 257
ROLES = {role: (f"<{role}>", f"</{role}>") for role in ("system", "user", "assistant")}


class FakeEngine:
    def __init__(self, *, context_length: int = 200, add_bos: bool = False) -> None:
        self.info = ModelInfo(
            name="fake-model",
            model_path="/models/fake",
            context_length=context_length,
            vocab_size=258,
            eos_token_ids=(EOS,),
            bos_token_id=BOS,
            chat_format=ChatFormat("", "", ROLES),
            tokenizer_path="/models/fake/tokenizer.json",
            num_pages=100,
            page_size=1,
            add_bos=add_bos,
            chat_template=None,
        )
        self.is_alive = True
        self.closed = False
        self.requests: list[dict[str, Any]] = []
        self.running: set[str] = set()
        self.aborted: list[str] = []  # by a call or by closing the stream
        self.programs: list[FakeProgram] = []
        self.flushes = 0
        self.scored: list[tuple[Any, str]] = []  # prompt and cache_salt of each score call
        self.token_seconds = 0.0
        self.gate: asyncio.Event | None = None  # if set, every token waits for it
        self.error: Exception | None = None  # raised ...
        self.error_after = 0  # ... once so many tokens are out

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def detokenize(self, ids: Sequence[int]) -> str:
        return bytes(id for id in ids if id < 256).decode("utf-8", "replace")

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]]) -> str:
        return "".join(ROLES[m["role"]][0] + m["content"] + ROLES[m["role"]][1] for m in messages) + "<assistant>"

    async def astream(
        self,
        prompt: Any,
        sampling_params: SamplingParams | dict[str, Any] | None = None,
        *,
        return_logprob: bool = False,
        logprob_start_len: int = -1,
        top_logprobs_num: int = 0,
        cache_salt: str = "",
        request_id: str | None = None,
    ) -> AsyncGenerator[Delta, None]:
        params = sampling_params
        assert isinstance(params, SamplingParams)
        assert isinstance(prompt, list)
        assert all(isinstance(id, int) for id in prompt)
        assert request_id is not None
        assert request_id not in self.running
        self.requests.append({"prompt": prompt, "params": params, "id": request_id, "cache_salt": cache_salt})
        if params.regex == "(":
            raise InvalidRequest("regex", "missing ) at offset 1")
        if len(prompt) >= self.info.context_length:
            raise ContextLengthExceeded(len(prompt), self.info.context_length)
        self.running.add(request_id)
        finished = False
        try:
            out = [""] * params.n
            for i in range(max(params.max_new_tokens, 1)):
                if self.gate is not None:
                    await self._gate_or_abort(request_id)
                await asyncio.sleep(self.token_seconds)
                if self.error is not None and i >= self.error_after:
                    raise self.error
                aborted = request_id in self.aborted
                for index in range(params.n):
                    empty = params.max_new_tokens == 0 or aborted
                    char = "" if empty else ALPHABET[i % 26]
                    out[index] += char
                    stop = next((stop for stop in params.stop if stop in out[index]), None)
                    reason = "stop" if stop else "length" if i + 1 >= params.max_new_tokens else None
                    first = i == 0 and return_logprob and logprob_start_len >= 0
                    yield Delta(
                        index=index,
                        text="" if stop else char,
                        token_ids=[] if empty else [ord(char)],
                        logprobs=[_logprob(char, i, top_logprobs_num)] if return_logprob and not empty else [],
                        prompt_logprobs=self._prompt(prompt, logprob_start_len, top_logprobs_num) if first else None,
                        usage=Usage(len(prompt), len(out[index]), len(prompt) // 2),
                        finish_reason="abort" if aborted else reason,
                        matched=stop,
                    )
                if reason is not None or aborted:
                    finished = True
                    return
        finally:
            self.running.discard(request_id)
            if not finished and self.error is None:
                self.aborted.append(request_id)

    async def _gate_or_abort(self, request_id: str) -> None:
        assert self.gate is not None
        while not self.gate.is_set() and request_id not in self.aborted:
            await asyncio.sleep(0.001)

    def _prompt(self, prompt: list[int], start: int, top: int) -> list[TokenLogprob]:
        logprobs = [_logprob(chr(id), i, top) for i, id in enumerate(prompt)]
        logprobs[0] = TokenLogprob(None, prompt[0], chr(prompt[0]), [])
        return logprobs[start:]

    async def ascore(self, prompt: Any, continuations: Sequence[str], *, cache_salt: str = "") -> list[Score]:
        self.scored.append((prompt, cache_salt))
        return [Score(self.tokenize(text), [-0.5] * len(text.encode())) for text in continuations]

    def arun_program(
        self, plan: ProgramPlan, arguments: Sequence[Mapping[str, str]], *, stream: bool = True, cache_salt: str = ""
    ) -> FakeProgram:
        self.programs.append(FakeProgram(self, plan, arguments, stream, cache_salt))
        return self.programs[-1]

    async def astats(self) -> EngineStats:
        return EngineStats(
            prompt_tokens=10,
            computed_prompt_tokens=6,
            cached_tokens=4,
            generated_tokens=5,
            forced_tokens=2,
            saved_passes=1,
            retractions=1,
            evicted_pages=0,
            steps=7,
            requests_running=len(self.running),
            requests_waiting=0,
            pages_free=70,
            pages_cached=20,
            pages_running=10,
            pages_total=100,
            uptime_seconds=1.0,
            device_seconds=0.5,
        )

    async def aflush_cache(self) -> None:
        self.flushes += 1

    def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    def close(self) -> None:
        self.closed = True


class FakeProgram:
    """Every gen puts out "ok", every choice has -0.5 a byte; with a gate, each event waits for it."""

    def __init__(
        self, engine: FakeEngine, plan: ProgramPlan, arguments: Sequence[Mapping[str, str]], stream: bool, salt: str
    ) -> None:
        self.engine, self.plan, self.arguments, self.stream, self.salt = engine, plan, arguments, stream, salt
        self.aborted: list[tuple[int | None, int | None]] = []
        self.closed = False
        self.num_told = 0
        self._events = self._run()

    def __aiter__(self) -> AsyncIterator[ProgramEvent]:
        return self._events

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        self.aborted.append((item, node))
        if self.engine.gate is not None:
            self.engine.gate.set()

    async def aclose(self) -> None:
        self.closed = True
        await self._events.aclose()

    async def _run(self) -> AsyncGenerator[ProgramEvent, None]:
        for item in range(len(self.arguments)):
            for number, node in enumerate(self.plan.nodes):
                if self.engine.gate is not None:
                    await self.engine.gate.wait()
                await asyncio.sleep(0)
                self.num_told += node.kind != "text"
                if self.engine.error is not None and node.kind == "gen":
                    yield ProgramEvent(item, number, error=self.engine.error)  # type: ignore[arg-type]
                elif node.kind == "gen":
                    delta = Delta(0, "ok", [111, 107], [], None, Usage(9, 2, 4), "stop", None, [111, 107])
                    yield ProgramEvent(item, number, b"\x01\x02", delta=delta)
                elif node.kind == "select":
                    scores = [Score(list(each.encode()), [-0.5] * len(each)) for each in node.choices]
                    yield ProgramEvent(item, number, b"\x03", scores=scores)
            yield ProgramEvent(item, -1)


def _logprob(text: str, i: int, top: int) -> TokenLogprob:
    """Token 0 has log-probability 0.0 exactly, token i -i / 10; alternatives are the following letters."""
    others = [(-(i + j) / 10, ord(ALPHABET[j]), ALPHABET[j]) for j in range(top)]
    return TokenLogprob(-i / 10, ord(text), text, others)
