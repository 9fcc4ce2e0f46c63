"""POST /tokenize: what a text is to the model, for clients that count tokens before they send them.

    {"prompt": "a text" | ["several", "texts"], "add_special_tokens": false}   or   {"prompt_parts": ["a text", [1, 2]]}

Here: the request and its answer.  Not here: the tokenizer, which is the engine's."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from ..errors import InvalidRequest
from ..sampling_params import require_text
from .body import convert, present, read_object
from .http import SERVICE, reply
from .prompts import INLINE_CHARACTERS, prompt_ids


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """add_special_tokens: with what the model's prompts begin with; parts are one prompt and always have it."""

    prompt: str | list[str] | None = None
    prompt_parts: list[str | list[int]] | None = None
    add_special_tokens: bool = True
    model: str | None = None


async def tokenize(request: web.Request) -> web.Response:
    """Token ids: a list for one text, a list of lists for a list of texts; and how many."""
    service = request.app[SERVICE]
    with service.admitted() as engine:
        body = await read_object(request, service.config.max_body_bytes, service.config.body_seconds)
        asked = convert(present(body), TokenizeRequest)
        service.check_model(asked.model)
        if (asked.prompt is None) == (asked.prompt_parts is None):
            raise InvalidRequest("prompt", "give one of prompt and prompt_parts")
        answer: dict[str, Any] = {"max_model_len": engine.info.context_length}
        if asked.prompt_parts is not None:
            tokens = await prompt_ids(engine, asked.prompt_parts, "prompt_parts")
            return reply({**answer, "tokens": tokens, "count": len(tokens)})
        assert asked.prompt is not None
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        for text in texts:
            require_text("prompt", text)
        bos = [engine.info.bos_token_id] if engine.info.add_bos and asked.add_special_tokens else []
        if sum(map(len, texts)) < INLINE_CHARACTERS:
            found = [engine.tokenize(text) for text in texts]
        else:
            found = await asyncio.to_thread(lambda: [engine.tokenize(text) for text in texts])
        found = [ids if ids[:1] == bos else [*bos, *ids] for ids in found]  # type: ignore[list-item]  # add_bos: there is one
    one = isinstance(asked.prompt, str)
    counts = [len(ids) for ids in found]
    return reply({**answer, "tokens": found[0] if one else found, "count": counts[0] if one else counts})
