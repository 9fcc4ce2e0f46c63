"""Why a token may not come next, and what a grammar is made of: for people, at leisure.

Here: finding where a text stops to fit, what fits there, the report.  Not here: which part of the constraint that is
(explain_places.py), how bytes are shown (shown_bytes.py).  Nothing of it runs unless it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .explain_places import Place, places_of
from .pda.memory import KNOWN
from .shown_bytes import MOST, shown_set, shown_text

if TYPE_CHECKING:
    from .compiler import Grammar
    from .pda.automaton import Configuration

LONGEST_FORCED = 64  # bytes


class Note(NamedTuple):
    """What a compilation narrowed or ignored, and where."""

    pointer: str
    keyword: str
    message: str

    def __str__(self) -> str:
        return f"{Place(self.pointer, self.keyword)}: {self.message}" if self.pointer else self.message


@dataclass(frozen=True)
class Explanation:
    """Whether a token or text may come next, and if not, why.

    token_id  or None for a text      text     its bytes; None for a special token, or one that ends the output
    reason    in one line             fitting  how many of its bytes fit
    expected  what may come where it stops to fit: texts in «», sets of characters, "the end of the output"
    places    which parts of the constraint hold there, innermost first; () where the constraint does not tell"""

    token_id: int | None
    text: bytes | None
    allowed: bool
    reason: str
    fitting: int = 0
    expected: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()

    def __str__(self) -> str:
        lines = [self.reason]
        if self.expected:
            lines.append(f"    may come: {', '.join(self.expected)}")
        if self.places:
            lines.append(f"    by:       {', '.join(map(str, self.places))}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """What a grammar took and holds.   Times are seconds by the wall clock; 0.0 for a first mask nobody asked for yet.

    rules           of the constraint, as far as they are built      expressions     of its terminals
    states          of terminals, those of JSON itself included      frames          of stacks
    configurations  where outputs have been, that are remembered     expansions      what was worked out when first met
    masks           that are kept                                    walks           masks found by walking the tokens
    notes           what the compilation narrowed or ignored; terminals of a Lark grammar that collide"""

    kind: str
    compile_seconds: float
    first_mask_seconds: float
    num_bytes: int
    rules: int
    expressions: int
    states: int
    frames: int
    configurations: int
    expansions: int
    masks: int
    walks: int
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        first = f", first mask {1000 * self.first_mask_seconds:.1f} ms" if self.walks else ""
        lines = [
            f"{self.kind}: compiled in {1000 * self.compile_seconds:.1f} ms{first}",
            f"    holds {self.num_bytes / 2**20:.1f} MB: {self.rules:,} rules, {self.expressions:,} expressions, "
            f"{self.states:,} states, {self.frames:,} frames, {self.configurations:,} configurations, "
            f"{self.masks:,} masks",
            f"    found {self.expansions:,} rows and nodes and walked the vocabulary {self.walks:,} times",
        ]
        lines += [f"    {note}" for note in self.notes]
        return "\n".join(lines)


def explain_token(grammar: Grammar, at: Configuration | None, token_id: int, tokens_left: int | None) -> Explanation:
    """Called with the grammar's lock held."""
    vocabulary = grammar.vocabulary
    if not 0 <= token_id < len(vocabulary):
        return Explanation(token_id, None, False, f"{token_id} is no token id; there are {len(vocabulary)}")
    text = vocabulary.tokens[token_id]
    if at is None:
        return Explanation(token_id, text, False, "the output has ended")
    if token_id in vocabulary.eos_token_ids:
        if at.accepting:
            return Explanation(token_id, None, True, "the output is complete, and may end here")
        rest = f"it lacks {at.cost:,} bytes or more, say {shown_text(_shortest(grammar, at))}"
        return _stopped(grammar, at, token_id, None, f"the output is not complete, and may not end here: {rest}", 0)
    if text is None:
        return Explanation(token_id, None, False, "a constraint never allows a special token")
    found = explain_text(grammar, at, text, token_id)
    if found.allowed and tokens_left is not None:
        row = grammar.mask(at, tokens_left)
        if not int(row[token_id // 32]) >> token_id % 32 & 1:
            after = grammar._automaton.advance(at, text)
            assert after is not None
            needed = grammar._within.tokens_needed(after)
            left = f"{needed} more tokens are needed after it, and {tokens_left - 1} are left"
            reason = f"{shown_text(text)} fits, but not in time: {left}"
            return Explanation(token_id, text, False, reason, len(text))
    return found


def explain_text(grammar: Grammar, at: Configuration, text: bytes, token_id: int | None = None) -> Explanation:
    """Called with the grammar's lock held."""
    fitting, here = 0, at
    for i in range(len(text)):
        after = grammar._automaton.advance(here, text[i : i + 1])
        if after is None:
            break
        fitting, here = i + 1, after
    shown = shown_text(text)
    if fitting == len(text) > 0:
        ending = "the output may end after it" if here.accepting else f"{here.cost:,} bytes or more must follow it"
        return Explanation(token_id, text, True, f"{shown} fits; {ending}", fitting)
    if not text:
        return Explanation(token_id, text, False, "a token without bytes is never allowed")
    if len(text) == 1:
        reason = f"{shown} cannot come"
    else:
        behind = f" after {shown_text(text[:fitting])}" if fitting else ""
        failing = shown_text(text[fitting : fitting + 1])
        reason = f"{shown} does not fit: byte {fitting + 1} of {len(text)}, {failing}, cannot come{behind}"
    return _stopped(grammar, here, token_id, text, reason, fitting)


def _stopped(
    grammar: Grammar, here: Configuration, token_id: int | None, text: bytes | None, reason: str, fitting: int
) -> Explanation:
    members = grammar._automaton.next_bytes(here)
    return Explanation(
        token_id, text, False, reason, fitting, _expected(grammar, here, members), places_of(grammar, here, members)
    )


def _expected(grammar: Grammar, here: Configuration, members: frozenset[int]) -> tuple[str, ...]:
    """What may come: literal texts, then the other bytes."""
    automaton = grammar._automaton
    texts: dict[bytes, None] = {}
    others: set[int] = set()
    if len(members) == 1 and not here.accepting:
        texts[automaton.forced(here, LONGEST_FORCED)[0]] = None
    else:
        for state in here.items[:, 0].tolist():
            if state < 0:
                text = automaton.literal_from(state)
                if text[0] in members:
                    texts[text] = None
            elif automaton.memory.dfa_flags[state] & KNOWN:
                others.update(automaton.memory.dfa_next[state].nonzero()[0].tolist())
    found = [shown_text(text) for text in texts] + shown_set(frozenset(others) & members)
    if len(found) > MOST:
        found = [*found[:MOST], f"and {len(found) - MOST} more"]
    if here.accepting:
        found.append("the end of the output")
    return tuple(found)


def _shortest(grammar: Grammar, at: Configuration) -> bytes:
    texts = (grammar._automaton.shortest_text(state, frame) for state, frame, _ in at.items.tolist())
    return min(texts, key=len, default=b"")


def report(grammar: Grammar) -> Report:
    """Counters that are kept anyway, read off; for a Lark grammar, which of its terminals collide is looked for now."""
    automaton, masks = grammar._automaton, grammar._masks
    notes = [Note(*note) for note in automaton.rules.notes]
    if grammar.constraint.kind == "lark":
        from .ebnf import terminal_collisions

        notes += [Note("", "", line) for line in terminal_collisions(grammar.constraint.text)]
    return Report(
        kind=grammar.constraint.kind,
        compile_seconds=grammar._compile_seconds,
        first_mask_seconds=grammar._first_mask_seconds,
        num_bytes=grammar.num_bytes,
        rules=len(automaton.rules),
        expressions=len(automaton.expressions),
        states=automaton.num_states,
        frames=automaton.num_frames,
        configurations=automaton.num_configurations,
        expansions=automaton.expansions,
        masks=masks.num_kept,
        walks=masks.walks,
        notes=tuple(dict.fromkeys(notes)),
    )
