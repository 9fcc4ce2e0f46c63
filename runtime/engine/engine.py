"""Engine: the runtime as a Python object. Text in, text out, on a process of its own.

Here: the facade, sync and async. Imported by the package's face, the server and the local backend; loads no torch.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, overload

from ..config import EngineConfig
from ..errors import ForktreeRuntimeError, InvalidRequest
from ..sampling_params import SamplingParams
from .call import Call, scoring
from .client import EngineClient, News, OnProgress
from .messages import EngineStats, ModelInfo, Scores, SubmitScore
from .program_call import ProgramCall
from .program_plan import ProgramPlan
from .progress import default_progress
from .prompts import Prompt, Prompts
from .results import Completion, Delta, ProgramEvent, Score, gather
from .token_trie import TokenTrie
from .transport import ProcessTransport, ThreadTransport

LONG_TEXT = 20_000  # characters; longer ones are tokenised off the event loop

Sampling = SamplingParams | Mapping[str, Any] | None
Continuations = Sequence[str] | Sequence[Sequence[int]]


class Engine:
    """A model, its cache and its scheduler.

    model        a Hugging Face directory, a .gguf file, or None for the default model
    in_process   run it on a thread of this process instead of a process of its own
    on_progress  called with (what, fraction) while a model is converted and kernels are compiled; by default a progress
                 bar on a terminal
    config       a whole EngineConfig; or its fields as keyword arguments

        with Engine() as engine:
            print(engine.generate("The capital of France is", {"max_new_tokens": 8}).text)

    Generating takes a prompt (text, token ids, or a list of both), sampling parameters (SamplingParams or a dict of its
    fields), and as keywords: regex, json_schema, ebnf, structural_tag (constrain the output), return_logprob,
    logprob_start_len (>= 0: also the prompt's, from that position on), top_logprobs_num, cache_salt (prefixes are
    shared only among equal salts) and request_id (a name for `abort`). Raises InvalidRequest (field, message),
    RequestFailed, EngineDead.
    Sync methods may be called from any thread, async ones from any event loop. Raises ModelLoadError at the start.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        in_process: bool = False,
        on_progress: OnProgress | None = None,
        config: EngineConfig | None = None,
        **fields: Any,
    ) -> None:
        if config is None:
            path = str(Path(model).expanduser().absolute()) if model is not None else None
            config = EngineConfig.from_dict({"model": path, **fields})
        elif model is not None or fields:
            raise InvalidRequest("config", "give either a whole EngineConfig, or a model and single settings")
        self.config = config
        transport = ThreadTransport(config) if in_process else ProcessTransport(config)
        self._client = EngineClient(transport, on_progress or default_progress(sys.stderr))
        self._closer = weakref.finalize(self, self._client.close)  # runs at exit, too
        self._info = self._client.start()
        self._prompts = Prompts(self._info)
        self._named: dict[str, list[int]] = {}

    # -- generating ---------------------------------------------------------------------------------------------------

    @overload
    def generate(self, prompt: str | Sequence[int], sampling_params: Sampling = None, **options: Any) -> Completion: ...
    @overload
    def generate(
        self, prompt: Sequence[str] | Sequence[Sequence[int]], sampling_params: Sampling = None, **options: Any
    ) -> list[Completion]: ...
    def generate(self, prompt: Any, sampling_params: Sampling = None, **options: Any) -> Completion | list[Completion]:
        """The finished output of a prompt, or of each of a list of prompts, run together. One output each: n is 1."""
        call = _one_output(Call.make(sampling_params, **options).at_the_end())
        if not _is_batch(prompt):
            return gather(list(self._stream(prompt, call)))
        streams = [self._stream(each, call) for each in prompt]
        return [gather(list(stream)) for stream in streams]

    def generate_n(self, prompt: Prompt, sampling_params: Sampling = None, **options: Any) -> list[Completion]:
        """The n finished outputs of one prompt, which is computed once."""
        call = Call.make(sampling_params, **options).at_the_end()
        return _by_index(list(self._stream(prompt, call)))

    def stream(self, prompt: Prompt, sampling_params: Sampling = None, **options: Any) -> Iterator[Delta]:
        """The output piece by piece; with n > 1 those of all n, told apart by `index`.

        The request starts with this call; closing or dropping the iterator aborts it."""
        return self._stream(prompt, Call.make(sampling_params, **options))

    @overload
    async def agenerate(
        self, prompt: str | Sequence[int], sampling_params: Sampling = None, **options: Any
    ) -> Completion: ...
    @overload
    async def agenerate(
        self, prompt: Sequence[str] | Sequence[Sequence[int]], sampling_params: Sampling = None, **options: Any
    ) -> list[Completion]: ...
    async def agenerate(
        self, prompt: Any, sampling_params: Sampling = None, **options: Any
    ) -> Completion | list[Completion]:
        """`generate` for event loops; cancelling it aborts the request."""
        call = _one_output(Call.make(sampling_params, **options).at_the_end())
        if not _is_batch(prompt):
            return await self._acomplete(prompt, call)
        return list(await asyncio.gather(*(self._acomplete(each, call) for each in prompt)))

    def astream(self, prompt: Prompt, sampling_params: Sampling = None, **options: Any) -> AsyncGenerator[Delta, None]:
        """`stream` for event loops: the request starts with the first read; closing the generator, or cancelling the
        task that reads it, aborts it."""
        return self._astream(prompt, Call.make(sampling_params, **options))

    def abort(self, request_id: str) -> None:
        """End the request of this name: its reader gets what there is, with finish_reason "abort"."""
        for internal in self._named.get(request_id, ()):
            self._client.cancel(internal)

    # -- programs -----------------------------------------------------------------------------------------------------

    def arun_program(
        self,
        plan: ProgramPlan | Mapping[str, Any],
        arguments: Sequence[Mapping[str, str]] = ({},),
        *,
        stream: bool = True,
        cache_salt: str = "",
    ) -> ProgramCall:
        """Run a plan (program_plan.py) once per item of `arguments`, next to the scheduler: `async for event in ...`.

        stream   outputs piece by piece, else each in one piece at its end
        Raises InvalidRequest for what is wrong with the plan; a node that fails is an event.  Closing the call ends
        the program; its `abort` ends a part of it."""
        return ProgramCall(self._client, plan, arguments, stream=stream, cache_salt=cache_salt)

    async def _collect_program(self, call: ProgramCall) -> list[ProgramEvent]:
        async with aclosing(call):
            return [event async for event in call]

    def run_program(
        self,
        plan: ProgramPlan | Mapping[str, Any],
        arguments: Sequence[Mapping[str, str]] = ({},),
        *,
        cache_salt: str = "",
    ) -> list[ProgramEvent]:
        """arun_program to its end: every event, in order."""
        return asyncio.run(
            self._collect_program(self.arun_program(plan, arguments, stream=False, cache_salt=cache_salt))
        )

    # -- scoring ------------------------------------------------------------------------------------------------------

    def score(self, prompt: Prompt | None, continuations: Continuations, *, cache_salt: str = "") -> list[Score]:
        """How likely each continuation is after `prompt`: exact log-probabilities of its tokens, in one request.

        Each continuation is tokenised by itself. The prompt is computed once, and so is what continuations share. An
        empty prompt stands for the beginning of a text; None for nothing at all: no first token has a probability then,
        it counts 0."""
        message = self._scored(prompt, continuations, cache_salt)
        future = self._client.score(message)
        try:
            return _scores(message.trie, future.result())
        finally:
            future.cancel()  # for KeyboardInterrupt; one that is done stays as it is

    async def ascore(self, prompt: Prompt | None, continuations: Continuations, *, cache_salt: str = "") -> list[Score]:
        """`score` for event loops; cancelling it aborts the request."""
        if _is_long(prompt or "") or _is_long(continuations):
            message = await asyncio.to_thread(self._scored, prompt, continuations, cache_salt)
        else:
            message = self._scored(prompt, continuations, cache_salt)
        return _scores(message.trie, await asyncio.wrap_future(self._client.score(message)))

    def _scored(self, prompt: Prompt | None, continuations: Continuations, cache_salt: str) -> SubmitScore:
        before = [] if prompt is None else self._prompts.encode(prompt) or self._prompts.start_ids()
        tails = [self._prompts.encode_continuation(tail) for tail in continuations]
        return scoring(self._client.new_id(), before, tails, self._info, cache_salt)

    # -- text ---------------------------------------------------------------------------------------------------------

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`; special tokens written out in it count as such, none are added."""
        return self._prompts.tokenizer.encode(text)

    def detokenize(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        if any(token_id < 0 for token_id in token_ids):
            raise InvalidRequest("token_ids", "token ids are not negative")
        return self._prompts.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True, **variables: Any
    ) -> str:
        """The messages as the model's own chat template writes them."""
        return self._prompts.render_chat(messages, add_generation_prompt=add_generation_prompt, **variables)

    # -- the engine ---------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ModelInfo:
        return self._info

    def stats(self) -> EngineStats:
        return self._client.stats().result()

    async def astats(self) -> EngineStats:
        return await asyncio.wrap_future(self._client.stats())

    def flush_cache(self) -> None:
        """Give back every cached page that no running request needs."""
        self._client.flush().result()

    async def aflush_cache(self) -> None:
        await asyncio.wrap_future(self._client.flush())

    @property
    def is_alive(self) -> bool:
        return self._client.is_alive

    @property
    def pid(self) -> int:
        """Of the process that runs the model."""
        return self._client.pid

    def close(self) -> None:
        """End the engine and its process; requests in flight fail. Doing it twice is harmless."""
        self._closer()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _stream(self, prompt: Prompt, call: Call) -> Iterator[Delta]:
        queue: SimpleQueue[tuple[int, News]] = SimpleQueue()
        ids = self._submit(self._prompts.encode(prompt), call, lambda index, news: queue.put((index, news)))
        deltas = self._deltas(queue, ids, call)
        next(deltas)  # into the try below: from here on closing or dropping it aborts
        return deltas

    def _deltas(self, queue: SimpleQueue[tuple[int, News]], ids: list[int], call: Call) -> Iterator[Delta]:
        unfinished = set(range(len(ids)))
        try:
            yield _STARTED
            while unfinished:
                yield _delta(*queue.get(), unfinished)
        finally:
            self._forget(ids, call)

    async def _astream(self, prompt: Prompt, call: Call) -> AsyncGenerator[Delta, None]:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[int, News]] = asyncio.Queue()

        def put(index: int, news: News) -> None:
            with suppress(RuntimeError):  # the reader's loop was closed under it: nobody is left to tell
                loop.call_soon_threadsafe(queue.put_nowait, (index, news))

        encode = self._prompts.encode
        token_ids = await asyncio.to_thread(encode, prompt) if _is_long(prompt) else encode(prompt)
        ids = self._submit(token_ids, call, put)
        unfinished = set(range(len(ids)))
        try:
            while unfinished:
                yield _delta(*await queue.get(), unfinished)
        finally:
            self._forget(ids, call)

    async def _acomplete(self, prompt: Prompt, call: Call) -> Completion:
        return gather([delta async for delta in self._astream(prompt, call)])

    def _submit(self, prompt: list[int], call: Call, sink: Callable[[int, News], None]) -> list[int]:
        """Start the n requests of one call; `sink` gets their news by index."""
        call = call.fitted(prompt, self._info)
        ids = [self._client.new_id() for _ in range(call.params.n)]
        if call.name is not None:
            if call.name in self._named:
                raise InvalidRequest("request_id", f"{call.name!r} names a request in flight already")
            self._named[call.name] = ids
        try:
            for index, internal in enumerate(ids):
                self._client.submit(call.submit(internal, prompt, index), _indexed(sink, index))
        except BaseException:
            self._forget(ids, call)
            raise
        return ids

    def _forget(self, ids: list[int], call: Call) -> None:
        for internal in ids:
            self._client.abort(internal)
        if call.name is not None:
            self._named.pop(call.name, None)


_STARTED: Any = None  # what _deltas yields once before the first delta


def _delta(index: int, news: News, unfinished: set[int]) -> Delta:
    if isinstance(news, ForktreeRuntimeError):
        raise news
    if news.finish_reason is not None:
        unfinished.discard(index)
    return Delta.of(index, news)


def _indexed(sink: Callable[[int, News], None], index: int) -> Callable[[News], None]:
    return lambda news: sink(index, news)


def _by_index(deltas: list[Delta]) -> list[Completion]:
    num_outputs = 1 + max(delta.index for delta in deltas)
    return [gather([delta for delta in deltas if delta.index == index]) for index in range(num_outputs)]


def _scores(trie: TokenTrie, found: Scores) -> list[Score]:
    each = zip(trie.along(trie.tokens), trie.along(found.logprobs), strict=True)
    return [Score(ids, logprobs, found.timing) for ids, logprobs in each]


def _one_output(call: Call) -> Call:
    if call.params.n != 1:
        raise InvalidRequest("n", f"got {call.params.n}; generate gives one output, generate_n gives n of one prompt")
    return call


def _is_batch(prompt: Any) -> bool:
    """A list of texts, or of token id lists; one that mixes them is one prompt in parts."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence):
        return False
    return all(isinstance(each, str) for each in prompt) or all(
        isinstance(each, Sequence) and not isinstance(each, str) for each in prompt
    )


def _is_long(prompt: Prompt) -> bool:
    parts = [prompt] if isinstance(prompt, str) else prompt
    return sum(len(part) for part in parts if isinstance(part, str)) > LONG_TEXT
