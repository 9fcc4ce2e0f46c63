"""What a program's author can get wrong, and what can go wrong under a program; drawn as a tree.

    ProgramError
      ArgumentError (TypeError)      an argument that can't be what it is: found where it is written
        UnsupportedByBackend         something the backend of this run can't do: found where it is added to the state
      ConstraintError (ValueError)   a regex or schema that can't be enforced: found where it is written
        RegexError, SchemaError      the same, with the offset in the pattern or the pointer into the schema
      RoleError                      roles nested, left open, or a model without a chat template
      MissingVariable (KeyError)     a name that nothing has defined and nothing pending will define
      NoBackend                      nothing to run on
      StateClosed                    the program (or a joined branch) has ended, so nothing can be added to it
      ProgramCancelled               the program was abandoned or cancelled
      GenerationError                a node failed while it ran: node, file, line, and the cause
      BranchErrors                   branches of a fork failed: all of them, by index
      BatchErrors                    programs of a batch failed: all of them, by index, and the states of all programs
      GraphError (ValueError)        JSON that is not a graph, with the JSON pointer of what is wrong
    BackendError                     what a backend raises; programs see it as the cause of a GenerationError
      RequestRefused                 4xx: the request is wrong; message and field
      BackendUnavailable             nobody answers, or not any more
      BackendTimeout                 no answer in time

Imports nothing but nodes' source lines; no error here needs a model to be understood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import Node, SourceLine
    from .state import ProgramState

__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BatchErrors",
    "BranchErrors",
    "ConstraintError",
    "GenerationError",
    "GraphError",
    "MissingVariable",
    "NoBackend",
    "ProgramCancelled",
    "ProgramError",
    "RegexError",
    "RequestRefused",
    "RoleError",
    "SchemaError",
    "StateClosed",
    "UnsupportedByBackend",
]

_MOST_SHOWN = 8


class ProgramError(Exception):
    """Root of what forktree.lang raises on purpose; its text is complete without the traceback."""


class ArgumentError(ProgramError, TypeError):
    """An argument of gen, select, run, ... that can't be right."""


class UnsupportedByBackend(ArgumentError):
    """A node asks for what the run's backend can't do.  `about` is the option's name, or "select", "roles",
    "free_text", "continues_turn"."""

    def __init__(self, message: str, about: str) -> None:
        super().__init__(message)
        self.about = about


class ConstraintError(ProgramError, ValueError):
    """A constraint that can't be enforced.  `where` is the node and its line; the grammar's own error is the
    __cause__."""

    def __init__(self, message: str, where: str) -> None:
        super().__init__(f"{message}\nIn {where}" if where else message)
        self.where = where


class RegexError(ConstraintError):
    """offset: where in the pattern, None where it is the pattern as a whole."""

    def __init__(self, message: str, where: str, offset: int | None = None) -> None:
        super().__init__(message, where)
        self.offset = offset


class SchemaError(ConstraintError):
    """pointer: JSON pointer into the schema, "" where it is the schema as a whole."""

    def __init__(self, message: str, where: str, pointer: str = "") -> None:
        super().__init__(message, where)
        self.pointer = pointer


class RoleError(ProgramError):
    """Roles that don't nest, or a model that has none."""


class MissingVariable(ProgramError, KeyError):
    """A variable that neither exists nor can still come into being."""

    def __init__(self, name: object, known: Sequence[str], source: SourceLine | None = None) -> None:
        names = ", ".join(repr(each) for each in known) or "none"
        at = f" at {source}" if source is not None else ""
        super().__init__(f"no variable {name!r}{at}; this state has: {names}")
        self.name, self.known, self.source = name, tuple(known), source

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


class NoBackend(ProgramError):
    """A program was run with nothing to run it on."""

    def __init__(self, caller: str) -> None:
        super().__init__(
            f"{caller} has no backend. Name one for the whole process, ft.set_default_backend(ft.Runtime()) or "
            f"ft.set_default_backend(ft.RuntimeEndpoint(url)), or give it to this call: backend=ft.Runtime()"
        )


class StateClosed(ProgramError):
    """Something was added to a program that has returned, or to a branch that was joined."""


class ProgramCancelled(ProgramError):
    """The program was cancelled, or everybody who could have read it is gone."""


class GenerationError(ProgramError):
    """A node failed while it ran: `node` (with its file and line) and the `cause`.  What came after it in the same
    branch did not run."""

    def __init__(self, node: Node, cause: BaseException) -> None:
        what = str(cause) or type(cause).__name__
        super().__init__(f"{node.label} at {node.source} failed: {what}")
        self.node, self.cause = node, cause
        if isinstance(cause, BackendError):  # raised on purpose, so its text says all; what else it is may be a bug
            cause.__traceback__, cause.__suppress_context__ = None, True
        self.__cause__ = cause

    @property
    def source(self) -> SourceLine:
        return self.node.source


class BranchErrors(ProgramError):
    """`errors` maps the index of every branch that failed to its error; the other branches can still be read."""

    def __init__(self, errors: Mapping[int, BaseException], num_branches: int, source: SourceLine) -> None:
        super().__init__(
            f"{len(errors)} of {num_branches} branches of the fork at {source} failed\n{_listed('branch', errors)}"
        )
        self.errors, self.source = dict(errors), source
        self.__cause__ = next(iter(errors.values()))

    @property
    def exceptions(self) -> tuple[BaseException, ...]:
        return tuple(self.errors.values())


class BatchErrors(ProgramError):
    """`errors` maps the index of every program that failed to its error; `states` has the state of every program, in
    order."""

    def __init__(self, errors: Mapping[int, BaseException], states: Sequence[ProgramState]) -> None:
        super().__init__(f"{len(errors)} of {len(states)} programs failed\n{_listed('program', errors)}")
        self.errors, self.states = dict(errors), list(states)
        self.__cause__ = next(iter(errors.values()))

    @property
    def exceptions(self) -> tuple[BaseException, ...]:
        return tuple(self.errors.values())


class GraphError(ProgramError, ValueError):
    """pointer: JSON pointer to what is wrong in a graph, "" where it is the graph as a whole."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(f"graph at #{pointer}: {message}")
        self.pointer = pointer


class BackendError(Exception):
    """Something under the program failed; the program's node and line are in the GenerationError around it."""


class RequestRefused(BackendError):
    """The request itself is wrong and would be refused again.  `field` is the sampling or request field at fault, ""
    if unknown."""

    def __init__(self, message: str, *, field: str = "", code: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.message, self.field, self.code, self.status = message, field, code, status


class BackendUnavailable(BackendError):
    """The server or engine can't be reached, or went away with the request."""


class BackendTimeout(BackendError):
    """The time allowed ran out."""


def _listed(what: str, errors: Mapping[int, BaseException]) -> str:
    lines = [f"  {what} {index}: {_one_line(error)}" for index, error in list(errors.items())[:_MOST_SHOWN]]
    if len(errors) > _MOST_SHOWN:
        lines.append(f"  and {len(errors) - _MOST_SHOWN} more (see .errors)")
    return "\n".join(lines)


def _one_line(error: BaseException) -> str:
    text = str(error).replace("\n", "\n    ")
    return f"{type(error).__name__}: {text}"
