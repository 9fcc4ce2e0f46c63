"""What the server asks of an engine: the part of Engine it uses, as a protocol.

The server is written and tested against this, so that its tests run on an engine of fifty lines and its faults can be
produced at will; a test holds the real Engine to it.  Imports only types.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..engine.messages import EngineStats, ModelInfo
    from ..engine.results import Delta, Score
    from ..sampling_params import SamplingParams


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

    async def ascore(
        self, prompt: Sequence[int] | None, continuations: Sequence[str], *, cache_salt: str = ""
    ) -> list[Score]: ...

    async def astats(self) -> EngineStats: ...

    async def aflush_cache(self) -> None: ...

    def abort(self, request_id: str) -> None: ...

    def close(self) -> None: ...
