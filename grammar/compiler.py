"""Constraint + Vocabulary -> Grammar: cached by content, bounded in states and seconds, safe to call from any thread.

Here: the cache, the lock of a grammar.  Not here: what a constraint means (front_ends.py), one request's
place (matcher.py)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import explain, front_ends
from .constraint import Constraint
from .errors import CompilationCancelled, EbnfError, GrammarError, GrammarTooComplex, RegexError, SchemaError
from .explain import Explanation, Report
from .expressions import Expressions
from .forced import MAX_FORCED_BYTES, forced_tokens
from .interface import BACKENDS, AnyGrammar, Backend
from .limits import CACHE_BYTES, CALL_SECONDS, CALL_STEPS, LONGEST_SHORTEST, MAX_BYTES, MAX_CONFIGURATIONS, Budget
from .matcher import Matcher
from .pda.automaton import Configuration, Pushdown
from .rules import Rules
from .token_budget import TokenBudget
from .token_mask import TokenMasks
from .vocabulary import Vocabulary

Int32 = npt.NDArray[np.int32]

COMMON_TEXTS = ('{"ab": [1, -20.5e+3, 0, "x\\n\\u00e9é語😀"], "c": {"d": true, "e": null}}', "-0.5", "10")
LOOK_SECONDS = 0.05  # between two looks at whether a call that waits for another's compilation was cancelled
MAX_NEXT = 50_000  # tokens whose way from one configuration to the next is remembered, per grammar


class Grammar:
    """A compiled constraint over one vocabulary: immutable to its users, shared by all requests.

    What it learns while it is used (states, rows, masks) it keeps; a lock guards that.

    start       the configuration before the first token        everything  the mask of all ids"""

    def __init__(
        self,
        constraint: Constraint,
        vocabulary: Vocabulary,
        base: Pushdown | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """base: of a grammar over the same vocabulary    cancelled: asked while it is compiled, see limits.Budget"""
        began = time.perf_counter()
        self.constraint, self.vocabulary = constraint, vocabulary
        self.everything = vocabulary.full_row  # `mask` returns this very object where all ids are allowed
        self._budget = Budget(cancelled=cancelled)
        if base is None:
            expressions = Expressions(self._budget, vocabulary.alphabet)
        else:
            expressions = base.expressions.copied(self._budget)
        rules, node = _spelled(constraint, expressions)
        if rules.shortest[node] > LONGEST_SHORTEST:
            raise GrammarTooComplex(f"its shortest text takes {rules.shortest[node]:,} bytes", place="the start")
        self._automaton = Pushdown(rules, base)
        self._masks = TokenMasks(self._automaton, vocabulary)
        self._within = TokenBudget(self._masks)
        self._forced: dict[Configuration, tuple[int, ...]] = {}
        self._remembered = 0
        self._eos = frozenset(vocabulary.eos_token_ids)
        self._lock = threading.RLock()
        self._root = node
        self.start = self._automaton.start(node)
        self._budget.cancelled = None
        self._old_bytes = self._automaton.num_bytes + MAX_BYTES // 2
        self._compile_seconds, self._first_mask_seconds = time.perf_counter() - began, 0.0

    def matcher(self) -> Matcher:
        """A new output, nothing of it generated yet."""
        return Matcher(self)

    @property
    def num_bytes(self) -> int:
        """Memory that it holds, about; it grows while it is used."""
        return self._automaton.num_bytes + self._masks.num_bytes + self._within.num_bytes

    @property
    def is_old(self) -> bool:
        """It has learned so much since it was compiled that a new one is better than to let it come to its limit."""
        return self._automaton.num_bytes > self._old_bytes

    def mask(self, at: Configuration | None, tokens_left: int | None = None) -> Int32:
        """int32 [num_words], read-only.  What Matcher.fill_mask writes.   at: None after EOS"""
        if at is None:
            return self.vocabulary.eos_row
        known = at.mask
        if tokens_left is None or self._within.is_ample(at, tokens_left):
            if known is not None and (row := known.row) is not None:
                return row
            began = time.perf_counter()
            with self._lock:
                self._renew_budget()
                row = self._masks.mask(at)
            if self._masks.walks == 1:
                self._first_mask_seconds = time.perf_counter() - began
            return row
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
        if self._automaton.num_configurations > MAX_CONFIGURATIONS:
            self._forget()

    def _forget(self) -> None:
        """Start again with what outputs came by, so that it does not grow for as long as a server runs."""
        self._automaton.forget_configurations()
        self._masks.forget()
        self._within.forget()
        self._forced.clear()
        self._remembered = 0

    def explain(self, at: Configuration | None, asked: int | bytes, tokens_left: int | None = None) -> Explanation:
        """Why a token, or a text, may or may not come next.   at: None after EOS"""
        with self._lock:
            self._renew_budget()
            if isinstance(asked, int):
                return explain.explain_token(self, at, asked, tokens_left)
            if at is None:
                return explain.Explanation(None, asked, False, "the output has ended")
            return explain.explain_text(self, at, asked)

    def report(self) -> Report:
        """What it took and holds, and what its compilation narrowed or ignored."""
        return explain.report(self)

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

    vocabulary  of the model            max_cached, max_bytes   grammars kept; the least recently used go first
    backend     "forktree", or "outlines": through outlines-core, which covers less (outlines_backend says what)"""

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        max_cached: int = 256,
        max_bytes: int = CACHE_BYTES,
        backend: Backend = "forktree",
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
        if max_cached < 1:
            raise ValueError(f"max_cached must be at least 1, not {max_cached}")
        self.vocabulary = vocabulary
        self.backend = backend
        self._max_cached, self._max_bytes = max_cached, max_bytes
        self._lock = threading.Lock()
        self._base_lock = threading.Lock()
        self._cached: OrderedDict[Constraint, AnyGrammar] = OrderedDict()
        self._running: dict[Constraint, _Running] = {}
        self._sizes: dict[Constraint, int] = {}  # of those in _cached, in bytes
        self._held = 0  # their sum

    def prepare(self) -> None:
        """Do now what the first constraint would wait for: the vocabulary's tries, what every schema needs."""
        if self.backend == "forktree":
            self._shared_base()

    @property
    def num_bytes(self) -> int:
        """Memory that the kept grammars hold, about."""
        with self._lock:
            return sum(grammar.num_bytes for grammar in self._cached.values())

    @cached_property
    def _base(self) -> Pushdown | None:
        """What every schema needs: the states of JSON's own texts, walked once; None if the vocabulary lacks bytes."""
        try:
            grammar = Grammar(Constraint.json_schema({}), self.vocabulary)
        except GrammarError:
            return None
        ids = {token: i for i, token in enumerate(self.vocabulary.tokens) if token is not None and len(token) == 1}
        for text in COMMON_TEXTS:
            matcher = grammar.matcher()
            for byte in text.encode():
                matcher.mask()
                token_id = ids.get(bytes((byte,)))
                if token_id is None or not matcher.try_advance(token_id):
                    break
        return grammar._automaton

    def _shared_base(self) -> Pushdown | None:
        with self._base_lock:
            return self._base

    def compile(self, constraint: Constraint, cancelled: Callable[[], bool] | None = None) -> AnyGrammar:
        """The grammar of a constraint.  Raises RegexError, SchemaError, EbnfError, GrammarTooComplex.

        cancelled: asked now and then, from this thread or another one that compiles the same; once it says True, this
        call ends with CompilationCancelled, and so does the work if nobody else waits for it."""
        while True:
            with self._lock:
                known = self._cached.get(constraint)
                if known is not None and not (isinstance(known, Grammar) and known.is_old):  # else it starts again
                    self._cached.move_to_end(constraint)
                    self._make_room()
                    return known
                running = self._running.get(constraint)
                mine = running is None
                if running is None:
                    running = self._running[constraint] = _Running()
                running.waiting.append(cancelled)
            if mine:
                return self._compile(constraint, running)
            try:
                return running.wait(cancelled)
            except CompilationCancelled:
                if cancelled is not None and cancelled():
                    raise  # else it was given up just before this call came to wait for it

    def _compile(self, constraint: Constraint, running: _Running) -> AnyGrammar:
        try:
            grammar = self._made(constraint, running.nobody_waits)
        except BaseException as error:
            with self._lock:
                del self._running[constraint]
            running.future.set_exception(error)
            raise
        with self._lock:
            del self._running[constraint]
            self._cached[constraint] = grammar
            self._cached.move_to_end(constraint)
            self._make_room()
        running.future.set_result(grammar)
        return grammar

    def _make_room(self) -> None:
        """Measure the last one asked for, and drop the least recently used grammars, but not that one.

        Grammars grow while they are used: what each held when it was last asked for is what counts."""
        constraint, grammar = next(reversed(self._cached.items()))
        held = grammar.num_bytes
        self._held += held - self._sizes.get(constraint, 0)
        self._sizes[constraint] = held
        while len(self._cached) > 1 and (len(self._cached) > self._max_cached or self._held > self._max_bytes):
            dropped, _ = self._cached.popitem(last=False)
            self._held -= self._sizes.pop(dropped)

    def _made(self, constraint: Constraint, cancelled: Callable[[], bool]) -> AnyGrammar:
        if self.backend == "forktree":
            return Grammar(constraint, self.vocabulary, self._shared_base(), cancelled)
        from .outlines_backend import OutlinesGrammar

        return OutlinesGrammar(constraint, self.vocabulary)


class _Running:
    """A compilation under way, and who waits for it."""

    def __init__(self) -> None:
        self.future: Future[AnyGrammar] = Future()
        self.waiting: list[Callable[[], bool] | None] = []  # of each: whether it has given up; None: it never does

    def nobody_waits(self) -> bool:
        return all(cancelled is not None and cancelled() for cancelled in self.waiting.copy())

    def wait(self, cancelled: Callable[[], bool] | None) -> AnyGrammar:
        while True:
            try:
                return self.future.result(None if cancelled is None else LOOK_SECONDS)
            except FutureTimeout:
                if cancelled is not None and cancelled():
                    raise CompilationCancelled from None


def _spelled(constraint: Constraint, expressions: Expressions) -> tuple[Rules, int]:
    """As `front_ends.build`, of those texts only that the vocabulary has the bytes for."""
    try:
        return front_ends.build(constraint, expressions)
    except (EbnfError, RegexError, SchemaError):
        front_ends.check(constraint)  # the constraint itself is at fault
        raise GrammarError("what the constraint allows cannot be spelled in this vocabulary") from None
