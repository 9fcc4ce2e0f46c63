"""What the contract tests look at: every Python file of the package, and what it imports.

Nothing here imports forktree: the sources are read, so that a file nobody imports is seen too.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lang", "runtime", "radix_cache", "grammar")


@dataclass(frozen=True)
class Import:
    """One imported module: `forktree.grammar` for both `import forktree.grammar` and `from ..grammar import check`."""

    target: str
    names: tuple[str, ...]  # of `from target import names`; () for a plain import
    line: int
    when_loaded: bool  # False inside a function or under `if TYPE_CHECKING:`
    relative: bool = False

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file, by its real path (`lang/api.py`) and its import name (`forktree.lang.api`)."""

    name: str
    path: Path  # relative to the root, through no link
    imports: tuple[Import, ...]

    @property
    def package(self) -> str:
        """`lang`, `runtime`, ... or `forktree` for the facade."""
        return self.path.parts[0]

    def tree(self) -> ast.Module:
        return parse(self.path)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=str(path))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, the facade's first."""
    paths = sorted((ROOT / "forktree").glob("*.py"))
    for package in PACKAGES:
        paths += sorted((ROOT / package).rglob("*.py"))
    return tuple(_read(path.relative_to(ROOT)) for path in paths)


def python_files(*folders: str) -> Iterator[Path]:
    """Every Python file below `folders`, relative to the root; links are not followed."""
    for folder in folders:
        for directory, subfolders, files in os.walk(ROOT / folder):
            subfolders[:] = [name for name in subfolders if not name.startswith((".", "__pycache__"))]
            yield from (Path(directory, name).relative_to(ROOT) for name in sorted(files) if name.endswith(".py"))


def imports_of(path: Path, module_name: str) -> tuple[Import, ...]:
    """What the file at `path` imports; relative imports are resolved against `module_name`."""
    is_package = path.name == "__init__.py"
    found: list[Import] = []

    def visit(node: ast.AST, when_loaded: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, (), node.lineno, when_loaded) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            found.append(
                Import(_target(node, module_name, is_package), names, node.lineno, when_loaded, node.level > 0)
            )
        in_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.iter_child_nodes(node):
            visit(child, when_loaded and not in_function and not for_types)

    visit(parse(path), True)
    return tuple(found)


def is_third_party(name: str) -> bool:
    return name not in sys.stdlib_module_names and name != "forktree"


def _read(path: Path) -> Module:
    dotted = path.with_suffix("").parts
    parts = dotted if dotted[0] == "forktree" else ("forktree", *dotted)
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, imports_of(path, name))


def _target(node: ast.ImportFrom, module_name: str, is_package: bool) -> str:
    if node.level == 0:
        return node.module or ""
    parts = module_name.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, node.module] if node.module else base)
