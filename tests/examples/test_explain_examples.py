"""Planned equals actual: for every example, what explain foresees against what a run on an empty cache computes."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forktree
from forktree.lang.explanation import Explanation
from forktree.lang.program import Program
from forktree.runtime import Engine
from tests.examples.conftest import FreshRuntime
from tests.examples.test_examples import EXAMPLES

WITHIN = 0.02
WRITES_OUTPUTS_AGAIN = {"03_parallel_fork"}  # as text: how many prompt tokens that is, only the run decides


@pytest.fixture
def explained(process_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[Explanation]]:
    """Run an example's main; each program that it runs is explained and analyzed first, with the same arguments."""
    monkeypatch.setattr(forktree, "Runtime", lambda: FreshRuntime(process_engine))
    found: list[Explanation] = []

    def explaining(run: Callable[..., Any], explain: Callable[..., Explanation], without: set[str]) -> Any:
        def explain_and_run(program: Program, *args: Any, **kwargs: Any) -> Any:
            options = {name: value for name, value in kwargs.items() if name not in without}
            found.append(explain(program, *args, analyze=True, **options))
            return run(program, *args, **kwargs)

        return explain_and_run

    monkeypatch.setattr(Program, "run", explaining(Program.run, Program.explain, set()))
    monkeypatch.setattr(Program, "run_batch", explaining(Program.run_batch, Program.explain_batch, {"progress_bar"}))

    def explain_all(path: Path) -> list[Explanation]:
        runpy.run_path(str(path))["main"]()
        return found

    return explain_all


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_explain_foresees_the_prompt_tokens_that_a_run_computes(
    path: Path, explained: Callable[[Path], list[Explanation]]
) -> None:
    explanations = explained(path)
    assert explanations
    for it in explanations:
        actual = it.planned_actual
        assert actual
        assert it.actual_computed is not None
        assert it.unplanned or actual == it.actual_computed, "a plan that is whole has all that the run computed"
        assert it.computed.known * (1 - WITHIN) <= actual <= (it.computed.known + it.computed.more) * (1 + WITHIN)
        if path.stem in WRITES_OUTPUTS_AGAIN:
            assert it.foreseen is not None
            assert it.foreseen.more == 0
            planned = it.foreseen.known
        else:
            assert it.computed.more == 0
            planned = it.computed.known
        assert abs(planned - actual) <= WITHIN * actual, f"{it}"


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_call_of_an_example_tells_its_tokens_and_times(
    path: Path, explained: Callable[[Path], list[Explanation]]
) -> None:
    for it in explained(path):
        for node in it.nodes:
            if node.num_calls and node.kind != "text":  # text that a fork has computed before its branches start
                assert node.actual is not None
                assert node.actual.is_told
                assert node.actual.computed_tokens > 0
                assert node.actual.prefill_ms > 0
                assert node.actual.queue_ms >= 0
