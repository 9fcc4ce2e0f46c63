"""Constraints that someone might send to bring a server down, by name.  Each is made when asked for: some are large."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forktree.grammar import Constraint

DEEP = 10_000
LONG = 100_000

Schema = Any


def _nested(depth: int, around: Callable[[Schema], Schema]) -> Schema:
    schema: Schema = {"type": "integer"}
    for _ in range(depth):
        schema = around(schema)
    return schema


def _conflicting(count: int) -> list[Schema]:
    """Each part alone is harmless; all of them together allow nothing, or nearly so."""
    parts: list[Schema] = []
    for i in range(count):
        kinds = (
            {"multipleOf": 2 * i + 3},
            {"type": "string", "pattern": f"^[a-z]{{{i}}}[^{chr(97 + i % 26)}]"},
            {"properties": {f"p{i}": {"const": i}}, "required": [f"p{i}"], "additionalProperties": i % 3 == 0},
            {"anyOf": [{"minimum": i}, {"maxLength": i}, {"required": [f"q{i}"]}]},
            {"not": {"const": i}},
        )
        parts.append(kinds[i % len(kinds)])
    return parts


def _objects(count: int, **more: Any) -> Schema:
    return {"type": "object", "properties": {f"key{i}": {"type": "integer"} for i in range(count)}, **more}


SCHEMAS: dict[str, Callable[[], Schema]] = {
    "nested arrays": lambda: _nested(DEEP, lambda inner: {"type": "array", "items": inner}),
    "nested properties": lambda: _nested(DEEP, lambda inner: {"properties": {"a": inner}, "required": ["a"]}),
    "nested allOf": lambda: _nested(DEEP, lambda inner: {"allOf": [inner]}),
    "nested anyOf": lambda: _nested(DEEP, lambda inner: {"anyOf": [inner, {"type": "null"}]}),
    "nested not": lambda: _nested(DEEP, lambda inner: {"not": inner}),
    "nested as text": lambda: '{"items":' * DEEP + "{}" + "}" * DEEP,
    "nested brackets as text": lambda: "[" * DEEP,
    "nested const as text": lambda: '{"const":' + "[" * DEEP + "]" * DEEP + "}",
    "enum of 1 MB": lambda: {"enum": [f"{i:05} " + "x" * 14 for i in range(50_000)]},
    "enum of numbers": lambda: {"enum": [i * 7919 for i in range(100_000)]},
    "enum of one long string": lambda: {"enum": ["é" * 500_000]},
    "const of 1 MB": lambda: {"const": [[i, str(i)] for i in range(60_000)]},
    "ref to itself": lambda: {"$ref": "#"},
    "refs in a circle": lambda: {
        "$ref": "#/$defs/a",
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
    },
    "allOf itself": lambda: {"allOf": [{"$ref": "#"}, {"type": "integer"}]},
    "anyOf itself": lambda: {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    "not itself": lambda: {"not": {"$ref": "#"}},
    "if itself": lambda: {"if": {"$ref": "#"}, "then": {"type": "null"}},
    "dynamic ref to itself": lambda: {"$dynamicAnchor": "x", "$dynamicRef": "#x"},
    "only endless values": lambda: {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "chain of refs": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(DEEP)} | {f"d{DEEP}": {}},
    },
    "refs that double": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{i}": {"prefixItems": [{"$ref": f"#/$defs/d{i + 1}"}] * 2, "minItems": 2} for i in range(60)}
        | {"d60": {"type": "null"}},
    },
    "allOf that doubles": lambda: {
        "$ref": "#/$defs/d0",
        "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(60)}
        | {"d60": {"type": "null"}},
    },
    "allOf of 500 conflicting parts": lambda: {"allOf": _conflicting(500)},
    "allOf of 500 patterns": lambda: {
        "type": "string",
        "allOf": [{"pattern": f"x{{{i}}}.*y{{{i % 7}}}"} for i in range(500)],
    },
    "allOf of 500 multiples": lambda: {"type": "integer", "allOf": [{"multipleOf": n} for n in range(3, 1003, 2)]},
    "allOf of 200 anyOf": lambda: {
        "allOf": [{"anyOf": [{"required": [f"a{i}"]}, {"required": [f"b{i}"]}]} for i in range(200)],
        "type": "object",
    },
    "oneOf of 300 that overlap": lambda: {
        "oneOf": [{"properties": {f"p{i}": {"type": "integer"}}, "minProperties": i % 5} for i in range(300)]
    },
    "anyOf of 1,000 objects": lambda: {
        "anyOf": [_objects(3, required=[f"key{i % 3}"], title=str(i), maxProperties=i + 1) for i in range(1000)]
    },
    "if ladder": lambda: _nested(
        300, lambda inner: {"if": {"required": ["a"]}, "then": {"minProperties": 2}, "else": inner}
    ),
    "not of 200 patterns": lambda: {
        "type": "string",
        "not": {"anyOf": [{"pattern": f"{i}.*{i}$"} for i in range(200)]},
    },
    "5,000 optional properties": lambda: _objects(5000),
    "5,000 properties, half required": lambda: _objects(5000, required=[f"key{i}" for i in range(0, 5000, 2)]),
    "5,000 properties closed": lambda: _objects(5000, additionalProperties=False, minProperties=2500),
    "2,000 patternProperties": lambda: {"patternProperties": {f"^a{i}.*{i}$": {"minimum": i} for i in range(2000)}},
    "dependents of 500 keys": lambda: _objects(
        500, dependentRequired={f"key{i}": [f"key{(i * 7 + 1) % 500}"] for i in range(500)}
    ),
    "a long pattern": lambda: {"type": "string", "pattern": "^" + "(a|b)?c" * (LONG // 7) + "$"},
    "a long format of unions": lambda: {
        "type": "string",
        "pattern": "|".join(f"w{i * 7919 % 99991}" for i in range(15_000)),
    },
    "pattern beside lengths": lambda: {
        "type": "string",
        "pattern": "^(a|bb|ccc)*$",
        "minLength": 50_000,
        "maxLength": 50_001,
    },
    "huge counts": lambda: {"type": "array", "minItems": 10**9, "maxItems": 10**12, "items": {"minLength": 10**9}},
    "huge maxima": lambda: {"maxLength": 10**18, "maxItems": 10**18, "maxProperties": 10**18},
    "many distinct items": lambda: {
        "type": "array",
        "uniqueItems": True,
        "minItems": 1000,
        "items": {"enum": list(range(999))},
    },
    "distinct items of an enum": lambda: {
        "type": "array",
        "uniqueItems": True,
        "minItems": 1000,
        "items": {"enum": [i * 7919 for i in range(2000)]},
    },
    "contains counted": lambda: {"type": "array", "contains": {"minimum": 5}, "minContains": 1000, "maxContains": 2000},
    "huge bounds": lambda: {"type": "integer", "minimum": -(10**400), "maximum": 10**400, "multipleOf": 7**200},
    "tiny multiples": lambda: {"type": "number", "multipleOf": 1e-300, "minimum": 1e-200, "maximum": 1e300},
    "a large prime": lambda: {"type": "integer", "multipleOf": 1_000_003},
    "NUL in names and values": lambda: {
        "properties": {"a\x00b": {"const": "\x00"}, "c": {"pattern": "^\x00+$"}},
        "required": ["a\x00b", "c"],
    },
    "lone surrogate in a value": lambda: {"enum": ["\ud800", "ok"]},
    "lone surrogate in a name": lambda: {"properties": {"\udfff": {}}, "required": ["\udfff"]},
    "lone surrogate in a pattern": lambda: {"type": "string", "pattern": "^\ud83d+$"},
    "lone surrogate in text": lambda: '{"const": "\\ud83d"}',
    "not a schema": lambda: {"type": 5, "properties": [], "items": "x", "required": {"a": 1}},
}

REGEXES: dict[str, Callable[[], str]] = {
    "counts within counts": lambda: "(a{1,1000}){1,1000}",
    "stars within stars": lambda: "((((a*)*)*)*)*",
    "nested groups": lambda: "(" * DEEP + "a" + ")" * DEEP,
    "nested optional groups": lambda: "(?:a" * DEEP + ")?" * DEEP,
    "unclosed groups": lambda: "(" * LONG,
    "stars of stars": lambda: "(?:" * DEEP + "a" + ")*" * DEEP,
    "optional then required": lambda: "a?" * 1000 + "a" * 1000,
    "counted optional then required": lambda: "(?:a?){1000}a{1000}",
    "far from the end": lambda: "(?s).*a.{500}",
    "many places at once": lambda: "(.*a){30}",
    "products of counts": lambda: "((a{1,100}b{1,100}){1,100}c{1,100}){1,100}",
    "one very long count": lambda: "[a-z]{1,100000000}",
    "an unbelievable count": lambda: "a{99999999999999999999}",
    "letters of all scripts": lambda: r"\p{L}{1,1000}\p{N}{1,1000}[^\p{L}]{1,1000}",
    "folded letters": lambda: "(?i)" + "ßſkKİ" * 2000,
    "100,000 characters": lambda: "x" * LONG,
    "100,000 characters with choices": lambda: "(ab|cd)?" * (LONG // 8),
    "50,000 optional characters": lambda: "a?" * 50_000,
    "50,000 letters of all scripts": lambda: r"\w" * 50_000,
    "20,000 words": lambda: "|".join(f"w{i * 7919 % 99991}x" for i in range(20_000)),
    "a class of 100,000 characters": lambda: "[" + "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))) * 5 + "]*",
    "NUL": lambda: "a\x00*[\x00-\x02]",
    "lone surrogates": lambda: "\ud800[\ud800-\udfff]",
    "quantifiers without end": lambda: "a" + "*" * LONG,
    "backslashes": lambda: "\\" * (LONG + 1),
    "lookarounds": lambda: "(?=a)" * DEEP,
}

LARKS: dict[str, Callable[[], str]] = {
    "nested groups": lambda: "start: " + "(" * DEEP + '"a"' + ")" * DEEP,
    "nested options": lambda: "start: " + "[" * DEEP + '"a"' + "]" * DEEP,
    "a pattern that is nested": lambda: "start: /" + "(" * DEEP + "a" + ")" * DEEP + "/",
    "a chain of rules": lambda: "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(DEEP)) + f'r{DEEP}: "a"\n',
    "a chain of terminals": lambda: "start: T0\n" + "".join(f"T{i}: T{i + 1}\n" for i in range(2000)) + 'T2000: "a"\n',
    "left recursion": lambda: 'start: start "a" | start start | "b" |\n',
    "hidden left recursion": lambda: 'start: e start "a" | "b"\ne: ("x" | f)?\nf: |\n',
    "a rule that is itself": lambda: "start: a\na: b\nb: a\n",
    "only endless texts": lambda: 'start: "a" start\n',
    "a terminal within itself": lambda: 'start: A\nA: "x" A | "y"\n',
    "ambiguous without bound": lambda: 'start: a*\na: b*\nb: ("x" | a)*\n',
    "a template within itself": lambda: 'start: _t{"a"}\n_t{x}: _t{(x x)}\n',
    "templates that double": lambda: (
        "start: _t0{A}\nA: /a/\n"
        + "".join(f"_t{i}{{x}}: _t{i + 1}{{x}} _t{i + 1}{{x}}\n" for i in range(40))
        + "_t40{x}: x\n"
    ),
    "counts": lambda: 'start: (("a"~1..1000)~1..1000)~1..1000\n',
    "a large count": lambda: 'start: "a"~1000000\n',
    "20,000 words": lambda: "start: " + " | ".join(f'"w{i * 7919 % 99991}"' for i in range(20_000)),
    "190 KB of rules": lambda: (
        "start: r0\n"
        + "".join(f'r{i}: "a{i}" (r{i + 1} | "(" r{i // 2} ")")* /[a-z]{{{i % 9 + 1}}}/\n' for i in range(3_500))
        + 'r3500: "b"\n'
    ),
    "300 rules that begin with each other": lambda: (
        "start: r0\n" + "".join(f'r{i}: r{(i + 1) % 300} "a{i}" | r{i * 7 % 300} "b" | "c{i}"\n' for i in range(300))
    ),
    "a long text": lambda: 'start: "' + "x" * LONG + '"',
    "a missing import": lambda: "%import .secrets.KEY\nstart: KEY\n",
    "an import of a path": lambda: "%import ..etc.passwd.X\nstart: X\n",
    "an unknown rule": lambda: "start: nowhere\n",
    "NUL": lambda: 'start: "\x00" /\x00/\n',
    "lone surrogate": lambda: 'start: "\ud800" | "a"\n',
    "nothing": lambda: "",
    "ignored everywhere": lambda: 'start: A+\nA: "a"\n%ignore /(a|b)*/\n%ignore /[^\\n]*/\n',
}

GBNFS: dict[str, Callable[[], str]] = {
    "nested groups": lambda: "root ::= " + "(" * DEEP + '"a"' + ")" * DEEP,
    "left recursion": lambda: 'root ::= root "a" | "b"',
    "a rule that is itself": lambda: "root ::= root",
    "a chain of rules": lambda: (
        "root ::= r0\n" + "".join(f"r{i} ::= r{i + 1}\n" for i in range(DEEP)) + f'r{DEEP} ::= "a"\n'
    ),
    "counts": lambda: "root ::= ([a-z]{1,1000} ){1,1000}",
    "a large count": lambda: "root ::= [a-z]{1,1000000000}",
    "22,000 rules": lambda: (
        "root ::= r0\n" + "".join(f'r{i} ::= "key{i}" [a-z]+ (r{(i * 7 + 1) % 22_000})?\n' for i in range(22_000))
    ),
    "45,000 words": lambda: "root ::= " + " | ".join(f'"w{i * 7919 % 99991}x"' for i in range(45_000)),
    "stars within stars": lambda: 'root ::= ((("a"*)*)*)*',
    "an unknown rule": lambda: "root ::= nowhere",
    "no root": lambda: 'other ::= "a"',
    "unclosed": lambda: 'root ::= "' + "x" * LONG,
    "NUL": lambda: 'root ::= "\x00"',
    "lone surrogate": lambda: 'root ::= "\ud800"',
}

TAGS: dict[str, Callable[[], dict[str, Any]]] = {
    "an empty trigger": lambda: {"structures": [{"begin": "<f>", "schema": {}, "end": "</f>"}], "triggers": [""]},
    "no trigger": lambda: {"structures": [], "triggers": []},
    "triggers within triggers": lambda: {
        "structures": [{"begin": f"{'<' * i}f>", "schema": {"type": "null"}, "end": "</f>"} for i in range(1, 200)],
        "triggers": ["<" * i for i in range(1, 200)],
    },
    "2,000 tags": lambda: {
        "structures": [{"begin": f"<f{i}>", "schema": _objects(3), "end": f"</f{i}>"} for i in range(2000)],
        "triggers": ["<f"],
    },
    "a long trigger": lambda: {
        "structures": [{"begin": "ab" * LONG, "schema": {}, "end": ""}],
        "triggers": ["ab" * (LONG // 2)],
    },
    "a trigger that nothing begins with": lambda: {
        "structures": [{"begin": "a", "schema": {}, "end": ""}],
        "triggers": ["b"],
    },
    "a schema that nothing satisfies": lambda: {
        "structures": [{"begin": "<f>", "schema": {"allOf": _conflicting(500)}, "end": "</f>"}],
        "triggers": ["<f>"],
    },
    "NUL and surrogates": lambda: {
        "structures": [{"begin": "\x00\ud800", "schema": {"const": "\x00"}, "end": "\x00"}],
        "triggers": ["\x00"],
    },
}


def _any_order(make: Callable[[], Schema]) -> Callable[[], Constraint]:
    return lambda: Constraint.json_schema(make(), order="any")


def _inputs() -> dict[str, Callable[[], Constraint]]:
    """Late binding: what a Constraint lacks fails when its input is asked for."""
    found: dict[str, Callable[[], Constraint]] = {}
    for name, schema in SCHEMAS.items():
        found[f"schema: {name}"] = lambda schema=schema: Constraint.json_schema(schema())  # type: ignore[misc]
    for name in ("5,000 optional properties", "5,000 properties, half required", "dependents of 500 keys"):
        found[f"schema, any order: {name}"] = _any_order(SCHEMAS[name])
    for name, pattern in REGEXES.items():
        found[f"regex: {name}"] = lambda pattern=pattern: Constraint.regex(pattern())  # type: ignore[misc]
    for name, text in LARKS.items():
        found[f"lark: {name}"] = lambda text=text: Constraint.lark(text())  # type: ignore[misc]
    for name, text in GBNFS.items():
        found[f"gbnf: {name}"] = lambda text=text: Constraint.gbnf(text())  # type: ignore[misc]
    for name, tag in TAGS.items():
        found[f"tag: {name}"] = lambda tag=tag: Constraint.structural_tag(tag())  # type: ignore[misc]
    return found


INPUTS = _inputs()
