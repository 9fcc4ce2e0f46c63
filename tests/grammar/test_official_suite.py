"""The official JSON Schema test suite: nothing invalid is accepted, and few schemas are refused.

Not part of the repository: FORKTREE_JSON_SCHEMA_SUITE names a checkout of json-schema-org/JSON-Schema-Test-Suite."""

from __future__ import annotations

import pytest

from benchmarks.grammar import coverage, data
from forktree.grammar import Compiler, Constraint, SchemaError, check
from tests.support.byte_vocabulary import ByteVocabulary

SHARE_RIGHT = {"draft2020-12": 0.93, "draft7": 0.95}


def judged(draft: str) -> list[coverage.Verdict]:
    try:
        samples, registry = data.official(draft), data.remotes()
    except data.Absent as absent:
        pytest.skip(str(absent))
    compiler = Compiler(ByteVocabulary(), max_cached=1)
    return coverage.judge_official(samples, compiler, lambda text: text.encode(), draft=draft, registry=registry)


@pytest.mark.slow
@pytest.mark.parametrize("draft", SHARE_RIGHT)
def test_nothing_invalid_is_accepted_and_few_schemas_are_refused(draft: str) -> None:
    verdicts = judged(draft)
    assert len(verdicts) > 200, "the suite's folder holds few tests"
    report = coverage.report(verdicts)
    assert not coverage.share(verdicts, "accepts invalid"), report
    assert not coverage.share(verdicts, "crashed"), report
    right = coverage.share(verdicts, "right")
    assert right >= SHARE_RIGHT[draft], f"{right:.2%} right\n{report}"


@pytest.mark.slow
@pytest.mark.parametrize("draft", SHARE_RIGHT)
def test_every_refusal_says_where_and_why(draft: str) -> None:
    try:
        samples, registry = data.official(draft), data.remotes()
    except data.Absent as absent:
        pytest.skip(str(absent))
    refusals = []
    for sample in samples:
        try:
            check(Constraint.json_schema(sample.schema, draft=draft, registry=registry))
        except SchemaError as error:
            refusals.append((sample.name, error))
    for name, refusal in refusals:
        assert refusal.pointer.startswith("#") or "://" in refusal.pointer, (name, refusal)
        assert refusal.message, name


def test_without_the_suite_the_reason_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(data.SUITE, raising=False)
    with pytest.raises(data.Absent, match="FORKTREE_JSON_SCHEMA_SUITE is not set"):
        data.official("draft7")
