"""Prompts -> token ids, checked.  Large texts are worked on in a thread: the event loop serves everyone.

Here: every form a prompt comes in.  Not here: the tokenizer and the chat template, which are the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ContextLengthExceeded, InvalidRequest

if TYPE_CHECKING:
    from .engine_api import ServingEngine

INLINE_CHARACTERS = 2048  # tokenizing less than this takes less time than the way to a thread and back
CHARACTERS_PER_TOKEN = 8  # of a text of over twice as many per token of context, a part is looked at first
EMPTY = "is empty; a model needs at least one token to go on from"  # the engine's own words

Prompt = str | Sequence[int] | Sequence[str | Sequence[int]]


async def prompt_ids(engine: ServingEngine, prompt: Prompt, field: str) -> list[int]:
    """Token ids of a prompt; each text part is tokenized by itself, ids are held to the vocabulary.

    As in the engine's own encoding, a begin-of-sequence token comes before plain text if the model wants it so."""
    info = engine.info
    parts = [prompt] if isinstance(prompt, str) else prompt
    ids: list[int] = []
    for part in parts:
        if isinstance(part, str):
            ids.extend(await _tokenize(engine, part, field))
        elif isinstance(part, int):
            ids.append(part)
        else:
            ids.extend(part)
    bad = next((token_id for token_id in ids if not 0 <= token_id < info.vocab_size), None)
    if bad is not None:
        raise InvalidRequest(field, f"token id {str(bad)[:32]} is not one of the vocabulary's {info.vocab_size}")
    starts_with_text = bool(parts) and isinstance(parts[0], str)
    if starts_with_text and info.add_bos and info.bos_token_id is not None and ids[:1] != [info.bos_token_id]:
        ids.insert(0, info.bos_token_id)
    if not ids:
        raise InvalidRequest(field, EMPTY)
    return ids


async def chat_ids(engine: ServingEngine, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Messages in the model's own chat format, up to where its answer begins. The template says where a text begins."""
    if sum(len(message["content"]) for message in messages) < INLINE_CHARACTERS:
        text = engine.apply_chat_template(messages)
    else:
        text = await asyncio.to_thread(engine.apply_chat_template, messages)
    ids = await _tokenize(engine, text, "messages")
    if not ids:
        raise InvalidRequest("messages", EMPTY)
    return ids


async def _tokenize(engine: ServingEngine, text: str, field: str) -> list[int]:
    """Off the loop where it takes long, and no further than it takes to see that a text can't fit."""
    context = engine.info.context_length
    if len(text) < INLINE_CHARACTERS:
        return engine.tokenize(text)
    start = context * CHARACTERS_PER_TOKEN
    if len(text) > 2 * start:
        num_tokens = len(await asyncio.to_thread(engine.tokenize, text[:start]))
        if num_tokens > context + context // 8:  # cutting a text changes the tokens at the cut, not so many
            raise ContextLengthExceeded(num_tokens, context, field)
    return await asyncio.to_thread(engine.tokenize, text)
