"""Text of an output as its tokens arrive: characters, stops, what is held back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktree.runtime.engine.output import Finish, OutputStream
from forktree.runtime.request import Request
from forktree.runtime.sampling_params import SamplingParams
from tests.support.byte_tokenizer import ByteTokenizer

EOS = 0


def play(text: str | bytes, *, special: tuple[int, ...] = (EOS,), **fields: object) -> tuple[list[str], Finish | None]:
    """Feed the bytes of `text` one token each; the pieces a streaming client gets, and the finish."""
    tokens = list(text.encode() if isinstance(text, str) else text)
    params = SamplingParams(**{"max_new_tokens": len(tokens) + 1, **fields})  # type: ignore[arg-type]
    request = Request.create(1, [65], params, seed=0, eos_token_ids=(EOS,))
    stream = OutputStream(request, ByteTokenizer(special), stream=True)
    pieces = []
    for token in tokens:
        request.append(token)
        finish = stream.push(token, None)
        output = stream.take(finish)
        pieces.append(output.text if output else "")
        if finish is not None:
            return pieces, finish
    return pieces, None


def test_a_character_is_never_split() -> None:
    pieces, _ = play("aé日🎉", max_new_tokens=10)
    assert pieces == ["a", "", "é", "", "", "日", "", "", "", "🎉"]


def test_an_output_that_ends_inside_a_character_says_so() -> None:
    pieces, finish = play("é".encode()[:1], max_new_tokens=1)
    assert "".join(pieces) == "\ufffd"
    assert finish == Finish("length")


def test_a_stop_string_ends_the_output_and_never_leaks() -> None:
    pieces, finish = play("one END two", stop=("END",))
    assert "".join(pieces) == "one "
    assert finish == Finish("stop", "END")
    assert all("E" not in piece for piece in pieces)


def test_text_held_back_for_a_stop_that_does_not_come_arrives() -> None:
    pieces, finish = play("one ENoch", stop=("END",), max_new_tokens=9)
    assert "".join(pieces) == "one ENoch"
    assert finish == Finish("length")


def test_no_stop_trim_keeps_the_stop() -> None:
    assert "".join(play("one END two", stop=("END",), no_stop_trim=True)[0]) == "one END"


def test_the_earliest_stop_wins() -> None:
    pieces, finish = play("abcd", stop=("cd", "bc"))
    assert ("".join(pieces), finish) == ("a", Finish("stop", "bc"))


def test_a_stop_pattern_ends_the_output_and_never_leaks() -> None:
    pieces, finish = play("total 12.5 euro", stop_regex=(r"\d+\.\d",))
    assert "".join(pieces) == "total "
    assert finish == Finish("stop", r"\d+\.\d")
    assert all("1" not in piece for piece in pieces)


def test_an_end_of_sequence_token_leaves_no_text() -> None:
    pieces, finish = play(b"hi\x00")
    assert ("".join(pieces), finish) == ("hi", Finish("stop", EOS))


def test_ignore_eos_goes_on() -> None:
    pieces, finish = play(b"hi\x00yo", ignore_eos=True, max_new_tokens=5)
    assert ("".join(pieces), finish) == ("hiyo", Finish("length"))


def test_a_stop_token_ends_the_output() -> None:
    pieces, finish = play(b"ab!", stop_token_ids=(ord("b"),))
    assert ("".join(pieces), finish) == ("a", Finish("stop", ord("b")))


@pytest.mark.parametrize(("text", "kept"), [("ab", [97, 98]), ("ab END", [97, 98, 32])])
def test_kept_tokens_spell_the_text(text: str, kept: list[int]) -> None:
    request = Request.create(
        1, [65], SamplingParams(max_new_tokens=len(text), stop=("END",)), seed=0, eos_token_ids=(EOS,)
    )
    stream = OutputStream(request, ByteTokenizer(), stream=False)
    for token in text.encode():
        request.append(token)
        finish = stream.push(token, None)
    output = stream.take(finish)
    assert output is not None
    assert output.kept_token_ids == kept


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_streamed_text_is_the_text_before_the_first_stop(text: str, stops: list[str]) -> None:
    tokens = text.encode()
    if EOS in tokens:
        return
    pieces, _ = play(text, special=(), stop=tuple(stops), max_new_tokens=max(len(tokens), 1))
    ends = [end for stop in stops if (end := _completed(text, stop)) is not None]
    cut = min(ends, default=None)
    if cut is None:
        assert "".join(pieces) == text
    else:
        first = min(at for stop in stops if (at := text[:cut].find(stop)) >= 0)
        assert "".join(pieces) == text[:first]


def _completed(text: str, stop: str) -> int | None:
    """How many characters have arrived when `stop` is complete for the first time."""
    at = text.find(stop)
    return None if at < 0 else at + len(stop)
