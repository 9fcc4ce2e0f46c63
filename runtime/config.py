"""EngineConfig: all about an engine that is decided before it starts. Frozen, checked once; messages name the field.

Imported by the engine, the scheduler and the command line; imports only errors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from .errors import InvalidRequest

Policy = Literal["lpm", "dfs", "fcfs"]
GrammarBackend = Literal["forktree", "outlines"]
AttentionName = Literal["cpu", "reference"]
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Settings of one engine.

    model                 a Hugging Face directory, a .gguf file, or None for the default model
    dtype                 of weights, activations and KV
    attention             "cpu" (fast here) or "reference" (plain torch, the oracle)
    context_length        tokens of prompt and output of one request at most; None: what the model was made for
    kv_cache_bytes        memory of the KV pool, used where `num_pages` is None
    num_pages             pages of the KV pool; None: as many as fit in kv_cache_bytes
    page_size             tokens a page; 1 shares every common token, larger ones save bookkeeping
    max_running_requests  requests that hold pages at one time
    max_queued_requests   requests that wait at most; one more is refused
    step_tokens           token budget of one step: decode tokens first, then prefill
    prefill_chunk         tokens of one request's prefill in one step at most; None: the whole budget
    policy                what enters a step first: lpm (longest prefix match), dfs (depth first over the tree), fcfs
    grammar_backend       what compiles constraints: "forktree", or "outlines" (outlines-core, which covers less)
    prefix_cache          False computes every prompt from its first token
    overlap               True plans and finishes steps while the device runs; False is the plain loop
    jump_forward          True writes what a constraint leaves no choice about without sampling it, in the model's own
                          tokens; requests for log-probabilities or with a logit_bias sample every token all the same
    threads               for torch and numba; None: every core
    """

    model: str | None = None
    dtype: Dtype = "float32"
    attention: AttentionName = "cpu"
    context_length: int | None = None
    kv_cache_bytes: int = 1 << 30
    num_pages: int | None = None
    page_size: int = 1
    max_running_requests: int = 64
    max_queued_requests: int = 16384
    step_tokens: int = 512
    prefill_chunk: int | None = None
    policy: Policy = "lpm"
    grammar_backend: GrammarBackend = "forktree"
    prefix_cache: bool = True
    overlap: bool = True
    jump_forward: bool = True
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
                raise InvalidRequest(name, f"got {value!r}, wanted an integer of at least {low}")
        for name, high in _MOST.items():
            value = getattr(self, name)
            if value is not None and value > high:
                raise InvalidRequest(name, f"got {value}, wanted at most {high}")
        for name in ("prefix_cache", "overlap", "jump_forward"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequest(name, f"got {getattr(self, name)!r}, wanted True or False")
        for name, allowed in _NAMES.items():
            if getattr(self, name) not in get_args(allowed):
                raise InvalidRequest(name, f"got {getattr(self, name)!r}, wanted one of {', '.join(get_args(allowed))}")
        if self.model is not None and not isinstance(self.model, str):
            raise InvalidRequest("model", f"got {self.model!r}, wanted a path as a string")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EngineConfig:
        """From keyword arguments; an unknown name raises InvalidRequest that lists the known ones."""
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise InvalidRequest(name, f"unknown engine setting; known are {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


_NAMES = {"policy": Policy, "attention": AttentionName, "dtype": Dtype, "grammar_backend": GrammarBackend}

_LEAST = {
    "context_length": 2,
    "kv_cache_bytes": 1,
    "num_pages": 1,
    "page_size": 1,
    "max_running_requests": 1,
    "max_queued_requests": 1,
    "step_tokens": 1,
    "prefill_chunk": 1,
    "threads": 1,
}

_MOST = {
    "page_size": 4096,
    "max_running_requests": 4096,
    "threads": 1024,
}
