"""Events whose arrival times step forward and back, as where a partition's leader changes between brokers whose clocks
differ.

One machine has one clock. So in an installation of this kind the topic takes the stamps of producers, workers accept
them, and what the SDK does not do is done here: one event again and again, each time with a stamp of our choice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from unittest import mock

from confluent_kafka import TIMESTAMP_CREATE_TIME
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from chaos.ground import Ground
from chaos.sender import Sender
from fold_support import truth
from fold_support.installation import event
from meterfold_processor.fold import messages, remembered
from meterfold_schemas.periods import MICROS_PER_SECOND
from stack_support.kafka import admin

RULES: Final = {"horizon_seconds": 12, "future_tolerance_seconds": 5, "slack_seconds": 120}
_DAY_SECONDS: Final = 2
"""So long is the day by which workers of such an installation remember identities."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Which of the events of a history, and by how many seconds its stamp is off the present; then a pause."""

    event: int
    stamp: float
    pause: float = 0.0


HISTORIES: Final = (
    (Arrival(0, 8, 1), Arrival(0, 0)),  # again, with an earlier stamp
    (Arrival(0, 0, 1), Arrival(1, 60, 1), Arrival(0, 0)),  # something far ahead in between
    (Arrival(0, -10), Arrival(0, 5), Arrival(0, 9)),  # a duplicate, and after its look-back the same id once more
)


@contextmanager
def accepted() -> Iterator[None]:
    """In a worker: what producers say of the time is what brokers would."""
    with (
        mock.patch.object(messages, "LOG_APPEND_TIME", TIMESTAMP_CREATE_TIME),
        mock.patch.object(remembered, "DAY", _DAY_SECONDS * MICROS_PER_SECOND),
    ):
        yield


@contextmanager
def believed() -> Iterator[None]:
    """In the oracle: the same."""
    with mock.patch.object(truth, "TIMESTAMP_LOG_APPEND_TIME", TIMESTAMP_CREATE_TIME):
        yield


class Clocks(Sender):
    """`ground` takes producers' stamps from now on."""

    pause_seconds = 0.7

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground)
        entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self._topic, incremental_configs=[entry])
        client = admin(ground.kafka)  # it must outlive its futures
        for future in client.incremental_alter_configs([resource]).values():
            future.result(30)
        self._chance = random.Random(f"{seed}/clocks")

    def send(self) -> None:
        subject = f"clock{self._chance.randrange(6)}"
        for arrival in self._chance.choice(HISTORIES):
            self._send(subject, arrival)
            if arrival.pause and self._stop.wait(arrival.pause):
                break

    def _send(self, subject: str, arrival: Arrival) -> None:
        stamp = time.time() + arrival.stamp
        values: dict[str, Any] = {"id": f"clock-{self._number}-{arrival.event}"}
        made = event(subject, timestamp=datetime.fromtimestamp(0, UTC) + timedelta(seconds=stamp), **values)
        self._producer.produce(self._topic, made.value, made.key, made.partition, timestamp=int(stamp * 1000))
        self._producer.poll(0)
