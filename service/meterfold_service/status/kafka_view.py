"""What Kafka says about an installation: topics, ends of the logs, groups, and how long the next event has waited."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, Message

from meterfold_processor.kafka.admin import Admin, kept_admin
from meterfold_processor.kafka.errors import kafka_code
from meterfold_processor.kafka.groups import CommittedOffsets, Group, read_groups
from meterfold_processor.kafka.offsets import Place, bounds, log_ends
from meterfold_processor.kafka.reader import HEADS, TopicReader
from meterfold_schemas.errors import MeterfoldError
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import MIRRORED, NAMES, NOTIFIED, Topics

__all__ = [
    "Group",
    "KafkaInspector",
    "KafkaView",
    "LogBounds",
    "OpenTransaction",
    "PendingHead",
    "PendingHeads",
    "PendingPositions",
]

ANSWER_SECONDS: Final = 6.0
PEEK_SECONDS: Final = 4.0
_PAUSE_SECONDS: Final = 0.2
#: While a leader or coordinator is being elected: asked again, since nothing is down.
_PASSING: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
    }
)
_HEADER_BYTES: Final = 10


@dataclass(frozen=True, slots=True)
class LogBounds:
    """The offsets of one partition: [start, end) holds messages or markers of transactions."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PendingHead:
    """The first message after a position: the broker's stamp in seconds since 1970, and the value's first bytes."""

    stamp: float | None
    header: bytes


@dataclass(frozen=True, slots=True)
class PendingPositions:
    """Where to look for messages that wait: by partition of usage.recorded and of usage.windows, and by topic and
    partition of those that the checker copies into ClickHouse and of those that a notifier reads."""

    events: Mapping[int, int]
    windows: Mapping[int, int]
    mirrored: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    notified: Mapping[str, Mapping[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PendingHeads:
    """What was found waiting there."""

    events: Mapping[int, PendingHead]
    windows: Mapping[int, PendingHead]
    mirrored: Mapping[str, Mapping[int, PendingHead]] = field(default_factory=dict)
    notified: Mapping[str, Mapping[int, PendingHead]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenTransaction:
    """A transaction without an end so far. `stamp` of its first message in seconds since 1970, None if unknown."""

    topic: str
    partition: int
    offset: int
    stamp: float | None


@dataclass(frozen=True, slots=True)
class KafkaView:
    """`error` is set when Kafka did not answer; the other fields hold what was known until then.

    `recorded` and `windows`: partition -> its log. `mirrored`: the same of each topic that the checker copies into
    ClickHouse, by name; `notified`: of each topic whose events a notifier sends.
    """

    error: str | None = None
    brokers: int = 0
    topics: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    recorded: Mapping[int, LogBounds] = field(default_factory=dict)
    windows: Mapping[int, LogBounds] = field(default_factory=dict)
    mirrored: Mapping[str, Mapping[int, LogBounds]] = field(default_factory=dict)
    notified: Mapping[str, Mapping[int, LogBounds]] = field(default_factory=dict)
    checked: Mapping[int, int] = field(default_factory=dict)
    fold_group: Group | None = None
    checker_group: Group | None = None
    notify_group: Group | None = None
    open_transactions: Sequence[OpenTransaction] = ()


class KafkaInspector:
    """Looks at one cluster, repeatedly, over its own connections. For one thread."""

    def __init__(
        self, settings: KafkaSettings, fold_group: str, checker_group: str, notify_group: str = "meterfold-notify"
    ) -> None:
        """Raises InvalidSettings."""
        self._settings = settings
        self._topics = Topics(settings.topic_prefix)
        self._groups = (fold_group, checker_group, notify_group)
        self._checker_group = checker_group
        self._admin = Admin(settings, ANSWER_SECONDS)
        self._committed: dict[str, CommittedOffsets] = {}
        self._readers: dict[str, TopicReader] = {}

    def look(self) -> KafkaView:
        """Everything that does not depend on ClickHouse; an error is part of the answer."""
        with kept_admin(self._settings, self._admin):
            try:
                listed = self._admin.topics()
            except MeterfoldError as error:
                return KafkaView(error=str(error))
            names = [self._settings.topic_prefix + name for name in NAMES]
            seen = KafkaView(
                brokers=len(listed.brokers),
                topics={name: len(listed.topics[name].partitions) for name in names if name in listed.topics},
                missing=tuple(name for name in names if name not in listed.topics),
            )
            until = time.monotonic() + ANSWER_SECONDS
            while True:
                try:
                    return self._with_positions(seen)
                except MeterfoldError as error:
                    if kafka_code(error) not in _PASSING or time.monotonic() > until:
                        return replace(seen, error=str(error))
                    time.sleep(_PAUSE_SECONDS)

    def waiting(self, kafka: KafkaView, positions: PendingPositions) -> PendingHeads:
        """The first committed message at or after each position; no entry where there is none. Raises Retryable or
        Fatal."""
        recorded, windows = self._topics.usage_recorded, self._topics.usage_windows
        logs = {recorded: kafka.recorded, windows: kafka.windows, **kafka.mirrored}
        wanted = {recorded: positions.events, windows: positions.windows, **positions.mirrored}
        with self._reader("read_committed") as reader:
            heads = _heads(reader, wanted, logs)
            # The checker copies topics that a notifier reads as well, from other offsets.
            notified = _heads(reader, positions.notified, kafka.notified)
        return PendingHeads(heads.pop(recorded, {}), heads.pop(windows, {}), heads, notified)

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        for offsets in self._committed.values():
            offsets.close()

    def _with_positions(self, seen: KafkaView) -> KafkaView:
        places = [Place(name, partition) for name, count in seen.topics.items() for partition in range(count)]
        stable = bounds(self._settings, places, read_committed=True)
        ends = log_ends(self._settings, places)
        logs = dict[str, dict[int, LogBounds]]()
        for place, edges in stable.items():
            logs.setdefault(place.topic, {})[place.partition] = LogBounds(*edges)
        windows = logs.get(self._topics.usage_windows, {})
        copied, sent = ([self._settings.topic_prefix + name for name in names] for names in (MIRRORED, NOTIFIED))
        fold, checker, notify = read_groups(self._settings, [self._offsets(group) for group in self._groups])
        return replace(
            seen,
            recorded=logs.get(self._topics.usage_recorded, {}),
            windows=windows,
            mirrored={topic: logs[topic] for topic in copied if topic in logs},
            notified={topic: logs[topic] for topic in sent if topic in logs},
            checked=self._checked(windows),
            fold_group=fold,
            checker_group=checker,
            notify_group=notify,
            open_transactions=self._open({place: end for place, (_, end) in stable.items()}, ends),
        )

    def _checked(self, partitions: Iterable[int]) -> dict[int, int]:
        offsets = self._offsets(self._checker_group)
        found = offsets.read(Place(self._topics.usage_windows, partition) for partition in partitions)
        return {place.partition: offset for place, offset in found.items()}

    def _offsets(self, group_id: str) -> CommittedOffsets:
        """One connection for each group, kept between two looks."""
        if group_id not in self._committed:
            self._committed[group_id] = CommittedOffsets(self._settings, group_id, ANSWER_SECONDS)
        return self._committed[group_id]

    def _open(self, stable: Mapping[Place, int], ends: Mapping[Place, int]) -> tuple[OpenTransaction, ...]:
        """A read_committed consumer reads up to the first open transaction."""
        blocked = {place: offset for place, offset in stable.items() if offset < ends[place]}
        if not blocked:
            return ()
        with self._reader("read_uncommitted") as reader:
            found = reader.heads(blocked, ends)
        return tuple(
            OpenTransaction(*place, offset, _stamp(found[place]) if place in found else None)
            for place, offset in sorted(blocked.items())
        )

    @contextmanager
    def _reader(self, level: str) -> Iterator[TopicReader]:
        """One for each isolation level; it reads nothing between two looks."""
        if level not in self._readers:
            more = {**HEADS, "isolation.level": level}
            self._readers[level] = TopicReader(self._settings, "meterfold-status", more, stuck_seconds=PEEK_SECONDS)
        reader = self._readers[level]
        try:
            yield reader
        finally:
            reader.stop()


def _heads(
    reader: TopicReader, wanted: Mapping[str, Mapping[int, int]], logs: Mapping[str, Mapping[int, LogBounds]]
) -> dict[str, dict[int, PendingHead]]:
    starts = {Place(topic, partition): at for topic, found in wanted.items() for partition, at in found.items()}
    messages = reader.heads(starts, {place: logs[place.topic][place.partition].end for place in starts})
    heads = dict[str, dict[int, PendingHead]]()
    for place, message in messages.items():
        head = PendingHead(_stamp(message), (message.value() or b"")[:_HEADER_BYTES])
        heads.setdefault(place.topic, {})[place.partition] = head
    return heads


def _stamp(message: Message) -> float | None:
    kind, milliseconds = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else milliseconds / 1000
