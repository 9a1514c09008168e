"""Reads threshold.state from its beginning and on, all partitions, without a group: each process has all of it.

    1. ask for the topic's id and partitions   2. read from the beginning   3. compare with the ends, once a second

A comparison that finds everything read is what `as_of` says: every state that was committed before it began is in the
table. A topic that was deleted and created again has another id, or no such offsets; then all of it is read anew, into
a table that answers nothing until it has caught up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Lock
from typing import TYPE_CHECKING, Final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message

from meterfold_processor.backoff import Backoff, Troubles
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.admin import kept_admin
from meterfold_processor.kafka.errors import as_error
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_processor.kafka.topics import read_identity
from meterfold_schemas.errors import Fatal, MeterfoldError, Poison, Retryable
from meterfold_schemas.events import ThresholdState
from meterfold_schemas.topics import Topics
from meterfold_service.limits.table import Limit, LimitTable, Subject

if TYPE_CHECKING:
    from meterfold_schemas.settings import KafkaSettings

__all__ = ["StateFollower"]

_LOG = logging.getLogger("meterfold.limits")

_NAME: Final = "meterfold-limits"
_MESSAGES: Final = 1000
_POLL_SECONDS: Final = 0.1
_COMPARE_SECONDS: Final = 1.0
_IDENTITY_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 2.0


class TopicReplaced(Exception):
    """The topic is another one than was read."""


class StateFollower:
    """`run` in a thread of its own; `of` and `as_of` for any thread."""

    def __init__(self, kafka: Callable[[], KafkaSettings], now: Callable[[], datetime]) -> None:
        self._settings = kafka
        self._now = now
        self._lock = Lock()
        self._table = LimitTable()
        self._positions: dict[int, int] = {}
        self._as_of: datetime | None = None
        self.errors = Troubles()

    @property
    def as_of(self) -> datetime | None:
        """Every state that was written until then is in the answers; None: not caught up yet."""
        return self._as_of

    def of(self, subject: Subject) -> tuple[tuple[Limit, ...], datetime | None]:
        """The limits of a subject, and `as_of`."""
        with self._lock:
            return self._table.of(subject, self._now()), self._as_of

    def __len__(self) -> int:
        """States in memory."""
        return len(self._table)

    def run(self, stop: Event) -> None:
        """Until `stop` is set. Errors are tried again for ever; `errors` and the log say so."""
        backoff = Backoff()
        report = self.errors.of("limits")

        def well() -> None:
            report(None)
            backoff.reset()

        while not stop.is_set():
            try:
                self._follow(stop, well)
            except TopicReplaced:
                _LOG.warning("threshold.state was created again; reading it from its beginning")
                self._forget()
            except MeterfoldError as error:
                report(error if isinstance(error, Retryable) else Retryable(str(error)))
                _LOG.warning("%s; trying again in %.1f s", error, backoff.pause)
                stop.wait(backoff.next())

    def _follow(self, stop: Event, well: Callable[[], object]) -> None:
        settings = self._settings()
        topic = Topics(settings.topic_prefix).threshold_state
        with kept_admin(settings):
            identity = read_identity(settings, topic)
            if identity is None:
                raise Fatal(f"Kafka has no topic {topic}: run `meterfold migrate`")
            topic_id, partitions = identity
            consumer = clients.consumer(
                settings, settings.topic_prefix + _NAME, "classic", **{"fetch.wait.max.ms": 100, "error_cb": _ignore}
            )
            try:
                self._forget()  # a state may have been deleted while nobody read
                consumer.assign([at(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
                starts = log_edge(consumer, topic, range(partitions), OFFSET_BEGINNING, _CALL_SECONDS)
                self._positions = dict(starts)
                compared = looked = time.monotonic()
                while not stop.is_set():
                    self._take(clients.arrived(consumer, _MESSAGES, _POLL_SECONDS))
                    clock = time.monotonic()
                    if clock - looked >= _IDENTITY_SECONDS:
                        if read_identity(settings, topic) != identity:
                            raise TopicReplaced(topic_id)
                        looked = clock
                    if self._as_of is None or clock - compared >= _COMPARE_SECONDS:
                        self._compare(consumer, topic)
                        compared = clock
                        well()
            finally:
                consumer.close()

    def _compare(self, consumer: Consumer, topic: str) -> None:
        """Raises TopicReplaced for a log that ends before what was read."""
        begun = self._now().astimezone(UTC)
        ends = log_edge(consumer, topic, self._positions, OFFSET_END, _CALL_SECONDS)
        if any(ends[partition] < position for partition, position in self._positions.items()):
            raise TopicReplaced(topic)
        # Behind the last message there may be markers of transactions, which no message follows.
        for place in consumer.position([at(topic, partition) for partition in self._positions]):
            if place.offset >= 0:
                self._positions[place.partition] = max(self._positions[place.partition], place.offset)
        with self._lock:
            if all(self._positions[partition] >= end for partition, end in ends.items()):
                self._as_of = begun
            self._table.sweep(begun)

    def _take(self, messages: list[Message]) -> None:
        now = self._now()
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    self._pass(message)
                    continue
                if error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise TopicReplaced(error.str())
                raise as_error(error, f"reading {message.topic()}")
            value, key = message.value(), message.key() or b""
            try:
                state = None if value is None else ThresholdState.from_bytes(value)
            except Poison as poison:
                _LOG.error("%s offset %s is skipped: %s", message.topic(), message.offset(), poison)
                continue
            with self._lock:
                self._table.apply(key, state, now)
            self._pass(message, 1)

    def _pass(self, message: Message, more: int = 0) -> None:
        partition, offset = message.partition(), message.offset()
        if partition in self._positions and offset is not None and partition is not None:
            self._positions[partition] = max(self._positions[partition], offset + more)

    def _forget(self) -> None:
        with self._lock:
            self._table.clear()
            self._as_of = None


def _ignore(_: KafkaError) -> None:
    """Brokers that are away: the comparison says so."""
