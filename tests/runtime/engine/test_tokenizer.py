"""The default model's tokenizer against `tokenizers`, and the bytes of other kinds of vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import decoders, models

from forktree.runtime import ModelLoadError
from forktree.runtime.engine.tokenizer import Detokenizer, Tokenizer
from forktree.runtime.models import resolve_model


@pytest.fixture(scope="module")
def paths() -> Path:
    return resolve_model(None).tokenizer_json


@pytest.fixture(scope="module")
def tokenizer(paths: Path) -> Tokenizer:
    return Tokenizer(paths)


@pytest.fixture(scope="module")
def oracle(paths: Path) -> HfTokenizer:
    return HfTokenizer.from_file(str(paths))


@given(text=st.text())
def test_text_survives_the_round_trip_token_by_token(tokenizer: Tokenizer, oracle: HfTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids == oracle.encode(text, add_special_tokens=False).ids
    back = oracle.decode(ids, skip_special_tokens=False)  # the text, but for bytes this vocabulary lacks
    assert tokenizer.decode(ids, skip_special_tokens=False) == back
    detokenizer = Detokenizer(tokenizer, skip_special_tokens=False)
    assert "".join([*map(detokenizer.push, ids), detokenizer.finish()]) == back


def test_every_token_decodes_as_tokenizers_decodes_it(tokenizer: Tokenizer, oracle: HfTokenizer) -> None:
    ids = list(range(0, tokenizer.vocab_size, 7))
    expected = oracle.decode_batch([[id] for id in ids], skip_special_tokens=False)
    assert [tokenizer.text_of(id) for id in ids] == expected


def test_special_tokens_are_recognised_in_text_and_left_out_of_output(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("<|im_start|>hi<|im_end|>")
    assert len(ids) == 3
    assert tokenizer.decode(ids) == "hi"
    assert tokenizer.vocabulary()[ids[0]] is None


def test_ids_past_the_vocabulary_spell_nothing(tokenizer: Tokenizer) -> None:
    assert tokenizer.bytes_of(tokenizer.vocab_size + 5) == b""


def test_sentencepiece_vocabularies_spell_spaces_and_bytes(tmp_path: Path) -> None:
    model = HfTokenizer(models.BPE({"▁the": 0, "<0xC3>": 1, "<0xA9>": 2, "a": 3}, [], byte_fallback=True))
    model.decoder = decoders.Sequence(  # type: ignore[attr-defined]
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    model.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.decode([0, 3, 1, 2]) == " theaé"


@pytest.mark.parametrize("content", ["", "{}", "[1, 2]", '{"model": 5}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ModelLoadError) as refused:
        Tokenizer(path)
    assert refused.value.path == str(path)
