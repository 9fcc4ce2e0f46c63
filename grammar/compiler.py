"""Constraint + Vocabulary -> Grammar: cached by content, bounded in states and seconds, safe to call from any thread.

Here: the cache, the lock of a grammar, warming up.  Not here: what a pattern or a schema means (regex.py,
json_schema.py), one request's place (matcher.py)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from .automaton import DEAD, START, Automaton
from .constraint import Constraint
from .errors import GrammarError, GrammarTooComplex, RegexError, SchemaError
from .expressions import ALL_BYTES, Expressions
from .forced import forced_bytes, forced_runs, forced_tokens
from .limits import CALL_SECONDS, CALL_STEPS, COMPILE_SECONDS, COMPILE_STEPS, TOTAL_STATES, Budget
from .matcher import TERMINATED, Matcher
from .regex import compile_regex
from .token_mask import TokenMasks
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]


class Grammar:
    """A compiled constraint over one vocabulary: immutable to its users, shared by all requests.

    What it learns while it is used (states, rows, masks) it keeps; a lock guards that."""

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary, *, max_states: int = TOTAL_STATES) -> None:
        expressions, start = _spelled(constraint, vocabulary)
        self.constraint, self.vocabulary = constraint, vocabulary
        self._automaton = Automaton(expressions, start, max_states=max_states)
        self._masks = TokenMasks(self._automaton, vocabulary)
        self._forced: dict[int, tuple[int, ...]] = {}
        self._lock = threading.RLock()

    @property
    def everything(self) -> Int32:
        """The mask that allows every id; `mask` returns this very object where that is so."""
        return self.vocabulary.full_row

    def matcher(self) -> Matcher:
        """A new output, nothing of it generated yet."""
        return Matcher(self)

    @property
    def num_states(self) -> int:
        return self._automaton.num_states

    def mask(self, state: int, tokens_left: int | None = None) -> Int32:
        """int32 [num_words], read-only.  What Matcher.fill_mask writes."""
        if state == TERMINATED:
            return self.vocabulary.eos_row
        with self._working():
            return self._masks.mask(state) if tokens_left is None else self._masks.mask_within(state, tokens_left)

    def after(self, state: int, token_id: int) -> int:
        """The state after a token; GrammarError if the token is not allowed."""
        if not 0 <= token_id < len(self.vocabulary):
            raise GrammarError(f"{token_id} is no token id; there are {len(self.vocabulary)}")
        if token_id in self.vocabulary.eos_token_ids:
            if not self._automaton.accepting[state]:
                raise GrammarError(f"token {token_id} (end of output) is not allowed: the output is not complete")
            return TERMINATED
        text = self.vocabulary.tokens[token_id]
        if text is None:
            raise GrammarError(f"token {token_id} is a special token: a constraint never allows it")
        with self._working():
            target = self._automaton.walk(state, text)
        if target == DEAD:
            raise GrammarError(f"token {token_id} {text!r} is not allowed here")
        return target

    @contextmanager
    def _working(self) -> Iterator[None]:
        """The lock, and a fresh budget for what one call may explore."""
        with self._lock:
            budget = self._automaton.expressions.budget
            budget.place = "the generated text"
            budget.renew(CALL_STEPS, CALL_SECONDS)
            yield

    def accepts_at(self, state: int) -> bool:
        return self._automaton.accepting[state]

    def ends_at(self, state: int) -> bool:
        if not self._automaton.accepting[state]:
            return False
        with self._working():
            return not self._automaton.has_next(state)

    def tokens_needed(self, state: int) -> int:
        """Tokens that complete the text from here on one shortest way (in bytes), EOS not counted."""
        with self._working():
            return self._masks.tokens_needed(state)

    def forced_bytes(self, state: int) -> bytes:
        with self._working():
            return forced_bytes(self._automaton, state)[0]

    def forced(self, state: int) -> list[int]:
        with self._working():
            known = self._forced.get(state)
            if known is None:
                known = self._forced[state] = tuple(forced_tokens(self._automaton, self.vocabulary, state))
        return list(known)


class Compiler:
    """Grammars by content.  `compile` may be called from any thread; one constraint is compiled once at a time.

    vocabulary  of the model            max_cached  grammars kept; the least recently used go first"""

    def __init__(self, vocabulary: Vocabulary, *, max_cached: int = 256) -> None:
        if max_cached < 1:
            raise ValueError(f"max_cached must be at least 1, not {max_cached}")
        self.vocabulary = vocabulary
        self._max_cached = max_cached
        self._lock = threading.Lock()
        self._cached: OrderedDict[Constraint, Grammar] = OrderedDict()
        self._running: dict[Constraint, Future[Grammar]] = {}

    def compile(self, constraint: Constraint) -> Grammar:
        """The grammar of a constraint.  Raises RegexError, SchemaError, GrammarTooComplex."""
        with self._lock:
            known = self._cached.get(constraint)
            if known is not None and known.num_states < TOTAL_STATES // 2:  # a grammar that has grown old starts again
                self._cached.move_to_end(constraint)
                return known
            future = self._running.get(constraint)
            mine = future is None
            if future is None:
                future = self._running[constraint] = Future()
        if not mine:
            return future.result()
        try:
            grammar = Grammar(constraint, self.vocabulary)
        except BaseException as error:
            with self._lock:
                del self._running[constraint]
            future.set_exception(error)
            raise
        with self._lock:
            del self._running[constraint]
            self._cached[constraint] = grammar
            self._cached.move_to_end(constraint)
            while len(self._cached) > self._max_cached:
                self._cached.popitem(last=False)
        future.set_result(grammar)
        return grammar


def check(constraint: Constraint) -> None:
    """Raise what Compiler.compile would raise, without a vocabulary: RegexError, SchemaError, GrammarTooComplex."""
    _build(constraint)


def literals(constraint: Constraint) -> list[bytes]:
    """What a constraint spells by itself: the runs of bytes that are forced on the shortest text it allows.

    Raises what check raises."""
    automaton = Automaton(*_build(constraint))
    return forced_runs(automaton, START)


def warmup() -> None:
    """Compile this package's numba loops or load them from numba's cache on disk: seconds, the first time."""
    vocabulary = Vocabulary([bytes((b,)) for b in range(256)] + [None], [256])
    grammar = Grammar(Constraint.regex("ab?"), vocabulary)
    row = np.zeros(vocabulary.num_words, dtype=np.int32)
    matcher = grammar.matcher()
    matcher.fill_mask(row)
    matcher.fill_mask(row, 1)


def _spelled(constraint: Constraint, vocabulary: Vocabulary) -> tuple[Expressions, int]:
    """As `_build`, of those texts only that the vocabulary has the bytes for."""
    try:
        return _build(constraint, vocabulary.alphabet)
    except (RegexError, SchemaError):
        _build(constraint)  # the constraint itself is at fault
        raise GrammarError("what the constraint allows cannot be spelled in this vocabulary") from None


def _build(constraint: Constraint, alphabet: int = ALL_BYTES) -> tuple[Expressions, int]:
    """(expressions, the one to match), or the error that the constraint deserves."""
    budget = Budget(COMPILE_STEPS, COMPILE_SECONDS)
    expressions = Expressions(budget, alphabet)
    try:
        if constraint.kind == "regex":
            start = compile_regex(constraint.text, expressions)
        elif constraint.kind != "json_schema":
            raise GrammarError(f"a constraint of kind {constraint.kind} is not available yet")
        elif constraint.options:
            raise GrammarError(f"JSON options {constraint.options} are not available yet")
        else:
            from .json_schema import compile_schema

            start = compile_schema(constraint.text, expressions)
    except RecursionError:
        raise GrammarTooComplex("is nested too deeply", place=budget.place) from None
    return expressions, start
