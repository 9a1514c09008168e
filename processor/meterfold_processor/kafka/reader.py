"""Reads whole topics without a group: from their beginnings up to known ends, and on from there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, Message

from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["Place", "TopicReader"]

_CHUNK = 10_000
_WAIT = 0.2
_CALL_SECONDS = 2.0
STUCK_SECONDS = 60.0
"""Without any progress for so long reading is given up, and tried again later. A transaction that no one ends keeps
readers waiting for its timeout at most, which is shorter; unless the broker has lost the transaction's end."""


class Place(NamedTuple):
    topic: str
    partition: int


class TopicReader:
    """For one thread. Only committed messages; positions also move over what is invisible (markers, aborted)."""

    def __init__(self, settings: KafkaSettings, name: str, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._stuck_seconds = stuck_seconds
        self._heard = errors.Heard(settings)
        # Never commits: the group exists in the configuration only.
        self._consumer: Consumer = clients.consumer(
            settings,
            name,
            "classic",
            **{"enable.partition.eof": True, "fetch.wait.max.ms": 100, "error_cb": self._heard},
        )
        self.positions: dict[Place, int] = {}

    def ends(self, topics: Iterable[str], timeout: float) -> dict[Place, int]:
        """The next offset of partition 0 of each topic as of now, open transactions left out.

        Over the connection that reads them anyway; an admin client would open one more. Raises Retryable or Fatal.
        """
        begun = time.monotonic()
        found: dict[Place, int] = {}
        for topic in topics:
            while Place(topic, 0) not in found:
                try:
                    edges = log_edge(self._consumer, topic, [0], OFFSET_END, _CALL_SECONDS)
                    found[Place(topic, 0)] = edges[0]
                except Retryable as error:
                    self._consumer.poll(0)  # this is where the client says why
                    waited = time.monotonic() - begun
                    if waited > timeout or self._heard.gives_up(waited):
                        raise self._heard.explained(error, f"reading the bounds of {topic}") from error
        return found

    def read(self, ends: Mapping[Place, int], pump: Callable[[], None]) -> dict[Place, list[Message]]:
        """Everything from the beginnings up to `ends` (next offsets) or beyond; stays there for `poll`.

        `pump` is called again and again meanwhile. Raises Retryable.
        """
        found: dict[Place, list[Message]] = {place: [] for place in ends}
        self.positions = dict.fromkeys(ends, -1)
        self._consumer.assign([at(place.topic, place.partition, OFFSET_BEGINNING) for place in ends])
        last_progress = time.monotonic()
        while any(self.positions[place] < end for place, end in ends.items()):
            before = dict(self.positions)
            self._take(clients.arrived(self._consumer, _CHUNK, _WAIT), found)
            pump()
            if self.positions != before:
                last_progress = time.monotonic()
            elif time.monotonic() - last_progress > self._stuck_seconds:
                raise self._stuck(ends)
        return found

    def poll(self) -> dict[Place, list[Message]]:
        """What has arrived since; does not wait."""
        found: dict[Place, list[Message]] = {place: [] for place in self.positions}
        self._take(self._consumer.consume(_CHUNK, 0), found)
        return found

    def stop(self) -> None:
        """Read nothing until the next `read`."""
        self._consumer.unassign()
        self.positions = {}

    def close(self) -> None:
        self._consumer.close()

    def _stuck(self, ends: Mapping[Place, int]) -> Retryable:
        """Why there is no more to read before `ends`. Raises Retryable or Fatal if Kafka does not say."""
        place = next(place for place, end in ends.items() if self.positions[place] < end)
        topic, partition = place
        stable = log_edge(self._consumer, topic, [partition], OFFSET_END, _CALL_SECONDS)[partition]
        where = f"Kafka, reading {topic} partition {partition}"
        if stable >= ends[place] or self.positions[place] < stable:
            return Retryable(f"{where}: its end is not reached in {self._stuck_seconds:.0f} s")
        return Retryable(
            f"{where}: the transaction at offset {stable} has had no end for {self._stuck_seconds:.0f} s, and nobody "
            "can read on. If that lasts, follow docs/operations.md, 'A transaction without an end'"
        )

    def _take(self, messages: Iterable[Message], found: dict[Place, list[Message]]) -> None:
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise errors.as_error(error, f"reading {message.topic()}")
            place = Place(message.topic() or "", message.partition() or 0)
            offset = message.offset()
            if place not in found or offset is None:
                continue
            if error is None:
                found[place].append(message)
                offset += 1
            self.positions[place] = max(self.positions[place], offset)
