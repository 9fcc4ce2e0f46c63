"""May a program be run twice, once to foresee it?  Only if its code visibly does nothing but write to its state.

Here: why_not_foreseeable (reads a function's source, decides by names and values, runs nothing), is_plain_data.
Not here: tracing.  Imported by foresight; standard library only.

The rule errs on the side of no: a call of something unknown, a change of something that others may hold, a value that
is not what it seems.  `@function(trace=True)` says that tracing is fine, `trace=False` that it is not."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["is_plain_data", "why_not_foreseeable"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DEEPEST = 8
_SCALARS = (str, int, float, bool, bytes, type(None), enum.Enum, re.Pattern)
_BUILTINS = _words(
    """
    abs all any bool bytes chr dict divmod enumerate filter float format frozenset int isinstance iter len list
    map max min next ord range repr reversed round set slice sorted str sum tuple zip True False None Exception
    ValueError KeyError TypeError RuntimeError IndexError AssertionError
    """
)
_MODULES = frozenset({"collections", "html", "itertools", "json", "math", "operator", "re", "string", "textwrap"})
_OURS = _words(
    """
    gen gen_int gen_string select system user assistant system_begin system_end user_begin user_end
    assistant_begin assistant_end token_length_normalized greedy_token_selection
    unconditional_likelihood_normalized exact_probability
    """
)
# methods that change nothing, or a program's own state
_METHODS = _words(
    """
    capitalize casefold center count encode decode endswith expandtabs find format index isalnum isalpha
    isdecimal isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix
    removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase
    title translate upper zfill copy get items keys values union intersection difference group groups groupdict
    start end span finditer findall fullmatch match search sub fork text messages system user assistant
    var_scope get_var set_var get_meta_info sync
    """
)
_CHANGING = _words(
    """
    append extend insert add update setdefault sort reverse pop remove discard clear
    """
)
_FRESH = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)

_known: WeakKeyDictionary[Any, str | None] = WeakKeyDictionary()


def is_plain_data(value: Any, depth: int = 0) -> bool:
    """Text, numbers, and lists, tuples, sets and dicts of them: nothing that reading could change."""
    if isinstance(value, _SCALARS):
        return True
    if depth > _DEEPEST:
        return False
    if type(value) in (list, tuple, set, frozenset):
        return all(is_plain_data(each, depth + 1) for each in value)
    if isinstance(value, Mapping) and type(value) is dict:
        return all(is_plain_data(each, depth + 1) for pair in value.items() for each in pair)
    return False


def why_not_foreseeable(func: Callable[..., Any]) -> str | None:
    """Why tracing `func` might do what only a run should; None if it visibly can't."""
    return _why_not(func, 0)


def _why_not(func: Callable[..., Any], depth: int) -> str | None:
    if not isinstance(func, types.FunctionType):
        return f"{func!r} is no plain function"
    if func in _known:
        return _known[func]
    if depth > _DEEPEST:
        return "it calls too deep"
    _known[func] = None  # one that calls itself adds nothing to what it does
    reason = _known[func] = _read(func, depth)
    return reason


def _read(func: types.FunctionType, depth: int) -> str | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(func)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return "its source can't be read"
    found = tree.body[0] if tree.body else None
    if not isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return "it is no `def`"
    reader = _Reader(func, found, depth)
    for statement in found.body:
        reader.visit(statement)
        if reader.reason is not None:
            return f"{reader.reason} (line {func.__code__.co_firstlineno + reader.line - 1} of its file)"
    return None


class _Reader(ast.NodeVisitor):
    def __init__(self, func: types.FunctionType, tree: ast.FunctionDef | ast.AsyncFunctionDef, depth: int) -> None:
        self.reason: str | None = None
        self.line = 0
        self._depth = depth
        self._parameters = {each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)}
        first = [*tree.args.posonlyargs, *tree.args.args][:1]
        self._state = first[0].arg if first else ""
        self._names = {**vars(builtins), **func.__globals__, **inspect.getclosurevars(func).nonlocals}
        self._locals = _assigned(tree) | self._parameters
        self._fresh = _only_fresh(tree) - self._parameters
        self._of_caller = _with_aliases(tree, self._parameters - {self._state})

    def visit(self, node: ast.AST) -> None:
        if self.reason is None:
            super().visit(node)

    def _refuse(self, node: ast.AST, reason: str) -> None:
        if self.reason is None:
            self.reason, self.line = reason, getattr(node, "lineno", 0)

    def _forbidden(self, node: ast.AST) -> None:
        self._refuse(node, f"it has a statement that tracing can't repeat: {type(node).__name__}")

    visit_Global = visit_Nonlocal = visit_Import = visit_ImportFrom = _forbidden  # ast's names
    visit_Yield = visit_YieldFrom = visit_Delete = visit_ClassDef = visit_FunctionDef = _forbidden

    # ---- changes

    def _change(self, target: ast.AST) -> None:
        if isinstance(target, (ast.Tuple, ast.List)):
            for each in target.elts:
                self._change(each)
        elif isinstance(target, ast.Starred):
            self._change(target.value)
        elif isinstance(target, ast.Attribute):
            self._refuse(target, f"it sets an attribute, .{target.attr}")
        elif isinstance(target, ast.Subscript):
            base = target.value
            if not (isinstance(base, ast.Name) and base.id in self._locals and base.id not in self._of_caller):
                self._refuse(target, "it puts something into a value that others may hold")
            self.visit(target.slice)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._change(target)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._change(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            if node.target.id in self._of_caller:
                self._refuse(node, f"it changes its argument {node.target.id!r}")
        else:
            self._change(node.target)
        self.visit(node.value)

    # ---- names and calls

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._locals:
            return
        if node.id not in self._names:
            self._refuse(node, f"{node.id} is not defined")
            return
        self._check_value(node, node.id, self._names[node.id])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        value = node.value
        if isinstance(value, ast.Name) and value.id not in self._locals:
            owner = self._names.get(value.id)
            if isinstance(owner, types.ModuleType):
                self._check_member(node, owner)
                return
        if node.attr not in _METHODS and node.attr.startswith("_"):
            self._refuse(node, f"it uses .{node.attr}")
        self.visit(value)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in self._locals:
            self._refuse(node, f"it calls {function.id}, whatever that is")
        elif isinstance(function, ast.Attribute) and not self._is_module(function.value):
            self._check_method(function)
        self.generic_visit(node)

    def _is_module(self, node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Name)
            and node.id not in self._locals
            and isinstance(self._names.get(node.id), types.ModuleType)
        )

    def _check_method(self, function: ast.Attribute) -> None:
        if function.attr in _METHODS:
            return
        base = function.value
        if function.attr == "join" or (
            function.attr in _CHANGING and isinstance(base, ast.Name) and base.id in self._fresh
        ):
            return
        self._refuse(function, f"it calls .{function.attr}()")

    def _check_member(self, node: ast.Attribute, module: types.ModuleType) -> None:
        name = module.__name__
        if name == "forktree" or name.startswith("forktree.lang"):
            if node.attr not in _OURS:
                self._refuse(node, f"it uses {name}.{node.attr}")
        elif name.partition(".")[0] not in _MODULES:
            self._refuse(node, f"it uses the module {name}")

    def _check_value(self, node: ast.Name, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            self._refuse(node, f"it passes the module {name} on")
        elif getattr(builtins, name, self) is value:
            if name not in _BUILTINS:
                self._refuse(node, f"it uses {name}()")
        elif getattr(value, "__module__", "").startswith("forktree.lang") and name in _OURS:
            return
        elif hasattr(value, "foresee") and hasattr(value, "func"):  # another program
            reason = None if value.foresee else _why_not(value.func, self._depth + 1)
            if reason is not None or value.foresee is False:
                self._refuse(node, f"it runs {name}: {reason or 'trace=False'}")
        elif isinstance(value, types.FunctionType):
            reason = _why_not(value, self._depth + 1)
            if reason is not None:
                self._refuse(node, f"it uses {name}: {reason}")
        elif not isinstance(value, type) and not is_plain_data(value):
            self._refuse(node, f"it uses {name}, which is no plain data")


def _assigned(tree: ast.AST) -> set[str]:
    found = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)}
    for each in ast.walk(tree):
        if isinstance(each, ast.Lambda):
            found |= {argument.arg for argument in ast.walk(each.args) if isinstance(argument, ast.arg)}
        elif isinstance(each, ast.ExceptHandler) and each.name:
            found.add(each.name)
    return found


def _only_fresh(tree: ast.AST) -> set[str]:
    """Names that never stand for anything but a list, dict or set made in this function."""
    fresh: set[str] = set()
    other: set[str] = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign):
            for target in each.targets:
                for name, value in _bindings(target, each.value):
                    (fresh if isinstance(value, _FRESH) else other).add(name)
        elif isinstance(each, (ast.For, ast.comprehension, ast.NamedExpr, ast.AnnAssign)):
            other |= _names_in(each.target)
        elif isinstance(each, ast.withitem) and each.optional_vars is not None:
            other |= _names_in(each.optional_vars)
    return fresh - other


def _with_aliases(tree: ast.AST, names: set[str]) -> set[str]:
    """These names, and locals that may stand for the same values or for parts of them."""
    bound: list[tuple[str, ast.AST]] = []
    for each in ast.walk(tree):
        if isinstance(each, ast.Assign):
            bound += [binding for target in each.targets for binding in _bindings(target, each.value)]
        elif isinstance(each, (ast.For, ast.comprehension)):
            bound += [(name, each.iter) for name in _names_in(each.target)]
        elif isinstance(each, ast.NamedExpr):
            bound.append((each.target.id, each.value))
    found = set(names)
    while more := {name for name, value in bound if name not in found and _stands_for(value, found)}:
        found |= more
    return found


def _stands_for(value: ast.AST, names: set[str]) -> bool:
    while isinstance(value, (ast.Subscript, ast.Attribute, ast.Starred)):
        value = value.value
    if isinstance(value, ast.IfExp):
        return _stands_for(value.body, names) or _stands_for(value.orelse, names)
    return isinstance(value, ast.Name) and value.id in names


def _bindings(target: ast.AST, value: ast.AST) -> list[tuple[str, ast.AST]]:
    """Which name gets which expression; of `a, b = x, y` each its own."""
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        pairs = zip(target.elts, value.elts, strict=True)
        return [binding for part, its_value in pairs for binding in _bindings(part, its_value)]
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    return [(name, value) for name in _names_in(target)]


def _names_in(tree: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
