"""What does jump-forward save: greedy answers to real JSON Schemas with and without it, one request at a time.

    FORKTREE_MASKBENCH=maskbench-dev.jsonl.gz python -m benchmarks.jump_forward [--model DIRECTORY] [--schemas 20]

The schemas are MaskBench's (https://github.com/guidance-ai/jsonschemabench), which this project does not ship: one JSON
object a line, with "id", "schema" and "tests". Taken are the first that are small, compile, require some keys, and come
with a valid record of which a third and more is keys. The model is to copy that record, which a small one can: so most
of the time its own first choice is allowed, and the answers are about as long as real ones.

passes           forward passes of one request: its steps
same text        answers equal with and without, as far as the model's own first choice was allowed without: where the
                 grammar overrules it, another spelling of the same bytes may lead to another answer
tokens as given  tokens of the answer that are those into which the tokenizer splits the whole answer
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import print_json_line, print_table
from forktree.runtime import Completion, Engine, InvalidRequest

MAX_SCHEMA = 4000  # characters
MAX_RECORD = 500  # characters of JSON
MIN_REQUIRED = 2  # keys
MIN_KEY = 8  # characters of a record's own keys in the mean
MIN_SHARE = 0.35  # of a record's characters that are in keys
VARIABLE = "FORKTREE_MASKBENCH"


@dataclass(frozen=True)
class Answer:
    """One schema's answer. `free_until`: characters before the first at which the model was overruled."""

    text: str
    token_ids: list[int]
    passes: int
    forced: int
    free_until: int


def cases(path: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Names, schemas with long keys, and a record of each."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            case = json.loads(line)
            schema = case["schema"]
            if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
                continue
            required = [key for key in schema.get("required", ()) if key in schema["properties"]]
            if len(required) < MIN_REQUIRED or len(json.dumps(schema)) > MAX_SCHEMA:
                continue
            records = [test["data"] for test in case["tests"] if test["valid"] and isinstance(test["data"], dict)]
            if (record := next(filter(_has_long_keys, records), None)) is not None:
                yield case["id"], schema, record


def _has_long_keys(record: dict[str, Any]) -> bool:
    num_characters = len(json.dumps(record))
    mean = sum(map(len, record)) / max(1, len(record))
    return num_characters <= MAX_RECORD and mean >= MIN_KEY and _in_keys(record) >= MIN_SHARE * num_characters


def _in_keys(value: object) -> int:
    """Characters of all keys."""
    if isinstance(value, dict):
        return sum(len(key) + _in_keys(each) for key, each in value.items())
    return sum(map(_in_keys, value)) if isinstance(value, list) else 0


def ask(engine: Engine, schema: dict[str, Any], record: dict[str, Any], max_new_tokens: int) -> Answer:
    order = [*(key for key in schema["properties"] if key in record), *(key for key in record)]
    line = json.dumps({key: record[key] for key in order}, ensure_ascii=False)
    prompt = f"Each record is written twice, the second time just as the first.\n\n{line}\n"
    params = {"temperature": 0.0, "max_new_tokens": max_new_tokens}
    jumps = engine.config.jump_forward
    engine.flush_cache()
    before = engine.stats()
    done = engine.generate(
        prompt, params, json_schema=schema, return_logprob=not jumps, top_logprobs_num=int(not jumps)
    )
    after = engine.stats()
    return Answer(
        done.text, done.token_ids, after.steps - before.steps, after.forced_tokens - before.forced_tokens, _free(done)
    )


def _free(done: Completion) -> int:
    length = 0
    for token in done.logprobs:
        if token.top[0][1] != token.token_id:
            return length
        length += len(token.text)
    return length


def num_as_given(engine: Engine, answer: Answer) -> int:
    """Tokens of the answer that the tokenizer makes of its text, too, at the same place."""
    return len(_places(engine, answer.token_ids) & _places(engine, engine.tokenize(answer.text)))


def _places(engine: Engine, token_ids: list[int]) -> set[tuple[int, int]]:
    places, at = set(), 0
    for token_id in token_ids:
        places.add((at, token_id))
        at += len(engine.detokenize([token_id]))
    return places


def common(a: str, b: str) -> int:
    """Characters until they differ."""
    return next((i for i, (one, other) in enumerate(zip(a, b, strict=False)) if one != other), min(len(a), len(b)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="a model directory; by default the default model")
    parser.add_argument("--schemas", type=int, default=20)
    parser.add_argument("--max-new-tokens", type=int, default=160)
    parser.add_argument("--plain", action="store_true", help="the plain loop")
    given = parser.parse_args()
    if VARIABLE not in os.environ:
        sys.exit(f"{VARIABLE} is not set: the MaskBench schemas are not part of this project")
    settings = {"num_pages": 8192, "overlap": not given.plain, "in_process": True}
    rows: list[list[str]] = []
    pairs: list[tuple[Answer, Answer]] = []
    given_tokens = all_tokens = 0
    with (
        Engine(given.model, **settings, jump_forward=False) as slow,
        Engine(given.model, **settings) as fast,
    ):
        for name, schema, record in cases(Path(os.environ[VARIABLE])):
            try:
                without, with_it = (ask(engine, schema, record, given.max_new_tokens) for engine in (slow, fast))
            except InvalidRequest:  # not compiled, or no room for an answer
                continue
            pairs.append((without, with_it))
            num_given = num_as_given(fast, with_it)
            given_tokens, all_tokens = given_tokens + num_given, all_tokens + len(with_it.token_ids)
            same = common(without.text, with_it.text)
            differs = "" if without.text == with_it.text else f"from {same} (free until {without.free_until})"
            saved = 1 - with_it.passes / without.passes
            as_given = f"{num_given} of {len(with_it.token_ids)}"
            rows.append(
                [name, str(without.passes), str(with_it.passes), f"{saved:.0%}", str(with_it.forced), as_given, differs]
            )
            if len(pairs) == given.schemas:
                break
        columns = ["schema", "passes without", "with", "saved", "forced", "tokens as given", "other text"]
        print_table("Greedy answers with and without jump-forward", columns, rows)
        whole = sum(with_it.token_ids == fast.tokenize(with_it.text) for _, with_it in pairs)
        passes = [sum(pair[i].passes for pair in pairs) for i in (0, 1)]
        figures = {
            "schemas": len(pairs),
            "passes_without": passes[0],
            "passes_with": passes[1],
            "passes_saved": round(1 - passes[1] / passes[0], 4),
            "same_text": sum(a.text == b.text for a, b in pairs),
            "same_text_where_free": sum(common(a.text, b.text) >= min(a.free_until, len(a.text)) for a, b in pairs),
            "tokens_as_given": round(given_tokens / all_tokens, 4),
            "tokens_as_given_without": round(
                sum(num_as_given(fast, a) for a, _ in pairs) / sum(len(a.token_ids) for a, _ in pairs), 4
            ),
            "answers_as_given": whole,
        }
    loop = "plain" if given.plain else "overlapped"
    print_json_line("jump_forward", fast.info.name, f"{len(pairs)} schemas, greedy, {loop} loop", figures)


if __name__ == "__main__":
    main()
