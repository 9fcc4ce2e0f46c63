"""What users call on a backend from plain code: its questions asked on the background loop, and waited for.

Here: BlockingCalls, for any backend; BlockingServerCalls, for one behind connections.  Not here: the questions
themselves, which each backend answers.  Imported by the backends."""

from __future__ import annotations

from typing import Any

from ..loop import loop_thread
from .protocol import Backend, ModelInfo

__all__ = ["BlockingCalls", "BlockingServerCalls"]


class BlockingCalls:
    def get_server_info(self: Backend) -> dict[str, Any]:
        info: dict[str, Any] = loop_thread().call(self.server_info())
        return info

    def flush_cache(self: Backend) -> bool:
        return bool(loop_thread().call(self.clear_cache()))


class BlockingServerCalls(BlockingCalls):
    def get_model_name(self: Backend) -> str:
        info: ModelInfo = loop_thread().call(self.model_info())
        return info.name

    def close(self: Backend) -> None:
        """Close the connections; the next call opens new ones."""
        loop_thread().call(self.aclose())
