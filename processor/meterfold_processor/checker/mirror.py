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
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import pyarrow as pa
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from meterfold_processor.backoff import Backoff, Stopped, persist
from meterfold_processor.checker.mirror_rows import PROGRESS, TABLES, row_of
from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at
from meterfold_schemas.errors import Fatal, Poison, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import MIRRORED
from meterfold_sink import reads
from meterfold_sink.client import Client, connect
from meterfold_sink.writers import Writer

__all__ = ["Mirror"]

_LOG = logging.getLogger("meterfold.checker.mirror")

_MESSAGES = 10_000
_POLL_SECONDS = 0.2


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
        self._to_open: set[tuple[str, int]] = set()
        self._opening = Backoff()
        self._open_at = 0.0
        self._tables = {kafka_settings.topic_prefix + topic: table for topic, table in MIRRORED.items()}

    def run(self, stop: Event) -> None:
        """Mirror until `stop` is set. Raises Fatal."""
        report = self._status.errors.of("mirror")
        consumer = clients.consumer(
            self._kafka, self._group_id, self._protocol, **{"fetch.wait.max.ms": 100, **self._session}
        )
        client: Client | None = None
        try:
            client = persist(lambda: connect(self._clickhouse), stop, report)
            writer = Writer(client)
            consumer.subscribe(
                list(self._tables), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )
            while not stop.is_set():
                if self._to_open and time.monotonic() >= self._open_at:
                    self._open(consumer, client, report)
                messages = self._messages(consumer)
                if messages:
                    self._insert(consumer, writer, messages, stop, report)
        except Stopped:
            pass
        finally:
            consumer.close()
            if client is not None:
                client.close()

    def _open(self, consumer: Consumer, client: Client, report: Callable[[Retryable | None], None]) -> None:
        """Read assigned partitions from the stored progress, or from the beginning if there is none."""
        try:
            stored = reads.read_mirrored(client)
            for topic, partition in sorted(self._to_open):
                offset = stored.get((topic, partition), OFFSET_BEGINNING)
                consumer.seek(at(topic, partition, offset))
                consumer.resume([at(topic, partition)])
                self._to_open.discard((topic, partition))
        except (Retryable, KafkaException) as error:  # the fetcher of a partition just assigned may not be up yet
            trouble = error if isinstance(error, Retryable) else errors.as_error(error.args[0], "seeking")
            if not isinstance(trouble, Retryable):
                raise trouble from error
            report(trouble)
            pause = self._opening.next()
            _LOG.warning("%s; trying again in %.1f s", trouble, pause)
            self._open_at = time.monotonic() + pause
        else:
            report(None)
            self._opening.reset()

    def _messages(self, consumer: Consumer) -> list[Message]:
        messages = consumer.consume(1, _POLL_SECONDS)
        if messages:
            messages += consumer.consume(_MESSAGES, 0)
        return [message for message in messages if self._is_message(consumer, message)]

    def _insert(
        self,
        consumer: Consumer,
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
                pause = backoff.next()
                _LOG.warning("%s; trying again in %.1f s", error, pause)
                # Polling on keeps the membership. Only a partition that is given to us meanwhile is not paused.
                consumer.pause(consumer.assignment())
                messages += [message for message in consumer.consume(1, pause) if self._is_message(consumer, message)]
                consumer.resume([p for p in consumer.assignment() if (p.topic, p.partition) not in self._to_open])
            else:
                report(None)
                for table, found in rows.items():
                    self._status.mirrored[table] = self._status.mirrored.get(table, 0) + len(found)
                _commit(consumer, messages)
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

    def _is_message(self, consumer: Consumer, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            place = at(message.topic() or "", message.partition() or 0, OFFSET_BEGINNING)
            _LOG.warning("%s: the offset is not in the log, reading from its start (%s)", place.topic, error.str())
            consumer.incremental_unassign([place])
            consumer.incremental_assign([place])
            return False
        found = errors.consuming_error(error)
        if isinstance(found, Fatal):
            raise found
        _LOG.warning("%s", found)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Paused, at the beginning. librdkafka looks that offset up later; if its answer undoes our seek, rows are only
        copied again."""
        for place in partitions:
            place.offset = OFFSET_BEGINNING
        consumer.incremental_assign(partitions)
        consumer.pause(partitions)
        self._to_open |= {(place.topic, place.partition) for place in partitions}
        self._open_at = 0.0

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._to_open -= {(place.topic, place.partition) for place in partitions}


def _next_offsets(messages: list[Message]) -> dict[tuple[str, int], int]:
    return {(message.topic() or "", message.partition() or 0): (message.offset() or 0) + 1 for message in messages}


def _progress(messages: list[Message]) -> pa.Table:
    rows = [
        {"topic": topic, "partition": partition, "next_offset": offset}
        for (topic, partition), offset in _next_offsets(messages).items()
    ]
    return pa.Table.from_pylist(rows, schema=PROGRESS)


def _commit(consumer: Consumer, messages: list[Message]) -> None:
    """A failed commit is not repeated: the next one includes it, or the rows are inserted again."""
    places = [at(topic, partition, offset) for (topic, partition), offset in _next_offsets(messages).items()]
    try:
        consumer.commit(offsets=places, asynchronous=False)
    except KafkaException as error:
        _LOG.warning("the mirror's offsets are not committed, rows may be inserted again: %s", error)
