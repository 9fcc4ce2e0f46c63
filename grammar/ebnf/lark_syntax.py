"""Lark grammars -> a node of `Rules`, read by lark's own loader.

The language is what lark's Earley parser accepts if terminals may match any text that they can (its dynamic_complete
lexer; priorities choose between parses, not between texts).  Ignored terminals may stand before, between and after all
others, as lark has it.  Refused: imports of files, %declare, terminals that can be empty, and in regular expressions
what regex_syntax.py refuses.

Here: lark's trees of rules and templates -> nodes.  Not here: terminals (lark_terminals.py), reading ahead of lark
(lark_scan.py), the analysis (cfg.py and on)."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import GrammarTooComplex
from ..expressions import INFINITE
from ..rules import Rules
from .cfg import REFERENCE, Cfg
from .emission import emit
from .lark_scan import scan
from .lark_terminals import Terminals
from .text import MAX_REPEAT, check_characters, fail, mention

if TYPE_CHECKING:
    from lark.load_grammar import Grammar, GrammarBuilder

BUNDLED = ("common", "lark", "python", "unicode")  # grammars that come with lark
MOST_TEMPLATES = 5_000  # uses of templates with different arguments
COUNTS = {"?": (0, 1), "*": (0, INFINITE), "+": (1, INFINITE)}
START = "start"


def compile_lark(text: str, rules: Rules) -> int:
    """The node for the texts of rule `start`.   Raises EbnfError, GrammarTooComplex."""
    rules.expressions.budget.place = "the grammar"
    try:
        grammar = load(text)
        cfg = _Reader(text, grammar, rules).read()
        identity = hashlib.sha256(b"lark\0" + text.encode()).hexdigest()
        node = emit(cfg, START, rules, identity)
    except RecursionError:
        raise GrammarTooComplex("is nested too deeply", place="the grammar") from None
    if node is None:
        fail(f"no text at all of reasonable length can be completed from rule {START!r}", text, mention(text, START))
    ignored = cfg.ignored
    return rules.sequence(rules.terminal(ignored), node)


def load(text: str) -> Grammar:
    """lark's loader on the text; whatever it has to say becomes an EbnfError."""
    check_characters(text)
    scan(text)
    from lark.exceptions import GrammarError

    try:
        builder = _builder()
        builder.load_grammar(text, "<grammar>")
        return builder.build()
    except (GrammarTooComplex, RecursionError, MemoryError):
        raise
    except (
        Exception
    ) as error:  # lark's loader meets bad input with its own errors, but also with bare asserts and evals
        at = getattr(error, "pos_in_stream", None) or getattr(error.__context__, "pos_in_stream", None)
        message = str(error).split("\n", 1)[0]
        name = re.search(r"['`(]([A-Za-z_][\w.]*)['`)]|: ([A-Za-z_]\w*)$", message)
        message = re.sub(r",? at line \d+,? column \d+.*", "", message).rstrip(": ") or f"{type(error).__name__}"
        if isinstance(error, GrammarError) or at is not None:
            message = message[:1].lower() + message[1:]
        else:
            message = f"lark cannot read it: {message}"
        offset = at if at is not None else mention(text, name[1] or name[2]) if name else 0
        fail(message[:300], text, offset)


def _builder() -> GrammarBuilder:
    from lark import load_grammar
    from lark.exceptions import GrammarError
    from lark.load_grammar import GrammarBuilder

    class Builder(GrammarBuilder):
        def do_import(self, dotted_path: Any, base_path: Any, aliases: Any, base_mangle: Any = None) -> None:
            """Only what comes with lark: a grammar may arrive over the network, and names no files here."""
            if base_path is not None or ".".join(dotted_path) not in BUNDLED:
                name = ".".join(dotted_path)
                raise GrammarError(f"Cannot import from '{name}': only {', '.join(BUNDLED)} can be imported")
            super().do_import(dotted_path, None, aliases, base_mangle)

        def load_grammar(self, grammar_text: str, grammar_name: str = "", mangle: Any = None) -> None:
            """As the original, but what terminals mention is not put into them, which can take exponential time."""
            read: Any = self  # lark's own methods have no types
            tree = vars(load_grammar)["_parse_grammar"](grammar_text, grammar_name)
            imports: dict[tuple[str, ...], tuple[Any, dict[str, str]]] = {}
            for statement in tree.children:
                if statement.data == "import":
                    path, base_path, aliases = read._unpack_import(statement, "")
                    imports.setdefault(path, (base_path, {}))[1].update(aliases)
            for path, (base_path, aliases) in imports.items():
                self.do_import(path, base_path, aliases)
            for statement in tree.children:
                if statement.data in ("term", "rule"):
                    read._define(*read._unpack_definition(statement, None))
                elif statement.data == "override":
                    read._define(*read._unpack_definition(statement.children[0], None), override=True)
                elif statement.data == "extend":
                    read._extend(*read._unpack_definition(statement.children[0], None))
                elif statement.data == "ignore":
                    read._ignore(*statement.children)
                elif statement.data == "declare":
                    for symbol in statement.children:
                        read._define(symbol.name, symbol.is_term, None)

    return Builder()


class LarkCfg(Cfg):
    """ignored: the expression of what may stand after every terminal"""

    ignored: int


class _Reader:
    def __init__(self, text: str, grammar: Grammar, rules: Rules) -> None:
        self._text = text
        self._cfg = LarkCfg(rules.expressions)
        self._terminals = Terminals(text, grammar.term_defs, rules.expressions)
        self._cfg.ignored = self._terminals.ignored(grammar.ignore)
        self._definitions = {name: (tuple(params), tree) for name, params, tree, _ in grammar.rule_defs}
        self._instances: dict[tuple[str, tuple[int, ...]], str] = {}
        self._waiting: deque[tuple[str, Any, dict[str, int]]] = deque()

    def read(self) -> LarkCfg:
        """The rules that `start` gets to."""
        cfg = self._cfg
        if START not in self._definitions:
            fail(f"there is no rule {START!r}", self._text, 0, f"{START}: ... is what the output must be")
        self._rule(START)
        while self._waiting:
            name, tree, arguments = self._waiting.popleft()
            cfg.expressions.budget.tick()
            cfg.bodies[name] = self._node(tree, arguments)
        for name in cfg.references(*cfg.bodies.values()):
            if name not in cfg.bodies:
                hint = f"write {name}{{{', '.join(self._definitions[name][0])}}}"
                fail(f"the template {name!r} is used without arguments", self._text, mention(self._text, name), hint)
        return cfg

    def _rule(self, name: str) -> int:
        """A reference to a rule, which is read in its turn."""
        if name not in self._definitions:
            fail(f"the rule {name!r} is not defined", self._text, mention(self._text, name))
        params, tree = self._definitions[name]
        if params:
            # Only as an argument of a template that uses its parameter as a template, as in apply{f, x}: f{x}
            return self._cfg.reference(name)
        if tree is None:
            fail(f"%declare {name}: what it stands for is not known", self._text, mention(self._text, name))
        if (name, ()) not in self._instances:
            self._instances[name, ()] = name
            self._waiting.append((name, tree, {}))
        return self._cfg.reference(name)

    def _template(self, name: str, arguments: tuple[int, ...]) -> int:
        if name not in self._definitions or len(self._definitions[name][0]) != len(arguments):
            fail(f"no template {name!r} with {len(arguments)} parameters", self._text, mention(self._text, name))
        instance = self._instances.get((name, arguments))
        if instance is None:
            if len(self._instances) > MOST_TEMPLATES:
                raise GrammarTooComplex(f"uses templates in more than {MOST_TEMPLATES:,} ways", place=f"rule {name}")
            params, tree = self._definitions[name]
            instance = self._instances[name, arguments] = f"{name}{{{','.join(map(str, arguments))}}}"
            self._waiting.append((instance, tree, dict(zip(params, arguments, strict=True))))
        return self._cfg.reference(instance)

    def _node(self, tree: Any, arguments: dict[str, int]) -> int:
        """tree: lark's, of one of the kinds in its grammar of grammars.   arguments: parameter -> node"""
        cfg, kind, children = self._cfg, tree.data, tree.children
        if kind == "expansions":
            return cfg.choice([self._node(child, arguments) for child in children])
        if kind == "expansion":
            return cfg.sequence(*[self._node(child, arguments) for child in children])
        if kind == "alias":
            return self._node(children[0], arguments)
        if kind == "maybe":
            return cfg.repeat(self._node(children[0], arguments), 0, 1)
        if kind == "expr":
            return cfg.repeat(self._node(children[0], arguments), *self._count(*children[1:]))
        if kind == "template_usage":
            return self._use(children[0].name, tuple(self._node(child, arguments) for child in children[1:]), arguments)
        if kind in ("literal", "range"):
            return self._terminal(self._terminals.literal(tree))
        (symbol,) = children
        if not hasattr(symbol, "is_term"):
            return self._node(symbol, arguments)
        if symbol.is_term:
            return self._terminal(self._terminals.named(symbol.name))
        argument = arguments.get(symbol.name)
        return self._rule(symbol.name) if argument is None else argument

    def _use(self, name: str, given: tuple[int, ...], arguments: dict[str, int]) -> int:
        if name in arguments and self._cfg.kind[arguments[name]] == REFERENCE:
            name = self._cfg.parts[arguments[name]]
        return self._template(name, given)

    def _terminal(self, expression: int) -> int:
        return self._cfg.terminal(self._cfg.expressions.concat(expression, self._cfg.ignored))

    def _count(self, sign: Any, *numbers: Any) -> tuple[int, int]:
        if sign != "~":
            return COUNTS[sign]
        least, most = int(numbers[0][:9]), int(numbers[-1][:9])
        if not 0 <= least <= most <= MAX_REPEAT:
            message = f"a repetition above {MAX_REPEAT:,}" if most > MAX_REPEAT else "bad bounds of a repetition"
            fail(message, self._text, numbers[0].start_pos)
        return least, most
