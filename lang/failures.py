"""What went wrong in the branches of a run and nobody was told, as one exception.

Here: unseen_error.  Not here: how a branch fails (executor), the exceptions themselves (errors).  On the loop or after
a run has ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import BranchErrors, ProgramCancelled, ProgramErrors
from .nodes import Fork

if TYPE_CHECKING:
    from .executor import Branch

__all__ = ["unseen_error"]


def unseen_error(branches: Sequence[Branch]) -> BaseException | None:
    """The error of the program's own text; else those of branches, grouped by their fork.  A fork inside a branch is
    grouped under that branch."""
    failed = _unseen(branches)
    if failed and failed[0].fork is None:
        return failed[0].error
    places = {branch.path: branch for branch in branches if branch.path}
    of_forks: dict[int, tuple[Fork, dict[int, BaseException]]] = {}
    at_top: dict[int, int] = {}  # forks that no other one is around

    def errors_of(branch: Branch) -> dict[int, BaseException]:
        assert branch.fork is not None
        fork = branch.fork[0]
        if id(fork) not in of_forks:
            of_forks[id(fork)] = fork, {}
            around = places.get(branch.path[:-2])
            if around is None:
                at_top[id(fork)] = len(at_top)
            else:
                errors_of(around).setdefault(around.fork[1], _Below(id(fork)))  # type: ignore[index]  # it has a path
        return of_forks[id(fork)][1]

    def group(key: int) -> BranchErrors:
        fork, errors = of_forks[key]
        found = {
            index: group(error.fork) if isinstance(error, _Below) else error for index, error in sorted(errors.items())
        }
        return BranchErrors(found, fork.size, fork.source)

    for branch in failed:
        assert branch.fork is not None
        assert branch.error is not None
        errors_of(branch)[branch.fork[1]] = branch.error
    if not at_top:
        return None
    groups = {number: group(key) for key, number in at_top.items()}
    return groups[0] if len(groups) == 1 else ProgramErrors(groups)


class _Below(Exception):
    """Stands for the group of a fork while groups are made."""

    def __init__(self, fork: int) -> None:
        self.fork = fork


def _unseen(branches: Sequence[Branch]) -> list[Branch]:
    """Those whose error nobody was told, the oldest first.  A branch that failed because its parent did has the same
    error, and adds nothing to it."""
    told = {id(branch.error) for branch in branches if branch.error_seen}
    first_with: dict[int, Fork | None] = {}
    found = []
    for branch in branches:
        error = branch.error
        if error is None or id(error) in told or (branch.fork and isinstance(error, ProgramCancelled)):
            continue
        fork = branch.fork[0] if branch.fork else None
        if first_with.setdefault(id(error), fork) is fork:
            found.append(branch)
    return found
