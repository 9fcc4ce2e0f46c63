"""A scripted backend that runs whole programs too, in memory: what an engine does with a plan, in the words of the
protocol, and with the faults that a test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from forktree.lang.ahead import prompt_digest
from forktree.lang.backends.protocol import Chunk, GenerateRequest, ProgramNews, Prompt, SamplingParams, Score
from forktree.lang.choices import METHODS, decide, exact_probability, token_length_normalized
from forktree.lang.errors import BackendError
from forktree.lang.prompt import BranchText
from tests.support.scripted_backend import ScriptedBackend

_AHEAD = "ahead-"


@dataclass
class ProgramsBackend(ScriptedBackend):
    """fail      the error of a node of an item, or None
    breaks_after  so many news the call breaks off
    refuses      every program
    lies         news have the digest of another prompt
    jitter       how often a node waits for others before it begins: another order of events"""

    runs_programs: bool = True
    fail: Callable[[int, int], Exception | None] = lambda item, node: None
    breaks_after: int | None = None
    refuses: Exception | None = None
    lies: bool = False
    jitter: Callable[[], int] = lambda: 0
    calls: list[RunningCall] = field(default_factory=list)

    @property
    def asked_by_runs(self) -> list[GenerateRequest]:
        """Requests that did not come from a plan."""
        return [each for each in self.requests if not str(each.request_id).startswith(_AHEAD)]

    @property
    def asked_ahead(self) -> list[GenerateRequest]:
        return [each for each in self.requests if str(each.request_id).startswith(_AHEAD)]

    def run_program(
        self, plan: Mapping[str, Any], arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> RunningCall:
        if self.refuses is not None:
            raise self.refuses
        call = RunningCall(self, plan, list(arguments), stream)
        self.calls.append(call)
        return call

    def check_nothing_runs(self) -> None:
        assert self.num_running == 0
        for call in self.calls:
            assert call.closed
            assert not call.tasks, call.tasks


class RunningCall:
    """One plan, a task for each node of each item."""

    def __init__(
        self, backend: ProgramsBackend, plan: Mapping[str, Any], arguments: list[Mapping[str, str]], stream: bool
    ) -> None:
        assert plan["version"] == 1
        self.backend, self.nodes, self.arguments, self.stream = backend, plan["nodes"], arguments, stream
        self.tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self.aborts: list[tuple[int | None, int | None]] = []
        self.closed = self._started = False
        self._queue: asyncio.Queue[ProgramNews] = asyncio.Queue()
        self._open = set(range(len(arguments)))
        self._num_news = 0

    def __aiter__(self) -> RunningCall:
        return self

    async def __anext__(self) -> ProgramNews:
        if not self._started:
            self._started = True
            for item in range(len(self.arguments)):
                self._start(item)
        if self._num_news == self.backend.breaks_after:
            raise BackendError("the connection broke")
        if not self._open and self._queue.empty():
            raise StopAsyncIteration
        self._num_news += 1
        return await self._queue.get()

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        self.aborts.append((item, node))
        for key, task in list(self.tasks.items()):
            if item in (None, key[0]) and node in (None, key[1]):
                task.cancel()

    async def aclose(self) -> None:
        self.closed = True
        for task in list(self.tasks.values()):
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    # ---- how

    def _start(self, item: int) -> None:
        ends: list[asyncio.Future[tuple[BranchText, list[str], tuple[int, ...] | None]]] = [
            asyncio.get_running_loop().create_future() for _ in self.nodes
        ]
        for index in range(len(self.nodes)):
            task = asyncio.get_running_loop().create_task(self._node(item, index, ends))
            self.tasks[item, index] = task
            task.add_done_callback(lambda _, key=(item, index): self._done(key))

    def _done(self, key: tuple[int, int]) -> None:
        del self.tasks[key]
        if not any(item == key[0] for item, _ in self.tasks) and key[0] in self._open:
            self._open.discard(key[0])
            self._queue.put_nowait(ProgramNews(key[0], -1))

    async def _node(self, item: int, index: int, ends: list[asyncio.Future[Any]]) -> None:
        node = self.nodes[index]
        try:
            text = BranchText()
            if node["after"] >= 0:
                text = (await asyncio.shield(ends[node["after"]]))[0].copy()
            for piece in node["pieces"]:
                await self._add(text, piece, item, ends)
            for _ in range(self.backend.jitter()):
                await asyncio.sleep(0)
            if node["kind"] == "text":
                ends[index].set_result((text, [], None))
                return
            self._tell(item, index, text.prompt())
            run = self._gen if node["kind"] == "gen" else self._select
            texts, ids = await run(item, index, text.prompt())
            text.add_generated(texts[0], ids)
            ends[index].set_result((text, texts, ids))
        except (asyncio.CancelledError, _NodeFailed):
            if not ends[index].done():
                ends[index].cancel()

    async def _add(self, text: BranchText, piece: Any, item: int, ends: list[asyncio.Future[Any]]) -> None:
        if isinstance(piece, str):
            text.add_constant(piece)
        elif "argument" in piece:
            text.add_constant(self.arguments[item][piece["argument"]])
        else:
            _, texts, ids = await asyncio.shield(ends[piece["node"]])
            if piece.get("as_tokens"):
                text.add_generated(texts[0], ids)
            else:
                text.add_constant(texts[piece.get("output", 0)])

    def _tell(self, item: int, index: int, prompt: Prompt, **news: Any) -> None:
        if item in self._open:
            digest = prompt_digest(("another",) if self.backend.lies else prompt)
            self._queue.put_nowait(ProgramNews(item, index, digest=digest, **news))

    def _check(self, item: int, index: int, prompt: Prompt) -> None:
        if (error := self.backend.fail(item, index)) is not None:
            self._tell(item, index, prompt, error=error)
            raise _NodeFailed

    async def _gen(self, item: int, index: int, prompt: Prompt) -> tuple[list[str], tuple[int, ...] | None]:
        self._check(item, index, prompt)
        outputs = await asyncio.gather(
            *(self._output(item, index, prompt, k) for k in range(self.nodes[index]["sampling"]["n"]))
        )
        return [text for text, _ in outputs], outputs[0][1]

    async def _output(self, item: int, index: int, prompt: Prompt, output: int) -> tuple[str, tuple[int, ...] | None]:
        node = self.nodes[index]
        sampling = {**node["sampling"]}
        del sampling["n"]
        if sampling.get("seed") is not None:
            sampling["seed"] += output
        request = GenerateRequest(
            prompt,
            SamplingParams(**{name: tuple(v) if isinstance(v, list) else v for name, v in sampling.items()}),
            stream=self.stream,
            return_logprob=node.get("return_logprob", False),
            logprob_start_len=node.get("logprob_start_len", -1),
            top_logprobs_num=node.get("top_logprobs_num", 0),
            request_id=f"{_AHEAD}{item}-{index}-{output}",
        )
        text, last = "", Chunk()
        try:
            async with aclosing(self._chunks(request)) as chunks:
                async for chunk in chunks:
                    text, last = text + chunk.text, chunk
                    self._tell(item, index, prompt, output=output, chunk=chunk)
        except BackendError as error:
            self._tell(item, index, prompt, error=error)
            raise _NodeFailed from None
        return text, last.kept_token_ids

    async def _chunks(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """As an engine: piece by piece only where somebody reads along."""
        found: list[Chunk] = []
        async with aclosing(self.backend.generate(request)) as chunks:
            async for chunk in chunks:
                found.append(chunk)
                if request.stream:
                    yield chunk
        if not request.stream:
            yield replace(
                found[-1],
                text="".join(each.text for each in found),
                token_ids=tuple(id for each in found for id in each.token_ids),
                logprobs=tuple(entry for each in found for entry in each.logprobs),
                prompt_logprobs=tuple(entry for each in found for entry in each.prompt_logprobs),
            )

    async def _select(self, item: int, index: int, prompt: Prompt) -> tuple[list[str], tuple[int, ...]]:
        self._check(item, index, prompt)
        node = self.nodes[index]
        choices = node["choices"]
        scores: list[Score] = await self.backend.score(prompt, choices)
        drawn = node["temperature"] > 1e-5
        by_default = exact_probability if drawn else token_length_normalized
        method = METHODS[node["method"]] if node["method"] else by_default
        alone = await self.backend.score(None, choices) if method.needs_unconditional else []
        chosen, _ = decide(choices, scores, alone, method, node["temperature"], node["seed"])
        self._tell(item, index, prompt, scores=tuple(scores), alone=tuple(alone) or None)
        return [choices[chosen]], scores[chosen].token_ids


class _NodeFailed(Exception):
    """Its error was told."""
