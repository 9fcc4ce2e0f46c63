"""gen(type=T): the text of an output as a value of T.

Here: TypedReader, which reads one variable's text when somebody asks for the value, and keeps what it found.
Not here: the schema of T (constraints), enforcing it (the runtime), how a type is parsed (forktree.grammar).

Parsing may run a user's code (pydantic validators, __post_init__), so it happens in the thread of whoever reads, never
on the loop.  The branch's text goes on with the JSON text, parsable or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import GenerationError, InvalidOutput
from .nodes import Gen

__all__ = ["TypedReader"]


class TypedReader:
    """Of one variable.  `value` gives the same object every time, or raises the same GenerationError."""

    __slots__ = ("_found", "_node")

    def __init__(self, node: Gen) -> None:
        self._node = node
        self._found: tuple[Any, GenerationError | None] | None = None

    @property
    def wanted(self) -> Any:
        """The type."""
        return self._node.value_type

    def value(self, text: str | list[str], meta: Mapping[str, Any] | None) -> Any:
        """One value, or for n outputs their list."""
        if self._found is None:  # two threads may both parse: what they find is equal, and one of them is kept
            try:
                if isinstance(text, str):
                    self._found = self._parse(text, meta or {}), None
                else:
                    outputs = (meta or {}).get("outputs") or [{}] * len(text)
                    self._found = [self._parse(*each) for each in zip(text, outputs, strict=True)], None
            except InvalidOutput as error:
                self._found = None, GenerationError(self._node, error)
        value, failure = self._found
        if failure is not None:
            raise failure.with_traceback(None)
        return value

    def _parse(self, text: str, meta: Mapping[str, Any]) -> Any:
        from forktree.grammar import parse_value

        wanted: Any = self._node.value_type
        try:
            return parse_value(wanted, text)
        except Exception as error:  # of the parser, of pydantic, or of the user's own validators
            finish = meta.get("finish_reason") or {}
            cut_after = meta.get("completion_tokens") if finish.get("type") == "length" else None
            raise InvalidOutput(text, wanted, error, cut_after=cut_after) from error
