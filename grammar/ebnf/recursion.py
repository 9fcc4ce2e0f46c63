"""Left recursion taken out of a grammar, its language unchanged.

Here: what a node begins and ends with, rewriting rules that begin with themselves.
Not here: nodes (cfg.py).

A rule over itself is read as operators: with operands y, prefixes P, suffixes X and infixes S,
    A = y | P A | A X | A S A      is      A = U (S U)*,  U = P U | y X*
(in y, P, X, S further A may stand inside).  That has no left recursion, and of the ways in which `e: e "+" e | ...` or
`e: e e | "a"` can be read only one is left, where a stack per way would grow with the text.  Rules that begin with each
other are first put into each other, as Paull's algorithm does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import GrammarTooComplex
from ..expressions import EMPTY as EMPTY_EXPRESSION
from ..expressions import INFINITE
from .cfg import CHOICE, EMPTY, EMPTY_KIND, NEVER, REFERENCE, REPEAT, SEQUENCE, TERMINAL, Cfg, components

# Putting the rules of a cycle into each other can multiply them: nodes that it may add, alternatives of one rule.
MOST_NODES, MOST_WAYS = 10_000, 500
MOST_RULES = 200  # of a cycle

Parts = tuple[int, dict[str, int]]  # (texts that begin with none of the rules, rule -> what follows it)


def remove_left_recursion(cfg: Cfg, start: str) -> None:
    """`cfg` is trimmed before and after."""
    while True:
        first = {name: leading(cfg, body) for name, body in cfg.bodies.items()}
        cycles = [
            component
            for component in components(cfg.bodies, first.__getitem__)
            if len(component) > 1 or component[0] in first[component[0]]
        ]
        if not cycles:
            break
        empty = [name for component in cycles for name in component if name in cfg.nullable_rules]
        if empty:
            _split_off_empty(cfg, empty)
            continue
        uses = _uses(cfg)
        for component in cycles:
            _break_cycle(cfg, sorted(component, key=lambda name: (uses.get(name, 0), name)))
        complete(cfg)
    cfg.trim(start)


def _uses(cfg: Cfg) -> dict[str, int]:
    uses: dict[str, int] = {}
    for body in cfg.bodies.values():
        for name in cfg.references(body):
            uses[name] = uses.get(name, 0) + 1
    return uses


def _break_cycle(cfg: Cfg, names: Sequence[str]) -> None:
    """No rule of `names` begins with a rule of them any more.  The last ones keep their shape best."""
    if len(names) > MOST_RULES:
        raise GrammarTooComplex(f"more than {MOST_RULES} rules begin with each other", place=f"rule {names[0]}")
    done: list[str] = []
    before = len(cfg.kind)
    for name in names:
        for earlier in done:
            if len(cfg.kind) - before > MOST_NODES or len(cfg.members(cfg.bodies[name])) > MOST_WAYS:
                message = f"{len(names)} rules begin with each other in too many ways"
                raise GrammarTooComplex(message, place=f"rule {name}")
            rest, following = left_parts(cfg, cfg.bodies[name], {earlier})
            if earlier in following:
                cfg.bodies[name] = cfg.choice((rest, cfg.sequence(cfg.bodies[earlier], following[earlier])))
        _rewrite_as_operators(cfg, name)
        done.append(name)


def _rewrite_as_operators(cfg: Cfg, name: str) -> None:
    rest, following = left_parts(cfg, cfg.bodies[name], {name})
    after = _without_empty_member(cfg, following.get(name, NEVER))  # A = A | ... says nothing
    if after == NEVER:
        cfg.bodies[name] = rest
        return
    operand, prefix = right_parts(cfg, rest, name)
    suffix, infix = right_parts(cfg, after, name)
    unit = cfg.sequence(operand, star(cfg, suffix))
    if prefix != NEVER:
        unit_name = cfg.fresh(name, "operand")
        unit_reference = cfg.reference(unit_name)
        cfg.bodies[unit_name] = cfg.choice((cfg.sequence(prefix, unit_reference), unit))
        unit = unit_reference
    cfg.bodies[name] = cfg.sequence(unit, star(cfg, cfg.sequence(infix, unit)))


def fewer(most: int) -> int:
    return most if most >= INFINITE else most - 1


def star(cfg: Cfg, node: int) -> int:
    return cfg.repeat(node_without_empty(cfg, node), 0)


def right_linear(cfg: Cfg, name: str) -> int | None:
    """A = P A | y  as  P* y, if then A is not mentioned any more."""
    operand, prefix = right_parts(cfg, cfg.bodies[name], name)
    if prefix == NEVER or name in cfg.references(operand, prefix):
        return None
    return cfg.sequence(star(cfg, prefix), operand)


# ---- what a node begins and ends with ------------------------------------------------------------------------------


def leading(cfg: Cfg, node: int) -> list[str]:
    """The rules that a text of the node may begin with, nothing before them."""
    found = cfg.upwards((node,), {}, lambda n: _leading_children(cfg, n))
    names = (cfg.parts[n] for n in found if cfg.kind[n] == REFERENCE)
    return list(dict.fromkeys(cfg.not_empty.get(name, name) for name in names))


def _leading_children(cfg: Cfg, node: int) -> Sequence[int]:
    if cfg.kind[node] == SEQUENCE and not cfg.nullable(cfg.parts[node][0]):
        return cfg.parts[node][:1]  # type: ignore[no-any-return]
    return cfg.children(node)


def left_parts(cfg: Cfg, root: int, names: Iterable[str]) -> Parts:
    """`root` as texts that begin with none of the rules, and what follows each of them where it stands first."""
    names = set(names)
    known: dict[int, Parts] = {}
    for n in cfg.upwards((root,), {}, lambda n: _leading_children(cfg, n)):
        kind, parts = cfg.kind[n], cfg.parts[n]
        if kind == REFERENCE and cfg.not_empty.get(parts, parts) in names:
            known[n] = (EMPTY if parts in cfg.not_empty else NEVER), {cfg.not_empty.get(parts, parts): EMPTY}
        elif kind == SEQUENCE:
            head, tail = parts
            rest, following = known[head]
            after = {name: cfg.sequence(node, tail) for name, node in following.items()}
            if tail in known and known[tail][1] and cfg.nullable(head):
                rest = cfg.choice((cfg.sequence(node_without_empty(cfg, rest), tail), known[tail][0]))
                after = _joined(cfg, (after, known[tail][1]))
            else:
                rest = cfg.sequence(rest, tail)
            known[n] = rest, after
        elif kind == CHOICE:
            rest = cfg.choice(known[member][0] for member in parts)
            known[n] = rest, _joined(cfg, (known[member][1] for member in parts))
        elif kind == REPEAT and known[parts[0]][1]:
            body, least, most = parts
            rest, following = known[body]
            empty = least == 0 or cfg.nullable(body)
            again = cfg.repeat(body, 0 if empty else least - 1, fewer(most))
            rest = cfg.choice((cfg.sequence(node_without_empty(cfg, rest), again), EMPTY if empty else NEVER))
            known[n] = rest, {name: cfg.sequence(node, again) for name, node in following.items()}
        else:
            known[n] = n, {}
    return known[root]


def _joined(cfg: Cfg, several: Iterable[dict[str, int]]) -> dict[str, int]:
    result: dict[str, list[int]] = {}
    for following in several:
        for name, node in following.items():
            result.setdefault(name, []).append(node)
    return {name: cfg.choice(nodes) for name, nodes in result.items()}


def right_parts(cfg: Cfg, node: int, name: str, known: dict[int, tuple[int, int]] | None = None) -> tuple[int, int]:
    """(y, P) with node = y | P `name`; what of y ends with the rule all the same is left in it.

    known: of nodes that have been looked at"""
    known = {} if known is None else known
    found = known.get(node)
    if found is None:
        cfg.expressions.budget.tick()
        found = known[node] = _right_parts(cfg, node, name, known)
    return found


def _right_parts(cfg: Cfg, node: int, name: str, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    kind, parts = cfg.kind[node], cfg.parts[node]
    if kind == REFERENCE and parts == name:
        return NEVER, EMPTY
    if kind == CHOICE:
        pairs = [right_parts(cfg, member, name, known) for member in parts]
        return cfg.choice(y for y, _ in pairs), cfg.choice(p for _, p in pairs)
    if kind == SEQUENCE:
        *front, last = cfg.items(node)
        y, p = right_parts(cfg, last, name, known)
        if p == NEVER:
            return node, NEVER
        before = cfg.sequence(*front)
        rest, prefix = cfg.sequence(before, _without_empty_member(cfg, y)), cfg.sequence(before, p)
        if EMPTY in cfg.members(y):
            y, p = right_parts(cfg, before, name, known)
            rest, prefix = cfg.choice((rest, y)), cfg.choice((prefix, p))
        return rest, prefix
    return node, NEVER


# ---- the empty text --------------------------------------------------------------------------------------------------


def _without_empty_member(cfg: Cfg, node: int) -> int:
    return cfg.choice(member for member in cfg.members(node) if member != EMPTY)


def _split_off_empty(cfg: Cfg, names: Iterable[str]) -> None:
    """Each rule becomes: nothing, or a rule of its own for its other texts."""
    for name in names:
        _other_texts(cfg, name)
    complete(cfg)


def complete(cfg: Cfg) -> None:
    """Give the rules that `node_without_empty` asked for their bodies."""
    while True:
        waiting = [n for n, other in cfg.not_empty.items() if n in cfg.bodies and other not in cfg.bodies]
        if not waiting:
            return
        for name in waiting:
            other = cfg.not_empty[name]
            cfg.bodies[other] = node_without_empty(cfg, cfg.bodies[name])
            cfg.bodies[name] = cfg.choice((EMPTY, cfg.reference(other)))


def _other_texts(cfg: Cfg, name: str) -> str:
    """The name of the rule for what `name` stands for, the empty text left out; its body comes later."""
    other = cfg.not_empty.get(name)
    if other is None:
        other = cfg.not_empty[name] = cfg.fresh(name, "some")
    return other


def node_without_empty(cfg: Cfg, root: int) -> int:
    known: dict[int, int] = {}
    for n in cfg.upwards((root,), {}, lambda n: cfg.children(n) if cfg.nullable(n) else ()):
        kind, parts = cfg.kind[n], cfg.parts[n]
        if not cfg.nullable(n):
            known[n] = n
        elif kind == EMPTY_KIND:
            known[n] = NEVER
        elif kind == TERMINAL:
            known[n] = cfg.terminal(cfg.expressions.both((parts,), minus=EMPTY_EXPRESSION))
        elif kind == REFERENCE:
            known[n] = cfg.reference(_other_texts(cfg, parts))
        elif kind == SEQUENCE:
            head, tail = parts
            known[n] = cfg.choice((cfg.sequence(known[head], tail), known[tail]))
        elif kind == CHOICE:
            known[n] = cfg.choice(known[member] for member in parts)
        else:
            body, _, most = parts
            some = known.get(body, body)
            known[n] = cfg.sequence(some, cfg.repeat(some, 0, fewer(most)))
    return known[root]
