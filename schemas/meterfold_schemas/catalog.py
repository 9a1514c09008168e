"""The Avro schemas that ship with this package, by name and version and by fingerprint.

A schema is a file `avro/<name>.v<N>.avsc`. A published file never changes and is never removed: a new shape is a new
file with the next number, and values of every older version stay readable with the newest as the reader's schema.
A fingerprint is CRC-64-AVRO of the parsing canonical form, so two versions must differ in more than docs or defaults.
Other libraries compute other fingerprints for the same schema; `avro/aliases.json` has those of known ones (derive.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Final, Literal

from fastavro.schema import SchemaParseException, parse_schema, to_parsing_canonical_form
from fastavro.schema import fingerprint as fingerprint_of

from meterfold_schemas.errors import Fatal

__all__ = [
    "ALIASES",
    "MAGIC",
    "Catalog",
    "EventSchema",
    "FieldKind",
    "all_versions",
    "by_fingerprint",
    "default",
    "fingerprints_of",
    "labelled",
    "latest",
    "names",
    "same_as",
    "without_logical_types",
]

#: The two bytes before the fingerprint in Avro's single-object encoding.
MAGIC: Final = b"\xc3\x01"

#: The file of a schema directory with other fingerprints of its schemas.
ALIASES: Final = "aliases.json"

FieldKind = Literal["decimal", "timestamp", "plain"]

_FILE = re.compile(r"(?P<name>[a-z][a-z0-9_]*)\.v(?P<version>[1-9]\d*)\.avsc")


@dataclass(frozen=True, slots=True, eq=False)
class EventSchema:
    """One version of one event's schema.

    `fingerprint` is 8 bytes, little endian; `header` is the 10 bytes before every value. `raw` is the definition
    parsed for fastavro without logical types: decimals as bytes, timestamps as long.
    """

    name: str
    version: int
    definition: dict[str, Any]
    fingerprint: bytes
    header: bytes
    raw: Any = field(repr=False)
    fields: dict[str, FieldKind] = field(repr=False)

    @property
    def label(self) -> str:
        """Name and version, as in the file's name: usage_recorded.v1."""
        return f"{self.name}.v{self.version}"


class Catalog:
    """The schemas of one directory, and their aliases. Raises Fatal for a directory that contradicts itself."""

    def __init__(self, directory: Traversable) -> None:
        self._versions: dict[str, list[EventSchema]] = {}
        self._by_fingerprint: dict[bytes, EventSchema] = {}
        for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
            if match := _FILE.fullmatch(entry.name):
                definition = json.loads(entry.read_text(encoding="utf-8"))
                self._add(_event_schema(match["name"], int(match["version"]), definition))
        for name, versions in self._versions.items():
            versions.sort(key=lambda schema: schema.version)
            if [schema.version for schema in versions] != list(range(1, len(versions) + 1)):
                raise Fatal(f"schema {name}: versions must count up from 1 without a gap, and none is ever removed")
        self._by_label = {schema.label: schema for versions in self._versions.values() for schema in versions}
        aliases = directory / ALIASES
        if aliases.is_file():
            self._add_aliases(json.loads(aliases.read_text(encoding="utf-8")))

    def _add_aliases(self, aliases: dict[str, dict[str, str]]) -> None:
        for fingerprint, alias in aliases.items():
            schema = self._by_label.get(alias["schema"])
            if schema is None or bytes.fromhex(fingerprint) in self._by_fingerprint:
                raise Fatal(
                    f"{ALIASES}: {fingerprint} cannot be an alias of {alias['schema']}: that schema is missing, or the "
                    "fingerprint belongs to another one"
                )
            self._by_fingerprint[bytes.fromhex(fingerprint)] = schema

    def _add(self, schema: EventSchema) -> None:
        other = self._by_fingerprint.setdefault(schema.fingerprint, schema)
        if other is not schema:
            raise Fatal(f"schemas {schema.label} and {other.label} look the same")
        self._versions.setdefault(schema.name, []).append(schema)

    def names(self) -> list[str]:
        return sorted(self._versions)

    def latest(self, name: str) -> EventSchema:
        """The newest version. Raises KeyError for an unknown name."""
        return self._versions[name][-1]

    def all_versions(self, name: str) -> list[EventSchema]:
        """Every version, oldest first."""
        return list(self._versions[name])

    def by_fingerprint(self, fingerprint: bytes) -> EventSchema | None:
        """The schema of a fingerprint (8 bytes in the order of the wire), its own or an alias."""
        return self._by_fingerprint.get(fingerprint)

    def fingerprints_of(self, name: str) -> dict[bytes, EventSchema]:
        """Every fingerprint of any version of a schema, aliases too."""
        return {found: schema for found, schema in self._by_fingerprint.items() if schema.name == name}

    def same_as(self, name: str, definition: Any) -> EventSchema | None:
        """The version of a schema that a definition (parsed JSON) from elsewhere is equal to, or None.

        The parsing canonical forms must be equal, so documentation and defaults do not matter. Logical types may be
        missing, since some libraries drop them; one that is there must be ours, or the same bytes would be another
        quantity or time.
        """
        try:
            form, logical = to_parsing_canonical_form(definition), _logical_types(definition)
        except (LookupError, TypeError, ValueError, SchemaParseException):
            return None
        for schema in self._versions.get(name, []):
            ours = _logical_types(schema.definition)
            if to_parsing_canonical_form(schema.definition) == form and logical.items() <= ours.items():
                return schema
        return None

    def labelled(self, label: str) -> EventSchema | None:
        """The schema of a label such as usage_recorded.v1."""
        return self._by_label.get(label)


@cache
def default() -> Catalog:
    """The catalog of this package, read once on first use."""
    return Catalog(files("meterfold_schemas") / "avro")


def names() -> list[str]:
    return default().names()


def latest(name: str) -> EventSchema:
    return default().latest(name)


def all_versions(name: str) -> list[EventSchema]:
    return default().all_versions(name)


def by_fingerprint(fingerprint: bytes) -> EventSchema | None:
    return default().by_fingerprint(fingerprint)


def fingerprints_of(name: str) -> dict[bytes, EventSchema]:
    return default().fingerprints_of(name)


def same_as(name: str, definition: Any) -> EventSchema | None:
    return default().same_as(name, definition)


def labelled(label: str) -> EventSchema | None:
    return default().labelled(label)


def _event_schema(name: str, version: int, definition: dict[str, Any]) -> EventSchema:
    fingerprint = bytes.fromhex(fingerprint_of(to_parsing_canonical_form(definition), "CRC-64-AVRO"))
    return EventSchema(
        name=name,
        version=version,
        definition=definition,
        fingerprint=fingerprint,
        header=MAGIC + fingerprint,
        raw=parse_schema(without_logical_types(definition)),
        fields={entry["name"]: _kind(entry["type"]) for entry in definition["fields"]},
    )


def _kind(avro_type: Any) -> FieldKind:
    branches = avro_type if isinstance(avro_type, list) else [avro_type]
    logical = {branch.get("logicalType") for branch in branches if isinstance(branch, dict)}
    if "decimal" in logical:
        return "decimal"
    return "timestamp" if "timestamp-micros" in logical else "plain"


def _logical_types(definition: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """field -> (logical type, scale) of those fields that have one."""
    found = {}
    for entry in definition["fields"]:
        branches = entry["type"] if isinstance(entry["type"], list) else [entry["type"]]
        for branch in branches:
            if isinstance(branch, dict) and "logicalType" in branch:
                found[entry["name"]] = (branch["logicalType"], branch.get("scale", 0))
    return found


def without_logical_types(node: Any) -> Any:
    """The same schema with plain types: fastavro reads and writes it twice as fast, and nothing is rounded."""
    if isinstance(node, list):
        return [without_logical_types(entry) for entry in node]
    if isinstance(node, dict):
        if "logicalType" in node:
            return node["type"]
        return {key: without_logical_types(value) for key, value in node.items()}
    return node
