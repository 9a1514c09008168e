"""What an id of a Schema Registry means: asked once, compared with our schemas, and never guessed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from meterfold_processor.fold.registry import SchemaRegistry
from meterfold_processor.fold.settings import SchemaRegistrySettings
from meterfold_schemas import catalog, schema_keys
from meterfold_schemas.errors import InvalidSettings
from meterfold_schemas.settings import load_settings
from support.schema_registry import FakeRegistry, fake_registry

OURS = catalog.latest("usage_recorded")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


def definition(**changes: Any) -> dict[str, Any]:
    """Ours, with changes to the types of fields."""
    made = copy.deepcopy(OURS.definition)
    for field in made["fields"]:
        if field["name"] in changes:
            field["type"] = changes[field["name"]]
    return made


def client(fake: FakeRegistry, **settings: Any) -> SchemaRegistry:
    return SchemaRegistry(SchemaRegistrySettings(url=fake.url + "/", **settings))


@pytest.mark.loopback
def test_an_id_is_asked_once_with_the_password(fake: FakeRegistry) -> None:
    fake.register(7, OURS.definition)
    registry = client(fake, username="fold", password="s3cret")
    assert registry.look_up(7).schema is OURS
    fake.schemas.clear()
    again = registry.look_up(7)
    assert (again.schema, again.why) == (OURS, f"schema 7 of the Schema Registry {fake.url}")
    assert fake.asked == [(7, "Basic Zm9sZDpzM2NyZXQ=")]


@pytest.mark.loopback
@pytest.mark.parametrize(
    "same",
    [
        catalog.without_logical_types(OURS.definition),
        {**OURS.definition, "doc": "another text", "fields": [{**f, "doc": ""} for f in OURS.definition["fields"]]},
        definition(id={"type": "string", "avro.java.string": "String"}),
        definition(quantity={"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 9}),
    ],
)
def test_a_schema_is_ours_whatever_a_library_adds_or_drops(fake: FakeRegistry, same: dict[str, Any]) -> None:
    fake.register(1, same)
    assert client(fake).look_up(1).schema is OURS


@pytest.mark.loopback
@pytest.mark.parametrize(
    "other",
    [
        catalog.latest("usage_aggregated").definition,
        {**OURS.definition, "namespace": "elsewhere"},
        {**OURS.definition, "fields": OURS.definition["fields"][::-1]},
        definition(source="string"),
        definition(quantity={"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}),
        definition(timestamp={"type": "long", "logicalType": "timestamp-millis"}),
        "string",
        ["null"],
        {"type": "record"},
        {"type": "record", "name": "a", "fields": 5},
        None,
    ],
)
def test_another_schema_is_not_ours(fake: FakeRegistry, other: Any) -> None:
    """The same bytes with another scale or unit of time would be another quantity or window."""
    fake.register(1, other)
    found = client(fake).look_up(1)
    assert found.schema is None
    assert found.why == f"schema 1 of the Schema Registry {fake.url} is no version of usage_recorded"


@pytest.mark.loopback
def test_a_schema_of_another_kind_is_not_ours(fake: FakeRegistry) -> None:
    fake.register(1, OURS.definition, schemaType="JSON")
    assert "is of type JSON, not AVRO" in client(fake).look_up(1).why
    fake.register(2, OURS.definition, schemaType="AVRO")
    assert client(fake).look_up(2).schema is OURS


@pytest.mark.loopback
def test_an_unknown_id_is_asked_again(fake: FakeRegistry) -> None:
    """It may be registered a moment later, or on a replica that lags."""
    registry = client(fake)
    assert registry.look_up(7).why == f"the Schema Registry {fake.url} has no schema with id 7"
    fake.register(7, OURS.definition)
    assert registry.look_up(7).schema is OURS


@pytest.mark.loopback
@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (503, None, "answers with HTTP status 503"),
        (401, None, "answers with HTTP status 401"),
        (302, None, "answers with HTTP status 302"),
        (0, b"<html>", "not a schema: check the path of the URL"),
        (0, b"[1]", "not a schema: check the path of the URL"),
        (0, b"{}", "not a schema: check the path of the URL"),
    ],
)
def test_a_registry_in_trouble_is_asked_again_later(
    fake: FakeRegistry, status: int, body: bytes | None, why: str
) -> None:
    now = 0.0
    registry = SchemaRegistry(SchemaRegistrySettings(url=fake.url), lambda: now)
    fake.register(7, OURS.definition)
    fake.status, fake.body = status, body
    assert why in registry.look_up(7).why
    now = 1.9
    assert why in registry.look_up(7).why
    assert len(fake.asked) == 1
    fake.status, fake.body, now = 0, None, 2.0
    assert registry.look_up(7).schema is OURS


@pytest.mark.loopback
def test_a_registry_that_is_away_does_not_answer(fake: FakeRegistry) -> None:
    registry = SchemaRegistry(SchemaRegistrySettings(url="http://127.0.0.1:1", timeout_seconds=1))
    found = registry.look_up(7)
    assert found.schema is None
    assert "the Schema Registry http://127.0.0.1:1 does not answer: " in found.why


def test_settings_hide_the_password_and_refuse_what_cannot_work(tmp_path: Path) -> None:
    environ = {
        "METERFOLD_SCHEMA_REGISTRY_URL": "https://registry:8081/",
        "METERFOLD_SCHEMA_REGISTRY_USERNAME": "fold",
        "METERFOLD_SCHEMA_REGISTRY_PASSWORD": "s3cret",
    }
    settings = load_settings(SchemaRegistrySettings, "schema_registry", environ=environ)
    assert settings.url == "https://registry:8081"
    assert "s3cret" not in repr(settings)
    with pytest.raises(InvalidSettings, match="set username and password as separate settings"):
        load_settings(SchemaRegistrySettings, "schema_registry", environ={}, url="https://a:b@registry:8081")
    with pytest.raises(InvalidSettings, match="the TLS files cannot be used"):
        SchemaRegistry(SchemaRegistrySettings(url="https://registry", ca_file=str(tmp_path / "none.pem")))


def test_the_keys_of_schemas_as_text() -> None:
    for text, key in (("id:7", b"\0\0\0\7"), ("id:4294967295", b"\xff" * 4), ("bb032367be8b7bf0", OURS.fingerprint)):
        assert schema_keys.parsed(text) == key
        assert schema_keys.shown(key) == text
    for text in ("id:4294967296", "id:", "id:-1", "7", "bb03", "id:0x7", ""):
        with pytest.raises(ValueError, match="must be 16 hexadecimal digits"):
            schema_keys.parsed(text)
    assert schema_keys.header_of(OURS.fingerprint) == OURS.header
    assert schema_keys.key_in(b"\0\0\0\0\7body", confluent=True) == b"\0\0\0\7"
    assert schema_keys.key_in(b"\0\0\0\0\7body", confluent=False) is None
    assert schema_keys.key_in(b"\0\0\0\0", confluent=True) is None
    assert schema_keys.key_in(OURS.header, confluent=True) == OURS.fingerprint
    assert schema_keys.key_in(OURS.header[:9], confluent=True) is None
