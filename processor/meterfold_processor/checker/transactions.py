"""Transactions on real Kafka: one transactional id per slot, and a fresh producer whenever the old one is in doubt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from threading import Thread
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from meterfold_processor.kafka import errors
from meterfold_processor.kafka.clients import Outgoing, OutgoingRun
from meterfold_processor.kafka.offsets import at
from meterfold_schemas.errors import Fatal, MeterfoldError, Retryable
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import KafkaSettings

__all__ = ["FencedOut", "Transactions"]

_LOG = logging.getLogger("meterfold.checker")

_Message = tuple[str, bytes | None, bytes | None, int, Any]
"""Topic, value, key, partition, headers: a list of names and bytes, which confluent-kafka's types would refuse."""

TRANSACTION_TIMEOUT_SECONDS = 10
"""How long the open transaction of a killed checker blocks readers, unless its slot is started again before."""
_CALL_SECONDS = 6.0
"""Every wait for the broker is this short, so that a stop never has to wait for long; what fails is done again."""
_LAST_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0
_FENCED = frozenset({KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH})


class FencedOut(Retryable):
    """Another producer has our transactional id, or our transaction ran into its timeout."""


class _Hangs(Retryable):
    """A call did not return within its own timeout."""


class Transactions:
    """For one thread. Every method raises FencedOut, Retryable or Fatal; then call `give_up`."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._id = transactional_id
        self._producer: Producer | None = None
        self._open = False
        self._begun = 0.0

    @property
    def is_overdue(self) -> bool:
        """Whether the open transaction is older than its timeout: then the broker itself has fenced us."""
        return self._open and time.monotonic() - self._begun >= TRANSACTION_TIMEOUT_SECONDS

    @property
    def is_prepared(self) -> bool:
        """Whether `prepare` has nothing to do."""
        return self._producer is not None

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
                    # What its topics store: otherwise the broker would compress each batch again.
                    "compression.type": "gzip",
                    # Half the CPU of the default per aggregate (13 instead of 24 us), for 8 % more bytes.
                    "compression.level": 1,
                    "queue.buffering.max.messages": 1_000_000,
                    "log_level": 0,
                }
            )
        )
        _call_in_time(producer.init_transactions, _CALL_SECONDS, "taking over the transactional id")
        self._producer = producer

    def begin(self) -> None:
        self.prepare()
        self._begun = time.monotonic()
        _call(self._ready().begin_transaction, "beginning a transaction")
        self._open = True

    def produce(self, messages: Iterable[Outgoing]) -> None:
        self._produce((one.topic, one.value, one.key, one.partition, list(one.headers)) for one in messages)

    def produce_run(self, run: OutgoingRun) -> None:
        rows = zip(run.keys, run.values, run.headers, strict=True)
        self._produce((run.topic, value, key, run.partition, headers) for key, value, headers in rows)

    def _produce(self, messages: Iterable[_Message]) -> None:
        # Without delivery callbacks: a message that fails makes the transaction fail. And in a callback of a producer
        # that is fenced, confluent-kafka has an exception set already, so that any call ends as a SystemError.
        producer = self._ready()
        until = time.monotonic() + _CALL_SECONDS
        for topic, value, key, partition, headers in messages:
            while True:
                try:
                    producer.produce(topic, value, key, partition, headers=headers)
                    break
                except BufferError:
                    if time.monotonic() > until:
                        raise Retryable(f"Kafka takes no messages for {_CALL_SECONDS:.0f} s") from None
                    _call(lambda: producer.poll(0.1), "producing")
                except KafkaException as error:
                    raise _error(error, f"producing to {topic}") from error

    def flush(self) -> None:
        try:
            waiting = self._ready().flush(_CALL_SECONDS)
        except KafkaException as error:
            raise _error(error, "flushing a transaction") from error
        if waiting:
            raise Retryable(
                f"Kafka, flushing a transaction: {plural(waiting, 'message')} not confirmed in {_CALL_SECONDS:.0f} s"
            )

    def send_offsets(self, topic: str, offsets: Mapping[int, int], group_metadata: Any) -> None:
        places = [at(topic, partition, offset) for partition, offset in offsets.items()]
        producer = self._ready()
        self._wait(
            lambda seconds: producer.send_offsets_to_transaction(places, group_metadata, seconds),
            "sending offsets to the transaction",
        )

    def commit(self) -> None:
        self._wait(self._ready().commit_transaction, "committing a transaction")
        self._open = False

    def give_up(self, seconds: float = _CALL_SECONDS) -> None:
        """Leave no transaction open. If the abort fails, the next `prepare` takes over the id again: the broker then
        completes a transaction that was decided and aborts any other."""
        producer, was_open = self._producer, self._open
        self._open = False
        if producer is None or not was_open:
            return
        try:
            _call_in_time(producer.abort_transaction, seconds, "aborting a transaction")
        except (Retryable, Fatal) as error:
            _LOG.warning("the transaction could not be aborted (%s); starting with a fresh producer", error)
            if isinstance(error, _Hangs):
                self._producer = None
            self._discard()

    def close(self) -> None:
        self.give_up(_LAST_SECONDS)
        self._discard()

    def reset(self) -> None:
        """Begin with a fresh producer next time."""
        self._open = False
        self._discard()

    def _ready(self) -> Producer:
        if self._producer is None:
            raise Retryable("the transactional producer is gone")
        return self._producer

    def _wait(self, call: Callable[[float], Any], doing: str) -> None:
        try:
            _call_in_time(call, _CALL_SECONDS, doing)
        except _Hangs:
            # Its thread still holds it: no call on this producer is safe any more, not even an abort.
            self._producer, self._open = None, False
            raise

    def _discard(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaException):  # it is in a fatal state already
                producer.purge()
                producer.flush(0.5)


def _call(call: Callable[[], Any], doing: str) -> None:
    try:
        call()
    except KafkaException as error:
        raise _error(error, doing) from error


def _call_in_time(call: Callable[[float], Any], seconds: float, doing: str) -> None:
    """`call(seconds)`, which waits for the broker. Raises _Hangs if it does not return.

    librdkafka's send_offsets_to_transaction ignores its timeout while the coordinator is away, and may then wait for
    ever (its issues 5456 and 5511, open in 2.16; seen after kill -9 of a broker). A thread that never returns is left
    behind with its producer; the fresh one fences it.
    """
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            call(seconds)
        except BaseException as error:
            outcome.append(error)
        else:
            outcome.append(None)

    thread = Thread(target=run, name="meterfold-transaction", daemon=True)
    thread.start()
    thread.join(seconds + _PATIENCE_SECONDS)
    if not outcome:
        raise _Hangs(f"Kafka, {doing}: no answer in {seconds + _PATIENCE_SECONDS:.0f} s")
    error = outcome[0]
    if isinstance(error, KafkaException):
        raise _error(error, doing) from error
    if error is not None:
        raise error


def _error(error: KafkaException, doing: str) -> MeterfoldError:
    cause: KafkaError = error.args[0]
    if cause.code() in _FENCED:
        return FencedOut(f"Kafka, {doing}: {cause.str()}")
    found = errors.as_error(cause, doing)
    if isinstance(found, Fatal):
        return found
    return Retryable(str(found))
