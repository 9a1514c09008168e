"""The reader of topics, on a consumer that answers what it is told to."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_END, KafkaError, KafkaException, TopicPartition

from meterfold_processor.kafka import clients, reader
from meterfold_processor.kafka.offsets import Place
from meterfold_processor.kafka.reader import TopicReader
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings

SETTINGS = KafkaSettings(bootstrap_servers="nowhere:1")
A, B = Place("t", 0), Place("t", 1)


class Message:
    def __init__(self, place: Place, offset: int, error: KafkaError | None = None) -> None:
        self._place, self._offset, self._error = place, offset, error

    def topic(self) -> str:
        return self._place.topic

    def partition(self) -> int:
        return self._place.partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


def readable_up_to(place: Place, offset: int) -> Message:
    return Message(place, offset, KafkaError(KafkaError._PARTITION_EOF))


class Consumer:
    """Gives one list of messages after the other."""

    def __init__(self, arriving: Iterable[list[Message]], stable: int = 0, away: bool = False) -> None:
        self._arriving = iter(arriving)
        self._stable, self._away = stable, away
        self.seconds = 0.0
        """The time by the reader's clock: waiting for messages takes one second."""
        self.calls: list[tuple[str, Any]] = []

    def list_topics(self, topic: str, _timeout: float) -> None:
        self.calls.append(("leaders of", topic))
        if self._away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def assign(self, places: list[TopicPartition]) -> None:
        self.calls.append(("assign", sorted((place.partition, place.offset) for place in places)))

    def consume(self, count: int, _seconds: float) -> list[Message]:
        self.seconds += count == 1
        return next(self._arriving, []) if count == 1 else []

    def offsets_for_times(self, places: list[TopicPartition], _seconds: float) -> list[Any]:
        assert [place.offset for place in places] == [OFFSET_END]
        return [SimpleNamespace(partition=places[0].partition, offset=self._stable, error=None)]


@pytest.fixture
def reader_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def made(consumer: Consumer) -> TopicReader:
        monkeypatch.setattr(clients, "consumer", lambda *_, **__: consumer)
        monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic=lambda: consumer.seconds))
        return TopicReader(SETTINGS, "reader", stuck_seconds=60)

    return made


def offsets(batches: Iterable[list[Any]]) -> list[tuple[int, int]]:
    return [(message.partition(), message.offset()) for batch in batches for message in batch]


def test_leaders_are_asked_for_once_and_before_a_topic_is_assigned(reader_of: Any) -> None:
    consumer = Consumer([[Message(A, 3)], [Message(A, 4)]])
    made = reader_of(consumer)
    assert offsets(made.scan({A: 3}, {A: 4})) == [(0, 3)]
    assert offsets(made.scan({A: 4}, {A: 5})) == [(0, 4)]
    assert consumer.calls == [("leaders of", "t"), ("assign", [(0, 3)]), ("assign", [(0, 4)])]
    away = Consumer([[Message(A, 3)]], away=True)
    assert offsets(reader_of(away).scan({A: 3}, {A: 4})) == [(0, 3)]


def test_a_scan_ends_at_the_known_ends(reader_of: Any) -> None:
    """Markers at an end have no message; messages of an earlier assignment and those beyond the ends are left out."""
    arriving = [[Message(A, 1), Message(A, 5), Message(B, 7), Message(B, 9), Message(A, 6)], [readable_up_to(B, 10)]]
    made = reader_of(Consumer(arriving))
    assert offsets(made.scan({A: 5, B: 7}, {A: 6, B: 10})) == [(0, 5), (1, 7), (1, 9)]
    assert made.positions == {A: 6, B: 10}
    assert offsets(made.scan({A: 6}, {A: 6})) == []


def test_heads_are_the_first_messages_and_say_where_a_transaction_is_open(reader_of: Any) -> None:
    arriving = [
        [Message(A, 2), Message(A, 5), Message(A, 6)],
        [readable_up_to(B, 8)],
    ]
    made = reader_of(Consumer(arriving))
    found = made.heads({A: 4, B: 7}, {A: 9, B: 9})
    assert {place: message.offset() for place, message in found.items()} == {A: 5}
    assert made.positions[B] == 8  # below the end: open
    made = reader_of(Consumer([[readable_up_to(A, 9)], [Message(B, 12)]]))
    assert made.heads({A: 4, B: 7}, {A: 9, B: 9}) == {}
    assert made.positions == {A: 9, B: 12}
    assert made.heads({A: 9}, {A: 9}) == {}


def test_a_transaction_that_blocks_a_scan_is_named(reader_of: Any) -> None:
    made = reader_of(Consumer([[Message(A, 5), readable_up_to(A, 6)]], stable=6))
    with pytest.raises(Retryable, match=r"t partition 0: the transaction at offset 6 has been open for 60 s"):
        offsets(made.scan({A: 5}, {A: 9}))
    made = reader_of(Consumer([[Message(A, 5)]], stable=9))
    with pytest.raises(Retryable, match="no message arrives from offset 6"):
        offsets(made.scan({A: 5}, {A: 9}))


def test_an_error_in_place_of_a_message_ends_reading(reader_of: Any) -> None:
    made = reader_of(Consumer([[Message(A, 5, KafkaError(KafkaError.OFFSET_OUT_OF_RANGE))]]))
    with pytest.raises(Retryable, match="OFFSET_OUT_OF_RANGE"):
        offsets(made.scan({A: 5}, {A: 9}))


def test_a_slow_caller_is_not_a_topic_without_messages(reader_of: Any) -> None:
    consumer = Consumer([[Message(A, 5)], [], [Message(A, 6)]])
    found = []
    for batch in reader_of(consumer).scan({A: 5}, {A: 7}):
        found += offsets([batch])
        consumer.seconds += 90
    assert found == [(0, 5), (0, 6)]
