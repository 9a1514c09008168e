"""The topics: their names, and how each is created.

A prefix goes before every name, so that several installations (and tests) can share one cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from meterfold_schemas.periods import DAY_SECONDS

__all__ = [
    "ALERT_ACTED",
    "ENDPOINT_CHANGED",
    "METRIC_DEFINED",
    "MIRRORED",
    "NAMES",
    "NOTIFIED",
    "THRESHOLD_APPROACHING",
    "THRESHOLD_CLEARED",
    "THRESHOLD_DEFINED",
    "THRESHOLD_EXCEEDED",
    "THRESHOLD_STATE",
    "USAGE_AGGREGATED",
    "USAGE_RECORDED",
    "USAGE_REJECTED",
    "USAGE_WINDOWS",
    "TopicSpec",
    "Topics",
    "topic_specs",
]

USAGE_RECORDED: Final = "usage.recorded"
USAGE_REJECTED: Final = "usage.rejected"
METRIC_DEFINED: Final = "metric.defined"
THRESHOLD_DEFINED: Final = "threshold.defined"
USAGE_WINDOWS: Final = "usage.windows"
USAGE_AGGREGATED: Final = "usage.aggregated"
THRESHOLD_APPROACHING: Final = "threshold.approaching"
THRESHOLD_EXCEEDED: Final = "threshold.exceeded"
THRESHOLD_CLEARED: Final = "threshold.cleared"
THRESHOLD_STATE: Final = "threshold.state"
ALERT_ACTED: Final = "alert.acted"
ENDPOINT_CHANGED: Final = "endpoint.changed"

NAMES: Final = (
    USAGE_RECORDED,
    USAGE_REJECTED,
    METRIC_DEFINED,
    THRESHOLD_DEFINED,
    USAGE_WINDOWS,
    USAGE_AGGREGATED,
    THRESHOLD_APPROACHING,
    THRESHOLD_EXCEEDED,
    THRESHOLD_CLEARED,
    THRESHOLD_STATE,
    ALERT_ACTED,
    ENDPOINT_CHANGED,
)

MIRRORED: Final[Mapping[str, str]] = {
    METRIC_DEFINED: "metric_definitions",
    THRESHOLD_DEFINED: "thresholds",
    THRESHOLD_APPROACHING: "threshold_events",
    THRESHOLD_EXCEEDED: "threshold_events",
    THRESHOLD_CLEARED: "threshold_events",
    ALERT_ACTED: "alert_actions",
}
"""The topics that the checker copies into ClickHouse, and the table of each."""

NOTIFIED: Final = (THRESHOLD_APPROACHING, THRESHOLD_EXCEEDED, THRESHOLD_CLEARED, ENDPOINT_CHANGED)
"""The topics whose events a notifier sends."""

#: Kafka's default message limit; `usage.rejected` takes twice it, so that the largest poison fits with its headers.
_MESSAGE_LIMIT: Final = 1_048_588


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic names of one installation."""

    prefix: str = ""

    @property
    def usage_recorded(self) -> str:
        return self.prefix + USAGE_RECORDED

    @property
    def usage_rejected(self) -> str:
        return self.prefix + USAGE_REJECTED

    @property
    def metric_defined(self) -> str:
        return self.prefix + METRIC_DEFINED

    @property
    def threshold_defined(self) -> str:
        return self.prefix + THRESHOLD_DEFINED

    @property
    def usage_windows(self) -> str:
        return self.prefix + USAGE_WINDOWS

    @property
    def usage_aggregated(self) -> str:
        return self.prefix + USAGE_AGGREGATED

    @property
    def threshold_approaching(self) -> str:
        return self.prefix + THRESHOLD_APPROACHING

    @property
    def threshold_exceeded(self) -> str:
        return self.prefix + THRESHOLD_EXCEEDED

    @property
    def threshold_cleared(self) -> str:
        return self.prefix + THRESHOLD_CLEARED

    @property
    def threshold_state(self) -> str:
        return self.prefix + THRESHOLD_STATE

    @property
    def alert_acted(self) -> str:
        return self.prefix + ALERT_ACTED

    @property
    def endpoint_changed(self) -> str:
        return self.prefix + ENDPOINT_CHANGED


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as `meterfold migrate` creates and checks it.

    `partitions` is "source" where the count must always equal that of `usage.recorded`; `count` is the number itself.
    """

    name: str
    partitions: Literal["source"] | int
    config: dict[str, str] = field(default_factory=dict)
    count: int = 1
    replication: int = 1


def topic_specs(
    partition_count: int,
    replication: int = 1,
    *,
    prefix: str = "",
    source_retention_seconds: int = 14 * DAY_SECONDS,
    windows_retention_seconds: int = DAY_SECONDS,
    events_retention_seconds: int = 30 * DAY_SECONDS,
) -> list[TopicSpec]:
    """All topics of an installation. `partition_count` is that of `usage.recorded`; retention times in seconds."""
    names = Topics(prefix)
    source_retention = _milliseconds(source_retention_seconds)
    # Consumers get what the broker stores, whatever the producer sent. gzip is in every client library; lz4, which the
    # SDK uses for usage.recorded, is an extra package in several.
    public = {"compression.type": "gzip"}
    kept = {"cleanup.policy": "delete", "retention.ms": _milliseconds(events_retention_seconds)} | public
    compacted = {"cleanup.policy": "compact"} | public
    specs: list[tuple[str, Literal["source"] | int, dict[str, str]]] = [
        (
            names.usage_recorded,
            "source",
            # The broker's stamp is the arrival time: every decision about lateness and duplicates uses it.
            {
                "cleanup.policy": "delete",
                "retention.ms": source_retention,
                "message.timestamp.type": "LogAppendTime",
            },
        ),
        (
            names.usage_rejected,
            "source",
            {
                "cleanup.policy": "delete",
                "retention.ms": source_retention,
                "max.message.bytes": str(2 * _MESSAGE_LIMIT),
            }
            | public,
        ),
        (names.metric_defined, 1, compacted),
        (names.threshold_defined, 1, compacted),
        (
            names.usage_windows,
            "source",
            {"cleanup.policy": "delete", "retention.ms": _milliseconds(windows_retention_seconds)},
        ),
        (names.usage_aggregated, "source", compacted),
        (names.threshold_approaching, "source", kept),
        (names.threshold_exceeded, "source", kept),
        (names.threshold_cleared, "source", kept),
        (names.threshold_state, "source", compacted),
        # One partition: the offset decides who was first. Compaction would keep the last.
        (names.alert_acted, 1, kept),
        (names.endpoint_changed, 1, kept),
    ]
    # Acknowledged must mean on two disks wherever there are three.
    durable = {"min.insync.replicas": "2" if replication >= 3 else "1"}
    return [
        TopicSpec(
            name,
            partitions,
            config | durable,
            count=partition_count if partitions == "source" else partitions,
            replication=replication,
        )
        for name, partitions, config in specs
    ]


def _milliseconds(seconds: int) -> str:
    return str(seconds * 1000)
