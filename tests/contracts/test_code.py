"""What the code never does, and how long a file may get."""

from __future__ import annotations

import ast

from tests.contracts.sources import ROOT, modules

LONGEST_FILE = 450  # past ~400 lines, look for the second idea inside
KEPT_WHOLE: dict[str, str] = {}  # path: why it is one idea all the same

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle"}
FORBIDDEN_BUILTINS = {"eval", "exec", "__import__"}
FORBIDDEN_CALLS = {
    "torch.load": "weights come as safetensors or GGUF",
    "torch.save": "it pickles",
    "os.system": "use subprocess with a list",
    "os.popen": "use subprocess with a list",
    "yaml.load": "use yaml.safe_load",
}
FORBIDDEN_METHODS = {"send_pyobj": "it pickles", "recv_pyobj": "it unpickles"}
FORBIDDEN_ARGUMENTS = {("allow_pickle", True), ("shell", True), ("trust_remote_code", True)}


def offences(tree: ast.Module) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        found += [(node.lineno, f"imports {name}") for name in names if name.partition(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in FORBIDDEN_BUILTINS or called in FORBIDDEN_CALLS:
                found.append((node.lineno, f"calls {called}: {FORBIDDEN_CALLS.get(called, 'it runs text as code')}"))
            if isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_METHODS:
                found.append((node.lineno, f"calls {called}: {FORBIDDEN_METHODS[node.func.attr]}"))
            for argument in node.keywords:
                value = argument.value.value if isinstance(argument.value, ast.Constant) else None
                if (argument.arg, value) in FORBIDDEN_ARGUMENTS:
                    found.append((argument.lineno, f"passes {argument.arg}={value}"))
    return found


def test_nothing_is_unpickled_or_run_from_text() -> None:
    found = [f"{module.path}:{line}: {what}" for module in modules() for line, what in offences(module.tree())]
    assert not found, "\n".join(found)


def test_the_search_for_unsafe_calls_finds_them() -> None:
    unsafe = ["import pickle", "eval('1')", "torch.load('w')", "socket.recv_pyobj()", "np.load('a', allow_pickle=True)"]
    safe = ["model.eval()", "np.load('a')"]
    assert [line for line, _ in offences(ast.parse("\n".join(unsafe + safe)))] == [1, 2, 3, 4, 5]


def test_files_stay_short_enough_to_read() -> None:
    lengths = {str(m.path): len((ROOT / m.path).read_text(encoding="utf-8").splitlines()) for m in modules()}
    too_long = {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE}
    assert set(too_long) == set(KEPT_WHOLE), f"over {LONGEST_FILE} lines: {too_long}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(m.path) for m in modules() if m.tree().body and not ast.get_docstring(m.tree())]
    assert not silent, f"without a docstring: {silent}"
