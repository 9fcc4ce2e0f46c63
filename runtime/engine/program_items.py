"""A program under way: its items, and of each what has ended, what runs and what is not wanted any more.

Here: RunningProgram, Item, RunningNode, GrowingOutput: plain state.  Not here: what happens when (programs.py).
Imported by programs.py."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .messages import Output, ProgramNews, RunProgram, ScoredChoice, Timing
from .program_plan import PlanNode, ProgramPlan, Reference
from .program_uses import Announcements, ItemUses
from .prompt_text import PromptText, TextEncoder


class RunningProgram:
    def __init__(self, message: RunProgram, plan: ProgramPlan) -> None:
        self.call_id, self.plan = message.call_id, plan
        self.items, self.stream, self.namespace = message.items, message.stream, message.namespace
        self.waiting: deque[int] = deque(range(len(message.items)))
        self.active: dict[int, Item] = {}


class Item:
    """One set of arguments on its way through the plan."""

    def __init__(self, program: RunningProgram, index: int, cache: Announcements, age: int) -> None:
        self.age = age  # younger items have larger ones
        self.uses = ItemUses(cache, (program.call_id, index), program.plan, program.namespace)
        self.program, self.plan, self.index = program, program.plan, index
        self.arguments = program.items[index]
        self.num_missing = list(self.plan.num_needs)
        self.open: set[int] = set()  # nodes that are ready or running
        self.running: dict[int, RunningNode] = {}
        self.dropped: set[int] = set()
        self.ended: set[int] = set()  # nodes that are done
        self.texts: dict[int, list[str]] = {}  # what they have put out
        self.outputs: dict[int, tuple[str, list[int] | None]] = {}  # the first of it, and its tokens
        self.put_off: dict[int, PromptText] = {}  # of nodes that get another turn: their prompts
        self._ends: dict[int, PromptText] = {}  # their texts, output included, while nodes that go on from them wait

    def done(self, node: int, end: PromptText) -> None:
        self.ended.add(node)
        if self.uses.is_awaited(node):
            self._ends[node] = end

    def begun(self, node: int) -> None:
        """It has its prompt, or never will: what it goes on from is kept for the others that do."""
        self.uses.begun(node)
        after = self.plan.nodes[node].after
        if after >= 0 and not self.uses.is_awaited(after):
            self._ends.pop(after, None)

    def prompt_of(self, index: int, encoder: TextEncoder) -> PromptText:
        node = self.plan.nodes[index]
        prompt = self._ends[node.after] if node.after >= 0 else PromptText(encoder)
        for piece in node.pieces:
            if isinstance(piece, str):
                prompt = prompt.with_text(piece)
            elif piece.argument is not None:
                prompt = prompt.with_text(self.arguments[piece.argument])
            else:
                prompt = self._with_reference(prompt, piece)
        self.begun(index)
        return prompt

    def _with_reference(self, prompt: PromptText, piece: Reference) -> PromptText:
        if piece.as_tokens:
            return prompt.with_output(*self.outputs[piece.node])
        return prompt.with_text(self.texts[piece.node][piece.output])

    def news(
        self,
        running: RunningNode,
        *,
        output: int = 0,
        delta: Output | None = None,
        scores: list[ScoredChoice] | None = None,
        alone: list[ScoredChoice] | None = None,
    ) -> ProgramNews:
        return ProgramNews(
            self.program.call_id,
            self.index,
            running.node,
            output=output,
            digest=running.digest,
            delta=delta,
            scores=scores,
            alone=alone,
            timing=running.timing,
        )


@dataclass
class GrowingOutput:
    """One output of a gen so far."""

    text: str = ""
    kept: list[int] | None = None
    done: bool = False


class RunningNode:
    """A node whose requests are in the engine: one for each output of a gen, one or two for the scores of a select."""

    def __init__(self, node: int, plan_node: PlanNode, prompt: PromptText) -> None:
        self.node, self.plan_node, self.prompt = node, plan_node, prompt
        self.digest = prompt.digest()
        self.request_ids: list[int] = []
        self.outputs: list[GrowingOutput] = []
        self.scores: list[list[ScoredChoice] | None] = []
        self.timing: Timing | None = None  # of the scores

    @property
    def done(self) -> bool:
        return all(output.done for output in self.outputs) and None not in self.scores

    def take(self, number: int, news: Output) -> None:
        output = self.outputs[number]
        output.text += news.text
        if news.finish_reason is not None:
            output.kept, output.done = news.kept_token_ids, True
