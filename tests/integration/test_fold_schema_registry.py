"""Producers with the Confluent wire format and a Schema Registry: an id is asked once, stored, and obeyed for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.registry import SchemaRegistry
from meterfold_processor.fold.settings import SchemaRegistrySettings
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas import catalog, framing
from meterfold_schemas.errors import Fatal
from meterfold_schemas.schema_keys import header_of, key_of
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_service import schema_decisions
from support import eventually
from support.fold import Installation, Outgoing, Running, check, event, running, verify_contents
from support.schema_registry import FakeRegistry, fake_registry

OURS = catalog.latest("usage_recorded")
ID, OTHER, MISSING = 7, 8, 9
REGISTERED = (header_of(key_of(ID)),)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as fake:
        fake.register(ID, OURS.definition)
        fake.register(OTHER, catalog.latest("usage_aggregated").definition)
        yield fake


@pytest.fixture
def installation(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> Iterator[Installation]:
    made = Installation(kafka_settings, clickhouse_settings, decoder_version="3")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in production, only faster."""
    monkeypatch.setattr("meterfold_processor.fold.assignment.HOLD_SECONDS", 0.2)
    monkeypatch.setattr("meterfold_processor.fold.registry._PAUSES", (0.2,))
    for module in ("meterfold_processor.fold.schemas", "meterfold_service.schema_decisions"):
        monkeypatch.setattr(f"{module}.SETTLE_SECONDS", 1.0)


def with_id(number: int, one: Outgoing) -> Outgoing:
    return replace(one, value=header_of(key_of(number)) + (one.value or b"")[framing.HEADER_SIZE :])


def opening_with(registry: FakeRegistry) -> partial[Opening]:
    return partial(Opening, registry=SchemaRegistry(SchemaRegistrySettings(url=registry.url)))


def test_a_registered_event_is_counted_also_by_a_worker_without_the_registry(
    installation: Installation, registry: FakeRegistry
) -> None:
    """The registry is away at first: held as an unknown schema is. Its answer is stored before the first message is
    judged by it, so a replay, `verify` and a worker that cannot ask come to the same."""
    registry.status = 503
    theirs = [with_id(ID, event(f"u{number}", number)) for number in range(20)]
    installation.send(*theirs, *(event(f"u{number}", number) for number in range(20)))
    with running(installation, opening=opening_with(registry)) as worker:
        eventually(lambda: set(worker.status.holds.values()) == {f"id:{ID}"}, 60, "the partitions are held")
        (held,) = eventually(lambda: schema_decisions.list_schemas(installation.client), 60, "the hold is stored")
        assert (held.fingerprint, held.state) == (f"id:{ID}", "waits")
        registry.status = 0
        installation.wait_folded(worker)
        eventually(lambda: worker.status.holds == {}, 60, "nothing is held")
        installation.send(*(with_id(ID, event(f"u{number}", number)) for number in range(20)))
        installation.wait_folded(worker)
    truth = check(installation, registered=REGISTERED)
    assert (len(truth.counted), truth.rejected) == (60, {})
    (state,) = schema_decisions.list_schemas(installation.client)
    assert (state.state, state.schema, state.why) == (
        "read",
        "usage_recorded.v1",
        f"schema {ID} of the Schema Registry {registry.url}",
    )
    asked = len(registry.asked)
    installation.send(*theirs, with_id(ID, event("u1", 5)))
    with running(installation) as worker:
        installation.wait_folded(worker)
    truth = check(installation, registered=REGISTERED)
    assert (len(truth.counted), len(truth.duplicates)) == (61, 20)
    assert len(registry.asked) == asked
    assert verify_contents(installation) == []


def test_an_id_that_is_not_ours_waits_for_a_decision(installation: Installation, registry: FakeRegistry) -> None:
    installation.send(*(with_id(number, event(f"u{user}")) for user in range(10) for number in (OTHER, MISSING)))
    with running(installation, opening=opening_with(registry)) as worker:
        eventually(lambda: set(worker.status.holds.values()) == {f"id:{OTHER}"}, 60, "the first ones are held")
        schema_decisions.poison(installation.client, f"id:{OTHER}", "another team's topic")
        eventually(lambda: set(worker.status.holds.values()) == {f"id:{MISSING}"}, 60, "the second ones are held")
        # Registered after all: decided without a command.
        registry.register(MISSING, catalog.without_logical_types(OURS.definition))
        installation.wait_folded(worker)
    truth = check(installation, registered=[header_of(key_of(MISSING))])
    assert (len(truth.counted), set(truth.rejected.values())) == (10, {"undecodable"})
    assert {row["detail"] for row in installation.rejects()} == {
        f"registry schema id:{OTHER} is poison (`meterfold schema list` shows who decided it)"
    }
    assert verify_contents(installation) == []


def test_an_installation_without_a_registry_rejects_its_ids_and_names_the_setting(
    tables: None, kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings, registry: FakeRegistry
) -> None:
    installation = Installation(kafka_settings, clickhouse_settings)
    installation.send(event("u1"), with_id(ID, event("u1")))
    with running(installation) as worker:
        installation.wait_folded(worker)
    assert len(check(installation).rejected) == 1
    assert "set url under [schema_registry] and decoder_version 3" in installation.rejects()[0]["detail"]
    said = Running(installation, opening=opening_with(registry)).wait_for_failure(Fatal)
    assert "[schema_registry] is set, but fold_settings says decoder_version 2" in said
    installation.close()


def test_a_new_installation_with_a_registry_reads_its_ids_and_keeps_what_it_stored(
    kafka_settings: KafkaSettings, clickhouse_settings: ClickHouseSettings
) -> None:
    done = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions(partition_count=1, schema_registry=True))
    assert done.rules.decoder_version == "3"
    again = migrate_all(kafka_settings, clickhouse_settings, MigrationOptions())
    assert again.rules.decoder_version == "3"
