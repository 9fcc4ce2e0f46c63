"""A process in which hostile inputs may do their worst: python -m tests.support.hostile_child

Reads the name of an input a line; each is tried in a fork of its own, which starts with everything warm and is killed
if it takes too much.  Answers with a JSON line: the outcome ("done", or an exception's class), and what it took."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import sys
import time

from forktree.grammar import Compiler, Constraint, GrammarError, Vocabulary, warmup
from tests.support.hostile_inputs import INPUTS
from tests.support.model_vocabulary import whole_vocabulary
from tests.support.walks import Walk

NUM_STEPS = 8
LIMIT_SECONDS = 10  # of a fork; what is allowed is for the tests to say
LIMIT_BYTES = 2 << 30


def attempt(name: str, vocabulary: Vocabulary) -> dict[str, object]:
    """Compile, the first mask, the tokens needed, some steps.  Times are of the processor: others share the machine."""
    make = INPUTS[name]
    with contextlib.suppress(Exception):  # it is judged below
        make()  # so that what it takes to load what writes the input down is not counted
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    outcome, message = "done", ""
    try:
        walk = Walk(Compiler(vocabulary).compile(make()), random.Random(name))
        walk.matcher.tokens_needed()
        for left in range(NUM_STEPS + 64, 64, -1):
            if not walk.step(left if left % 2 else None, ending=0.0):
                break
    except Exception as error:
        outcome, message = type(error).__name__, str(error)
        if not isinstance(error, GrammarError):
            outcome = f"undeclared {outcome}"
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "outcome": outcome,
        "message": message[:300],
        "seconds": time.process_time() - begin,
        "megabytes": (after.ru_maxrss - before.ru_maxrss) / 1024,
    }


def in_a_fork(name: str, vocabulary: Vocabulary) -> dict[str, object]:
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_SECONDS, LIMIT_SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_BYTES, LIMIT_BYTES))
        signal.alarm(3 * LIMIT_SECONDS)  # it may sleep instead of working
        with os.fdopen(write_end, "w") as answer:
            answer.write(json.dumps(attempt(name, vocabulary)))
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if text:
        answered: dict[str, object] = json.loads(text)
        return answered
    return {
        "outcome": f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "crashed",
        "message": "",
        "seconds": float(LIMIT_SECONDS),
        "megabytes": 0.0,
    }


def main() -> None:
    warmup()
    vocabulary = whole_vocabulary()
    Walk(Compiler(vocabulary).compile(Constraint.json_schema({})), random.Random(0)).finish(3)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(in_a_fork(line.rstrip("\n"), vocabulary)), flush=True)


if __name__ == "__main__":
    main()
