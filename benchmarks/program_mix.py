"""Made-up programs whose shapes and lengths are those of published workloads: agents, forks, chats.

Tokens are random, so two programs share just what their kind shares. Lengths are log-normal around the stated medians:

  agent    ReAct: one of three prefixes of instructions and examples (1,500 to 2,600 tokens), a question, 3 to 8 steps
           of up to 200 tokens, each followed by a tool (1.5 s, often far longer) whose answer of some 200 tokens is
           read; open: whether another step follows is known when a step has ended
  thought  tree of thought: 800 tokens of examples, 3 branches on 3 levels of up to 256 tokens (39 requests), a vote
  judge    an essay of some 900 tokens, fork(6) of up to 256 tokens, then a score
  chat     one of three system prompts (60 to 1,000 tokens), 2 to 10 turns of some 60 tokens in and 200 out, and a
           person who takes 20 s to answer, sometimes minutes
"""

from __future__ import annotations

import math

import numpy as np

from forktree.runtime.request import IntArray
from forktree.runtime.scheduler.replay import TracedRequest
from forktree.runtime.scheduler.timeline import TracedProgram

VOCABULARY = 50_000
KINDS = ("agent", "thought", "judge", "chat")
BRANCHES, LEVELS = 3, 3
DIMENSIONS = 6


class ProgramMix:
    """Draws programs; the same seed draws the same ones.

    plain_chats   the share of chats that a client drives request by request, so that the server can't know of the next;
                  the rest are programs with a known number of turns"""

    def __init__(self, seed: int, *, plain_chats: float) -> None:
        self._random = np.random.default_rng(seed)
        self._plain_chats = plain_chats
        self._agent_prefixes = [self._text(length) for length in (1500, 2000, 2600)]
        self._thought_prefix = self._text(800)
        self._judge_prefix = self._text(250)
        self._chat_prefixes = [self._text(length) for length in (60, 400, 1000)]

    def programs(self, num_programs: int, seconds: float, shares: dict[str, float]) -> list[TracedProgram]:
        """`num_programs` that arrive at random within so many seconds; `shares` says how many of each kind."""
        arrivals = np.sort(self._random.uniform(0, seconds, num_programs))
        weights = np.array([shares[kind] for kind in KINDS])
        kinds = self._random.choice(len(KINDS), num_programs, p=weights / weights.sum())
        draw = (self._agent, self._thought, self._judge, self._chat)
        return [draw[kind](float(arrival)) for kind, arrival in zip(kinds, arrivals, strict=True)]

    # -- the four kinds -----------------------------------------------------------------------------------------------

    def _agent(self, arrival_s: float) -> TracedProgram:
        prefix = self._one_of(self._agent_prefixes)
        prompt = np.concatenate([prefix, self._text(self._length(60, 0.6, 10, 400))])
        requests: list[TracedRequest] = []
        for step in range(self._random.integers(3, 9)):
            tokens = self._with_output(prompt, self._length(80, 0.6, 10, 200))
            if step == 0:
                requests.append(TracedRequest(tokens, len(prompt), "first step", len(prefix)))
            else:
                pause = self._draw(1.5, 1.0, 0.05, 60)
                known = len(requests[-1].tokens)
                requests.append(
                    TracedRequest(tokens, len(prompt), "step", known, (step - 1,), pause, step - 1, planned=False)
                )
            prompt = np.concatenate([tokens, self._text(self._length(200, 0.8, 20, 1500))])
        return TracedProgram("agent", arrival_s, tuple(requests), len(prefix))

    def _thought(self, arrival_s: float) -> TracedProgram:
        question = np.concatenate([self._thought_prefix, self._text(self._length(70, 0.4, 30, 200))])
        requests: list[TracedRequest] = []
        ends: list[int] = []

        def branch(parent: int | None, written: IntArray, level: int) -> None:
            for _ in range(BRANCHES):
                prompt = np.concatenate([written, self._text(12)])
                tokens = self._with_output(prompt, self._length(130, 0.5, 20, 256))
                after = () if parent is None else (parent,)
                requests.append(
                    TracedRequest(tokens, len(prompt), f"level {level}", len(written), after, parent=parent)
                )
                if level < LEVELS:
                    branch(len(requests) - 1, tokens, level + 1)
                else:
                    ends.append(len(requests) - 1)

        branch(None, question, 1)
        best = [requests[end].tokens[-60:] for end in ends[:5]]
        prompt = np.concatenate([question, *best, self._text(10)])
        tokens = self._with_output(prompt, self._length(120, 0.4, 20, 256))
        requests.append(TracedRequest(tokens, len(prompt), "vote", len(question), tuple(ends)))
        return TracedProgram("thought", arrival_s, tuple(requests), len(self._thought_prefix))

    def _judge(self, arrival_s: float) -> TracedProgram:
        essay = np.concatenate([self._judge_prefix, self._text(self._length(900, 0.5, 200, 3000))])
        requests = []
        for _ in range(DIMENSIONS):
            prompt = np.concatenate([essay, self._text(30)])
            tokens = self._with_output(prompt, self._length(170, 0.4, 30, 256))
            requests.append(TracedRequest(tokens, len(prompt), "dimension", len(essay)))
        prompt = np.concatenate([essay, *(request.tokens[request.num_prompt :] for request in requests)])
        tokens = self._with_output(prompt, 2)
        requests.append(TracedRequest(tokens, len(prompt), "score", len(essay), tuple(range(DIMENSIONS))))
        return TracedProgram("judge", arrival_s, tuple(requests), len(self._judge_prefix))

    def _chat(self, arrival_s: float) -> TracedProgram:
        prefix = self._one_of(self._chat_prefixes)
        prompt = np.concatenate([prefix, self._text(self._length(60, 1.0, 5, 1500))])
        requests: list[TracedRequest] = []
        for turn in range(self._random.integers(2, 11)):
            tokens = self._with_output(prompt, self._length(200, 0.7, 10, 800))
            if turn == 0:
                requests.append(TracedRequest(tokens, len(prompt), "first turn", len(prefix)))
            else:
                pause = self._draw(20, 0.8, 2, 300)
                known = len(requests[-1].tokens)
                requests.append(TracedRequest(tokens, len(prompt), "turn", known, (turn - 1,), pause, turn - 1))
            prompt = np.concatenate([tokens, self._text(self._length(60, 1.0, 5, 1500))])
        announces = bool(self._random.random() >= self._plain_chats)
        return TracedProgram("chat", arrival_s, tuple(requests), len(prefix), announces)

    # -- what they are made of ----------------------------------------------------------------------------------------

    def _text(self, num_tokens: int) -> IntArray:
        return self._random.integers(0, VOCABULARY, num_tokens, dtype=np.int32)

    def _with_output(self, prompt: IntArray, num_tokens: int) -> IntArray:
        tokens = np.concatenate([prompt, self._text(num_tokens)])
        tokens.flags.writeable = False
        return tokens

    def _one_of(self, texts: list[IntArray]) -> IntArray:
        return texts[self._random.integers(len(texts))]

    def _length(self, median: float, sigma: float, least: int, most: int) -> int:
        return round(self._draw(median, sigma, least, most))

    def _draw(self, median: float, sigma: float, least: float, most: float) -> float:
        return min(most, max(least, median * math.exp(sigma * self._random.standard_normal())))
