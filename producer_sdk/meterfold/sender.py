"""One librdkafka producer with a bounded buffer and a full account of what was handed to it.

Every event ends in exactly one report: delivered, or failed.

Which partition: librdkafka's `murmur2_random` computes Kafka's murmur2 of the key over all partitions of the topic's
metadata, which it refreshes. Computing it here would need the partition count before the first event could be taken,
so a broker that is down at start would stop the application.

After fork: threads do not survive in the child, so the inherited producer is never touched there again (not even to
free it: that would wait for those threads forever), and the first event makes a new one. The parent alone sends what
it had in its buffer.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from meterfold.account import Cut, Generation
from meterfold.delivery import Delivery, DeliveryCallback, ReportCallback
from meterfold.errors import BufferFull, MeterfoldError, NotRecorded
from meterfold.forks import renew_after_fork
from meterfold.log import client_logger, logger
from meterfold.process_end import finish_at_process_end
from meterfold.sent_batch import SentBatch
from meterfold.transport import Transport
from meterfold.trouble import Trouble
from meterfold_schemas.plurals import plural
from meterfold_schemas.settings import librdkafka_refuses

__all__ = ["Sender"]

_POLL_SECONDS: Final = 0.1
_SLICE_SECONDS: Final = 0.02  # of a long wait, so that Ctrl-C is seen, and the end of what is waited for
_PURGE_SECONDS: Final = 2.0
_GIVEN_UP: Final = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})
_OUT_OF_TIME: Final = frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT})

ProducerFactory = Callable[[dict[str, Any]], Any]


def _librdkafka(kind: type[Producer], config: dict[str, Any]) -> Any:
    return kind(config, logger=client_logger)


class Sender(Transport):
    """Sends keyed values to one topic. `event_id_of` reads an id out of a value."""

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        *,
        buffer_timeout: float,
        event_id_of: Callable[[bytes], str],
        on_delivery: DeliveryCallback | None = None,
        close_timeout: float = 30.0,
        also_free: Callable[[], None] | None = None,
        producer_class: type[Producer] = Producer,
        make_producer: ProducerFactory | None = None,
        **keep: int,
    ) -> None:
        self._config = {**config, "error_cb": self._client_error}
        self._topic = topic
        self._buffer_timeout = buffer_timeout
        self._close_timeout = close_timeout
        self._event_id_of = event_id_of
        self._on_delivery = on_delivery
        self._also_free = also_free
        self._make_producer = make_producer or partial(_librdkafka, producer_class)
        super().__init__(**keep)
        self._ensure_producer()
        renew_after_fork(self)

    def _renew(self) -> None:
        super()._renew()
        self._lock = self._account.lock
        self._trouble = Trouble()
        self._producer: Any = None
        self._poller: _Poller | None = None

    def _on_delivery_of(self, generation: Generation) -> Any:
        return partial(self._reported, generation, None)

    def send(
        self, key: bytes, value: bytes, wait: float | None = None, on_report: ReportCallback | None = None
    ) -> None:
        with self._lock:
            if self._closed:
                raise self._after_close()
            producer = self._producer
            account = self._account
            account.recorded += 1
            generation = account.present
            generation.outstanding += 1
        try:
            report = generation.on_delivery if on_report is None else partial(self._reported, generation, on_report)
            if producer is None:
                producer = self._ensure_producer()
            try:
                producer.produce(self._topic, value, key, -1, report)
            except BufferError:
                self._send_when_room(producer, key, value, report, self._buffer_timeout if wait is None else wait)
            except KafkaException as error:
                self._send_renewed(producer, key, value, report, error)
        except BaseException:  # also Ctrl-C while waiting: nothing was taken
            self._account.withdraw(generation)
            raise

    def send_many(self, keys: Sequence[bytes], values: Sequence[bytes], first: int, last: int) -> int:
        with self._lock:
            if self._closed:
                raise self._after_close()
            producer = self._producer
            account = self._account
            account.recorded += last - first
            generation = account.present
            generation.outstanding += last - first
        taken = 0
        try:
            if producer is None:
                producer = self._ensure_producer()
            produce, topic, report = producer.produce, self._topic, generation.on_delivery
            for key, value in zip(islice(keys, first, last), islice(values, first, last), strict=True):
                produce(topic, value, key, -1, report)
                taken += 1
        except (BufferError, KafkaException):
            pass  # what the next one's `send` makes of it
        finally:
            if taken < last - first:
                account.withdraw(generation, last - first - taken)
        return taken

    def send_batch(self, keys: Sequence[bytes], values: Sequence[bytes], batch: SentBatch) -> None:
        """Take all events of a batch, whose end `batch` reports; what cannot be taken is reported as failed.

        The caller sees to it that the buffer has room for all of them. Raises MeterClosed; then nothing was taken.
        """
        size = len(keys)
        with self._lock:
            if self._closed:
                raise self._after_close()
            producer = self._producer
            account = self._account
            account.recorded += size
            generation = account.present
            generation.outstanding += size

        def reported(index: int, error: KafkaError | None, message: Message) -> None:
            if error is None:
                if self._trouble.current is not None:
                    self._trouble.over()
                batch.partitions[index], batch.offsets[index] = message.partition(), message.offset()
                account.progressed()
            else:
                batch.errors[index] = self._why(error)
            ended()

        def ended() -> None:
            if batch.count() == size:
                failed = len(batch.errors)
                account.batch_ended(generation, delivered=size - failed, failed=failed)
                batch.on_end()

        topic = self._topic
        for index, (key, value) in enumerate(zip(keys, values, strict=True)):
            report = partial(reported, index)
            try:
                if producer is None:
                    producer = self._ensure_producer()
                try:
                    producer.produce(topic, value, key, -1, report)
                except BufferError:
                    self._send_when_room(producer, key, value, report, self._buffer_timeout)
                except KafkaException as error:
                    self._send_renewed(producer, key, value, report, error)
                    producer = self._producer
            except MeterfoldError as refused:
                batch.errors[index] = str(refused)
                ended()

    def finish(self, *, last: bool) -> None:
        """The process ends without atexit: send what is buffered. `last`: nothing more is recorded, so give up what
        could not be sent within close_timeout, and log it. Never raises.
        """
        try:
            self.wait_for(self.cut(), self._close_timeout)
            if last:
                self._give_up_outstanding()
                self.raise_failures()
        except MeterfoldError as error:
            logger.error("at the end of process %d: %s", os.getpid(), error)
        except Exception:
            logger.exception("at the end of the process")

    @property
    def trouble(self) -> str | None:
        """What keeps the client from delivering, in librdkafka's words; None once events are delivered again."""
        return self._trouble.current

    def full(self, waited: float, *, not_taken: int = 0) -> BufferFull:
        outstanding = self.counts().outstanding - not_taken
        return BufferFull(
            self._trouble.after(
                f"the buffer is full ({plural(outstanding, 'event')} without a report) and had no room for "
                f"{waited:g} s; the event was not taken"
            )
        )

    def _send_when_room(self, producer: Any, key: bytes, value: bytes, report: Any, wait: float) -> None:
        end = time.monotonic() + wait
        while (left := end - time.monotonic()) > 0 and not self._closed:
            # Reports are what makes room: serving them here wakes this thread as soon as there is some.
            self._serve(producer, min(left, _POLL_SECONDS))
            try:
                producer.produce(self._topic, value, key, -1, report)
            except BufferError:
                continue
            return
        raise self.full(wait, not_taken=1)

    def _send_renewed(self, producer: Any, key: bytes, value: bytes, report: Any, error: KafkaException) -> None:
        """After a fatal error librdkafka's producer takes nothing more: replace it, once."""
        cause: KafkaError = error.args[0]
        if not (cause.fatal() or cause.code() == KafkaError._FATAL):
            raise NotRecorded(f"librdkafka did not take the event: {self._why(cause)}") from error
        logger.error("the producer failed (%s); continuing with a new one", cause.str())
        self._abandon(producer)
        try:
            self._ensure_producer().produce(self._topic, value, key, -1, report)
        except (KafkaException, BufferError) as again:
            raise NotRecorded(f"the producer failed ({cause.str()}), and so did a new one: {again}") from error

    def _abandon(self, producer: Any) -> None:
        with self._lock:
            if self._producer is not producer:
                return  # another thread was faster
            self._producer, poller, self._poller = None, self._poller, None
        if poller is not None:
            poller.stop()
        producer.purge()
        self._drain(producer, _PURGE_SECONDS)  # serves the reports of what was purged

    def _ensure_producer(self) -> Any:
        with self._lock:
            if self._producer is None:
                try:
                    self._producer = self._make_producer(self._config)
                except (KafkaException, ValueError, TypeError) as error:
                    raise librdkafka_refuses(_reason(error)) from None
                self._poller = _Poller(partial(self._serve, self._producer, _POLL_SECONDS))
                finish_at_process_end(self)
            return self._producer

    def wait_for(self, cut: Cut, timeout: float | None, idle: float | None = None) -> None:
        start = time.monotonic()
        while not cut.done:
            waited = time.monotonic() - start
            left = _SLICE_SECONDS if timeout is None else min(_SLICE_SECONDS, timeout - waited)
            if left <= 0 or (idle is not None and min(waited, self.seconds_without_report()) >= idle) or self.freed:
                return
            producer = self._producer
            # An empty queue: the last reports are in another thread's hands.
            if producer is None or not self._drain(producer, left):
                cut.wait(left)

    def free(self) -> None:
        try:
            self._give_up_outstanding()
        finally:
            with self._lock:
                self._producer, poller, self._poller = None, self._poller, None
            if poller is not None:
                poller.stop()
            if self._also_free is not None:
                self._also_free()
            self.on_progress()

    @property
    def freed(self) -> bool:
        return self._closed and self._producer is None

    def _give_up_outstanding(self) -> None:
        """Purge what the time was too short for: each purged event gets its report, as failed."""
        end = time.monotonic() + _PURGE_SECONDS
        while self.counts().outstanding > 0 and (producer := self._producer) is not None and time.monotonic() < end:
            producer.purge()
            self._drain(producer, _POLL_SECONDS)

    def _serve(self, producer: Any, seconds: float) -> None:
        """Serve reports: wait at most `seconds` for the first."""
        if producer.poll(seconds):
            self.on_progress()

    def _drain(self, producer: Any, seconds: float) -> int:
        """Send without lingering and serve reports, at most `seconds`; how many events librdkafka still has."""
        left: int = producer.flush(seconds)
        self.on_progress()
        return left

    def _reported(
        self, generation: Generation, on_report: ReportCallback | None, error: KafkaError | None, message: Message
    ) -> None:
        if error is None and self._trouble.current is not None:
            self._trouble.over()
        if error is None and on_report is None and self._on_delivery is None:
            self._account.delivered(generation)
            return
        value = message.value()
        if not isinstance(value, bytes):
            value = b""
        event_id = self._event_id_of(value) if value else ""
        if error is None:
            report = Delivery(event_id, message.partition(), message.offset())
        else:
            report = Delivery(event_id, message.partition(), message.offset(), self._why(error), value or None)
        # Whoever waits for this event learns of it before a flush that waits for it can end.
        raised = on_report is not None and on_report(report)
        if error is None:
            self._account.delivered(generation)
        else:
            self._account.failed(generation, report, raised=raised)
        if self._on_delivery is not None:
            try:
                self._on_delivery(report)
            except Exception:  # the application's own; it must not keep the next event's report from being counted
                logger.exception("the delivery callback raised for event %s", event_id)

    def _client_error(self, error: KafkaError) -> None:
        self._trouble.heard(error)

    def _why(self, error: KafkaError) -> str:
        text, code = error.str(), error.code()
        if code in (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART):
            return f"{text}; `meterfold migrate` creates the topics"
        if code in _GIVEN_UP:
            return self._trouble.after(f"not confirmed by the broker when it was given up ({text})")
        return self._trouble.after(text) if code in _OUT_OF_TIME else text

    def after_fork(self) -> None:
        if self._producer is not None:  # never freed in the child, not even at its end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        closed = self._closed
        self._renew()
        self._closed = closed


class _Poller:
    """Serves delivery reports in a thread of its own, so that they arrive while the application is idle."""

    def __init__(self, serve: Callable[[], object]) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(serve,), name="meterfold-delivery", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping = True
        if self._thread is not threading.current_thread():
            self._thread.join(_POLL_SECONDS * 5)

    def _run(self, serve: Callable[[], object]) -> None:
        while not self._stopping:
            serve()


def _reason(error: Exception) -> str:
    cause = error.args[0] if error.args else error
    return cause.str() if isinstance(cause, KafkaError) else str(error)
