"""What a string of bounded length can tell of an expression: its small counters, not its large ones.

The 2,000 states of [a-z]{0,2000} allow the same tokens as long as no token is longer than what is left; they share one
mask by way of the one clamped expression that they all have."""

from __future__ import annotations

from .expressions import ALTERNATIVE, CONCAT, INFINITE, REPEAT, Expressions


class Horizon:
    """Expressions as strings of up to `length` bytes see them."""

    def __init__(self, expressions: Expressions, length: int) -> None:
        self._e, self._length = expressions, length
        self._clamped: dict[int, int] = {}
        self._taken_away: dict[int, int] = {}

    def clamped(self, e: int) -> int:
        """An expression dead after exactly the same strings as `e`, nullable exactly if `e` is, with small counters.

        Intersections are left alone: in them a counter may decide what is dead."""
        chain: list[int] = []
        while self._e.kind[e] == CONCAT and e not in self._clamped:
            chain.append(e)
            e = self._e.parts[e][1]
        result = self._clamped.get(e)
        if result is None:
            result = self._clamped[e] = self._clamped_one(e)
        for suffix in reversed(chain):
            result = self._e.concat(self._clamped_one(self._e.parts[suffix][0]), result)
            self._clamped[suffix] = result
        return result

    def taken_away(self, e: int) -> int:
        """How many bytes longer than those of `clamped(e)` shortest completions of `e` may be, at most.

        After any string of up to `length` bytes: a completion of what is left of the clamped expression completes what
        is left of `e` once the rounds that clamping took away are put in."""
        chain: list[int] = []
        while self._e.kind[e] == CONCAT and e not in self._taken_away:
            chain.append(e)
            e = self._e.parts[e][1]
        total = self._taken_away.get(e)
        if total is None:
            total = self._taken_away[e] = self._taken_away_one(e)
        for suffix in reversed(chain):
            total += self.taken_away(self._e.parts[suffix][0])
            self._taken_away[suffix] = total
        return total

    def _clamped_one(self, e: int) -> int:
        kind, parts = self._e.kind[e], self._e.parts[e]
        if kind == ALTERNATIVE:
            return self._e.alternative([self.clamped(item) for item in parts])
        if kind == REPEAT:
            body, least, most = parts
            enough = self._enough_rounds(body)
            return self._e.repeat(self.clamped(body), min(least, enough), most if most < enough else INFINITE)
        return e

    def _taken_away_one(self, e: int) -> int:
        if self._e.kind[e] == ALTERNATIVE:
            return max(self.taken_away(item) for item in self._e.parts[e])
        if self._e.kind[e] != REPEAT:
            return 0
        body: int
        least: int
        body, least, _ = self._e.parts[e]
        skipped = least - min(least, self._enough_rounds(body))
        return skipped * self._e.shortest[body] + max(1, least) * self.taken_away(body)

    def _enough_rounds(self, body: int) -> int:
        """More rounds of `body` than there is room for."""
        return self._length // max(1, self._e.shortest[body]) + 2
