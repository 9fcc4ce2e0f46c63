"""A program as the engine takes it: a plan of generations and choices, each after another's output, checked once.

Here: ProgramPlan and its nodes, read from JSON-like values; what depends on what.  Not here: running it (programs.py),
how a plan is made (the language does that from a traced program; anyone may write one by hand).
Imported by the Engine facade, the program runner and the server; msgspec only.

    {"version": 1, "nodes": [
      {"kind": "text", "pieces": ["You judge essays.\\n", {"argument": "essay"}]},
      {"kind": "gen", "after": 0, "pieces": ["\\nClarity:"], "sampling": {"max_new_tokens": 32, "stop": ["\\n"]}},
      {"kind": "gen", "after": 0, "pieces": ["\\nStyle:"], "sampling": {"max_new_tokens": 32, "stop": ["\\n"]}},
      {"kind": "select", "after": 0, "pieces": ["\\nSo,", {"node": 1}, {"node": 2}, " it is"],
       "choices": [" good", " bad"]}]}

`after` names the node whose text, and output, a node continues; -1: nothing.  "whole": true says that nothing of the
program follows, so that what nobody goes on from may leave the cache.  Text that follows text is tokenised in
one piece with it; an output keeps its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec

from ..errors import InvalidRequest
from ..sampling_params import MAX_TOP_LOGPROBS, SamplingParams, require_text
from .choices import METHODS

PLAN_VERSION = 1
MAX_NODES = 20_000
MAX_CHOICES = 4096
MAX_STOP_PATTERNS = 1024  # of one plan: each is compiled where the plan is read, on either side of the engine
MOST = 2**31  # token ids and positions: what crosses to the engine fits its integers


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A piece of text that is not in the plan: an argument's, or the output of an earlier node.

    output      which of a gen's n outputs
    as_tokens   the output goes on with its tokens, as if it had been generated here; without, as text like any other
    """

    argument: str | None = None
    node: int = -1
    output: int = 0
    as_tokens: bool = False


Piece = str | Reference


class PlanNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One thing to do.  text: only text, for others to continue.  gen: an output (of n, the first goes on in the text).
    select: one of `choices`."""

    kind: Literal["text", "gen", "select"]
    after: int = -1
    pieces: tuple[Piece, ...] = ()
    # gen
    sampling: SamplingParams = SamplingParams()
    return_logprob: bool = False
    logprob_start_len: int = -1
    top_logprobs_num: int = 0
    # select
    choices: tuple[str, ...] = ()
    method: str | None = None
    temperature: float = 0.0
    seed: int | None = None

    @property
    def needs(self) -> frozenset[int]:
        """Nodes that must be done before this one begins."""
        used = {piece.node for piece in self.pieces if isinstance(piece, Reference) and piece.argument is None}
        return frozenset(used | ({self.after} if self.after >= 0 else set()))


class ProgramPlan(msgspec.Struct, frozen=True, dict=True):
    """Nodes in an order in which each comes after all that it needs.  whole: nothing of the program follows."""

    nodes: tuple[PlanNode, ...]
    whole: bool = False

    @classmethod
    def read(cls, found: Any) -> ProgramPlan:
        """From JSON-like values.  Raises InvalidRequest whose field points to what is wrong, as plan.nodes.3.after."""
        if not isinstance(found, Mapping):
            raise InvalidRequest("plan", "wanted an object with version and nodes")
        if found.get("version") != PLAN_VERSION:
            raise InvalidRequest("plan.version", f"got {found.get('version')!r:.40}, wanted {PLAN_VERSION}")
        nodes = found.get("nodes")
        if not isinstance(nodes, (list, tuple)) or not 1 <= len(nodes) <= MAX_NODES:
            raise InvalidRequest("plan.nodes", f"wanted a list of 1 to {MAX_NODES:,} nodes")
        if unknown := [name for name in found if name not in ("version", "nodes", "whole")]:
            raise InvalidRequest(f"plan.{unknown[0]!s:.60}", "unknown; a plan has version, nodes and whole")
        whole = found.get("whole", False)
        if not isinstance(whole, bool):
            raise InvalidRequest("plan.whole", f"got {whole!r:.40}, wanted true or false")
        read: list[PlanNode] = []
        num_patterns = 0
        for i, each in enumerate(nodes):
            num_patterns += _num_patterns(each)
            if num_patterns > MAX_STOP_PATTERNS:
                wanted = f"wanted at most {MAX_STOP_PATTERNS:,} in one plan"
                raise InvalidRequest(f"plan.nodes.{i}.sampling.stop_regex", wanted)
            read.append(_node(each, i))
            _check(read[i], f"plan.nodes.{i}", read)
        return cls(tuple(read), whole)

    @cached_property
    def arguments(self) -> frozenset[str]:
        """Names that every item must give a text for."""
        pieces = (piece for node in self.nodes for piece in node.pieces)
        return frozenset(p.argument for p in pieces if isinstance(p, Reference) and p.argument is not None)

    @cached_property
    def num_outputs(self) -> int:
        """What one item asks for: outputs of gens, and choices taken."""
        return sum(node.sampling.n if node.kind == "gen" else node.kind == "select" for node in self.nodes)

    @cached_property
    def num_needs(self) -> tuple[int, ...]:
        """For each node how many others must be done before it begins."""
        return tuple(len(node.needs) for node in self.nodes)

    @cached_property
    def dependents(self) -> tuple[tuple[int, ...], ...]:
        """For each node those that need it."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for needed in node.needs:
                found[needed].append(i)
        return tuple(map(tuple, found))

    @cached_property
    def remaining(self) -> tuple[int, ...]:
        """For each node how many model calls the longest chain from it to an end has, itself included."""
        found = [0] * len(self.nodes)
        for i in range(len(self.nodes) - 1, -1, -1):
            own = int(self.nodes[i].kind != "text")
            found[i] = own + max((found[each] for each in self.dependents[i]), default=0)
        return tuple(found)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """For each node how many tokens are generated before it at most, from the start of the program: those of the
        longest chain that it waits for.  A select counts as one."""
        starts: list[int] = []
        ends: list[int] = []
        for node in self.nodes:
            starts.append(max((ends[needed] for needed in node.needs), default=0))
            own = node.sampling.max_new_tokens if node.kind == "gen" else int(node.kind == "select")
            ends.append(starts[-1] + own)
        return tuple(starts)

    @cached_property
    def followers(self) -> tuple[tuple[int, ...], ...]:
        """For each node those that continue its text."""
        found: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            if node.after >= 0:
                found[node.after].append(i)
        return tuple(map(tuple, found))

    @cached_property
    def follower_starts(self) -> tuple[tuple[int, ...], ...]:
        """For each node the starts of those that continue its text, the soonest first."""
        return tuple(tuple(sorted(self.starts[each] for each in followers)) for followers in self.followers)

    def with_dependents(self, node: int) -> list[int]:
        """The node and everything that needs it, directly or not."""
        found, stack = {node}, [node]
        while stack:
            for dependent in self.dependents[stack.pop()]:
                if dependent not in found:
                    found.add(dependent)
                    stack.append(dependent)
        return sorted(found)

    def check_arguments(self, item: Any, index: int) -> dict[str, str]:
        """One item's arguments: a text for each name.  Raises InvalidRequest(field="arguments...")."""
        field = f"arguments.{index}"
        if not isinstance(item, Mapping):
            raise InvalidRequest(field, "wanted an object of texts by name")
        for name in self.arguments:
            if not isinstance(item.get(name), str):
                raise InvalidRequest(f"{field}.{name}", "wanted a text: the plan has this argument")
            require_text(f"{field}.{name}", item[name])
        if unknown := [name for name in item if name not in self.arguments]:
            raise InvalidRequest(f"{field}.{unknown[0]!s:.60}", "the plan has no such argument")
        return {name: str(text) for name, text in item.items()}


def _num_patterns(found: Any) -> int:
    """How many stop patterns a node has, told before they are compiled."""
    sampling = found.get("sampling") if isinstance(found, Mapping) else None
    patterns = sampling.get("stop_regex") if isinstance(sampling, Mapping) else None
    return len(patterns) if isinstance(patterns, (list, tuple)) else int(patterns is not None)


def _node(found: Any, i: int) -> PlanNode:
    field = f"plan.nodes.{i}"
    if not isinstance(found, Mapping):
        raise InvalidRequest(field, "wanted an object")
    values = dict(found)
    if not isinstance(values.get("sampling") or {}, Mapping):
        raise InvalidRequest(f"{field}.sampling", "wanted an object")
    if not isinstance(values.get("pieces") or (), (list, tuple)):
        raise InvalidRequest(f"{field}.pieces", "wanted a list of texts and references")
    try:
        values["sampling"] = SamplingParams.from_dict(values.get("sampling") or {})
        values["pieces"] = tuple(_piece(each) for each in values.get("pieces") or ())
        node = msgspec.convert(values, PlanNode)
    except InvalidRequest as error:
        raise InvalidRequest(f"{field}.sampling.{error.field}", error.message, error.code) from None
    except (msgspec.ValidationError, TypeError) as error:
        raise InvalidRequest(field, str(error)) from None
    return node


def _piece(found: Any) -> Piece:
    return found if isinstance(found, str) else msgspec.convert(found, Reference)


def _check(node: PlanNode, field: str, nodes: list[PlanNode]) -> None:
    """`nodes` ends with `node`."""
    before = nodes[:-1]
    if not -1 <= node.after < len(before):
        raise InvalidRequest(f"{field}.after", f"got {node.after}, wanted an earlier node, or -1 for none")
    for at, piece in enumerate(node.pieces):
        _check_piece(piece, f"{field}.pieces.{at}", before)
    if not 0 <= node.top_logprobs_num <= MAX_TOP_LOGPROBS:
        wanted = f"got {node.top_logprobs_num}, wanted 0 to {MAX_TOP_LOGPROBS}"
        raise InvalidRequest(f"{field}.top_logprobs_num", wanted)
    if not -1 <= node.logprob_start_len <= MOST:
        raise InvalidRequest(f"{field}.logprob_start_len", f"got {node.logprob_start_len}, wanted -1 to {MOST}")
    _check_sampling(node.sampling, f"{field}.sampling")
    if node.seed is not None and not -(2**63) <= node.seed < 2**64:
        raise InvalidRequest(f"{field}.seed", f"got {node.seed}, wanted a 64-bit integer")
    if node.kind == "select":
        if not 1 <= len(node.choices) <= MAX_CHOICES or not all(node.choices):
            raise InvalidRequest(f"{field}.choices", f"wanted 1 to {MAX_CHOICES:,} texts, none of them empty")
        for at, choice in enumerate(node.choices):
            require_text(f"{field}.choices.{at}", choice)
        if node.method is not None and node.method not in METHODS:
            raise InvalidRequest(f"{field}.method", f"got {node.method!r:.60}, wanted one of {', '.join(METHODS)}")
        if not 0 <= node.temperature <= 100:
            raise InvalidRequest(f"{field}.temperature", f"got {node.temperature!r:.40}, wanted 0 to 100")


def _check_sampling(sampling: SamplingParams, field: str) -> None:
    """What a call by itself has checked against its model, or makes of its seed by itself."""
    for name, ids in (("logit_bias", sampling.logit_bias), ("stop_token_ids", sampling.stop_token_ids)):
        if not all(0 <= token_id < MOST for token_id in ids):
            raise InvalidRequest(f"{field}.{name}", f"token ids must lie from 0 to {MOST - 1}")
    if sampling.seed is not None and sampling.seed + sampling.n > 2**64:
        raise InvalidRequest(
            f"{field}.seed", f"got {sampling.seed}, which leaves none for the last of {sampling.n} outputs"
        )


def _check_piece(piece: Piece, field: str, before: list[PlanNode]) -> None:
    if isinstance(piece, str):
        require_text(field, piece)
    elif piece.argument is not None:
        if piece != Reference(piece.argument):
            raise InvalidRequest(field, "an argument has no node, output or tokens")
    elif not 0 <= piece.node < len(before):
        raise InvalidRequest(field, "wanted text, an argument, or an earlier node")
    elif (of := before[piece.node]).kind == "text":
        raise InvalidRequest(field, f"node {piece.node} is text and has no output; continue it with `after`")
    elif not 0 <= piece.output < (of.sampling.n if of.kind == "gen" else 1):
        raise InvalidRequest(field, f"node {piece.node} has no output {piece.output}")
    elif piece.as_tokens and piece.output:
        raise InvalidRequest(field, "only a node's first output goes on with its tokens")
