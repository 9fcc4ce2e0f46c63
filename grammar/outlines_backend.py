"""backend="outlines": constraints compiled through outlines-core, for users who know it and as an independent oracle.

outlines-core makes one regex of a schema, and an index of the whole regex over the whole vocabulary: every state's
tokens at once.  That can take minutes and gigabytes (`.{0,1000}`, `\\w{100}`), so it happens in a process of its own,
which is ended after SECONDS or above MAX_BYTES; what comes back is a table, and a matcher is a walk through it.

What differs from forktree's own grammars:
- Regexes have the syntax of Rust's regex crate, where `\\d`, `\\w` and `.` have Unicode's meaning.
- Schemas are those of outlines_schemas; others are refused.
- outlines-core 0.2.14 loses transitions out of accepting states: of the tokens that may follow where the text could
  also end, those are missing that only lead on to where it could not.  With tokens `a`, `-`, `1`, the index of `a(-1)?`
  allows only EOS after `a`.  Texts that need such a step cannot be generated; nothing invalid can.
- A token's bytes are all that counts, so `forced` gives a token only where no other token is allowed.
- `tokens_left` is exact: the tokens to the nearest end are known for every state."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .constraint import Constraint
from .errors import GrammarError, GrammarTooComplex
from .outlines_schemas import check_covered
from .vocabulary import Vocabulary

__all__ = ["OutlinesGrammar", "OutlinesMatcher"]

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

SECONDS = 30.0
MAX_BYTES = 4 * 2**30
MOST_STATES = 50_000
MAX_MASKS = 1_000
MOST_FORCED = 256  # tokens at a time
UNREACHABLE = np.iinfo(np.int32).max

INITIAL = 0
TERMINATED = -1


class OutlinesGrammar:
    """One index.   tokens[starts[s] : starts[s + 1]] may follow in state s, and lead to the states in `targets`."""

    def __init__(self, constraint: Constraint, vocabulary: Vocabulary, *, seconds: float = SECONDS) -> None:
        self.constraint, self.vocabulary = constraint, vocabulary
        head, (states, tokens, targets) = _built(constraint, vocabulary, seconds)
        used = np.unique(np.concatenate([states, targets, head["final"], [head["initial"]]]).astype(np.int64))
        number = np.arange(len(used))  # the worker's states in order, but that the first one is INITIAL
        first = np.searchsorted(used, head["initial"])
        number[[INITIAL, first]] = number[[first, INITIAL]]
        states, targets = number[np.searchsorted(used, states)], number[np.searchsorted(used, targets)]
        order = np.lexsort((tokens, states))
        self._tokens: Int32 = tokens[order].astype(np.int32)
        self._targets: Int32 = targets[order].astype(np.int32)
        self._starts = np.searchsorted(states[order], np.arange(len(used) + 1))
        self._accepting = np.zeros(len(used), dtype=np.bool_)
        self._accepting[number[np.searchsorted(used, head["final"])]] = True
        self._needed = _tokens_to_end(states, targets, self._accepting)
        self._masks: OrderedDict[int, Int32] = OrderedDict()

    @property
    def everything(self) -> Int32:
        return self.vocabulary.full_row

    @property
    def num_states(self) -> int:
        return len(self._accepting)

    @property
    def num_bytes(self) -> int:
        """Memory that it holds, about."""
        masks = len(self._masks) * 4 * self.vocabulary.num_words
        return masks + self._tokens.nbytes + self._targets.nbytes + self._starts.nbytes + self._needed.nbytes

    def matcher(self) -> OutlinesMatcher:
        return OutlinesMatcher(self)

    def mask(self, state: int, tokens_left: int | None = None) -> Int32:
        """int32 [num_words], read-only.  What OutlinesMatcher.fill_mask writes."""
        if state == TERMINATED:
            return self.vocabulary.eos_row
        row = self._masks.get(state)
        tokens, targets = self._following(state)
        if row is None:
            row = self._masks[state] = self._row(tokens, state)
            if len(self._masks) > MAX_MASKS:
                self._masks.popitem(last=False)
        if tokens_left is None:
            return row
        in_time = self._needed[targets] <= tokens_left - 1
        if in_time.all() or not (in_time.any() or self._accepting[state]):
            return row
        return self._row(tokens[in_time], state)

    def after(self, state: int, token_id: int) -> int:
        if token_id in self.vocabulary.eos_token_ids:
            if not self._accepting[state]:
                raise GrammarError(f"token {token_id} (end of output) is not allowed: the output is not complete")
            return TERMINATED
        tokens, targets = self._following(state)
        at = int(np.searchsorted(tokens, token_id))
        if at == len(tokens) or tokens[at] != token_id:
            raise GrammarError(f"token {token_id} is not allowed here")
        return int(targets[at])

    def accepts_at(self, state: int) -> bool:
        return bool(self._accepting[state])

    def ends_at(self, state: int) -> bool:
        return self.accepts_at(state) and self._starts[state] == self._starts[state + 1]

    def tokens_needed(self, state: int) -> int:
        """Tokens to the nearest end, EOS not counted."""
        return int(self._needed[state])

    def forced(self, state: int) -> list[int]:
        found: list[int] = []
        while len(found) < MOST_FORCED and not self._accepting[state]:
            tokens, targets = self._following(state)
            if len(tokens) != 1:
                break
            found.append(int(tokens[0]))
            state = int(targets[0])
        return found

    def _following(self, state: int) -> tuple[Int32, Int32]:
        some = slice(self._starts[state], self._starts[state + 1])
        return self._tokens[some], self._targets[some]

    def _row(self, tokens: Int32, state: int) -> Int32:
        bits = np.zeros(32 * self.vocabulary.num_words, dtype=np.uint8)
        bits[tokens] = 1
        row = np.packbits(bits, bitorder="little").view(np.int32)
        if self._accepting[state]:
            row |= self.vocabulary.eos_row
        row.flags.writeable = False
        return self.everything if np.array_equal(row, self.everything) else row


class OutlinesMatcher:
    """Where one output stands; see matcher.Matcher, whose interface this is."""

    def __init__(self, grammar: OutlinesGrammar) -> None:
        self.grammar = grammar
        self._states = [INITIAL]

    @property
    def num_tokens(self) -> int:
        return len(self._states) - 1

    @property
    def terminated(self) -> bool:
        return self._states[-1] == TERMINATED

    @property
    def complete(self) -> bool:
        return self.terminated or self.grammar.accepts_at(self._states[-1])

    @property
    def finished(self) -> bool:
        return self.terminated or self.grammar.ends_at(self._states[-1])

    def mask(self, tokens_left: int | None = None) -> Int32:
        return self.grammar.mask(self._states[-1], tokens_left)

    def fill_mask(self, row: Int32, tokens_left: int | None = None) -> bool:
        mask = self.mask(tokens_left)
        if mask is self.grammar.everything:
            return False
        row[:] = mask
        return True

    def advance(self, token_id: int) -> None:
        if self.terminated:
            raise GrammarError(f"token {token_id} after the end of the output")
        self._states.append(self.grammar.after(self._states[-1], token_id))

    def try_advance(self, token_id: int) -> bool:
        try:
            self.advance(token_id)
        except GrammarError:
            return False
        return True

    def rollback(self, n: int) -> None:
        if not 0 <= n <= self.num_tokens:
            raise GrammarError(f"cannot roll back {n} tokens: {self.num_tokens} were taken")
        if n:
            del self._states[-n:]

    def tokens_needed(self, limit: int | None = None) -> int:
        return 0 if self.terminated else self.grammar.tokens_needed(self._states[-1])

    def forced_bytes(self) -> bytes:
        """None are known: an index has tokens only."""
        return b""

    def forced(self) -> list[int]:
        return [] if self.terminated else self.grammar.forced(self._states[-1])


def _built(constraint: Constraint, vocabulary: Vocabulary, seconds: float) -> tuple[dict[str, Any], Int64]:
    """What the worker said, and the transitions: [3, n] states, token ids, next states."""
    library = find_spec("outlines_core")
    if library is None or library.origin is None:
        raise GrammarError('backend="outlines" needs outlines-core: pip install "forktree[outlines]"')
    if constraint.kind not in ("regex", "json_schema"):
        raise GrammarError(f'backend="outlines" compiles regexes and JSON Schemas, no {constraint.kind}')
    if constraint.options:
        raise GrammarError(f'backend="outlines" has no such options: {constraint.options}')
    if constraint.kind == "json_schema":
        check_covered(json.loads(constraint.text))
    ids: dict[bytes, list[int]] = {}
    for token_id, token in enumerate(vocabulary.tokens):
        if token:
            ids.setdefault(token, []).append(token_id)
    task = {
        "library": str(Path(library.origin).parents[1]),
        "regex": constraint.text if constraint.kind == "regex" else None,
        "schema": constraint.text,
        "tokens": [(text.hex(), some) for text, some in ids.items()],
        "eos_token_id": len(vocabulary),  # an id of its own, since a vocabulary may have several
        "max_bytes": MAX_BYTES,
    }
    answer = _asked(json.dumps(task).encode(), seconds)
    line, _, rest = answer.partition(b"\n")
    head: dict[str, Any] = json.loads(line)
    if "error" in head:
        raise GrammarError(f'backend="outlines" cannot compile this: {head["error"]}')
    transitions = np.frombuffer(rest, dtype=np.int64).reshape(3, head["count"])
    if len(np.unique(transitions[0])) > MOST_STATES:
        raise GrammarTooComplex(f"outlines-core's index has more than {MOST_STATES:,} states", place="the index")
    return head, transitions[:, transitions[1] < len(vocabulary)]


def _asked(task: bytes, seconds: float) -> bytes:
    """The worker's answer.  -I: the folder of this package is no place to look for modules."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("outlines_worker.py"))]
    try:
        done = subprocess.run(command, input=task, capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        message = f"outlines-core needs more than {seconds:g} s for its index"
        raise GrammarTooComplex(message, place="the index") from None
    if done.returncode != 0:
        message = f"outlines-core ended with status {done.returncode}, perhaps for want of {MAX_BYTES >> 30} GiB"
        raise GrammarTooComplex(message, place="the index")
    return done.stdout


def _tokens_to_end(states: Int64, targets: Int64, accepting: npt.NDArray[np.bool_]) -> Int32:
    """For every state, the tokens to the nearest accepting one, found backwards from those."""
    before: dict[int, list[int]] = {}
    for state, target in np.unique(np.stack([states, targets]), axis=1).T.tolist():
        before.setdefault(target, []).append(state)
    needed = np.where(accepting, 0, UNREACHABLE).astype(np.int32)
    reached = np.flatnonzero(accepting).tolist()
    for state in reached:  # it grows
        for earlier in before.get(state, ()):
            if needed[earlier] == UNREACHABLE:
                needed[earlier] = needed[state] + 1
                reached.append(earlier)
    return needed
