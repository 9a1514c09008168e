"""The schemas that ship: their fingerprints, their versions, and their examples."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
from fastavro.schema import fingerprint

from meterfold_schemas import catalog, framing
from meterfold_schemas.catalog import Catalog
from meterfold_schemas.errors import Fatal
from meterfold_schemas.example_events import Example, examples

KEPT = json.loads((Path(__file__).parent / "kept_bytes.json").read_text())
EXAMPLES = list(examples())

EVENTS = {
    "alert_acted",
    "endpoint_changed",
    "metric_defined",
    "threshold_approaching",
    "threshold_cleared",
    "threshold_defined",
    "threshold_exceeded",
    "threshold_state",
    "usage_aggregated",
    "usage_recorded",
}


#: What a field that a later version added says in a value of an earlier one.
ADDED: dict[str, dict[str, Any]] = {"metric_defined": {"dimensions": []}}


def label(example: Example) -> str:
    return f"{example.schema.name}.v{example.schema.version}.{example.case}"


def test_there_is_a_schema_for_every_event() -> None:
    assert set(catalog.names()) == EVENTS


def test_fingerprints_are_crc_64_avro_as_apache_avro_computes_it() -> None:
    for name in catalog.names():
        for schema in catalog.all_versions(name):
            # Apache's Python leaves {"type": "long"} of a logical type in its canonical form; Java and the
            # specification ([PRIMITIVES]) make it "long". Given plain types all agree.
            theirs = avro.schema.parse(json.dumps(plain_types(schema.definition))).fingerprint("CRC-64-AVRO")
            assert schema.fingerprint == theirs
            assert schema.header == b"\xc3\x01" + theirs
            assert catalog.by_fingerprint(schema.fingerprint) is schema


def test_a_fingerprint_of_avros_own_test_cases() -> None:
    """Avro's schema-tests.txt: the fingerprint of "int" is 8247732601305521295, written little endian."""
    assert bytes.fromhex(fingerprint('"int"', "CRC-64-AVRO")) == (8247732601305521295).to_bytes(8, "little")


def test_a_fingerprint_nobody_knows_gives_none() -> None:
    assert catalog.by_fingerprint(bytes(8)) is None


def test_every_field_and_schema_says_what_it_is() -> None:
    for name in catalog.names():
        definition = catalog.latest(name).definition
        assert definition["doc"]
        assert all(field["doc"] for field in definition["fields"])


def test_the_three_threshold_events_have_the_same_fields() -> None:
    shapes = [
        catalog.latest(f"threshold_{kind}").definition["fields"] for kind in ("approaching", "exceeded", "cleared")
    ]
    assert shapes[0] == shapes[1] == shapes[2]


def test_every_version_of_a_schema_has_several_examples() -> None:
    for name in catalog.names():
        for schema in catalog.all_versions(name):
            assert len([example for example in examples(name) if example.schema is schema]) >= 2


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Catalog]:
    """The catalog as it was when version N of a schema was the newest, by N."""
    found = {}
    for version in {example.schema.version for example in EXAMPLES}:
        folder = tmp_path_factory.mktemp(f"v{version}")
        for name in catalog.names():
            for schema in catalog.all_versions(name)[:version]:
                (folder / f"{name}.v{schema.version}.avsc").write_text(json.dumps(schema.definition))
        found[version] = Catalog(folder)
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=label)
def test_an_example_survives_the_wire(example: Example, catalogs: dict[int, Catalog]) -> None:
    name = example.schema.name
    data = framing.encode(name, example.record, catalog=catalogs[example.schema.version])
    newest = {**ADDED.get(name, {}), **example.record}
    assert framing.decode(data) == (example.schema, newest)
    again = framing.encode(name, newest)
    assert framing.decode(again) == (catalog.latest(name), newest)


@pytest.mark.parametrize("example", EXAMPLES, ids=label)
def test_another_avro_library_reads_our_bytes(example: Example, catalogs: dict[int, Catalog]) -> None:
    schema = avro.schema.parse(json.dumps(example.schema.definition))
    data = framing.encode(example.schema.name, example.record, catalog=catalogs[example.schema.version])
    body = BytesIO(data[framing.HEADER_SIZE :])
    theirs: Any = avro.io.DatumReader(schema).read(avro.io.BinaryDecoder(body))
    assert body.read() == b""
    assert {field: plain(value) for field, value in theirs.items()} == example.record


@pytest.mark.parametrize("kept", KEPT)
def test_bytes_written_in_the_past_stay_readable(kept: str) -> None:
    """Written when each version was new; never regenerate an entry, only add."""
    name, version, case = kept.split(".")
    schema, record = framing.decode(bytes.fromhex(KEPT[kept]))
    assert (schema.name, f"v{schema.version}") == (name, version)
    if schema.fields == catalog.latest(name).fields:
        assert record == next(example.record for example in EXAMPLES if label(example) == f"{name}.{version}.{case}")


def test_bytes_of_every_version_are_kept() -> None:
    kept = {tuple(entry.split(".")[:2]) for entry in KEPT}
    assert kept == {(schema.name, f"v{schema.version}") for name in EVENTS for schema in catalog.all_versions(name)}


FIRST = {
    "type": "record",
    "name": "Thing",
    "namespace": "test",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 9}},
        {"name": "gone", "type": "long"},
    ],
}
SECOND = {
    **FIRST,
    "fields": [
        *FIRST["fields"][:2],
        {"name": "note", "type": ["null", "string"], "default": None},
    ],
}


def made(folder: Path, **versions: dict[str, Any]) -> Catalog:
    for name, definition in versions.items():
        (folder / f"{name.replace('_v', '.v')}.avsc").write_text(json.dumps(definition))
    return Catalog(folder)


def test_an_old_version_is_read_in_the_shape_of_the_newest(tmp_path: Path) -> None:
    old = made(tmp_path, thing_v1=FIRST)
    written = framing.encode("thing", {"id": "a", "amount": -5, "gone": 7}, catalog=old)
    new = made(tmp_path, thing_v2=SECOND)
    schema, record = framing.decode(written, catalog=new)
    assert schema.version == 1
    assert record == {"id": "a", "amount": -5, "note": None}
    assert framing.decode(framing.encode("thing", record, catalog=new), catalog=new) == (new.latest("thing"), record)
    assert [version.version for version in new.all_versions("thing")] == [1, 2]


def test_a_version_that_looks_like_another_is_refused(tmp_path: Path) -> None:
    documented = {**FIRST, "doc": "the same on the wire"}
    with pytest.raises(Fatal, match="look the same"):
        made(tmp_path, thing_v1=FIRST, thing_v2=documented)


def test_a_removed_version_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="gap"):
        made(tmp_path, thing_v2=SECOND)


def plain_types(node: Any) -> Any:
    if isinstance(node, list):
        return [plain_types(entry) for entry in node]
    if isinstance(node, dict):
        return node["type"] if "logicalType" in node else {key: plain_types(value) for key, value in node.items()}
    return node


def plain(value: Any) -> Any:
    from datetime import datetime
    from decimal import Decimal

    from meterfold_schemas.periods import micros
    from meterfold_schemas.quantities import exact_unscaled

    if isinstance(value, Decimal):
        return exact_unscaled(value)
    return micros(value) if isinstance(value, datetime) else value
