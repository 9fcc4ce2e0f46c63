"""Constraints of requests -> grammars, compiled off the engine loop.

Imported by the engine loop; imports grammar, never torch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..errors import InvalidRequest
from ..sampling_params import SamplingParams
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from forktree.grammar import Compiler, Grammar


class Constraints:
    """Compiles the constraints of one engine's requests on a thread of its own."""

    def __init__(
        self, tokenizer: Tokenizer, eos_token_ids: tuple[int, ...], prepare: Callable[[], None] | None = None
    ) -> None:
        """`prepare`: what else the first constraint needs, done on the same thread."""
        self._tokenizer, self._eos_token_ids, self._prepare = tokenizer, eos_token_ids, prepare
        self._compiler: Compiler | None = None  # made with the first constraint: most engines never see one
        self._worker = ThreadPoolExecutor(1, "forktree-grammar")

    async def compile(self, params: SamplingParams) -> Grammar | None:
        """The grammar that `params` ask for, if they do. Raises InvalidRequest naming the field."""
        if not params.constraint_field:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._compile, params)

    def close(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _compile(self, params: SamplingParams) -> Grammar:
        from forktree.grammar import Compiler, Constraint, GrammarError, Vocabulary  # numba: not at every start

        field = params.constraint_field
        try:
            if params.regex is not None:
                constraint = Constraint.regex(params.regex)
            else:
                assert params.json_schema is not None
                constraint = Constraint.json_schema(params.json_schema)
            if self._compiler is None:
                self._compiler = Compiler(Vocabulary(self._tokenizer.vocabulary(), self._eos_token_ids))
                if self._prepare is not None:
                    self._prepare()
            return self._compiler.compile(constraint)
        except GrammarError as error:
            raise InvalidRequest(field, str(error), "invalid_grammar") from None
        except RecursionError:
            raise InvalidRequest(field, "is nested too deeply", "invalid_grammar") from None
