"""One schema object's own keywords -> limits, and the limits of what does not satisfy them.

Its keywords have been checked.  Not here: keywords that combine schemas (schema_algebra.py)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .expressions import INFINITE
from .json_keywords import refuse
from .number_limits import ANY_NUMBER, MAX_DIGITS, MAX_MODULUS, NumberLimits, exact, has_few_digits, modulus_of
from .schema_document import Document
from .schema_shapes import (
    ANY_STRING,
    FALSE,
    KINDS,
    NO_VALUE,
    TRUE,
    UNSEEN,
    ArrayLimits,
    Claim,
    Conjunction,
    Evaluated,
    KeyRule,
    Limits,
    Located,
    Named,
    ObjectLimits,
    PlainLimits,
    Shape,
    StringLimits,
    is_void,
    kind_of,
    value_key,
)

TOP: dict[str, Limits] = {
    "null": PlainLimits(frozenset((None,))),
    "boolean": PlainLimits(frozenset((True, False))),
    "number": ANY_NUMBER,
    "string": ANY_STRING,
    "array": ArrayLimits(),
    "object": ObjectLimits(),
}
assert tuple(TOP) == KINDS
ANYTHING = {kind: Shape(limits) for kind, limits in TOP.items()}
ANYTHINGS = tuple(ANYTHING.values())


def names_kind(types: Any, kind: str) -> bool:
    """Whether the value of `type` admits values of a kind."""
    names = types if isinstance(types, list | tuple) else (types,)  # whatever it is: it may not be checked yet
    return kind in names or (kind == "number" and "integer" in names)


def is_integer_only(schema: dict[str, Any]) -> bool:
    types = schema.get("type")
    if isinstance(types, str):
        return types == "integer"
    return types is not None and "integer" in types and "number" not in types


def constants_by_kind(schema: dict[str, Any]) -> dict[str, tuple[Any, ...]] | None:
    """The values of enum and const, each once; None without these keywords."""
    if "enum" in schema:
        values = {value_key(v): v for v in schema["enum"]}
        if "const" in schema:
            key = value_key(schema["const"])
            values = {key: values[key]} if key in values else {}
    elif "const" in schema:
        values = {None: schema["const"]}
    else:
        return None
    result: dict[str, list[Any]] = {}
    for value in values.values():
        result.setdefault(kind_of(value), []).append(value)
    return {kind: tuple(found) for kind, found in result.items()}


class LimitsReader:
    def __init__(self, document: Document, *, assert_formats: bool, annotate: bool) -> None:
        self._document, self._assert_formats, self._annotate = document, assert_formats, annotate

    def inside(self, at: Located, kind: str) -> Limits:
        """What the schema at `at` asks of values of a kind."""
        schema = at.schema
        if kind == "string":
            return self._strings(schema, at.pointer)
        if kind == "number":
            return self._numbers(schema, at.pointer)
        if kind == "array":
            return self._arrays(at)
        if kind == "object":
            return self._objects(at)
        return TOP[kind]

    def evaluated(self, at: Located, kind: str) -> Evaluated:
        schema = at.schema
        if not self._annotate or kind not in ("array", "object"):
            return UNSEEN
        if kind == "object":
            patterns = tuple((p, "") for p in schema.get("patternProperties", ()))
            return Evaluated(
                frozenset(schema.get("properties", ())), patterns, everything="additionalProperties" in schema
            )
        assert at.resource is not None
        prefix, rest = _item_keywords(schema)
        items: Conjunction = ()
        everything = rest in schema
        if at.resource.draft >= 2020 and "contains" in schema:
            items = (self._document.child(at, schema["contains"], "contains"),)
            everything = everything or items == (TRUE,)
        return Evaluated(count=len(prefix), items=items, everything=everything)

    # ---- strings and numbers -----------------------------------------------------------------------------------

    def _strings(self, schema: dict[str, Any], pointer: str) -> StringLimits:
        if not _STRING_KEYWORDS & schema.keys():
            return ANY_STRING
        least, most = _counts(schema, pointer, "minLength", "maxLength")
        patterns = ((schema["pattern"], pointer),) if "pattern" in schema else ()
        formats = ((schema["format"], pointer),) if "format" in schema and self._assert_formats else ()
        return StringLimits(least, most, patterns, formats)

    def _numbers(self, schema: dict[str, Any], pointer: str) -> NumberLimits:
        limits = NumberLimits(whole=True) if is_integer_only(schema) else NumberLimits()
        if not _NUMBER_KEYWORDS & schema.keys():
            return limits
        for keyword, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            strict = schema.get(exclusive)
            bounds = [(schema[keyword], strict is True)] if keyword in schema else []
            if strict is not None and not isinstance(strict, bool):
                bounds.append((strict, True))
            for value, is_open in bounds:
                bound = exact(value)
                if not has_few_digits(bound):
                    refuse(keyword, value, pointer, f"has more than {MAX_DIGITS} digits")
                low = keyword == "minimum"
                limits = limits.within(
                    NumberLimits(bound, is_open) if low else NumberLimits(None, False, bound, is_open)
                )
        if "multipleOf" in schema:
            multiple = exact(schema["multipleOf"])
            if not has_few_digits(multiple) or modulus_of(multiple, limits.whole is True)[0] > MAX_MODULUS:
                why = f"is above {MAX_MODULUS:,} once its decimals are scaled away"
                refuse("multipleOf", schema["multipleOf"], pointer, why)
            limits = replace(limits, multiples=(multiple,))
        return limits

    # ---- arrays ------------------------------------------------------------------------------------------------

    def _arrays(self, at: Located) -> ArrayLimits:
        schema = at.schema
        if not _ARRAY_KEYWORDS & schema.keys():
            return ArrayLimits()
        least, most = _counts(schema, at.pointer, "minItems", "maxItems")
        prefix, rest = self._items(at)
        claims: tuple[Claim, ...] = ()
        if "contains" in schema:
            low, high = _counts({"minContains": 1, **schema}, at.pointer, "minContains", "maxContains")
            claims = (Claim(self._document.child(at, schema["contains"], "contains"), 0, low, high),)
        unique = at.pointer if schema.get("uniqueItems") is True and most > 1 else ""
        return ArrayLimits(prefix, rest, least, most, claims, unique)

    def _items(self, at: Located) -> tuple[tuple[Conjunction, ...], Conjunction]:
        schema, document = at.schema, self._document
        listed, rest = _item_keywords(schema)
        where = "prefixItems" if "prefixItems" in schema else "items"
        prefix = tuple(document.conjunction(at, item, where, str(i)) for i, item in enumerate(listed))
        return prefix, document.conjunction(at, schema.get(rest, True), rest)

    # ---- objects -----------------------------------------------------------------------------------------------

    def _objects(self, at: Located) -> ObjectLimits:
        schema = at.schema
        if not _OBJECT_KEYWORDS & schema.keys():
            return ObjectLimits()
        document = self._document
        least, most = _counts(schema, at.pointer, "minProperties", "maxProperties")
        properties = schema.get("properties", {})
        named = tuple(
            (name, Named(document.conjunction(at, value, "properties", name), at.pointer))
            for name, value in properties.items()
        )
        rules = tuple(KeyRule(keys, (located,)) for keys, located in self._key_rules(at) if located is not TRUE)
        required = schema.get("required", ())
        names = tuple(dict.fromkeys(required)) if isinstance(required, list) else ()
        return ObjectLimits(named, names, rules, (), least, most)

    def _key_rules(self, at: Located) -> list[tuple[StringLimits, Located]]:
        """patternProperties and additionalProperties: which names, and what their values satisfy."""
        schema, document = at.schema, self._document
        patterns = schema.get("patternProperties", {})
        pairs = [(pattern, f"{at.pointer}/patternProperties") for pattern in patterns]
        result = [
            (StringLimits(patterns=(pair,)), document.child(at, schema["patternProperties"][pair[0]],
                                                            "patternProperties", pair[0]))
            for pair in pairs
        ]  # fmt: skip
        if "additionalProperties" in schema:
            others = StringLimits(not_patterns=tuple(pairs), excluded=frozenset(schema.get("properties", ())))
            result.append((others, document.child(at, schema["additionalProperties"], "additionalProperties")))
        return result


def absent(name: str) -> ObjectLimits:
    return ObjectLimits(((name, Named(NO_VALUE)),))


def present(*names: str) -> ObjectLimits:
    return ObjectLimits(required=names)


def implied(name: str, names: tuple[str, ...]) -> ObjectLimits:
    """Where the one is, the others are."""
    return ObjectLimits(implied=((name, names),))


def without_implied(limits: ObjectLimits) -> Iterator[ObjectLimits]:
    """The same as alternatives in which properties simply are or are not."""
    if not limits.implied:
        yield limits
        return
    (name, names), *rest = limits.implied
    left = replace(limits, implied=tuple(rest))
    for piece in (absent(name), present(name, *names)):
        both = left.within(piece)
        if not is_void(both):
            yield from without_implied(both)


def _negated(located: Located) -> Conjunction:
    return () if located is FALSE else (located.negation(),)


def outside(limits: Limits, pointer: str) -> list[Limits]:
    """The values of a kind that are not within limits."""
    if isinstance(limits, ArrayLimits):
        return _outside_array(limits, pointer)
    if isinstance(limits, ObjectLimits):
        return _outside_object(limits)
    return [] if isinstance(limits, PlainLimits) else list(limits.outside())


def _outside_array(whole: ArrayLimits, pointer: str) -> list[Limits]:
    result: list[Limits] = []
    if whole.unique:
        refuse("uniqueItems", True, pointer, "cannot be negated")
    if whole.least:
        result.append(ArrayLimits(most=whole.least - 1))
    if whole.most < INFINITE:
        result.append(ArrayLimits(least=whole.most + 1))
    anything: Conjunction = ()
    for i, conjunction in enumerate(whole.prefix):
        for located in conjunction:
            result.append(ArrayLimits((*[anything] * i, _negated(located)), least=i + 1))
    count = len(whole.prefix)
    for located in whole.rest:
        claim = Claim(located.negation(), count, 1, INFINITE)
        result.append(ArrayLimits(least=count + 1, claims=(claim,)))
    for claim in whole.claims:
        if claim.least:
            result.append(ArrayLimits(claims=(claim._replace(least=0, most=claim.least - 1),)))
        if claim.most < INFINITE:
            result.append(ArrayLimits(claims=(claim._replace(least=claim.most + 1, most=INFINITE),)))
    return result


def _outside_object(whole: ObjectLimits) -> list[Limits]:
    named = dict(whole.named)
    result: list[Limits] = []
    for name in whole.required:
        if name in named and named[name].conjunction:  # absent, or there with a value that fails
            result += [ObjectLimits(((name, Named(_negated(at))),)) for at in named[name].conjunction]
        else:
            result.append(absent(name))
    for name, value in whole.named:
        if name not in whole.required:
            for located in value.conjunction:
                result.append(ObjectLimits(((name, Named(_negated(located))),), required=(name,)))
    for rule in whole.rules:
        for located in rule.conjunction:
            result.append(ObjectLimits(needs=(KeyRule(rule.keys, _negated(located)),)))
    for need in whole.needs:
        assert len(need.conjunction) < 2, "a need comes from one schema"
        fails = (need.conjunction[0].negation(),) if need.conjunction else NO_VALUE
        result.append(ObjectLimits(rules=(KeyRule(need.keys, fails),)))
    for name, names in whole.implied:
        result += [absent(other).within(present(name)) for other in names]
    if whole.least:
        result.append(ObjectLimits(most=whole.least - 1))
    if whole.most < INFINITE:
        result.append(ObjectLimits(least=whole.most + 1))
    return result


def _item_keywords(schema: dict[str, Any]) -> tuple[list[Any], str]:
    """(schemas of the first items, the keyword for all others), of whichever draft."""
    if "prefixItems" in schema:
        return schema["prefixItems"], "items"
    items = schema.get("items")
    return (items, "additionalItems") if isinstance(items, list) else ([], "items")


def _counts(schema: dict[str, Any], pointer: str, lower: str, upper: str) -> tuple[int, int]:
    return int(schema.get(lower, 0)), int(schema[upper]) if upper in schema else INFINITE


_STRING_KEYWORDS = {"minLength", "maxLength", "pattern", "format"}
_NUMBER_KEYWORDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_ARRAY_KEYWORDS = {"minItems", "maxItems", "items", "prefixItems", "contains", "uniqueItems"}
_OBJECT_KEYWORDS = {
    "properties", "required", "patternProperties", "additionalProperties", "minProperties", "maxProperties"
}  # fmt: skip
