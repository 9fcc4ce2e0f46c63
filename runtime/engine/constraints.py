"""Constraints of requests -> grammars, compiled off the engine loop.

Imported by the engine loop; imports grammar, never torch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..sampling_params import SamplingParams
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from forktree.grammar import AnyMatcher, Compiler, Constraint

    from ..config import GrammarBackend

log = logging.getLogger("forktree.engine")

MANY_TOKENS = 1_000_000  # so many are not counted
NUM_WORKERS = 4  # a constraint that takes its whole time limit holds up no other


class Constraints:
    """Compiles the constraints of one engine's requests on threads of its own."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_token_ids: tuple[int, ...],
        backend: GrammarBackend = "forktree",
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """`prepare`: what else the first constraint needs, done on the same thread."""
        self._backend = backend
        self._tokenizer, self._eos_token_ids, self._prepare = tokenizer, eos_token_ids, prepare
        self._compiler: Compiler | None = None  # made with the first constraint: most engines never see one
        self._making = threading.Lock()
        self._workers = ThreadPoolExecutor(NUM_WORKERS, "forktree-grammar")

    def prepare(self) -> None:
        """Begin with what the first constraint would wait for, on a thread of its own."""
        if self._backend == "forktree":
            self._workers.submit(self._warm_up)

    async def compile(self, params: SamplingParams, *, room: int) -> AnyMatcher | None:
        """The start of the grammar that `params` ask for, if they do. Cancelling it drops what has not begun, and ends
        a compilation that nobody else waits for.

        room   tokens that the context has for the output
        Raises InvalidRequest naming the field: the constraint's, or max_new_tokens if no output is as short as that."""
        if not params.constraint_field:
            return None
        cancelled = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._workers, self._compile, params, room, cancelled.is_set
            )
        finally:
            cancelled.set()

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _warm_up(self) -> None:
        from forktree.grammar import warmup

        try:
            warmup()
            self._made_compiler().prepare()
        except Exception:  # the first constraint will tell; nobody waits for this
            log.exception("preparing for constraints failed")

    def _compile(self, params: SamplingParams, room: int, cancelled: Callable[[], bool]) -> AnyMatcher:
        from forktree.grammar import GrammarError  # numba: not at every start

        field = params.constraint_field
        try:
            matcher = self._made_compiler().compile(_constraint(params), cancelled).matcher()
            needed = matcher.tokens_needed(params.max_new_tokens or None)
        except GrammarError as error:
            raise InvalidRequest(field, str(error), "invalid_grammar") from None
        except RecursionError:
            raise InvalidRequest(field, "is nested too deeply", "invalid_grammar") from None
        if 0 < params.max_new_tokens < needed:  # the end of sequence needs no token: a whole output ends by itself
            left = " that the context leaves room for" if params.max_new_tokens == room else ""
            raise InvalidRequest(
                "max_new_tokens",
                f"got {params.max_new_tokens}{left}; the shortest output that {field} allows takes {_tokens(needed)}",
                "max_tokens_too_small",
            )
        return matcher

    def _made_compiler(self) -> Compiler:
        from forktree.grammar import Compiler, Vocabulary

        with self._making:
            if self._compiler is None:
                vocabulary = Vocabulary(self._tokenizer.vocabulary(), self._eos_token_ids)
                compiler = Compiler(vocabulary, backend=self._backend)
                if self._prepare is not None:
                    self._prepare()
                self._compiler = compiler
            return self._compiler


def _constraint(params: SamplingParams) -> Constraint:
    from forktree.grammar import Constraint

    if params.regex is not None:
        return Constraint.regex(params.regex)
    if params.ebnf is not None:
        return Constraint.ebnf(params.ebnf)
    if params.structural_tag is not None:
        return Constraint.structural_tag(params.structural_tag)
    assert params.json_schema is not None
    kind, _, blanks = (params.white_space or "bounded").partition(":")
    white_space = ("pretty", int(blanks or 2)) if kind == "pretty" else kind
    return Constraint.json_schema(params.json_schema, white_space=white_space, order=params.order or "auto")  # type: ignore[arg-type]  # checked by SamplingParams


def _tokens(needed: int) -> str:
    return f"{needed} tokens" if needed < MANY_TOKENS else f"more than {MANY_TOKENS:,} tokens"
