"""The files for other languages: JSON Schema, the AsyncAPI document, and where they are."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from meterfold_schemas import asyncapi, catalog, derive, json_schemas, published
from meterfold_schemas.cloudevents import ATTRIBUTES
from meterfold_schemas.contents import PUBLIC, REJECTION_HEADERS
from meterfold_schemas.definitions import Definition, MetricDefinition, UsageThreshold
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.example_events import examples
from meterfold_schemas.framing import encode
from meterfold_schemas.topics import NAMES, USAGE_WINDOWS, topic_specs
from meterfold_schemas.usage import UsageRecorded
from support.paths import ROOT

PACKAGE = files("meterfold_schemas")
EXAMPLES = sorted(entry.name for entry in (PACKAGE / "examples").iterdir() if entry.name.endswith(".json"))
SCHEMAS = dict(json_schemas.schemas())
DOCUMENT = asyncapi.document()
SPECS = {spec.name: spec for spec in topic_specs(asyncapi.PARTITIONS)}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker())


def example(name: str) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((PACKAGE / "examples" / name).read_text(encoding="utf-8"))
    return written


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_json_schema_is_one(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"urn:meterfold:{name}"


def test_every_event_in_every_version_and_every_definition_has_a_json_schema() -> None:
    labels = {schema.label for name in catalog.names() for schema in catalog.all_versions(name)}
    json_values = {json_schemas.JSON_VALUE, json_schemas.CLOUD_EVENT}
    assert SCHEMAS.keys() == labels | {"metric_definition", "usage_threshold"} | json_values


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_validates(name: str) -> None:
    validator(".".join(name.split(".")[:2])).validate(example(name))


BROKEN = [
    ("quantity", 1.5, "type"),
    ("quantity", "1.0000000001", "pattern"),
    ("quantity", "123456789012345678901", "pattern"),
    ("quantity", "1e3", "pattern"),
    ("metric_key", "API.calls", "pattern"),
    ("id", "", "minLength"),
    ("subject_id", "x" * 513, "maxLength"),
    ("source", 5, "type"),
    ("timestamp", "2026-11-22T09:30:00", "pattern"),
    ("timestamp", "2026-11-22T09:30:00.1234567Z", "pattern"),
    ("metadata", {"a": 1}, "type"),
    ("unknown", "x", "additionalProperties"),
]


@pytest.mark.parametrize(("field", "value", "rule"), BROKEN)
def test_a_broken_event_does_not_validate(field: str, value: Any, rule: str) -> None:
    event = {**example("usage_recorded.v1.full.json"), field: value}
    assert rule in {error.validator for error in validator("usage_recorded.v1").iter_errors(event)}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("threshold_exceeded.v1.first.json", "level", "none"),
        ("threshold_exceeded.v1.first.json", "event_id", "not-a-uuid"),
        ("threshold_state.v1.blocked.json", "action", "shout"),
        ("usage_aggregated.v1.first.json", "period_type", "weekly"),
        ("usage_aggregated.v1.first.json", "partition", 2**31),
        ("usage_aggregated.v1.first.json", "sum", 5),
    ],
)
def test_a_broken_derived_event_does_not_validate(name: str, field: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        validator(".".join(name.split(".")[:2])).validate({**example(name), field: value})


@pytest.mark.parametrize("field", ["id", "org_id", "quantity", "timestamp"])
def test_a_required_field_is_required(field: str) -> None:
    event = example("usage_recorded.v1.minimal.json")
    del event[field]
    with pytest.raises(jsonschema.ValidationError, match="required"):
        validator("usage_recorded.v1").validate(event)


@pytest.mark.parametrize(
    ("name", "event", "model"),
    [
        ("metric_definition", "metric_defined", MetricDefinition),
        ("usage_threshold", "threshold_defined", UsageThreshold),
    ],
)
def test_a_definition_validates_as_its_model_writes_it(name: str, event: str, model: type[Definition]) -> None:
    count = 0
    for given in examples(event):
        if given.schema is catalog.latest(event):
            definition = model.from_bytes(encode(event, given.record))  # type: ignore[attr-defined]
            validator(name).validate(json.loads(definition.model_dump_json()))
            count += 1
    assert count >= 2


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.startswith("usage_recorded")])
def test_an_example_is_a_json_value_of_usage_recorded_too(name: str) -> None:
    fields = example(name)
    fields["quantity"] = json.loads(fields["quantity"])
    fields["metadata"] = json.loads(fields["metadata"] or "null")
    validator(json_schemas.JSON_VALUE).validate(fields)
    UsageRecorded.from_bytes(json.dumps({**fields, "quantity": 1}).encode())
    event = {"specversion": "1.0", "type": "usage.recorded", "source": "/app", "extension": 1}
    event |= {"id": fields.pop("id"), "time": fields.pop("timestamp"), "data": fields}
    validator(json_schemas.CLOUD_EVENT).validate(event)
    UsageRecorded.from_bytes(json.dumps({**event, "data": {**fields, "quantity": 1}}).encode())
    del event["time"]
    with pytest.raises(jsonschema.ValidationError):
        validator(json_schemas.CLOUD_EVENT).validate(event)


def test_every_public_topic_has_contents() -> None:
    assert {content.topic for content in PUBLIC} == set(NAMES) - {USAGE_WINDOWS}
    assert {name for content in PUBLIC for name in content.schemas} == set(catalog.names())


def test_the_document_describes_every_topic_as_it_is_created() -> None:
    assert DOCUMENT["channels"].keys() == {content.topic for content in PUBLIC}
    for topic, channel in DOCUMENT["channels"].items():
        kafka, config = channel["bindings"]["kafka"], SPECS[topic].config
        assert (channel["address"], kafka["topic"], kafka["partitions"]) == (topic, topic, SPECS[topic].count)
        stated = kafka["topicConfiguration"]
        assert stated["cleanup.policy"] == [config["cleanup.policy"]]
        assert {name: str(value) for name, value in stated.items() if name != "cleanup.policy"} == {
            name: value for name, value in config.items() if name != "cleanup.policy"
        }
        assert channel["x-compression"] == config.get("compression.type", "producer")
        assert channel["x-isolation-level"] == "read_committed"


def test_every_reference_of_the_document_leads_somewhere() -> None:
    found = re.findall(r'"\$ref": "#/(.*?)"', json.dumps(DOCUMENT))
    assert len(found) >= 2 * len(PUBLIC)
    for reference in found:
        node = DOCUMENT
        for step in reference.split("/"):
            node = node[step]


def test_every_message_has_its_schema_header_and_key() -> None:
    messages = DOCUMENT["components"]["messages"]
    headers = json.loads((PACKAGE / derive.HEADERS).read_text(encoding="utf-8"))
    assert {name: message.get("x-header-bytes") for name, message in messages.items()} == {
        **headers,
        "usage_rejected": None,
        "usage_recorded.json": None,
        "usage_recorded.cloudevent": None,
    }
    assert [part["title"] for part in messages["usage_recorded.v1"]["bindings"]["kafka"]["key"]["items"]] == [
        "org_id",
        "metric_key",
        "subject_type",
        "subject_id",
    ]
    assert set(messages["usage_rejected"]["headers"]["required"]) == set(REJECTION_HEADERS)
    with_events = {
        name for name, message in messages.items() if "ce_id" in message.get("headers", {}).get("required", ())
    }
    assert with_events == set(headers) - {"usage_recorded.v1", "threshold_state.v1"}


def test_meterfold_receives_usage_and_sends_everything_else() -> None:
    received = [name for name, operation in DOCUMENT["operations"].items() if operation["action"] == "receive"]
    assert received == ["receive.usage.recorded"]
    assert len(DOCUMENT["operations"]) == len(PUBLIC)


def cells() -> dict[str, list[str]]:
    """The table of topics in docs/consuming.md, by topic."""
    page = (ROOT / "docs" / "consuming.md").read_text(encoding="utf-8")
    rows = [
        line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| `") and line.count(" | ") == 6
    ]
    return {name: row[1:] for row in rows for name in re.findall(r"`([a-z.]+)`", row[0])}


def test_the_page_for_consumers_has_the_same_keys_values_and_headers() -> None:
    table = cells()
    assert table.keys() == {content.topic for content in PUBLIC}
    for content in PUBLIC:
        key, value, headers, partition, _, retention = table[content.topic]
        if content.key:
            parts = f"`[{', '.join(part.name for part in content.key)}]`"
            assert key in ((parts, "unchanged") if content.topic == "usage.rejected" else (parts,))
        else:
            assert key == content.key_text
        names = [catalog.latest(name).definition["name"] for name in content.schemas]
        assert value.startswith("Avro " if names else "the original bytes")
        assert all(f"`{name}`" in value for name in names)
        assert ("tombstone" in value) == (content.tombstone is not None)
        assert content.tombstone is None or value.endswith(content.tombstone)
        assert partition == content.routed_by
        if content.headers == ATTRIBUTES:
            assert headers == "CloudEvents"
        else:
            assert headers == (", ".join(f"`{name}`" for name in content.headers) or "none")
        compacted = SPECS[content.topic].config["cleanup.policy"] == "compact"
        assert (retention == "newest per key") == compacted


def test_every_file_is_exported_as_it_ships(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    written = published.export(folder)
    assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in written} == dict(published.files())
    names = {path.relative_to(folder).as_posix() for path in written}
    assert {f"examples/{name}" for name in EXAMPLES} < names
    assert {"asyncapi.json", "avro/headers.json", "vectors/usage_recorded.v1.jsonl"} < names
    assert {f"json_schema/{name}.schema.json" for name in SCHEMAS} < names
    assert {f"avro/{label}.avsc" for label in json.loads((folder / derive.HEADERS).read_text())} < names
    (folder / "asyncapi.json").write_text("changed by hand")
    assert published.export(folder) == written
    assert (folder / "asyncapi.json").read_bytes() == dict(published.files())["asyncapi.json"]


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidSettings, match=re.escape(f"cannot write {tmp_path}/file/asyncapi.json")):
        published.export(tmp_path / "file")


def test_the_declarations_are_not_changed_by_describing_them() -> None:
    before = deepcopy(catalog.latest("usage_recorded").definition)
    json_schemas.of_event(catalog.latest("usage_recorded"))["properties"]["id"]["type"] = "changed"
    assert catalog.latest("usage_recorded").definition == before
    assert asyncapi.document() == DOCUMENT
