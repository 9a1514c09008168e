"""Transactions on real Kafka: one transactional id per slot, and a fresh producer whenever the old one is in doubt."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from meterfold_processor import kafka
from meterfold_processor.kafka import Outgoing
from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable
from meterfold_schemas.settings import KafkaSettings

__all__ = ["FencedOut", "Transactions"]

_LOG = logging.getLogger("meterfold.checker")

TRANSACTION_TIMEOUT_SECONDS = 10
"""What a checker that was killed leaves open keeps readers waiting for so long, unless its slot starts again first."""
_CALL_SECONDS = 15.0
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class FencedOut(Retryable):
    """Another producer has our transactional id, or our transaction ran into its timeout."""


class Transactions:
    """For one thread. Every method raises FencedOut, Retryable or Fatal; then call `give_up`."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._producer: Producer | None = None
        self._open = False

    def prepare(self) -> None:
        """Take over the transactional id: what a predecessor left open is aborted, and it is fenced."""
        if self._producer is not None:
            return
        # No logger: when a transaction is fenced, confluent-kafka raises in the middle of a poll and calls the logger
        # with that exception still set, which ends as a SystemError. All it would say comes as an error anyway.
        producer = Producer(
            self._settings.client(
                **{
                    "transactional.id": self._id,
                    "transaction.timeout.ms": TRANSACTION_TIMEOUT_SECONDS * 1000,
                    "acks": "all",
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",
                    "linger.ms": 0,
                    "compression.type": "lz4",
                    "queue.buffering.max.messages": 1_000_000,
                    "log_level": 0,
                }
            )
        )
        _call(lambda: producer.init_transactions(_CALL_SECONDS), "taking over the transactional id")
        self._producer = producer

    def begin(self) -> None:
        self.prepare()
        _call(self._ready().begin_transaction, "beginning a transaction")
        self._open = True

    def produce(self, messages: Iterable[Outgoing]) -> None:
        # Without delivery callbacks: a message that fails makes the transaction fail.
        producer = self._ready()
        until = time.monotonic() + _CALL_SECONDS
        for message in messages:
            while True:
                try:
                    producer.produce(
                        message.topic,
                        message.value,
                        message.key,
                        message.partition,
                        headers=list(message.headers),
                    )
                    break
                except BufferError:
                    if time.monotonic() > until:
                        raise Retryable(f"Kafka takes no messages for {_CALL_SECONDS:.0f} s") from None
                    _call(lambda: producer.poll(0.1), "producing")
                except KafkaException as error:
                    raise _error(error, f"producing to {message.topic}") from error

    def flush(self) -> None:
        try:
            waiting = self._ready().flush(_CALL_SECONDS)
        except KafkaException as error:
            raise _error(error, "flushing a transaction") from error
        if waiting:
            raise Retryable(f"Kafka, flushing a transaction: {waiting} messages not confirmed in {_CALL_SECONDS:.0f} s")

    def send_offsets(self, topic: str, offsets: Mapping[int, int], group_metadata: Any) -> None:
        places = [kafka.at(topic, partition, offset) for partition, offset in offsets.items()]
        producer = self._ready()
        _call(
            lambda: producer.send_offsets_to_transaction(places, group_metadata, _CALL_SECONDS),
            "sending offsets to the transaction",
        )

    def commit(self) -> None:
        producer = self._ready()
        _call(lambda: producer.commit_transaction(_CALL_SECONDS), "committing a transaction")
        self._open = False

    def give_up(self) -> None:
        """Leave nothing open behind. Where an abort does not succeed, the next `prepare` takes the id over anew: the
        broker then completes what was decided and aborts the rest."""
        producer, was_open = self._producer, self._open
        self._open = False
        if producer is None or not was_open:
            return
        try:
            producer.abort_transaction(_CALL_SECONDS)
        except KafkaException as error:
            _LOG.warning("the transaction could not be aborted (%s); starting with a fresh producer", error)
            self._discard()

    def close(self) -> None:
        self.give_up()
        self._discard()

    def reset(self) -> None:
        """Begin with a fresh producer next time."""
        self._open = False
        self._discard()

    def _ready(self) -> Producer:
        if self._producer is None:
            raise Retryable("the transactional producer is gone")
        return self._producer

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException):  # it is in a fatal state already
                producer.purge()
                producer.flush(0.5)


def _call(call: Any, doing: str) -> None:
    try:
        call()
    except KafkaException as error:
        raise _error(error, doing) from error


def _error(error: KafkaException, doing: str) -> MeterfoldError:
    cause: KafkaError = error.args[0]
    if cause.code() in _FENCED:
        return FencedOut(f"Kafka, {doing}: {cause.str()}")
    found = kafka.as_error(cause, doing)
    if isinstance(found, Fatal):
        return found
    return Retryable(str(found))
