"""The text of a branch as parts: what merges, what stays tokens, what can be cut out of it."""

from __future__ import annotations

import random

from forktree.lang.prompt import BranchText, Segment


def test_constant_text_merges_and_generated_text_does_not() -> None:
    text = BranchText()
    text.add_constant("a")
    text.add_constant("b")
    text.add_generated("cd", (1, 2))
    text.add_constant("e")
    text.add_constant("")
    text.add_constant("f")
    text.add_generated("g", None)
    assert text.prompt() == ("ab", (1, 2), "ef", "g")
    assert (text.text(), text.length) == ("abcdefg", 7)


def test_an_empty_output_leaves_no_part() -> None:
    text = BranchText()
    text.add_constant("a")
    text.add_generated("", ())
    text.add_constant("b")
    assert text.prompt() == ("ab",)


def test_copies_grow_apart() -> None:
    text = BranchText()
    text.add_constant("a")
    copy = text.copy()
    text.add_constant("b")
    copy.add_constant("c")
    assert (text.prompt(), copy.prompt()) == (("ab",), ("ac",))


def test_a_generation_leaves_everything_before_it_in_the_cache() -> None:
    text = BranchText()
    text.add_constant("abc")
    assert text.cached_length == 0
    text.add_generated("d", (1,))
    assert text.cached_length == text.length == 4
    text.add_constant("e")
    assert text.copy().cached_length == 4


def test_segments_from_any_character_are_the_rest_of_the_text() -> None:
    """Against a plain string, with random pieces."""
    source = random.Random(0)
    for _ in range(200):
        text, plain = BranchText(), ""
        for _ in range(source.randrange(6)):
            piece = "".join(source.choice("abc") for _ in range(source.randrange(4)))
            if source.random() < 0.5:
                text.add_constant(piece)
            else:
                text.add_generated(piece, tuple(map(ord, piece)) if source.random() < 0.5 else None)
            plain += piece
        assert (text.text(), text.length) == (plain, len(plain))
        for start in range(len(plain) + 1):
            segments = text.segments(start)
            assert "".join(segment.text for segment in segments) == plain[start:]
            for segment in segments:
                if segment.token_ids is not None:
                    assert "".join(map(chr, segment.token_ids)) == segment.text


def test_segments_of_another_branch_are_taken_over_as_they_are() -> None:
    text = BranchText()
    text.add_constant("a")
    text.add_segments((Segment("b"), Segment("c", (3,), False), Segment("d")))
    assert text.prompt() == ("ab", (3,), "d")
