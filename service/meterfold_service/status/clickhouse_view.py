"""What ClickHouse says about an installation: tables, stored rules, and the fold's progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.periods import from_micros
from meterfold_schemas.schema_keys import shown
from meterfold_schemas.settings import ClickHouseSettings

if TYPE_CHECKING:
    from meterfold_sink.backup_catalogue import BackupRow
    from meterfold_sink.client import Client
    from meterfold_sink.fold_state import ProgressRow
    from meterfold_sink.metric_usage import UndefinedMetric
    from meterfold_sink.notifications import Backlog
    from meterfold_sink.rejections import RecentRejections
    from meterfold_sink.schema_decisions import SchemaFacts

TABLES = (
    "usage_records",
    "usage_duplicates",
    "usage_rejected",
    "usage_windows",
    "fold_progress",
    "fold_settings",
    "schema_decisions",
    "metric_definitions",
    "thresholds",
    "threshold_events",
    "usage_summaries",
    "usage_hourly",
    "usage_daily",
    "usage_weekly",
    "usage_monthly",
    "usage_yearly",
    "usage_lifetime",
    "usage_reconciliation",
)
ANSWER_SECONDS = 10
REJECTED_WITHIN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class StoredProgress:
    """The newest progress row of one partition. Counters are cumulative; `last_stamp` None before the first event."""

    next_offset: int
    log_start: int
    counted: int
    duplicates: int
    rejected: int
    last_stamp: datetime | None
    flushed_at: datetime


@dataclass(frozen=True, slots=True)
class ClickHouseView:
    """`error` is set when the server did not answer. `undefined`: metric keys with usage and without a definition.
    `schemas`: what is stored about schemas, by `schema_keys.shown`. `rejections`: of the last `rejected_within`
    seconds. `mirrored`: topic -> partition -> the next offset that the checker copies."""

    error: str | None = None
    version: str | None = None
    missing: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    progress: Mapping[int, StoredProgress] = field(default_factory=dict)
    mirrored: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    undefined: tuple[UndefinedMetric, ...] = ()
    schemas: Mapping[str, SchemaFacts] = field(default_factory=dict)
    rejections: Sequence[RecentRejections] = ()
    rejected_within: float = REJECTED_WITHIN_SECONDS
    backup: BackupRow | None = None
    """The newest complete one."""
    planned: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """topic -> partition -> the next offset whose deliveries a notifier plans."""
    deliveries: Backlog | None = None
    notified_thresholds: int = 0
    """Active thresholds with a mail address or a webhook."""
    endpoints: Mapping[str, int] = field(default_factory=dict)
    """failing and disabled -> how many webhook endpoints are."""


def look(settings: ClickHouseSettings, rejected_within: float = REJECTED_WITHIN_SECONDS) -> ClickHouseView:
    """An error is part of the answer. `rejected_within` in seconds; 0 leaves rejections out."""
    from meterfold_sink.client import connect
    from meterfold_sink.errors import MISSING_DATABASE, code_of

    try:
        with connect(settings, timeout_seconds=ANSWER_SECONDS) as store:
            return _view(store, rejected_within)
    except MeterfoldError as error:
        if code_of(error) == MISSING_DATABASE:
            return ClickHouseView(missing=TABLES)
        return ClickHouseView(error=str(error))


def _view(store: Client, rejected_within: float) -> ClickHouseView:
    from meterfold_sink.backup_catalogue import newest_backup
    from meterfold_sink.fold_state import read_progress, read_settings
    from meterfold_sink.migrate import applied, migrations
    from meterfold_sink.rejections import recent_rejections
    from meterfold_sink.schema_decisions import read_schema_facts
    from meterfold_sink.server import server_version, table_names

    names = table_names(store)
    progress = read_progress(store) if "fold_progress" in names else {}
    current = "schema_migrations" in names and migrations()[-1].version in applied(store)
    return ClickHouseView(
        version=server_version(store),
        missing=tuple(table for table in TABLES if table not in names),
        settings=read_settings(store) if "fold_settings" in names else {},
        progress={number: _progress(row) for number, row in progress.items()},
        mirrored=_mirrored(store) if "mirror_progress" in names else {},
        undefined=_undefined(store) if {"usage_windows", "metric_definitions"} <= names else (),
        schemas={shown(key): facts for key, facts in read_schema_facts(store).items()} if current else {},
        rejections=recent_rejections(store, rejected_within) if current and rejected_within else (),
        rejected_within=rejected_within,
        backup=newest_backup(store) if current else None,
        **(_notifications(store) if current else {}),
    )


def _mirrored(store: Client) -> dict[str, dict[int, int]]:
    from meterfold_sink.reads import read_mirrored

    return _by_topic(read_mirrored(store))


def _notifications(store: Client) -> dict[str, Any]:
    from meterfold_sink import notifications

    now = datetime.now(UTC)
    states = Counter(row["state"] for row in notifications.list_endpoints(store))
    return {
        "planned": _by_topic(notifications.planned_offsets(store)),
        "deliveries": notifications.delivery_backlog(store, now, now - notifications.KEPT),
        "notified_thresholds": notifications.count_notified_thresholds(store),
        "endpoints": {state: states[state] for state in ("failing", "disabled")},
    }


def _by_topic(offsets: Mapping[tuple[str, int], int]) -> dict[str, dict[int, int]]:
    found = dict[str, dict[int, int]]()
    for (topic, partition), offset in offsets.items():
        found.setdefault(topic, {})[partition] = offset
    return found


def _undefined(store: Client) -> tuple[UndefinedMetric, ...]:
    from meterfold_sink.metric_usage import undefined_metrics

    try:
        return tuple(undefined_metrics(store))
    except MeterfoldError:
        # A note only: a server that is too busy for it answers all the same.
        return ()


def _progress(row: ProgressRow) -> StoredProgress:
    return StoredProgress(
        row.next_offset,
        row.log_start,
        row.counted,
        row.duplicates,
        row.rejected,
        from_micros(row.last_stamp) if row.last_stamp else None,
        from_micros(row.flushed_at),
    )
