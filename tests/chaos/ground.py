"""The installation that a run happens in: topics on every broker, tables, metrics and thresholds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

from chaos.events import CALLS, FLEX, ORG
from meterfold_local.stack import LocalStack
from meterfold_processor.kafka.topics import create_topics
from meterfold_processor.migration import MigrationOptions, migrate_all
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.errors import Retryable
from meterfold_schemas.topics import Topics, topic_specs
from meterfold_service import Metering
from meterfold_sink.client import Client, connect
from support import producer
from support.fold.installation import Installation

PARTITIONS = 4
GRACE_SECONDS = 5
"""So that late windows become final within the run."""
AGE = timedelta(days=60)
"""Of the thresholds that stay as they are."""
QUICK = {"reconnect.backoff.ms": "50", "reconnect.backoff.max.ms": "500"}
"""Backing off for long is for large clusters."""

T = TypeVar("T")


class Ground(Installation):
    """What the verdict of the fold's tests looks at, here made by `meterfold migrate`."""

    def __init__(
        self,
        stack: LocalStack,
        name: str = "",
        rules: Mapping[str, int] = MappingProxyType({}),
        single: Collection[str] = (),
    ) -> None:
        """`rules`: those that differ from the default, by their names in MigrationOptions. Topics that are `single`
        (named without a prefix) are on one broker only."""
        kafka = stack.kafka_settings(f"{name}." if name else "")
        self.kafka = kafka.model_copy(update={"librdkafka": {**kafka.librdkafka, **QUICK}})
        self.clickhouse = stack.clickhouse_settings(name or None)
        self.partitions = PARTITIONS
        self.topics = Topics(kafka.topic_prefix)
        copies = len(stack.kafka.brokers)
        wanted = MigrationOptions(partition_count=PARTITIONS, replication=copies, grace_seconds=GRACE_SECONDS, **rules)
        names = {kafka.topic_prefix + name for name in single}
        alone = [spec for spec in topic_specs(PARTITIONS, prefix=kafka.topic_prefix) if spec.name in names]
        create_topics(self.kafka, alone)
        self.rules = migrate_all(self.kafka, self.clickhouse, wanted).rules
        self.client: Client = connect(self.clickhouse)
        self.producer = producer(self.kafka)

    def metering(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Metering:
        return Metering(kafka=self.kafka, clickhouse=self.clickhouse, wait_seconds=60, now=now)

    def define(self, notified: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> dict[str, UsageThreshold]:
        """Two metrics, and the thresholds that stay as they are, by name; "replaced" never judges. A checker must run.
        `notified`: threshold -> notify_emails and notify_webhook.

        They were made long ago, so that they also watch the windows of late events.
        """
        metering = self.metering(lambda: datetime.now(UTC) - AGE)
        persist(lambda: metering.metrics.define(key=CALLS, name="Calls", unit="call"))
        persist(lambda: metering.metrics.define(key=FLEX, name="Flexible", unit="unit"))
        fixed: dict[str, dict[str, Any]] = {
            "guest-cap": {"subject_type": "guest", "threshold": 100, "period_type": "lifetime"},
            "steady-cap": {"subject_type": "user", "threshold": 25, "period_type": "lifetime"},
            "hour-cap": {"subject_type": "user", "threshold": 12, "period_type": "hourly"},
            "credit-cap": {
                "subject_type": "credit",
                "threshold": 120,
                "warn_threshold": Decimal("40.5"),
                "period_type": "daily",
            },
            "every-cap": {"org_id": None, "subject_type": "user", "threshold": 30, "period_type": "lifetime"},
            "replaced": {
                "name": "guest-cap",
                "org_id": None,
                "subject_type": "guest",
                "threshold": 50,
                "period_type": "lifetime",
            },
        }
        made = {}
        for name, values in fixed.items():
            whole = {"org_id": ORG, "metric_key": CALLS, "name": name, **values, **notified.get(name, {})}
            made[name] = persist(lambda whole=whole: metering.thresholds.create(**whole))
        return made


def persist(attempt: Callable[[], T], seconds: float = 300) -> T:
    """Until a server that is down answers again."""
    until = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except Retryable:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
