"""What the log still has for a stored state of the fold: an older backup can be repaired while every partition's log
begins at or below the offset where the fold would begin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from meterfold_processor.kafka.offsets import Place, log_bounds
from meterfold_processor.kafka.reader import HEADS, TopicReader
from meterfold_processor.kafka.topics import retention_seconds
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["FOR_EVER", "Replay", "replayable_until", "replays"]

FOR_EVER: Final = datetime(2262, 1, 1, tzinfo=UTC)
"""An end that never comes, within the range of ClickHouse's times."""


@dataclass(frozen=True, slots=True)
class Replay:
    """One partition of usage.recorded. The fold would begin at `next_offset`; the log holds [log_start, log_end).

    `needed_since`: stamp of the first message that it would read; without one, the time of the look, since whatever it
    will need arrives later. `kept_until`: Kafka's retention keeps that message until then.
    """

    partition: int
    next_offset: int
    log_start: int
    log_end: int
    needed_since: datetime
    kept_until: datetime

    @property
    def lost(self) -> int:
        """Offsets that were deleted from the log and would never be folded."""
        return max(0, self.log_start - self.next_offset)

    @property
    def missing(self) -> int:
        """Offsets that were folded and that the log does not have: it is another log, or an older copy of it."""
        return max(0, self.next_offset - self.log_end)

    @property
    def waiting(self) -> int:
        """Offsets that the fold would read, with those of transaction markers."""
        return max(0, self.log_end - max(self.next_offset, self.log_start))


def replays(settings: KafkaSettings, next_offsets: Mapping[int, int], now: datetime) -> list[Replay]:
    """Of each partition (partition -> where the fold would begin), by partition. Raises Retryable or Fatal."""
    topic = Topics(settings.topic_prefix).usage_recorded
    kept = retention_seconds(settings, topic)
    edges = log_bounds(settings, topic, next_offsets, read_committed=True)
    starts = {
        Place(topic, partition): max(offset, edges[partition][0])
        for partition, offset in next_offsets.items()
        if offset < edges[partition][1]
    }
    heads = _heads(settings, starts, {place: edges[place.partition][1] for place in starts})
    found = []
    for partition, offset in sorted(next_offsets.items()):
        since = _stamp(heads.get(Place(topic, partition))) or now
        until = FOR_EVER if kept is None else since + timedelta(seconds=kept)
        found.append(Replay(partition, offset, *edges[partition], since, until))
    return found


def replayable_until(found: Sequence[Replay]) -> datetime:
    """Until when Kafka keeps everything that is needed; the past where something is lost already."""
    if any(one.lost or one.missing for one in found):
        return datetime(1970, 1, 1, tzinfo=UTC)
    return min((one.kept_until for one in found), default=FOR_EVER)


def _heads(settings: KafkaSettings, starts: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[Place, Message]:
    if not starts:
        return {}
    reader = TopicReader(settings, "meterfold-status", HEADS)
    try:
        return reader.heads(starts, ends)
    finally:
        reader.close()


def _stamp(message: Message | None) -> datetime | None:
    if message is None:
        return None
    kind, milliseconds = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else datetime.fromtimestamp(milliseconds / 1000, UTC)
