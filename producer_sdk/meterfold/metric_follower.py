"""Follows the compacted topic metric.defined in a thread of its own, for strict recording.

The first event waits until the topic is read to its end as of then. Afterwards a definition is known a few milliseconds
after it is committed, and within a second while a broker is replaced. While Kafka is away the last known definitions
apply, and no event waits. A consumer without a group: it commits nothing, and each process reads everything.

The topic is read again from its beginning every six hours. A process that was suspended, or cut off from Kafka, for
longer than Kafka keeps tombstones (a day by default) would otherwise never learn of a deletion.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from meterfold.errors import DefinitionsUnavailable
from meterfold.forks import renew_after_fork
from meterfold.log import client_logger, logger
from meterfold.metrics import DefinedMetrics
from meterfold_schemas.settings import librdkafka_refuses

__all__ = ["MetricFollower", "consumer_config"]

_POLL_SECONDS: Final = 0.2
_SLICE_SECONDS: Final = 0.05  # of the first wait, so that a failure ends it
_PAUSE_SECONDS: Final = 0.5
_CALL_SECONDS: Final = 2.0
_READ_AGAIN_SECONDS: Final = 6 * 3600.0
_MESSAGES: Final = 10_000
_MISSING: Final = frozenset(
    {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION}
)

ConsumerFactory = Callable[[dict[str, Any]], Any]


def consumer_config(client: Mapping[str, Any], topic_prefix: str = "") -> dict[str, Any]:
    """The dictionary for confluent_kafka.Consumer. `client`: the settings of the Meter's own client."""
    return {
        **client,
        # librdkafka wants one and looks for its coordinator; it is never joined.
        "group.id": f"{topic_prefix}meterfold-strict",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "reconnect.backoff.max.ms": 1000,
    }


def _librdkafka(config: dict[str, Any]) -> Any:
    return Consumer(config, logger=client_logger)


class MetricFollower:
    """The definitions of an installation. For any thread; it starts with the first question."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        wait_seconds: float,
        *,
        make_consumer: ConsumerFactory = _librdkafka,
    ) -> None:
        """`wait_seconds`: how long events wait for the first reading, counted from the first of them."""
        self._config = {**config, "error_cb": self._heard}
        self._topic = topic
        self._wait_seconds = wait_seconds
        self._make_consumer = make_consumer
        #: None until they were read once; a forked child begins with those of its parent.
        self._known: DefinedMetrics | None = None
        self._renew()
        renew_after_fork(self)

    def _renew(self) -> None:
        self._starting = threading.Lock()
        self._loaded = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._consumer: Any = None
        self._deadline = 0.0
        self._failure: Exception | None = None
        self._trouble: str | None = None

    @property
    def is_read(self) -> bool:
        return self._loaded.is_set()

    def wait(self) -> None:
        """Block until the topic was read once, until `wait_seconds` after the first question at most. Raises
        DefinitionsUnavailable if nothing is known then, InvalidSettings for settings that librdkafka refuses."""
        if self._stop.is_set():
            return  # closed: the Meter refuses the event itself
        if self._thread is None:
            self._start()
        while not self._loaded.is_set() and self._failure is None and (left := self._deadline - time.monotonic()) > 0:
            self._loaded.wait(min(left, _SLICE_SECONDS))
        if self._loaded.is_set() or self._known is not None:
            return
        if self._failure is not None:
            raise self._failure
        why = f": {self._trouble}" if self._trouble else ""
        raise DefinitionsUnavailable(
            f"the definitions of metrics could not be read from {self._topic} in {self._wait_seconds:g} s{why}; the "
            "event was not taken. Check the connection to Kafka and the right to read that topic, then record it again"
        )

    def check(self, org_id: str, metric_key: str) -> None:
        """Raises MetricNotFound, and what `wait` raises."""
        if not self._loaded.is_set():
            self.wait()
        known = self._known
        if known is not None:
            known.check(org_id, metric_key)

    def stop(self) -> None:
        """Ends the thread. Stopping twice is harmless."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_POLL_SECONDS + _CALL_SECONDS)

    def after_fork(self) -> None:
        if self._consumer is not None:  # of the parent: never freed in the child, not even at its end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._consumer))
        stopped = self._stop.is_set()
        self._renew()
        if stopped:
            self._stop.set()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None and not self._stop.is_set():
                self._deadline = time.monotonic() + self._wait_seconds
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="meterfold-definitions", daemon=True
                )
                self._thread.start()

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._consumer = self._make_consumer(self._config)
            except (KafkaException, ValueError, TypeError) as error:
                self._failure = librdkafka_refuses(str(error))
                logger.error("strict recording cannot read the definitions of metrics: %s", self._failure)
                return
            try:
                self._follow(self._consumer, stop)
            except Exception as error:  # a thread that ended would keep old definitions for ever
                self._trouble = str(error)
                logger.exception("reading the definitions of metrics from %s failed; reading them again", self._topic)
            finally:
                with suppress(KafkaException, RuntimeError):
                    self._consumer.close()
            stop.wait(_PAUSE_SECONDS)

    def _follow(self, consumer: Any, stop: threading.Event) -> None:
        """Read everything into a new state, which replaces the old one at the end of the topic, then what follows.

        Returns when the topic has to be read again: after six hours, or where it is not what it was.
        """
        if not self._is_there(consumer):
            return
        found, is_whole = DefinedMetrics(), False
        until = time.monotonic() + _READ_AGAIN_SECONDS
        consumer.assign([TopicPartition(self._topic, 0, OFFSET_BEGINNING)])
        while not stop.is_set() and time.monotonic() < until:
            messages = consumer.consume(1, _POLL_SECONDS)
            if messages:
                messages += consumer.consume(_MESSAGES, 0)
            for message in messages:
                error = message.error()
                if error is None:
                    found.apply(message.key() or b"", message.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    if not is_whole:
                        self._known, is_whole = found, True
                        self._loaded.set()
                    self._trouble = None
                else:
                    self._failed(error)
                    if not error.retriable():
                        return

    def _is_there(self, consumer: Any) -> bool:
        """Asks for the topic, which reading alone would do up to a second later; and reading would not say for half
        a minute that a topic does not exist."""
        try:
            error = consumer.list_topics(self._topic, _CALL_SECONDS).topics[self._topic].error
        except KafkaException as failure:
            error = failure.args[0]
        if error is not None:
            self._failed(error)
        return error is None

    def _failed(self, error: KafkaError) -> None:
        remedy = "; `meterfold migrate` creates the topics" if error.code() in _MISSING else ""
        self._trouble = f"{error.str()}{remedy}"
        client_logger.warning("reading %s: %s", self._topic, self._trouble)

    def _heard(self, error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN or self._trouble is None:  # follows each cause, and says less
            self._trouble = error.str()
