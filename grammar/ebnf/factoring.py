"""Alternatives that begin alike become one beginning with alternatives after it.

    list: value | value "," list            value ("," list)?
    statement: target "=" e | e             unary (... "=" e | ...)   if both begin with unary, however far down

Otherwise the automaton would hold a stack for each of them within the common beginning, and if that nests, as values
and expressions do, twice as many on each level.  Only what is not regular is looked at: terminals have no stacks."""

from __future__ import annotations

from collections.abc import Callable

from .cfg import CHOICE, EMPTY, REFERENCE, REPEAT, SEQUENCE, Cfg, components
from .recursion import leading

LONGEST_CHAIN = 40  # rules that a beginning is followed down through
DEEPEST = 8  # common beginnings within what follows a common beginning

Chain = list[tuple[int, int]]  # (what a node begins with, what follows it), from the outside in


def factor(cfg: Cfg, is_regular: Callable[[int], bool]) -> None:
    factoring = _Factoring(cfg, is_regular)
    first = {name: leading(cfg, body) for name, body in cfg.bodies.items()}
    for (name,) in components(list(cfg.bodies), first.__getitem__):  # what others begin with comes before them
        cfg.bodies[name] = factoring.rewritten(cfg.bodies[name])


class _Factoring:
    def __init__(self, cfg: Cfg, is_regular: Callable[[int], bool]) -> None:
        self._cfg, self._is_regular = cfg, is_regular
        self._new: dict[int, int] = {}
        self._factored: dict[int, int] = {}

    def rewritten(self, root: int) -> int:
        cfg, new = self._cfg, self._new
        for n in cfg.upwards((root,), new, lambda n: () if self._is_regular(n) else cfg.children(n)):
            kind, parts = cfg.kind[n], cfg.parts[n]
            if self._is_regular(n):
                new[n] = n
            elif kind == SEQUENCE:
                new[n] = cfg.sequence(new[parts[0]], new[parts[1]])
            elif kind == CHOICE:
                new[n] = self._choice(cfg.choice(new[member] for member in parts), 0)
            elif kind == REPEAT:
                new[n] = cfg.repeat(new[parts[0]], *parts[1:])
            else:
                new[n] = n
        return new[root]

    def _choice(self, node: int, depth: int) -> int:
        cfg = self._cfg
        known = self._factored.get(node)
        if known is not None:
            return known
        self._factored[node] = node  # while it is being worked on, and where it comes back to itself
        groups: list[tuple[Chain, int, list[int]]] = []  # (chain of the first, what is common, what follows it)
        heads: dict[int, int] = {}  # beginning -> group
        result: list[int] = []
        for member in cfg.members(node) if depth < DEEPEST else ():
            if self._is_regular(member):
                result.append(member)
                continue
            chain = self._chain(member)
            group = next((heads[head] for head, _ in chain if head in heads), None)
            if group is None:
                heads.update({head: len(groups) for head, _ in chain})
                groups.append((chain, chain[0][0], [chain[0][1]]))
                continue
            first, common, tails = groups[group]
            if len(tails) == 1:
                common = next(head for head, _ in chain if heads.get(head) == group)
                tails[:] = [dict(first)[common]]
                groups[group] = first, common, tails
                for head in [head for head, at in heads.items() if at == group and head != common]:
                    del heads[head]
            tails.append(dict(chain)[common])
        if not groups or all(len(tails) == 1 for _, _, tails in groups):
            return node
        for chain, common, tails in groups:
            if len(tails) == 1:
                result.append(cfg.sequence(*chain[0]))
            else:
                result.append(cfg.sequence(common, self._choice(cfg.choice(tails), depth + 1)))
        self._factored[node] = cfg.choice(result)
        return self._factored[node]

    def _chain(self, node: int) -> Chain:
        cfg = self._cfg
        head, *rest = cfg.items(node)
        tail = cfg.sequence(*rest)
        chain = [(head, tail)]
        while cfg.kind[head] == REFERENCE and not self._is_regular(head) and len(chain) < LONGEST_CHAIN:
            body = cfg.bodies[cfg.parts[head]]
            if cfg.kind[body] == CHOICE or body == EMPTY:
                break
            head, *rest = cfg.items(body)
            tail = cfg.sequence(*rest, tail)
            chain.append((head, tail))
        return chain
