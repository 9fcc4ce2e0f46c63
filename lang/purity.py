"""May a program be run twice, once to foresee it?  Only if its code visibly does nothing but write to its state.

Here: why_not_foreseeable (reads a function's source, decides by names and values, runs nothing), is_plain_data.
Not here: what a function's own names stand for (bindings), tracing.  Imported by foresight.

The rule errs on the side of no: a call of something unknown, a change of something that others may hold, a value that
is not what it seems.  `@function(trace=True)` says that tracing is fine, `trace=False` that it is not."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import types
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from .bindings import Bindings, words

__all__ = ["is_plain_data", "why_not_foreseeable"]


_DEEPEST = 8
_SCALARS = (str, int, float, complex, bool, bytes, type(None), range, re.Pattern)
_BUILTINS = words(
    """
    abs all any bool bytes chr dict divmod enumerate filter float format frozenset int isinstance issubclass iter len
    list map max min next ord range repr reversed round set slice sorted str sum tuple zip
    """
)
_MODULES = words("collections html itertools json math re string textwrap")
_OURS = words(
    """
    gen gen_int gen_string select system user assistant system_begin system_end user_begin user_end
    assistant_begin assistant_end token_length_normalized greedy_token_selection
    unconditional_likelihood_normalized exact_probability separate_reasoning
    """
)
# methods that change nothing, or a program's own state
_METHODS = words(
    """
    capitalize casefold center count encode decode endswith expandtabs find format index isalnum isalpha
    isdecimal isdigit islower isnumeric isspace istitle isupper join ljust lower lstrip partition removeprefix
    removesuffix replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith strip swapcase
    title translate upper zfill copy get items keys values most_common union intersection difference group groups
    groupdict start end span finditer findall fullmatch match search sub fork text messages system user assistant
    var_scope get_var set_var get_meta_info sync
    """
)
_CHANGING = words("append appendleft extend extendleft insert add update setdefault sort reverse remove discard clear")
_CHANGING |= words("pop popleft popitem rotate subtract move_to_end difference_update intersection_update")
_CHANGING |= words("symmetric_difference_update")
_TYPES_OF_GEN = words("type dtype json_schema")
_MISSING = object()


def is_plain_data(value: Any, depth: int = 0) -> bool:
    """Text, numbers, and lists, tuples, sets and dicts of them: nothing that reading could change.  Of exactly these
    types: one derived from them may do anything."""
    if type(value) in _SCALARS:
        return True
    if depth > _DEEPEST:
        return False
    if issubclass(type(value), enum.Enum):
        return _has_no_code(type(value)) and is_plain_data(value.value, depth + 1)
    if type(value) in (list, tuple, set, frozenset):
        return all(is_plain_data(each, depth + 1) for each in value)
    if type(value) is dict:
        return all(is_plain_data(each, depth + 1) for pair in value.items() for each in pair)
    return False


def _has_no_code(kind: type[enum.Enum]) -> bool:
    """An Enum that only names values: what it does when it is read, compared or made text is Enum's own."""
    own = [each for base in kind.__mro__ if base.__module__ not in ("builtins", "enum") for each in vars(base).values()]
    functions = [getattr(each, "__func__", each) for each in own]  # of class and static methods
    return not any(
        isinstance(each, property) or (isinstance(each, types.FunctionType) and each.__module__ != "enum")
        for each in functions
    )


def why_not_foreseeable(func: Callable[..., Any]) -> str | None:
    """Why tracing `func` might do what only a run should; None if it visibly can't."""
    if not isinstance(func, types.FunctionType):
        return f"{func!r} is no plain function"
    verdict = _verdicts.get(func)
    if verdict is None or not all(relied.still_holds() for relied in verdict.relied_on):
        reading = _Reading()
        verdict = _verdicts[func] = _Verdict(reading.why_not(func, state_first=True), reading.relied_on)
    return verdict.reason


class _RelyOn(NamedTuple):
    """A name of a function outside of it, and what it stood for when the verdict was made."""

    func: weakref.ref[types.FunctionType]
    name: str
    value: Any  # or a weak reference to it

    def still_holds(self) -> bool:
        func = self.func()
        found = _lookup(func, self.name) if func is not None else _MISSING
        if isinstance(self.value, weakref.ref):
            return found is self.value()
        return found is self.value and (type(found) in _SCALARS or is_plain_data(found))


class _Verdict(NamedTuple):
    reason: str | None
    relied_on: list[_RelyOn]


_verdicts: weakref.WeakKeyDictionary[Any, _Verdict] = weakref.WeakKeyDictionary()


class _Reading:
    """One program and the functions that it calls, each read once."""

    def __init__(self) -> None:
        self.relied_on: list[_RelyOn] = []
        self._begun: set[tuple[types.FunctionType, bool]] = set()

    def why_not(self, func: Any, *, state_first: bool, depth: int = 0) -> str | None:
        if not isinstance(func, types.FunctionType):
            return f"{func!r} is no plain function"
        if (func, state_first) in self._begun:
            return None  # one that calls itself adds nothing to what it does
        if depth > _DEEPEST:
            return "it calls too deep"
        self._begun.add((func, state_first))
        if "__wrapped__" in vars(func):
            return "it is wrapped in another function"
        if not is_plain_data([func.__defaults__, func.__kwdefaults__]):
            return "a default of its parameters is no plain data"
        tree, offset = _tree_of(func)
        if tree is None:
            return "its source can't be read"
        reader = _Reader(self, func, tree, state_first, depth)
        for statement in tree.body:
            reader.visit(statement)
            if reader.reason is not None:
                return f"{reader.reason} (line {func.__code__.co_firstlineno + reader.line - offset} of its file)"
        return None

    def look_up(self, func: types.FunctionType, name: str) -> Any:
        value = _lookup(func, name)
        try:
            held = weakref.ref(value)
        except TypeError:
            held = value
        self.relied_on.append(_RelyOn(weakref.ref(func), name, held))
        return value


def _lookup(func: types.FunctionType, name: str) -> Any:
    if name in func.__code__.co_freevars:
        cell = (func.__closure__ or ())[func.__code__.co_freevars.index(name)]
        try:
            return cell.cell_contents
        except ValueError:  # nothing is in it yet
            return _MISSING
    return func.__globals__.get(name, getattr(builtins, name, _MISSING))


def _tree_of(func: types.FunctionType) -> tuple[ast.FunctionDef | ast.AsyncFunctionDef | None, int]:
    """Its `def`, and the number of the line at which its source begins."""
    try:
        source = inspect.getsource(func)
        indented = source[:1].isspace()
        body = ast.parse("if True:\n" + source if indented else source).body
    except Exception:  # whatever keeps it from being read
        return None, 0
    found: ast.AST = body[0]
    if indented and isinstance(found, ast.If):
        found = found.body[0]
    is_it = isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)) and found.name == func.__code__.co_name
    return (found if is_it else None), 2 if indented else 1  # type: ignore[return-value]


class _Reader(ast.NodeVisitor):
    def __init__(
        self,
        reading: _Reading,
        func: types.FunctionType,
        tree: ast.FunctionDef | ast.AsyncFunctionDef,
        state_first: bool,
        depth: int,
    ) -> None:
        self.reason: str | None = None
        self.line = 0
        self._reading, self._func, self._depth = reading, func, depth
        first = [*tree.args.posonlyargs, *tree.args.args][:1]
        self._bindings = Bindings(tree, first[0].arg if first and state_first else "")
        self._types_are_fine = False  # a class is only looked at here

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
    visit_AsyncFunctionDef = _forbidden

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is None:
            self._refuse(node, "its bare `except` would catch the end of a trace")
        self._look_at_types(node.type)
        for statement in node.body:
            self.visit(statement)

    # ---- changes

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """A change in place, where the target allows one."""
        known, target = self._bindings, node.target
        if isinstance(target, ast.Name):
            if not (target.id in known.states | known.forks | known.new or known.is_number(node.value)):
                self._refuse(node, f"it changes {target.id!r}, which others may hold")
        elif isinstance(target, ast.Subscript) and not known.is_fork(target.value):
            if not known.is_number(node.value):  # `counts[key] += 1` changes the counts, and no list in them
                self._refuse(node, "it changes a part of a value, which others may hold")
            self.visit(target)
        else:
            self.visit(target)
        self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store):
            known, base = self._bindings, node.value
            if not (
                isinstance(base, ast.Name) and base.id in (known.states | known.forks | known.new) - known.shadowed
            ):
                self._refuse(node, "it puts something into a value that others may hold")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    # ---- names and calls

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self._bindings.names - self._bindings.inner:
            return
        value = self._look_up(node.id)
        if value is _MISSING:
            if node.id not in self._bindings.inner:
                self._refuse(node, f"{node.id} is not defined")
        else:
            self._check_value(node, node.id, value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        owner = self._owner(node)
        if isinstance(node.ctx, ast.Store):
            self._refuse(node, f"it sets an attribute, .{node.attr}")
        elif _is_a(owner, types.ModuleType):
            self._check_member(node, owner)
        elif _is_a(owner, type):
            member = owner.__members__.get(node.attr) if issubclass(owner, enum.Enum) else None
            if member is None or not is_plain_data(member):
                self._refuse(node, f"it uses {owner.__name__}.{node.attr}")
        elif _is_a(owner, types.FunctionType) or _is_program(owner):
            self._refuse(node, f"it uses .{node.attr} of a function")
        elif node.attr.startswith("_") or node.attr in _CHANGING:
            self._refuse(node, f"it uses .{node.attr}")
        else:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        function, types_were_fine = node.func, self._types_are_fine
        self._types_are_fine = False
        arguments: list[ast.AST] = list(node.args)
        if isinstance(function, ast.Name) and function.id in self._bindings.names:
            self._refuse(node, f"it calls {function.id}, whatever that is")
        elif isinstance(function, ast.Name):
            value = self._look_up(function.id)
            if value is isinstance or value is issubclass:
                self._look_at_types(*arguments[1:])
                del arguments[1:]
            self._check_called(node, function, value)
        elif isinstance(function, ast.Attribute) and not _is_a(self._owner(function), (types.ModuleType, type)):
            self._check_method(function)
            self.visit(function.value)
        else:
            self.visit(function)
        for each in arguments:
            self.visit(each)
        for keyword in node.keywords:
            if keyword.arg in _TYPES_OF_GEN:
                self._look_at_types(keyword.value)
            else:
                self.visit(keyword.value)
        self._types_are_fine = types_were_fine

    def _look_at_types(self, *nodes: ast.AST | None) -> None:
        before, self._types_are_fine = self._types_are_fine, True
        for node in nodes:
            if node is not None:
                self.visit(node)
        self._types_are_fine = before

    def _look_up(self, name: str) -> Any:
        return self._reading.look_up(self._func, name)

    def _owner(self, node: ast.Attribute) -> Any:
        """What a name from outside stands for, in `name.attribute`."""
        value = node.value
        if isinstance(value, ast.Name) and value.id not in self._bindings.names - self._bindings.inner:
            return self._look_up(value.id)
        return None

    def _check_method(self, function: ast.Attribute) -> None:
        """One that is known to change nothing, or changes something made here."""
        base = function.value
        is_ours = isinstance(base, ast.Name) and base.id in self._bindings.new - self._bindings.shadowed
        if function.attr not in _METHODS and not (function.attr in _CHANGING and is_ours):
            self._refuse(function, f"it calls .{function.attr}()")

    def _check_member(self, node: ast.Attribute, module: types.ModuleType) -> None:
        name = module.__name__
        if name == "forktree" or name.startswith("forktree.lang"):
            if node.attr not in _OURS and not _is_harmless_error(getattr(module, node.attr, None)):
                self._refuse(node, f"it uses {name}.{node.attr}")
        elif name.partition(".")[0] not in _MODULES:
            self._refuse(node, f"it uses the module {name}")

    def _check_called(self, call: ast.Call, function: ast.Name, value: Any) -> None:
        """A function of the program gets the program's state, or it may not change its first argument either."""
        if _is_a(value, types.FunctionType) and not _is_ours(value):
            first = call.args[0] if call.args else None
            two_things = isinstance(first, ast.Name) and first.id in self._bindings.shadowed
            state_first = self._bindings.is_state(first) and not two_things
            self._check_function(function, value, state_first=state_first)
        elif value is _MISSING:
            self._refuse(function, f"{function.id} is not defined")
        else:
            self._check_value(function, function.id, value)

    def _check_function(self, node: ast.Name, func: types.FunctionType, *, state_first: bool) -> None:
        reason = self._reading.why_not(func, state_first=state_first, depth=self._depth + 1)
        if reason is not None:
            self._refuse(node, f"it uses {node.id}: {reason}")

    def _check_value(self, node: ast.Name, name: str, value: Any) -> None:
        """`value` may be anything: nothing is asked of it that its own code would answer."""
        if _is_a(value, types.ModuleType):
            self._refuse(node, f"it passes the module {name} on")
        elif hasattr(builtins, name):
            looked_at = self._types_are_fine and _is_a(value, type) and value is not BaseException
            fine = name in _BUILTINS or looked_at or _is_harmless_error(value)
            if value is not getattr(builtins, name) or not fine:
                self._refuse(node, f"it uses {name}()")
        elif _is_a(value, types.FunctionType):
            if not _is_ours(value):
                self._check_function(node, value, state_first=False)
        elif _is_a(value, type):
            if not self._types_are_fine and not _is_harmless_error(value):
                self._refuse(node, f"it uses the class {name}")
        elif _is_program(value):
            self._check_program(node, name, value)
        elif type(value).__module__ != "forktree.lang.choices" and not is_plain_data(value):
            self._refuse(node, f"it uses {name}, which is no plain data")

    def _check_program(self, node: ast.Name, name: str, program: Any) -> None:
        """Called with a state it is code like any other; without one it runs by itself, which ends a trace."""
        if program.foresee is False:
            self._refuse(node, f"it runs {name}: trace=False")
        elif not is_plain_data(program.bound):
            self._refuse(node, f"it runs {name}, which holds what is no plain data")
        elif not program.foresee:
            reason = self._reading.why_not(program.func, state_first=True, depth=self._depth + 1)
            if reason is not None:
                self._refuse(node, f"it runs {name}: {reason}")


def _is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """isinstance asks the value's own __class__ too, which may be code."""
    return issubclass(type(value), kind)


def _is_program(value: Any) -> bool:
    return type(value).__module__ == "forktree.lang.program" and type(value).__name__ == "Program"


def _is_ours(func: types.FunctionType) -> bool:
    return func.__name__ in _OURS and func.__module__ == "forktree.lang.api"


def _is_harmless_error(value: Any) -> bool:
    """An exception class whose making runs no code of its own."""
    if not (_is_a(value, type) and issubclass(value, Exception)):
        return False
    own = [each for each in value.__mro__ if each.__module__ != "builtins" and "forktree" not in each.__module__]
    return not any(name in vars(each) for each in own for name in ("__init__", "__new__"))
