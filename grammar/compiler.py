"""Constraint + Vocabulary -> Grammar: cached by content, bounded in states and seconds, safe to call from any thread.

Here: the cache, the lock of a grammar, warming up.  Not here: what a constraint means (front_ends.py), one request's
place (matcher.py)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import front_ends
from .constraint import Constraint
from .errors import EbnfError, GrammarError, RegexError, SchemaError
from .expressions import Expressions
from .forced import MAX_FORCED_BYTES, forced_tokens
from .interface import BACKENDS, AnyGrammar, Backend
from .limits import CALL_SECONDS, CALL_STEPS, Budget
from .matcher import Matcher
from .pda.automaton import MAX_BYTES, Configuration, Pushdown
from .rules import Rules
from .token_budget import TokenBudget
from .token_mask import TokenMasks
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

COMMON_TEXTS = ('{"ab": [1, -20.5e+3, 0, "x\\n\\u00e9é語😀"], "c": {"d": true, "e": null}}', "-0.5", "10")
MAX_NEXT = 50_000  # tokens whose way from one configuration to the next is remembered, per grammar


class Grammar:
    """A compiled constraint over one vocabulary: immutable to its users, shared by all requests.

    What it learns while it is used (states, rows, masks) it keeps; a lock guards that.

    start       the configuration before the first token        everything  the mask of all ids"""

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary, base: Pushdown | None = None) -> None:
        self.constraint, self.vocabulary = constraint, vocabulary
        self.everything = vocabulary.full_row  # `mask` returns this very object where all ids are allowed
        self._budget = Budget()
        if base is None:
            expressions = Expressions(self._budget, vocabulary.alphabet)
        else:
            expressions = base.expressions.copied(self._budget)
        rules, node = _spelled(constraint, expressions)
        self._automaton = Pushdown(rules, base)
        self._masks = TokenMasks(self._automaton, vocabulary)
        self._within = TokenBudget(self._masks)
        self._forced: dict[Configuration, tuple[int, ...]] = {}
        self._remembered = 0
        self._eos = frozenset(vocabulary.eos_token_ids)
        self._lock = threading.RLock()
        self.start = self._automaton.start(node)

    def matcher(self) -> Matcher:
        """A new output, nothing of it generated yet."""
        return Matcher(self)

    @property
    def num_bytes(self) -> int:
        """Memory that it holds, about."""
        return self._automaton.num_bytes + self._masks.num_bytes

    def mask(self, at: Configuration | None, tokens_left: int | None = None) -> Int32:
        """int32 [num_words], read-only.  What Matcher.fill_mask writes.   at: None after EOS"""
        if at is None:
            return self.vocabulary.eos_row
        if tokens_left is None or self._within.is_ample(at, tokens_left):
            if at.mask is not None:
                return at.mask.row
            with self._lock:
                self._renew_budget()
                return self._masks.mask(at)
        with self._lock:
            self._renew_budget()
            return self._within.mask_within(at, tokens_left)

    def after(self, at: Configuration, token_id: int) -> Configuration | None:
        """The configuration after a token, None after EOS; GrammarError if the token is not allowed."""
        if not 0 <= token_id < len(self.vocabulary):
            raise GrammarError(f"{token_id} is no token id; there are {len(self.vocabulary)}")
        if token_id in self._eos:
            if not at.accepting:
                raise GrammarError(f"token {token_id} (end of output) is not allowed: the output is not complete")
            return None
        text = self.vocabulary.tokens[token_id]
        if text is None:
            raise GrammarError(f"token {token_id} is a special token: a constraint never allows it")
        with self._lock:
            self._renew_budget()
            after = self._automaton.advance(at, text)
            if after is None:
                raise GrammarError(f"token {token_id} {text!r} is not allowed here")
            if self._remembered < MAX_NEXT:
                self._remembered += 1
                at.next[token_id] = after
        return after

    def _renew_budget(self) -> None:
        """What one call may explore."""
        self._budget.place = "the generated text"
        self._budget.renew(CALL_STEPS, CALL_SECONDS)

    def tokens_needed(self, at: Configuration, limit: int | None = None) -> int:
        with self._lock:
            self._renew_budget()
            return self._within.tokens_needed(at, limit)

    def forced_bytes(self, at: Configuration) -> bytes:
        known = at.forced
        if known is None:
            with self._lock:
                self._renew_budget()
                known = at.forced = self._automaton.forced(at, MAX_FORCED_BYTES)[0]
        return known

    def forced(self, at: Configuration) -> list[int]:
        with self._lock:
            self._renew_budget()
            known = self._forced.get(at)
            if known is None:
                known = self._forced[at] = tuple(forced_tokens(self._automaton, self._masks, self.vocabulary, at))
        return list(known)


class Compiler:
    """Grammars by content.  `compile` may be called from any thread; one constraint is compiled once at a time.

    vocabulary  of the model            max_cached  grammars kept; the least recently used go first
    backend     "forktree", or "outlines": through outlines-core, which covers less (outlines_backend says what)"""

    def __init__(self, vocabulary: Vocabulary, *, max_cached: int = 256, backend: Backend = "forktree") -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
        if max_cached < 1:
            raise ValueError(f"max_cached must be at least 1, not {max_cached}")
        self.vocabulary = vocabulary
        self.backend = backend
        self._max_cached = max_cached
        self._lock = threading.Lock()
        self._cached: OrderedDict[Constraint, AnyGrammar] = OrderedDict()
        self._running: dict[Constraint, Future[AnyGrammar]] = {}

    @cached_property
    def _base(self) -> Pushdown:
        """What every schema needs: the states of JSON's own texts, walked once."""
        grammar = Grammar(Constraint.json_schema({}), self.vocabulary)
        ids = {token: i for i, token in enumerate(self.vocabulary.tokens) if token is not None and len(token) == 1}
        for text in COMMON_TEXTS:
            matcher = grammar.matcher()
            for byte in text.encode():
                matcher.mask()
                token_id = ids.get(bytes((byte,)))
                if token_id is None or not matcher.try_advance(token_id):
                    break
        return grammar._automaton

    def compile(self, constraint: Constraint) -> AnyGrammar:
        """The grammar of a constraint.  Raises RegexError, SchemaError, EbnfError, GrammarTooComplex."""
        with self._lock:
            known = self._cached.get(constraint)
            if known is not None and known.num_bytes < MAX_BYTES // 2:  # a grammar that has grown old starts again
                self._cached.move_to_end(constraint)
                return known
            future = self._running.get(constraint)
            mine = future is None
            if future is None:
                future = self._running[constraint] = Future()
        if not mine:
            return future.result()
        try:
            grammar = self._made(constraint)
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

    def _made(self, constraint: Constraint) -> AnyGrammar:
        if self.backend == "forktree":
            return Grammar(constraint, self.vocabulary, self._base)
        from .outlines_backend import OutlinesGrammar

        return OutlinesGrammar(constraint, self.vocabulary)


def warmup() -> None:
    """Compile this package's numba loops or load them from numba's cache on disk: seconds, the first time."""
    vocabulary = Vocabulary([bytes((b,)) for b in range(256)] + [b'": "', None], [257])
    for constraint in (
        Constraint.regex("ab?"),
        Constraint.json_schema({"type": "array", "uniqueItems": True, "items": {"type": "string"}}),
    ):
        matcher = Grammar(constraint, vocabulary).matcher()
        row = np.zeros(vocabulary.num_words, dtype=np.int32)
        matcher.fill_mask(row)
        matcher.fill_mask(row, 1)
        matcher.forced()
        matcher.tokens_needed()


def _spelled(constraint: Constraint, expressions: Expressions) -> tuple[Rules, int]:
    """As `front_ends.build`, of those texts only that the vocabulary has the bytes for."""
    try:
        return front_ends.build(constraint, expressions)
    except (EbnfError, RegexError, SchemaError):
        front_ends.check(constraint)  # the constraint itself is at fault
        raise GrammarError("what the constraint allows cannot be spelled in this vocabulary") from None
