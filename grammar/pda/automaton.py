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
from ..limits import CALL_FUEL, MAX_BYTES
from ..rules import DISTINCT_END, END, LITERAL, RULE, SILENT, TERMINAL, Rules
from . import interning, memory, steps
from .memory import ACCEPTS, DONE, FRAMES, FUEL, NEED, NEEDED, SIZE, Int32, Memory, UInt8
from .states import States

if TYPE_CHECKING:
    from ..token_mask import MaskRow

OBJECT_BYTES = 400  # what a configuration, a node or an expression takes, with its entries in tables
MAX_COST = 1 << 28  # bytes; longer shortest texts all count as this long
LOOK = 15  # the clock is looked at once in so many expansions and one


class Configuration:
    """Where an output may be.   items [n, 3] int32, read-only: state, frame, text;  accepting: it may end here

    Slots are filled in by those who need them: `mask` by token_mask.py, `next` by the grammar (token id -> what comes
    after it), `forced`; by token_budget.py `needed` (tokens that complete it, -1: not known
    yet), `plan` (these tokens), `effort` and `searched` (how hard a plan was looked for), `within`."""

    __slots__ = (
        "accepting",
        "cost",
        "effort",
        "forced",
        "items",
        "mask",
        "needed",
        "next",
        "plan",
        "searched",
    )

    def __init__(self, items: Int32, accepting: bool, cost: int) -> None:
        self.items, self.accepting, self.cost = items, accepting, cost
        self.mask: MaskRow | None = None
        self.next: dict[int, Configuration] = {}
        self.forced: bytes | None = None
        self.needed = -1
        self.plan: tuple[int, ...] = ()
        self.searched = self.effort = 0


class Pushdown:
    """Memory and configurations of one store of rules."""

    def __init__(self, rules: Rules, base: Pushdown | None = None) -> None:
        """base: an automaton whose store of expressions was copied for these rules; its states are taken over."""
        self.rules, self.expressions = rules, rules.expressions
        self.memory = _memory()
        self.table = self.memory.table
        # The arrays flat: to write a number into these takes a third of the time.
        self.views = _views(self.memory._asdict())
        self._bytes = sum(array.nbytes for array in self.memory)
        self._counts = self.memory.counts
        self._counts[:3] = 1, 2, 1  # index 0 is the bottom frame, no text, no list; text 1 is empty
        self._position_of: dict[int, int] = {}
        self._positions, self._edges = 1, 0
        self._known: dict[bytes, Configuration] = {}
        self._items_bytes = 0
        self.expansions = 0  # rows, entries of rows and nodes worked out
        self._texts: dict[int, bytes] = {}
        self.states: States = States(self, None if base is None else base.states)

    # ---- configurations -----------------------------------------------------------------------------------------

    def start(self, node: int) -> Configuration:
        """Nothing of a text of `node` written yet."""
        self._make_room_for_nodes()
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

    def next_bytes(self, configuration: Configuration) -> frozenset[int]:
        """The bytes that may come next, each tried.  For explanations: it takes its time, and leaves nothing behind."""
        before = self.mark()
        found = set()
        for byte in range(256):
            text = np.full(1, byte, dtype=np.uint8)
            self._counts[SIZE], self._counts[DONE] = self.load(configuration.items), 0
            size = self._run(lambda: int(steps.advance(self.table, int(self._counts[SIZE]), text, 0)))  # noqa: B023
            if size or self._counts[ACCEPTS]:
                found.add(byte)
        self.forget(before)
        return frozenset(found)

    def load(self, items: Int32) -> int:
        """Put a set where the kernels look for it; returns its size."""
        size = len(items)
        while size > len(self.memory.items):
            self.grow("items", "work")
        self.memory.items[:size] = items
        return size

    def cost(self, items: Int32) -> int:
        """Bytes of a shortest completion."""
        return int(steps.cost_of(self.table, 0, self.load(items)))

    def _run(self, call: Callable[[], int]) -> int:
        """Call a kernel until nothing is missing."""
        self._counts[FUEL] = CALL_FUEL
        before = self.mark()
        while True:
            result = call()
            if result >= 0:
                return result
            self.supply(before)

    def mark(self) -> list[int]:
        """How many frames, texts and lists there are; for `forget`."""
        found: list[int] = self._counts[:3].tolist()
        return found

    def forget(self, mark: list[int]) -> None:
        """Drop the frames, texts and lists made since."""
        interning.forget(self.table, *mark)

    def _intern(self, size: int) -> Configuration:
        accepting = bool(self._counts[ACCEPTS])
        items = self.memory.items[:size].copy()
        key = items.tobytes() + (b"\1" if accepting else b"\0")
        known = self._known.get(key)
        if known is None:
            cost = 0 if accepting else int(steps.cost_of(self.table, 0, size))
            items.flags.writeable = False
            known = self._known[key] = Configuration(items, accepting, cost)
            self._items_bytes += 2 * items.nbytes
        return known

    def forget_configurations(self) -> None:
        """Let go of all configurations but those that outputs stand at; what is needed again is made again."""
        for configuration in self._known.values():
            configuration.next.clear()
        self._known.clear()
        self._items_bytes = 0

    @property
    def num_configurations(self) -> int:
        return len(self._known)

    @property
    def num_states(self) -> int:
        return len(self.states)

    @property
    def num_frames(self) -> int:
        return int(self._counts[FRAMES])

    # ---- what kernels lack --------------------------------------------------------------------------------------

    def supply(self, before: list[int]) -> None:
        """Fill in what the last kernel call said that it needs.  If that is too much, all is as it was at `before`."""
        try:
            self._supply()
        except GrammarTooComplex:
            self.forget(before)
            raise

    def _supply(self) -> None:
        need, needed = int(self._counts[NEED]), int(self._counts[NEEDED])
        self.expansions += 1
        if self.expansions & LOOK == 0:
            self.expressions.budget.look()
        if need == memory.NEED_ROW:
            self.states.expand(needed)
        elif need == memory.NEED_BYTE:
            self.states.expand_byte(needed, int(self._counts[memory.NEEDED_BYTE]))
        elif need == memory.NEED_NODE:
            self._expand_node(needed)
        elif need == memory.NEED_FUEL:
            raise GrammarTooComplex(f"needs more than {CALL_FUEL:,} steps", place=self.expressions.budget.place)
        else:
            self._make_room(need)

    def _make_room(self, need: int) -> None:
        m = self.memory
        if need == memory.NEED_FRAMES:
            table = np.zeros(2 * len(m.frame_table), dtype=np.int32)
            self.replace(
                frame_table=table,
                **self._doubled(*memory.BY_FRAME),
            )
            interning.rehash_frames(self.table)
        elif need == memory.NEED_TEXTS:
            table = np.zeros(2 * len(m.text_table), dtype=np.int32)
            m = self.replace(text_table=table, **self._doubled("texts"))
            interning.rehash_pairs(m.text_table, m.texts, m.counts, memory.TEXTS, 2)
        elif need == memory.NEED_SEEN:
            table = np.zeros(2 * len(m.seen_table), dtype=np.int32)
            m = self.replace(seen_table=table, **self._doubled("seen"))
            interning.rehash_pairs(m.seen_table, m.seen, m.counts, memory.SEEN, 1)
        elif need == memory.NEED_ITEMS:
            self.grow("items", "work")
        else:
            self.replace(visited=np.zeros((2 * len(m.visited), 4), dtype=np.int32))

    def grow(self, *names: str) -> None:
        """Make arrays twice as long."""
        self.replace(**self._doubled(*names))

    def _doubled(self, *names: str) -> dict[str, npt.NDArray[Any]]:
        grown = {}
        for name in names:
            old = getattr(self.memory, name)
            if self._bytes + old.nbytes > MAX_BYTES:
                raise self._too_large()
            grown[name] = np.zeros((2 * len(old), *old.shape[1:]), dtype=old.dtype)
            grown[name][: len(old)] = old
        return grown

    def _too_large(self) -> GrammarTooComplex:
        return GrammarTooComplex(f"needs more than {MAX_BYTES >> 20} MB", place=self.expressions.budget.place)

    def make_level_ends(self, longest: int) -> None:
        """Room for walks over tokens of up to `longest` bytes."""
        if len(self.memory.level_ends) < longest + 2:
            self.replace(level_ends=np.zeros(longest + 2, dtype=np.int32))

    def replace(self, **arrays: npt.NDArray[Any]) -> Memory:
        new = self.memory._replace(**arrays)
        num_bytes = sum(array.nbytes for array in new)
        if num_bytes > max(MAX_BYTES, self._bytes):
            raise self._too_large()
        self.memory, self.table, self._bytes = new, new.table, num_bytes
        self.views.update(_views(arrays))
        return new

    @property
    def num_bytes(self) -> int:
        """Memory that it holds, about."""
        made = OBJECT_BYTES * (len(self._known) + len(self.rules) + len(self.expressions.kind))
        return self._bytes + self._items_bytes + made

    def _literal_at(self, node: int) -> int:
        position = self._position_of.get(node)
        if position is None:
            text = self.rules.parts[node]
            position = self._position_of[node] = self._positions
            end = self._positions = position + len(text)
            while end >= len(self.memory.lit_byte):
                self.grow("lit_byte", "lit_flags", "lit_left", "lit_tokens")
            views = self.views
            views["lit_byte"][position:end] = text
            if self.rules.kind[node] == SILENT:
                self.memory.lit_flags[position:end] = memory.QUIET
            views["lit_flags"][end - 1] |= memory.LAST
            left = views["lit_left"]
            for i in range(len(text)):
                left[end - 1 - i] = i + 1
        return -position

    def literal_from(self, state: int) -> bytes:
        """What is left of the literal that a state below 0 stands in."""
        return self._text_of(state)

    def _expand_node(self, node: int) -> None:
        rules = self.rules
        rows = []
        for op, target, then in rules.edges(node):
            if op == TERMINAL:
                target = self.states.state_of(rules.parts[target])
            elif op in (LITERAL, SILENT):
                target = self._literal_at(target)
            elif op == RULE:
                target = rules.body(target)
            rows.append((op, target, then))
        first = at = self._edges
        self._edges += len(rows)
        while self._edges >= len(self.memory.edges):
            self.grow("edges")
        self._make_room_for_nodes()
        edges, costs = self.views["edges"], self.views["node_cost"]
        for op, target, then in rows:
            edges[3 * at], edges[3 * at + 1], edges[3 * at + 2] = op, target, then
            costs[then] = min(MAX_COST, rules.shortest[then])
            at += 1
        self.views["edge_start"][node] = first
        self.views["edge_count"][node] = len(rows) + 1

    def _make_room_for_nodes(self) -> None:
        """Loops know all nodes that there are: those of a front end, and those made since."""
        while len(self.rules) >= len(self.memory.edge_count):
            self.grow("edge_start", "edge_count", "node_cost", "node_tokens")

    # ---- the shortest way on ------------------------------------------------------------------------------------

    def shortest_text(self, state: int, frame: int) -> bytes:
        """The bytes of one shortest completion of an item, always the same way from the same state or node."""
        parts = [self._text_of(state)]
        while frame:
            parts.append(self.node_text(int(self.memory.frames[frame, 0])))
            frame = int(self.memory.frames[frame, 1])
        return b"".join(parts)

    def _text_of(self, state: int) -> bytes:
        if state > 0:
            return self.states.shortest_text(state)
        m = self.memory
        return m.lit_byte[-state : -state + int(m.lit_left[-state])].tobytes()

    def node_text(self, node: int) -> bytes:
        """The bytes of one shortest text of a node."""
        known = self._texts.get(node)
        if known is None:
            parts, waiting, shortest = [], [node], self.rules.shortest
            while waiting:
                at = waiting.pop()
                if shortest[at] == 0:
                    continue
                edges = [edge for edge in self.rules.edges(at) if edge[0] != END]
                op, target, then = min(edges, key=lambda edge: shortest[edge[1]] + shortest[edge[2]])
                waiting.append(then)
                if op == TERMINAL:
                    parts.append(self.states.shortest_text(self.states.state_of(self.rules.parts[target])))
                elif op in (LITERAL, SILENT):
                    parts.append(self.rules.parts[target])
                elif op != DISTINCT_END:
                    waiting.append(target)
            known = self._texts[node] = b"".join(parts)
        return known


def _views(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: memoryview(array.reshape(-1)) for name, array in arrays.items()}


def _memory() -> Memory:
    """Small: most grammars need little, and fresh pages cost more than doubling an array does."""

    def int32(*shape: int) -> Int32:
        return np.zeros(shape, dtype=np.int32)

    def uint8(*shape: int) -> UInt8:
        return np.zeros(shape, dtype=np.uint8)

    states = {name: int32(16) for name in memory.BY_STATE}
    return Memory(
        **{**states, "dfa_next": int32(16, 256), "dfa_flags": uint8(16)},  # type: ignore[arg-type]
        lit_byte=uint8(2048), lit_flags=uint8(2048), lit_left=int32(2048), lit_tokens=int32(2048),
        edge_start=int32(512), edge_count=int32(512), node_cost=int32(512), node_tokens=int32(512),
        edges=int32(512, 3),
        frames=int32(128, 4), frame_depth=int32(128), frame_cost=int32(128), frame_tokens=int32(128),
        texts=int32(128, 2), seen=int32(64, 2),
        frame_table=int32(256), text_table=int32(256), seen_table=int32(128),
        items=int32(512, 3), work=int32(512, 3), visited=int32(512, 4),
        level_ends=int32(2), first_bytes=uint8(256),
        closed=int32(128, 4), closed_first=uint8(128, 32), closed_items=int32(1024, 3),
        counts=np.zeros(24, dtype=np.int64),
    )  # fmt: skip
