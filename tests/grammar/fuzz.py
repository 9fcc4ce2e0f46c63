"""Constraints that nobody would write, until the time is up: only typed errors may come out, and soon.

    python -m tests.grammar.fuzz [--seconds 300] [--seed N] [--kind schema|regex|lark|gbnf|tag ...]

Hypothesis draws them, shrinks what fails, and the smallest constraint that does is printed.  Each is compiled and
walked for some steps under its masks; what a walk of a schema or a regex spells is judged by jsonschema and re.
tests/grammar/test_fuzz.py does a few of these, always the same, on every run."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from forktree.grammar import Compiler, Constraint, GrammarError, Vocabulary
from tests.support.byte_vocabulary import ByteVocabulary
from tests.support.random_constraints import REAL_SCHEMAS, mutated, random_regex, random_schema
from tests.support.walks import Walk, why_invalid

SECONDS_EACH = 2.0  # of the processor, for one constraint and its steps
LONGEST_WALK = 200  # tokens; a text that must be longer is not walked to its end
SECONDS_TO_SHRINK = 30.0  # past the end, if something fails just before it
VOCABULARY = ByteVocabulary()
COMPILER = Compiler(VOCABULARY, max_cached=1)

# ---- drawing

_KEYWORDS = (
    "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "format", "items", "prefixItems", "additionalItems", "contains", "minContains",
    "maxContains", "maxItems", "minItems", "uniqueItems", "properties", "required", "patternProperties",
    "additionalProperties",
    "propertyNames", "maxProperties", "minProperties", "dependentRequired", "dependentSchemas", "dependencies", "allOf",
    "anyOf", "oneOf", "not", "if", "then", "else", "$ref", "$defs", "definitions", "$id", "$anchor", "$dynamicRef",
    "$dynamicAnchor", "$schema", "unevaluatedItems", "unevaluatedProperties", "title", "default", "x-own",
)  # fmt: skip
_REFS = (
    "#",
    "#/$defs/a",
    "#/properties/a",
    "#a",
    "#/$defs/~0~1%25",
    "other.json",
    "http://json-schema.org/draft-07/schema#",
)
_TEXT = st.text(st.sampled_from('aZ09é日\x00"\\/ -_#$%~^.*+?()[]{}|\ud800\n'), max_size=12)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXT | st.sampled_from(_REFS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT | st.sampled_from(_KEYWORDS), inner, max_size=4),
    max_leaves=12,
)
_SEEDS = st.integers(0, 2**32)


def _reasonable(number: int) -> Any:
    return random_schema(random.Random(number))


def _changed(number: int) -> Any:
    rng = random.Random(number)
    schema = REAL_SCHEMAS[rng.choice(sorted(REAL_SCHEMAS))]
    for _ in range(rng.randint(1, 4)):
        schema = mutated(rng, schema)
    return schema


def _with_refs(schemas: tuple[Any, Any, str]) -> Any:
    root, other, ref = schemas
    if not isinstance(root, dict):
        return root
    return {**root, "$defs": {"a": other, "b": {"$ref": ref}}, "anyOf": [{"$ref": ref}, {"$ref": "#/$defs/b"}, root]}


_SANE = _SEEDS.map(_reasonable) | _SEEDS.map(_changed)
_WILD = st.dictionaries(st.sampled_from(_KEYWORDS), _VALUES, max_size=6) | st.booleans()
SCHEMAS = _SANE | _WILD | st.tuples(_SANE | _WILD, _SANE | _WILD, st.sampled_from(_REFS)).map(_with_refs) | _VALUES

_REGEX_PIECES = st.sampled_from(
    ["a", "b", "é", "日", ".", "|", "^", "$", "(", ")", "[", "]", "[^", "*", "+", "?", "*?", "++", "{2}", "{1,3}",
     "{,4}", "{5,}", "{9999}", "(?:", "(?=", "(?!", "(?<=a)", "(?P<n>", "(?P=n)", "(?i)", "(?s:", "(?#x)",
     "(?(1)a", "a-z", "-",
     "&&", "[:alpha:]", "\x00", "\n", "\ud800", r"\d", r"\w", r"\s", r"\S", r"\b", r"\1", r"\p{L}", r"\P{Lu}",
     r"\x00", r"\u0041", r"\U0001F600", r"\ud800", r"\N{DASH}", r"\0", r"\07", r"\Q", r"\-", "\\"]
)  # fmt: skip
_WILD_REGEXES = st.lists(_REGEX_PIECES, max_size=12).map("".join)
REGEXES = _SEEDS.map(lambda number: random_regex(random.Random(number))) | _WILD_REGEXES

_EBNF_ATOMS = st.sampled_from(
    ["start", "root", "a", "b", "A", "B", '"x"', '"é"', '"x"i', "/[a-z]+/", "/a|b*/i", "[a-z]", "[^x]", '"a".."f"', ".",
     "(", ")", "[", "]", "{", "}", "|", "*", "+", "?", "~2", "~1..3", "{2}", "{1,3}", "->", "_t{a}", "\\", '"', "/",
     "\x00", "# x", "// x"]
)  # fmt: skip


def _grammar_texts(define: str, start: str, extra: Sequence[str]) -> st.SearchStrategy[str]:
    """A few rules of random atoms, the names they use most often among them."""
    body = st.lists(_EBNF_ATOMS, max_size=7).map(" ".join)
    names = st.sampled_from([start, "a", "b", "A", "B", "_t{x}", "?a", "!b", "A.2"])
    rules = st.lists(st.tuples(names, body), max_size=5)
    head = body.map(lambda text: f"{start} {define} {text}\n")
    lines = rules.map(lambda found: "".join(f"{name} {define} {text}\n" for name, text in found))
    return st.tuples(head, lines, st.sampled_from(["", "", *extra])).map("".join)


_DIRECTIVES = ("%ignore A\n", "%ignore / +/\n", "%import common.INT\n", "%import common (WS, A)\n", "%declare A\n",
               "%override a: b\n", "%extend a: b\n", "%import .x.Y -> A\n")  # fmt: skip
LARKS = _grammar_texts(":", "start", _DIRECTIVES)
GBNFS = _grammar_texts("::=", "root", ["# done\n"])

_SHORT = st.sampled_from(["", "<", "<f", "<f>", "</f>", "f", "\x00", "é", "<f><f>"])
TAGS = st.fixed_dictionaries(
    {
        "structures": st.lists(
            st.fixed_dictionaries({"begin": _SHORT, "schema": SCHEMAS, "end": _SHORT}) | _VALUES, max_size=3
        ),
        "triggers": st.lists(_SHORT, max_size=3),
    }
)

KINDS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], Constraint]]] = {
    "schema": (SCHEMAS, lambda drawn: Constraint.json_schema(drawn)),
    "regex": (REGEXES, lambda drawn: Constraint.regex(drawn)),
    "lark": (LARKS, lambda drawn: Constraint.lark(drawn)),
    "gbnf": (GBNFS, lambda drawn: Constraint.gbnf(drawn)),
    "tag": (TAGS, lambda drawn: Constraint.structural_tag(drawn)),
}

# ---- trying


class Slow(AssertionError):
    """A constraint that took longer than any may."""


def attempt(kind: str, drawn: Any, vocabulary: Vocabulary = VOCABULARY) -> str:
    """What came of it: "done", "unfinished", or the name of a typed error.  Anything else is raised."""
    begin = time.process_time()
    try:
        outcome = _walk(kind, drawn)
    except GrammarError as error:
        outcome = type(error).__name__
    spent = time.process_time() - begin
    if spent > SECONDS_EACH:
        raise Slow(f"{spent:.1f} s of the processor for a {kind}: {outcome}")
    return outcome


def _walk(kind: str, drawn: Any) -> str:
    grammar = COMPILER.compile(KINDS[kind][1](drawn))
    for number in range(2):
        walk = Walk(grammar, random.Random(number))
        if walk.matcher.tokens_needed() > LONGEST_WALK:
            for left in range(LONGEST_WALK, 0, -1):
                walk.step(10**9 if left % 2 else None, ending=0.0)
            return "unfinished"
        walk.finish(6 * number)
        if kind in ("schema", "regex") and (why := _judged(grammar.constraint, walk.text)):
            raise AssertionError(f"let through {walk.text!r}: {why}")
    return "done"


def _judged(constraint: Constraint, text: bytes) -> str:
    """As why_invalid, but where jsonschema cannot judge a schema of this kind nothing is held against the text."""
    try:
        return why_invalid(constraint, text)
    except Exception:
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.grammar.fuzz")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.seconds:g} s for {', '.join(options.kind)}", flush=True)
    failed = [
        kind
        for i, kind in enumerate(options.kind)
        if not Fuzz(kind, options.seconds / len(options.kind)).run(options.seed + i)
    ]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


class Fuzz:
    """One kind of constraint, until the time is up."""

    def __init__(self, kind: str, seconds: float) -> None:
        self.kind = kind
        self.deadline = time.monotonic() + seconds
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self.last: Any = None

    def run(self, number: int) -> bool:
        """Batch after batch; False, and the smallest example printed, at the first that fails."""
        while time.monotonic() < self.deadline:
            try:
                self._batch(number)()
            except Exception as error:
                print(f"{self.kind} FAILED: {type(error).__name__}: {error}\n  {_shown(self.last)}", flush=True)
                return False
            number += 1000
        outcomes = dict(self.outcomes.most_common())
        print(f"{self.kind}: {self.outcomes.total()} tried, slowest {self.slowest:.2f} s: {outcomes}", flush=True)
        return True

    def _batch(self, number: int) -> Callable[[], None]:
        def one(drawn: Any) -> None:
            if time.monotonic() > self.deadline + SECONDS_TO_SHRINK:
                return
            self.last = drawn
            begin = time.process_time()
            self.outcomes[attempt(self.kind, drawn)] += 1
            self.slowest = max(self.slowest, time.process_time() - begin)

        limits = settings(max_examples=200, deadline=None, database=None, print_blob=False,
                          suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink])  # fmt: skip
        return seed(number)(limits(given(KINDS[self.kind][0])(one)))


def _shown(drawn: Any) -> str:
    return json.dumps(drawn, ensure_ascii=True) if not isinstance(drawn, str) else repr(drawn)


if __name__ == "__main__":
    main()
