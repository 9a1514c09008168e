"""Definitions and threshold events into ClickHouse: topic to Replacing table, message by message.

    1. consume   2. insert the rows   3. insert the progress   4. commit the offsets, which only show lag

As in the fold, the progress rows decide where to start: they reflect a restored ClickHouse, which the offsets of a
consumer group do not. After a crash rows are inserted again and replace themselves. A definition's version is its
offset, so a late repetition of an older message loses against the stored row; a deletion remains as a row for the same
reason.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from meterfold_processor.backoff import Backoff, Stopped, persist
from meterfold_processor.checker.mirror_rows import PROGRESS, TABLES, row_of
from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.stored_start import StoredStart, next_offsets
from meterfold_schemas.errors import Poison, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import MIRRORED
from meterfold_sink import reads
from meterfold_sink.client import Client, connect
from meterfold_sink.writers import Writer

__all__ = ["Mirror"]

_LOG = logging.getLogger("meterfold.checker.mirror")

_MESSAGES = 10_000
_POLL_SECONDS = 0.2
_NOT_COMMITTED = "the mirror's offsets are not committed, rows may be inserted again"


class Mirror:
    """One member of the mirror's own group. For one thread."""

    def __init__(
        self,
        kafka_settings: KafkaSettings,
        clickhouse_settings: ClickHouseSettings,
        group_id: str,
        protocol: str,
        session_timeout_seconds: int,
        status: CheckerStatus,
    ) -> None:
        self._kafka = kafka_settings
        self._clickhouse = clickhouse_settings
        self._group_id = group_id
        self._protocol = protocol
        self._session = {"session.timeout.ms": session_timeout_seconds * 1000} if protocol == "classic" else {}
        self._status = status
        self._tables = {kafka_settings.topic_prefix + topic: table for topic, table in MIRRORED.items()}

    def run(self, stop: Event) -> None:
        """Mirror until `stop` is set. Raises Fatal."""
        report = self._status.errors.of("mirror")
        consumer = clients.consumer(
            self._kafka, self._group_id, self._protocol, **{"fetch.wait.max.ms": 100, **self._session}
        )
        partitions = StoredStart(consumer, _LOG)
        client: Client | None = None
        try:
            client = persist(lambda: connect(self._clickhouse), stop, report)
            writer = Writer(client)
            partitions.subscribe(list(self._tables))
            while not stop.is_set():
                partitions.open(partial(reads.read_mirrored, client), report)
                messages = partitions.messages(clients.arrived(consumer, _MESSAGES, _POLL_SECONDS))
                if messages:
                    self._insert(partitions, writer, messages, stop, report)
        except Stopped:
            pass
        finally:
            consumer.close()
            if client is not None:
                client.close()

    def _insert(
        self,
        partitions: StoredStart,
        writer: Writer,
        messages: list[Message],
        stop: Event,
        report: Callable[[Retryable | None], None],
    ) -> None:
        backoff = Backoff()
        while not stop.is_set():
            rows = self._rows(messages)
            try:
                for table, schema in TABLES.items():  # definitions first: a command waits for its row
                    if table in rows:
                        writer.insert(table, pa.Table.from_pylist(rows[table], schema=schema))
                writer.insert("mirror_progress", _progress(messages))
            except Retryable as error:
                report(error)
                messages += partitions.wait(error, backoff.next())
            else:
                report(None)
                for table, found in rows.items():
                    self._status.mirrored[table] = self._status.mirrored.get(table, 0) + len(found)
                partitions.commit(next_offsets(messages), _NOT_COMMITTED)
                return

    def _rows(self, messages: list[Message]) -> dict[str, list[dict[str, Any]]]:
        rows: dict[str, list[dict[str, Any]]] = {}
        for message in messages:
            table = self._tables[message.topic() or ""]
            try:
                row = row_of(table, message.key() or b"", message.value(), message.offset() or 0)
            except (Poison, json.JSONDecodeError, UnicodeDecodeError) as error:
                _LOG.error("%s offset %s is skipped: %s", message.topic(), message.offset(), error)
                continue
            if row is not None:
                rows.setdefault(table, []).append(row)
        return rows


def _progress(messages: list[Message]) -> pa.Table:
    rows = [
        {"topic": topic, "partition": partition, "next_offset": offset}
        for (topic, partition), offset in next_offsets(messages).items()
    ]
    return pa.Table.from_pylist(rows, schema=PROGRESS)
