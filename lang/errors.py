"""What a program's author can get wrong, and what can go wrong under a program; drawn as a tree.

    ProgramError
      ArgumentError (TypeError)      an argument that can't be what it is: found where it is written
        UnsupportedByBackend         something the backend of this run can't do: found where it is added to the state
      ConstraintError (ValueError)   a regex or schema that can't be enforced: found where it is written
        RegexError, SchemaError      the same, with the offset in the pattern or the pointer into the schema
      RoleError                      roles nested, left open, or a model without a chat template
      MissingVariable (KeyError)     a name that nothing has defined and nothing pending will define
      NoBackend                      nothing to run on
      BlockingRead                   a plain read in an async program, where only an awaited one may wait
      StateClosed                    the program (or a joined branch) has ended, so nothing can be added to it
      ProgramCancelled               the program was abandoned or cancelled
      DeadlineExceeded (TimeoutError) the time of a gen, or of the whole run, is up
      GenerationError                a node failed while it ran: node, file, line, and the cause
      ProgramErrors (ExceptionGroup) several of these at once, by index; the class itself: branches of several forks
        BranchErrors                 branches of a fork failed: all of them, by index
        BatchErrors                  programs of a batch failed: all of them, by index, and the states of all programs
      GraphError (ValueError)        JSON that is not a graph, with the JSON pointer of what is wrong
    BackendError                     what a backend raises; programs see it as the cause of a GenerationError
      RequestRefused                 4xx: the request is wrong; message and field
      BackendUnavailable             nobody answers, or not any more
      BackendTimeout                 no answer in time
    InvalidOutput (ValueError)       what gen(type=...) got is no value of that type; the cause of a GenerationError

All of them can be pickled, as programs in a pool of processes need: the text stays as it is, and None stands for an
attribute that another process may not know, such as a node, or the states of a batch.

Imports nothing but nodes' source lines; no error here needs a model to be understood."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .nodes import Node, SourceLine
    from .state import ProgramState

__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendTimeout",
    "BackendUnavailable",
    "BatchErrors",
    "BlockingRead",
    "BranchErrors",
    "ConstraintError",
    "DeadlineExceeded",
    "GenerationError",
    "GraphError",
    "InvalidOutput",
    "MissingVariable",
    "NoBackend",
    "ProgramCancelled",
    "ProgramError",
    "ProgramErrors",
    "RegexError",
    "RequestRefused",
    "RoleError",
    "SchemaError",
    "StateClosed",
    "UnsupportedByBackend",
]

_MOST_SHOWN = 8
_MOST_CHARACTERS = 400


if sys.version_info >= (3, 11):
    _Group = ExceptionGroup[Exception]  # noqa: F821  # the oldest Python that we run on has none
else:
    _OfGroup = TypeVar("_OfGroup", bound="_Group")

    class _Group(Exception):
        """What is used here of ExceptionGroup; one traceback can only show the first of them."""

        message: str
        exceptions: tuple[Exception, ...]

        def __new__(cls: type[_OfGroup], message: str, exceptions: Sequence[Exception]) -> _OfGroup:
            self = super().__new__(cls, message, exceptions)
            self.message, self.exceptions = message, tuple(exceptions)
            self.__cause__ = self.exceptions[0]
            return self


def _rebuilt(kind: type[Exception], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> Exception:
    """A pickled error, read again: as it was, its __init__ not asked."""
    maker = super(ProgramErrors, kind) if issubclass(kind, ProgramErrors) else kind
    error: Exception = maker.__new__(kind, *args)
    error.args = args
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def _travels(value: object) -> bool:
    """Other values, a node or a user's own exception, may be of classes that no other process can make."""
    if isinstance(value, (ProgramError, BackendError, InvalidOutput)):
        return True
    if isinstance(value, BaseException):
        return type(value).__module__ == "builtins" and all(map(_travels, value.args))
    if isinstance(value, tuple):
        return all(map(_travels, value))
    return value is None or type(value) in (str, int, float, bool) or type(value).__name__ == "SourceLine"


def _attributes(error: Exception) -> dict[str, Any]:
    return {name: value if _travels(value) else None for name, value in vars(error).items()}


class ProgramError(Exception):
    """Root of what forktree.lang raises on purpose; its text is complete without the traceback."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, _attributes(self))


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


class BlockingRead(ProgramError):
    """An async program read plainly what is not there yet; waiting for it would stop its event loop."""


class StateClosed(ProgramError):
    """Something was added to a program that has returned, or to a branch that was joined."""


class ProgramCancelled(ProgramError):
    """The program was cancelled, or everybody who could have read it is gone."""


class DeadlineExceeded(ProgramError, TimeoutError):
    """`node` is what ran when the time was up: a gen or select whose own time it was, or what a branch of a run that
    is out of time was doing, None if nothing.  The request has been cancelled on the backend."""

    def __init__(self, message: str, node: Node | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.source: SourceLine | None = node.source if node is not None else None


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

        self.source: SourceLine = node.source


_Errors = TypeVar("_Errors", bound="ProgramErrors")


class ProgramErrors(ProgramError, _Group):
    """Several errors at once, an ExceptionGroup from Python 3.11 on: `except* ft.GenerationError` picks out of it.

    errors maps an index to each: here the forks of a program whose branches failed; exceptions has them in order."""

    _each = "fork"

    def __new__(cls: type[_Errors], errors: Mapping[int, BaseException], *about: Any) -> _Errors:
        message = f"{cls._headline(errors, *about)}\n{_listed(cls._each, errors)}"
        return super().__new__(cls, message, [_of_program(error) for error in errors.values()])

    def __init__(self, errors: Mapping[int, BaseException], *about: Any) -> None:
        super().__init__(self.message, self.exceptions)
        self.errors = dict(zip(errors, self.exceptions, strict=True))

    @classmethod
    def _headline(cls, errors: Mapping[int, BaseException], *about: Any) -> str:
        return f"branches of {len(errors)} forks failed"

    def __str__(self) -> str:
        return self.message  # complete as it is: ExceptionGroup would add how many there are

    def __reduce__(self) -> tuple[Any, ...]:
        kept = [each if _travels(each) else ProgramError(_one_line(each)) for each in self.exceptions]
        attributes = {**_attributes(self), "errors": dict(zip(self.errors, kept, strict=True))}
        attributes.pop("message", None)  # where Python has no groups; its maker knows these from the args
        attributes.pop("exceptions", None)
        return _rebuilt, (type(self), (self.message, tuple(kept)), attributes)


class BranchErrors(ProgramErrors):
    """`errors` maps the index of every branch that failed to its error, which is again a BranchErrors where branches
    of that branch failed; the other branches can still be read."""

    _each = "branch"

    def __init__(self, errors: Mapping[int, BaseException], num_branches: int, source: SourceLine) -> None:
        super().__init__(errors)
        self.source = source

    @classmethod
    def _headline(cls, errors: Mapping[int, BaseException], *about: Any) -> str:
        num_branches, source = about
        return f"{len(errors)} of {num_branches} branches of the fork at {source} failed"


class BatchErrors(ProgramErrors):
    """`errors` maps the index of every program that failed to its error; `states` has the state of every program, in
    order."""

    _each = "program"

    def __init__(self, errors: Mapping[int, BaseException], states: Sequence[ProgramState]) -> None:
        super().__init__(errors)
        self.states = list(states)

    @classmethod
    def _headline(cls, errors: Mapping[int, BaseException], *about: Any) -> str:
        return f"{len(errors)} of {len(about[0])} programs failed"


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


class InvalidOutput(ValueError):
    """An output that is no value of gen's type: `text` as it came, the `wanted` type, and the parser's error as the
    __cause__.  cut_after: the tokens after which it was cut off, if it was."""

    def __init__(self, text: str, wanted: object, reason: object, *, cut_after: int | None = None) -> None:
        name = getattr(wanted, "__name__", None) or str(wanted)
        cut = f"cut off after {cut_after} tokens (see max_tokens), " if cut_after is not None else ""
        super().__init__(f"the output is {cut}no {name}: {reason}\nIt was: {_shortened(text)}")
        self.text, self.wanted, self.cut_after = text, wanted, cut_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, _attributes(self))


def _shortened(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return repr(text)
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]!r} ... {text[-half:]!r} ({len(text)} characters)"


def _of_program(error: BaseException) -> Exception:
    """As a group may hold it: a program that was ended from outside has GreenletExit, which is no Exception."""
    if isinstance(error, Exception):
        return error
    ended = ProgramCancelled("the program was abandoned")
    ended.__cause__ = error
    return ended


def _listed(what: str, errors: Mapping[int, BaseException]) -> str:
    lines = [f"  {what} {index}: {_one_line(error)}" for index, error in list(errors.items())[:_MOST_SHOWN]]
    if len(errors) > _MOST_SHOWN:
        lines.append(f"  and {len(errors) - _MOST_SHOWN} more (see .errors)")
    return "\n".join(lines)


def _one_line(error: BaseException) -> str:
    text = str(error).replace("\n", "\n    ")
    return f"{type(error).__name__}: {text}"
