"""Whether the schemas of this package are compatible with the released ones.

- A released file never changes and is never removed: `avro/released.json` has the SHA-256 of each.
- A value of every version is readable with every later version of the same schema, by Avro's schema resolution.

`make check` runs `python -m meterfold_schemas.compatibility`. With `--release` it adds the checksums of new versions,
and changes none.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.read import SchemaResolutionError

from meterfold_schemas.catalog import Catalog, EventSchema
from meterfold_schemas.errors import Fatal

__all__ = ["RELEASED", "changed_files", "problems", "records", "release", "unreadable"]

#: File name -> SHA-256 of every released schema.
RELEASED: Final = "avro/released.json"

# What fastavro raises where two schemas do not resolve, or where a value does not fit.
_UNRESOLVED: Final = (ArithmeticError, EOFError, LookupError, TypeError, ValueError, SchemaResolutionError)


def problems(package: Path) -> list[str]:
    """What is wrong with the schemas in `package`/avro, one sentence each; empty if they are compatible."""
    changed = changed_files(package)
    try:
        catalog = Catalog(package / "avro")
    except Fatal as error:
        return [*changed, str(error)]
    return [*changed, *unreadable(catalog)]


def changed_files(package: Path) -> list[str]:
    """Released files that are missing or changed, and schema files that are not released."""
    released = _released(package)
    here = {path.name: _checksum(path) for path in (package / "avro").glob("*.avsc")}
    return [
        *(f"{name} was released and is missing: restore it" for name in sorted(released.keys() - here.keys())),
        *(
            f"{name} was released and has changed: restore it, and make the change in a new version"
            for name in sorted(released.keys() & here.keys())
            if released[name] != here[name]
        ),
        *(
            f"{name} is not released: run `python -m meterfold_schemas.compatibility --release`"
            for name in sorted(here.keys() - released.keys())
        ),
    ]


def unreadable(catalog: Catalog) -> list[str]:
    """Pairs of versions of which the later one cannot read every value of the earlier one."""
    found = []
    for name in catalog.names():
        for writer, reader in combinations(catalog.all_versions(name), 2):
            try:
                for record in records(writer):
                    _resolve(writer, reader, record)
            except _UNRESOLVED as error:
                found.append(f"{reader.label} cannot read a value of {writer.label}: {type(error).__name__}: {error}")
    return found


def records(schema: EventSchema) -> Iterator[dict[str, Any]]:
    """Raw records that use every branch of every field at least once."""
    branches = {field["name"]: list(_values(field["type"])) for field in schema.definition["fields"]}
    first = {name: values[0] for name, values in branches.items()}
    yield first
    for name, values in branches.items():
        for value in values[1:]:
            yield {**first, name: value}


def release(package: Path) -> list[str]:
    """Add the checksums of new files. Returns their names."""
    released = _released(package)
    added = {path.name: _checksum(path) for path in (package / "avro").glob("*.avsc") if path.name not in released}
    text = json.dumps(dict(sorted({**released, **added}.items())), indent=2) + "\n"
    (package / RELEASED).write_text(text, encoding="utf-8")
    return sorted(added)


def _released(package: Path) -> dict[str, str]:
    path = package / RELEASED
    found: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _resolve(writer: EventSchema, reader: EventSchema, record: dict[str, Any]) -> None:
    """Write and read with logical types: a decimal of another scale has other values, which raw bytes do not show."""
    out = BytesIO()
    schemaless_writer(out, writer.raw, record, strict=True)
    body = BytesIO(out.getvalue())
    read: Any = schemaless_reader(body, parse_schema(writer.definition), parse_schema(reader.definition))
    for name, kind in writer.fields.items():
        if kind != reader.fields.get(name, kind) or _decimal(writer, name) != _decimal(
            reader, name, _decimal(writer, name)
        ):
            raise ValueError(f"the field {name} has another logical type")
    if body.read() or read.keys() != reader.fields.keys():
        raise ValueError(f"it reads {sorted(read)}")


def _decimal(schema: EventSchema, name: str, absent: Any = None) -> Any:
    """Precision and scale of a field, where it is a decimal; `absent` for a field that the schema lacks."""
    kind: Any = next((field["type"] for field in schema.definition["fields"] if field["name"] == name), None)
    if kind is None:
        return absent
    for branch in kind if isinstance(kind, list) else [kind]:
        if isinstance(branch, dict) and branch.get("logicalType") == "decimal":
            return branch["precision"], branch["scale"]
    return None


def _values(kind: Any) -> Iterator[Any]:
    match kind:
        case list():
            for branch in kind:
                yield from _values(branch)
        case {"type": "array", "items": items}:
            yield []
            yield list(_values(items))
        case {"type": inner}:
            yield from _values(inner)
        case "null":
            yield None
        case "boolean":
            yield from (False, True)
        case "int" | "long":
            yield from (0, -1, 2**31 - 1)
        case "string":
            yield from ("", "text")
        case "bytes":
            yield b"\x01"
        case other:
            raise NotImplementedError(f"a value of the Avro type {other!r} is not written yet")


def main() -> int:
    """Print what is wrong with the schemas of this package; exit status 1 if anything is."""
    package = Path(__file__).parent
    if sys.argv[1:] == ["--release"]:
        for name in release(package):
            sys.stdout.write(f"released {name}\n")
    found = problems(package)
    for problem in found:
        sys.stdout.write(f"schemas: {problem}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
