"""What a run is told beside its program's arguments: sampling options, backend, time limit.

Here: RunOptions, one object of them, and which keyword of a call is whose.  Not here: what each sampling option may be
(options), running (program).

A name that a program's own parameter has is that parameter's: f.run(temperature="hot") binds the argument, and
f.options(temperature=0).run(temperature="hot") says both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .backends import as_backend
from .backends.protocol import Backend
from .deadlines import read_timeout
from .options import RUN_OPTIONS, SamplingOptions, read_options

__all__ = ["OF_A_RUN", "RunOptions", "read_run_options", "told_apart"]

OF_A_RUN = RUN_OPTIONS | {"backend", "timeout"}


@dataclass(frozen=True)
class RunOptions:
    """None: not said."""

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    backend: Backend | None = None
    timeout: float | None = None  # seconds for the whole run, from its start

    def over(self, base: RunOptions) -> RunOptions:
        """These options where they say something, `base` elsewhere."""
        return RunOptions(
            self.sampling.over(base.sampling),
            self.backend if self.backend is not None else base.backend,
            self.timeout if self.timeout is not None else base.timeout,
        )


def read_run_options(raw: Mapping[str, Any], where: object) -> RunOptions:
    """Check and freeze; every name is one of OF_A_RUN.  Raises ArgumentError that names the option and `where`."""
    sampling = {name: value for name, value in raw.items() if name in RUN_OPTIONS}
    backend = raw.get("backend")
    return RunOptions(
        read_options(sampling, where),
        as_backend(backend, where) if backend is not None else None,
        read_timeout(raw.get("timeout"), where),
    )


def told_apart(
    keywords: Mapping[str, Any], own_names: Iterable[str], of_a_call: frozenset[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords of one call: the program's own, and those of the run."""
    own_names = set(own_names)
    of_run = {name: value for name, value in keywords.items() if name in of_a_call and name not in own_names}
    return {name: value for name, value in keywords.items() if name not in of_run}, of_run
