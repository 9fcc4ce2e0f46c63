"""What does it save to know who comes back when: eviction by announced next use against LRU and Bélády's optimum.

    python -m benchmarks.eviction [--seeds N] [--capacity FRACTION ...] [--plain-chats SHARE ...] [--mix KIND=SHARE,...]

A made-up mix of agents, forks and chats (benchmarks/program_mix.py) is replayed through the real radix tree
(forktree.runtime.scheduler.replay) with a cache of a fraction of the working set: all distinct tokens of the trace,
which a cache that never evicts would end up holding. Every policy replays the same starts and ends in the same order.

  lru           the tree, told nothing
  next use      the tree is told what a server would know, when it knows it: its queue, the planned requests of running
                programs, for times guessed from means, and what is done with; of a plain chat, nothing beforehand
  pauses known  the same, but each pause of a tool or a person is announced with its true length: what guessing costs
  optimum       Bélády's: the tree is told the whole trace beforehand

"Recomputed" are prompt tokens computed beyond those that a cache without limit computes. Figures are medians.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from benchmarks.program_mix import KINDS, ProgramMix
from benchmarks.report import print_json_line, print_table
from forktree.runtime.scheduler.replay import Outcome, replay, unlimited
from forktree.runtime.scheduler.timeline import ServerModel, timeline

NUM_PROGRAMS = 400
ARRIVAL_SECONDS = 60.0
SERVER = ServerModel(num_slots=32)
MIX = {"agent": 0.35, "thought": 0.05, "judge": 0.2, "chat": 0.4}  # about as many requests of each
POLICIES = ("lru", "next use", "pauses known", "optimum")


@dataclass(frozen=True)
class Comparison:
    """One trace and one cache under every policy."""

    working_set: int
    num_requests: int
    first_time_tokens: int  # that any cache computes
    outcomes: dict[str, Outcome]

    def recomputed(self, policy: str) -> int:
        return self.outcomes[policy].computed_tokens - self.first_time_tokens

    @property
    def saved(self) -> float:
        """Share of LRU's recomputed tokens that next use does not recompute."""
        return 1 - self.recomputed("next use") / self.recomputed("lru")

    def computed_over_optimum(self, policy: str) -> float:
        return self.outcomes[policy].computed_tokens / self.outcomes["optimum"].computed_tokens - 1

    def recomputed_over_optimum(self, policy: str) -> float:
        """Infinite where the optimum recomputes nothing and the policy does."""
        mine, best = self.recomputed(policy), self.recomputed("optimum")
        return 0.0 if mine == best else mine / best - 1 if best else float("inf")


def compare(
    seed: int, *, capacity: float, plain_chats: float, mix: dict[str, float] = MIX, num_programs: int = NUM_PROGRAMS
) -> Comparison:
    """The same trace through a cache of `capacity` times its working set, under each policy."""
    seconds = ARRIVAL_SECONDS * num_programs / NUM_PROGRAMS
    programs = ProgramMix(seed, plain_chats=plain_chats).programs(num_programs, seconds, mix)
    guessed, known = timeline(programs, SERVER), timeline(programs, SERVER, pauses_known=True)
    everything = unlimited(guessed)
    num_pages = int(capacity * everything.cached_pages)
    outcomes = {
        "lru": replay(guessed, num_pages, "lru"),
        "next use": replay(guessed, num_pages, "next_use"),
        "pauses known": replay(known, num_pages, "next_use"),
        "optimum": replay(guessed, num_pages, "optimal"),
    }
    num_requests = sum(len(program.requests) for program in programs)
    return Comparison(everything.cached_pages, num_requests, everything.computed_tokens, outcomes)


def main() -> None:
    options = _options()
    figures: list[dict[str, object]] = []
    rows = []
    for capacity in options.capacity:
        for plain_chats in options.plain_chats:
            runs = [
                compare(seed, capacity=capacity, plain_chats=plain_chats, mix=options.mix)
                for seed in range(options.first_seed, options.first_seed + options.seeds)
            ]
            rows += _rows(f"{capacity:.1%}, {plain_chats:.0%} plain", runs)
            figures.append({"capacity": capacity, "plain_chats": plain_chats, **_figures(runs)})
    workload = (
        f"{NUM_PROGRAMS} programs in {ARRIVAL_SECONDS:.0f} s on {SERVER.num_slots} slots, {options.seeds} seeds from "
        f"{options.first_seed}, mix {', '.join(f'{kind} {share:g}' for kind, share in options.mix.items())}"
    )
    columns = ["cache, chats", "policy", "recomputed", "beside LRU", "hit rate", "over optimum: computed", "recomputed"]
    print_table(f"{workload}; medians", columns, rows)
    print_json_line("eviction", "none: a replay", workload, {"page_size": 1, "results": figures})


def _rows(label: str, runs: list[Comparison]) -> list[list[str]]:
    return [
        [
            label if policy == POLICIES[0] else "",
            policy,
            f"{median(run.recomputed(policy) for run in runs):,.0f}",
            f"{median(run.recomputed(policy) / run.recomputed('lru') for run in runs):.1%}",
            f"{median(run.outcomes[policy].hit_rate for run in runs):.1%}",
            f"+{median(run.computed_over_optimum(policy) for run in runs):.1%}",
            f"+{median(run.recomputed_over_optimum(policy) for run in runs):.0%}",
        ]
        for policy in POLICIES
    ]


def _figures(runs: list[Comparison]) -> dict[str, object]:
    return {
        "requests": median(run.num_requests for run in runs),
        "working_set_tokens": median(run.working_set for run in runs),
        "first_time_tokens": median(run.first_time_tokens for run in runs),
        "recomputed_tokens": {policy: median(run.recomputed(policy) for run in runs) for policy in POLICIES},
        "hit_rate": {policy: round(median(run.outcomes[policy].hit_rate for run in runs), 4) for policy in POLICIES},
        "saved_of_lru": round(median(run.saved for run in runs), 4),
        "saved_of_lru_worst_seed": round(min(run.saved for run in runs), 4),
        "computed_over_optimum": round(median(run.computed_over_optimum("next use") for run in runs), 4),
        "computed_over_optimum_worst_seed": round(max(run.computed_over_optimum("next use") for run in runs), 4),
        "recomputed_over_optimum": round(median(run.recomputed_over_optimum("next use") for run in runs), 4),
        "recomputed_over_optimum_pauses_known": round(
            median(run.recomputed_over_optimum("pauses known") for run in runs), 4
        ),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eviction", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--capacity", type=float, nargs="+", default=[0.25], help="of the working set")
    parser.add_argument("--plain-chats", type=float, nargs="+", default=[0.0, 0.5, 1.0], help="share of the chats")
    parser.add_argument("--mix", type=_mix, default=MIX, help=f"shares of {', '.join(KINDS)}")
    return parser.parse_args()


def _mix(text: str) -> dict[str, float]:
    shares = dict.fromkeys(KINDS, 0.0)
    for part in text.split(","):
        kind, _, share = part.partition("=")
        if kind not in shares:
            raise argparse.ArgumentTypeError(f"unknown kind {kind!r}; known are {', '.join(KINDS)}")
        shares[kind] = float(share)
    return shares


if __name__ == "__main__":
    main()
