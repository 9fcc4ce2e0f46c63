"""Prompts -> token ids, chat messages -> text, for one model. On the client's side: large ones never hold up a step.

Imported by the Engine facade; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InvalidRequest
from .chat_template import ChatTemplate
from .messages import ModelInfo
from .prompt_text import TextEncoder, is_token_id
from .tokenizer import Tokenizer

Prompt = str | Sequence[int] | Sequence[str | Sequence[int]]
"""Text, token ids, or parts of both: each text part is tokenised by itself, ids pass through."""


class Prompts:
    """Tokenizer and chat template of the model that `info` describes."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self.tokenizer = Tokenizer(Path(info.tokenizer_path))
        self._encoder = TextEncoder(self.tokenizer, info)
        self._template: ChatTemplate | None = None
        if info.chat_template is not None:
            self._template = make_chat_template(
                info.chat_template, self.tokenizer, bos=info.bos_token_id, eos=info.eos_token_ids
            )

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; a model that wants it gets its begin-of-sequence token before plain text.

        Raises InvalidRequest(field="prompt") for anything but text, token ids and parts of both."""
        if isinstance(prompt, str):
            return self._encoder.with_bos(self._encoder.encode(prompt))
        if not isinstance(prompt, (list, tuple)):
            raise InvalidRequest("prompt", f"got {type(prompt).__name__}, wanted text, token ids, or a list of both")
        ids: list[int] = []
        for part in prompt:
            if isinstance(part, str):
                ids += self._encoder.encode(part)
            elif is_token_id(part):
                ids.append(part)
            elif isinstance(part, (list, tuple)) and all(map(is_token_id, part)):
                ids += part
            else:
                raise InvalidRequest("prompt", f"got a part {part!r:.60}, wanted text or token ids")
        starts_with_text = len(prompt) > 0 and isinstance(prompt[0], str)
        return self._encoder.with_bos(ids) if starts_with_text else ids

    def encode_continuation(self, tail: str | Sequence[int]) -> list[int]:
        """Token ids of text that goes on from something: no begin-of-sequence token."""
        return self._encoder.encode_continuation(tail)

    def start_ids(self) -> list[int]:
        """What stands before a text that nothing precedes."""
        return self._encoder.start_ids()

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool, **variables: Any
    ) -> str:
        if self._template is None:
            raise InvalidRequest("messages", f"{self._info.name} has no chat template; send a plain prompt instead")
        return self._template.render(messages, add_generation_prompt=add_generation_prompt, **variables)


def make_chat_template(source: str, tokenizer: Tokenizer, *, bos: int | None, eos: Sequence[int]) -> ChatTemplate:
    return ChatTemplate(
        source,
        bos=tokenizer.text_of(bos) if bos is not None else "",
        eos=tokenizer.text_of(eos[0]) if eos else "",
    )
