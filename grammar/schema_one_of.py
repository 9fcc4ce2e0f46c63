"""oneOf: one member and none of the others, without multiplying out what a constant tells apart."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from .schema_judge import MAX_DISJOINT_DEPTH, Judge
from .schema_limits import constants_by_kind
from .schema_shapes import Located, Named, ObjectLimits, Shape, Shapes, value_key

if TYPE_CHECKING:
    from .schema_algebra import Algebra

Tags = dict[str, dict[Any, Any]]  # required property -> the values it may have, by key


class OneOf:
    def __init__(self, algebra: Algebra, judge: Judge) -> None:
        self._algebra, self._judge = algebra, judge

    def one_of(
        self, shapes: Shapes, context: Shapes, members: list[Located], options: list[Shapes], at: Located, kind: str
    ) -> list[Shape]:
        """`shapes`, each within one member and outside of all others that it could meet."""
        groups = [self._algebra.product(context, option, at) for option in options]
        tags = [[self.tags(shape, kind) for shape in group] for group in groups]
        result: list[Shape] = []
        for i, option in enumerate(options):
            if not groups[i]:
                continue
            others = [
                (members[j], common_tags(tags[j]))
                for j, group in enumerate(groups)
                if i != j and self._may_meet(groups[i], tags[i], group, tags[j], kind)
            ]
            result += self.outside_members(self._algebra.product(shapes, option, at), others, at, kind)
            self._algebra.bounded(result, at)
        return self._algebra.bounded(result, at)

    def outside_members(
        self, shapes: list[Shape], members: list[tuple[Located, Tags]], at: Located, kind: str
    ) -> list[Shape]:
        """`shapes` outside of all members; where a property tells members apart, value by value of it."""
        counts = Counter(name for _, tags in members for name in tags)
        name, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < 2:
            for member, _ in members:
                shapes = self._algebra.product(shapes, self._algebra.expand(member.negation(), kind), at)
            return shapes
        values = {key: value for _, tags in members for key, value in tags.get(name, {}).items()}
        listed = self._algebra.document.made({"enum": list(values.values())}, at)
        untagged = [(member, tags) for member, tags in members if name not in tags]
        result: list[Shape] = []
        other = Shape(ObjectLimits(((name, Named((listed.negation(),))),)))  # or the property is not there
        result += self.outside_members(self._algebra.product(shapes, [other], at), untagged, at, kind)
        for key, value in values.items():
            one = Named((self._algebra.document.made({"const": value}, at),))
            with_it = self._algebra.product(shapes, [Shape(ObjectLimits(((name, one),), (name,)))], at)
            with_it = [shape for shape in with_it if not self._judge.evidently_empty(shape, kind, MAX_DISJOINT_DEPTH)]
            left = [
                (member, {other: found for other, found in tags.items() if other != name})
                for member, tags in members
                if name not in tags or key in tags[name]
            ]
            if with_it:
                found = self.outside_members(with_it, left, at, kind)
                result += [shape for shape in found if not self._judge.evidently_empty(shape, kind, MAX_DISJOINT_DEPTH)]
            self._algebra.bounded(result, at)
        return result

    def _may_meet(self, a: Shapes, a_tags: list[Tags], b: Shapes, b_tags: list[Tags], kind: str) -> bool:
        for x, x_tags in zip(a, a_tags, strict=True):
            for y, y_tags in zip(b, b_tags, strict=True):
                self._algebra.budget.tick()
                if any(name in y_tags and values.keys().isdisjoint(y_tags[name]) for name, values in x_tags.items()):
                    continue
                if not self._judge.disjoint(x, y, kind):
                    return True
        return False

    def tags(self, shape: Shape, kind: str) -> Tags:
        """Required properties that have one of a few constants: by these most members of oneOf can be told apart."""
        tags: Tags = {}
        if kind == "object" and shape.values is None:
            named = dict(shape.limits.named)
            for name in shape.limits.required:
                for at in named[name].conjunction if name in named else ():
                    if isinstance(at.schema, dict) and not at.negated and "$ref" not in at.schema:
                        constants = constants_by_kind(at.schema)
                        if constants is not None:
                            tags[name] = {value_key(v): v for values in constants.values() for v in values}
        return tags


def common_tags(tags: list[Tags]) -> Tags:
    """What all alternatives have, with the values of any."""
    common = set.intersection(*map(set, tags)) if tags else set()
    return {name: {key: value for each in tags for key, value in each[name].items()} for name in common}
