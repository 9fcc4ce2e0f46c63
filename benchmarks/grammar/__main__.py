"""The command line of these benchmarks: see the package's docstring for what it answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.report import print_json_line, print_table
from forktree.grammar import Compiler

from . import cases, coverage, data, speed
from .engines import ENGINES, Model, start

Answer = Callable[[argparse.Namespace, Model], None]
DRAFTS = ("draft2020-12", "draft7")


def main() -> None:
    options = _options()
    try:
        options.answer(options, Model.of(options.tokenizer))
    except data.Absent as absent:
        raise SystemExit(f"cannot measure this: {absent}") from None


# ---- coverage


def answer_coverage(options: argparse.Namespace, model: Model) -> None:
    compiler = Compiler(model.vocabulary)
    encode = model.tokenizer.encode

    def maskbench() -> list[coverage.Verdict]:
        return coverage.judge_maskbench(data.maskbench(options.sample, options.seed), compiler, encode)

    def official(draft: str) -> list[coverage.Verdict]:
        registry = data.remotes()
        return coverage.judge_official(data.official(draft), compiler, encode, draft=draft, registry=registry)

    sources: dict[str, Callable[[], list[coverage.Verdict]]] = {"MaskBench": maskbench}
    for draft in DRAFTS:
        sources[f"suite, {draft}"] = partial(official, draft)
    rows: list[list[str]] = []
    figures: dict[str, object] = {}
    absences: dict[str, None] = {}  # in order, each once
    for name, source in sources.items():
        try:
            verdicts = source()
        except data.Absent as absent:
            rows.append([name, "absent", *[""] * len(coverage.KINDS)])
            absences[str(absent)] = None
            continue
        shares = {kind: coverage.share(verdicts, kind) for kind in coverage.KINDS}
        rows.append([name, str(len(verdicts)), *(f"{value:.2%}" for value in shares.values())])
        rounded: dict[str, float] = {kind: round(value, 4) for kind, value in shares.items()}
        figures[name] = {"schemas": len(verdicts), **rounded}
        if options.failures:
            print(coverage.report(verdicts))
    for absence in absences:
        print(absence)
    workload = f"MaskBench {options.sample or 'whole'} seed {options.seed}, suite's {' and '.join(DRAFTS)}"
    print_table("How schemas are judged, over all their instances", ["data", "schemas", *coverage.KINDS], rows)
    print_json_line("grammar coverage", str(model), workload, figures)


# ---- speed


def answer_speed(options: argparse.Namespace, model: Model) -> None:
    samples = data.maskbench(options.sample, options.seed)
    engines, missing = start(options.engines, model)
    if missing:
        print(f"not installed, so not compared: {', '.join(missing)}")
    timings = speed.compare(engines, samples, model)
    num_common = len(next(iter(timings.values())).first_mask)
    num_masks = len(next(iter(timings.values())).cold)
    rows: list[list[str]] = []
    figures: dict[str, object] = {"common_schemas": num_common, "masks": num_masks}
    for engine, timing in timings.items():
        measured = {"first mask": timing.first_mask, "mask, cold": timing.cold, "mask, warm": timing.warm}
        for what, values in measured.items():
            p50, p90, p99 = speed.percentiles(values)
            rows.append(
                [engine, what, *(f"{value:,.1f}" for value in (p50, p90, p99)), f"{max(values, default=0) / 1e3:,.0f}"]
            )
            figures[f"{engine}, {what}, us"] = [round(p50, 2), round(p90, 2), round(p99, 2)]
        figures[f"{engine}, refused"] = timing.refused
    workload = f"{len(samples)} schemas of MaskBench, seed {options.seed}"
    title = f"{workload}: {num_common} that all compile, {num_masks:,} masks; a mask's time includes taking its token"
    print_table(title, ["engine", "microseconds of", "p50", "p90", "p99", "max"], rows)
    print_json_line("grammar speed", str(model), workload, figures)


def answer_batch(options: argparse.Namespace, model: Model) -> None:
    samples = data.maskbench(options.sample, options.seed)
    step = speed.batch(samples, model, options.matchers)
    workload = f"{step.num_matchers} matchers of {step.num_schemas} schemas of MaskBench, seed {options.seed}"
    rows = [["masks of a step", f"{step.fill_us:.2f}"], ["tokens taken", f"{step.advance_us:.2f}"]]
    print_table(f"{workload}, all masks known", ["microseconds a row", "median"], rows)
    figures = {"fill_us_a_row": round(step.fill_us, 3), "advance_us_a_row": round(step.advance_us, 3)}
    print_json_line("grammar batch", str(model), workload, figures)


# ---- regexes and EBNF


def answer_cases(options: argparse.Namespace, model: Model) -> None:
    engines, missing = start(options.engines, model)
    if missing:
        print(f"not installed, so not compared: {', '.join(missing)}")
    rows: list[list[str]] = []
    figures: dict[str, object] = {}
    everything = (*cases.REGEXES, *cases.GRAMMARS)
    for kind in ("regex", "lark", "gbnf"):
        chosen = [case for case in everything if case.kind == kind]
        for engine, tally in cases.compare(engines, chosen, model).items():
            for wrong in tally.wrong:
                print(f"{engine}: {wrong}")
            first, steps = speed.percentiles(tally.first_mask), speed.percentiles(tally.steps)
            slowest = max(tally.steps, default=0) / 1e6
            outcome = [tally.right, tally.refused, len(chosen) - tally.right - tally.refused]
            rows.append(
                [
                    f"{kind}, {engine}",
                    *map(str, outcome),
                    f"{first[0]:,.0f}",
                    f"{steps[0]:,.1f}",
                    f"{steps[2]:,.0f}",
                    f"{slowest:.2f}",
                ]
            )
            figures[f"{kind}, {engine}"] = {
                "right": outcome[0],
                "declared": outcome[1],
                "wrong": outcome[2],
                "slowest_mask_ms": round(slowest, 3),
            }
    columns = ["kind, engine", "right", "declared", "wrong", "first mask p50 us", "mask p50 us", "p99 us", "slowest ms"]
    print_table(f"{len(everything)} regexes and grammars of everyday use", columns, rows)
    print_json_line("grammar cases", str(model), f"{len(everything)} cases", figures)


def _options() -> argparse.Namespace:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="of the model to measure with; the default one"
    )
    common.add_argument("--seed", type=int, default=0)
    peers = argparse.ArgumentParser(add_help=False)
    peers.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grammar")
    questions = parser.add_subparsers(required=True, metavar="QUESTION")

    def question(name: str, answer: Answer, text: str, *more: argparse.ArgumentParser) -> argparse.ArgumentParser:
        one = questions.add_parser(name, help=text, parents=[common, *more])
        one.set_defaults(answer=answer)
        return one

    one = question("coverage", answer_coverage, "MaskBench and the official JSON Schema suite")
    one.add_argument("--sample", type=int, metavar="N", help="schemas of MaskBench; all of them")
    one.add_argument("--failures", action="store_true", help="print keyword tables and what is not right")
    one = question("speed", answer_speed, "time to first mask, time of a mask", peers)
    one.add_argument("--sample", type=int, metavar="N", default=100, help="schemas of MaskBench")
    one = question("batch", answer_batch, "the masks of a whole step, once all are known")
    one.add_argument("--sample", type=int, metavar="N", default=100, help="schemas of MaskBench to take from")
    one.add_argument("--matchers", type=int, metavar="N", default=64)
    question("cases", answer_cases, "regexes and EBNF grammars of everyday use", peers)
    return parser.parse_args()


if __name__ == "__main__":
    main()
