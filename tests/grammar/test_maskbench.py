"""MaskBench, the schemas people really use: nearly all compile, nothing invalid is accepted.

Not part of the repository: FORKTREE_MASKBENCH names its folder of JSON files, or a .jsonl or .jsonl.gz of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.grammar import coverage, data
from forktree.grammar import Compiler
from tests.support.byte_vocabulary import ByteVocabulary

SHARE_RIGHT, SHARE_REJECTING = 0.97, 0.003
LARGEST_SAMPLE = 1000  # of the whole of MaskBench, which is 10,000 schemas


@pytest.mark.slow
def test_nearly_all_schemas_are_judged_right_and_nothing_invalid_is_accepted() -> None:
    try:
        samples = data.maskbench(LARGEST_SAMPLE, seed=0)
    except data.Absent as absent:
        pytest.skip(str(absent))
    compiler = Compiler(ByteVocabulary(), max_cached=1)
    verdicts = coverage.judge_maskbench(samples, compiler, lambda text: text.encode())
    report = coverage.report(verdicts)
    assert not coverage.share(verdicts, "accepts invalid"), report
    assert not coverage.share(verdicts, "crashed"), report
    rejecting = coverage.share(verdicts, "rejects valid")
    assert rejecting <= SHARE_REJECTING, f"{rejecting:.2%} reject something valid\n{report}"
    right = coverage.share(verdicts, "right")
    assert right >= SHARE_RIGHT, f"{right:.2%} right\n{report}"


ROW = {
    "id": "Test---one.json",
    "schema": {"type": "integer"},
    "tests": [{"data": 1, "valid": True}, {"data": "1", "valid": False}],
}


def test_maskbench_is_read_from_a_folder_and_from_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = tmp_path / "some.jsonl"
    lines.write_text(json.dumps(ROW) + "\n")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "Test---one.json").write_text(json.dumps({key: value for key, value in ROW.items() if key != "id"}))
    for place in (lines, folder):
        monkeypatch.setenv(data.MASKBENCH, str(place))
        (sample,) = data.maskbench()
        assert (sample.name, sample.keyword) == ("Test---one.json", "Test")
        (verdict,) = coverage.judge_maskbench([sample], Compiler(ByteVocabulary()), lambda text: text.encode())
        assert verdict.kind == "right"


@pytest.mark.parametrize(
    ("schema", "kind"),
    [({"type": "string"}, "accepts invalid"), ({"const": 2}, "rejects valid"), ({"$ref": "#/nowhere"}, "declared")],
)
def test_what_is_judged_wrong_is_counted_and_told(schema: object, kind: str) -> None:
    sample = data.Sample("one", "keyword", schema, ((1, kind != "accepts invalid"), ("1", False)))
    (verdict,) = coverage.judge_maskbench([sample], Compiler(ByteVocabulary()), lambda text: text.encode())
    assert verdict.kind == kind
    assert kind in coverage.report([verdict])
    assert coverage.share([verdict], verdict.kind) == 1.0
