"""ft.testing.record and replay: a run, and the same run again without a model."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import forktree as ft
from forktree.lang.backends.protocol import EVERYTHING, Backend, Chunk, GenerateRequest, SamplingParams, Score, Timing
from forktree.lang.loop import loop_thread
from forktree.testing import (
    HANG,
    RecordingError,
    ReplayMismatch,
    Reply,
    ScriptedBackend,
    record,
    replay,
    requests_of,
)
from tests.support.scripted_backend import wait_until


@ft.function
def program(s: ft.ProgramState, topic: str, sure: bool = True) -> None:
    s += ft.system("Be brief.") + ft.user("About " + topic)
    s += ft.assistant_begin() + ft.gen("facts", n=2, return_logprob=True, top_logprobs_num=1)
    forks = s.fork(3)
    for index, fork in enumerate(forks):
        fork += f" {index}: " + ft.gen("part", temperature=0.5, seed=index)
    forks.join()
    s += ft.select("kind", ["good", "bad"], choices_method=ft.unconditional_likelihood_normalized)
    s += ft.gen("end", stop="." if sure else "!")
    s += ft.assistant_end()


def recorded(path: Path, backend: ScriptedBackend | None = None, **options: Any) -> ft.ProgramState:
    backend = backend or ScriptedBackend(lambda prompt, request: f"<{len(prompt)},{request.sampling.seed}>")
    with record(path, backend) as recording:
        return program.run("tea", backend=recording, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_replay_gives_the_same_run_without_the_backend(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = recorded(path, seed=7)
    backend = replay(path)
    again = program.run("tea", backend=backend, seed=7)
    assert again.text() == first.text()
    for name in ("facts", "part", "kind", "end"):
        assert again[name] == first[name]
        ours, theirs = again.get_meta_info(name), first.get_meta_info(name)
        assert _without_ids(ours) == _without_ids(theirs)
    assert backend.unused == []


def _without_ids(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: _without_ids(value) for name, value in found.items() if name != "id"}
    return [_without_ids(each) for each in found] if isinstance(found, list) else found


def test_a_line_says_who_asked_what_and_what_came_when(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path)
    header, *rest = lines(path)
    assert (header["format"], header["version"]) == ("forktree.recording", 1)
    assert [line["kind"] for line in rest].count("generate") == 2 + 3 + 1
    part = next(line for line in rest if line.get("place") and line["place"]["variable"] == "part")
    assert part["place"]["source"].startswith(__file__)
    assert part["place"]["path"]
    assert part["prompt"]["text"].endswith(" 0: ")
    assert "<" in part["prompt"]["text"], "generated tokens are shown as their text"
    assert part["sampling"]["temperature"] == 0.5
    assert part["asked"] <= part["chunks"][0]["at"] <= part["ended"]
    assert part["chunks"][-1]["usage"][0] == len(part["prompt"]["text"])


def test_order_does_not_matter_and_equal_requests_come_in_theirs(tmp_path: Path) -> None:
    @ft.function
    def several(s: ft.ProgramState, names: list[str]) -> None:
        forks = s.fork(len(names))
        forks += [name + ft.gen("a") for name in names]
        forks.join()

    path = tmp_path / "run.jsonl"
    with record(path, ScriptedBackend({"x": ["1", "2"], "y": "3"})) as recording:
        assert several.run(["x", "y", "x"], backend=recording)["a"] == ["1", "3", "2"]
    assert several.run(["y", "x", "x"], backend=replay(path))["a"] == ["3", "1", "2"]


def test_streams_come_in_the_pieces_they_came_in(tmp_path: Path) -> None:
    async def pieces(backend: Backend) -> list[Chunk]:
        request = GenerateRequest(("go ",), SamplingParams(), stream=True, return_logprob=True)
        return [chunk async for chunk in backend.generate(request)]

    path = tmp_path / "run.jsonl"
    with record(path, ScriptedBackend("one two three", chunk_size=4)) as recording:
        first = loop_thread().call(pieces(recording))
    assert [chunk.text for chunk in first] == ["one ", "two ", "thre", "e", ""]
    assert loop_thread().call(pieces(replay(path))) == first


def test_errors_are_raised_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    refused = ft.RequestRefused("too long", field="prompt", code="c", status=413)
    for error in (refused, ft.BackendTimeout("slow"), ValueError("a bug")):
        with pytest.raises(ft.GenerationError):
            recorded(path, ScriptedBackend(error))
        with pytest.raises(ft.GenerationError, match=str(error)) as caught:
            program.run("tea", backend=replay(path))
        kind = type(error) if isinstance(error, ft.BackendError) else ft.BackendError
        assert type(caught.value.cause) is kind
    with pytest.raises(ft.GenerationError):
        recorded(path, ScriptedBackend(refused))
    with pytest.raises(ft.GenerationError) as caught:
        program.run("tea", backend=replay(path))
    assert isinstance(caught.value.cause, ft.RequestRefused)
    assert (caught.value.cause.field, caught.value.cause.code, caught.value.cause.status) == ("prompt", "c", 413)


def test_text_before_an_error_is_replayed_too(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with pytest.raises(ft.GenerationError):
        recorded(path, ScriptedBackend(Reply("half", error=ft.BackendError("cut off"))))
    state = program.stream("tea", backend=replay(path))
    pieces = state.text_iter("facts")
    assert next(pieces).startswith("half"[:3])
    with pytest.raises(ft.GenerationError, match="cut off"):
        list(pieces)


def test_another_prompt_is_a_mismatch_that_shows_where_it_parts(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path)
    with pytest.raises(ft.GenerationError) as caught:
        program.run("toast", backend=replay(path))
    mismatch = caught.value.cause
    assert isinstance(mismatch, ReplayMismatch)
    assert mismatch.nearest is not None
    assert mismatch.prompt[: mismatch.offset].endswith("About t")
    assert mismatch.prompt[: mismatch.offset] == mismatch.nearest[: mismatch.offset]
    message = str(mismatch)
    assert "'facts' at " in message
    assert "test_recording.py" in message
    assert "'ea<|im_end|>" in message
    assert "'oast<|im_end|>" in message


def test_other_options_are_a_mismatch_that_names_them_and_are_let_pass_if_not_strict(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    first = recorded(path)
    with pytest.raises(ft.GenerationError, match=r"'end' at .*other options.*: stop \['!', .*, not \['\.', "):
        program.run("tea", False, backend=replay(path))
    assert program.run("tea", False, backend=replay(path, strict=False)).text() == first.text()


def test_a_request_too_many_is_said(tmp_path: Path) -> None:
    @ft.function
    def one(s: ft.ProgramState) -> None:
        s += "go " + ft.gen("a")

    path = tmp_path / "run.jsonl"
    with record(path, ScriptedBackend(["1", "2"])) as recording:
        one.run_batch([{}, {}], backend=recording)
    backend = replay(path)
    assert sorted(state["a"] for state in one.run_batch([{}, {}], backend=backend)) == ["1", "2"]
    with pytest.raises(ft.GenerationError, match=r"'a' at .* asked once more for what .* has 2 times"):
        one.run(backend=backend)
    loose = replay(path, strict=False)
    assert [one.run(backend=loose)["a"] for _ in range(3)] == ["1", "2", "2"]


def test_a_cancelled_request_is_recorded_as_such_and_cancelled_again(tmp_path: Path) -> None:
    @ft.function
    def gives_up(s: ft.ProgramState) -> None:
        s += ft.gen("a")
        wait_until(lambda: backend.num_running == 1)
        s.cancel()

    backend = ScriptedBackend(HANG)
    path = tmp_path / "run.jsonl"
    with record(path, backend) as recording:
        with pytest.raises(ft.ProgramCancelled):
            gives_up.run(backend=recording).text()
        wait_until(lambda: backend.num_running == 0)
    assert lines(path)[-1]["cancelled"] is True
    backend.num_running = 1
    with pytest.raises(ft.ProgramCancelled):
        gives_up.run(backend=replay(path)).text()


def test_many_programs_are_recorded_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with record(path, ScriptedBackend(lambda prompt, request: prompt[-9:-3])) as recording:
        first = program.run_batch([(f"topic {i}",) for i in range(50)], backend=recording)
    again = program.run_batch([(f"topic {i}",) for i in reversed(range(50))], backend=replay(path))
    assert [state.text() for state in first] == [state.text() for state in reversed(again)]


def test_what_the_recorded_backend_could_not_do_is_refused_by_the_replay_too(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    limited = ScriptedBackend(capabilities=dataclasses.replace(EVERYTHING, token_ids=False, select=False))

    @ft.function
    def plain(s: ft.ProgramState) -> None:
        s += "a" + ft.gen("a") + "b" + ft.gen("b")

    with record(path, limited) as recording:
        plain.run(backend=recording)
    assert plain.run(backend=replay(path)).text() == "aokbok"

    @ft.function
    def chooses(s: ft.ProgramState) -> None:
        s += "a" + ft.select("a", ["b", "c"])

    with pytest.raises(ft.UnsupportedByBackend):
        chooses.run(backend=replay(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"run\.jsonl:1 is not the beginning of a recording"),
        ('{"format": "forktree.recording", "version": 2}\n', "is a recording of version 2, wanted 1"),
        ("HEADER\n[1]\n\n", r"run\.jsonl:2 is not a line of a recording"),
        ('HEADER\n{"kind": "dance", "id": 1}\n', "has a line of kind 'dance'"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "run.jsonl"
    record(path, ScriptedBackend()).close()
    path.write_text(content.replace("HEADER\n", path.read_text()))
    with pytest.raises(RecordingError, match=message):
        replay(path)


def test_a_last_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorded(path)
    whole = path.read_text()
    path.write_text(whole + '{"kind": "gene')
    assert len(replay(path).unused) == len(lines_of(whole))


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines()[1:] if '"kind": "model"' not in line]


def test_a_recording_is_the_work_of_a_scheduler(tmp_path: Path) -> None:
    """Token counts, and which request's prefix each could have used; a token of the script is a character."""

    @ft.function
    def tree(s: ft.ProgramState) -> None:
        s += "shared prefix, " + ft.gen("root")
        forks = s.fork(2)
        forks += [" left " + ft.gen("a"), " right " + ft.gen("a")]
        forks.join()

    path = tmp_path / "run.jsonl"
    with record(path, ScriptedBackend("12345")) as recording:
        tree.run(backend=recording)
        tree.run(backend=recording)
    root, *branches, again = requests_of(path)[:4]
    assert (root.prompt_tokens, root.completion_tokens, root.parent, root.shared_tokens) == (15, 5, None, 0)
    assert [each.parent for each in branches] == [root.id, branches[0].id]
    assert [each.shared_tokens for each in branches] == [20, 21]
    assert all(each.variable == "a" and each.path and each.arrived >= root.ended for each in branches)
    assert (again.shared_tokens, again.prompt_tokens) == (15, 15)


def test_times_of_calls_are_recorded_and_replayed(tmp_path: Path) -> None:
    class Timed(ScriptedBackend):
        async def generate(self, request: GenerateRequest) -> Any:
            async for chunk in super().generate(request):
                yield dataclasses.replace(chunk, timing=Timing(1.0, 2.0, 3.0, 4) if chunk.finish_reason else None)

        async def score(self, prompt: Any, continuations: Any) -> list[Score]:
            scores = await super().score(prompt, continuations)
            return [dataclasses.replace(score, timing=Timing(0.5, 0.25, 0.0, 9)) for score in scores]

    @ft.function
    def timed(s: ft.ProgramState) -> None:
        s += "x" + ft.gen("a") + ft.select("b", ["yes", "no"])

    path = tmp_path / "run.jsonl"
    with ft.testing.record(path, Timed("ok")) as recording:
        run = timed.run(backend=recording)
    again = timed.run(backend=ft.testing.replay(path))
    for name, num_computed in (("a", 4), ("b", 9)):
        meta, before = again.get_meta_info(name), run.get_meta_info(name)
        assert meta is not None
        assert before is not None
        times = ("queue_time", "prefill_time", "decode_time", "first_token_latency")
        assert [meta[each] for each in times] == [before[each] for each in times]
        assert meta["computed_tokens"] == before["computed_tokens"] == num_computed
