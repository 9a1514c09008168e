"""Kafka clients as the processors use them, and Kafka's errors in our own tree."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from meterfold_processor.backoff import Backoff
from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable
from meterfold_schemas.settings import KafkaSettings, librdkafka_refuses

_LOG = logging.getLogger("meterfold.kafka")

_EDGE_SECONDS = 5.0
AWAY_SECONDS = 5.0
"""How long no broker may be reachable before a question is given up."""

_FATAL = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError._INVALID_ARG,
    }
)
_AWAY = frozenset(
    {
        KafkaError._TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._SSL,
        KafkaError._WAIT_COORD,
    }
)
#: `sasl_plaintext://host:9092/bootstrap: ` before, ` (after 0ms in state CONNECT)` behind what went wrong.
_ASIDE = re.compile(r"^\S+/(?:bootstrap|\d+): | \(after \d+ms in state [A-Z_]+.*$")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message to publish; partition -1 leaves the choice to the key."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    partition: int = -1
    headers: tuple[tuple[str, bytes], ...] = ()


def as_error(error: KafkaError, doing: str) -> MeterfoldError:
    """The error in our tree: Fatal where trying again cannot help, Retryable otherwise."""
    message = f"Kafka, {doing}: {error.name()}: {error.str()}"
    if error.code() in _FATAL:
        return Fatal(f"{message}. Check the address, the credentials and their permissions")
    return Retryable(message)


class Heard:
    """What a client says aside; its setting `error_cb`. Calls only run out of time, and the reason comes here, from
    inside of the client's `poll` or `consume`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._servers = settings.bootstrap_servers
        self._reason = ""
        self.refused: KafkaError | None = None
        self.unreachable = False
        """No broker could be reached since the client was made."""

    def __call__(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:
            self.refused = error
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.unreachable = True
        elif error.code() in _AWAY:
            self._reason = _ASIDE.sub("", error.str())

    def gives_up(self, waited: float) -> bool:
        """Whether there is no sense in waiting on, after so many seconds."""
        return self.refused is not None or (self.unreachable and waited > AWAY_SECONDS)

    def explained(self, error: MeterfoldError, doing: str) -> MeterfoldError:
        """The error of a call, by what was heard meanwhile."""
        if self.refused is not None:
            return as_error(self.refused, doing)
        if self._reason and kafka_code(error) in _AWAY:
            return Retryable(
                f"Kafka at {self._servers} could not be reached, {doing}: {self._reason}. Check the address, and "
                "whether the brokers are running"
            )
        return error


def kafka_code(error: BaseException) -> int | None:
    """Kafka's code behind an error of ours."""
    cause: Any = error.__cause__
    return cause.args[0].code() if isinstance(cause, KafkaException) else None


class GaveUp(Fatal):
    """A client that will never have a partition again: fatal for the client, not for the worker that makes another."""


def consuming_error(error: KafkaError) -> MeterfoldError:
    """An error that came in place of a message. GaveUp where the client has given up for good: a coordinator that came
    back without a group that was just made makes librdkafka do so."""
    if error.fatal() or error.code() == KafkaError._FATAL:
        return GaveUp(f"Kafka, consuming: {error.str()}: this client has left its group for good")
    return as_error(error, "consuming")


def with_fresh_clients(serve: Callable[[], None], stop: Event, report: Callable[[Retryable | None], None]) -> None:
    """`serve` until it returns; anew, as after a crash, each time its client has given up. `report` hears of it."""
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


@contextmanager
def settings_checked() -> Iterator[None]:
    """Around the making of any client. Raises InvalidSettings, which names the variable, for a setting that librdkafka
    does not have."""
    try:
        yield
    except (KafkaException, TypeError, ValueError) as error:
        cause = error.args[0] if error.args else error
        raise librdkafka_refuses(cause.str() if isinstance(cause, KafkaError) else str(cause)) from None


def consumer(settings: KafkaSettings, group: str, protocol: str, **more: Any) -> Consumer:
    """A consumer that never commits by itself, never jumps to another offset silently, and reads committed messages.

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


def at(topic: str, partition: int, offset: int | None = None) -> TopicPartition:
    """A position of a partition, or the partition alone."""
    return TopicPartition(topic, partition) if offset is None else TopicPartition(topic, partition, offset)


def listed_offset(answer: Any, doing: str) -> int:
    """The offset in an answer of `list_offsets` about the beginning or the end of a log.

    While a broker dies, librdkafka may call an answer without an offset (-1001) a success. Taken for the end of a log
    it would mean that there is nothing to read: no definitions, no state. Raises Retryable.
    """
    offset = int(answer.offset)
    if offset < 0:
        raise Retryable(f"Kafka, {doing}: the answer has no offset")
    return offset


def log_edge(consumer: Consumer, topic: str, partitions: Iterable[int], edge: int, timeout: float) -> dict[int, int]:
    """partition -> the first offset of its log (`edge` OFFSET_BEGINNING) or the one after its last (OFFSET_END), as
    this consumer may read it. Raises Retryable or Fatal, in about `timeout` seconds at the latest.

    `get_watermark_offsets` would do, but while brokers die it has been seen to hold its caller for five minutes,
    whatever its time-out: librdkafka looks at that only while it is connected.
    """
    places = [at(topic, partition, edge) for partition in partitions]
    if not places:
        return {}
    doing = f"reading the bounds of {topic}"
    try:
        # Broker and librdkafka take the two edges for times.
        found = consumer.offsets_for_times(places, timeout)
    except KafkaException as error:
        raise as_error(error.args[0], doing) from error
    for place in found:
        if place.error is not None:
            raise as_error(place.error, doing)
    return {place.partition: listed_offset(place, doing) for place in found}


def assign_paused(consumer: Consumer, topic: str, partitions: list[int]) -> None:
    """Take partitions over without reading them yet; `seek` and `resume` begin.

    Until then each stands at the start of its log, a plain offset in range. Not at "the end": librdkafka looks that up
    later, and its answer would undo a seek. And not at 0: once the log was cut, that is out of range.
    """
    try:
        starts = log_edge(consumer, topic, partitions, OFFSET_BEGINNING, _EDGE_SECONDS)
    except MeterfoldError:
        starts = dict.fromkeys(partitions, OFFSET_END)
    consumer.incremental_assign([at(topic, partition, starts[partition]) for partition in partitions])
    consumer.pause([at(topic, partition) for partition in partitions])
