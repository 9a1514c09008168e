"""Whole batches through a producer that reports when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError

from meterfold import BufferFull, DeliveryCounts, MeterClosed, NotRecorded
from meterfold.gateway import Gateway
from meterfold.settings import SdkSettings
from meterfold_schemas.settings import KafkaSettings
from support import eventually
from support.scripted_producer import scripted_senders


class Scripted:
    """A gateway, and the producers that it made."""

    def __init__(self, patch: pytest.MonkeyPatch, room: int, **sdk: Any) -> None:
        self.producers = scripted_senders(patch, room)
        self.gateway = Gateway(KafkaSettings(bootstrap_servers="nowhere:1"), SdkSettings(close_timeout=0, **sdk))

    def take(self, count: int, on_end: Callable[[], None]) -> Any:
        made = [self.gateway.encode("m", ("user", "u"), 1, None, None, None, ()) for _ in range(count)]
        return self.gateway.take([key for _, key, _ in made], [value for _, _, value in made], on_end)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scripted]]:
    made: list[Scripted] = []

    def one(room: int = 1000, **sdk: Any) -> Scripted:
        made.append(Scripted(monkeypatch, room, **sdk))
        return made[-1]

    yield one
    for scripted in made:
        scripted.gateway.close()


def test_a_batch_ends_once_with_its_last_report(make: Callable[..., Scripted]) -> None:
    scripted = make()
    ended = threading.Event()
    batch = scripted.take(3, ended.set)
    (producer,) = scripted.producers
    producer.report(2)
    eventually(lambda: batch.offsets.count(None) == 1)
    assert not ended.is_set()
    assert scripted.gateway.counts == DeliveryCounts(3, 0, 0)
    producer.report(error=KafkaError(KafkaError._MSG_TIMED_OUT))
    assert ended.wait(20)
    assert list(batch.errors) == [2]
    assert batch.partitions == [3, 3, None]
    assert scripted.gateway.counts == DeliveryCounts(3, 2, 1)
    scripted.gateway.close()  # raises no failure: whoever recorded the batch has it
    with pytest.raises(MeterClosed):
        scripted.take(1, ended.set)


def test_a_batch_is_taken_as_a_whole_or_not_at_all(make: Callable[..., Scripted]) -> None:
    scripted = make(buffer_events=10)  # of which nine are used
    ended: list[int] = []
    scripted.take(6, lambda: ended.append(6))
    with pytest.raises(BufferFull, match="nothing was taken"):
        scripted.take(4, lambda: ended.append(4))
    scripted.take(3, lambda: ended.append(3))
    with pytest.raises(NotRecorded, match="larger than the buffer"):
        scripted.take(10, lambda: ended.append(10))
    (producer,) = scripted.producers
    assert len(producer.taken) == 9
    producer.report()
    eventually(lambda: ended == [6, 3])
    scripted.take(9, lambda: ended.append(9))
    producer.report()
    eventually(lambda: ended == [6, 3, 9])
    assert scripted.gateway.seconds_without_report == 0


def test_what_the_client_does_not_take_is_reported_as_failed(make: Callable[..., Scripted]) -> None:
    scripted = make(room=2)
    ended = threading.Event()
    batch = scripted.take(3, ended.set)
    assert "buffer is full" in batch.errors[2]
    assert not ended.is_set()
    scripted.producers[0].report()
    assert ended.wait(20)
    assert scripted.gateway.counts == DeliveryCounts(3, 2, 1)
