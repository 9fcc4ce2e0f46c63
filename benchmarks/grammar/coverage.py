"""How many schemas of a data set come out right: accepted what is valid, refused what is not, or said that they cannot.

One verdict a schema, the worst that happened to it; the official suite's tests judge with it too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from forktree.grammar import Compiler, Constraint, GrammarError, Matcher

from .data import COMPACT, SPACED, Sample, Spelled
from .engines import OurCursor, allows

Kind = Literal["right", "declared", "rejects valid", "accepts invalid", "crashed"]
KINDS: tuple[Kind, ...] = ("right", "declared", "rejects valid", "accepts invalid", "crashed")

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True)
class Verdict:
    sample: Sample
    kind: Kind
    detail: str = ""  # the error, or the text that was judged wrong


def accepts(matcher: Matcher, token_ids: Sequence[int]) -> bool:
    """Every token is in its mask and is taken, and the text may end there.

    AssertionError: mask and matcher disagree."""
    cursor = OurCursor(matcher, matcher.grammar.vocabulary.num_words)
    for token_id in token_ids:
        masked = allows(cursor.mask(), token_id)
        assert cursor.advance(token_id) == masked, f"token {token_id}: its mask bit is {masked}, advance differs"
        if not masked:
            return False
    return cursor.accepting()


def judge(sample: Sample, texts: Iterable[Spelled], compiler: Compiler, encode: Encode, **options: Any) -> Verdict:
    """Compile the schema, walk every text."""
    try:
        grammar = compiler.compile(Constraint.json_schema(sample.schema, **options))
    except GrammarError as error:
        return Verdict(sample, "declared", str(error))
    except Exception as error:  # a defect of ours; the table counts it, and the other schemas go on
        return Verdict(sample, "crashed", f"{type(error).__name__}: {error}")
    worst = Verdict(sample, "right")
    for text, valid in texts:
        try:
            accepted = accepts(grammar.matcher(), encode(text))
        except Exception as error:
            return Verdict(sample, "crashed", f"{type(error).__name__}: {error} in {text[:200]}")
        if accepted and not valid:
            return Verdict(sample, "accepts invalid", text[:200])
        if valid and not accepted:
            worst = Verdict(sample, "rejects valid", text[:200])
    return worst


def judge_maskbench(samples: Sequence[Sample], compiler: Compiler, encode: Encode) -> list[Verdict]:
    """As MaskBench spells its instances: json.dumps with its default separators."""
    return [judge(sample, sample.spelled(SPACED), compiler, encode) for sample in samples]


def judge_official(
    samples: Sequence[Sample], compiler: Compiler, encode: Encode, *, draft: str, registry: dict[str, Any]
) -> list[Verdict]:
    """Each instance with and without blanks."""
    options = {"draft": draft, "registry": registry}
    return [judge(sample, sample.spelled(COMPACT, SPACED), compiler, encode, **options) for sample in samples]


def share(verdicts: Sequence[Verdict], kind: Kind) -> float:
    return sum(verdict.kind == kind for verdict in verdicts) / len(verdicts) if verdicts else 0.0


def by_keyword(verdicts: Sequence[Verdict]) -> list[list[str]]:
    """Rows of a table: keyword, how many schemas, how many of each kind of verdict."""
    counts: dict[str, Counter[Kind]] = {}
    for verdict in verdicts:
        counts.setdefault(verdict.sample.keyword, Counter())[verdict.kind] += 1
    return [
        [keyword, str(count.total()), *(str(count[kind] or "") for kind in KINDS)]
        for keyword, count in sorted(counts.items())
    ]


def report(verdicts: Sequence[Verdict]) -> str:
    """For a failed test: the table of keywords, then every schema that is not right."""
    rows = [["keyword", "all", *KINDS], *by_keyword(verdicts)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    amiss = [
        f"{v.kind}: {v.sample.keyword}: {v.sample.name}: {v.detail.splitlines()[0] if v.detail else ''}"
        for v in verdicts
        if v.kind != "right"
    ]
    return "\n".join(["", *table, "", *amiss])
