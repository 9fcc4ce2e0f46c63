"""Imports point one way:  facade -> {lang -> grammar, runtime -> {radix_cache, grammar}};  see docs/architecture.md."""

from __future__ import annotations

import pytest

from tests.contracts.sources import PACKAGES, Import, Module, imports_of, is_third_party, modules, python_files

MAY_IMPORT = {
    "forktree": {"forktree", "lang", "runtime", "radix_cache", "grammar"},
    "lang": {"lang", "grammar"},
    "runtime": {"runtime", "radix_cache", "grammar"},
    "radix_cache": {"radix_cache"},
    "grammar": {"grammar"},
}
THE_ONE_DOOR = ("forktree.lang.backends.local", "runtime")  # the backend that starts an Engine

MAY_IMPORT_INSIDE_RUNTIME = {
    "server": {"engine", "observe"},
    "engine": {"scheduler", "execution", "models", "attention", "memory", "observe"},
    "execution": {"models", "attention", "kernels", "memory"},
    "scheduler": {"memory"},
    "models": {"attention", "kernels", "memory"},
    "attention": {"kernels", "memory"},
    "memory": set(),
    "kernels": set(),
    "observe": set(),
}
WORDS_OF_RUNTIME = {"config", "errors", "request", "sampling_params"}  # shared by all of its parts

THIRD_PARTY = {
    "radix_cache": {"numpy"},
    "grammar": {"numpy", "numba", "outlines_core", "interegular", "lark"},
}
ONLY_IN = {
    "triton": ("forktree.runtime.kernels",),
    "aiohttp": ("forktree.runtime.server", "forktree.lang.backends.http_client"),
    "torch": ("forktree.runtime",),
    "transformers": ("forktree.runtime",),
    "zmq": ("forktree.runtime.engine",),
}


def ours(imported: Import) -> str | None:
    """The package of ours that is imported: `lang`, ..., `forktree` for the facade; None for anyone else's."""
    if imported.top != "forktree":
        return None
    rest = imported.target.split(".")[1:]
    if rest:
        return rest[0] if rest[0] in PACKAGES else "forktree"
    from_facade = set(imported.names) & set(PACKAGES)
    return next(iter(from_facade)) if from_facade else "forktree"


def inside(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def where(module: Module, imported: Import) -> str:
    return f"{module.path}:{imported.line}: {module.name} imports {imported.target}"


def all_imports() -> list[tuple[Module, Import]]:
    return [(module, imported) for module in modules() for imported in module.imports]


def test_packages_import_only_what_lies_below_them() -> None:
    wrong = []
    for module, imported in all_imports():
        package = ours(imported)
        if package is None or package in MAY_IMPORT[module.package] or (module.name, package) == THE_ONE_DOOR:
            continue
        wrong.append(where(module, imported))
    assert not wrong, "\n".join(wrong)


def test_packages_use_only_the_names_on_each_others_face() -> None:
    """`from forktree.grammar import check`, never `from forktree.grammar.regex import parse`; the facade may."""
    wrong = []
    for module, imported in all_imports():
        package = ours(imported)
        if package in (None, "forktree", module.package) or module.package == "forktree":
            continue
        if imported.target not in ("forktree", f"forktree.{package}"):
            wrong.append(where(module, imported))
    assert not wrong, "\n".join(wrong)


def test_parts_of_the_runtime_import_only_what_lies_below_them() -> None:
    wrong = []
    for module, imported in all_imports():
        source, target = _part(module.name), _part(imported.target)
        if source is None or target is None or source == target or target in WORDS_OF_RUNTIME:
            continue
        if source in WORDS_OF_RUNTIME or target not in MAY_IMPORT_INSIDE_RUNTIME[source]:
            wrong.append(where(module, imported))
    assert not wrong, "\n".join(wrong)


def _part(name: str) -> str | None:
    """`scheduler` for forktree.runtime.scheduler.policy; None outside the runtime and for its face."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["forktree", "runtime"] and len(parts) > 2 else None


@pytest.mark.parametrize("package", THIRD_PARTY)
def test_the_lower_packages_use_only_their_own_libraries(package: str) -> None:
    allowed = THIRD_PARTY[package]
    wrong = [
        where(module, imported)
        for module, imported in all_imports()
        if module.package == package and is_third_party(imported.top) and imported.top not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", ONLY_IN)
def test_heavy_libraries_are_imported_only_where_they_belong(library: str) -> None:
    wrong = [
        where(module, imported)
        for module, imported in all_imports()
        if imported.top == library and not inside(module.name, ONLY_IN[library])
    ]
    assert not wrong, "\n".join(wrong)


def test_nobody_imports_a_top_folder_by_its_bare_name() -> None:
    """From the root of the repository `import grammar` would work, and make a second copy of every class."""
    files = list(python_files(*PACKAGES, "forktree", "tests", "examples", "benchmarks"))
    wrong = [
        f"{path}:{imported.line}: imports {imported.target}"
        for path in files
        for imported in imports_of(path, ".".join(path.with_suffix("").parts))
        if imported.top in PACKAGES and not imported.relative
    ]
    assert files
    assert not wrong, "\n".join(wrong)


def test_no_module_needs_itself_to_load() -> None:
    """Imports that run when a module is loaded form no cycle."""
    names = {module.name for module in modules()}
    edges = {
        module.name: {
            target
            for imported in module.imports
            if imported.when_loaded
            for target in _targets(imported, names)
            if target != module.name
        }
        for module in modules()
    }
    finished: set[str] = set()
    for name in sorted(edges):
        cycle = _find_cycle(name, edges, finished, [])
        assert not cycle, " -> ".join(cycle)


def _targets(imported: Import, names: set[str]) -> set[str]:
    """The modules that an import loads: graph for `from .graph import Node` and for `from . import graph`."""
    submodules = {f"{imported.target}.{name}" for name in imported.names} & names
    return submodules or ({imported.target} & names)


def _find_cycle(name: str, edges: dict[str, set[str]], finished: set[str], path: list[str]) -> list[str]:
    if name in path:
        return [*path[path.index(name) :], name]
    if name in finished:
        return []
    for target in sorted(edges[name]):
        if cycle := _find_cycle(target, edges, finished, [*path, name]):
            return cycle
    finished.add(name)
    return []
