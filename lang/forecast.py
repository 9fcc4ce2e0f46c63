"""How many prompt tokens a plan's calls will compute, by a prefix cache played through on token ids.

Here: what an output is assumed to be (Outcome), the prompts of a plan as tokens, the forecast per node.
Not here: plans (plan), what a forecast looks like (explain).  Pure: token ids come in, numbers go out.

What is assumed, and what the engine does:
- The cache starts as empty as the first run finds it, holds everything, and shares single tokens (a page size of 1).
- A call computes what of its prompt is not cached, and its last token in any case: its logits are wanted.  Each of n
  outputs is a call; what several need at once is computed by one of them.
- A generated output goes on with its own tokens, all of them cached.  Before a run it is taken to end by a stop of its
  own, whose tokens are cached behind it: a text that begins with the stop continues them.  An output that runs into its
  length leaves its last token to be computed (one token more, and the stop's one); one whose last token a stop string
  cuts is tokenised anew.
- A select computes its prompt's last token, or what of it is new, and each token of its choices that another follows,
  once; an unconditional one the latter again, with nothing before.  The last token of what it chose is not cached.
- Two outputs never spell the same tokens.  Of text whose middle only a run knows the parts are tokenised by themselves.
- Retraction and eviction do not happen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .choices import METHODS
from .meta import ObservedOutput
from .plan import Plan, PlannedNode

__all__ = ["Count", "Forecast", "Item", "NodeForecast", "Outcome", "forecast", "texts_to_tokenize"]


@dataclass(frozen=True)
class Unknown:
    """Tokens that only a run knows: `what` tells them from others, `least` and `most` how many they are."""

    what: tuple[object, ...]
    least: int
    most: int


_CONSTRAINTS = frozenset({"regex", "json_schema", "ebnf", "structural_tag"})

Token = int | Unknown
Tokens = tuple[Token, ...]
Texts = tuple[str | Unknown, ...]


@dataclass(frozen=True)
class Count:
    """Tokens: those that are certain, and how many more there are at most."""

    known: int = 0
    more: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.known + other.known, self.more + other.more)

    def __sub__(self, other: Count) -> Count:
        return Count(self.known - other.known, self.more - other.more)

    @classmethod
    def of(cls, tokens: Iterable[Token]) -> Count:
        known = more = 0
        for token in tokens:
            if isinstance(token, int):
                known += 1
            else:
                known += token.least
                more += token.most - token.least
        return cls(known, more)


@dataclass(frozen=True)
class Outcome:
    """What one output is.  text: None before a run.  kept: the tokens that go on in the text; None: its text does,
    tokenised anew.  cached: tokens behind the prompt that are in the cache afterwards, each a path of its own."""

    text: str | None
    kept: Tokens | None
    cached: tuple[Tokens, ...]


@dataclass(frozen=True)
class Item:
    """One run of a plan.  `arguments` are texts for the plan's references of that name; others stay unknown.
    `observed`: by plan node, where the run has been."""

    plan: Plan
    arguments: Mapping[str, str]
    observed: Mapping[int, Sequence[ObservedOutput]] = field(default_factory=dict)
    warms_forks: bool = False  # the program runs at the client, which has the text before a fork computed first


@dataclass(frozen=True)
class NodeForecast:
    """Of one plan node of one item.  own: tokens of its text alone.  prompt and computed are those of all its calls;
    ends: the whole text as tokens, without its output; begins: how many of those stand before its own text."""

    own: Count
    num_calls: int
    prompt: Count
    computed: Count
    ends: Tokens
    begins: int


@dataclass(frozen=True)
class Forecast:
    """By item, by plan node; and how many tokens the cache holds in the end."""

    nodes: tuple[tuple[NodeForecast, ...], ...]
    cached: Count


def texts_to_tokenize(items: Sequence[Item]) -> list[str]:
    """Every text that `forecast` will ask the ids of, once each."""
    found: dict[str, None] = {}

    def note(text: str) -> tuple[int, ...]:
        found[text] = None
        return ()

    for item in items:
        _Prompts(item, note, number=0).note_all()
    return list(found)


def forecast(items: Sequence[Item], token_ids: Mapping[str, Sequence[int]], bos: tuple[int, ...]) -> Forecast:
    """The items in the order in which an engine takes them; `bos`: what a prompt that begins with text begins with."""
    cache, nodes = _Cache(), []
    for number, item in enumerate(items):
        prompts = _Prompts(item, lambda text: tuple(token_ids[text]), number, bos)
        nodes.append(tuple(_play(prompts, index, node, cache) for index, node in enumerate(item.plan.nodes)))
    return Forecast(tuple(nodes), cache.size())


def _play(prompts: _Prompts, index: int, node: PlannedNode, cache: _Cache) -> NodeForecast:
    """One node's calls, in the cache as it is then."""
    begins, ends = prompts.begin(index)
    own = Count.of(ends) - Count.of(begins)
    if node.kind == "text":
        computed, num_calls = Count(), 0
        if prompts.item.warms_forks:
            computed, num_calls = cache.compute(ends), 1
        prompt = Count.of(ends) if num_calls else Count()
    elif node.kind == "gen":
        num_calls = node.more["sampling"]["n"]
        computed = cache.compute(ends)
        for _ in range(num_calls - 1):
            computed += cache.compute(ends)
        prompt = _times(Count.of(ends), num_calls)
    else:
        num_calls, prompt, computed = _play_select(prompts, node, ends, cache)
    for outcome in prompts.end(index, ends):
        for path in outcome.cached:
            cache.add((*ends, *path))
    return NodeForecast(own, num_calls, prompt, computed, ends, len(begins))


def _play_select(prompts: _Prompts, node: PlannedNode, ends: Tokens, cache: _Cache) -> tuple[int, Count, Count]:
    inner = prompts.inner_tokens(node)
    head = ends or (Unknown(("begin",), 1, 1),)  # the engine puts a token before a text that begins with a choice
    inner_count = Count(len(inner))
    prompt, computed, num_calls = Count.of(head) + inner_count, cache.compute(head) + inner_count, 1
    for path in inner:
        cache.add((*head, *path))
    if node.more["method"] and METHODS[node.more["method"]].needs_unconditional:
        prompt, computed, num_calls = prompt + inner_count, computed + inner_count, 2
        for path in inner:
            cache.add(path)
    return num_calls, prompt, computed


def _times(count: Count, number: int) -> Count:
    return Count(count.known * number, count.more * number)


class _Cache:
    """A trie of tokens, as the engine's radix tree is with pages of one token."""

    def __init__(self) -> None:
        self._next: dict[tuple[int, Token], int] = {}

    def compute(self, tokens: Tokens) -> Count:
        """What a call with this prompt computes; all of it is cached afterwards."""
        if not tokens:
            return Count()
        num_matched = self._matched(tokens)
        self.add(tokens)
        return Count.of(tokens[num_matched:]) if num_matched < len(tokens) else Count(1)

    def add(self, tokens: Tokens) -> None:
        node = 0
        for token in tokens:
            node = self._next.setdefault((node, token), len(self._next) + 1)

    def size(self) -> Count:
        return Count.of(token for _, token in self._next)

    def _matched(self, tokens: Tokens) -> int:
        node = 0
        for count, token in enumerate(tokens):
            found = self._next.get((node, token))
            if found is None:
                return count
            node = found
        return len(tokens)


class _Prompts:
    """The texts of one item's plan on their way to tokens.  `encode` gives the ids of a text by itself."""

    def __init__(self, item: Item, encode: Any, number: int, bos: tuple[int, ...] = ()) -> None:
        self.item, self._encode, self._number, self._bos = item, encode, number, bos
        self._written: list[_Written] = []  # by plan node: its text, its output included
        self._outcomes: dict[int, Sequence[Outcome]] = {}

    def note_all(self) -> None:
        for index in range(len(self.item.plan.nodes)):
            _, ends = self.begin(index)
            if self.item.plan.nodes[index].kind == "select":
                self.inner_tokens(self.item.plan.nodes[index])
            self.end(index, ends)

    def begin(self, index: int) -> tuple[Tokens, Tokens]:
        """The tokens of what the node continues, and of that with the node's own text."""
        node = self.item.plan.nodes[index]
        before = self._written[node.after] if node.after >= 0 else _Written()
        written = before
        for piece in node.pieces:
            written = self._with_piece(written, piece)
        self._written.append(written)
        return self._tokens(before), self._tokens(written)

    def end(self, index: int, ends: Tokens) -> Sequence[Outcome]:
        """The node's outputs; the first goes on in the text."""
        node = self.item.plan.nodes[index]
        if node.kind == "text":
            return ()
        observed = self.item.observed.get(index)
        if observed is not None:
            found = [self._as_observed(node, each) for each in observed]
        elif node.kind == "gen":
            found = [self._assumed_output(index, node, k) for k in range(node.more["sampling"]["n"])]
        else:
            found = [self._assumed_choice(index, node)]
        self._outcomes[index] = found
        self._written[index] = self._written[index].with_output(found[0])
        return found

    def inner_tokens(self, node: PlannedNode) -> list[Tokens]:
        """Paths of the choices' tokens that others follow, each once: what a select computes behind its prompt."""
        found: dict[Tokens, None] = {}
        for choice in node.more["choices"]:
            ids = self._encode(choice)
            found.update(dict.fromkeys(tuple(ids[:length]) for length in range(1, len(ids))))
        return list(found)

    def _with_piece(self, written: _Written, piece: Any) -> _Written:
        if isinstance(piece, str):
            return written.with_text(piece)
        if (name := piece.get("argument")) is not None:
            text = self.item.arguments.get(name)
            return written.with_text(text if text is not None else Unknown(("argument", self._number, name), 0, 0))
        of, output = piece["node"], piece.get("output", 0)
        outcomes = self._outcomes[of]
        outcome = outcomes[output] if output < len(outcomes) else outcomes[0]
        if piece.get("as_tokens"):
            return written.with_output(outcome)
        if outcome.text is not None:
            return written.with_text(outcome.text)
        count = Count.of(outcome.kept or ())
        return written.with_text(Unknown(("text", self._number, of, output), count.known, count.known + count.more))

    def _tokens(self, written: _Written) -> Tokens:
        """As the engine tokenises a prompt in parts."""
        tokens: list[Token] = []
        for part in written.parts:
            if isinstance(part, _TokensPart):
                tokens += part.tokens
            else:
                for piece in _joined(part):
                    tokens += [piece] if isinstance(piece, Unknown) else self._encode(piece)
        begins_with_text = bool(written.parts) and not isinstance(written.parts[0], _TokensPart)
        if begins_with_text and self._bos and tuple(tokens[: len(self._bos)]) != self._bos:
            tokens[:0] = self._bos
        return tuple(tokens)

    def _assumed_output(self, index: int, node: PlannedNode, k: int) -> Outcome:
        sampling = node.more["sampling"]
        if not sampling["max_new_tokens"]:
            return Outcome("", (), ())
        output = Unknown(("output", self._number, index, k), sampling["min_new_tokens"], sampling["max_new_tokens"])
        constrained = not _CONSTRAINTS.isdisjoint(sampling)  # it ends with what it spells
        stops = () if constrained else tuple((output, *self._encode(stop)) for stop in sampling["stop"])
        return Outcome(None, (output,), stops or ((output,),))

    def _assumed_choice(self, index: int, node: PlannedNode) -> Outcome:
        lengths = [len(self._encode(choice)) for choice in node.more["choices"]]
        if len(lengths) == 1:
            (text,) = node.more["choices"]
            return self._as_observed(node, ObservedOutput(text, (), tuple(self._encode(text)), None))
        what = "choice", self._number, index
        beginning = Unknown((*what, "beginning"), min(lengths) - 1, max(lengths) - 1)
        last = Unknown((*what, "last"), 1, 1)
        return Outcome(None, (beginning, last), ((beginning,),))

    def _as_observed(self, node: PlannedNode, output: ObservedOutput) -> Outcome:
        if output.finish_reason is None:  # chosen
            ids = output.kept_token_ids or ()
            others = (tuple(self._encode(choice)) for choice in node.more["choices"])
            is_followed = any(len(other) > len(ids) and other[: len(ids)] == ids for other in others)
            return Outcome(output.text, ids, (ids if is_followed else ids[:-1],))
        ids = output.token_ids
        ran_out = output.finish_reason != "stop" or len(ids) >= node.more["sampling"]["max_new_tokens"]
        return Outcome(output.text, output.kept_token_ids, (ids[:-1] if ran_out else ids,))


@dataclass(frozen=True)
class _TokensPart:
    tokens: Tokens


@dataclass(frozen=True)
class _Written:
    """A text in parts, as PromptText of the engine and BranchText of the language have it."""

    parts: tuple[_TokensPart | Texts, ...] = ()
    goes_on: bool = False  # the last part is text that further text is one with

    def with_text(self, text: str | Unknown) -> _Written:
        if text == "":
            return self
        last = self.parts[-1] if self.goes_on else ()
        assert isinstance(last, tuple)
        return _Written((*(self.parts[:-1] if self.goes_on else self.parts), (*last, text)), goes_on=True)

    def with_output(self, outcome: Outcome) -> _Written:
        if outcome.kept:
            return _Written((*self.parts, _TokensPart(outcome.kept)))
        if outcome.text:
            return _Written((*self.parts, (outcome.text,)))
        return self


def _joined(texts: Texts) -> list[str | Unknown]:
    """Texts that follow one another as one."""
    found: list[str | Unknown] = []
    for text in texts:
        if isinstance(text, str) and found and isinstance(found[-1], str):
            found[-1] += text
        else:
            found.append(text)
    return found
