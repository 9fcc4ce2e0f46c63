"""The wheel, the links and the type check each hold the whole package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sources import PACKAGES, ROOT, is_third_party, modules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES)
def test_each_top_folder_has_one_relative_link(package: str) -> None:
    link = ROOT / "forktree" / package
    assert link.is_symlink()
    assert os.readlink(link) == f"../{package}"
    assert link.resolve() == ROOT / package


@pytest.mark.parametrize("package", PACKAGES)
def test_the_links_are_committed_as_links(package: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--stage", f"forktree/{package}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert listed.stdout.startswith("120000 "), f"forktree/{package} is not in the index as a link: {listed.stdout!r}"


def test_every_folder_with_code_is_a_package() -> None:
    folders = {module.path.parent for module in modules()}
    assert not [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()]


@pytest.mark.slow
def test_the_wheel_holds_every_module(tmp_path: Path) -> None:
    """Built from a copy, so that no build/ folder of an earlier version adds its own."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("forktree", *PACKAGES):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "-w", tmp_path, source],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr
    (wheel,) = tmp_path.glob("forktree-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {_path_in_wheel(module.path) for module in modules()}
    assert expected - held == set(), "modules that the wheel lacks"
    assert {name for name in held if name.endswith(".py")} - expected == set(), "modules nobody wrote"
    assert "forktree/py.typed" in held
    data = {
        _path_in_wheel(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".nbi", ".nbc"} and "__pycache__" not in path.parts
    }
    assert data - held == set(), "data files that the wheel lacks: see package-data in pyproject.toml"


def _path_in_wheel(path: Path) -> str:
    return path.as_posix() if path.parts[0] == "forktree" else f"forktree/{path.as_posix()}"


IMPORT_NAMES = {"pyzmq": "zmq", "prometheus-client": "prometheus_client"}
OPTIONAL = {
    "pydantic",  # looked at only where the user's own program hands one of its classes over
    "outlines_core",  # the extra of its name: a second backend for constraints
    "uvloop",  # of the engine's; lang's loop is quicker with it and the same without
}


def declared(requirements: list[str]) -> set[str]:
    """Import names of what pyproject.toml asks for."""
    names = [re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements]
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_every_library_that_is_imported_is_declared() -> None:
    """A library that happens to come with another is still ours to ask for; lang and the facade ask the base for it."""
    project = pyproject()["project"]
    base = declared(project["dependencies"])
    engine = base | declared(project["optional-dependencies"]["engine"])
    undeclared = [
        f"{module.path}:{imported.line}: imports {imported.target}"
        for module in modules()
        for imported in module.imports
        if is_third_party(imported.top)
        and imported.top not in (base if module.package in ("lang", "forktree") else engine) | OPTIONAL
    ]
    assert not undeclared, "\n".join(undeclared)


def test_every_library_that_is_declared_is_imported() -> None:
    project = pyproject()["project"]
    asked_for = declared(project["dependencies"] + project["optional-dependencies"]["engine"])
    imported = {each.top for module in modules() for each in module.imports}
    not_yet = {"triton"}  # until runtime/kernels has its first GPU kernel
    assert asked_for - imported == not_yet


def test_the_type_check_sees_every_module() -> None:
    """mypy itself says which files its configuration names."""
    from mypy.main import process_options

    before = Path.cwd()
    os.chdir(ROOT)
    try:
        sources, options = process_options(["--config-file", "pyproject.toml"])
    finally:
        os.chdir(before)
    seen = {source.module for source in sources}
    assert {module.name for module in modules()} - seen == set()
    assert all((options.disallow_untyped_defs, options.disallow_any_generics, options.warn_return_any)), "not strict"


def test_the_type_check_is_loosened_for_decorators_only() -> None:
    for override in pyproject()["tool"]["mypy"]["overrides"]:
        if any(name.startswith("forktree") for name in override["module"]):
            assert set(override) == {"module", "disallow_untyped_decorators"}
    ignored = [str(m.path) for m in modules() if "# mypy: " in (ROOT / m.path).read_text(encoding="utf-8")]
    assert not ignored, "files that set mypy's options for themselves"
