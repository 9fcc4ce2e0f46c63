"""Which architecture is which class.  An architecture that is not listed is refused, never guessed at."""

from __future__ import annotations

from ..errors import ModelLoadError
from .causal_lm import CausalLM
from .config import JsonConfig, ModelConfig
from .llama import Llama
from .mistral import Mistral
from .qwen2 import Qwen2
from .qwen3 import Qwen3

_FAMILIES: dict[str, type[CausalLM]] = {
    architecture: family for family in (Llama, Mistral, Qwen2, Qwen3) for architecture in family.architectures
}
SUPPORTED = tuple(_FAMILIES)


def family_of(config: JsonConfig) -> tuple[type[CausalLM], ModelConfig]:
    """The class for a config.json, and its parsed config."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    family = _FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise ModelLoadError(
            config.path,
            f"architecture {name!r} is not supported" if name else 'no "architectures" that says what the model is',
            f"Supported are {', '.join(SUPPORTED)}.",
        )
    return family, family.parse_config(config)
