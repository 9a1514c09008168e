"""Where actions on alerts are written: the topic alert.acted, one partition, whose offset decides who was first.

No transaction is needed: of several actions of one kind on one alert the one with the smallest offset is valid, and no
later message gets a smaller offset. Once the checker's mirror has passed the offset of the caller's own action,
ClickHouse holds every earlier one too, so the answer that is read then is final, and every caller reads the same.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException, Message

from meterfold_processor.kafka.clients import producer
from meterfold_processor.kafka.errors import as_error
from meterfold_schemas import cloudevents
from meterfold_schemas.errors import Retryable
from meterfold_schemas.topics import ALERT_ACTED, Topics
from meterfold_service.errors import CheckerNotRunning
from meterfold_sink.alerts import next_mirrored_offset

if TYPE_CHECKING:
    from confluent_kafka import Producer

    from meterfold_schemas.alert_actions import AlertActed
    from meterfold_schemas.settings import KafkaSettings
    from meterfold_sink.client import Client

__all__ = ["ActionLog"]

_SOURCE: Final = "/meterfold/alerts"
_DELIVERY_SECONDS: Final = 15.0
_POLL_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.02


class ActionLog:
    """For any thread. Methods raise Retryable or Fatal."""

    def __init__(self, kafka: KafkaSettings, wait_seconds: float, call_seconds: float | None = None) -> None:
        """`call_seconds`: how long Kafka may take to acknowledge an action."""
        self._call_seconds = call_seconds or _DELIVERY_SECONDS
        self._kafka = kafka
        self._topic = Topics(kafka.topic_prefix).alert_acted
        self._wait_seconds = wait_seconds
        self._lock = Lock()
        self._producer: Producer | None = None

    def publish(self, acted: AlertActed) -> int:
        """The offset of the action, once every in-sync replica has it. After an error it may be there or not: repeat
        it, which is safe."""
        reports: list[tuple[KafkaError | None, Message]] = []
        headers: list[tuple[str, str | bytes | None]] = list(
            cloudevents.headers(ALERT_ACTED, acted.event_id, _SOURCE, acted.occurred_at, acted.alert_id)
        )
        client = self._client()
        try:
            client.produce(
                self._topic,
                acted.to_bytes(),
                acted.key,
                0,
                headers=headers,
                on_delivery=lambda error, message: reports.append((error, message)),
            )
        except KafkaException as error:
            raise as_error(error.args[0], f"publishing to {self._topic}") from error
        until = time.monotonic() + self._call_seconds + 1
        while not reports and time.monotonic() < until:
            client.poll(_POLL_SECONDS)  # another thread's poll may take our report
        if not reports:
            raise Retryable(f"Kafka, publishing to {self._topic}: no answer in {self._call_seconds:g} s")
        failure, message = reports[0]
        if failure is not None:
            raise as_error(failure, f"publishing to {self._topic}")
        offset = message.offset()
        assert offset is not None
        return offset

    def wait(self, client: Client, acted: AlertActed, offset: int) -> None:
        """Until ClickHouse has this action and every earlier one. Raises CheckerNotRunning."""
        until = time.monotonic() + self._wait_seconds
        while next_mirrored_offset(client, self._topic) <= offset:
            if time.monotonic() >= until:
                raise CheckerNotRunning(f"{acted.action} of alert {acted.alert_id}", offset, self._wait_seconds)
            time.sleep(_LOOK_SECONDS)

    def _client(self) -> Producer:
        with self._lock:
            if self._producer is None:
                self._producer = producer(
                    self._kafka,
                    **{
                        "linger.ms": 0,
                        "compression.type": "gzip",
                        "delivery.timeout.ms": int(self._call_seconds * 1000),
                    },
                )
            return self._producer
