"""What programs run on.  protocol: the values and calls; local: starts an Engine; http: talks to a server of ours;
openai, sglang: to others; http_client: what these three share.

Here: as_backend, which takes whatever a user may name as one."""

from __future__ import annotations

from typing import Any, cast

from ..errors import ArgumentError
from .protocol import Backend

__all__ = ["as_backend"]


def as_backend(candidate: object, where: object) -> Backend:
    """A Backend as it is; an Engine wrapped; anything else refused, with `where` the user named it."""
    if isinstance(candidate, Backend) and not isinstance(candidate, type):
        return candidate
    if type(candidate).__module__.startswith("forktree.runtime") and hasattr(candidate, "astream"):
        from .local import LocalBackend

        return LocalBackend(cast("Any", candidate))
    raise ArgumentError(
        f"backend: got {candidate!r}, wanted ft.Runtime(...), ft.RuntimeEndpoint(url), another "
        f"backend such as ft.OpenAI(...), or an ft.Engine(...) (at {where})"
    )
