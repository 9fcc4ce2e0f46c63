"""What the names of a function may stand for, as far as changing them in place is concerned.

Here: Bindings: names of a program's states and of their forks, and names that never stand for anything but values made
in the function.  Not here: what a program may do (purity).  Imported by purity; standard library only.

A name counts only if all that it is ever bound to counts: order and branches are not looked at."""

from __future__ import annotations

import ast
from collections.abc import Iterator

__all__ = ["Bindings", "words"]


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEW_NODES = (
    ast.Constant,
    ast.JoinedStr,
    ast.BinOp,
    ast.UnaryOp,
    ast.Compare,
    ast.List,
    ast.Tuple,
    ast.Dict,
    ast.Set,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
)
_NUMBERS = words("len int float abs round")
_NEW_CALLS = _NUMBERS | words("str bool repr list dict set frozenset tuple sorted range")
_NEW_CONTAINERS = words("Counter OrderedDict defaultdict deque")  # of collections; a ChainMap is a view
_NEW_TEXTS = words(
    """
    capitalize casefold center expandtabs format join ljust lower lstrip removeprefix removesuffix replace rjust
    rstrip split splitlines strip swapcase title translate upper zfill text
    """
)


class Bindings:
    """state: the parameter that holds a program's state, "" if none does."""

    def __init__(self, tree: ast.FunctionDef | ast.AsyncFunctionDef, state: str) -> None:
        self._bound: dict[str, list[tuple[str, ast.AST | None]]] = {}  # name -> how and to what
        self.parameters = {each.arg for each in ast.walk(tree.args) if isinstance(each, ast.arg)}
        self._inner: dict[str, list[tuple[str, ast.AST | None]]] = {}  # the same in a comprehension or lambda
        for each in ast.walk(tree):
            self._collect(each)
        self.names = {*self._bound, *self._inner, *self.parameters}
        self.shadowed = set(self._inner) & {*self._bound, *self.parameters}  # they mean two things
        self.inner = set(self._inner) - self.shadowed  # outside of it they mean something else
        self._bound.update((name, bound) for name, bound in self._inner.items() if name in self.inner)
        self.states = {state} - set(self._bound) - {""}
        self.forks: set[str] = set()
        self.new: set[str] = set()
        self._grow()

    # ---- what an expression stands for

    def is_state(self, node: ast.AST | None) -> bool:
        if isinstance(node, ast.Subscript):
            return self.is_fork(node.value)
        return isinstance(node, ast.Name) and node.id in self.states

    def is_fork(self, node: ast.AST | None) -> bool:
        if _is_method(node, "fork"):
            return self.is_state(node.func.value)  # type: ignore[union-attr]
        return isinstance(node, ast.Name) and node.id in self.forks

    def is_new(self, node: ast.AST | None) -> bool:
        """Made here, so that changing it changes nothing that others hold.  What is in it may be theirs."""
        if isinstance(node, ast.IfExp):
            return self.is_new(node.body) and self.is_new(node.orelse)
        if isinstance(node, ast.Subscript):
            return isinstance(node.slice, ast.Slice) and not self.is_fork(node.value)
        if isinstance(node, ast.BoolOp):
            return all(map(self.is_new, node.values))
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Attribute):
                of_collections = isinstance(function.value, ast.Name) and function.value.id == "collections"
                return function.attr in (_NEW_CONTAINERS if of_collections else _NEW_TEXTS)
            return isinstance(function, ast.Name) and function.id in _NEW_CALLS - self.names
        return isinstance(node, _NEW_NODES) or (isinstance(node, ast.Name) and node.id in self.new)

    def is_number(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id in _NUMBERS - self.names
        return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))

    # ---- how

    def _grow(self) -> None:
        """Names that count make other names count."""
        while True:
            before = len(self.states), len(self.forks), len(self.new)
            for name, bound in self._bound.items():
                if name in self.parameters:
                    continue
                if all(self._holds_state(how, value) for how, value in bound):
                    self.states.add(name)
                if all(how == "is" and self.is_fork(value) for how, value in bound):
                    self.forks.add(name)
                if all(how == "is" and self.is_new(value) for how, value in bound):
                    self.new.add(name)
            if before == (len(self.states), len(self.forks), len(self.new)):
                return

    def _holds_state(self, how: str, value: ast.AST | None) -> bool:
        if how == "is":
            return self.is_state(value)
        if how == "part":
            return self.is_fork(value)
        return how == "with" and _is_method(value, "copy") and self.is_state(value.func.value)  # type: ignore[union-attr]

    def _bind(self, target: ast.AST, how: str, value: ast.AST | None, *, inner: bool = False) -> None:
        for name, its_how, its_value in _parts(target, how, value):
            self._bind_name(name, its_how, its_value, inner=inner)

    def _bind_name(self, name: str, how: str, value: ast.AST | None = None, *, inner: bool = False) -> None:
        (self._inner if inner else self._bound).setdefault(name, []).append((how, value))

    def _collect(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._bind(target, "is", node.value)
        elif isinstance(node, (ast.NamedExpr, ast.AnnAssign)):
            self._bind(node.target, "is", node.value)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._bind(node.target, "part", node.iter)
        elif isinstance(node, ast.comprehension):
            self._bind(node.target, "part", node.iter, inner=True)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._bind(node.optional_vars, "with", node.context_expr)
        elif isinstance(node, ast.Lambda):
            for each in ast.walk(node.args):
                if isinstance(each, ast.arg):
                    self._bind_name(each.arg, "other", inner=True)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            self._bind_name(node.name, "other")
        elif isinstance(node, ast.MatchMapping) and node.rest:
            self._bind_name(node.rest, "other")


def _parts(target: ast.AST, how: str, value: ast.AST | None) -> Iterator[tuple[str, str, ast.AST | None]]:
    """Which name gets what: "is" the value, a "part" of it, what it is in a "with" statement, or something "other"."""
    if isinstance(target, ast.Name):
        yield target.id, how, value
        return
    if not isinstance(target, (ast.Tuple, ast.List)):
        for each in ast.walk(target):
            if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
                yield each.id, "other", None
        return
    ways: list[tuple[str, ast.AST | None]] = [("other", None)] * len(target.elts)
    if how == "is" and isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
        ways = [("is", each) for each in value.elts]
    elif how == "is" and not any(isinstance(each, ast.Starred) for each in target.elts):
        ways = [("part", value)] * len(target.elts)
    elif how == "part" and isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id == "enumerate" and len(target.elts) == 2 and value.args:
            ways = [("other", None), ("part", value.args[0])]
        elif value.func.id == "zip" and len(target.elts) == len(value.args):
            ways = [("part", each) for each in value.args]
    for each, (its_how, its_value) in zip(target.elts, ways, strict=True):
        yield from _parts(each, its_how, its_value)


def _is_method(node: ast.AST | None, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
