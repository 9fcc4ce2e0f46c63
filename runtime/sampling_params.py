"""How the next token of a request is chosen, and when it ends: SamplingParams, checked once at the door.

Names and defaults are SGLang's. Imported by the engine, the server and the local backend; imports only errors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import InvalidRequest

MAX_STOPS = 64
MAX_CHOICES = 128


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sampling and stopping of one request.

    max_new_tokens   tokens to generate at most; 0 computes the prompt only; capped by the context
    min_new_tokens   before so many tokens neither EOS nor a stop token id can be sampled
    n                how many completions of the prompt (they share its pages)
    stop             strings that end the output; not part of the text unless `no_stop_trim`
    stop_token_ids   token ids that end the output, beside the model's own end-of-sequence ids
    stop_regex       patterns (syntax of the `regex` package) that end the output where they first match
    temperature      0 (or below 1e-5): greedy
    top_p, top_k, min_p           nucleus mass in (0, 1]; rank limit, -1 or 0 for none; share of the best probability
    repetition_penalty            divides positive, multiplies negative logits of tokens in prompt or output; above 0
    frequency_penalty, presence_penalty   subtracted from logits per count / once, for tokens of the output; [-2, 2]
    logit_bias       token id -> amount added to its logit
    seed             same seed, same text, whatever else is in the batch; None draws one
    ignore_eos       go on past the model's end-of-sequence ids
    skip_special_tokens           leave special tokens out of the text
    regex, json_schema            constraint on the output: a pattern, or a JSON Schema as JSON text; at most one
    Raises InvalidRequest naming the field.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    n: int = 1
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    stop_regex: tuple[str, ...] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: dict[int, float] = {}
    seed: int | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    no_stop_trim: bool = False
    regex: str | None = None
    json_schema: str | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_stops()
        if self.regex is not None and self.json_schema is not None:
            raise InvalidRequest(
                "json_schema", "regex and json_schema can't both constrain one output; give one of them"
            )

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-5

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SamplingParams:
        """From JSON-like values: a single string for `stop`, None for a default, string keys in `logit_bias`."""
        values: dict[str, Any] = {}
        for name, value in fields.items():
            if name not in cls.__struct_fields__:
                raise InvalidRequest(name, f"unknown sampling field; known are {', '.join(cls.__struct_fields__)}")
            if value is None:
                continue
            if (name in ("stop", "stop_regex") and isinstance(value, str)) or (
                name == "stop_token_ids" and isinstance(value, int)
            ):
                value = [value]
            elif name == "logit_bias":
                value = _int_keys(value)
            values[name] = value
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise _named(error, values) from None

    def _check_ranges(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not (low <= value <= high) or not math.isfinite(value):
                raise InvalidRequest(name, f"got {value}, wanted a value from {low} to {high}")
        if self.top_p <= 0:
            raise InvalidRequest("top_p", f"got {self.top_p}, wanted a value above 0 and at most 1")
        if self.repetition_penalty <= 0:
            raise InvalidRequest("repetition_penalty", f"got {self.repetition_penalty}, wanted a value above 0")
        if self.max_new_tokens and self.min_new_tokens > self.max_new_tokens:
            raise InvalidRequest(
                "min_new_tokens", f"got {self.min_new_tokens}, more than max_new_tokens ({self.max_new_tokens})"
            )
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise InvalidRequest("seed", f"got {self.seed}, wanted a 64-bit integer")
        for token_id, bias in self.logit_bias.items():
            if not math.isfinite(bias) or abs(bias) > 1e4:
                raise InvalidRequest(
                    "logit_bias", f"got {bias} for token {token_id}, wanted a finite number within 10000"
                )

    def _check_stops(self) -> None:
        for name in ("stop", "stop_regex", "stop_token_ids"):
            stops = getattr(self, name)
            if len(stops) > MAX_STOPS:
                raise InvalidRequest(name, f"got {len(stops)} entries, at most {MAX_STOPS} are taken")
        if any(not stop for stop in self.stop):
            raise InvalidRequest("stop", "an empty string would stop at once; leave it out")
        if self.stop_regex:
            import regex

            for pattern in self.stop_regex:
                try:
                    empty = regex.compile(pattern).match("")
                except regex.error as error:
                    raise InvalidRequest("stop_regex", f"{pattern!r} is not a pattern: {error}") from None
                if empty:
                    raise InvalidRequest("stop_regex", f"{pattern!r} matches the empty string, so would stop at once")


_RANGES: tuple[tuple[str, float, float], ...] = (
    ("max_new_tokens", 0, 2**31),
    ("min_new_tokens", 0, 2**31),
    ("n", 1, MAX_CHOICES),
    ("temperature", 0.0, 100.0),
    ("top_p", 0.0, 1.0),
    ("top_k", -1, 2**31),
    ("min_p", 0.0, 1.0),
    ("frequency_penalty", -2.0, 2.0),
    ("presence_penalty", -2.0, 2.0),
    ("repetition_penalty", 0.0, 100.0),
)


def _int_keys(value: object) -> dict[int, object]:
    if not isinstance(value, Mapping):
        raise InvalidRequest("logit_bias", f"got {value!r}, wanted an object of token id -> number")
    try:
        return {int(key): bias for key, bias in value.items()}
    except (TypeError, ValueError):
        raise InvalidRequest("logit_bias", f"keys are token ids, got {list(value)[:3]!r}") from None


def _named(error: msgspec.ValidationError, values: Mapping[str, Any]) -> InvalidRequest:
    """msgspec says where in a path such as `$.temperature`; errors of our own __post_init__ pass as they are."""
    text = str(error)
    path = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else ""
    field = path.replace("[", ".").split(".")[0] or "sampling_params"
    what = text.partition(" - at ")[0]
    shown = f" (got {values[field]!r})" if field in values else ""
    return InvalidRequest(field, what[:1].lower() + what[1:] + shown[:120])
