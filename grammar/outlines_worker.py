"""Builds one outlines-core index in a process of its own, which can be ended when it takes too long or too much.

Run as a file, by outlines_backend; imports nothing of ours.  Reads one JSON object from standard input:

    library (the folder that has outlines_core), regex or schema, tokens (pairs of
    hexadecimal text and token ids), eos_token_id, max_bytes (of address space)

Writes one line of JSON, {"error": ...} or {"initial": state, "final": [states], "count": n}, and then n transitions as
three arrays of int64: state, token id, next state."""

from __future__ import annotations

import array
import json
import sys
from typing import Any


def main() -> None:
    task = json.load(sys.stdin)
    try:
        limit_memory(task["max_bytes"])
        found = built(task)
    except Exception as error:  # whatever outlines-core raises is the answer
        sys.stdout.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    columns = [array.array("q"), array.array("q"), array.array("q")]
    for state, following in found.get_transitions().items():
        columns[0].extend([state] * len(following))
        columns[1].extend(following.keys())
        columns[2].extend(following.values())
    head = {"initial": found.get_initial_state(), "final": sorted(found.get_final_states()), "count": len(columns[0])}
    sys.stdout.write(json.dumps(head) + "\n")
    sys.stdout.flush()
    for column in columns:
        sys.stdout.buffer.write(column.tobytes())


def built(task: dict[str, Any]) -> Any:
    sys.path.append(task["library"])
    from outlines_core import Index, Vocabulary

    regex = task["regex"]
    if regex is None:
        from outlines_core.json_schema import build_regex_from_schema

        regex = build_regex_from_schema(task["schema"])
    tokens = {bytes.fromhex(text): ids for text, ids in task["tokens"]}
    return Index(regex, Vocabulary(task["eos_token_id"], tokens))


def limit_memory(max_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))


if __name__ == "__main__":
    main()
