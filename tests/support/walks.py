"""Walking through masks at random, and judging what came out by jsonschema and re, exactly."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt

from forktree.grammar import Compiler, Constraint, Grammar, GrammarError, Matcher, Vocabulary
from tests.support.random_constraints import REAL_REGEXES, REAL_SCHEMAS, mutated, random_regex, random_schema

TokenIds = npt.NDArray[np.int64]


def allowed_ids(matcher: Matcher, tokens_left: int | None = None) -> TokenIds:
    """The token ids that the mask allows, in order."""
    vocabulary = matcher.grammar.vocabulary
    row = np.zeros(vocabulary.num_words, dtype=np.int32)
    if not matcher.fill_mask(row, tokens_left):
        return np.arange(len(vocabulary))
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little"))


def tried_ids(matcher: Matcher) -> list[int]:
    """The token ids that advance takes, in order."""
    found = []
    for token_id in range(len(matcher.grammar.vocabulary)):
        if matcher.try_advance(token_id):
            matcher.rollback(1)
            found.append(token_id)
    return found


@cache
def _is_short(vocabulary: Vocabulary) -> npt.NDArray[np.bool_]:
    """[len(vocabulary)] Tokens of one or two ASCII characters: what walks take more often, so that strings end."""
    return np.array([token is not None and len(token) <= 2 and token.isascii() for token in vocabulary.tokens])


class Walk:
    """One output on its way, and the tokens it took."""

    def __init__(self, grammar: Grammar, rng: random.Random) -> None:
        self.matcher, self.rng = grammar.matcher(), rng
        self.taken: list[int] = []
        self._tokens = grammar.vocabulary.tokens
        self._eos = grammar.vocabulary.eos_token_ids[0]
        self._short = _is_short(grammar.vocabulary)

    @property
    def text(self) -> bytes:
        return b"".join(self._tokens[i] or b"" for i in self.taken)

    def step(self, tokens_left: int | None = None, *, ending: float = 0.3) -> bool:
        """Take a token that the mask allows, a short one more often than not; False: the output ends here.

        A dead end is an AssertionError."""
        ids = allowed_ids(self.matcher, tokens_left)
        assert ids.size, f"a dead end after {self.text!r}, tokens left: {tokens_left}"
        others = ids[ids != self._eos]
        if not others.size or (others.size < ids.size and self.rng.random() < ending):
            return False
        short = others[self._short[others]]
        pool = short if short.size and self.rng.random() < 0.6 else others
        token_id = int(pool[self.rng.randrange(pool.size)])
        self.matcher.advance(token_id)
        self.taken.append(token_id)
        return True

    def finish(self, num_free: int) -> None:
        """Tokens at random; after `num_free` of them no more than it takes to end."""
        for _ in range(num_free):
            if not self.step():
                return
        left = self.matcher.tokens_needed()
        while left > 0 and self.step(left):
            left -= 1
        assert self.matcher.complete, f"not complete within the tokens that it needed: {self.text!r}"


# ---- what a text is judged by


def _is_integer(_: Any, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return isinstance(value, int) or value == value.to_integral_value()


def _multiple_of(_: Any, factor: Any, value: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    """Exact for 1e999999 too, whose digits nobody writes down."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return
    _, digits, exponent = Decimal(value).as_tuple()
    by = Fraction(factor)
    scaled = int("".join(map(str, digits))) * by.denominator
    assert isinstance(exponent, int)
    if exponent >= 0:
        is_multiple = scaled * pow(10, exponent, by.numerator) % by.numerator == 0
    else:  # a number has no more zeros at its end than digits
        is_multiple = scaled == 0 or (-exponent <= len(str(scaled)) and scaled % (by.numerator * 10**-exponent) == 0)
    if not is_multiple:
        yield jsonschema.ValidationError(f"{value} is no multiple of {factor}")


_CHECKER = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
_VALIDATOR = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, {"multipleOf": _multiple_of}, type_checker=_CHECKER
)


def _number(text: str) -> Decimal:
    """A number as it is written; where its exponent is more than Decimal takes, one as far out as schemas can tell."""
    try:
        return Decimal(text)
    except InvalidOperation:
        digits, exponent = text.lower().split("e")
        return Decimal(f"{digits}e{'-' if exponent.startswith('-') else ''}999999")


def why_invalid(constraint: Constraint, text: bytes) -> str:
    """Why `text` is none that the constraint allows; "" if it is one.

    Numbers are compared as they are written, not as the nearest floats."""
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error}"
    if constraint.kind == "regex":
        return "" if re.fullmatch(constraint.text, decoded) else "re does not match"
    try:
        value = json.loads(decoded, parse_float=_number)
    except ValueError as error:
        return f"not JSON: {error}"
    schema = json.loads(constraint.text, parse_float=Decimal)
    checks = jsonschema.FormatChecker(["date", "ipv4", "ipv6", "uuid", "email"])
    found = next(_VALIDATOR(schema, format_checker=checks).iter_errors(value), None)
    return "" if found is None else f"{found.json_path}: {found.message}"


# ---- many constraints


def constraints(seed: int) -> Iterator[Constraint]:
    """Without end: real ones first, then random ones and changed real ones, most of them schemas."""
    yield from map(Constraint.json_schema, REAL_SCHEMAS.values())
    yield from map(Constraint.regex, REAL_REGEXES)
    rng = random.Random(seed)
    names = sorted(REAL_SCHEMAS)
    while True:
        yield Constraint.json_schema(random_schema(rng))
        yield Constraint.json_schema(mutated(rng, REAL_SCHEMAS[rng.choice(names)]))
        yield Constraint.regex(random_regex(rng))


def grammars(vocabulary: Vocabulary, seed: int, count: int) -> Iterator[Grammar]:
    """`count` grammars of `constraints`; those that are refused do not count, but may not be most of them."""
    compiler = Compiler(vocabulary, max_cached=1)
    refused: list[str] = []
    compiled = 0
    for constraint in constraints(seed):
        try:
            grammar = compiler.compile(constraint)
        except GrammarError as error:
            refused.append(f"{constraint.text[:100]}: {error}")
            assert len(refused) < 50 + 3 * count, "\n".join(["too many are refused", *refused[-10:]])
            continue
        yield grammar
        compiled += 1
        if compiled == count:
            return


def changed(rng: random.Random, value: Any, numbers: Sequence[int]) -> Any:
    """A copy of a JSON value with one thing in it a little different; key order is kept.

    numbers  that a schema mentions: what is around them is where it changes its mind"""
    value = copy.deepcopy(value)
    slots: list[tuple[Any, Any]] = []
    pending: list[Any] = [value]
    while pending:
        holder = pending.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        slots += [(holder, key) for key in keys]
        pending += [holder[key] for key in keys]
    if not slots or rng.random() < 0.1:
        return _altered(rng, value, numbers)
    holder, key = rng.choice(slots)
    change = rng.randrange(4)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[key] = _altered(rng, holder[key], numbers)
    return value


def _altered(rng: random.Random, value: Any, numbers: Sequence[int]) -> Any:
    if isinstance(value, bool) or value is None:
        return rng.choice([None, True, False, 0, ""])
    if isinstance(value, int | float):
        near = rng.choice(numbers) if numbers and rng.random() < 0.5 else value
        return rng.choice([near, near + 1, near - 1, -near, near * 10, near // 10])
    if isinstance(value, str):
        return rng.choice([value[:-1], value + value[-1:], value + "a", value.upper(), value[1:]])
    return rng.choice([[], {}, value])
