"""What users write inside a program: gen, select and the roles.  Each checks its arguments, notes its line and builds
a node; none runs anything.

Here: argument checking for these functions.  Not here: function and run (program)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .choices import METHODS, ChoicesMethod, draws, exact_probability, token_length_normalized
from .constraints import (
    checked_ebnf,
    checked_json_options,
    checked_regex,
    checked_schema,
    checked_structural_tag,
    dtype_constraint,
    schema_text_of,
)
from .deadlines import read_timeout
from .errors import ArgumentError
from .nodes import Concat, Gen, Node, RoleBegin, RoleEnd, Select, SourceLine, caller_line, checked_text, flatten
from .options import SamplingOptions, read_options
from .reasoning import tags_of

__all__ = [
    "assistant",
    "assistant_begin",
    "assistant_end",
    "gen",
    "gen_int",
    "gen_string",
    "select",
    "separate_reasoning",
    "system",
    "system_begin",
    "system_end",
    "user",
    "user_begin",
    "user_end",
]


def gen(
    name: str | None = None,
    max_tokens: int | None = None,
    min_tokens: int | None = None,
    n: int | None = None,
    stop: str | Sequence[str] | None = None,
    stop_token_ids: Sequence[int] | None = None,
    stop_regex: str | Sequence[str] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    min_p: float | None = None,
    frequency_penalty: float | None = None,
    presence_penalty: float | None = None,
    ignore_eos: bool | None = None,
    return_logprob: bool | None = None,
    logprob_start_len: int | None = None,
    top_logprobs_num: int | None = None,
    return_text_in_logprobs: bool | None = None,
    dtype: type | str | None = None,
    choices: Sequence[str] | None = None,
    choices_method: ChoicesMethod | str | None = None,
    regex: str | None = None,
    json_schema: str | Mapping[str, Any] | type | None = None,
    *,
    type: Any = None,
    ebnf: str | None = None,
    structural_tag: str | Mapping[str, Any] | None = None,
    white_space: str | None = None,
    order: str | None = None,
    repetition_penalty: float | None = None,
    logit_bias: Mapping[int, float] | None = None,
    seed: int | None = None,
    timeout: float | None = None,
) -> Node:
    """Generate text here and keep it as `s[name]`.  None takes the run's value, which by default is SGLang's.

    type         the output is the JSON of a value of this type, and s[name] is that value: a pydantic model, dataclass,
                 TypedDict, Enum, Literal, int, float, bool, str, list[...], dict[str, ...], Optional, Union.  The
                 program's text goes on with the JSON, in which a str has its quotes; get_meta_info(name)["text"] has it
                 too.  Reading an output that is no such value, cut off by max_tokens for one, is a GenerationError
    choices      pick one of these instead, by choices_method (see select); temperature then defaults to 0, and what
                 bounds or stops an output has nothing to act on
    regex, json_schema, dtype, ebnf, structural_tag
                 constrain the output, which stays text; at most one of these, type and choices.  json_schema is JSON
                 text, a dict, or a type; dtype is int, float, bool or str.  ebnf is a grammar and structural_tag JSON,
                 both in the words of the backend that enforces them; one that can't refuses them
    white_space  in the output of a json_schema or type: "bounded" (by default: one blank at most after ',' and ':'),
                 "compact" (none), "pretty" (lines, two blanks a level; "pretty:4" for four), "any"
    order        of its properties: "schema", "any", "required-first"; by default "auto": "schema" if all are required
    n            that many outputs: s[name] is their list, and the first one goes on in the text
    timeout      seconds from when it starts; then its request is cancelled, and reading it is a DeadlineExceeded
    Raises ArgumentError or ConstraintError at the line that calls it."""
    source = caller_line()
    where = _Where("gen", name, source)
    _check_name(name, where)
    constraints = {
        "type": type, "regex": regex, "json_schema": json_schema, "dtype": dtype, "ebnf": ebnf,
        "structural_tag": structural_tag, "choices": choices,
    }  # fmt: skip
    given = [each for each, value in constraints.items() if value is not None]
    if len(given) > 1:
        raise ArgumentError(f"{' and '.join(given)} can't both constrain one output; give one of them (in {where})")
    if choices is not None:
        for each, value in {"n": n, "logit_bias": logit_bias, "white_space": white_space, "order": order}.items():
            if value is not None:
                raise ArgumentError(f"{each} means nothing for a choice; leave it out (in {where})")
        return _select(where, choices, temperature or 0.0, choices_method, seed, timeout)
    if choices_method is not None:
        raise ArgumentError(f"choices_method is given without choices (in {where})")
    options = read_options(
        {
            "max_new_tokens": max_tokens,
            "min_new_tokens": min_tokens,
            "n": n,
            "stop": stop,
            "stop_token_ids": stop_token_ids,
            "stop_regex": stop_regex,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "frequency_penalty": frequency_penalty,
            "presence_penalty": presence_penalty,
            "repetition_penalty": repetition_penalty,
            "logit_bias": logit_bias,
            "seed": seed,
            "ignore_eos": ignore_eos,
            "return_logprob": return_logprob,
            "logprob_start_len": logprob_start_len,
            "top_logprobs_num": top_logprobs_num,
            "return_text_in_logprobs": return_text_in_logprobs,
            "regex": checked_regex(regex, where) if regex is not None else None,
            "json_schema": _schema(json_schema, type, where),
            "ebnf": checked_ebnf(ebnf, where) if ebnf is not None else None,
            "structural_tag": checked_structural_tag(structural_tag, where) if structural_tag is not None else None,
            **checked_json_options(white_space, order, json_schema is not None or type is not None, where),
        },
        where,
    )
    extra_stops: tuple[str, ...] = ()
    if dtype is not None:
        pattern, extra_stops = dtype_constraint(dtype, where)
        options = SamplingOptions(regex=checked_regex(pattern, where)).over(options)
    return Gen(source, name, options, extra_stops, value_type=type, timeout=read_timeout(timeout, where))


def gen_int(name: str | None = None, *args: Any, **kwargs: Any) -> Node:
    """gen(dtype=int): the text of an integer.  As gen, in its order, without min_tokens and constraints."""
    return gen(name, dtype=int, **_of_typed_gen("gen_int", args, kwargs))


def gen_string(name: str | None = None, *args: Any, **kwargs: Any) -> Node:
    """gen(dtype=str): a string in double quotes.  As gen, in its order, without min_tokens and constraints."""
    return gen(name, dtype=str, **_of_typed_gen("gen_string", args, kwargs))


def select(
    name: str | None = None,
    choices: Sequence[str] | None = None,
    temperature: float = 0.0,
    choices_method: ChoicesMethod | str | None = None,
    *,
    seed: int | None = None,
    timeout: float | None = None,
) -> Node:
    """Pick one of `choices` and keep it as `s[name]`.  All of them are scored in one request.

    temperature     0: the choice ranked first; above: one is drawn, from p^(1/temperature) renormalised
    choices_method  ranks, and gives p; a method or its name:
        exact_probability                    P(choice | prompt): the model's own, which favours short choices
        token_length_normalized              mean log-probability per token, so that length does not count
        greedy_token_selection               token by token, always into the likeliest next one
        unconditional_likelihood_normalized  how much likelier the prompt makes the tokens of a choice
                    None: at temperature 0 token_length_normalized, as in SGLang; above it exact_probability
    seed            the same seed draws the same choice

    s.get_meta_info(name)["probabilities"] has P(choice | prompt) of each over all of them, exact, whatever the method;
    "distribution" what the method makes of it; "sequence_logprobs" log P(choice | prompt).  Choices may begin with
    one another; one that is given twice counts twice.  Raises ArgumentError at the line that calls it."""
    where = _Where("select", name, caller_line())
    _check_name(name, where)
    if choices is None:
        raise ArgumentError(f"choices is missing (in {where})")
    return _select(where, choices, temperature, choices_method, seed, timeout)


def _select(
    where: _Where,
    choices: Sequence[str],
    temperature: float,
    method: ChoicesMethod | str | None,
    seed: int | None,
    timeout: float | None,
) -> Select:
    given: object = choices
    texts = tuple(given) if isinstance(given, (list, tuple, set, frozenset, range)) else ()
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise ArgumentError(f"choices: got {choices!r}, wanted a list of strings, none of them empty (in {where})")
    for text in texts:
        checked_text(text)
    options = read_options({"temperature": temperature, "seed": seed}, where)
    heat = options.temperature or 0.0
    ranks_by = _choices_method(method, heat, where)
    seconds = read_timeout(timeout, where)
    return Select(where.source, where.name, texts, heat, ranks_by, options.seed, timeout=seconds)


def _choices_method(given: object, temperature: float, where: _Where) -> ChoicesMethod:
    if given is None:
        return exact_probability if draws(temperature) else token_length_normalized
    method = METHODS.get(given) if isinstance(given, str) else given
    if not isinstance(method, ChoicesMethod):
        raise ArgumentError(
            f"choices_method: got {given!r}, wanted a method or one of {', '.join(METHODS)} (in {where})"
        )
    return method


def _schema(schema: object, tp: object, where: _Where) -> str | None:
    if tp is not None:
        return schema_text_of(tp, where)
    return checked_schema(schema, where) if schema is not None else None


def separate_reasoning(expr: object = None, model_type: str | None = None) -> Concat:
    """The gens in `expr` keep their answer alone: s[name] is the text without the thoughts, and
    s[name + "_reasoning_content"] the thoughts.  The program's text goes on without them.

    model_type  whose tags to look for: deepseek-r1, qwen3, kimi, ...; None: <think> and </think>
    A stream shows thoughts as they come; the variables are told apart at the end."""
    source = caller_line()
    tags = tags_of(model_type, f"separate_reasoning, {source}")
    nodes = () if expr is None else flatten(expr, source)
    for node in nodes:
        if isinstance(node, Gen) and (node.value_type is not None or node.options.n not in (None, 1)):
            raise ArgumentError(f"{node.label} has type= or n=: its output has no thoughts to tell apart (at {source})")
    marked = (replace(node, reasoning=tags) if isinstance(node, Gen) and node.name else node for node in nodes)
    return Concat(source, tuple(marked))


def system(expr: object = None) -> Concat:
    """`expr` as a system message."""
    return _message("system", expr)


def user(expr: object = None) -> Concat:
    """`expr` as a user message."""
    return _message("user", expr)


def assistant(expr: object = None) -> Concat:
    """`expr`, usually with a gen in it, as the assistant's message."""
    return _message("assistant", expr)


def system_begin() -> Node:
    return RoleBegin(caller_line(), "system")


def system_end() -> Node:
    return RoleEnd(caller_line(), "system")


def user_begin() -> Node:
    return RoleBegin(caller_line(), "user")


def user_end() -> Node:
    return RoleEnd(caller_line(), "user")


def assistant_begin() -> Node:
    return RoleBegin(caller_line(), "assistant")


def assistant_end() -> Node:
    return RoleEnd(caller_line(), "assistant")


def _message(role: str, expr: object) -> Concat:
    source = caller_line()
    content = () if expr is None else (expr,)
    return Concat.of((RoleBegin(source, role), *content, RoleEnd(source, role)), source)


class _Where:
    """gen("answer"), demo.py:12: made into text only when an error needs it."""

    def __init__(self, function: str, name: str | None, source: SourceLine) -> None:
        self.function, self.name, self.source = function, name, source

    def __str__(self) -> str:
        shown = f'"{self.name}"' if isinstance(self.name, str) else ""
        return f"{self.function}({shown}), {self.source}"


def _check_name(name: object, where: _Where) -> None:
    if name is not None and (not isinstance(name, str) or not name or name.startswith("#")):
        raise ArgumentError(
            f"name: got {name!r}, wanted a string that is not empty and does not begin with # (in {where})"
        )


_OF_TYPED_GEN = (
    "max_tokens",
    "n",
    "stop",
    "stop_token_ids",
    "stop_regex",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "ignore_eos",
    "return_logprob",
    "logprob_start_len",
    "top_logprobs_num",
    "return_text_in_logprobs",
    "repetition_penalty",  # from here on by keyword only
    "logit_bias",
    "seed",
    "timeout",
)
_NUM_POSITIONAL = 16


def _of_typed_gen(function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    by_position = dict(zip(_OF_TYPED_GEN, args, strict=False))
    refused = [name for name in kwargs if name not in _OF_TYPED_GEN or name in by_position]
    if refused or len(args) > _NUM_POSITIONAL:
        what = f"no argument {refused[0]!r} here" if refused else f"at most {_NUM_POSITIONAL + 1} arguments by position"
        raise ArgumentError(f"{function} takes {what} (in {caller_line()})")
    return {**by_position, **kwargs}
