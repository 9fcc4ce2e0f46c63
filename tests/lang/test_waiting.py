"""Promises, and programs that wait without holding a thread."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from functools import partial

import pytest

from forktree.lang.feed import Feed
from forktree.lang.loop import LoopThread
from forktree.lang.waiting import ProgramGreenlet, Promise, first_of, until_done, wait


def test_a_promise_is_set_once() -> None:
    promise = Promise()
    promise.set(1)
    promise.set(2)
    promise.fail(ValueError())
    assert promise.result() == 1


def test_a_failed_promise_raises_its_error_every_time_without_a_growing_traceback() -> None:
    promise = Promise()
    promise.fail(ValueError("x"))
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match="x") as caught:
            promise.result()
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1


def test_callbacks_run_exactly_once_whether_added_before_or_after() -> None:
    promise = Promise()
    calls = []
    promise.add_callback(lambda: calls.append("before"))
    promise.set()
    promise.add_callback(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_no_callback_is_lost_or_doubled_when_threads_race() -> None:
    for _ in range(200):
        promise = Promise()
        calls: list[int] = []
        setter = threading.Thread(target=promise.set)
        setter.start()
        for i in range(20):
            promise.add_callback(partial(calls.append, i))
        setter.join()
        assert sorted(calls) == list(range(20))


def test_the_first_of_several_is_done_with_the_first() -> None:
    a, b = Promise(), Promise()
    first = first_of((a, b))
    assert not first.done
    b.fail(ValueError())
    assert first.done
    assert first.result() is None


def test_a_thread_blocks_until_another_keeps_the_promise() -> None:
    promise = Promise()
    threading.Timer(0.01, promise.set, ["value"]).start()
    assert wait(promise) == "value"


def test_a_driven_program_hands_out_what_it_waits_for() -> None:
    first, second = Promise(), Promise()
    program = ProgramGreenlet(lambda: wait(first) + wait(second))
    assert program.resume() is first
    first.set(1)
    assert program.resume() is second
    second.set(2)
    assert program.resume() is None
    assert program.outcome.result() == 3


def test_killing_a_program_runs_its_finally_and_nothing_else() -> None:
    steps = []

    def body() -> None:
        try:
            until_done(Promise())
        except Exception:
            steps.append("except")
        finally:
            steps.append("finally")

    program = ProgramGreenlet(body)
    program.resume()
    program.kill()
    assert (program.dead, steps) == (True, ["finally"])


def test_a_waiting_program_that_is_dropped_is_ended_and_freed() -> None:
    ended = []

    class Held:
        pass

    held = Held()

    def body() -> None:
        kept = held  # on the suspended stack only
        try:
            until_done(Promise())
        finally:
            ended.append(kept is not None)

    program = ProgramGreenlet(body)
    program.resume()
    alive = weakref.ref(program)
    del program
    gc.collect()
    assert alive() is None
    assert ended == [True]


def test_a_feed_loses_no_piece_between_looking_and_waiting() -> None:
    for _ in range(50):
        feed = Feed()
        pieces = []

        def write(feed: Feed = feed) -> None:
            for i in range(50):
                feed.push(str(i))
            feed.close()

        writer = threading.Thread(target=write)
        writer.start()
        while True:
            closed, new = feed.closed, feed.pieces[len(pieces) :]
            pieces.extend(new)
            if not new:
                if closed:
                    break
                wait(feed.changed(len(pieces)))
        writer.join()
        assert [text for text, _ in pieces] == [str(i) for i in range(50)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_process_starts_its_own_loop() -> None:
    """In an interpreter of its own, since forking one with threads warns."""
    code = """
import os, warnings
warnings.simplefilter("ignore")
import forktree as ft
from tests.support.scripted_backend import ScriptedBackend
program = ft.function(lambda s: s.__iadd__("a" + ft.gen("x")))
assert program.run(backend=ScriptedBackend()).text() == "aok"
child = os.fork()
if child == 0:
    os._exit(0 if program.run(backend=ScriptedBackend()).text() == "aok" else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.slow
def test_without_uvloop_the_background_loop_is_asyncios_own() -> None:
    code = """
import asyncio, sys
sys.modules["uvloop"] = None  # as if it were not installed
import forktree as ft
from forktree.lang.loop import loop_thread
from tests.support.scripted_backend import ScriptedBackend

async def kind():
    return type(asyncio.get_running_loop()).__module__

program = ft.function(lambda s: s.__iadd__("a" + ft.gen("x")))
assert [state.text() for state in program.run_batch([{}] * 3, backend=ScriptedBackend())] == ["aok"] * 3
assert loop_thread().call(kind()).startswith("asyncio.")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


def test_many_posts_wake_the_loop_in_order() -> None:
    loop = LoopThread()
    seen: list[int] = []
    done = Promise()
    for i in range(1000):
        loop.post(partial(seen.append, i))
    loop.post(done.set)
    wait(done)
    assert seen == list(range(1000))
