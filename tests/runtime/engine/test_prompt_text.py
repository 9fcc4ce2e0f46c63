"""A prompt that grows in the engine is the prompt in parts that a program would have sent, token for token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forktree.lang.ahead import prompt_digest
from forktree.lang.prompt import BranchText
from forktree.runtime.engine.messages import ModelInfo
from forktree.runtime.engine.prompt_text import PromptText, TextEncoder
from forktree.runtime.engine.prompts import Prompts
from forktree.runtime.models import resolve_model

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "a", "ab", "The capital", " of", "\n", "<|im_start|>", "<|im_end|>\n", "é", "日本", "🎄"]
    ),
)
STEPS = st.lists(st.tuples(st.sampled_from(["text", "output", "spelled"]), TEXTS), max_size=8)


@pytest.fixture(scope="module")
def info() -> ModelInfo:
    files = resolve_model(None)
    ids = tuple(files.eos_token_ids)
    return ModelInfo("m", "", 8192, 49152, ids, 1, False, None, None, str(files.tokenizer_json), 1, 1)


@pytest.mark.parametrize("add_bos", [False, True])
@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_a_prompt_in_pieces_is_the_prompt_in_parts(
    info: ModelInfo, add_bos: bool, steps: list[tuple[str, str]]
) -> None:
    info = msgspec.structs.replace(info, add_bos=add_bos)
    prompts = _prompts(info)
    grown, text = PromptText(TextEncoder(prompts.tokenizer, info)), BranchText()
    for kind, piece in steps:
        before = grown.token_ids(), grown.digest()
        if kind == "text":
            added = grown.with_text(piece)
            text.add_constant(piece)
        else:  # an output, whose tokens spell its text or don't
            ids = prompts.tokenizer.encode(piece) if kind == "spelled" else None
            added = grown.with_output(piece, ids)
            text.add_generated(piece, tuple(ids) if ids is not None else None)
        assert (grown.token_ids(), grown.digest()) == before  # it never changes
        grown = added
    parts: list[Any] = list(text.prompt())
    assert grown.token_ids() == prompts.encode([list(p) if not isinstance(p, str) else p for p in parts] or "")
    assert grown.digest() == prompt_digest(parts)


@given(st.lists(st.one_of(TEXTS, st.lists(st.integers(0, 2**31 - 1), max_size=4)), max_size=5))
def test_digests_tell_prompts_apart(parts: list[Any]) -> None:
    assert prompt_digest(parts) == prompt_digest([tuple(p) if isinstance(p, list) else p for p in parts])
    for i, part in enumerate(parts):
        assert prompt_digest(parts) != prompt_digest([*parts[:i], *parts[i + 1 :]])
        if isinstance(part, str) and len(part) > 1:
            assert prompt_digest(parts) != prompt_digest([*parts[:i], part[:1], part[1:], *parts[i + 1 :]])


_known: dict[bool, Prompts] = {}


def _prompts(info: ModelInfo) -> Prompts:
    """The tokenizer is read once."""
    if info.add_bos not in _known:
        assert Path(info.tokenizer_path).exists()
        _known[info.add_bos] = Prompts(info)
    return _known[info.add_bos]
