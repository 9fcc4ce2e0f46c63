"""What a constraint's author can get wrong, as data first and text second.

GrammarError                  also: a token that the mask does not allow, a rollback too far
  RegexError                  pattern, offset
  SchemaError                 pointer, keyword, value
  EbnfError                   text, line, column
  GrammarTooComplex           place: where the budget of states or seconds ran out
  CompilationCancelled        nobody waits for it any more
"""

from __future__ import annotations

__all__ = ["CompilationCancelled", "EbnfError", "GrammarError", "GrammarTooComplex", "RegexError", "SchemaError"]

CARET_WIDTH = 100  # characters of a long pattern shown around its caret


class GrammarError(Exception):
    """Anything that is wrong with a constraint, or with the use of a matcher."""


class RegexError(GrammarError):
    """A pattern that is malformed, not regular, or matches nothing.

    pattern   the whole pattern            offset   0-based, in characters: where it goes wrong
    message   one line, without position   hint     what to write instead, or ""
    """

    def __init__(self, message: str, *, pattern: str, offset: int, hint: str = "") -> None:
        self.message, self.pattern, self.offset, self.hint = message, pattern, offset, hint
        first = max(0, offset - CARET_WIDTH // 2)
        shown = pattern[first : first + CARET_WIDTH].translate(
            dict.fromkeys((*range(32), *range(0xD800, 0xE000)), 65533)
        )
        caret = " " * (offset - first) + "^"
        text = f"{message} at offset {offset}\n    {shown}\n    {caret}"
        super().__init__(f"{text}   {hint}" if hint else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_regex, (self.message, self.pattern, self.offset, self.hint)


class SchemaError(GrammarError):
    """A schema that is malformed, cannot be enforced, or that no value satisfies.

    pointer   JSON pointer of the (sub)schema as a URI fragment: "#/properties/tags"
    keyword   the keyword at fault, or ""          value   what stands there
    message   one line, without position           hint    what to write instead, or ""
    """

    def __init__(self, message: str, *, pointer: str, keyword: str = "", value: object = None, hint: str = "") -> None:
        self.message, self.pointer, self.keyword, self.value, self.hint = message, pointer, keyword, value, hint
        place = f"{pointer}/{keyword}" if keyword else pointer
        text = f"at {place}: {message}"
        super().__init__(f"{text}\n    {hint}" if hint else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_schema, (self.message, self.pointer, self.keyword, self.value, self.hint)


class EbnfError(GrammarError):
    """A grammar (lark syntax or GBNF) that is malformed, cannot be enforced, or that no text satisfies.

    text      the whole grammar                    line, column   1-based, in characters: where it goes wrong
    message   one line, without position           hint           what to write instead, or ""
    """

    def __init__(self, message: str, *, text: str, line: int, column: int, hint: str = "") -> None:
        self.message, self.text, self.line, self.column, self.hint = message, text, line, column, hint
        lines = text.split("\n")
        whole = lines[line - 1] if 0 < line <= len(lines) else ""
        first = max(0, column - 1 - CARET_WIDTH // 2)
        shown = whole[first : first + CARET_WIDTH].translate(dict.fromkeys(range(32), 32))
        caret = " " * (column - 1 - first) + "^"
        shown_text = f"{message} at line {line}, column {column}\n    {shown}\n    {caret}"
        super().__init__(f"{shown_text}   {hint}" if hint else shown_text)

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_ebnf, (self.message, self.text, self.line, self.column, self.hint)


class GrammarTooComplex(GrammarError):
    """A constraint that needs more states or seconds than its budget.   place: what was being worked on."""

    def __init__(self, message: str, *, place: str) -> None:
        self.message, self.place = message, place
        super().__init__(f"{message} (at {place})")

    def __reduce__(self) -> tuple[object, ...]:
        return _restore_too_complex, (self.message, self.place)


class CompilationCancelled(GrammarError):
    """A compilation that was given up because nobody waits for it any more."""

    def __init__(self) -> None:
        super().__init__("the compilation was cancelled")


def _restore_regex(message: str, pattern: str, offset: int, hint: str) -> RegexError:
    return RegexError(message, pattern=pattern, offset=offset, hint=hint)


def _restore_schema(message: str, pointer: str, keyword: str, value: object, hint: str) -> SchemaError:
    return SchemaError(message, pointer=pointer, keyword=keyword, value=value, hint=hint)


def _restore_ebnf(message: str, text: str, line: int, column: int, hint: str) -> EbnfError:
    return EbnfError(message, text=text, line=line, column=column, hint=hint)


def _restore_too_complex(message: str, place: str) -> GrammarTooComplex:
    return GrammarTooComplex(message, place=place)
