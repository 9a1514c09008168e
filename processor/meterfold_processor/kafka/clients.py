"""Consumers and producers as the processors use them: nothing is committed or skipped silently."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Event
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, Message, Producer

from meterfold_processor.backoff import Backoff
from meterfold_processor.kafka.errors import GaveUp, as_error, settings_checked
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_schemas.errors import MeterfoldError, Retryable
from meterfold_schemas.settings import KafkaSettings

_LOG = logging.getLogger("meterfold.kafka")
_EDGE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish; partition -1 leaves the choice to the key."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class OutgoingRun:
    """Many messages for one partition, in this order; the lists have one length."""

    topic: str
    partition: int
    keys: list[bytes]
    values: list[bytes]
    headers: list[list[tuple[str, bytes]]]

    def __len__(self) -> int:
        return len(self.keys)


def with_fresh_clients(serve: Callable[[], None], stop: Event, report: Callable[[Retryable | None], None]) -> None:
    """Run `serve` until it returns; restart it, as after a crash, each time its client fails. `report` gets the
    error."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            serve()
        except GaveUp as error:
            _LOG.warning("%s; joining again with a fresh one", error)
            report(Retryable(str(error)))
            stop.wait(backoff.next())
            report(None)
        else:
            return


def consumer(settings: KafkaSettings, group: str, protocol: str, **more: Any) -> Consumer:
    """A consumer that never commits on its own, never jumps to another offset silently, and reads committed messages.

    `protocol` is "consumer" (KIP-848, Kafka 4) or "classic"; both hand partitions over one by one.
    """
    wanted: dict[str, Any] = {
        "group.id": group,
        "group.protocol": protocol,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
    }
    if protocol == "classic":
        wanted["partition.assignment.strategy"] = "cooperative-sticky"
    with settings_checked():
        return Consumer(settings.client(**{**wanted, **more}), logger=_LOG)


def producer(settings: KafkaSettings, **more: Any) -> Producer:
    """An idempotent producer that waits for every in-sync replica."""
    wanted = {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random"}
    with settings_checked():
        return Producer(settings.client(**{**wanted, **more}), logger=_LOG)


def publish(to: Producer, messages: Iterable[Outgoing], timeout: float) -> None:
    """Publish all and wait until the broker has every one; Retryable when it has not in `timeout` seconds.

    After an error some of them may be there: publish all again.
    """
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failures.append(error)

    for message in messages:
        while True:
            try:
                to.produce(
                    message.topic,
                    message.value,
                    message.key,
                    message.partition,
                    headers=list(message.headers),
                    on_delivery=delivered,
                )
                break
            except BufferError:
                to.poll(0.1)
                if failures:
                    break
            except KafkaException as error:
                raise as_error(error.args[0], f"publishing to {message.topic}") from error
    waiting = to.flush(timeout)
    if failures:
        raise as_error(failures[0], "publishing")
    if waiting:
        to.purge()
        to.flush(1.0)
        raise Retryable(f"Kafka, publishing: {waiting} messages were not confirmed in {timeout:.0f} s")


def arrived(consumer: Consumer, count: int, seconds: float) -> list[Message]:
    """Up to `count` messages, errors and ends of partitions that are here; waits for the first one only.

    `consume(count, seconds)` waits for all of them, and where there are fewer, for the whole time.
    """
    messages = consumer.consume(1, seconds)
    return messages + consumer.consume(count - 1, 0) if messages else messages


def assign_paused(consumer: Consumer, topic: str, partitions: list[int]) -> None:
    """Take partitions over without reading them yet; `seek` and `resume` begin.

    Until then each is at the start of its log, a plain offset in range. Not at "the end": librdkafka looks that up
    later, and its answer would undo a seek. And not at 0: once the log was cut, that is out of range.
    """
    try:
        starts = log_edge(consumer, topic, partitions, OFFSET_BEGINNING, _EDGE_SECONDS)
    except MeterfoldError:
        starts = dict.fromkeys(partitions, OFFSET_END)
    consumer.incremental_assign([at(topic, partition, starts[partition]) for partition in partitions])
    consumer.pause([at(topic, partition) for partition in partitions])
