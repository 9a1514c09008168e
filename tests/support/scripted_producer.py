"""In the place of librdkafka's producer: reports when the test says so, and fails as librdkafka can."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from meterfold import base
from meterfold.sender import Sender
from meterfold_schemas.errors import Poison
from meterfold_schemas.usage import UsageRecorded


class Report:
    """The message of a delivery report."""

    def __init__(self, value: bytes, offset: int) -> None:
        self._value, self._offset = value, offset

    def value(self) -> bytes:
        return self._value

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset


class ScriptedProducer:
    """A producer with room for `room` messages that reports when the test says so."""

    def __init__(self, config: dict[str, Any], room: int = 1000) -> None:
        self.error_cb = config["error_cb"]
        self.room = room
        self.held: deque[tuple[bytes, bytes, Any]] = deque()
        #: The ids of the events in order.
        self.taken: list[bytes] = []
        #: Their values.
        self.values: list[bytes] = []
        self.purged = False
        self.fatal: KafkaError | None = None
        self.reports: deque[tuple[KafkaError | None, bytes, Any]] = deque()
        self.lock = threading.Lock()

    def produce(self, topic: str, value: bytes, key: bytes, partition: int, on_delivery: Any) -> None:
        if self.fatal is not None:
            raise KafkaException(self.fatal)
        with self.lock:
            if len(self.held) + len(self.reports) >= self.room:
                raise BufferError("Local: Queue full")
            self.held.append((key, value, on_delivery))
            self.taken.append(_event_id(value))
            self.values.append(value)

    def poll(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while not self.reports:
            if time.monotonic() >= end:
                return 0
            time.sleep(0.001)
        served = 0
        while True:
            try:
                error, value, on_delivery = self.reports.popleft()
            except IndexError:
                return served
            served += 1
            on_delivery(error, Report(value, served))

    def flush(self, timeout: float) -> int:
        self.poll(timeout)
        return len(self.held) + len(self.reports)

    def purge(self) -> None:
        self.purged = True
        self.report(error=KafkaError(KafkaError._PURGE_QUEUE))

    def report(self, count: int | None = None, error: KafkaError | None = None) -> None:
        with self.lock:
            for _ in range(len(self.held) if count is None else count):
                self.reports.append((error, *self.held.popleft()[1:]))


def _event_id(value: bytes) -> bytes:
    try:
        return UsageRecorded.from_bytes(value).id.encode()
    except Poison:  # a test of the sender alone
        return value


class Factory:
    def __init__(self, **options: Any) -> None:
        self.options = options
        self.made: list[ScriptedProducer] = []

    def __call__(self, config: dict[str, Any]) -> ScriptedProducer:
        self.made.append(ScriptedProducer(config, **self.options))
        return self.made[-1]


def scripted_senders(patch: pytest.MonkeyPatch, room: int = 1000) -> list[ScriptedProducer]:
    """The producers of every Meter that is made from now on, as they are made."""
    made: list[ScriptedProducer] = []

    def make(config: dict[str, Any]) -> ScriptedProducer:
        made.append(ScriptedProducer(config, room))
        return made[-1]

    def sender(*arguments: Any, **options: Any) -> Sender:
        options.pop("producer_class", None)
        return Sender(*arguments, make_producer=make, **options)

    patch.setattr(base, "Sender", sender)
    return made
