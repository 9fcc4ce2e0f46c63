"""How the next token of a request is chosen, and when it ends: SamplingParams, checked once at the door.

Names and defaults are SGLang's. Imported by the engine, the server and the local backend; imports only errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import InvalidRequest

MAX_STOPS = 64
MAX_PATTERN = 1024  # characters of a stop pattern
MAX_CHOICES = 128
CONSTRAINTS = ("regex", "json_schema", "ebnf", "structural_tag")
MAX_TOP_LOGPROBS = 128


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sampling and stopping of one request.

    max_new_tokens   tokens to generate at most; 0 computes the prompt only; capped by the context
    min_new_tokens   before so many tokens neither EOS nor a stop token id can be sampled; stop strings, patterns and a
                     complete constraint end the output all the same
    n                how many completions of the prompt (they share its pages)
    stop             strings that end the output; not part of the text unless `no_stop_trim`
    stop_token_ids   token ids that end the output, beside the model's own end-of-sequence ids
    stop_regex       patterns (syntax of the `regex` package) that end the output where they first match
    temperature      0 (or below 1e-5): greedy
    top_p, top_k, min_p           nucleus mass in (0, 1]; rank limit, -1 or 0 for none; share of the best probability
    repetition_penalty            divides positive, multiplies negative logits of tokens seen so far; 0.01 to 100
    frequency_penalty, presence_penalty   subtracted from logits per count / once, for tokens of the output; [-2, 2]
    logit_bias       token id -> amount added to its logit
    seed             same seed, same text, whatever else is in the batch; None draws one
    ignore_eos       go on past the model's end-of-sequence ids
    skip_special_tokens           leave special tokens out of the text
    regex, json_schema, ebnf, structural_tag
                     constraint on the output, at most one: a pattern; a JSON Schema as JSON text; a grammar in Lark's
                     syntax or, with `::=`, in that of llama.cpp's GBNF; structural tags as JSON text
    white_space      in the output of a json_schema: "bounded" (default: at most one blank after ',' and ':'), "compact"
                     (none), "pretty" (a line for each entry, two blanks a level; "pretty:4" for four), "any"
    order            of the properties in it: "auto" (default), "schema", "any", "required-first"
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
    ebnf: str | None = None
    structural_tag: str | None = None
    white_space: str | None = None
    order: str | None = None

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_texts()
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequest(
                given[1], f"{given[0]} and {given[1]} can't both constrain one output; give one of them"
            )
        self._check_json_options()

    @property
    def greedy(self) -> bool:
        return self.temperature < 1e-5

    @property
    def constraint_field(self) -> str:
        """The field that constrains the output, "" if none does."""
        return next((name for name in CONSTRAINTS if getattr(self, name) is not None), "")

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> SamplingParams:
        """From JSON-like values: a single string for `stop`, None for a default, string keys in `logit_bias`."""
        values: dict[str, Any] = {}
        for name, value in fields.items():
            if name not in cls.__struct_fields__:
                raise InvalidRequest(name, f"unknown sampling field; known are {', '.join(cls.__struct_fields__)}")
            if value is None:
                continue
            if isinstance(value, _ALONE.get(name, ())):
                value = [value]
            elif name == "logit_bias":
                value = _int_keys(value)
            values[name] = value
        try:
            return msgspec.convert(values, cls)
        except msgspec.ValidationError as error:
            raise _named(error, values) from None

    def checked(self) -> SamplingParams:
        """These parameters with their types checked, which building them in Python does not do."""
        return type(self).from_dict({name: getattr(self, name) for name in self.__struct_fields__})

    def _check_ranges(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidRequest(name, f"got {value!r:.60}, wanted a number")
            if not (low <= value <= high) or not math.isfinite(value):
                raise InvalidRequest(name, f"got {value}, wanted {low} to {high}")
        if self.top_p <= 0:
            raise InvalidRequest("top_p", f"got {self.top_p}, wanted a value above 0 and at most 1")
        if self.max_new_tokens and self.min_new_tokens > self.max_new_tokens:
            raise InvalidRequest(
                "min_new_tokens", f"got {self.min_new_tokens}, over max_new_tokens {self.max_new_tokens}"
            )
        if self.seed is not None and not -(2**63) <= self.seed < 2**64:
            raise InvalidRequest("seed", f"got {self.seed}, wanted a 64-bit integer")
        for token_id, bias in self.logit_bias.items():
            if not math.isfinite(bias) or abs(bias) > 1e4:
                raise InvalidRequest("logit_bias", f"got {bias} for token {token_id}, wanted a number within 10000")

    def _check_json_options(self) -> None:
        for name in ("white_space", "order"):
            if (value := getattr(self, name)) is None:
                continue
            if self.json_schema is None:
                raise InvalidRequest(name, "says how JSON is written; it goes with json_schema")
            known = isinstance(value, str) and (value in ORDERS if name == "order" else WHITE_SPACE.fullmatch(value))
            if not known:
                wanted = " or ".join(ORDERS) if name == "order" else "bounded, compact, pretty, pretty:0 to 8, or any"
                raise InvalidRequest(name, f"got {value!r:.60}, wanted {wanted}")

    def _check_texts(self) -> None:
        for name in ("stop", "stop_regex", "stop_token_ids"):
            stops = getattr(self, name)
            if isinstance(stops, str):
                raise InvalidRequest(name, f"got the string {stops!r:.60}, wanted a sequence of them")
            if len(stops) > MAX_STOPS:
                raise InvalidRequest(name, f"got {len(stops)} entries, at most {MAX_STOPS} are taken")
        for stop in self.stop:
            require_text("stop", stop)
            if not stop:
                raise InvalidRequest("stop", "an empty string would stop at once; leave it out")
        for pattern in self.stop_regex:
            _check_pattern(pattern)
        for name in CONSTRAINTS:
            if (text := getattr(self, name)) is not None:
                require_text(name, text)


WHITE_SPACE = re.compile(r"bounded|compact|any|pretty(:[0-8])?")
ORDERS = ("auto", "schema", "any", "required-first")
_ALONE: dict[str, type] = {"stop": str, "stop_regex": str, "stop_token_ids": int}  # taken for a sequence of one

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
    ("repetition_penalty", 0.01, 100.0),
)


def require_text(field: str, text: object) -> None:
    """Raise InvalidRequest unless `text` is a string that UTF-8 can write."""
    if not isinstance(text, str):
        raise InvalidRequest(field, f"got {type(text).__name__}, wanted a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(field, f"has a lone surrogate at character {error.start}, which is no text") from None


def _check_pattern(pattern: str) -> None:
    import regex

    require_text("stop_regex", pattern)
    if len(pattern) > MAX_PATTERN:
        raise InvalidRequest("stop_regex", f"got {len(pattern)} characters, at most {MAX_PATTERN} are taken")
    try:
        empty = regex.compile(pattern).match("", timeout=1.0)
    except (regex.error, RecursionError, OverflowError, TimeoutError) as error:
        raise InvalidRequest("stop_regex", f"{pattern!r:.80} is not a pattern: {error}") from None
    if empty:
        raise InvalidRequest("stop_regex", f"{pattern!r:.80} matches the empty string, so would stop at once")


def _int_keys(value: object) -> dict[int, object]:
    if not isinstance(value, Mapping):
        raise InvalidRequest("logit_bias", f"got {value!r:.80}, wanted an object of token id -> number")
    if not all(_is_id(key) for key in value):
        raise InvalidRequest("logit_bias", f"keys are token ids, got {list(value)[:3]!r:.80}")
    return {int(key): bias for key, bias in value.items()}


def _is_id(key: object) -> bool:
    return (isinstance(key, int) and not isinstance(key, bool)) or (isinstance(key, str) and key.isdecimal())


def _named(error: msgspec.ValidationError, values: Mapping[str, Any]) -> InvalidRequest:
    """msgspec says where in a path such as `$.temperature`; errors of our own __post_init__ pass as they are."""
    text = str(error)
    path = text.rpartition("`$.")[2].rstrip("`") if "`$." in text else ""
    field = path.replace("[", ".").split(".")[0] or "sampling_params"
    what = text.partition(" - at ")[0]
    shown = f" (got {values[field]!r})" if field in values else ""
    return InvalidRequest(field, what[:1].lower() + what[1:] + shown[:120])
