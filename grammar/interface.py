"""What the runtime asks of a compiled constraint, whichever backend compiled it.

forktree's own: compiler.Grammar and matcher.Matcher.  Through outlines-core: outlines_backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .constraint import Constraint
    from .vocabulary import Vocabulary

__all__ = ["BACKENDS", "AnyGrammar", "AnyMatcher", "Backend"]

Backend = Literal["forktree", "outlines"]
BACKENDS: tuple[Backend, ...] = ("forktree", "outlines")

Int32 = npt.NDArray[np.int32]


class AnyGrammar(Protocol):
    """Immutable to its users, shared by all requests."""

    @property
    def constraint(self) -> Constraint: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def everything(self) -> Int32: ...
    @property
    def num_states(self) -> int: ...
    def matcher(self) -> AnyMatcher: ...


class AnyMatcher(Protocol):
    """One request's place; matcher.Matcher says what each does."""

    @property
    def grammar(self) -> AnyGrammar: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def terminated(self) -> bool: ...
    @property
    def complete(self) -> bool: ...
    @property
    def finished(self) -> bool: ...
    def fill_mask(self, row: Int32, tokens_left: int | None = None) -> bool: ...
    def advance(self, token_id: int) -> None: ...
    def rollback(self, n: int) -> None: ...
    def forced(self) -> list[int]: ...
