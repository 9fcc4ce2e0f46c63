"""What the server asks of an engine: the part of Engine it uses, as a protocol.

The server is written and tested against this, so that its tests run on an engine of fifty lines and its faults can be
produced at will; a test holds the real Engine to it.  Imports only types.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..engine.messages import EngineStats, ModelInfo
    from ..engine.program_plan import ProgramPlan
    from ..engine.results import Delta, ProgramEvent, Score
    from ..sampling_params import SamplingParams


class ProgramCall(Protocol):
    """A program in the engine: iterate for its events, close it to end it."""

    def __aiter__(self) -> AsyncIterator[ProgramEvent]: ...

    def abort(self, item: int | None = None, node: int | None = None) -> None: ...

    async def aclose(self) -> None: ...


class ServingEngine(Protocol):
    @property
    def info(self) -> ModelInfo: ...

    @property
    def is_alive(self) -> bool: ...

    def tokenize(self, text: str) -> list[int]: ...

    def detokenize(self, token_ids: Sequence[int]) -> str: ...

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]]) -> str: ...

    def astream(
        self,
        prompt: Sequence[int],
        sampling_params: SamplingParams,
        *,
        return_logprob: bool = False,
        logprob_start_len: int = -1,
        top_logprobs_num: int = 0,
        cache_salt: str = "",
        request_id: str | None = None,
    ) -> AsyncGenerator[Delta, None]: ...

    def arun_program(
        self,
        plan: ProgramPlan,
        arguments: Sequence[Mapping[str, str]],
        *,
        stream: bool = True,
        cache_salt: str = "",
    ) -> ProgramCall: ...

    async def ascore(
        self, prompt: Sequence[int] | None, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]: ...

    async def astats(self) -> EngineStats: ...

    async def aflush_cache(self) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def close(self) -> None: ...
