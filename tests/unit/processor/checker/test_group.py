"""What the checker's group membership does with messages, on a consumer that a test fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from meterfold_processor.checker.group import CheckerGroup
from meterfold_schemas.errors import Retryable

TOPIC = "usage.windows"


class FakeMessage:
    def __init__(self, partition: int, offset: int, error: KafkaError | None = None) -> None:
        self._partition, self._offset, self._error = partition, offset, error

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class FakeConsumer:
    """Hands out `waiting`; callables in it are run as librdkafka runs callbacks, inside of consume."""

    def __init__(self) -> None:
        self.waiting: list[FakeMessage | Callable[[], None]] = []
        self.paused: set[int] = set()
        self.callbacks: dict[str, Any] = {}

    def subscribe(self, _topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def consume(self, count: int, _seconds: float) -> list[FakeMessage]:
        found: list[FakeMessage] = []
        while self.waiting and len(found) < count:
            first = self.waiting.pop(0)
            if isinstance(first, FakeMessage):
                found.append(first)
            else:
                first()
        return found

    def incremental_assign(self, _places: list[TopicPartition]) -> None: ...

    def offsets_for_times(self, places: list[TopicPartition], _seconds: float) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.partition, 0) for place in places]

    def seek(self, _place: TopicPartition) -> None: ...

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {place.partition for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {place.partition for place in places}

    def assign(self, *partitions: int) -> None:
        self.callbacks["on_assign"](self, [TopicPartition(TOPIC, p) for p in partitions])

    def revoke(self, *partitions: int) -> None:
        self.callbacks["on_revoke"](self, [TopicPartition(TOPIC, p) for p in partitions])


@pytest.fixture
def lost() -> list[int]:
    return []


@pytest.fixture
def consumer() -> FakeConsumer:
    return FakeConsumer()


@pytest.fixture
def group(consumer: FakeConsumer, lost: list[int]) -> CheckerGroup:
    made = CheckerGroup(consumer, TOPIC, lost.extend)  # type: ignore[arg-type]
    made.join()
    consumer.waiting.append(lambda: consumer.assign(0, 1))
    made.pump()
    made.start({0: 5, 1: 7})
    return made


def offsets(group: CheckerGroup) -> list[tuple[int | None, int | None]]:
    return [(message.partition(), message.offset()) for message in group.poll(0)]


def test_what_arrives_while_another_partition_is_opened_is_not_lost(
    consumer: FakeConsumer, group: CheckerGroup
) -> None:
    consumer.waiting += [FakeMessage(0, 5), FakeMessage(0, 6)]
    group.pump()
    group.pump()
    consumer.waiting += [FakeMessage(1, 7)]
    assert offsets(group) == [(0, 5), (0, 6), (1, 7)]
    assert offsets(group) == []


def test_partitions_are_handed_over_paused(consumer: FakeConsumer, lost: list[int]) -> None:
    group = CheckerGroup(consumer, TOPIC, lost.extend)  # type: ignore[arg-type]
    group.join()
    consumer.waiting.append(lambda: consumer.assign(0, 1))
    assert group.poll(0) == []
    assert (group.to_open, consumer.paused) == ({0, 1}, {0, 1})
    group.start({0: 3})
    assert (group.to_open, consumer.paused) == ({1}, {1})


def test_what_was_held_of_a_lost_partition_is_void(
    consumer: FakeConsumer, group: CheckerGroup, lost: list[int]
) -> None:
    consumer.waiting += [FakeMessage(0, 5)]
    group.pump()
    consumer.waiting += [lambda: consumer.revoke(0), FakeMessage(1, 7)]
    assert offsets(group) == [(1, 7)]
    assert (lost, group.assigned) == ([0], {1})


def test_what_was_held_before_a_new_start_is_void(consumer: FakeConsumer, group: CheckerGroup) -> None:
    consumer.waiting += [FakeMessage(0, 5)]
    group.pump()
    group.start_again()
    assert (group.to_open, consumer.paused) == ({0, 1}, {0, 1})
    consumer.waiting += [FakeMessage(1, 7)]  # fetched before the pause
    group.pump()
    group.start({0: 5, 1: 7})
    assert offsets(group) == []


def test_an_offset_that_is_gone_makes_everything_start_again(consumer: FakeConsumer, group: CheckerGroup) -> None:
    consumer.waiting += [FakeMessage(0, -1, KafkaError(KafkaError._AUTO_OFFSET_RESET))]
    with pytest.raises(Retryable, match="stored windows"):
        group.poll(0)


def test_partitions_lost_while_they_wait_are_not_started(consumer: FakeConsumer, group: CheckerGroup) -> None:
    group.start_again()
    consumer.waiting.append(lambda: consumer.revoke(1))
    group.pump()
    group.start({0: 5, 1: 7})
    assert consumer.paused == {1}
    assert group.to_open == set()
