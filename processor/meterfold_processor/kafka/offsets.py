"""Offsets of a log: its edges and the offset at a time, never taken from an answer that has none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from confluent_kafka import OFFSET_INVALID, Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs do not re-export it

from meterfold_processor.kafka.admin import admin_for
from meterfold_processor.kafka.errors import as_error
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["at", "listed_offset", "log_bounds", "log_edge", "offsets_at"]

_TIMEOUT: Final = 15.0


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


def log_bounds(
    settings: KafkaSettings, topic: str, partitions: Iterable[int], *, read_committed: bool = False
) -> dict[int, tuple[int, int]]:
    """partition -> (first offset of the log, offset after its end; with read_committed after its last stable one)."""
    admin = admin_for(settings)
    at = [TopicPartition(topic, partition) for partition in partitions]
    if not at:
        return {}
    level = IsolationLevel.READ_COMMITTED if read_committed else IsolationLevel.READ_UNCOMMITTED
    bounds = []
    for spec in (OffsetSpec.earliest(), OffsetSpec.latest()):  # type: ignore[no-untyped-call]
        futures = admin.list_offsets(dict.fromkeys(at, spec), isolation_level=level, request_timeout=_TIMEOUT)
        doing = f"reading the bounds of {topic}"
        bounds.append(
            {place.partition: listed_offset(admin.answer(future, doing), doing) for place, future in futures.items()}
        )
    return {place.partition: (bounds[0][place.partition], bounds[1][place.partition]) for place in at}


def offsets_at(settings: KafkaSettings, topic: str, partitions: Iterable[int], stamp: int) -> dict[int, int | None]:
    """partition -> the first offset whose stamp is `stamp` (UTC milliseconds) or later; None where there is none."""
    at = [TopicPartition(topic, partition) for partition in partitions]
    if not at:
        return {}
    admin = admin_for(settings)
    spec = OffsetSpec.for_timestamp(stamp)
    futures = admin.list_offsets(dict.fromkeys(at, spec), request_timeout=_TIMEOUT)
    doing = f"looking for a time in {topic}"
    offsets = {place.partition: int(admin.answer(future, doing).offset) for place, future in futures.items()}
    if OFFSET_INVALID in offsets.values():  # no answer at all, see kafka.listed_offset; "nothing that late" is -1
        raise Retryable(f"Kafka, {doing}: the answer has no offset")
    return {partition: offset if offset >= 0 else None for partition, offset in offsets.items()}
