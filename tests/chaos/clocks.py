"""Events whose arrival times are of our choice: they step forward and back, as where a partition's leader changes
between brokers whose clocks differ; or they are so old that records expire while a retry waits.

One machine has one clock. So in an installation of this kind the topic takes the stamps of producers, workers accept
them, and what the SDK does not do is done here: one event again and again, each time with another stamp.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from unittest import mock

from confluent_kafka import TIMESTAMP_CREATE_TIME
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from chaos.ground import Ground
from chaos.sender import Sender
from meterfold_processor.fold import messages, remembered
from meterfold_schemas.errors import Retryable
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_sink.client import Client, connect
from support.fold import truth
from support.fold.installation import event
from support.kafka import admin

RULES: Final = {"horizon_seconds": 12, "future_tolerance_seconds": 5, "slack_seconds": 120}
EXPIRING: Final = {"horizon_seconds": 3, "future_tolerance_seconds": 1, "slack_seconds": 1}
_LEFT_SECONDS: Final = 5
"""What an event has left, when it is sent, until its fold would be a guess."""
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


class Stamped(Sender):
    """`ground` takes producers' stamps from now on."""

    def __init__(self, ground: Ground, seed: int) -> None:
        super().__init__(ground)
        self._ground = ground
        self._chance = random.Random(f"{seed}/{type(self).__name__}")
        entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self._topic, incremental_configs=[entry])
        client = admin(ground.kafka)  # it must outlive its futures
        for future in client.incremental_alter_configs([resource]).values():
            future.result(30)

    def _send(self, subject: str, event_id: str, stamp: float, occurred: float | None = None) -> None:
        """An event of this time (seconds, as `stamp`, which it is if left out)."""
        when = datetime.fromtimestamp(0, UTC) + timedelta(seconds=stamp if occurred is None else occurred)
        made = event(subject, id=event_id, timestamp=when)
        self._producer.produce(self._topic, made.value, made.key, made.partition, timestamp=int(stamp * 1000))
        self._producer.poll(0)


class Stepping(Stamped):
    """One event again, earlier and later than before."""

    pause_seconds = 0.7

    def send(self) -> None:
        subject = f"clock{self._chance.randrange(6)}"
        for arrival in self._chance.choice(HISTORIES):
            self._send(subject, f"clock-{self._number}-{arrival.event}", time.time() + arrival.stamp)
            if arrival.pause and self._stop.wait(arrival.pause):
                break


class Expiring(Stamped):
    """An event that is almost as old as records are kept, and a retry that is read once its record has expired."""

    pause_seconds = 1.0

    def send(self) -> None:
        rules, subject, name = self._ground.rules, f"old{self._chance.randrange(6)}", f"old-{self._number}"
        first = time.time() - rules.record_retention_seconds + rules.lookback_seconds + _LEFT_SECONDS
        self._send(subject, name, first)
        self._producer.flush(30)
        if self._wait(lambda client: _has_record(client, name)) and self._wait(lambda client: _expire(client, name)):
            self._send(subject, name, first + rules.horizon_seconds - 0.5, occurred=first)

    def _wait(self, condition: Callable[[Client], bool]) -> bool:
        """Whether it came true before this sender was stopped, or a minute was over."""
        until = time.monotonic() + 60
        while time.monotonic() < until and not self._stop.wait(0.3):
            with suppress(Retryable), connect(self._ground.clickhouse) as client:
                if condition(client):
                    return True
        return False


def _has_record(client: Client, event_id: str) -> bool:
    return bool(client.rows("SELECT 1 FROM usage_records WHERE id = {id:String}", {"id": event_id}))


def _expire(client: Client, event_id: str) -> bool:
    """ClickHouse drops what its TTL has let go of, now and not at its next merge."""
    client.command("OPTIMIZE TABLE usage_records FINAL")
    return not _has_record(client, event_id)
