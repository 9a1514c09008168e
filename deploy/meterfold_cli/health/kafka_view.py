"""What Kafka says about an installation: topics, ends of the logs, groups, and how long the next event has waited."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # not in its __all__

from meterfold_processor.kafka.errors import settings_checked
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import NAMES, Topics

ANSWER_SECONDS = 6.0
_PAUSE_SECONDS = 0.2
_PASSING = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
"""While a leader or coordinator is being elected: asked again, since nothing is down."""
PEEK_SECONDS = 4.0
_HEADER_BYTES = 10

# librdkafka writes to standard error unless it has a logger.
_quiet = logging.getLogger("meterfold.librdkafka")


@dataclass(frozen=True, slots=True)
class Log:
    """The offsets of one partition: [start, end) holds messages or markers of transactions."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `state` is None where the broker does not know it; `members` where it does not tell."""

    name: str
    state: str | None = None
    members: int | None = None

    @property
    def nobody(self) -> bool:
        """Nobody consumes in it, as far as the broker knows."""
        return self.state is None or self.state.lower() in ("empty", "dead")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The first message behind a position: the broker's stamp in seconds since 1970, and the value's first bytes."""

    stamp: float | None
    header: bytes


@dataclass(frozen=True, slots=True)
class KafkaView:
    """`error` is set when Kafka did not answer; what was known until then stands beside it."""

    error: str | None = None
    brokers: int = 0
    topics: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    recorded: Mapping[int, Log] = field(default_factory=dict)
    windows: Mapping[int, Log] = field(default_factory=dict)
    checked: Mapping[int, int] = field(default_factory=dict)
    fold_group: Group | None = None
    checker_group: Group | None = None


class KafkaEye:
    """Looks at one cluster. Every method raises KafkaException when it does not answer in time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._trouble: list[KafkaError] = []
        # Refused credentials are only told to this callback; the call itself just times out.
        with settings_checked():
            self._admin = AdminClient(settings.client(error_cb=self._trouble.append), logger=_quiet)

    def look(self, fold_group: str, checker_group: str) -> KafkaView:
        """Everything that does not depend on ClickHouse; an error is part of the answer."""
        try:
            listed = self._admin.list_topics(timeout=ANSWER_SECONDS)
        except KafkaException as error:
            return KafkaView(error=self._why(error))
        names = [self._settings.topic_prefix + name for name in NAMES]
        seen = KafkaView(
            brokers=len(listed.brokers),
            topics={name: len(listed.topics[name].partitions) for name in names if name in listed.topics},
            missing=tuple(name for name in names if name not in listed.topics),
        )
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return self._with_positions(seen, fold_group, checker_group)
            except KafkaException as error:
                if error.args[0].code() not in _PASSING or time.monotonic() > until:
                    return replace(seen, error=self._why(error))
                time.sleep(_PAUSE_SECONDS)

    def _with_positions(self, seen: KafkaView, fold_group: str, checker_group: str) -> KafkaView:
        groups = self._groups((fold_group, checker_group))
        windows = self._logs(self._topics.usage_windows, seen.topics)
        return replace(
            seen,
            recorded=self._logs(self._topics.usage_recorded, seen.topics),
            windows=windows,
            checked=self._committed(checker_group, self._topics.usage_windows, windows),
            fold_group=groups[fold_group],
            checker_group=groups[checker_group],
        )

    def waiting_events(self, positions: Mapping[int, int]) -> dict[int, Waiting]:
        """The first committed event at or behind each position of usage.recorded; no entry where there is none."""
        return self._peek(self._topics.usage_recorded, positions)

    def waiting_windows(self, positions: Mapping[int, int]) -> dict[int, Waiting]:
        return self._peek(self._topics.usage_windows, positions)

    def _logs(self, topic: str, there: Mapping[str, int]) -> dict[int, Log]:
        partitions = [TopicPartition(topic, number) for number in range(there.get(topic, 0))]
        if not partitions:
            return {}
        ends = []
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
            futures = self._admin.list_offsets(
                dict.fromkeys(partitions, spec),
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=ANSWER_SECONDS,
            )
            ends.append({at.partition: future.result().offset for at, future in futures.items()})
        return {at.partition: Log(ends[0][at.partition], ends[1][at.partition]) for at in partitions}

    def _committed(self, group: str, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        # A consumer that never joins, and not AdminClient.list_consumer_group_offsets: librdkafka crashes there when
        # the group's coordinator is not ready (confluent-kafka-python issue 1982).
        at = [TopicPartition(topic, number) for number in partitions]
        if not at:
            return {}
        consumer = Consumer(self._settings.client(**{"group.id": group, "enable.auto.commit": False}), logger=_quiet)
        try:
            found = consumer.committed(at, timeout=ANSWER_SECONDS)
        finally:
            consumer.close()
        return {place.partition: place.offset for place in found if place.error is None and place.offset >= 0}

    def _groups(self, names: Iterable[str]) -> dict[str, Group]:
        listed = self._admin.list_consumer_groups(request_timeout=ANSWER_SECONDS).result()
        states = {group.group_id: group.state.name for group in listed.valid}
        return {name: Group(name, states.get(name), self._members(name, states.get(name))) for name in names}

    def _members(self, name: str, state: str | None) -> int | None:
        if state is None:
            return 0
        try:
            described = self._admin.describe_consumer_groups([name], request_timeout=ANSWER_SECONDS)[name].result()
        except KafkaException:
            # A broker may not describe groups of the newer protocol to this client; their state tells enough.
            return None
        return len(described.members)

    def _peek(self, topic: str, positions: Mapping[int, int]) -> dict[int, Waiting]:
        if not positions:
            return {}
        settings: dict[str, Any] = {
            "group.id": f"meterfold-status-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 50,
            "fetch.message.max.bytes": 65_536,
            "queued.min.messages": 1,
        }
        consumer = Consumer(self._settings.client(**settings), logger=_quiet)
        found: dict[int, Waiting] = {}
        open_partitions = set(positions)
        deadline = time.monotonic() + PEEK_SECONDS
        try:
            consumer.assign([TopicPartition(topic, number, offset) for number, offset in positions.items()])
            while open_partitions and (left := deadline - time.monotonic()) > 0:
                message = consumer.poll(min(left, 0.5))
                number = None if message is None else message.partition()
                if message is None or number not in open_partitions:
                    continue
                open_partitions.discard(number)
                consumer.pause([TopicPartition(topic, number)])
                if message.error() is None:
                    kind, stamp = message.timestamp()
                    known = None if kind == TIMESTAMP_NOT_AVAILABLE else stamp / 1000
                    found[number] = Waiting(known, (message.value() or b"")[:_HEADER_BYTES])
        finally:
            consumer.close()
        if open_partitions:
            # Nothing found and nothing known are not the same: a partition that did not answer may have events.
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer from {topic} in {PEEK_SECONDS:g} s"))
        return found

    def _why(self, error: KafkaException) -> str:
        self._admin.poll(0)
        cause: KafkaError = error.args[0]
        reasons = [e for e in self._trouble if e.code() == KafkaError._AUTHENTICATION] or [cause]
        return f"{reasons[0].name()}: {reasons[0].str()}"
