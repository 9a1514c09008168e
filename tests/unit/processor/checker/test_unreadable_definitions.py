"""A definition that cannot be read is counted until the next message of its key."""

from __future__ import annotations

from datetime import UTC, datetime

from meterfold_processor.checker.definitions import DefinitionRecord, Definitions, DefinitionsRead
from meterfold_schemas.definitions import MetricDefinition

NOW = datetime(2026, 11, 29, tzinfo=UTC)
METRIC = MetricDefinition(id="m", key="api.calls", name="Calls", unit="call", created_at=NOW, updated_at=NOW)


def read(*records: DefinitionRecord) -> DefinitionsRead:
    return DefinitionsRead(records, 9, 9)


def test_a_readable_message_and_a_tombstone_of_the_same_key_end_it() -> None:
    definitions = Definitions()
    definitions.apply(
        read(
            DefinitionRecord("metric", METRIC.message_key, b"junk", 3),
            DefinitionRecord("metric", b"no key", b"junk", 4),
            DefinitionRecord("threshold", b"t1", b"junk", 5),
        )
    )
    assert definitions.poison == {("metric", METRIC.message_key): 3, ("metric", b"no key"): 4, ("threshold", b"t1"): 5}
    definitions.apply(read(DefinitionRecord("metric", METRIC.message_key, METRIC.to_bytes(), 6)))
    assert definitions.metric("", "api.calls") is not None
    definitions.apply(
        read(DefinitionRecord("metric", b"no key", None, 7), DefinitionRecord("threshold", b"t1", None, 8))
    )
    assert definitions.poison == {}


def test_reading_everything_again_counts_each_once() -> None:
    definitions, broken = Definitions(), read(DefinitionRecord("threshold", b"t1", b"junk", 5))
    for _ in range(3):
        definitions.replace(broken)
    assert len(definitions.poison) == 1
    definitions.replace(read())
    assert definitions.poison == {}
