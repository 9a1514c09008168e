"""How far the checker is, from its consumer group, and its mirror, from its rows in ClickHouse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaException

from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at, log_bounds
from meterfold_processor.verify.scan import Place
from meterfold_schemas.settings import KafkaSettings
from meterfold_sink.client import Client
from meterfold_sink.reads import read_mirrored

__all__ = ["GroupPositions", "ends_of", "mirror_positions"]

_CALL_SECONDS: Final = 15.0


class GroupPositions:
    """Committed offsets of one group; joins nothing. For one thread."""

    def __init__(self, settings: KafkaSettings, group_id: str) -> None:
        # Not through the admin client: librdkafka crashes there when the group's coordinator is not ready
        # (confluent-kafka-python issue 1982).
        self._consumer: Consumer = clients.consumer(settings, group_id, "classic")
        self.group_id = group_id

    def read(self, places: Iterable[Place]) -> dict[Place, int]:
        """The next offset of each place; no entry where nothing is committed. Pending transactions are waited for."""
        wanted = [at(place.topic, place.partition) for place in places]
        try:
            found = self._consumer.committed(wanted, _CALL_SECONDS)
        except KafkaException as error:
            raise errors.as_error(error.args[0], f"reading the offsets of group {self.group_id}") from error
        for place in found:
            if place.error is not None:
                raise errors.as_error(place.error, f"reading the offsets of group {self.group_id}")
        return {Place(place.topic, place.partition): place.offset for place in found if place.offset >= 0}

    def close(self) -> None:
        self._consumer.close()


def mirror_positions(client: Client) -> dict[Place, int]:
    """The next offset that the mirror copies; no entry where it has copied nothing."""
    return {Place(topic, partition): offset for (topic, partition), offset in read_mirrored(client).items()}


def ends_of(settings: KafkaSettings, counts: Mapping[str, int]) -> tuple[dict[Place, int], dict[Place, int]]:
    """(starts, ends) of every partition of topics (name -> partition count), open transactions among them."""
    starts, ends = {}, {}
    for topic, count in counts.items():
        for partition, (start, end) in log_bounds(settings, topic, range(count)).items():
            starts[Place(topic, partition)], ends[Place(topic, partition)] = start, end
    return starts, ends
