"""What each package loads.  Every case is a fresh interpreter, since this one has loaded everything long ago."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.sources import ROOT

pytestmark = pytest.mark.slow  # an interpreter each

HEAVY = {"torch", "triton", "transformers", "aiohttp"}
# What comes with `pip install forktree[engine]` only.
ENGINE_ONLY = {
    "gguf", "jinja2", "llvmlite", "msgspec", "numba", "prometheus_client", "regex",
    "safetensors", "tokenizers", "torch", "transformers", "triton", "uvloop", "zmq",
}  # fmt: skip


def run_python(code: str, *, timeout: float = 120) -> Any:
    """What `code` prints as its last line, as JSON.  The interpreter has no user site and warns as errors."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def loaded_by(code: str) -> set[str]:
    """The top-level names in sys.modules after `code` ran."""
    names = run_python(
        f"{code}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    return set(names)


def test_import_forktree_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import forktree; print(time.perf_counter() - t)"
    best = min(run_python(code) for _ in range(5))
    assert best < 0.3, f"import forktree took {best:.3f} s at best"


@pytest.mark.parametrize(
    "code",
    [
        "import forktree",
        "import forktree as ft; ft.function, ft.gen, ft.select, ft.user",
        "import forktree.lang",
        "import forktree.testing",
        "import forktree.grammar",
        "import forktree.radix_cache",
        "import forktree.runtime",
    ],
)
def test_packages_load_without_the_heavy_libraries(code: str) -> None:
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("package", ["lang", "grammar", "radix_cache"])
def test_a_package_loads_nothing_above_it(package: str) -> None:
    above = {
        "lang": {"runtime"},
        "grammar": {"lang", "runtime", "radix_cache"},
        "radix_cache": {"lang", "runtime", "grammar"},
    }
    loaded = run_python(f"import forktree.{package}, json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert not [name for name in loaded if name in {f"forktree.{other}" for other in above[package]}]


def test_the_base_install_is_enough_to_write_programs_and_talk_to_a_server() -> None:
    """Nothing that the engine extra brings can be imported; constraints are checked where they stand all the same."""
    code = f"""
import json, sys
for name in {sorted(ENGINE_ONLY)}:
    sys.modules[name] = None          # import of it raises ImportError
import forktree as ft

@ft.function
def program(s, place):
    s += ft.user("Describe " + place)
    s += ft.assistant(ft.gen("answer", regex="[A-Z][a-z]+", max_tokens=4))
    s += ft.gen("fields", json_schema={{"type": "object", "properties": {{"height": {{"type": "integer"}}}}}})

try:
    ft.gen("broken", regex="(ab|*c)")
except ft.RegexError as error:
    message = str(error)
endpoint = ft.RuntimeEndpoint("http://127.0.0.1:9")
print(json.dumps(message))
"""
    assert "offset 4" in run_python(code)


def test_a_run_on_the_cpu_never_imports_triton() -> None:
    code = """
import json, sys
from forktree.runtime import Engine
with Engine(in_process=True) as engine:
    engine.generate("The capital of France is", {"max_new_tokens": 2, "temperature": 0.0})
print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "triton"]))
"""
    assert run_python(code) == []


def test_a_program_is_tested_recorded_and_replayed_on_the_base_install_without_aiohttp(tmp_path: Path) -> None:
    """Show of issue 3: nothing that runs a model or talks to one can be imported."""
    code = f"""
import json, sys
for name in {sorted({*ENGINE_ONLY, "aiohttp", "numpy"})}:
    sys.modules[name] = None          # import of it raises ImportError
import forktree as ft
from forktree.testing import ScriptedBackend, record, replay, requests_of

path = {str(tmp_path / "run.jsonl")!r}

@ft.function
def program(s, place):
    s += ft.user("Describe " + place)
    s += ft.assistant(ft.gen("answer", max_tokens=4))
    forks = s.fork(2)
    forks += ft.user("Which is it?") + ft.assistant(ft.select("kind", ["town", "river"]))
    forks.join()

backend = ScriptedBackend({{"answer": "wet"}}, choices={{"kind": "river"}})
with record(path, backend) as recorded:
    first = program.run("Isar", backend=recorded)
again = program.run("Isar", backend=replay(path))
assert again.text() == first.text()
print(json.dumps([again["answer"], again["kind"], len(requests_of(path))]))
"""
    assert run_python(code) == ["wet", ["river", "river"], 1]
