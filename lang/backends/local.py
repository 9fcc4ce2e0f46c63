"""Programs on an Engine of this machine.  The one file of lang that knows the runtime, and only inside functions.

Here: LocalBackend around an Engine, Runtime that starts one, BackendOnFirstUse that does so when it is needed, and the
runtime's errors as a backend's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, BackendError, BackendUnavailable, RequestRefused
from ..nodes import caller_line
from ..waiting import Promise, until_done_async
from .blocking import BlockingCalls
from .protocol import (
    EVERYTHING,
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    ProgramCall,
    ProgramNews,
    Prompt,
    SamplingParams,
    Score,
    Timing,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from forktree.runtime import Completion, Delta, Engine
    from forktree.runtime import ProgramCall as EngineProgramCall

__all__ = ["BackendOnFirstUse", "LocalBackend", "Runtime"]

_QUEUED_PER_RUNNING = 8  # requests sent to an engine for each that it can run at a time


class LocalBackend(BlockingCalls):
    """A Backend on an Engine that somebody else starts and closes."""

    capabilities = EVERYTHING

    runs_programs = True

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def max_in_flight(self) -> int:
        """Enough that a policy has something to choose from whenever one ends, and never so many that the engine
        refuses one."""
        config = self.engine.config
        return min(_QUEUED_PER_RUNNING * config.max_running_requests, config.max_queued_requests)

    async def model_info(self) -> ModelInfo:
        info = self.engine.info
        chat = info.chat_format
        return ModelInfo(
            name=info.name,
            context_length=info.context_length,
            chat_format=ChatFormat(chat.bos, chat.default_system, chat.roles) if chat is not None else None,
            bos=(info.bos_token_id,) if info.add_bos and info.bos_token_id is not None else (),
            page_size=info.page_size,
            num_pages=info.num_pages,
        )

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        options: dict[str, Any] = {"request_id": request.request_id}
        if request.return_logprob:
            options.update(
                return_logprob=True,
                logprob_start_len=request.logprob_start_len,
                top_logprobs_num=request.top_logprobs_num,
            )
        prompt, sampling = _one_prompt(request.prompt), request.sampling.to_dict()
        with _as_backend_errors():
            if request.stream:
                async with aclosing(self.engine.astream(prompt, sampling, **options)) as deltas:
                    async for delta in deltas:
                        yield _chunk(delta)
            else:
                yield _chunk(await self.engine.agenerate(prompt, sampling, **options))

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        before = None if prompt is None else _one_prompt(prompt)
        with _as_backend_errors():
            scores = await self.engine.ascore(before, list(continuations))
        return list(_scores(scores) or ())

    async def commit(self, prompt: Prompt) -> None:
        with _as_backend_errors():
            await self.engine.agenerate(_one_prompt(prompt), SamplingParams(max_new_tokens=0).to_dict())

    def run_program(
        self, plan: Mapping[str, Any], arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> LocalProgramCall:
        with _as_backend_errors():
            return LocalProgramCall(self.engine.arun_program(plan, list(arguments), stream=stream))

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        with _as_backend_errors():
            return await asyncio.to_thread(lambda: [self.engine.tokenize(text) for text in texts])

    async def clear_cache(self) -> bool:
        with _as_backend_errors():
            await self.engine.aflush_cache()
        return True

    async def server_info(self) -> dict[str, Any]:
        with _as_backend_errors():
            stats = await self.engine.astats()
        return {name: getattr(stats, name) for name in stats.__struct_fields__}

    async def aclose(self) -> None:
        return None


class LocalProgramCall:
    """A program that runs in the engine; see protocol.ProgramCall."""

    def __init__(self, call: EngineProgramCall) -> None:
        self._call = call

    def __aiter__(self) -> LocalProgramCall:
        return self

    async def __anext__(self) -> ProgramNews:
        with _as_backend_errors():
            event = await anext(self._call)
        return ProgramNews(
            item=event.item,
            node=event.node,
            digest=event.digest,
            output=event.delta.index if event.delta is not None else 0,
            chunk=_chunk(event.delta) if event.delta is not None else None,
            scores=_scores(event.scores),
            alone=_scores(event.alone),
            error=as_backend_error(event.error) if event.error is not None else None,
        )

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        self._call.abort(item, node)

    async def aclose(self) -> None:
        await self._call.aclose()


class Runtime(LocalBackend):
    """Starts an Engine and runs programs on it: ft.set_default_backend(ft.Runtime()).

    model    a directory or file with a model, None for the default one; model_path is SGLang's name for it
    config   fields of EngineConfig
    log_level, launch_timeout, tp_size=1
             SGLang's, and without effect: what goes wrong is raised, a start takes what the model takes to load, and an
             engine has one device; further names of SGLang's are refused with the reason
    Close it with shutdown(), or use it in a `with` block; at exit it closes by itself."""

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        model_path: str | Path | None = None,
        log_level: str | None = None,
        launch_timeout: float | None = None,
        tp_size: int = 1,
        **config: Any,
    ) -> None:
        if model is not None and model_path is not None:
            raise ArgumentError(f"Runtime: model and model_path are two names of one thing (at {caller_line()})")
        if tp_size != 1:
            raise ArgumentError(
                f"Runtime: tp_size is 1, got {tp_size!r}: an engine has one device (at {caller_line()})"
            )
        for name in config:
            if name in _NOT_OFFERED:
                raise ArgumentError(f"Runtime has no {name}: {_NOT_OFFERED[name]} (at {caller_line()})")
        try:
            from forktree.runtime import Engine
        except ModuleNotFoundError as error:
            message = f"running a model here needs {error.name}: pip install 'forktree[engine]'"
            raise ModuleNotFoundError(message, name=error.name) from None
        super().__init__(Engine(model if model is not None else model_path, **config))

    def shutdown(self) -> None:
        self.engine.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    async def aclose(self) -> None:
        self.engine.close()


_ONE_DEVICE = "an engine has one device"
_NOT_OFFERED = {  # of SGLang's server arguments, those that its programs name
    "dp_size": _ONE_DEVICE,
    "pp_size": _ONE_DEVICE,
    "ep_size": _ONE_DEVICE,
    "nnodes": _ONE_DEVICE,
    "host": "nothing listens here; `forktree serve --host` does",
    "port": "nothing listens here; `forktree serve --port` does",
    "api_key": "nothing listens here",
    "chat_template": "roles are rendered by the model's own template",
    "tokenizer_path": "the tokenizer is the model's own",
    "trust_remote_code": "no code that comes with a model is run",
    "quantization": "weights are taken as the model's files have them",
    "mem_fraction_static": "say kv_cache_bytes=..., or num_pages=...",
    "max_total_tokens": "say kv_cache_bytes=..., or num_pages=...",
    "chunked_prefill_size": "it is called prefill_chunk here",
    "schedule_policy": "it is called policy here",
    "disable_radix_cache": "say prefix_cache=False",
    "disable_overlap_schedule": "say overlap=False",
    "attention_backend": "it is called attention here",
    "random_seed": "a run has a seed: program.run(seed=...)",
    "is_embedding": "models here generate text",
}


class BackendOnFirstUse:
    """A Backend whose engine starts when a program first asks something of it: one that brings its own pays for one.

    The start takes a thread of its own, since on the loop it would hold up every other program.  A start that failed
    is not tried again."""

    capabilities = EVERYTHING

    runs_programs = True

    def __init__(self, start: Callable[[], Engine]) -> None:
        self._start = start
        self._started: Promise | None = None

    @property
    def max_in_flight(self) -> int:
        """The engine's, once that is known; until then few enough for any."""
        started = self._started
        if started is None or not started.done or started.error is not None:
            return _QUEUED_PER_RUNNING
        return int(started.result().max_in_flight)

    @property
    def used(self) -> bool:
        return self._started is not None

    async def model_info(self) -> ModelInfo:
        return await (await self._backend()).model_info()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        backend = await self._backend()
        async with aclosing(backend.generate(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def score(self, prompt: Prompt | None, continuations: Sequence[str]) -> list[Score]:
        return await (await self._backend()).score(prompt, continuations)

    async def commit(self, prompt: Prompt) -> None:
        await (await self._backend()).commit(prompt)

    def run_program(
        self, plan: Mapping[str, Any], arguments: Sequence[Mapping[str, str]], *, stream: bool
    ) -> ProgramCall:
        return _CallOnFirstRead(self._backend, lambda backend: backend.run_program(plan, arguments, stream=stream))

    async def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        return await (await self._backend()).tokenize(texts)

    async def clear_cache(self) -> bool:
        return await (await self._backend()).clear_cache()

    async def server_info(self) -> dict[str, Any]:
        return await (await self._backend()).server_info()

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """An engine that is still starting ends with the process."""
        if self._started is not None and self._started.done and self._started.error is None:
            self._started.result().engine.close()

    async def _backend(self) -> LocalBackend:
        if self._started is None:
            self._started = Promise()
            threading.Thread(
                target=self._keep, args=(self._started,), name="forktree-engine-start", daemon=True
            ).start()
        await until_done_async(self._started)
        backend: LocalBackend = self._started.result()
        return backend

    def _keep(self, promise: Promise) -> None:
        try:
            with _as_backend_errors():
                promise.set(LocalBackend(self._start()))
        except BaseException as error:
            promise.fail(error)


class _CallOnFirstRead:
    """A ProgramCall on a backend that has yet to start."""

    def __init__(
        self, backend: Callable[[], Awaitable[LocalBackend]], start: Callable[[LocalBackend], LocalProgramCall]
    ) -> None:
        self._backend, self._start = backend, start
        self._call: LocalProgramCall | None = None
        self._aborted: list[tuple[int | None, int | None]] = []  # before the start

    def __aiter__(self) -> _CallOnFirstRead:
        return self

    async def __anext__(self) -> ProgramNews:
        if self._call is None:
            self._call = self._start(await self._backend())
            for item, node in self._aborted:
                self._call.abort(item, node)
        return await anext(self._call)

    def abort(self, item: int | None = None, node: int | None = None) -> None:
        if self._call is not None:
            self._call.abort(item, node)
        else:
            self._aborted.append((item, node))

    async def aclose(self) -> None:
        if self._call is not None:
            await self._call.aclose()


def _one_prompt(parts: Prompt) -> Any:
    """A prompt in parts as the engine takes it.  There, a list of nothing but texts, or nothing but id lists, would
    be several prompts, and an empty one none."""
    if not parts:
        return ""
    if all(not isinstance(part, str) for part in parts):
        return [token_id for part in parts for token_id in part]
    mixed: list[str | list[int]] = [part if isinstance(part, str) else list(part) for part in parts]
    return mixed[0] if len(mixed) == 1 else [*mixed, []]


def _chunk(output: Delta | Completion) -> Chunk:
    return Chunk(
        text=output.text,
        token_ids=tuple(output.token_ids),
        logprobs=tuple(_logprob(entry) for entry in output.logprobs),
        prompt_logprobs=tuple(_logprob(entry) for entry in output.prompt_logprobs or ()),
        finish_reason=output.finish_reason,  # type: ignore[arg-type]  # the engine's str is one of these
        matched=output.matched,
        kept_token_ids=tuple(output.kept_token_ids) if output.kept_token_ids is not None else None,
        usage=Usage(output.usage.prompt_tokens, output.usage.completion_tokens, output.usage.cached_tokens),
        timing=_timing(output.timing),
    )


def _logprob(entry: Any) -> TokenLogprob:
    return TokenLogprob(entry.token_id, entry.logprob, entry.text, tuple((p, i, text) for p, i, text in entry.top))


def _scores(found: Sequence[Any] | None) -> tuple[Score, ...] | None:
    if found is None:
        return None
    return tuple(Score(tuple(each.token_ids), tuple(each.logprobs), _timing(each.timing)) for each in found)


def _timing(found: Any) -> Timing | None:
    if found is None:
        return None
    return Timing(found.queue_ms, found.prefill_ms, found.decode_ms, found.computed_tokens)


@contextmanager
def _as_backend_errors() -> Iterator[None]:
    from forktree.runtime import ForktreeRuntimeError

    try:
        yield
    except ForktreeRuntimeError as error:
        raise as_backend_error(error) from None


def as_backend_error(error: Exception) -> BackendError:
    """A ForktreeRuntimeError as programs see it."""
    from forktree.runtime import EngineDead, InvalidRequest

    if isinstance(error, InvalidRequest):
        return RequestRefused(str(error), field=error.field, code=error.code, status=error.status)
    if isinstance(error, EngineDead):
        return BackendUnavailable(f"the engine has ended: {error}")
    return BackendError(str(error))
