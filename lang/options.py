"""Sampling options: what users pass to gen and run, checked and made immutable; and how a gen's options lie over its
run's.

Here: SamplingOptions (every field may be unset), read_options (raw keyword arguments -> options), the names that
belong to a run. Not here: regexes and schemas (constraints).  Names and defaults are SGLang's.  Imports the
protocol's SamplingParams."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .backends.protocol import SamplingParams
from .errors import ArgumentError

__all__ = ["CONSTRAINTS", "RUN_OPTIONS", "SamplingOptions", "node_seed", "read_options"]


@dataclass(frozen=True)
class SamplingOptions:
    """None: not said here, so the run's value or SGLang's default holds."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    n: int | None = None
    stop: tuple[str, ...] | None = None
    stop_token_ids: tuple[int, ...] | None = None
    stop_regex: tuple[str, ...] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    ignore_eos: bool | None = None
    regex: str | None = None
    json_schema: str | None = None
    ebnf: str | None = None
    structural_tag: str | None = None
    white_space: str | None = None
    order: str | None = None
    return_logprob: bool | None = None
    logprob_start_len: int | None = None
    top_logprobs_num: int | None = None
    return_text_in_logprobs: bool | None = None

    def over(self, base: SamplingOptions) -> SamplingOptions:
        """These options where they say something, `base` elsewhere."""
        known = _over.get((id(self), id(base)))
        if known is None:
            values = dict(base.__dict__)
            values.update((name, value) for name, value in self.__dict__.items() if value is not None)
            known = (self, base, SamplingOptions(**values))
            _keep(_over, (id(self), id(base)), known)
        return known[2]

    def to_params(self, *, more_stops: tuple[str, ...] = (), seed: int | None) -> SamplingParams:
        """What a backend samples with.  A stop that is there already is not added twice."""
        known = _params.get((id(self), more_stops))
        if known is None:
            values = {name: value for name, value in self.__dict__.items() if value is not None and name in _PARAMS}
            stop = self.stop or ()
            values["stop"] = stop + tuple(each for each in more_stops if each not in stop)
            values["seed"] = None
            known = (self, SamplingParams(**values))
            _keep(_params, (id(self), more_stops), known)
        return known[1] if seed is None else replace(known[1], seed=seed)


# What was worked out is kept: ten thousand programs write the same few options, too many fields for each to be read,
# laid over others and compared again.  By identity, which is quick; an entry holds what has the id.
_read: dict[tuple[tuple[str, type[Any], Any], ...], SamplingOptions] = {}
_over: dict[tuple[int, int], tuple[SamplingOptions, SamplingOptions, SamplingOptions]] = {}
_params: dict[tuple[int, tuple[str, ...]], tuple[SamplingOptions, SamplingParams]] = {}
_MOST_KEPT = 512


def _keep(kept: dict[Any, Any], key: object, value: object) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = value


_PARAMS = frozenset(each.name for each in fields(SamplingParams))

CONSTRAINTS = {"regex", "json_schema", "ebnf", "structural_tag", "white_space", "order"}  # of one gen, never of a run

RUN_OPTIONS = frozenset(each.name for each in fields(SamplingOptions)) - CONSTRAINTS
"""Names of a run's own sampling arguments; a program's argument of the same name is passed by position, in a batch,
or through bind."""


def read_options(raw: Mapping[str, Any], where: object) -> SamplingOptions:
    """Check and freeze; None stands for not given.  Raises ArgumentError that names the argument, the value and
    `where`.

    The same plain values, given again, are the same object."""
    given = {name: value for name, value in raw.items() if value is not None}
    key = tuple(
        [(name, type(value), value) for name, value in given.items()]
    )  # the types: True equals 1, and is refused
    plain = all(kind in _PLAIN for _, kind, _ in key)
    if plain:
        known = _read.get(key)
        if known is not None:
            return known
    values: dict[str, Any] = {}
    for name, value in given.items():
        try:
            values[name] = _READERS[name](value)
        except _Wanted as wanted:
            raise ArgumentError(f"{_SHOWN.get(name, name)}: got {value!r}, wanted {wanted} (in {where})") from None
    if values.get("top_logprobs_num"):
        values.setdefault("return_logprob", True)
    options = SamplingOptions(**values)
    if plain:
        _keep(_read, key, options)
    return options


_PLAIN = frozenset({int, float, str, bool})


def node_seed(own: int | None, base: int | None, path: tuple[int, ...], index: int) -> int | None:
    """A gen's own seed is taken as it is.  A run's seed gives every node of the program its own, by its place in the
    tree of forks: the same from run to run, but different for branches of one fork."""
    if own is not None or base is None:
        return own
    digest = hashlib.blake2b(repr((base, path, index)).encode(), digest_size=4)
    return int.from_bytes(digest.digest(), "big") >> 1  # 31 bits: fits every sampler, with room for n outputs


class _Wanted(Exception):
    """What a value should have been."""


def _integer(lowest: int | None, wanted: str) -> Any:
    def read(value: object) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__") or (lowest is not None and value < lowest):  # type: ignore[operator]
            raise _Wanted(wanted)
        return int(value.__index__())

    return read


def _number(lowest: float, highest: float, wanted: str, *, above_lowest: bool = False) -> Any:
    def read(value: object) -> float:
        if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
            raise _Wanted(wanted)
        number = float(value)
        if not math.isfinite(number) or not lowest <= number <= highest or (above_lowest and number == lowest):
            raise _Wanted(wanted)
        return number

    return read


def _texts(value: object) -> tuple[str, ...]:
    texts = (
        (value,)
        if isinstance(value, str)
        else tuple(value)
        if isinstance(value, Sequence | set | frozenset)
        else (None,)
    )
    if not all(isinstance(text, str) and text for text in texts):
        raise _Wanted("a string that is not empty, or a list of such strings")
    if any("\ud800" <= character <= "\udfff" for text in texts if not text.isascii() for character in text):
        raise _Wanted("whole characters, no lone surrogates")
    return texts


def _token_ids(value: object) -> tuple[int, ...]:
    wanted = "a token id or a list of token ids"
    values = tuple(value) if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str) else (value,)
    return tuple(_integer(0, wanted)(each) for each in values)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _Wanted("True or False")
    return value


def _bias(value: object) -> Mapping[int, float]:
    wanted = "a mapping from token id to a finite number"
    if not isinstance(value, Mapping):
        raise _Wanted(wanted)
    number = _number(-math.inf, math.inf, wanted)
    try:
        return {int(token_id): number(bias) for token_id, bias in value.items()}
    except (TypeError, ValueError):
        raise _Wanted(wanted) from None


def _as_is(value: Any) -> Any:
    return value


_SHOWN = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}
_PENALTY = _number(-2.0, 2.0, "a number from -2 to 2")
_COUNT = _integer(0, "an integer, 0 or more")
_READERS: dict[str, Any] = {
    "max_new_tokens": _COUNT,
    "min_new_tokens": _COUNT,
    "n": _integer(1, "an integer, 1 or more"),
    "stop": _texts,
    "stop_token_ids": _token_ids,
    "stop_regex": _texts,
    "temperature": _number(0.0, 100.0, "a number from 0 to 100"),
    "top_p": _number(0.0, 1.0, "a number above 0 and at most 1", above_lowest=True),
    "top_k": _integer(-1, "an integer: -1 for no limit, or 1 or more"),
    "min_p": _number(0.0, 1.0, "a number from 0 to 1"),
    "frequency_penalty": _PENALTY,
    "presence_penalty": _PENALTY,
    "repetition_penalty": _number(0.0, 100.0, "a number above 0", above_lowest=True),
    "logit_bias": _bias,
    "seed": _integer(None, "an integer"),
    "ignore_eos": _flag,
    "regex": _as_is,
    "json_schema": _as_is,
    "ebnf": _as_is,
    "structural_tag": _as_is,
    "white_space": _as_is,
    "order": _as_is,
    "return_logprob": _flag,
    "logprob_start_len": _integer(-1, "an integer, -1 or more"),
    "top_logprobs_num": _COUNT,
    "return_text_in_logprobs": _flag,
}
