"""An answer of `list_offsets` without an offset is no end of a log: seen when brokers were killed.

librdkafka called it a success. The commands then read nothing of the definitions and said that a metric was missing; a
checker would have read nothing of its state and emitted everything again.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException, TopicPartition

from meterfold_cli.demo.watching import Watch
from meterfold_local.errors import StackError
from meterfold_processor.checker.driver import Driver
from meterfold_processor.kafka import clients, offsets
from meterfold_processor.kafka.admin import kept_admin
from meterfold_processor.kafka.offsets import Place
from meterfold_processor.verify.log import Log
from meterfold_schemas.errors import Retryable
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics
from meterfold_service.status.kafka_view import KafkaInspector

NO_OFFSET = -1001
SETTINGS = KafkaSettings(bootstrap_servers="nowhere:1")


class Admin:
    """Answers every question with one offset."""

    timeout_seconds = 1.0

    def __init__(self, offset: int) -> None:
        self._answer = SimpleNamespace(offset=offset)
        self._known: set[str] = set()

    def list_offsets(self, asked: Any, **_: Any) -> Any:
        assert {place.topic for place in asked} <= self._known, "librdkafka may crash where it has to look for leaders"
        return dict.fromkeys(asked, SimpleNamespace(result=lambda _: self._answer))

    def know_leaders(self, topics: Any) -> None:
        self._known |= set(topics)

    def answer(self, future: Any, _: str) -> Any:
        return future.result(0)

    def topics(self) -> Any:
        topic = SimpleNamespace(partitions={0: None})
        return SimpleNamespace(brokers={1: None}, topics={"usage.recorded": topic, "usage.windows": topic})


def test_an_answer_needs_an_offset() -> None:
    assert offsets.listed_offset(SimpleNamespace(offset=0), "asking") == 0
    with pytest.raises(Retryable, match="no offset"):
        offsets.listed_offset(SimpleNamespace(offset=NO_OFFSET), "asking")


def test_bounds_of_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offsets, "admin_for", lambda _: Admin(3))
    assert offsets.log_bounds(SETTINGS, "t", [0]) == {0: (3, 3)}
    monkeypatch.setattr(offsets, "admin_for", lambda _: Admin(NO_OFFSET))
    with pytest.raises(Retryable, match="no offset"):
        offsets.log_bounds(SETTINGS, "t", [0])
    with pytest.raises(Retryable, match="no offset"):
        offsets.offsets_at(SETTINGS, "t", [0], 1)
    monkeypatch.setattr(offsets, "admin_for", lambda _: Admin(-1))
    assert offsets.offsets_at(SETTINGS, "t", [0], 1) == {0: None}


def test_the_checker_does_not_take_it_for_an_end() -> None:
    fresh = Admin(8)
    driver: Any = SimpleNamespace(_settings=SETTINGS, _admin=Admin(7), _new_admin=lambda: fresh)
    place = Place("threshold.state", 0)
    assert Driver._bounds(driver, [place]) == {place: (7, 7)}
    driver._admin = Admin(NO_OFFSET)
    with pytest.raises(Retryable, match="no offset"):
        Driver._bounds(driver, [place])
    assert driver._admin is fresh


def test_verify_does_not_take_it_for_an_end() -> None:
    log = Log(SETTINGS, cast(Any, None))
    with kept_admin(SETTINGS, cast(Any, Admin(7))):
        assert log.bounds([0, 2]) == {0: (7, 7), 2: (7, 7)}
    with kept_admin(SETTINGS, cast(Any, Admin(NO_OFFSET))), pytest.raises(Retryable, match="no offset"):
        log.bounds([0])
    with kept_admin(SETTINGS, cast(Any, Admin(NO_OFFSET))), pytest.raises(Retryable, match="no offset"):
        offsets.topic_bounds(SETTINGS, {"threshold.state": 2})


def test_status_does_not_take_it_for_an_end() -> None:
    """An end of -1001 made a partition "lost", or nothing seem to wait."""
    inspector = KafkaInspector(SETTINGS, "fold", "checker")
    inspector._admin = cast(Any, Admin(NO_OFFSET))
    seen = inspector.look()
    assert seen.error is not None
    assert "no offset" in seen.error
    assert (seen.brokers, seen.recorded, seen.windows) == (1, {}, {})


def test_the_demo_does_not_take_it_for_an_end() -> None:
    """`_wait` is given what it waits for, and calls it once."""
    called = []
    watch: Any = SimpleNamespace(
        _stack=SimpleNamespace(kafka_settings=lambda: SETTINGS),
        _topics=Topics(),
        _partitions=range(1),
        _wait=lambda condition, *_: called.append(condition()),
    )
    with kept_admin(SETTINGS, cast(Any, Admin(NO_OFFSET))), pytest.raises(StackError, match="no offset"):
        Watch.wait_until_checked(watch, "checker", threading.Event(), 1.0)
    assert called == []


class Reader:
    """A consumer that answers with one offset, one error for each partition, or one for all."""

    def __init__(self, offset: int = 0, error: KafkaError | None = None, failure: KafkaError | None = None) -> None:
        self._answer = offset, error
        self._failure = failure
        self.asked: list[TopicPartition] = []

    def offsets_for_times(self, places: list[TopicPartition], _seconds: float) -> list[Any]:
        self.asked += places
        if self._failure is not None:
            raise KafkaException(self._failure)
        offset, error = self._answer
        return [SimpleNamespace(partition=place.partition, offset=offset, error=error) for place in places]

    def incremental_assign(self, places: list[TopicPartition]) -> None:
        self.assigned = [(place.partition, place.offset) for place in places]

    def pause(self, _places: list[TopicPartition]) -> None: ...


def test_edges_of_logs() -> None:
    reader: Any = Reader(7)
    assert offsets.log_edge(reader, "t", [0, 2], OFFSET_END, 1) == {0: 7, 2: 7}
    assert [(place.partition, place.offset) for place in reader.asked] == [(0, OFFSET_END), (2, OFFSET_END)]
    assert offsets.log_edge(reader, "t", [], OFFSET_END, 1) == {}
    for refusing in (Reader(NO_OFFSET), Reader(error=_timed_out()), Reader(failure=_timed_out())):
        with pytest.raises(Retryable):
            offsets.log_edge(cast(Any, refusing), "t", [0], OFFSET_END, 1)


def test_partitions_are_taken_over_also_where_nobody_says_where_their_logs_begin() -> None:
    reader: Any = Reader(7)
    clients.assign_paused(reader, "t", [0])
    assert reader.asked[0].offset == OFFSET_BEGINNING
    assert reader.assigned == [(0, 7)]
    failing: Any = Reader(failure=_timed_out())
    clients.assign_paused(failing, "t", [3])
    assert failing.assigned == [(3, OFFSET_END)]


def _timed_out() -> KafkaError:
    return KafkaError(KafkaError._TIMED_OUT)
