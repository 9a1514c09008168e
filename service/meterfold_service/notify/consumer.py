"""Events into planned deliveries, message by message.

    1. consume   2. write the planned deliveries   3. write the progress   4. commit the offsets, which only show lag

The progress rows decide where to start, as in the checker's mirror: they are restored together with the deliveries. A
consumer that dies after 2 reads the events again and finds their deliveries planned. One without progress begins at the
beginning of the log; events that are too old by then are `expired`, see planning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Final, Protocol

from confluent_kafka import Consumer, KafkaError, Message

from meterfold_processor.backoff import Backoff, persist
from meterfold_processor.kafka import clients
from meterfold_processor.kafka.membership import log_ends
from meterfold_processor.kafka.stored_start import Position, StoredStart, next_offsets
from meterfold_schemas.definitions import UsageThreshold
from meterfold_schemas.endpoint_changes import EndpointChanged
from meterfold_schemas.errors import Poison, Retryable
from meterfold_schemas.events import ThresholdEvent
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import NOTIFIED, Topics
from meterfold_service.notify.delivery_spans import UNTRACED, DeliverySpans
from meterfold_service.notify.following import ThresholdFollower
from meterfold_service.notify.planning import PlanRules, Source, planned
from meterfold_service.notify.settings import NotifySettings
from meterfold_service.notify.status import NotifyStatus
from meterfold_service.notify.store import Store
from meterfold_sink.notification_tries import ACTIVE, TryRow
from meterfold_sink.notifications import DeliveryKey, OpenDelivery

__all__ = ["EventConsumer", "Planned", "plan"]

_LOG = logging.getLogger("meterfold.notify")

_MESSAGES: Final = 500
_POLL_SECONDS: Final = 0.2


class Thresholds(Protocol):
    """The definitions as their topic says."""

    def catch_up(self) -> None: ...

    def get(self, threshold_id: str) -> UsageThreshold | None: ...


@dataclass(frozen=True, slots=True)
class Planned:
    """`rows` were written. `open`: the deliveries of these events that may have a try to come, also those that were
    planned before, perhaps by a notifier that has lost the partition since."""

    rows: Sequence[TryRow]
    open: Sequence[OpenDelivery]


def plan(
    sources: list[Source],
    positions: Mapping[Position, int],
    thresholds: Thresholds,
    store: Store,
    rules: PlanRules,
    now: datetime,
) -> Planned:
    """Steps 2 and 3: write the deliveries of these events that are not planned yet, then that all below `positions` is
    planned. Raises Retryable or Fatal."""
    found = _planned(sources, thresholds, store, rules, now)
    if found.rows:
        store.write(found.rows)
    store.write_progress(positions)
    return found


def _planned(sources: list[Source], thresholds: Thresholds, store: Store, rules: PlanRules, now: datetime) -> Planned:
    events: dict[str, Source] = {}
    for source in sources:
        # An event about an endpoint that is published again has the same id and other numbers. The first one counts,
        # also when it is read again after ClickHouse was restored: a receiver got its contents under this id.
        events.setdefault(source.event.event_id, source)
    if not events:
        return Planned((), ())
    thresholds.catch_up()
    known = store.known(list(events))
    disabled = store.endpoints().disabled
    deleted = {
        event.alert_id
        for source in events.values()
        if isinstance(event := source.event, ThresholdEvent) and thresholds.get(event.threshold_id) is None
    }
    earlier = store.alert_targets(sorted(deleted)) if deleted else {}
    rows: list[TryRow] = []
    for source in events.values():
        event, threshold, learned = source.event, None, set[tuple[str, str]]()
        if isinstance(event, ThresholdEvent):
            threshold, learned = thresholds.get(event.threshold_id), earlier.get(event.alert_id, set())
        rows += [
            row
            for row in planned(source, threshold, learned, disabled, rules, now)
            if (row.event_id, row.channel, row.target) not in known
        ]
    earlier_rows = [
        OpenDelivery(key, occurred_at, source.topic, source.partition, now)
        for key, occurred_at in known.items()
        for source in (events[key.event_id],)
    ]
    new_rows = [
        OpenDelivery(DeliveryKey(row.event_id, row.channel, row.target), row.occurred_at, row.topic, row.partition, now)
        for row in rows
        if row.state in ACTIVE
    ]
    return Planned(rows, [*earlier_rows, *new_rows])


class EventConsumer:
    """One member of the notifiers' group. For one thread. `on_planned` is called with deliveries that were planned, and
    with none after `owned` has grown."""

    def __init__(
        self,
        kafka: KafkaSettings,
        settings: NotifySettings,
        rules: PlanRules,
        store: Store,
        status: NotifyStatus,
        on_planned: Callable[[Sequence[OpenDelivery]], None],
        spans: DeliverySpans = UNTRACED,
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._rules = rules
        self._store = store
        self._status = status
        self._on_planned = on_planned
        self._spans = spans
        names = Topics(kafka.topic_prefix)
        self._topics = [kafka.topic_prefix + name for name in NOTIFIED]
        self._endpoint_topic = names.endpoint_changed
        self._group_id = kafka.topic_prefix + settings.group_id
        self._thresholds = ThresholdFollower(kafka, names.threshold_defined, self._group_id)
        self._positions: dict[Position, int] = {}
        self._opened = 0
        self.owned: Mapping[Position, int] = {}
        """The partitions whose deliveries this process sends -> the number of the assignment; read by any thread. One
        is here only after its progress was read: what others planned before that is in the store by then, and the rest
        is read here."""

    def run(self, stop: Event) -> None:
        """Plan until `stop` is set. Raises Fatal, GaveUp where the client has to be replaced, or Stopped."""
        report = self._status.errors.of("events")
        persist(self._store.check, stop, self._status.errors.of("start"))
        consumer = self._consumer()
        partitions = StoredStart(consumer, _LOG, self._on_revoked)
        try:
            partitions.subscribe(self._topics)
            while not stop.is_set():
                if partitions.open(self._store.positions, report, self._on_opened):
                    self._on_planned(())
                messages = clients.arrived(consumer, _MESSAGES, _POLL_SECONDS)
                ends = self._ends(messages)
                if found := partitions.messages(messages):
                    self._plan(partitions, found, stop, report)
                self._advance(ends)
                self._status.opening = sorted(partitions.waiting)
                self._status.positions = dict(self._positions)
        finally:
            consumer.close()
            self._thresholds.close()
            self.owned = {}

    def _plan(
        self, partitions: StoredStart, messages: list[Message], stop: Event, report: Callable[[Retryable | None], None]
    ) -> None:
        backoff = Backoff()
        while not stop.is_set():
            try:
                sources, positions = self._sources(messages), next_offsets(messages)
                planned = plan(sources, positions, self._thresholds, self._store, self._rules, datetime.now(UTC))
            except Retryable as error:
                report(error)
                messages += partitions.wait(error, backoff.next())
            else:
                report(None)
                self._status.planned += len(planned.rows)
                self._advance(positions)
                partitions.commit(positions, "the notifier's offsets are not committed")
                if planned.open:
                    self._on_planned(planned.open)
                return

    def _sources(self, messages: list[Message]) -> list[Source]:
        """Raises UnknownSchema: the events of a newer version are held until this process is upgraded."""
        sources = []
        for message in messages:
            topic, value = message.topic() or "", message.value()
            kind: type[ThresholdEvent | EndpointChanged] = (
                EndpointChanged if topic == self._endpoint_topic else ThresholdEvent
            )
            try:
                event = kind.from_bytes(value or b"")
            except Poison as error:
                _LOG.error("%s offset %s is skipped: %s", topic, message.offset(), error)
                self._status.damaged += 1
            else:
                sources.append(Source(topic, message.partition() or 0, event))
                self._spans.remember(event.event_id, message.headers())
        return sources

    def _ends(self, messages: list[Message]) -> dict[Position, int]:
        """Ends of logs that were reached: a log can end with markers of transactions, which no message passes."""
        return {
            (message.topic() or "", message.partition() or 0): message.offset() or 0
            for message in messages
            if (error := message.error()) is not None and error.code() == KafkaError._PARTITION_EOF
        }

    def _on_opened(self, position: Position, offset: int) -> None:
        self._positions[position] = max(offset, 0)
        self._opened += 1
        self.owned = {**self.owned, position: self._opened}

    def _on_revoked(self, gone: set[Position]) -> None:
        self.owned = {position: number for position, number in self.owned.items() if position not in gone}
        for position in gone:
            self._positions.pop(position, None)

    def _advance(self, positions: Mapping[Position, int]) -> None:
        for position, offset in positions.items():
            if position in self._positions:
                self._positions[position] = max(self._positions[position], offset)

    def _consumer(self) -> Consumer:
        settings = self._settings
        session = settings.session_timeout_seconds * 1000
        membership = self._status.membership.settings(self._topics[0])

        def take(statistics: str) -> None:
            self._status.ends = log_ends(statistics, self._topics)
            membership["stats_cb"](statistics)

        return clients.consumer(
            self._kafka,
            self._group_id,
            settings.group_protocol,
            **{
                "fetch.wait.max.ms": 100,
                "enable.partition.eof": True,
                **membership,
                "stats_cb": take,
                **({"session.timeout.ms": session} if settings.group_protocol == "classic" else {}),
            },
        )
