"""`migrate`: tables and views, then topics, then the stored rules. In this order, an interrupted run can be repeated.
The rules come last, because workers refuse to start without them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from meterfold_processor.kafka.topics import SourceTopic, adjust_topics, check_source, ensure_topics, read_source
from meterfold_schemas.errors import Fatal
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import topic_specs
from meterfold_sink import migrate, reads
from meterfold_sink.client import Client, connect
from meterfold_sink.errors import MISSING_TABLE, code_of
from meterfold_sink.fold_state import read_settings
from meterfold_sink.rules import WITH_REGISTRY, FoldRules
from meterfold_sink.schema_decisions import unknown_schema_hold, write_unknown_schema_hold

__all__ = ["Migrated", "MigrationOptions", "migrate_all"]

DEFAULT_PARTITIONS: Final = 6
_UNKNOWN: Final[dict[str, Any]] = {"cluster_id": "", "topic_id": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """The options of a migration. None keeps the stored value, or uses the default. Times in seconds."""

    partition_count: int | None = None
    replication: int = 1
    decoder_version: str | None = None
    horizon_seconds: int | None = None
    future_tolerance_seconds: int | None = None
    slack_seconds: int | None = None
    grace_seconds: int | None = None
    record_retention_seconds: int | None = None
    source_retention_seconds: int | None = None
    unknown_schema_hold_seconds: int | None = None
    """How long an unknown schema is held; 0: for ever. Unlike the rules, it can be changed at any time."""
    schema_registry: bool = False
    """Whether a Schema Registry is set: a new installation then reads the Confluent wire format."""

    def rules(self, stored: FoldRules | None, source: SourceTopic | None = None) -> FoldRules:
        """The rules to store or to compare. Raises InvalidSettings for rules that cannot work."""
        rules = stored.to_dict() if stored else {**_UNKNOWN, "partition_count": DEFAULT_PARTITIONS}
        if stored is None and self.schema_registry:
            rules["decoder_version"] = WITH_REGISTRY
        names = {field.name for field in fields(FoldRules)}
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name in names}
        rules |= {name: value for name, value in given.items() if value is not None}
        if source is not None:
            rules |= {
                "cluster_id": source.cluster_id,
                "topic_id": source.topic_id,
                "partition_count": source.partition_count,
            }
        return FoldRules(**rules)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done; empty lists if nothing. `topics` were created; `adjusted` had another compression."""

    migrations: list[str]
    topics: list[str]
    adjusted: list[str]
    rules: FoldRules
    unknown_schema_hold_seconds: int


def migrate_all(kafka: KafkaSettings, clickhouse: ClickHouseSettings, wanted: MigrationOptions) -> Migrated:
    """Bring ClickHouse and Kafka to what this version and the wanted rules need. Raises Retryable or Fatal."""
    with connect(clickhouse, create_database=True) as client:
        stored = _stored_rules(client)
        rules = wanted.rules(stored)  # invalid rules are refused before anything is created
        if stored is not None:
            rules.require_same(stored)
            # A deleted source must not be created again: its offsets would refer to other events.
            check_source(kafka, stored)
        migrations = migrate.migrate(client, rules)
        specs = topic_specs(
            rules.partition_count,
            wanted.replication,
            prefix=kafka.topic_prefix,
            source_retention_seconds=rules.source_retention_seconds,
        )
        topics = ensure_topics(kafka, specs)
        adjusted = adjust_topics(kafka, specs)
        rules = wanted.rules(stored, read_source(kafka))
        reads.write_settings_once(client, rules)
        if wanted.unknown_schema_hold_seconds is not None:
            write_unknown_schema_hold(client, wanted.unknown_schema_hold_seconds)
        hold = unknown_schema_hold(client)
    return Migrated([f"{m.version:04d}_{m.name}" for m in migrations], topics, adjusted, rules, hold)


def _stored_rules(client: Client) -> FoldRules | None:
    try:
        rows = read_settings(client)
    except Fatal as error:
        if code_of(error) == MISSING_TABLE:
            return None
        raise
    return FoldRules.from_rows(rows) if "topic_id" in rows else None
