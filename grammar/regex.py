"""Syntax tree of a pattern -> byte expression.  The syntax, and what of it is refused: regex_syntax.py."""

from __future__ import annotations

from . import char_classes as chars
from .char_classes import Writer
from .errors import RegexError
from .expressions import EMPTY, INFINITE, NOTHING, Expressions
from .regex_syntax import Anchor, Chars, Choice, Node, Repeat, Sequence_, parse

MAX_BRANCHES = 1_000  # into which anchors inside alternatives may be multiplied out


def matching(node: Node, pattern: str, expressions: Expressions, write: Writer, *, search: bool = False) -> int:
    """The expression of the texts that `node` matches: as a whole, or (search) anywhere in them."""
    branches = _branches(node, pattern)
    anything = Repeat(Chars(chars.ALL), 0, INFINITE)
    results = []
    for branch in branches:
        items, from_start, to_end = _without_anchors(branch, pattern)
        if items is None:
            continue
        if search:
            items = [*([] if from_start else [anything]), *items, *([] if to_end else [anything])]
        results.append(_encode(Sequence_(tuple(items)), expressions, write))
    return expressions.alternative(results)


def compile_regex(pattern: str, expressions: Expressions) -> int:
    """The texts that re.fullmatch(pattern, ...) matches, as an expression over UTF-8 bytes; never NOTHING."""
    expressions.budget.place = "the pattern"
    result = matching(parse(pattern), pattern, expressions, chars.utf8_writer(expressions))
    if result == NOTHING:
        raise RegexError("matches no text at all", pattern=pattern, offset=0)
    return result


def character_lengths(node: Node) -> tuple[int, int]:
    """Characters of the shortest and of the longest text that `node` may match, anchors not considered."""
    if isinstance(node, Chars):
        return 1, 1
    if isinstance(node, Repeat):
        low, high = character_lengths(node.item)
        return low * node.least, 0 if high == 0 else min(INFINITE, high * node.most)
    if isinstance(node, Anchor):
        return 0, 0
    parts = [character_lengths(item) for item in node.items]
    if isinstance(node, Choice):
        return min(low for low, _ in parts), max(high for _, high in parts)
    return sum(low for low, _ in parts), min(INFINITE, sum(high for _, high in parts))


def between_anchors(node: Node) -> Node | None:
    """What stands between ^ and $ if the pattern is one sequence with both at its ends and nowhere else, else None."""
    if not isinstance(node, Sequence_) or len(node.items) < 2:
        return None
    first, *middle, last = node.items
    ends = isinstance(first, Anchor) and first.at_start and isinstance(last, Anchor) and not last.at_start
    if not ends or any(_has_anchor(item) for item in middle):
        return None
    return middle[0] if len(middle) == 1 else Sequence_(tuple(middle))


# ---- tree -> expression ------------------------------------------------------------------------------------------


def _encode(node: Node, expressions: Expressions, write: Writer) -> int:
    if isinstance(node, Chars):
        return write(node.ranges)
    if isinstance(node, Repeat):
        return expressions.repeat(_encode(node.item, expressions, write), node.least, node.most)
    if isinstance(node, Anchor):
        return EMPTY  # pragma: no cover - taken out before
    parts = [_encode(item, expressions, write) for item in node.items]
    return expressions.alternative(parts) if isinstance(node, Choice) else expressions.sequence(*parts)


def _has_anchor(node: Node) -> bool:
    if isinstance(node, (Sequence_, Choice)):
        return any(_has_anchor(item) for item in node.items)
    return isinstance(node, Anchor) or (isinstance(node, Repeat) and _has_anchor(node.item))


def _first_anchor(node: Node) -> Anchor:
    if isinstance(node, Anchor):
        return node
    items = (node.item,) if isinstance(node, Repeat) else () if isinstance(node, Chars) else node.items
    return next(_first_anchor(item) for item in items if _has_anchor(item))


def _branches(node: Node, pattern: str) -> list[list[Node]]:
    """The node as alternatives of sequences in which anchors stand free, not inside of groups."""
    if not _has_anchor(node):
        return [[node]]
    if isinstance(node, Anchor):
        return [[node]]
    if isinstance(node, Choice):
        result = [branch for item in node.items for branch in _branches(item, pattern)]
    elif isinstance(node, Sequence_):
        result = [[]]
        for item in node.items:
            options = _branches(item, pattern)
            if len(result) * len(options) > MAX_BRANCHES:
                break
            result = [[*left, *right] for left in result for right in options]
        else:
            return result
        result = []
    elif isinstance(node, Repeat) and node.most == 1:
        result = [*([[]] if node.least == 0 else []), *_branches(node.item, pattern)]
    else:
        anchor = _first_anchor(node)
        raise RegexError("an anchor inside a repetition", pattern=pattern, offset=anchor.offset)
    if not result or len(result) > MAX_BRANCHES:
        anchor = _first_anchor(node)
        raise RegexError("too many alternatives with anchors", pattern=pattern, offset=anchor.offset)
    return result


def _without_anchors(branch: list[Node], pattern: str) -> tuple[list[Node] | None, bool, bool]:
    """(items, whether the match begins at the text's start, whether it ends at its end); items None: cannot match.

    Before ^ and after $ only the empty match of an item is possible: those that have one are dropped."""
    starts = [i for i, item in enumerate(branch) if isinstance(item, Anchor) and item.at_start]
    ends = [i for i, item in enumerate(branch) if isinstance(item, Anchor) and not item.at_start]
    first, last = (starts[-1] if starts else 0), (ends[0] if ends else len(branch))
    for anchors, outside in ((starts[-1:], branch[:first]), (ends[:1], branch[last:])):
        for item in outside:
            anchor = branch[anchors[0]]
            assert isinstance(anchor, Anchor)
            # Python's $ also stands before a newline at the end, which an item behind it could then match.
            newline_end = anchor.before_newline and character_lengths(item)[1] > 0
            if character_lengths(item)[0] > 0 or newline_end:
                sign, side = ("^", "before") if anchor.at_start else ("$", "after")
                raise RegexError(
                    f"{sign} with text {side} it",
                    pattern=pattern,
                    offset=anchor.offset,
                    hint=f"write \\{sign} for the sign",
                )
    if first > last:  # $ ... ^: only the empty text is both at its start and at its end
        return (None if any(character_lengths(i)[0] > 0 for i in branch[last:first]) else []), True, True
    middle: list[Node] = [item for item in branch[first:last] if not isinstance(item, Anchor)]
    return middle, bool(starts), bool(ends)
