"""Our engine and its peers behind one small interface, for measuring.

Masks are read-only uint32 rows: bit i % 32 of word i // 32 is token i."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from forktree.grammar import Compiler, Constraint, GrammarError, GrammarTooComplex, Matcher, Vocabulary, warmup
from forktree.runtime.engine.tokenizer import Tokenizer

Row = npt.NDArray[np.uint32]


class Refused(Exception):
    """The engine says that it cannot do this constraint."""


class Cursor(Protocol):
    """One output on its way."""

    def mask(self) -> Row: ...
    def advance(self, token_id: int) -> bool: ...
    def accepting(self) -> bool: ...


class Engine(Protocol):
    name: str

    def compile(self, kind: str, source: Any) -> Callable[[], Cursor]:
        """kind: "json" | "regex" | "lark" | "gbnf".  Makes cursors.  Raises Refused."""
        ...


@dataclass(frozen=True)
class Model:
    """What an engine needs to know of one: its tokenizer and the token that ends an output."""

    folder: Path
    tokenizer: Tokenizer
    eos_token_id: int

    @staticmethod
    def of(folder: Path | None) -> Model:
        """The model in `folder`; None: the default one, fetched if need be."""
        if folder is None:
            from forktree.runtime.models import resolve_model

            folder = resolve_model(None).directory
        tokenizer = Tokenizer(folder / "tokenizer.json")
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        eos = config["eos_token"]
        eos_id = tokenizer.special_id(eos["content"] if isinstance(eos, dict) else eos)
        if eos_id is None:
            raise SystemExit(f"{folder}: eos_token {eos!r} of tokenizer_config.json is no special token")
        return Model(folder, tokenizer, eos_id)

    @property
    def num_words(self) -> int:
        return (self.tokenizer.vocab_size + 31) // 32

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.tokenizer.vocabulary(), [self.eos_token_id])

    def __str__(self) -> str:
        return f"{self.folder.name}, {self.tokenizer.vocab_size:,} tokens"


def constraint_of(kind: str, source: Any, **options: Any) -> Constraint:
    """What `source` says, or the GrammarError that it deserves."""
    makers = {"json": "json_schema", "regex": "regex", "lark": "lark", "gbnf": "gbnf"}
    make: Callable[..., Constraint] | None = getattr(Constraint, makers[kind], None)
    if make is None:
        raise GrammarTooComplex(f"Constraint has no {makers[kind]}", place="the benchmark")
    return make(source, **options)


# ---- ours


class OurCursor:
    def __init__(self, matcher: Matcher, num_words: int) -> None:
        self.matcher = matcher
        self._row = np.zeros(num_words, dtype=np.int32)
        self._view = self._row.view(np.uint32)

    def mask(self) -> Row:
        if not self.matcher.fill_mask(self._row):
            self._row.fill(-1)
        return self._view

    def advance(self, token_id: int) -> bool:
        try:
            self.matcher.advance(token_id)
        except GrammarError:
            return False
        return True

    def accepting(self) -> bool:
        return self.matcher.complete


class Forktree:
    name = "forktree"

    def __init__(self, model: Model) -> None:
        warmup()
        self._num_words = model.num_words
        self._compiler = Compiler(model.vocabulary)
        self.compile("json", True)().mask()  # the vocabulary's trie, which the peers' tokenizers have built by now too

    def compile(self, kind: str, source: Any) -> Callable[[], Cursor]:
        try:
            grammar = self._compiler.compile(constraint_of(kind, source))
        except GrammarError as error:
            raise Refused(str(error)) from error
        return lambda: OurCursor(grammar.matcher(), self._num_words)


# ---- peers


class LlguidanceCursor:
    def __init__(self, inner: Any, num_words: int) -> None:
        self._inner = inner
        self._row: Row = np.zeros(num_words, dtype=np.uint32)

    def mask(self) -> Row:
        self._inner.unsafe_compute_mask_ptr(self._row.ctypes.data, self._row.nbytes)
        return self._row

    def advance(self, token_id: int) -> bool:
        return bool(self._inner.consume_token(token_id))

    def accepting(self) -> bool:
        return bool(self._inner.is_accepting())


class Llguidance:
    name = "llguidance"

    def __init__(self, model: Model) -> None:
        llguidance = importlib.import_module("llguidance")

        self._num_words = model.num_words
        self._matcher: Any = llguidance.LLMatcher
        path = str(model.folder / "tokenizer.json")
        self._tokenizer = llguidance.LLTokenizer(path, n_vocab=model.tokenizer.vocab_size, eos_token=model.eos_token_id)

    def compile(self, kind: str, source: Any) -> Callable[[], Cursor]:
        readers = {
            "json": lambda: self._matcher.grammar_from_json_schema(json.dumps(source)),
            "regex": lambda: self._matcher.grammar_from_regex(source),
            "lark": lambda: self._matcher.grammar_from_lark(source),
        }
        if kind not in readers:
            raise Refused(f"no {kind}")
        try:
            first = self._matcher(self._tokenizer, readers[kind](), log_level=0)
        except ValueError as error:
            raise Refused(str(error)) from error
        if first.is_error():
            raise Refused(first.get_error())
        return lambda: LlguidanceCursor(first.deep_copy(), self._num_words)


class XgrammarCursor:
    def __init__(self, inner: Any, num_words: int) -> None:
        import torch

        self._inner = inner
        self._tensor = torch.zeros((1, num_words), dtype=torch.int32)
        self._row: Row = self._tensor.numpy().view(np.uint32)[0]

    def mask(self) -> Row:
        if not self._inner.fill_next_token_bitmask(self._tensor):
            self._row.fill(0xFFFFFFFF)
        return self._row

    def advance(self, token_id: int) -> bool:
        return bool(self._inner.accept_token(token_id))

    def accepting(self) -> bool:
        return bool(self._inner.is_completed())


class Xgrammar:
    """With strict_mode=False: additionalProperties as JSON Schema means it.  One thread, as everybody here."""

    name = "xgrammar"

    def __init__(self, model: Model) -> None:
        self._xgrammar: Any = importlib.import_module("xgrammar")
        self._num_words = model.num_words
        spelled = [token or b"" for token in model.tokenizer.vocabulary()]
        info = self._xgrammar.TokenizerInfo(spelled, self._xgrammar.VocabType.RAW, stop_token_ids=[model.eos_token_id])
        self._compiler = self._xgrammar.GrammarCompiler(info, max_threads=1)

    def compile(self, kind: str, source: Any) -> Callable[[], Cursor]:
        makers = {
            "json": lambda: self._compiler.compile_json_schema(json.dumps(source), strict_mode=False),
            "regex": lambda: self._compiler.compile_regex(source),
            "lark": lambda: self._compiler.compile_lark(source),
            "gbnf": lambda: self._compiler.compile_grammar(source),
        }
        try:
            compiled = makers[kind]()
        except (RuntimeError, ValueError, TypeError) as error:
            raise Refused(str(error)) from error
        return lambda: XgrammarCursor(self._xgrammar.GrammarMatcher(compiled), self._num_words)


ENGINES: dict[str, Callable[[Model], Engine]] = {"forktree": Forktree, "llguidance": Llguidance, "xgrammar": Xgrammar}


def start(names: Sequence[str], model: Model) -> tuple[list[Engine], list[str]]:
    """The engines of these names that are installed, and the names of those that are not."""
    here = [name for name in names if importlib.util.find_spec(name) is not None]
    return [ENGINES[name](model) for name in here], [name for name in names if name not in here]


def allows(row: Row, token_id: int) -> bool:
    return bool(int(row[token_id >> 5]) >> (token_id & 31) & 1)
