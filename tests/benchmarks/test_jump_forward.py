"""benchmarks.jump_forward, without a model: which schemas it takes, and how it compares."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.jump_forward import cases, common

RECORD = {"passenger_count": 4, "vehicle_type": "Car"}
SCHEMA = {"type": "object", "properties": {key: {} for key in RECORD}, "required": list(RECORD)}


def test_taken_are_schemas_with_long_keys_and_a_valid_record(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    lines = [
        {"id": "taken", "schema": SCHEMA, "tests": [{"valid": True, "data": RECORD}]},
        {"id": "no valid record", "schema": SCHEMA, "tests": [{"valid": False, "data": RECORD}]},
        {
            "id": "long values",
            "schema": SCHEMA,
            "tests": [{"valid": True, "data": {**RECORD, "vehicle_type": "x" * 99}}],
        },
        {"id": "nothing required", "schema": {**SCHEMA, "required": []}, "tests": [{"valid": True, "data": RECORD}]},
        {"id": "no object", "schema": True, "tests": []},
    ]
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert [(name, record) for name, _, record in cases(file)] == [("taken", RECORD)]


def test_texts_agree_up_to_where_they_differ() -> None:
    assert [common("abc", "abd"), common("ab", "abc"), common("", "a")] == [2, 2, 0]
