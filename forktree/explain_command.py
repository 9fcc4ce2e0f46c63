"""forktree explain: find a program by name, read its arguments, and print what Program.explain says.

Imported by cli, which adds the command; heavy imports stay inside.  The work is forktree.lang's."""

from __future__ import annotations

import importlib
import json
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forktree.lang import Program

__all__ = ["WrongUse", "explain", "find_program", "read_arguments"]


class WrongUse(Exception):
    """The command line says something that can't be."""


def explain(
    target: str,
    arguments: Sequence[str],
    *,
    backend: Any,
    analyze: bool,
    as_json: bool,
    html: Path | None,
    say: Callable[[str], None],
) -> None:
    """Raises WrongUse, and what the program's own file raises."""
    program = find_program(target)
    found = program.explain_batch([read_arguments(arguments, program)], analyze=analyze, backend=backend)
    if html is not None:
        try:
            html.write_text(found.to_html(), encoding="utf-8")
        except OSError as error:
            raise WrongUse(f"--html: can't write {html}: {error.strerror or error}") from None
    if as_json:
        say(found.to_json())
    elif html is None:
        say(found.to_text())


def find_program(target: str) -> Program:
    """module:program, or path/to/file.py:program."""
    from forktree.lang import Program

    place, _, name = target.rpartition(":")
    if not place or not name:
        raise WrongUse(f"got {target!r}, wanted module:program or path/to/file.py:program")
    names = _names_in(place)
    programs = [each for each, value in names.items() if isinstance(value, Program)]
    found = names.get(name)
    if not isinstance(found, Program):
        is_there = f"{name!r} in {place} is no program" if name in names else f"{place} has no {name!r}"
        raise WrongUse(f"{is_there}; its programs are: {', '.join(programs) or 'none'}")
    return found


def _names_in(place: str) -> dict[str, Any]:
    """What a file or module defines; a file as `python FILE` would find it, but not as __main__."""
    if place.endswith(".py"):
        path = Path(place)
        if not path.is_file():
            raise WrongUse(f"{place}: no such file")
        sys.path.insert(0, str(path.resolve().parent))
        return runpy.run_path(str(path))
    sys.path.insert(0, "")
    try:
        return vars(importlib.import_module(place))
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise WrongUse(f"no module {place!r}; a file is named with .py, as path/to/file.py:program") from None
        raise


def read_arguments(given: Sequence[str], program: Program) -> dict[str, Any]:
    """name=value each; a value is JSON where it reads as JSON, else text."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise WrongUse(f"--arg: got {each!r}, wanted name=value")
        if name in found:
            raise WrongUse(f"--arg: {name!r} is given twice")
        if name not in program.arg_names:
            raise WrongUse(
                f"--arg: program {program.name!r} has no argument {name!r}; "
                f"it has {', '.join(program.arg_names) or 'none'}"
            )
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
