"""Partitions that begin where ClickHouse says: paused until then, and tried again where it does not answer."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from meterfold_processor.backoff import Troubles
from meterfold_processor.kafka import stored_start
from meterfold_processor.kafka.stored_start import StoredStart, next_offsets
from meterfold_schemas.errors import Retryable


class Member:
    """A consumer that keeps what is done to it."""

    def __init__(self) -> None:
        self.reading: dict[tuple[str, int], int] = {}
        self.callbacks: dict[str, Any] = {}
        self.paused: set[tuple[str, int]] = set()
        self.arriving: list[Any] = []

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.callbacks = callbacks

    def assign(self, *places: tuple[str, int]) -> None:
        self.callbacks["on_assign"](self, [TopicPartition(*place) for place in places])

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.reading |= {(place.topic, place.partition): place.offset for place in places}

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(*place) for place in self.reading]

    def pause(self, places: list[TopicPartition]) -> None:
        self.paused |= {(place.topic, place.partition) for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self.paused -= {(place.topic, place.partition) for place in places}

    def seek(self, place: TopicPartition) -> None:
        if place.partition == 9:
            raise KafkaException(KafkaError(KafkaError._STATE))
        self.reading[place.topic, place.partition] = place.offset

    def consume(self, count: int, seconds: float) -> list[Any]:
        assert self.paused == set(self.reading), "nothing is read meanwhile"
        return self.arriving


def message(code: int | None = None, offset: int = 4) -> Any:
    error = None if code is None else KafkaError(code)
    return SimpleNamespace(error=lambda: error, topic=lambda: "t", partition=lambda: 0, offset=lambda: offset)


def started() -> tuple[Member, StoredStart, list[set[tuple[str, int]]]]:
    member, lost = Member(), list[set[tuple[str, int]]]()
    partitions = StoredStart(member, logging.getLogger("meterfold.test"), lost.append)  # type: ignore[arg-type]
    partitions.subscribe(["t"])
    return member, partitions, lost


def test_partitions_wait_for_the_stored_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stored_start, "time", SimpleNamespace(monotonic=lambda: now))
    member, partitions, lost = started()
    troubles, opened = Troubles(), list[tuple[tuple[str, int], int]]()

    def stored() -> dict[tuple[str, int], int]:
        if now < 101:
            raise Retryable("ClickHouse is away")
        return {("t", 0): 7}

    def step() -> bool:
        return partitions.open(stored, troubles.of("start"), lambda place, offset: opened.append((place, offset)))

    assert not step()
    member.assign(("t", 0), ("t", 1))
    assert (member.paused, partitions.waiting) == ({("t", 0), ("t", 1)},) * 2
    assert not step()
    assert troubles == {"start": "ClickHouse is away"}
    now = 102.0
    assert step()
    assert (troubles, opened) == ({}, [(("t", 0), 7), (("t", 1), OFFSET_BEGINNING)])
    assert (member.paused, member.reading["t", 0], partitions.waiting) == (set(), 7, set())
    assert not step()

    member.assign(("t", 2), ("t", 9))
    assert not step()
    assert (partitions.waiting, opened[-1][0]) == ({("t", 9)}, ("t", 2)), (
        "one that cannot be sought yet delays no other"
    )
    member.callbacks["on_lost"](member, [TopicPartition("t", 9), TopicPartition("t", 0)])
    assert (partitions.waiting, lost) == (set(), [{("t", 9), ("t", 0)}])


def test_waiting_pauses_what_is_read_and_leaves_what_is_not_open_paused() -> None:
    member, partitions, _ = started()
    member.assign(("t", 0))
    assert partitions.open(lambda: {("t", 0): 3}, Troubles().of("start"))
    member.assign(("t", 1))
    member.arriving = [message(), message(KafkaError._PARTITION_EOF)]
    found = partitions.wait(Retryable("away"), 0.1)
    assert next_offsets(found) == {("t", 0): 5}
    assert member.paused == {("t", 1)}
