"""For tests of programs, without a model: a backend that answers from a script, and recordings of real runs.

    backend = ft.testing.ScriptedBackend({"capital": "Paris"})
    assert program.run("France", backend=backend)["answer"] == "Paris"

    with ft.testing.record("run.jsonl", ft.Runtime()) as recorded:     # once, with a model
        program.run("France", backend=recorded)
    program.run("France", backend=ft.testing.replay("run.jsonl"))      # ever after, without

Here: the face of the package.  Needs nothing but the language: no torch, no numba, no aiohttp."""

from __future__ import annotations

from .recorder import RecordingBackend, record
from .recording import RecordingError
from .replayer import ReplayBackend, ReplayMismatch, replay
from .requests import ReplayedRequest, requests_of
from .scripted import HANG, Reply, ScriptedBackend, ScriptError, text_of

__all__ = [
    "HANG",
    "RecordingBackend",
    "RecordingError",
    "ReplayBackend",
    "ReplayMismatch",
    "ReplayedRequest",
    "Reply",
    "ScriptError",
    "ScriptedBackend",
    "record",
    "replay",
    "requests_of",
    "text_of",
]
