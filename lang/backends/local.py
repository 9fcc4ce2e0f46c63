"""Programs on an Engine of this machine.  The one file of lang that knows the runtime, and only inside functions.

Here: LocalBackend around an Engine, Runtime that starts one, errors of the runtime as errors of a backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, BackendUnavailable, RequestRefused
from ..loop import loop_thread
from .protocol import (
    ChatFormat,
    Chunk,
    GenerateRequest,
    ModelInfo,
    Prompt,
    SamplingParams,
    Score,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from pathlib import Path

    from forktree.runtime import Completion, Delta, Engine

__all__ = ["LocalBackend", "Runtime"]


class LocalBackend:
    """A Backend on an Engine that somebody else starts and closes."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def model_info(self) -> ModelInfo:
        info = self.engine.info
        chat = info.chat_format
        return ModelInfo(
            name=info.name,
            context_length=info.context_length,
            chat_format=ChatFormat(chat.bos, chat.default_system, chat.roles) if chat is not None else None,
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

    async def score(self, prompt: Prompt, continuations: Sequence[str]) -> list[Score]:
        with _as_backend_errors():
            scores = await self.engine.ascore(_one_prompt(prompt), list(continuations))
        return [Score(tuple(score.token_ids), tuple(score.logprobs)) for score in scores]

    async def commit(self, prompt: Prompt) -> None:
        with _as_backend_errors():
            await self.engine.agenerate(_one_prompt(prompt), SamplingParams(max_new_tokens=0).to_dict())

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

    # ---- for users

    def flush_cache(self) -> bool:
        return bool(loop_thread().call(self.clear_cache()))

    def get_server_info(self) -> dict[str, Any]:
        info: dict[str, Any] = loop_thread().call(self.server_info())
        return info


class Runtime(LocalBackend):
    """Starts an Engine and runs programs on it: ft.set_default_backend(ft.Runtime()).

    model    a directory or file with a model, None for the default one; model_path is SGLang's name for it
    config   fields of EngineConfig
    Close it with shutdown(), or use it in a `with` block; at exit it closes by itself."""

    def __init__(self, model: str | Path | None = None, *, model_path: str | Path | None = None, **config: Any) -> None:
        from forktree.runtime import Engine

        super().__init__(Engine(model if model is not None else model_path, **config))

    def shutdown(self) -> None:
        self.engine.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *exc: object) -> None:
        self.shutdown()

    async def aclose(self) -> None:
        self.engine.close()


def _one_prompt(parts: Prompt) -> Any:
    """A prompt in parts as the engine takes it.  There, a list of nothing but texts, or nothing but id lists, would
    be several prompts."""
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
    )


def _logprob(entry: Any) -> TokenLogprob:
    return TokenLogprob(entry.token_id, entry.logprob, entry.text, tuple((p, i, text) for p, i, text in entry.top))


@contextmanager
def _as_backend_errors() -> Iterator[None]:
    from forktree.runtime import EngineDead, ForktreeRuntimeError, InvalidRequest

    try:
        yield
    except InvalidRequest as error:
        raise RequestRefused(str(error), field=error.field, code=error.code, status=error.status) from error
    except EngineDead as error:
        raise BackendUnavailable(f"the engine has ended: {error}") from error
    except ForktreeRuntimeError as error:
        raise BackendError(str(error)) from error
