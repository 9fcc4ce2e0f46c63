"""Names of SGLang's frontend for what forktree does not do: each says so at the line that uses it.

Here: image, video, global_config.  An import of such a name works, so that a program which only
mentions it runs."""

from __future__ import annotations

from typing import Any, NoReturn

from .default import get_default_backend, set_default_backend
from .errors import ArgumentError
from .nodes import caller_line

__all__ = ["global_config", "image", "video"]


def image(expr: object) -> NoReturn:
    """Refused: no model here reads pictures."""
    _refuse("image", "no vision model exists here yet, so a program can't add pictures; describe it in words")


def video(path: object, num_frames: object) -> NoReturn:
    """Refused: no model here reads films."""
    _refuse("video", "no vision model exists here yet, so a program can't add films; describe it in words")


class _GlobalConfig:
    """SGLang's global_config: the default backend can be read and set, the rest is not global here."""

    @property
    def default_backend(self) -> Any:
        return get_default_backend()

    @default_backend.setter
    def default_backend(self, backend: object) -> None:
        set_default_backend(backend)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy, inspect and others, of any object
            raise AttributeError(name)
        _refuse(f"global_config.{name}", "nothing is set globally but the default backend; options go to run and gen")

    def __setattr__(self, name: str, value: object) -> None:
        if name != "default_backend":
            self.__getattr__(name)
        object.__setattr__(self, name, value)


global_config = _GlobalConfig()


def _refuse(name: str, why: str) -> NoReturn:
    raise ArgumentError(f"{name}: {why} (at {caller_line()})")
