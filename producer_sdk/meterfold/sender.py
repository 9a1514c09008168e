"""One librdkafka producer with a bounded buffer and a full account of what was handed to it.

Every event ends in exactly one report: delivered, or failed. recorded = delivered + failed + outstanding, always.

Which partition: librdkafka's `murmur2_random` computes Kafka's murmur2 of the key over all partitions of the topic's
metadata, which it reads again by itself. Computing it here would need the partition count before the first event
could be taken, so a broker that is down at start would stop the application.

After fork: threads do not survive in the child, so the inherited producer is never touched there again (not even to
free it: that would wait for those threads for ever), and the first event makes a fresh one. What the parent had in its
buffer stays the parent's alone.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterfold.delivery import Delivery, DeliveryCallback, DeliveryCounts, FlushTimeout, UndeliveredEvents
from meterfold.forks import renew_after_fork
from meterfold_schemas.errors import BufferFull, Fatal, InvalidSettings, MeterfoldError, Retryable

__all__ = ["Sender"]

logger = logging.getLogger("meterfold")
# A library is silent unless the application configures logging; without this, warnings would go to standard error.
logger.addHandler(logging.NullHandler())

_KEPT_FAILURES: Final = 1000
_POLL_SECONDS: Final = 0.1
_SLICE_SECONDS: Final = 0.1  # of a long wait, so that Ctrl-C is seen
_PURGE_SECONDS: Final = 2.0

ProducerFactory = Callable[[dict[str, Any]], Any]


def _librdkafka(config: dict[str, Any]) -> Any:
    return Producer(config, logger=logger.getChild("librdkafka"))


class Sender:
    """Sends keyed values to one topic. Any thread may call anything; `event_id_of` reads an id out of a value."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        *,
        buffer_timeout: float,
        event_id_of: Callable[[bytes], str],
        on_delivery: DeliveryCallback | None = None,
        make_producer: ProducerFactory = _librdkafka,
    ) -> None:
        self._config = {**config, "on_delivery": self._reported, "error_cb": self._client_error}
        self._topic = topic
        self._buffer_timeout = buffer_timeout
        self._event_id_of = event_id_of
        self._on_delivery = on_delivery
        self._make_producer = make_producer
        self._reset()
        self._ensure_producer()
        renew_after_fork(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._all_reported = threading.Condition(self._lock)
        self._recorded = self._delivered = self._failed = 0
        self._failures: list[Delivery] = []
        self._unraised = 0
        self._client_trouble = ""
        self._closed = False
        self._producer: Any = None
        self._poller: _Poller | None = None

    def send(self, key: bytes, value: bytes, wait: float | None = None) -> None:
        """Take one event into the buffer. `wait` in seconds; None is the stated buffer timeout.

        Raises BufferFull if there was no room in that time, and MeterfoldError when closed; then nothing was taken.
        """
        with self._lock:
            if self._closed:
                raise MeterfoldError("this Meter is closed; make a new one", code="CLOSED")
            producer = self._producer
            self._recorded += 1
        try:
            if producer is None:
                producer = self._ensure_producer()
            try:
                producer.produce(self._topic, value, key)
            except BufferError:
                self._send_when_room(producer, key, value, self._buffer_timeout if wait is None else wait)
            except KafkaException as error:
                self._send_renewed(producer, key, value, error)
        except BaseException:  # also Ctrl-C while waiting: nothing was taken
            with self._lock:
                self._recorded -= 1
            raise

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the buffer is empty, `timeout` in seconds (None: as long as it takes).

        Raises UndeliveredEvents if events failed since the last flush, FlushTimeout if some have no report yet.
        """
        self._wait_for_reports(timeout)
        self._raise_failures()
        if timeout is not None and (outstanding := self.counts().outstanding) > 0:
            raise FlushTimeout(outstanding, timeout)

    def close(self, timeout: float) -> None:
        """Send what is there within `timeout` seconds, report the rest as failed, and free the producer.

        Raises UndeliveredEvents if an event of this Meter failed that no flush has raised. Closing twice is harmless.
        """
        with self._lock:
            self._closed = True
        try:
            self._wait_for_reports(timeout)
            self._give_up_outstanding()
        finally:
            self._free_producer()
        self._raise_failures()

    def counts(self) -> DeliveryCounts:
        with self._lock:
            return DeliveryCounts(self._recorded, self._delivered, self._failed)

    @property
    def closed(self) -> bool:
        return self._closed

    def _send_when_room(self, producer: Any, key: bytes, value: bytes, wait: float) -> None:
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0 and not self._closed:
            # Reports are what makes room: serving them here wakes this thread as soon as there is some.
            producer.poll(min(left, _SLICE_SECONDS))
            try:
                producer.produce(self._topic, value, key)
            except BufferError:
                continue
            return
        trouble = f" The last trouble was: {self._client_trouble}." if self._client_trouble else ""
        raise BufferFull(
            f"the buffer is full ({self.counts().outstanding - 1} events without a report) and had no room for "
            f"{wait:g} s; the event was not taken.{trouble}"
        )

    def _send_renewed(self, producer: Any, key: bytes, value: bytes, error: KafkaException) -> None:
        """After a fatal error librdkafka's producer takes nothing more: once, go on with a new one."""
        cause: KafkaError = error.args[0]
        if not (cause.fatal() or cause.code() == KafkaError._FATAL):
            raise Retryable(f"librdkafka does not take the event: {self._why(cause)}") from error
        logger.error("the producer failed (%s); going on with a new one", cause.str())
        self._abandon(producer)
        try:
            self._ensure_producer().produce(self._topic, value, key)
        except (KafkaException, BufferError) as again:
            raise Fatal(f"the producer failed, and so did a new one: {again}") from error

    def _abandon(self, producer: Any) -> None:
        with self._lock:
            if self._producer is not producer:
                return  # another thread was faster
            self._producer, poller, self._poller = None, self._poller, None
        if poller is not None:
            poller.stop()
        producer.purge()
        producer.flush(_PURGE_SECONDS)  # serves the reports of what was purged

    def _ensure_producer(self) -> Any:
        with self._lock:
            if self._producer is None:
                try:
                    self._producer = self._make_producer(self._config)
                except (KafkaException, ValueError, TypeError) as error:
                    raise InvalidSettings(f"librdkafka refuses the settings: {_reason(error)}") from None
                self._poller = _Poller(self._producer)
            return self._producer

    def _wait_for_reports(self, timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while self.counts().outstanding > 0:
            left = _SLICE_SECONDS if end is None else min(_SLICE_SECONDS, end - time.monotonic())
            if left <= 0 or (producer := self._producer) is None:
                return
            if not producer.flush(left):  # its queue is empty: the last reports are in another thread's hands
                with self._all_reported:
                    self._all_reported.wait_for(self._has_all_reports, left)

    def _give_up_outstanding(self) -> None:
        """Purge what the time was too short for: each purged event gets its report, as failed."""
        end = time.monotonic() + _PURGE_SECONDS
        while self.counts().outstanding > 0 and (producer := self._producer) is not None and time.monotonic() < end:
            producer.purge()
            producer.flush(_SLICE_SECONDS)

    def _free_producer(self) -> None:
        with self._lock:
            self._producer, poller, self._poller = None, self._poller, None
        if poller is not None:
            poller.stop()

    def _raise_failures(self) -> None:
        with self._lock:
            failed, failures = self._unraised, tuple(self._failures)
            self._unraised, self._failures = 0, []
        if failed:
            raise UndeliveredEvents(failed, failures)

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        if error is None and self._on_delivery is None:
            with self._lock:
                self._delivered += 1
                if self._has_all_reports():
                    self._all_reported.notify_all()
            return
        value = message.value()
        event_id = self._event_id_of(value) if isinstance(value, bytes) else ""
        why = None if error is None else self._why(error)
        report = Delivery(event_id, message.partition(), message.offset(), why)
        with self._lock:
            if error is None:
                self._delivered += 1
            else:
                self._failed += 1
                self._unraised += 1
                if len(self._failures) < _KEPT_FAILURES:
                    self._failures.append(report)
            if self._has_all_reports():
                self._all_reported.notify_all()
        if self._on_delivery is not None:
            try:
                self._on_delivery(report)
            except Exception:  # the application's own; it must not keep the next event's report from being counted
                logger.exception("the delivery callback raised for event %s", event_id)

    def _has_all_reports(self) -> bool:
        return self._recorded <= self._delivered + self._failed

    @property
    def trouble(self) -> str | None:
        """What keeps the client from delivering, in librdkafka's words; None once events are delivered again."""
        return self._client_trouble or None

    def _client_error(self, error: KafkaError) -> None:
        self._client_trouble = error.str()
        logger.warning("librdkafka: %s", error.str())

    def _why(self, error: KafkaError) -> str:
        text = error.str()
        if error.code() in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return f"{text}; `meterfold migrate` creates the topics"
        if error.code() == KafkaError._MSG_TIMED_OUT and self._client_trouble:
            return f"{text}; the last trouble was: {self._client_trouble}"
        return text

    def after_fork(self) -> None:
        if self._producer is not None:  # never freed in the child, not even at its end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        closed = self._closed
        self._reset()
        self._closed = closed


class _Poller:
    """Serves delivery reports from a thread of its own, so that they come while the application is idle."""

    def __init__(self, producer: Any) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(producer,), name="meterfold-delivery", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        if self._thread is not threading.current_thread():
            self._thread.join(_POLL_SECONDS * 5)

    def _run(self, producer: Any) -> None:
        while not self._stopping:
            producer.poll(_POLL_SECONDS)


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(error)
