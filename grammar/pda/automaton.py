"""The lazy pushdown automaton over bytes that runs the nodes of `Rules`, determinised where an output has been.

Here: the memory of the kernels, filling in what they need, configurations.  Not here: the loops (steps.py), token
masks (token_mask.py), what nodes mean (rules.py).

Between two tokens an output is in a `Configuration`: a set of items (state of a terminal, stack), equal sets are the
same object.  Within a token sets are only passed through, so an automaton grows by what was generated, not by what was
tried.  The owner's lock guards it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import GrammarTooComplex
from ..expressions import EMPTY as EMPTY_EXPRESSION
from ..expressions import Row, byte_set
from ..rules import DISTINCT_END, END, LITERAL, RULE, SILENT, TERMINAL, Rules
from . import interning, memory, steps
from .memory import ACCEPTS, DONE, FUEL, NEED, NEEDED, SIZE, Int32, Memory, UInt8

if TYPE_CHECKING:
    from ..token_mask import MaskRow

CALL_FUEL = 50_000_000  # items and nodes that one call may look at
MAX_COST = 1 << 28  # bytes; longer shortest texts all count as this long
MAX_BYTES = 128 * 2**20  # of one automaton's memory
MAX_CONFIGURATIONS = 200_000


class Configuration:
    """Where an output may be.   items [n, 3] int32, read-only: state, frame, text;  accepting: it may end here

    Slots are filled in by those who need them: `mask` by token_mask.py, `next` by the grammar (token id -> what comes
    after it), `forced`, `needed` (tokens of the shortest completion)."""

    __slots__ = ("accepting", "cost", "forced", "items", "mask", "needed", "next", "within")

    def __init__(self, items: Int32, accepting: bool, cost: int) -> None:
        self.items, self.accepting, self.cost = items, accepting, cost
        self.mask: MaskRow | None = None
        self.next: dict[int, Configuration] = {}
        self.forced: bytes | None = None
        self.needed = -1
        self.within: dict[int, Any] = {}


class Pushdown:
    """Memory and configurations of one store of rules."""

    def __init__(self, rules: Rules, base: Pushdown | None = None) -> None:
        """base: an automaton over a store of expressions of which that of `rules` is a copy; its states are taken over."""
        self.rules, self.expressions = rules, rules.expressions
        self.memory = _memory()
        self.table = self.memory.table
        self._counts = self.memory.counts
        self._counts[:3] = 1, 2, 1  # index 0 is the bottom frame, no text, no list; text 1 is empty
        self._state_of: dict[int, int] = {}
        self._expression_of = [-1]
        self._position_of: dict[int, int] = {}
        self._positions, self._edges = 1, 0
        self._columns: dict[int, npt.NDArray[np.intp]] = {}
        self._known: dict[bytes, Configuration] = {}
        self._texts: dict[int, bytes] = {}
        if base is not None:
            self._take_over(base)

    def _take_over(self, base: Pushdown) -> None:
        count = len(base._expression_of)
        names = ("dfa_next", "dfa_flags", "dfa_level", "dfa_cost")
        room = 256 + count
        arrays = {name: np.empty((room, *getattr(base.memory, name).shape[1:]), getattr(base.memory, name).dtype) for name in names}
        for name, array in arrays.items():
            array[:count] = getattr(base.memory, name)[:count]
            array[count:] = 0
        self._replace(**arrays)
        self._state_of, self._expression_of = base._state_of.copy(), base._expression_of.copy()
        self._columns = base._columns

    # ---- configurations -----------------------------------------------------------------------------------------

    def start(self, node: int) -> Configuration:
        """Nothing of a text of `node` written yet."""
        return self._intern(self._run(lambda: int(steps.start(self.table, node))))

    def advance(self, configuration: Configuration, text: bytes) -> Configuration | None:
        """The configuration after more bytes; None if they cannot come next."""
        size = self.load(configuration.items)
        array = np.frombuffer(bytearray(text), dtype=np.uint8)
        self._counts[SIZE], self._counts[DONE] = size, 0
        size = self._run(
            lambda: int(steps.advance(self.table, int(self._counts[SIZE]), array, int(self._counts[DONE])))
        )
        return self._intern(size) if size or self._counts[ACCEPTS] else None

    def forced(self, configuration: Configuration, most: int) -> tuple[bytes, Configuration]:
        """The bytes that must come next, up to `most` of them, and what comes after them."""
        if configuration.accepting:
            return b"", configuration
        out = np.empty(most, dtype=np.uint8)
        self._counts[SIZE], self._counts[DONE], self._counts[ACCEPTS] = self.load(configuration.items), 0, 0
        done = self._run(lambda: int(steps.forced(self.table, int(self._counts[SIZE]), out, int(self._counts[DONE]))))
        if not done:
            return b"", configuration
        size = int(self._counts[SIZE])
        steps.sort_items(self.table, 0, size)
        return out[:done].tobytes(), self._intern(size)

    def load(self, items: Int32) -> int:
        """Put a set where the kernels look for it; returns its size."""
        size = len(items)
        while size > len(self.memory.items):
            self._grow("items", "work")
        self.memory.items[:size] = items
        return size

    def cost(self, items: Int32) -> int:
        """Bytes of a shortest completion."""
        return int(steps.cost_of(self.table, 0, self.load(items)))

    def expression_of(self, state: int) -> int:
        return self._expression_of[state]

    def _run(self, call: Callable[[], int]) -> int:
        """Call a kernel until nothing is missing."""
        self._counts[FUEL] = CALL_FUEL
        while True:
            result = call()
            if result >= 0:
                return result
            self.supply()

    def _intern(self, size: int) -> Configuration:
        accepting = bool(self._counts[ACCEPTS])
        items = self.memory.items[:size].copy()
        key = items.tobytes() + (b"\1" if accepting else b"\0")
        known = self._known.get(key)
        if known is None:
            cost = 0 if accepting else int(steps.cost_of(self.table, 0, size))
            items.flags.writeable = False
            known = self._known[key] = Configuration(items, accepting, cost)
        return known

    # ---- what kernels lack --------------------------------------------------------------------------------------

    def supply(self) -> None:
        """Fill in what the last kernel call said that it needs."""
        need, needed = int(self._counts[NEED]), int(self._counts[NEEDED])
        if need == memory.NEED_ROW:
            self._expand_state(needed)
        elif need == memory.NEED_NODE:
            self._expand_node(needed)
        elif need == memory.NEED_FUEL:
            raise GrammarTooComplex(f"needs more than {CALL_FUEL:,} steps", place=self.expressions.budget.place)
        else:
            self._make_room(need)

    def _make_room(self, need: int) -> None:
        m = self.memory
        if need == memory.NEED_FRAMES:
            self._grow("frames", "frame_depth", "frame_cost")
            m = self._replace(frame_table=np.zeros(2 * len(m.frame_table), dtype=np.int32))
            interning.rehash_frames(self.table)
        elif need == memory.NEED_TEXTS:
            self._grow("texts")
            m = self._replace(text_table=np.zeros(2 * len(m.text_table), dtype=np.int32))
            interning.rehash_pairs(m.text_table, m.texts, m.counts, memory.TEXTS, 2)
        elif need == memory.NEED_SEEN:
            self._grow("seen")
            m = self._replace(seen_table=np.zeros(2 * len(m.seen_table), dtype=np.int32))
            interning.rehash_pairs(m.seen_table, m.seen, m.counts, memory.SEEN, 1)
        elif need == memory.NEED_ITEMS:
            self._grow("items", "work")
        else:
            self._replace(visited=np.zeros((2 * len(m.visited), 4), dtype=np.int32))

    def _grow(self, *names: str) -> None:
        """Make arrays twice as long."""
        if self.num_bytes > MAX_BYTES:
            raise GrammarTooComplex(f"needs more than {MAX_BYTES >> 20} MB", place=self.expressions.budget.place)
        grown = {}
        for name in names:
            old = getattr(self.memory, name)
            grown[name] = np.zeros((2 * len(old), *old.shape[1:]), dtype=old.dtype)
            grown[name][: len(old)] = old
        self._replace(**grown)

    def make_level_ends(self, longest: int) -> None:
        """Room for walks over tokens of up to `longest` bytes."""
        if len(self.memory.level_ends) < longest + 2:
            self._replace(level_ends=np.zeros(longest + 2, dtype=np.int32))

    def _replace(self, **arrays: npt.NDArray[Any]) -> Memory:
        self.memory = self.memory._replace(**arrays)
        self.table = self.memory.table
        return self.memory

    @property
    def num_bytes(self) -> int:
        return sum(array.nbytes for array in self.memory)

    def state_of(self, expression: int) -> int:
        state = self._state_of.get(expression)
        if state is None:
            state = self._state_of[expression] = len(self._expression_of)
            if state >= len(self.memory.dfa_flags):
                self._grow("dfa_next", "dfa_flags", "dfa_level", "dfa_cost")
            self._expression_of.append(expression)
            e, m = self.expressions, self.memory
            final = expression == EMPTY_EXPRESSION
            m.dfa_flags[state] = (memory.ACCEPTING if e.nullable[expression] else 0) | (memory.FINAL if final else 0)
            m.dfa_cost[state] = min(MAX_COST, e.shortest[expression])
            m.dfa_level[state] = min(MAX_COST, e.plain_level(expression))
        return state

    def _expand_state(self, state: int) -> None:
        row = [(members, self.state_of(left)) for members, left in self._row(state)]
        line = self.memory.dfa_next[state]  # only now: numbering states may have moved it
        for members, target in row:
            line[self._columns_of(members)] = target
        self.memory.dfa_flags[state] |= memory.KNOWN

    def _row(self, state: int) -> Row:
        try:
            return self.expressions.derivatives(self._expression_of[state])
        except RecursionError:
            raise GrammarTooComplex("is nested too deeply", place=self.expressions.budget.place) from None

    def _columns_of(self, members: int) -> npt.NDArray[np.intp]:
        columns = self._columns.get(members)
        if columns is None:
            bits = np.unpackbits(np.frombuffer(members.to_bytes(32, "little"), dtype=np.uint8), bitorder="little")
            columns = self._columns[members] = np.flatnonzero(bits)
        return columns

    def _literal_at(self, node: int) -> int:
        position = self._position_of.get(node)
        if position is None:
            text = self.rules.parts[node]
            position = self._position_of[node] = self._positions
            end = position + len(text)
            while end >= len(self.memory.lit_byte):
                self._grow("lit_byte", "lit_flags", "lit_left")
            m = self.memory
            m.lit_byte[position:end] = np.frombuffer(text, dtype=np.uint8)
            if self.rules.kind[node] == SILENT:
                m.lit_flags[position:end] = memory.QUIET
            m.lit_flags[end - 1] |= memory.LAST
            m.lit_left[position:end] = np.arange(len(text), 0, -1)
            self._positions = end
        return -position

    def _expand_node(self, node: int) -> None:
        rows = []
        for op, target, then in self.rules.edges(node):
            if op == TERMINAL:
                target = self.state_of(self.rules.parts[target])
            elif op in (LITERAL, SILENT):
                target = self._literal_at(target)
            elif op == RULE:
                target = self.rules.body(target)
            rows.append((op, target, then))
        first = self._edges
        self._edges += len(rows)
        while self._edges >= len(self.memory.edges):
            self._grow("edges")
        while len(self.rules) >= len(self.memory.edge_count):
            self._grow("edge_start", "edge_count", "node_cost")
        m, shortest = self.memory, self.rules.shortest
        if rows:
            m.edges[first : self._edges] = rows
            for _, _, then in rows:
                m.node_cost[then] = min(MAX_COST, shortest[then])
        m.edge_start[node] = first
        m.edge_count[node] = len(rows) + 1

    # ---- the shortest way on ------------------------------------------------------------------------------------

    def shortest_text(self, state: int, frame: int) -> bytes:
        """The bytes of one shortest completion of an item, always the same way from the same state or node."""
        parts = [self._state_text(state)]
        while frame:
            parts.append(self._node_text(int(self.memory.frames[frame, 0])))
            frame = int(self.memory.frames[frame, 1])
        return b"".join(parts)

    def _state_text(self, state: int) -> bytes:
        if state < 0:
            m = self.memory
            return m.lit_byte[-state : -state + int(m.lit_left[-state])].tobytes()
        text, shortest = bytearray(), self.expressions.shortest
        expression = self._expression_of[state]
        while not self.expressions.nullable[expression]:
            row = self.expressions.derivatives(expression)
            members, expression = min(row, key=lambda pair: (shortest[pair[1]], _preference(pair[0])))
            text.append(_preference(members)[1])
        return bytes(text)

    def _node_text(self, node: int) -> bytes:
        known = self._texts.get(node)
        if known is None:
            parts, waiting, shortest = [], [node], self.rules.shortest
            while waiting:
                at = waiting.pop()
                if shortest[at] == 0:
                    continue
                edges = [edge for edge in self.rules.edges(at) if edge.op != END]
                op, target, then = min(edges, key=lambda edge: shortest[edge.target] + shortest[edge.then])
                waiting.append(then)
                if op == TERMINAL:
                    parts.append(self._state_text(self.state_of(self.rules.parts[target])))
                elif op in (LITERAL, SILENT):
                    parts.append(self.rules.parts[target])
                elif op != DISTINCT_END:
                    waiting.append(target)
            known = self._texts[node] = b"".join(parts)
        return known


_GRAPHIC = byte_set((0x21, 0x7E))


def _preference(members: int) -> tuple[int, int]:
    """Orders sets of bytes by their plainest byte: graphic ASCII before the rest; (rank, that byte)."""
    graphic = members & _GRAPHIC
    chosen = graphic or members
    return (0 if graphic else 1, (chosen & -chosen).bit_length() - 1)


def _memory() -> Memory:
    def int32(*shape: int) -> Int32:
        return np.zeros(shape, dtype=np.int32)

    def uint8(size: int) -> UInt8:
        return np.zeros(size, dtype=np.uint8)

    return Memory(
        dfa_next=int32(256, 256), dfa_flags=uint8(256), dfa_level=int32(256), dfa_cost=int32(256),
        lit_byte=uint8(4096), lit_flags=uint8(4096), lit_left=int32(4096),
        edge_start=int32(2048), edge_count=int32(2048), node_cost=int32(2048), edges=int32(4096, 3),
        frames=int32(1024, 4), frame_depth=int32(1024), frame_cost=int32(1024),
        texts=int32(1024, 2), seen=int32(64, 2),
        frame_table=int32(2048), text_table=int32(2048), seen_table=int32(128),
        items=int32(2048, 3), work=int32(2048, 3), visited=int32(2048, 4),
        level_ends=int32(2), counts=np.zeros(20, dtype=np.int64),
    )  # fmt: skip
