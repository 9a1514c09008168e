"""What must hold at every moment, looked at while the faults go on.

A window that is stored has every record that it counts; a window that was published is stored. Both are what the order
of a flush promises, and both are gone again once a worker that died in between has a successor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Lock, Thread
from typing import Any

import pyarrow as pa
from confluent_kafka import OFFSET_END, Consumer, KafkaException

from chaos.ground import Ground
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_schemas.errors import MeterfoldError
from meterfold_sink import fold_state
from meterfold_sink.client import Client, connect

_LOOK_SECONDS = 1.0
_LIFETIME = 4
_SUBJECT = "org_id, metric_key, subject_type, subject_id"

Key = tuple[Any, ...]


class Sentry:
    """A thread. `found` says what did not hold, each kind once."""

    def __init__(self, ground: Ground) -> None:
        self.found: list[str] = []
        self._ground = ground
        self._over = Event()
        self._looking = Lock()
        self._client: Client | None = None
        self._consumer: Consumer | None = None
        self._thread = Thread(target=self._run, name="sentry", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(30)

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Where nothing is promised for a while; what was published meanwhile is not looked at."""
        with self._looking:
            yield
            self._close()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            with self._looking:
                self._look()
        self._close()

    def _look(self) -> None:
        try:
            if self._client is None:
                self._client = connect(self._ground.clickhouse, timeout_seconds=5)
            self._look_at_published(self._client)
            self._look_at_stored(self._client)
        except MeterfoldError:
            pass  # a server that is away
        except KafkaException:
            self._close()

    def _close(self) -> None:
        if self._consumer is not None:
            with suppress(KafkaException):
                self._consumer.close()
        self._consumer = None

    def _tell(self, text: str) -> None:
        if not any(known[:30] == text[:30] for known in self.found):
            self.found.append(text)

    def _look_at_published(self, client: Client) -> None:
        """Lifetimes alone: a flush touches one of every subject that it counts."""
        published: dict[Key, int] = {}
        for message in self._published().consume(500, 0.1):
            if message.error() is not None:
                continue
            for row in pa.ipc.open_stream(message.value()).read_all().to_pylist():
                if row["period_type"] == _LIFETIME:
                    key = (row["partition"], *(row[name] for name in _SUBJECT.split(", ")))
                    published[key] = max(published.get(key, -1), row["folded_through"])
        if not published:
            return
        stored = {
            (row["partition"], *(row[name] for name in _SUBJECT.split(", "))): row["folded_through"]
            for row in client.rows(
                f"SELECT partition, {_SUBJECT}, max(folded_through) AS folded_through FROM usage_windows "
                "WHERE period_type = 'lifetime' AND subject_id IN {subjects:Array(String)} "
                f"GROUP BY partition, {_SUBJECT}",
                {"subjects": sorted({key[4] for key in published})},
            )
        }
        for key, through in published.items():
            if stored.get(key, -1) < through:
                self._tell(f"published before it was stored: {key} up to {through}, stored up to {stored.get(key)}")

    def _look_at_stored(self, client: Client) -> None:
        """Windows beyond the progress rows, which a flush is writing or has left behind half done."""
        progress = fold_state.read_progress(client)
        for partition, row in progress.items():
            windows = client.rows(
                f"SELECT {_SUBJECT}, record_count, folded_through FROM usage_windows FINAL "
                f"WHERE period_type = 'lifetime' AND partition = {partition} AND folded_through >= {row.next_offset}"
            )
            if not windows:
                continue
            records = client.rows(
                f"SELECT {_SUBJECT}, groupUniqArray(offset) AS offsets FROM usage_records "
                f"WHERE partition = {partition} AND subject_id IN {{subjects:Array(String)}} GROUP BY {_SUBJECT}",
                {"subjects": sorted({window["subject_id"] for window in windows})},
            )
            offsets = {tuple(found[name] for name in _SUBJECT.split(", ")): found["offsets"] for found in records}
            for window in windows:
                key = tuple(window[name] for name in _SUBJECT.split(", "))
                there = sum(offset <= window["folded_through"] for offset in offsets.get(key, []))
                if there < window["record_count"]:
                    self._tell(f"stored before its records: {key} counts {window['record_count']}, {there} are there")

    def _published(self) -> Consumer:
        if self._consumer is None:
            topic = self._ground.topics.usage_windows
            made = clients.consumer(self._ground.kafka, "chaos-sentry", "classic")
            ends = log_edge(made, topic, range(self._ground.partitions), OFFSET_END, 5)
            made.assign([at(topic, p, end) for p, end in ends.items()])
            self._consumer = made
        return self._consumer
