"""What is made of the declarations of this package and ships with it. `python -m meterfold_schemas.derive` writes it.

- `avro/headers.json`: the ten bytes before every value of each schema, in hexadecimal
- `avro/plain/*.avsc`: each schema without logical types. It has the same fingerprint and the same bytes; a library that
  keeps logical types in the canonical form computes the right fingerprint from it
- `avro/aliases.json`: the fingerprints that other libraries compute for the schemas as they are
- `json_schema/*.schema.json`: JSON Schema of every event and definition (json_schemas.py)
- `asyncapi.json`: the AsyncAPI document of every topic (asyncapi.py)
- `vectors/*.jsonl`: test vectors for producers (usage_vectors.py)

A fingerprint is CRC-64-AVRO of the parsing canonical form. The Avro specification reduces a logical type to its
primitive type ([PRIMITIVES], [STRIP]). Several libraries write something else there, and some give the eight bytes in
big-endian order, while single-object encoding takes them in little-endian order. The value behind the header is the
same, so each of these fingerprints is an alias of the schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from fastavro.schema import fingerprint as fingerprint_of

from meterfold_schemas import asyncapi, catalog, json_schemas, usage_vectors
from meterfold_schemas.catalog import EventSchema, without_logical_types

__all__ = ["ALIASES", "ASYNCAPI", "HEADERS", "JSON", "PLAIN", "RULES", "aliases", "canonical", "files"]

HEADERS: Final = "avro/headers.json"
ALIASES: Final = f"avro/{catalog.ALIASES}"
PLAIN: Final = "avro/plain"
JSON: Final = "json_schema"
ASYNCAPI: Final = "asyncapi.json"

_BIG_ENDIAN: Final = ", in big-endian order"

Logical = dict[str, Any]
Renderer = Callable[[Logical], Any]
"""How a rule writes a type such as {"type": "long", "logicalType": "timestamp-micros"}."""


def _primitive(logical: Logical) -> Any:
    return logical["type"]


def _kept(*attributes: str) -> Renderer:
    return lambda logical: {name: logical[name] for name in ("type", *attributes) if name in logical}


def _named_decimals() -> Renderer:
    """goavro names the first decimal of each precision and scale."""
    seen = set[tuple[int, int]]()

    def render(logical: Logical) -> Any:
        if logical["logicalType"] == "decimal":
            size = (logical["precision"], logical["scale"])
            if size not in seen:
                seen.add(size)
                return {"name": f"{logical['type']}.decimal", "type": logical["type"]}
        return {"type": logical["type"]}

    return render


SPECIFICATION: Final = "the Avro specification"

#: rule -> the libraries that follow it, and a renderer for one schema. Each was read in their sources and compared with
#: what they compute for these schemas (tests/unit/test_schemas_aliases.py).
RULES: Final[dict[str, tuple[str, Callable[[], Renderer]]]] = {
    SPECIFICATION: (
        "Apache Avro for Java, C# and Ruby, fastavro (Python), gogen-avro and twmb/avro (Go), serde_avro_fast (Rust)",
        lambda: _primitive,
    ),
    "logical types are kept": (
        "hamba/avro 2 (Go), apache-avro up to 0.16 (Rust)",
        lambda: _kept("logicalType", "precision", "scale"),
    ),
    "precision and scale are kept": ("apache-avro from 0.17 on (Rust)", lambda: _kept("precision", "scale")),
    "a type stays an object": ("Apache Avro for Python", lambda: _kept()),
    "decimals get a name": ("linkedin/goavro 2 (Go)", _named_decimals),
}


def canonical(definition: Any, render: Renderer) -> str:
    """The canonical form of a schema, with logical types as the rule writes them."""
    return json.dumps(_form(definition, render), ensure_ascii=False, separators=(",", ":"))


def aliases(schema: EventSchema) -> dict[str, str]:
    """fingerprint (16 hexadecimal digits, in the order of the wire) -> the libraries that compute it."""
    found: dict[str, list[str]] = {}
    for libraries, renderer in RULES.values():
        little = bytes.fromhex(fingerprint_of(canonical(schema.definition, renderer()), "CRC-64-AVRO"))
        found.setdefault(little.hex(), []).append(libraries)
        found.setdefault(little[::-1].hex(), []).append(libraries + _BIG_ENDIAN)
    del found[schema.fingerprint.hex()]
    return {fingerprint: "; ".join(libraries) for fingerprint, libraries in found.items()}


def files() -> Iterator[tuple[str, str]]:
    """(path below the package, text) of everything that is derived."""
    yield ASYNCAPI, _json(asyncapi.document())
    yield usage_vectors.FILE, usage_vectors.text()
    for name, schema in json_schemas.schemas():
        yield f"{JSON}/{name}.schema.json", _json(schema)
    yield from _avro_files()


def _avro_files() -> Iterator[tuple[str, str]]:
    schemas = [schema for name in catalog.names() for schema in catalog.all_versions(name)]
    yield HEADERS, _json({schema.label: schema.header.hex() for schema in schemas})
    found = {
        fingerprint: {"schema": schema.label, "libraries": libraries}
        for schema in schemas
        for fingerprint, libraries in aliases(schema).items()
    }
    yield ALIASES, _json(found)
    for schema in schemas:
        yield f"{PLAIN}/{schema.label}.avsc", _json(without_logical_types(schema.definition))


def _form(node: Any, render: Renderer) -> Any:
    if isinstance(node, list):
        return [_form(branch, render) for branch in node]
    if isinstance(node, str):
        return node
    if "logicalType" in node:
        return render(node)
    match node["type"]:
        case "record":
            fields = [{"name": field["name"], "type": _form(field["type"], render)} for field in node["fields"]]
            return {"name": f"{node['namespace']}.{node['name']}", "type": "record", "fields": fields}
        case "array":
            return {"type": "array", "items": _form(node["items"], render)}
        case other:
            raise NotImplementedError(f"no schema had a {other!r} until now: say how libraries write it")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files of this package again."""
    folder = Path(__file__).parent
    for name, text in files():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
