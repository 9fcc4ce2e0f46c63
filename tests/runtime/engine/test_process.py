"""The engine in a process of its own: how it starts, fails to start, dies, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from forktree.runtime import Engine, EngineDead, InvalidRequest, ModelLoadError
from forktree.runtime.engine.call import Call, scoring

pytestmark = pytest.mark.slow


def test_it_generates_in_another_process(process_engine: Engine) -> None:
    assert process_engine.pid != os.getpid()
    done = process_engine.generate("The capital of France is", {"max_new_tokens": 1, "temperature": 0})
    assert done.text == " Paris"


def test_refusals_cross_the_wire_as_they_are(process_engine: Engine) -> None:
    with pytest.raises(InvalidRequest) as refused:
        process_engine.generate("x", {"regex": "(a"})
    assert (refused.value.field, refused.value.code) == ("regex", "invalid_grammar")


def test_scores_and_their_refusals_cross_the_wire(process_engine: Engine) -> None:
    paris, rome = process_engine.score("The capital of France is", [" Paris", " Rome, I think"])
    assert paris.total > rome.total
    assert len(rome.logprobs) == len(rome.token_ids) > 2
    with pytest.raises(InvalidRequest, match="number 1 is empty"):
        process_engine.score("x", ["a", ""])


def test_an_unknown_model_path_names_the_path_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError) as refused:
        Engine(tmp_path / "nothing-here")
    assert refused.value.path == str(tmp_path / "nothing-here")
    assert refused.value.remedy


def test_an_unknown_setting_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="unknown engine setting; known are model"):
        Engine(pages=3)


def test_a_killed_engine_is_noticed_within_a_second() -> None:
    with Engine(num_pages=64) as engine:
        stream = engine.stream("One two three", {"max_new_tokens": 50, "ignore_eos": True})
        next(stream)
        os.kill(engine.pid, signal.SIGKILL)
        start = time.monotonic()
        with pytest.raises(EngineDead, match="killed by signal 9"):
            list(stream)
        assert time.monotonic() - start < 1.0
        assert not engine.is_alive
        with pytest.raises(EngineDead):
            engine.generate("x")


def test_a_score_in_flight_hears_that_the_engine_is_gone() -> None:
    with Engine(num_pages=4096) as engine:
        message = scoring(engine._client.new_id(), [1, 2], [[i, *range(1000)] for i in range(3)], engine.info, "")
        future = engine._client.score(message)
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineDead, match="killed by signal 9"):
            future.result(5)
        with pytest.raises(EngineDead):
            engine.score("x", ["a"])


def test_an_engine_closed_on_the_thread_that_hears_it_ends_all_the_same() -> None:
    engine = Engine(num_pages=64)
    stream = engine.stream("One two", {"max_new_tokens": 1})
    list(stream)
    closed = threading.Event()

    def close_there(news: object) -> None:
        engine.close()
        closed.set()

    message = Call.make({"max_new_tokens": 1}).submit(engine._client.new_id(), [1, 2], 0)
    engine._client.submit(message, close_there)
    assert closed.wait(15)
    assert _is_gone(engine.pid)


def test_a_forked_child_neither_hangs_nor_harms_the_engine() -> None:
    code = (
        "import os, sys\nfrom forktree.runtime import Engine, EngineDead\n"
        "engine = Engine(num_pages=64)\n"
        "if (child := os.fork()) == 0:\n"
        "    try:\n        engine.generate('x')\n    except EngineDead:\n        sys.exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "print(len(engine.generate('x', {'max_new_tokens': 2}).token_ids))"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.stdout.split() == ["7", "2"], done.stderr


def test_an_impossible_pool_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        Engine(num_pages=1 << 40)
    assert refused.value.field == "num_pages"
    with pytest.raises(InvalidRequest) as refused:
        Engine(overlap="no")
    assert refused.value.field == "overlap"


def test_a_script_that_forgets_to_close_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from forktree.runtime import Engine\n"
        "engine = Engine(num_pages=64)\n"
        "print(engine.pid)\n"
        "engine.generate('x', {'max_new_tokens': 1})\n"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    assert _is_gone(int(done.stdout))


def test_an_engine_ends_when_its_client_is_killed(tmp_path: Path) -> None:
    code = (
        "import time; from forktree.runtime import Engine\n"
        "engine = Engine(num_pages=64); print(engine.pid, flush=True); time.sleep(600)"
    )
    root = str(Path(__file__).parents[3])
    client = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert client.stdout is not None
    pid = int(client.stdout.readline())
    client.kill()
    client.wait()
    client.stdout.close()
    assert _is_gone(pid)


def _is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False
