"""Prompts -> token ids, chat messages -> text, for one model. On the client's side: large ones never hold up a step.

Imported by the Engine facade; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from ..sampling_params import require_text
from .chat_template import ChatTemplate
from .messages import ModelInfo
from .tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[str | Sequence[int]]
"""Text, token ids, or parts of both: each text part is tokenised by itself, ids pass through."""


class Prompts:
    """Tokenizer and chat template of the model that `info` describes."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self.tokenizer = Tokenizer(Path(info.tokenizer_path))
        self._template: ChatTemplate | None = None
        if info.chat_template is not None:
            self._template = make_chat_template(
                info.chat_template, self.tokenizer, bos=info.bos_token_id, eos=info.eos_token_ids
            )

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; a model that wants it gets its begin-of-sequence token before plain text.

        Raises InvalidRequest(field="prompt") for anything but text, token ids and parts of both."""
        if isinstance(prompt, str):
            return self._with_bos(self._encode_text(prompt))
        if not isinstance(prompt, (list, tuple)):
            raise InvalidRequest("prompt", f"got {type(prompt).__name__}, wanted text, token ids, or a list of both")
        ids: list[int] = []
        for part in prompt:
            if isinstance(part, str):
                ids += self._encode_text(part)
            elif _is_id(part):
                ids.append(part)
            elif isinstance(part, (list, tuple)) and all(map(_is_id, part)):
                ids += part
            else:
                raise InvalidRequest("prompt", f"got a part {part!r:.60}, wanted text or token ids")
        starts_with_text = len(prompt) > 0 and isinstance(prompt[0], str)
        return self._with_bos(ids) if starts_with_text else ids

    def encode_continuation(self, tail: str | Sequence[int]) -> list[int]:
        """Token ids of text that goes on from something: no begin-of-sequence token."""
        if isinstance(tail, str):
            require_text("continuations", tail)
            return self.tokenizer.encode(tail)
        if not all(map(_is_id, tail)):
            raise InvalidRequest("continuations", f"got {tail!r:.60}, wanted text or token ids")
        return list(tail)

    def start_ids(self) -> list[int]:
        """What stands before a text that nothing precedes."""
        info = self._info
        return [info.bos_token_id] if info.bos_token_id is not None else list(info.eos_token_ids[:1])

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool, **variables: Any
    ) -> str:
        if self._template is None:
            raise InvalidRequest("messages", f"{self._info.name} has no chat template; send a plain prompt instead")
        return self._template.render(messages, add_generation_prompt=add_generation_prompt, **variables)

    def _encode_text(self, text: str) -> list[int]:
        require_text("prompt", text)
        return self.tokenizer.encode(text)

    def _with_bos(self, ids: list[int]) -> list[int]:
        bos = self._info.bos_token_id
        if not self._info.add_bos or bos is None or ids[:1] == [bos]:
            return ids
        return [bos, *ids]


def make_chat_template(source: str, tokenizer: Tokenizer, *, bos: int | None, eos: Sequence[int]) -> ChatTemplate:
    return ChatTemplate(
        source,
        bos=tokenizer.text_of(bos) if bos is not None else "",
        eos=tokenizer.text_of(eos[0]) if eos else "",
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
