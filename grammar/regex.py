"""Syntax tree of a pattern -> byte expression.  The syntax, and what of it is refused: regex_syntax.py.

A tree is written from its end: what a node matches depends on what follows it (`after`), and where assertions look
back, on the character before it.  So `after` is one expression per context: the start of the text, or a class of the
last character, where the classes are as fine as the pattern's assertions tell characters apart.  A lookahead is then
the intersection of what follows with what it asks: exact, as no part of a tree refers to what another one matched."""

from __future__ import annotations

from . import char_classes as chars
from .char_classes import Ranges
from .char_writers import Utf8Writer, Writer
from .errors import RegexError
from .expressions import EMPTY, INFINITE, NOTHING, Expressions
from .regex_cycles import Cycles
from .regex_syntax import parse
from .regex_tree import Anchor, Assertion, Boundary, Chars, Choice, Look, Node, Repeat, Sequence_, first_assertion

MAX_UNROLLED = 1_000  # rounds of repetitions that hold assertions

After = tuple[int, ...]  # what may follow: at the start of the text, then after a character of each class

_ANYTHING = Repeat(Chars(chars.ALL), 0, INFINITE)


def matching(node: Node, pattern: str, expressions: Expressions, write: Writer, *, search: bool = False) -> int:
    """The expression of the texts that `node` matches: as a whole, or (search) anywhere in them."""
    encoder = Encoder(node, pattern, expressions, write)
    if search:
        return encoder.follow(Sequence_((_ANYTHING, node)), encoder.everywhere(encoder.whole))[0]
    return encoder.follow(node, encoder.everywhere(EMPTY))[0]


def compile_regex(pattern: str, expressions: Expressions) -> int:
    """The texts that re.fullmatch(pattern, ...) matches, as an expression over UTF-8 bytes; never NOTHING."""
    expressions.budget.place = "the pattern"
    node = parse(pattern)
    result = matching(node, pattern, expressions, Utf8Writer(expressions))
    if result == NOTHING:
        assertion = first_assertion(node)
        offset = assertion.offset if assertion else 0
        raise RegexError("matches no text at all", pattern=pattern, offset=offset)
    return result


def character_lengths(node: Node) -> tuple[int, int]:
    """Characters of the shortest and of the longest text that `node` may match, assertions not considered."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Repeat):
        low, high = character_lengths(node.item)
        return low * node.least, 0 if high == 0 else min(INFINITE, high * node.most)
    if isinstance(node, Assertion):
        return 0, 0
    parts = [character_lengths(item) for item in node.items]
    if isinstance(node, Choice):
        return min(low for low, _ in parts), max(high for _, high in parts)
    return sum(low for low, _ in parts), min(INFINITE, sum(high for _, high in parts))


def between_anchors(node: Node) -> Node | None:
    """What stands between ^ and $ if the pattern is one sequence with both at its ends and nothing alike elsewhere."""
    if not isinstance(node, Sequence_) or len(node.items) < 2:
        return None
    first, *middle, last = node.items
    if not (isinstance(first, Anchor) and isinstance(last, Anchor)) or first.lines or last.lines:
        return None
    if not first.at_start or last.at_start or any(first_assertion(item) for item in middle):
        return None
    return middle[0] if len(middle) == 1 else Sequence_(tuple(middle))


class Encoder:
    """Writes one tree."""

    def __init__(self, node: Node, pattern: str, expressions: Expressions, write: Writer) -> None:
        self._pattern, self._e, self._write = pattern, expressions, write
        self.expressions = expressions
        self._assertions: dict[int, Assertion | None] = {}
        self._known: dict[int, int] = {}
        self._written: dict[int, int] = {}
        self._rounds_left = MAX_UNROLLED
        self.whole = expressions.repeat(write(chars.ALL), 0)
        expressions.declare_whole(self.whole)
        self.classes: list[Ranges] = [chars.ALL]
        for ranges in _told_apart(node):
            rest = chars.complement(ranges)
            pieces = [chars.intersection(c, side) for c in self.classes for side in (ranges, rest)]
            self.classes = [piece for piece in pieces if piece]
        self._nodes: list[Node] = []  # kept alive: what is remembered goes by identity

    def starting(self, ranges: Ranges) -> int:
        """All texts that begin with one of the characters."""
        return self._e.concat(self._write(ranges), self.whole)

    def everywhere(self, e: int) -> After:
        return (e,) * (1 + len(self.classes))

    # ---- nodes with assertions ----------------------------------------------------------------------------------

    def follow(self, node: Node, after: After) -> After:
        """`node` and then `after`, in each context."""
        if self.assertion(node) is None:
            return self._then(node, after)
        e = self._e
        if isinstance(node, Sequence_):
            run: list[Node] = []
            for item in reversed(node.items):
                if self.assertion(item) is None:
                    run.append(item)
                    continue
                after = self.follow(item, self._run_then(run, after))
                run = []
            return self._run_then(run, after)
        if isinstance(node, Choice):
            options = [self.follow(item, after) for item in node.items]
            return tuple(e.alternative(in_context) for in_context in zip(*options, strict=True))
        if isinstance(node, Repeat):
            return self._repeat(node, after)
        if isinstance(node, Look):
            return self._look(node, after)
        if isinstance(node, Boundary):
            return self._boundary(node, after)
        assert isinstance(node, Anchor)
        return self._anchor(node, after)

    def _repeat(self, node: Repeat, after: After) -> After:
        """A repetition that holds assertions, round by round."""
        assertion = self.assertion(node.item)
        assert assertion is not None
        if node.most >= INFINITE:
            cycle = Cycles(self).repeat(node, after)
            if cycle is not None:
                return cycle
        self._rounds_left -= node.most
        if self._rounds_left < 0:
            raise RegexError(
                "an assertion inside a repetition without a bound",
                pattern=self._pattern,
                offset=assertion.offset,
                hint="give the repetition a small bound, as in {1,20}",
            )
        result = after
        for _ in range(node.most - node.least):
            again = self.follow(node.item, result)
            result = tuple(self._e.alternative(pair) for pair in zip(after, again, strict=True))
        for _ in range(node.least):
            result = self.follow(node.item, result)
        return result

    def _anchor(self, node: Anchor, after: After) -> After:
        e = self._e
        if node.at_start:
            passed = [node.lines and chars.within(c, node.line_ends) for c in self.classes]
            return (after[0], *(left if ok else NOTHING for left, ok in zip(after[1:], passed, strict=True)))
        ends = [EMPTY]
        if node.lines:
            ends.append(self.starting(node.line_ends))
        elif node.before_newline:
            ends.append(self._write(chars.of_text("\n")))
        end = e.alternative(ends)
        return tuple(e.both((left, end)) for left in after)

    def _boundary(self, node: Boundary, after: After) -> After:
        e = self._e
        word, other = self.starting(node.word), self.starting(chars.complement(node.word))
        no_word = e.alternative((EMPTY, other))
        in_word = [False, *(chars.within(c, node.word) for c in self.classes)]
        result = [
            e.both((left, word if wordly == node.negated else no_word))
            for left, wordly in zip(after, in_word, strict=True)
        ]
        if node.negated and not node.in_empty:
            result[0] = e.both((result[0],), EMPTY)
        return tuple(result)

    def _look(self, node: Look, after: After) -> After:
        e = self._e
        if node.behind:
            ranges = _one_class(node.item)
            if ranges is None:
                raise RegexError("lookbehind for more than one character is not supported", pattern=self._pattern,
                                 offset=node.offset, hint="state what may stand before instead")  # fmt: skip
            passed = [node.negated, *(chars.within(c, ranges) != node.negated for c in self.classes)]
            return tuple(left if ok else NOTHING for left, ok in zip(after, passed, strict=True))
        asked = self.follow(node.item, self.everywhere(self.whole))
        if node.negated:
            return tuple(e.both((left,), wanted) for left, wanted in zip(after, asked, strict=True))
        return tuple(e.both((left, wanted)) for left, wanted in zip(after, asked, strict=True))

    # ---- nodes without --------------------------------------------------------------------------------------------

    def _run_then(self, backwards: list[Node], after: After) -> After:
        if not backwards:
            return after
        node = backwards[0] if len(backwards) == 1 else Sequence_(tuple(reversed(backwards)))
        self._nodes.append(node)
        return self._then(node, after)

    def _then(self, node: Node, after: After) -> After:
        e = self._e
        if after.count(after[0]) == len(after):
            return self.everywhere(e.concat(self.plain(node), after[0]))
        endings = self.endings(node)
        some = [e.concat(ending, left) for ending, left in zip(endings, after[1:], strict=True)]
        if not e.nullable[self.plain(node)]:
            return self.everywhere(e.alternative(some))
        return tuple(e.alternative((*some, left)) for left in after)

    def plain(self, node: Node) -> int:
        known = self._known.get(id(node))
        if known is None:
            known = self._known[id(node)] = self._encode_new(node)
        return known

    def _encode_new(self, node: Node) -> int:
        e = self._e
        if isinstance(node, Chars):
            key = id(node.ranges)  # of shorthands always the same object, and long to hash
            written = self._written.get(key)
            if written is None:
                written = self._written[key] = self._write(node.ranges)
            return written
        if isinstance(node, Repeat):
            return e.repeat(self.plain(node.item), node.least, node.most)
        assert isinstance(node, (Choice, Sequence_))
        if isinstance(node, Choice):
            return e.alternative([self.plain(item) for item in node.items])
        result, text = EMPTY, list[str]()
        for item in (*reversed(node.items), None):
            if isinstance(item, Chars) and len(item.ranges) == 1 and item.ranges[0][0] == item.ranges[0][1]:
                text.append(chr(item.ranges[0][0]))
                continue
            if text:
                result = e.concat(self._write.text("".join(reversed(text))), result)
                text = []
            if item is not None:
                result = e.concat(self.plain(item), result)
        return result

    def endings(self, node: Node) -> list[int]:
        """By class of their last character: the texts of `node`, the empty one left out."""
        e = self._e
        if isinstance(node, Chars):
            return [self._write(chars.intersection(node.ranges, c)) for c in self.classes]
        if isinstance(node, Choice):
            return [e.alternative(options) for options in zip(*map(self.endings, node.items), strict=True)]
        if isinstance(node, Repeat):
            if node.most == 0:
                return [NOTHING] * len(self.classes)
            most = node.most if node.most >= INFINITE else node.most - 1
            before = e.repeat(self.plain(node.item), max(0, node.least - 1), most)
            return [e.concat(before, ending) for ending in self.endings(node.item)]
        assert isinstance(node, Sequence_)
        found: list[list[int]] = [[] for _ in self.classes]
        for i in range(len(node.items) - 1, -1, -1):
            before_node = Sequence_(node.items[:i])
            self._nodes.append(before_node)
            before = self.plain(before_node)
            for options, ending in zip(found, self.endings(node.items[i]), strict=True):
                options.append(e.concat(before, ending))
            if not e.nullable[self.plain(node.items[i])]:
                break
        return [e.alternative(options) for options in found]

    def assertion(self, node: Node) -> Assertion | None:
        if id(node) not in self._assertions:
            self._assertions[id(node)] = first_assertion(node)
        return self._assertions[id(node)]


def _told_apart(node: Node) -> list[Ranges]:
    """The classes of characters for which assertions of the tree look back."""
    found: dict[Ranges, None] = {}
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Boundary):
            found[node.word] = None
        elif isinstance(node, Anchor) and node.at_start and node.lines:
            found[node.line_ends] = None
        elif isinstance(node, Look):
            ranges = _one_class(node.item) if node.behind else None
            if ranges:
                found[ranges] = None
            waiting.append(node.item)
        elif isinstance(node, Repeat):
            waiting.append(node.item)
        elif isinstance(node, (Choice, Sequence_)):
            waiting.extend(node.items)
    return list(found)


def _one_class(node: Node) -> Ranges | None:
    """The class if the node is one character of it."""
    if isinstance(node, Chars):
        return node.ranges
    if isinstance(node, Choice):
        parts = [_one_class(item) for item in node.items]
        return chars.normalised(pair for part in parts for pair in part or ()) if all(parts) else None
    return None
