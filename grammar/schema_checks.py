"""What can be said of a schema before anything is written: malformed keywords and patterns, references that lead
nowhere or in circles, what cannot be enforced; notes on what is ignored or narrowed; why nothing satisfies it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .errors import SchemaError
from .expressions import INFINITE
from .json_formats import FORMATS
from .json_keywords import check_keywords
from .json_layout import Style
from .schema_document import Document, join_all, subschemas
from .schema_shapes import KINDS, ArrayLimits, Conjunction, Located, ObjectLimits, StringLimits

if TYPE_CHECKING:
    from .json_schema import SchemaWriter

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_SAME_PLACE = frozenset((*_REFERENCES, "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas",
                         "dependencies"))  # fmt: skip
_ASKS_FOR_SHAPES = frozenset(("uniqueItems", "not", "if", "oneOf"))  # where uniqueItems may have to be refused
_MULTIPLIES = frozenset(("oneOf", "not", "if", "dependencies", "dependentRequired", "dependentSchemas"))
MAX_FAULT_DEPTH = 30  # levels of required values looked into for the one that cannot be


class Checks:
    """One walk over all schemas that can be reached from the root."""

    def __init__(self, writer: SchemaWriter, document: Document) -> None:
        self._writer, self._document = writer, document
        self._notes = writer.rules.notes
        self._same_place: dict[Located, list[Located]] = {}
        # What has good keywords, with those that count: shapes are asked for when all schemas have them.
        self._checked: list[tuple[Located, dict[str, Any]]] = []

    def run(self, root: Located) -> None:
        waiting, seen = [root], {root}
        tick = self._writer.rules.expressions.budget.tick
        while waiting:
            at = waiting.pop()
            tick()
            for child in self._schema(at):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
        self._look_for_circles()
        for at, schema in self._checked:
            self._shapes(at, schema)

    def _schema(self, at: Located) -> list[Located]:
        """Checks one schema; those that stand in it or that it refers to."""
        schema = at.schema
        assert at.resource is not None
        if at.resource.draft <= 7 and "$ref" in schema:
            schema = {"$ref": schema["$ref"]}
        check_keywords(schema, at.pointer, self._note)
        document = self._document
        found: list[Located] = []
        beside: list[Located] = []  # what holds for the same value
        for path, child in subschemas(schema):
            keyword = path[0]
            if keyword not in ("$defs", "definitions"):
                located = document.child(at, child, *path)
                found.append(located)
                if keyword in _SAME_PLACE:
                    beside.append(located)
        for keyword in _REFERENCES:
            if keyword in schema:
                located = document.resolve(at, keyword)
                found.append(located)
                beside.append(located)
        if beside:
            self._same_place[at] = beside
        strings = self._writer.strings
        if "pattern" in schema:
            strings.is_empty(StringLimits(patterns=((schema["pattern"], at.pointer),)))
        for pattern in schema.get("patternProperties", ()):
            strings.is_empty(StringLimits(patterns=((pattern, f"{at.pointer}/patternProperties"),)))
        if "format" in schema:
            self._format(schema["format"], at.pointer)
        if len(schema.get("properties", ())) > 1:
            self._order(schema, at.pointer)
        self._checked.append((at, schema))
        return [child for child in found if isinstance(child.schema, dict)]

    def _note(self, pointer: str, keyword: str, message: str) -> None:
        self._notes.append((pointer, keyword, message))

    def _format(self, name: str, pointer: str) -> None:
        if not self._writer.options.assert_formats:
            self._note(pointer, "format", f"{name} is an annotation here and not enforced")
        elif name not in FORMATS:
            self._note(pointer, "format", f"{name} is no format of the standard and not enforced")

    def _order(self, schema: dict[str, Any], pointer: str) -> None:
        order = self._writer.options.order
        if order == "schema" or (order == "auto" and schema["properties"].keys() <= set(schema.get("required", ()))):
            self._note(pointer, "properties", "come in the order of the schema; order='any' lets them come in any")
        elif order == "required-first":
            self._note(pointer, "properties", "come in the order of the schema, those required first")

    def _shapes(self, at: Located, schema: dict[str, Any]) -> None:
        """What only the shapes of a schema tell: those that cannot be had are refused before anything is written."""
        algebra = self._writer.algebra
        if self._writer.has_unique and not _ASKS_FOR_SHAPES.isdisjoint(schema):
            self._unique(at)
        if not _MULTIPLIES.isdisjoint(schema):
            for kind in algebra.kinds((at,)):
                algebra.shapes((at,), kind)

    def _unique(self, at: Located) -> None:
        """Whatever uniqueItems or its negation asks for here and in negated members."""
        algebra, tick = self._writer.algebra, self._writer.rules.expressions.budget.tick
        if at.schema.get("uniqueItems") is True:
            self._writer.plans((at,), False)
            self._note(at.pointer, "uniqueItems", "equal values are told by their text, so each is spelled in one way")
        start: Conjunction = (at,)
        waiting, seen = [start], {start}
        while waiting:
            conjunction = waiting.pop()
            tick()
            for kind in ("array", "object"):
                for shape in algebra.shapes(conjunction, kind):
                    for inner in _members(shape.limits):
                        if inner not in seen and any(located.negated for located in inner):
                            seen.add(inner)
                            waiting.append(inner)

    def _look_for_circles(self) -> None:
        """Schemas that hold for a value if they hold for it: refused where that is ever asked."""
        done: set[Located] = set()
        for start in self._same_place:
            if start in done:
                continue
            path, open_ = [(start, iter(self._same_place[start]))], {start}
            while path:
                at, rest = path[-1]
                following = next(rest, None)
                if following is None:
                    path.pop()
                    open_.discard(at)
                    done.add(at)
                elif following in open_:
                    for kind in KINDS:
                        self._writer.algebra.shapes((following,), kind)
                elif following not in done and following in self._same_place:
                    open_.add(following)
                    path.append((following, iter(self._same_place[following])))


def _members(limits: ObjectLimits | ArrayLimits) -> Iterator[Conjunction]:
    if isinstance(limits, ObjectLimits):
        yield from (named.conjunction for _, named in limits.named)
        yield from (rule.conjunction for rule in (*limits.rules, *limits.needs))
    else:
        yield from limits.prefix
        yield limits.rest
        for claim in limits.claims:
            yield (claim.at,)
            if claim.most < INFINITE:
                yield (claim.at.negation(),)


def unsatisfiable(writer: SchemaWriter, document: Document, root: Located) -> SchemaError:
    """The error of a schema that no value satisfies: at the innermost required value that cannot be, if evident."""
    at, inside, style = root, "", Style()
    for _ in range(MAX_FAULT_DEPTH):
        schema = at.schema
        if not isinstance(schema, dict) or schema.get("type") != "object":
            break
        for name in schema.get("required", ()):
            value = schema.get("properties", {}).get(name, True)
            conjunction = document.conjunction(at, value, "properties", name)
            if writer.size(conjunction, style) >= INFINITE:
                inside = f"required property {name!r} can have no value: "
                pointer = join_all(at.pointer, ("properties", name))
                at = conjunction[0] if isinstance(conjunction[0].schema, dict) else Located(value, pointer, None, ())
                break
        else:
            break
    return SchemaError(f"{inside}no value satisfies this schema", pointer=at.pointer, value=at.schema)
