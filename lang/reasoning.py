"""What a model thinks and what it answers, told apart.

Here: the tags by kind of model, and where an output is cut.  Not here: separate_reasoning (api), what a gen does with
the parts (operations).  Imports errors only."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import ArgumentError

__all__ = ["ReasoningTags", "reasoning_name", "tags_of"]


@dataclass(frozen=True)
class ReasoningTags:
    """begins_open: the chat template has opened the thoughts already, so an output may begin inside them."""

    begin: str = "<think>"
    end: str = "</think>"
    begins_open: bool = False

    def split(self, text: str) -> tuple[str, str]:
        """Thoughts and answer.  Thoughts that were never closed, cut off by max_tokens for one, have no answer."""
        before, opened, rest = text.partition(self.begin)
        if not opened or before.strip():  # what stands before an opening tag is an answer, and the tag a part of it
            if not self.begins_open and self.end not in text:
                return "", text
            rest = text
        thoughts, _, answer = rest.partition(self.end)
        return thoughts.strip(), answer.lstrip()


_BY_MODEL = {
    "deepseek-r1": ReasoningTags(begins_open=True),
    "deepseek-v3": ReasoningTags(),
    "glm45": ReasoningTags(),
    "kimi": ReasoningTags("◁think▷", "◁/think▷"),
    "qwen3": ReasoningTags(),
    "qwen3-thinking": ReasoningTags(begins_open=True),
}


def tags_of(model_type: object, where: object) -> ReasoningTags:
    """Raises ArgumentError for a kind of model that is not known."""
    if model_type is None:
        return ReasoningTags()
    tags = _BY_MODEL.get(model_type) if isinstance(model_type, str) else None
    if tags is None:
        raise ArgumentError(f"model_type: got {model_type!r}, wanted one of {', '.join(_BY_MODEL)} (in {where})")
    return tags


def reasoning_name(name: str) -> str:
    return f"{name}_reasoning_content"
