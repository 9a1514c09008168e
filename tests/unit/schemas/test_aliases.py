"""Fingerprints of other libraries, and the files that are derived from the schemas."""

from __future__ import annotations

import json
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint as fingerprint_of
from fastavro.schema import to_parsing_canonical_form

from meterfold_schemas import catalog, compatibility, derive, framing
from meterfold_schemas.catalog import ALIASES, Catalog, EventSchema
from meterfold_schemas.errors import Fatal
from meterfold_schemas.example_events import Example, examples

PACKAGE = files("meterfold_schemas")
SCHEMAS = [schema for name in catalog.names() for schema in catalog.all_versions(name)]

# What the libraries themselves computed for the schemas as they ship (hamba/avro 2.31, linkedin/goavro 2.10, 2.12 and
# 2.15, apache-avro 0.14, 0.17 and 0.22): the eight bytes that they put behind C3 01.
COMPUTED = {
    "logical types are kept": {
        "metric_defined.v1": "9c6f08c5a383fe47",
        "threshold_approaching.v1": "b99436c7009c3975",
        "threshold_cleared.v1": "211837a9cf3bc427",
        "threshold_defined.v1": "955e0aa8cbab40e4",
        "threshold_exceeded.v1": "4261131fc54edb36",
        "threshold_state.v1": "eda560bfa3e92ae6",
        "usage_aggregated.v1": "878a0a123b31bada",
        "usage_recorded.v1": "f69a6eec52c0f203",
    },
    "precision and scale are kept": {
        "metric_defined.v1": "d1f1f907b2f5ed31",
        "threshold_approaching.v1": "493fa1f7960f47db",
        "threshold_cleared.v1": "f143ca2b0ba39814",
        "threshold_defined.v1": "d4c964585edff1b3",
        "threshold_exceeded.v1": "063366e182579dc2",
        "threshold_state.v1": "a3d6128076ad1bed",
        "usage_aggregated.v1": "b1a31a11d3ca6c0c",
        "usage_recorded.v1": "a64e99e16841edc2",
    },
    "decimals get a name": {
        "metric_defined.v1": "d1f1f907b2f5ed31",
        "threshold_approaching.v1": "3ab06818286a9b1f",
        "threshold_cleared.v1": "cd4dab5b2239672b",
        "threshold_defined.v1": "9061af228439eb2f",
        "threshold_exceeded.v1": "002896bdbbbc0aa0",
        "threshold_state.v1": "072e5b961a31f4e8",
        "usage_aggregated.v1": "016a82ac15c09d98",
        "usage_recorded.v1": "a9de1bb657dd31e8",
    },
}


def label(schema: EventSchema) -> str:
    return schema.label


def plain(schema: EventSchema) -> dict[str, Any]:
    text = (PACKAGE / derive.PLAIN / f"{schema.label}.avsc").read_text(encoding="utf-8")
    definition: dict[str, Any] = json.loads(text)
    return definition


def crc(rule: str, definition: dict[str, Any]) -> str:
    return fingerprint_of(derive.canonical(definition, derive.RULES[rule][1]()), "CRC-64-AVRO")


def test_the_derived_files_are_current() -> None:
    found = {
        str(path.relative_to(str(PACKAGE))): path.read_text(encoding="utf-8")
        for path in Path(str(PACKAGE)).rglob("*.*")
        if path.suffix in (".json", ".jsonl", ".avsc") and path.parent.name != "examples"
    }
    released = {f"avro/{schema.label}.avsc" for schema in SCHEMAS} | {compatibility.RELEASED}
    found = {name: text for name, text in found.items() if name not in released}
    assert found == dict(derive.files()), "run: python -m meterfold_schemas.derive"


@pytest.mark.parametrize("rule", COMPUTED)
def test_a_rule_gives_what_the_library_computed(rule: str) -> None:
    here = {schema.label: schema for schema in SCHEMAS}
    assert {name: crc(rule, here[name].definition) for name in COMPUTED[rule]} == COMPUTED[rule]


def examples_of(schema: EventSchema) -> list[Example]:
    """The examples of the newest version: an older one is written by nobody any more."""
    if schema is not catalog.latest(schema.name):
        return []
    return [example for example in examples(schema.name) if example.schema is schema]


@pytest.mark.parametrize("schema", SCHEMAS, ids=label)
def test_libraries_that_are_here_agree_with_their_rules(schema: EventSchema) -> None:
    theirs = avro.schema.parse(json.dumps(schema.definition)).fingerprint("CRC-64-AVRO")
    assert crc("a type stays an object", schema.definition) == theirs.hex()
    specified = derive.canonical(schema.definition, derive.RULES[derive.SPECIFICATION][1]())
    assert specified == to_parsing_canonical_form(schema.definition)


@pytest.mark.parametrize("schema", SCHEMAS, ids=label)
def test_every_alias_is_known_in_both_byte_orders(schema: EventSchema) -> None:
    for rule in derive.RULES:
        fingerprint = bytes.fromhex(crc(rule, schema.definition))
        assert catalog.by_fingerprint(fingerprint) is schema
        assert catalog.by_fingerprint(fingerprint[::-1]) is schema
    known = json.loads((PACKAGE / derive.ALIASES).read_text(encoding="utf-8"))
    assert sum(alias["schema"] == schema.label for alias in known.values()) == len(derive.aliases(schema))


@pytest.mark.parametrize("schema", SCHEMAS, ids=label)
def test_a_value_with_an_alias_is_read_as_what_it_is(schema: EventSchema) -> None:
    for example in examples_of(schema):
        body = framing.encode(schema.name, example.record)[framing.HEADER_SIZE :]
        for fingerprint in derive.aliases(schema):
            header = catalog.MAGIC + bytes.fromhex(fingerprint)
            assert framing.decode(header + body) == (schema, example.record)


@pytest.mark.parametrize("schema", SCHEMAS, ids=label)
def test_the_plain_variant_has_the_same_fingerprint_by_every_rule_and_the_same_bytes(schema: EventSchema) -> None:
    definition = plain(schema)
    assert "logicalType" not in json.dumps(definition)
    assert {crc(rule, definition) for rule in derive.RULES} == {schema.fingerprint.hex()}
    theirs = avro.schema.parse(json.dumps(definition))
    assert theirs.fingerprint("CRC-64-AVRO") == schema.fingerprint
    for example in examples_of(schema):
        body = framing.encode(schema.name, example.record)[framing.HEADER_SIZE :]
        record: Any = schemaless_reader(BytesIO(body), parse_schema(definition), None)
        out = BytesIO()
        schemaless_writer(out, parse_schema(definition), record)
        assert out.getvalue() == body
        again: Any = avro.io.DatumReader(theirs).read(avro.io.BinaryDecoder(BytesIO(body)))
        assert again == record


def test_the_header_bytes_of_every_schema_ship() -> None:
    headers = json.loads((PACKAGE / derive.HEADERS).read_text(encoding="utf-8"))
    assert headers == {schema.label: schema.header.hex() for schema in SCHEMAS}
    assert headers["usage_recorded.v1"] == "c301bb032367be8b7bf0"


def test_an_alias_of_nothing_and_an_alias_that_is_a_schema_are_refused(tmp_path: Path) -> None:
    schema = catalog.latest("usage_recorded")
    (tmp_path / "usage_recorded.v1.avsc").write_text(json.dumps(schema.definition))
    for fingerprint, of in (("00" * 8, "usage_recorded.v2"), (schema.fingerprint.hex(), "usage_recorded.v1")):
        (tmp_path / ALIASES).write_text(json.dumps({fingerprint: {"schema": of, "libraries": "x"}}))
        with pytest.raises(Fatal, match=fingerprint):
            Catalog(tmp_path)


def test_a_schema_is_found_by_its_label() -> None:
    assert catalog.labelled("usage_recorded.v1") is catalog.latest("usage_recorded")
    assert catalog.labelled("usage_recorded.v9") is None
