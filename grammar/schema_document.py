"""Schema documents: what a reference names, which draft's rules hold where.

Here: base URIs ($id), anchors, JSON pointers, $ref, $dynamicRef, $recursiveRef; documents of a registry, by URI.
Nothing is ever fetched.  Not here: what keywords mean."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from .errors import GrammarTooComplex, SchemaError
from .json_keywords import ENFORCED, SUBSCHEMA, SUBSCHEMA_LIST, SUBSCHEMA_MAP
from .json_metaschemas import METASCHEMAS
from .schema_shapes import FALSE, TRUE, Conjunction, Located, join

MAX_NESTING = 300  # levels of schemas in schemas

DRAFTS = {"draft-03": 4, "draft-04": 4, "draft-06": 6, "draft-07": 7, "draft/2019-09": 2019, "draft/2020-12": 2020}
LATEST = 2020
_NAMES = frozenset(("$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor"))


class Resource:
    """A schema with a URI of its own.   anchors, dynamic: name -> (schema, pointer);  dynamic: of $dynamicAnchor"""

    def __init__(self, uri: str, root: Any, pointer: str, draft: int) -> None:
        self.uri, self.root, self.pointer, self.draft = uri, root, pointer, draft
        self.anchors: dict[str, tuple[Any, str]] = {}
        self.dynamic: dict[str, tuple[Any, str]] = {}


def draft_of(schema: Any, default: int) -> int:
    declared = schema.get("$schema") if isinstance(schema, dict) else None
    if isinstance(declared, str):
        return next((draft for name, draft in DRAFTS.items() if name in declared), default)
    return default


class Document:
    """The schema given, and those of the registry that it refers to.   text: of the schema given"""

    def __init__(self, root: Any, text: str, registry: Mapping[str, Any], draft: int | None) -> None:
        self._registry = {urldefrag(uri)[0]: schema for uri, schema in registry.items()}
        self._resources: dict[str, Resource] = {}
        self._nested: dict[int, Resource] = {}  # by id() of the schema that begins it
        self._interned: dict[tuple[int, tuple[Resource, ...]], Located] = {}
        self._kept: list[Any] = []  # made here, and alive for as long as their id() stands for them
        self._targets: dict[tuple[Located, str], Located] = {}
        # Two of the standard's own schemas, referred to by more than $schema, have dynamic references too.
        to_standard = text.count("json-schema.org/draft/20") > text.count('"$schema"')
        self._is_dynamic = "$dynamicRef" in text or "$recursiveRef" in text or to_standard or bool(registry)
        default = LATEST if draft is None else draft
        self._fixed_draft = draft
        main = self._load("", root, "#", draft_of(root, default) if draft is None else draft, text)
        self.root = self._located(root, "#", main, (main,) if self._is_dynamic else ())

    # ---- places ------------------------------------------------------------------------------------------------

    def child(self, at: Located, schema: Any, *path: str) -> Located:
        """A schema inside of the one at `at`; what is nothing but a reference is what it refers to."""
        if schema is True or schema == {}:
            return TRUE
        if schema is False:
            return FALSE
        known = self._interned.get((id(schema), at.scope))
        if known is None:
            pointer = at.pointer
            for name in path:
                pointer = join(pointer, name)
            assert at.resource is not None
            known = self._located(schema, pointer, at.resource, at.scope)
        return known

    def conjunction(self, at: Located, schema: Any, *path: str) -> Conjunction:
        located = self.child(at, schema, *path)
        return () if located is TRUE else (located,)

    def made(self, schema: Any, at: Located) -> Located:
        """A schema that stands in no document, in the place of one that does."""
        self._kept.append(schema)
        return self.child(at, schema)

    def _located(self, schema: Any, pointer: str, resource: Resource, scope: tuple[Resource, ...]) -> Located:
        if schema is True or schema == {}:
            return TRUE
        if schema is False:
            return FALSE
        if not isinstance(schema, dict):
            raise SchemaError("a schema is an object or a boolean", pointer=pointer, value=schema)
        key = (id(schema), scope)
        known = self._interned.get(key)
        if known is not None:
            return known
        inner = self._nested.get(id(schema), resource)
        inner_scope = scope
        if self._is_dynamic and inner not in scope:
            inner_scope = (*scope, inner)
        located = Located(schema, pointer, inner, inner_scope)
        seen = {id(schema)}
        while located.resource is not None and _is_plain(located.schema, located.resource):
            target = self._resolve(located, "$ref")
            if id(target.schema) in seen:
                raise SchemaError("a reference that leads back to itself", pointer=located.pointer, keyword="$ref")
            seen.add(id(target.schema))
            located = target
        self._interned[key] = located
        return located

    # ---- references --------------------------------------------------------------------------------------------

    def resolve(self, at: Located, keyword: str) -> Located:
        """The schema that $ref, $dynamicRef or $recursiveRef of the schema at `at` names."""
        known = self._targets.get((at, keyword))
        if known is None:
            known = self._resolve(at, keyword)
            if known is not TRUE and known is not FALSE:
                assert known.resource is not None
                known = self._located(known.schema, known.pointer, known.resource, known.scope)
            self._targets[at, keyword] = known
        return known

    def _resolve(self, at: Located, keyword: str) -> Located:
        reference = at.schema[keyword]
        resource, fragment = self._resource_of(at, keyword)
        if keyword == "$recursiveRef":
            if resource.root.get("$recursiveAnchor") is True:
                resource = next(r for r in (*at.scope, resource)
                                if isinstance(r.root, dict) and r.root.get("$recursiveAnchor") is True)  # fmt: skip
            return self._entered(resource.root, resource.pointer, resource, at)
        if fragment and not fragment.startswith("/"):
            found = resource.anchors.get(fragment)
            if found is None:
                raise SchemaError("names nothing in this document", pointer=at.pointer, keyword=keyword,
                                  value=reference)  # fmt: skip
            if keyword == "$dynamicRef" and fragment in resource.dynamic:
                resource = next((r for r in at.scope if fragment in r.dynamic), resource)
                found = resource.dynamic[fragment]
            return self._entered(*found, resource, at)
        schema, pointer = resource.root, resource.pointer
        for token in fragment.split("/")[1:]:
            name = token.replace("~1", "/").replace("~0", "~")
            if isinstance(schema, dict) and name in schema:
                schema = schema[name]
            elif isinstance(schema, list) and name.isascii() and name.isdigit() and int(name) < len(schema):
                schema = schema[int(name)]
            else:
                raise SchemaError("names nothing in this document", pointer=at.pointer, keyword=keyword,
                                  value=reference)  # fmt: skip
            pointer = join(pointer, name)
            resource = self._nested.get(id(schema), resource)
        if not isinstance(schema, (dict, bool)):
            raise SchemaError("names something that is no schema", pointer=at.pointer, keyword=keyword, value=reference)
        return self._entered(schema, pointer, resource, at)

    def _entered(self, schema: Any, pointer: str, resource: Resource, at: Located) -> Located:
        scope = at.scope
        if self._is_dynamic and resource not in scope:
            scope = (*scope, resource)
        if schema is True or schema is False or schema == {}:
            return FALSE if schema is False else TRUE
        return Located(schema, pointer, resource, scope)

    def _resource_of(self, at: Located, keyword: str) -> tuple[Resource, str]:
        reference = at.schema[keyword]
        assert at.resource is not None
        if reference.startswith("#"):
            return at.resource, unquote(reference[1:])
        uri, fragment = urldefrag(urljoin(at.resource.uri, reference))
        found = self._resources.get(uri)
        schema = self._registry.get(uri)
        if schema is None and uri in METASCHEMAS:
            schema = json.loads(METASCHEMAS[uri])
        if found is None and schema is not None:
            draft = self._fixed_draft if self._fixed_draft is not None else draft_of(schema, at.resource.draft)
            found = self._load(uri, schema, f"{uri}#", draft, None)
        if found is None:
            raise SchemaError("a reference to a document that is not in the registry", pointer=at.pointer,
                              keyword=keyword, value=reference,
                              hint="Put the schema under $defs, or into the registry under this URI.")  # fmt: skip
        return found, unquote(fragment)

    # ---- identifiers -------------------------------------------------------------------------------------------

    def _load(self, uri: str, root: Any, pointer: str, draft: int, text: str | None) -> Resource:
        own = _identifier(root, draft)
        base = urldefrag(urljoin(uri, own))[0] if own else uri
        resource = Resource(base, root, pointer, draft)
        self._resources[uri] = self._resources[base] = resource
        if isinstance(root, dict):
            self._nested[id(root)] = resource
            word = '"id"' if draft == 4 else '"$id"'
            if text is None or "nchor" in text or text.count(word) > bool(own):
                self._index(root, resource)
        return resource

    def _index(self, root: Any, resource: Resource) -> None:
        waiting: list[tuple[Any, str, Resource]] = [(root, resource.pointer, resource)]
        while waiting:
            schema, pointer, resource = waiting.pop()
            draft = resource.draft
            if draft > 7 or "$ref" not in schema:
                own = _identifier(schema, draft)
                if own and schema is not resource.root:
                    uri, fragment = urldefrag(urljoin(resource.uri, own))
                    if own.startswith("#"):
                        resource.anchors[own[1:]] = (schema, pointer)
                    else:
                        inner = Resource(uri, schema, pointer, draft_of(schema, draft))
                        self._nested[id(schema)] = self._resources[uri] = resource = inner
                        if fragment:
                            resource.anchors[fragment] = (schema, pointer)
                for keyword in ("$anchor", "$dynamicAnchor"):
                    name = schema.get(keyword)
                    if draft > 7 and isinstance(name, str):
                        resource.anchors[name] = (schema, pointer)
                        if keyword == "$dynamicAnchor":
                            resource.dynamic[name] = (schema, pointer)
            waiting.extend((child, join_all(pointer, path), resource) for path, child in subschemas(schema))


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The schema objects that stand directly in one, with their paths."""
    for keyword, value in schema.items():
        if keyword in SUBSCHEMA and isinstance(value, dict):
            yield (keyword,), value
        elif keyword in SUBSCHEMA_LIST and isinstance(value, list):
            yield from (((keyword, str(i)), item) for i, item in enumerate(value) if isinstance(item, dict))
        elif keyword in SUBSCHEMA_MAP and isinstance(value, dict):
            yield from (((keyword, name), item) for name, item in value.items() if isinstance(item, dict))


def join_all(pointer: str, path: tuple[str, ...]) -> str:
    for name in path:
        pointer = join(pointer, name)
    return pointer


def check_nesting(root: Any) -> None:
    """GrammarTooComplex if schemas stand in schemas beyond all measure."""
    level = [(root, "#")]
    for _ in range(MAX_NESTING):
        level = [(child, join_all(pointer, path)) for schema, pointer in level for path, child in subschemas(schema)]
        if not level:
            return
    raise GrammarTooComplex(f"schemas are nested more than {MAX_NESTING} deep", place=level[0][1])


def _identifier(schema: Any, draft: int) -> str:
    found = schema.get("id" if draft == 4 else "$id") if isinstance(schema, dict) else None
    return found if isinstance(found, str) else ""


def _is_plain(schema: Any, resource: Resource) -> bool:
    if not isinstance(schema, dict) or not isinstance(schema.get("$ref"), str):
        return False
    if len(schema) == 1 or resource.draft <= 7:
        return True
    return not any(keyword in ENFORCED or keyword in _NAMES for keyword in schema if keyword != "$ref")
