"""Offsets of a log: its edges and the offset at a time, never taken from an answer that has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_INVALID, Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from meterfold_processor.kafka.admin import Admin, admin_for
from meterfold_processor.kafka.errors import as_error
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["Place", "at", "bounds", "listed_offset", "log_bounds", "log_edge", "log_ends", "offsets_at", "topic_bounds"]


class Place(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


def at(topic: str, partition: int, offset: int | None = None) -> TopicPartition:
    """A position of a partition, or the partition alone."""
    return TopicPartition(topic, partition) if offset is None else TopicPartition(topic, partition, offset)


def listed_offset(answer: Any, doing: str) -> int:
    """The offset in an answer of `list_offsets` about the beginning or the end of a log.

    While a broker dies, librdkafka may call an answer without an offset (-1001) a success. Taken for the end of a log
    it would mean that there is nothing to read: no definitions, no state. Raises Retryable.
    """
    offset = int(answer.offset)
    if offset < 0:
        raise Retryable(f"Kafka, {doing}: the answer has no offset")
    return offset


def log_edge(consumer: Consumer, topic: str, partitions: Iterable[int], edge: int, timeout: float) -> dict[int, int]:
    """partition -> the first offset of its log (`edge` OFFSET_BEGINNING) or the one after its last (OFFSET_END), as
    this consumer may read it. Raises Retryable or Fatal, in about `timeout` seconds at the latest.

    `get_watermark_offsets` would do, but while brokers die it has been seen to hold its caller for five minutes,
    whatever its time-out: librdkafka looks at that only while it is connected.
    """
    places = [at(topic, partition, edge) for partition in partitions]
    if not places:
        return {}
    doing = f"reading the bounds of {topic}"
    try:
        # Broker and librdkafka take the two edges for times.
        found = consumer.offsets_for_times(places, timeout)
    except KafkaException as error:
        raise as_error(error.args[0], doing) from error
    for place in found:
        if place.error is not None:
            raise as_error(place.error, doing)
    return {place.partition: listed_offset(place, doing) for place in found}


def bounds(
    settings: KafkaSettings, places: Iterable[Place], *, read_committed: bool = False
) -> dict[Place, tuple[int, int]]:
    """Of each place: (first offset of the log, offset after its end; with read_committed after its last stable one).

    One request for all of them. Raises Retryable or Fatal.
    """
    wanted = list(places)
    if not wanted:
        return {}
    admin = admin_for(settings)
    level = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
    asked = [
        _ask(admin, wanted, spec, level)
        for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
    ]
    starts, ends = (_listed(admin, futures) for futures in asked)
    return {place: (starts[place], ends[place]) for place in wanted}


def log_ends(settings: KafkaSettings, places: Iterable[Place]) -> dict[Place, int]:
    """Of each place: the offset after its end, open transactions included. Raises Retryable or Fatal."""
    wanted = list(places)
    if not wanted:
        return {}
    admin = admin_for(settings)
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    return _listed(admin, _ask(admin, wanted, latest, IsolationLevel.READ_UNCOMMITTED))


def _ask(
    admin: Admin, places: Iterable[Place], spec: OffsetSpec, level: IsolationLevel
) -> Mapping[TopicPartition, Future[Any]]:
    wanted = {at(*place): spec for place in places}
    admin.know_leaders({place.topic for place in wanted})
    return admin.list_offsets(wanted, isolation_level=level, request_timeout=admin.timeout_seconds)


def _listed(admin: Admin, futures: Mapping[TopicPartition, Future[Any]]) -> dict[Place, int]:
    found = {}
    for where, future in futures.items():
        doing = f"reading the bounds of {where.topic}"
        found[Place(where.topic, where.partition)] = listed_offset(admin.answer(future, doing), doing)
    return found


def topic_bounds(
    settings: KafkaSettings, counts: Mapping[str, int], *, read_committed: bool = False
) -> tuple[dict[Place, int], dict[Place, int]]:
    """(starts, ends) of every partition of topics (name -> partition count)."""
    places = [Place(topic, partition) for topic, count in counts.items() for partition in range(count)]
    found = bounds(settings, places, read_committed=read_committed)
    return {place: start for place, (start, _) in found.items()}, {place: end for place, (_, end) in found.items()}


def log_bounds(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], *, read_committed: bool = False
) -> dict[int, tuple[int, int]]:
    """The bounds of partitions of one topic, by partition."""
    found = bounds(settings, [Place(topic, partition) for partition in partitions], read_committed=read_committed)
    return {place.partition: edges for place, edges in found.items()}


def offsets_at(settings: KafkaSettings, topic: str, partitions: Iterable[int], stamp: int) -> dict[int, int | None]:
    """partition -> the first offset whose stamp is `stamp` (UTC milliseconds) or later; None where there is none."""
    wanted = [at(topic, partition) for partition in partitions]
    if not wanted:
        return {}
    admin = admin_for(settings)
    spec = OffsetSpec.for_timestamp(stamp)
    admin.know_leaders([topic])
    futures = admin.list_offsets(dict.fromkeys(wanted, spec), request_timeout=admin.timeout_seconds)
    doing = f"looking for a time in {topic}"
    offsets = {place.partition: int(admin.answer(future, doing).offset) for place, future in futures.items()}
    if OFFSET_INVALID in offsets.values():  # no answer at all, see listed_offset; "nothing that late" is -1
        raise Retryable(f"Kafka, {doing}: the answer has no offset")
    return {partition: offset if offset >= 0 else None for partition, offset in offsets.items()}
