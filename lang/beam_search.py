"""Try several continuations and keep the best: best_of, and a small beam search over branches.

Here: search, best_of (s.best_of), and scoring many branches at once.  Not here: forks and appending (state), programs
that share a thread (batch).

Every score is worked out on a copy of its branch, so that a judge may ask the model there without leaving a trace in
the text.  All branches of a step run at once; one is cancelled in the moment it can no longer be kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from .api import gen
from .batch import run_many
from .errors import ArgumentError, BranchErrors, ProgramCancelled, ProgramError, RoleError
from .nodes import SourceLine, Text, caller_line
from .operations import Append, Written

if TYPE_CHECKING:
    from .state import ProgramState

__all__ = ["best_of", "search"]

Score = Callable[["ProgramState"], Any]


def best_of(
    state: ProgramState, n: int, name: str, score: Score | None, good_enough: float | None, options: dict[str, Any]
) -> float:
    """ProgramState.best_of."""
    state._check_may_block()
    start = _Start(state)
    if score is None:
        options, score = {**options, "return_logprob": True}, partial(_mean_logprob, name)
    seed = options.pop("seed", None)
    forks = state.fork(n)
    forks += lambda i: gen(name, seed=None if seed is None else seed + i, **options)
    [(found, winner)] = _best(forks.states, 1, [partial(_scored, branch, score) for branch in forks], good_enough)
    start.take(winner)
    return found


def search(
    s: ProgramState,
    expand: object,
    score: Score,
    *,
    width: int = 3,
    depth: int = 3,
    beam: int = 1,
    prune: Callable[[ProgramState], bool] | None = None,
    good_enough: float | None = None,
) -> float:
    """Beam search over branches of `s`: `depth` levels, each of which gives every kept branch `width` children and
    keeps the `beam` best of them all.  The text and the variables of the best one are appended to `s`; returns its
    score.

    expand       what a child adds: a node such as ft.gen("thought"), or a function (or program) that gets the branch
                 and adds to it, and may read what it adds
    score        gets a copy of the expanded branch and returns a number, the higher the better; a program may ask the
                 model there
    prune        a cheap test before the score: a child for which it is true is dropped at once
    good_enough  with a score that high the search ends, and everything else is cancelled

        @ft.function
        def judge(s):
            s += "\\nHow promising is this, from 1 to 10? " + ft.gen("rating", type=int)
            return s["rating"]

        @ft.function
        def solve(s, question):
            s += question + "\\n"
            ft.search(s, "Next step: " + ft.gen("step", stop="\\n") + "\\n", judge, width=3, depth=4, beam=2)
            s += "So the answer is" + ft.gen("answer")

    A branch that fails loses; where all fail, that is a BranchErrors.  Where a level keeps none, the best of the level
    before it is taken.  In an async program: await helper(s), with a plain program that searches."""
    numbers: dict[str, object] = {"width": width, "depth": depth, "beam": beam}
    for what, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ArgumentError(f"search: {what}: got {number!r}, wanted 1 or more (at {caller_line()})")
    s._check_may_block()
    start, best = _Start(s), (-math.inf, s)
    kept: list[tuple[float, ProgramState]] = [best]
    for _ in range(depth):
        children = [child for _, state in kept for child in state.fork(width)]
        bodies = [partial(_expanded, child, expand, prune, score) for child in children]
        try:
            kept = _best(children, beam, bodies, good_enough)
        except BranchErrors:
            if best[1] is s:
                raise
            break
        best = kept[0]
        if good_enough is not None and best[0] >= good_enough:
            break
    start.take(best[1])
    return best[0]


class _Start:
    """Where the state stood, so that what its best branch adds can be told apart."""

    def __init__(self, state: ProgramState) -> None:
        self._state, self._source = state, caller_line()
        self._length, self._num_messages = state._read(
            lambda branch: (branch.text.length, len(branch.conversation.messages))
        )
        self._slots = dict(state._shared.slots)

    def take(self, winner: ProgramState) -> None:
        """Append what the winner has written since, with its variables."""
        state, roles = self._state._shared, winner._shared.roles
        if (roles.role, roles.opened_at) != (state.roles.role, state.roles.opened_at):
            raise RoleError(
                f"the best branch of the search at {self._source} ends in another role than it began in: "
                f"{roles.role or 'none'}, and not {state.roles.role or 'none'}"
            )
        length, num_messages = self._length, self._num_messages
        written: Written = winner._read(
            lambda branch: Written(branch.text.segments(length), tuple(branch.conversation.messages[num_messages:]))
        )
        state.branch.submit(Append(written, Text(self._source, "")))
        state.roles.closed = roles.closed
        for name, slot in winner._shared.slots.items():
            if not name.startswith("#") and slot is not self._slots.get(name):
                state.slots[name] = slot


def _best(
    branches: Sequence[ProgramState], keep: int, bodies: Sequence[Callable[[], float]], good_enough: float | None
) -> list[tuple[float, ProgramState]]:
    """The `keep` best branches, the best first; of equals the first.  The others are cancelled as soon as they lose."""
    best: list[tuple[float, int]] = []
    failed: dict[int, BaseException] = {}
    try:
        with closing(run_many(bodies, len(bodies))) as ended:  # type: ignore[type-var]  # it is a generator
            for index, outcome in ended:
                if isinstance(outcome.error, ProgramError):
                    failed[index] = outcome.error
                    continue
                best.append((outcome.result(), index))
                best.sort(key=lambda each: (-each[0], each[1]))
                for _, loser in best[keep:]:
                    branches[loser].cancel()
                del best[keep:]
                if good_enough is not None and best[0][0] >= good_enough:
                    break
    finally:
        kept = {index for _, index in best}
        for index, branch in enumerate(branches):
            if index not in kept:
                branch.cancel()
    if not best:
        raise BranchErrors(failed, len(branches), _line_of(branches[0]))
    return [(score, branches[index]) for score, index in best]


def _expanded(
    branch: ProgramState, expand: object, prune: Callable[[ProgramState], bool] | None, score: Score
) -> float:
    if callable(expand):
        expand(branch)
    else:
        branch += expand
    if prune is not None and prune(branch):
        raise ProgramCancelled(f"pruned by the search at {caller_line()}")
    return _scored(branch, score)


def _scored(branch: ProgramState, score: Score) -> float:
    branch._read(lambda done: None)  # all that was added to it is there, or its error is raised
    copy = branch.fork(1)[0]
    try:
        found = score(copy)
    finally:
        copy.cancel()
    if isinstance(found, (str, bool)) or not hasattr(found, "__float__") or math.isnan(float(found)):
        raise TypeError(f"score: got {found!r}, wanted a number, the higher the better")
    return float(found)


def _mean_logprob(name: str, branch: ProgramState) -> float:
    """How likely the model found its own output, per token."""
    meta = branch.get_meta_info(name) or {}
    logprobs = [entry[0] for entry in meta.get("output_token_logprobs", ())]
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf


def _line_of(branch: ProgramState) -> SourceLine:
    fork = branch._shared.branch.fork
    assert fork is not None
    return fork[0].source
