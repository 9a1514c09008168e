"""Events of one installation, folded and judged by the real workers on threads of this process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any

from meterfold_local.stack import LocalStack
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.fold.worker import FoldWorker
from meterfold_processor.verify import VerifyReport, verify
from meterfold_schemas.alert_actions import AlertActed
from meterfold_schemas.keys import partition_of
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.usage import UsageRecorded
from meterfold_schemas.vocabulary import AlertAction
from meterfold_sink import fold_state, reads
from meterfold_sink.client import Client, connect
from meterfold_sink.positions import KINDS
from support import consume_all, eventually, producer
from support.checker.installation import Installation, running
from support.clickhouse import http_query
from support.databases import migrated_database
from support.kafka import delete_topics

METRIC = "api.calls"
COPIED = (
    *(*KINDS.values(), "usage_windows", "fold_progress"),
    *("threshold_events", "alert_actions", "metric_definitions", "thresholds", "mirror_progress"),
)


@dataclass(frozen=True)
class Copy:
    """A database with the tables of a history."""

    settings: ClickHouseSettings
    client: Client


@dataclass(frozen=True)
class History:
    """An installation with usage, and the group of its checker."""

    there: Installation
    checker_group: str
    failures: list[BaseException] = field(default_factory=list)
    """What ended the fold."""

    @property
    def kafka(self) -> KafkaSettings:
        return self.there.kafka

    def event(self, event_id: str, subject_id: str, quantity: int, *, ago: timedelta = timedelta(0)) -> UsageRecorded:
        now = datetime.now(UTC) - timedelta(seconds=5) - ago
        return UsageRecorded(
            id=event_id,
            org_id="acme",
            metric_key=METRIC,
            subject_type="user",
            subject_id=subject_id,
            quantity=quantity,
            timestamp=now,
        )

    def partition_of(self, subject_id: str) -> int:
        return partition_of(self.event("x", subject_id, 1).key, self.there.partitions)

    def send(self, *events: UsageRecorded) -> None:
        for event in events:
            partition = partition_of(event.key, self.there.partitions)
            self.there.send(self.there.topics.usage_recorded, event.key, event.to_bytes(), partition)

    def act(self, alert_id: str, action: AlertAction, by: str) -> None:
        acted = AlertActed(occurred_at=datetime.now(UTC), alert_id=alert_id, action=action, by=by)
        self.there.send(self.there.topics.alert_acted, acted.key, acted.to_bytes(), 0)

    def send_in_transactions(self, committed: list[UsageRecorded], aborted: list[UsageRecorded]) -> None:
        """One transaction that is committed, then one that is aborted."""
        sender = producer(self.kafka, **{"transactional.id": f"{self.kafka.topic_prefix}{secrets.token_hex(3)}"})
        sender.init_transactions(20)
        for events, end in ((committed, sender.commit_transaction), (aborted, sender.abort_transaction)):
            sender.begin_transaction()
            for event in events:
                partition = partition_of(event.key, self.there.partitions)
                sender.produce(self.there.topics.usage_recorded, event.to_bytes(), event.key, partition)
            assert sender.flush(20) == 0
            end(20)

    def verify(self, clickhouse: ClickHouseSettings | None = None, **more: Any) -> VerifyReport:
        settings = clickhouse or self.there.clickhouse
        return verify(self.kafka, settings, **{"checker_group": self.kafka.topic_prefix + self.checker_group, **more})

    def is_folded(self, messages: int) -> bool:
        """Whether the fold has decided so many messages. Raises what ended the fold."""
        if self.failures:
            raise self.failures[0]
        progress = fold_state.read_progress(self.there.client).values()
        return sum(row.counted + row.duplicates + row.rejected for row in progress) == messages

    @contextmanager
    def folding(self) -> Iterator[FoldWorker]:
        worker = FoldWorker(FoldSettings(batch_seconds=0.05), self.kafka, Opening(self.kafka, self.there.clickhouse))
        stop = Event()

        def run() -> None:
            try:
                worker.run(stop)
            except BaseException as failure:
                self.failures.append(failure)

        thread = Thread(target=run, daemon=True)
        thread.start()
        try:
            yield worker
        finally:
            stop.set()
            thread.join(20)
            assert not thread.is_alive(), "the fold does not stop"
        if self.failures:
            raise self.failures[0]

    @contextmanager
    def checking(self) -> Iterator[None]:
        with running(self.there, mirror=True, group_id=self.checker_group) as checker:
            checker.ready(self.there.partitions)
            yield

    @contextmanager
    def copy(self, stack: LocalStack) -> Iterator[Copy]:
        """A database with the same rows, to tamper with."""
        with migrated_database(stack) as settings, connect(settings) as client:
            reads.write_settings_once(client, self.there.rules)
            for table in COPIED:
                client.command(f"INSERT INTO {table} SELECT * FROM {self.there.clickhouse.database}.{table} FINAL")
            yield Copy(settings, client)


@contextmanager
def installed(stack: LocalStack, partitions: int = 2) -> Iterator[History]:
    """Empty topics and tables, and a metric with a threshold of 100 over each subject's lifetime."""
    prefix = f"verify-{secrets.token_hex(4)}."
    kafka, clickhouse = stack.kafka_settings(prefix), stack.clickhouse_settings(f"verify_{secrets.token_hex(4)}")
    http_query(clickhouse, f"CREATE DATABASE {clickhouse.database}")
    there = Installation(kafka, clickhouse, partitions)
    try:
        there.define_metric(METRIC)
        there.define_threshold(limit=100)
        yield History(there, prefix + "checker")
    finally:
        there.close()
        delete_topics(kafka)
        http_query(clickhouse, f"DROP DATABASE IF EXISTS {clickhouse.database}")


def folded(history: History) -> None:
    """Wait until the fold has decided everything that a read_committed reader sees."""
    messages = len(consume_all(history.kafka, history.there.topics.usage_recorded))
    eventually(lambda: history.is_folded(messages), 60, f"{messages} messages are folded")
