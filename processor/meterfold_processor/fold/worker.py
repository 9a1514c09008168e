"""One fold worker: consume, fold, flush, until it is stopped.

The worker's thread consumes and folds; the flusher's thread writes what was folded before. Nothing in memory matters
beyond the process: whoever gets a partition next starts at its progress row.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from threading import Event
from typing import TypeVar

import polars as pl
from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message

from meterfold_processor.backoff import Backoff, Stopped, persist
from meterfold_processor.fold.assignment import Assignment
from meterfold_processor.fold.background import Background
from meterfold_processor.fold.decode import decode
from meterfold_processor.fold.effects import Drive, Effects, drive_all
from meterfold_processor.fold.flusher import Flusher
from meterfold_processor.fold.messages import columns
from meterfold_processor.fold.opening import Opening
from meterfold_processor.fold.partition import Folded
from meterfold_processor.fold.schemas import Schemas
from meterfold_processor.fold.settings import FoldSettings
from meterfold_processor.fold.status import FoldStatus
from meterfold_processor.fold.traces import FlushSpans, with_traces
from meterfold_processor.garbage import PausedGC
from meterfold_processor.kafka import clients, errors
from meterfold_processor.kafka.offsets import at, log_edge
from meterfold_processor.tracing import NO_SPANS, Spans
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.periods import MICROS_PER_SECOND
from meterfold_schemas.schema_keys import shown
from meterfold_schemas.settings import KafkaSettings
from meterfold_schemas.topics import Topics

T = TypeVar("T")

_LOG = logging.getLogger("meterfold.fold")

_CHUNK = 20_000
_REVOKE_SECONDS = 2.0
_ROOM_SECONDS = 1.0
_SHORTEST_WAIT = 0.02
_LONG_SECONDS = 30.0
_SMALLEST_BATCH = 1_000
_ENDS_SECONDS = 5.0
_EDGE_SECONDS = 2.0
_BACK_FILLED_SECONDS = 3_600


class FoldWorker:
    """`run` blocks until `stop` is set or something is Fatal. `opening` gives access to ClickHouse and the topic."""

    def __init__(
        self,
        settings: FoldSettings,
        kafka_settings: KafkaSettings,
        opening: Opening,
        *,
        drive: Drive = drive_all,
        consumer: Callable[[], Consumer] | None = None,
        spans: Spans = NO_SPANS,
    ) -> None:
        self.status = FoldStatus()
        self._settings = settings
        self._opening = opening
        self._topic = Topics(kafka_settings.topic_prefix).usage_recorded
        self._kafka_settings = kafka_settings
        self._make_consumer = consumer or self._default_consumer
        self._drive = drive
        self._spans = FlushSpans(spans, self._topic) if spans.enabled else None
        self._sequence = 0
        self._batch_limit = settings.batch_events
        self._buffer: list[Message] = []
        self._since = 0.0
        self._ends_due = 0.0
        self._schemas = Schemas()
        self._flushed: deque[dict[int, int]] = deque()

    def run(self, stop: Event) -> None:
        try:
            with PausedGC() as self._garbage:
                clients.with_fresh_clients(lambda: self._serve(stop), stop, self.status.errors.of("group"))
        finally:
            self._opening.close()

    def _serve(self, stop: Event) -> None:
        starting = self.status.errors.of("start")
        try:
            persist(self._opening.check, stop, starting)
            self._schemas = persist(self._opening.schemas, stop, starting)
            self._writer = persist(self._opening.writer, stop, starting)
        except Stopped:
            return
        self._buffer, self._flushed = [], deque()
        self._consumer = self._make_consumer()
        self._effects = Effects(self._writer, self._kafka_settings, self._flushed_to)
        self.status.durations = self._effects.durations
        self._flusher = Flusher(self._drive, self._effects.perform, self.status.errors.of("flush"), self._spans)
        self._background = Background(self.status.errors.of("identities"))
        self._assignment = Assignment(
            self._consumer,
            self._topic,
            lambda partition: self._opening.open(partition, self._consumer),
            check_source=self._opening.check_source,
            before_revoke=lambda: self._flusher.wait(_REVOKE_SECONDS, for_all=True),
        )
        try:
            self._assignment.subscribe()
            while not stop.is_set():
                self._turn(stop)
        finally:
            self._close()

    def _turn(self, stop: Event) -> None:
        for rejection in self.status.rejections.to_log():
            _LOG.warning("%s", rejection.text())
        self._acknowledge()
        self._attend_to_partitions()
        with self.status.stages.spent("identities"):
            self._background.run(self._assignment.active.values())
        full = len(self._buffer) >= self._batch_limit
        if full and not self._flusher.has_room:
            self._wait_for_room()
        elif full or self._aged():
            self._assignment.resume()
            self._fold_buffer(stop)
        else:
            # What was full may have been emptied by a revocation, with the partitions that are left still paused.
            self._assignment.resume()
            self._poll()
        self.status.partitions = self._assignment.partitions
        self.status.positions = {partition: fold.flushed_to for partition, fold in self._assignment.active.items()}
        self.status.stamps = {
            partition: fold.flushed_stamp
            for partition, fold in self._assignment.active.items()
            if fold.flushed_stamp is not None
        }
        self.status.holds = {
            partition: shown(held.hold.fingerprint) for partition, held in self._assignment.held.items()
        }

    def _attend_to_partitions(self) -> None:
        """Load what was assigned, and look after what is held."""
        report = self.status.errors.of("load")
        try:
            while self._assignment.load_due():
                report(None)
            for held in self._assignment.holds_to_look_at():
                step, self._schemas = self._opening.look_at(held.hold)
                self._assignment.looked_at(held, step)
        except Retryable as error:
            _LOG.warning("%s; trying again", error)
            report(error)

    def _aged(self) -> bool:
        """Whether the consumed events have waited long enough: while ClickHouse is busy with earlier batches more can
        come, since larger batches touch fewer windows per event."""
        if not self._buffer or not self._flusher.idle:
            return False
        return time.monotonic() - self._since >= self._settings.batch_seconds

    def _poll(self) -> None:
        begun = time.monotonic()
        room = self._batch_limit - len(self._buffer)
        wait = self._settings.batch_seconds
        if self._buffer:
            wait = min(wait, max(_SHORTEST_WAIT, wait - (begun - self._since)))
        with self.status.stages.spent("consume"):
            messages = self._consumer.consume(min(room, _CHUNK), wait)
        self._take(messages, begun)

    def _take(self, messages: list[Message], since: float | None = None) -> None:
        """Put messages into the buffer. `since` is the earliest time at which the first of them can have been there."""
        dropped = self._assignment.take_dropped()
        if dropped:
            self._buffer = [message for message in self._buffer if message.partition() not in dropped]
            messages = [message for message in messages if message.partition() in self._assignment.active]
        if any(map(Message.error, messages)):
            self._note_ends(messages)
            messages = [message for message in messages if self._is_event(message)]
        if messages and not self._buffer:
            self._since = time.monotonic() if since is None else since
        self._buffer.extend(messages)

    def _note_ends(self, messages: list[Message]) -> None:
        """At an end of the log everything before it has been handed over: once that is flushed, there is no lag."""
        for end in messages:
            error, partition = end.error(), end.partition() or 0
            if error is None or error.code() != KafkaError._PARTITION_EOF:
                continue
            fold = self._assignment.active.get(partition)
            if fold is not None and partition not in self._assignment.held:
                ours = (m for m in chain(reversed(messages), reversed(self._buffer)) if m.partition() == partition)
                last = next(((m.offset() or 0) + 1 for m in ours if m.error() is None), fold.progress.next_offset)
                self.status.log_ends[partition] = (end.offset() or 0, last)

    def _is_event(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            return False
        if error.code() == KafkaError._AUTO_OFFSET_RESET and message.partition() in self._assignment.active:
            raise Fatal(
                f"partition {message.partition()}: the next offset to fold is not in the log any more ({error.str()}). "
                "Its events were deleted before they were folded; nothing can bring them back from Kafka"
            )
        errors.warn_or_raise(error, _LOG)
        return False

    def _fold_buffer(self, stop: Event) -> None:
        """Fold what was consumed. Thousands of damaged bodies take milliseconds each: after a batch that took long
        come smaller ones, so that the next poll is never too late for the group."""
        begun, size = time.monotonic(), len(self._buffer)
        self._fold_messages(stop)
        if time.monotonic() - begun > _LONG_SECONDS:
            self._batch_limit = min(self._settings.batch_events, max(_SMALLEST_BATCH, size // 8))
        else:
            self._batch_limit = min(self._settings.batch_events, max(self._batch_limit, _SMALLEST_BATCH) * 2)

    def _fold_messages(self, stop: Event) -> None:
        stages = self.status.stages
        with stages.spent("columns"):
            consumed = columns(self._buffer, with_headers=self._settings.traces)
            self._buffer = []
            self._garbage.collect()
        source = self._opening.ask_source()
        with stages.spent("decode"):
            decoded = decode(consumed, self._schemas)
        self._sequence += 1
        folded: list[Folded] = []
        read_again: set[int] = set()
        for part in decoded.frame.partition_by("partition", maintain_order=True):
            fold = self._assignment.active.get(part["partition"][0])
            if fold is None:
                continue
            if self._was_skipped_to(part):
                read_again.add(part["partition"][0])
                continue
            with stages.spent("fold"):
                done = self._retry_while_polling(partial(fold.fold, part, consumed.values, self._sequence), stop)
            if done is not None:
                folded.append(done if consumed.headers is None else with_traces(done, part, consumed.headers))
        for hold in decoded.holds:
            if hold.partition in self._assignment.active and hold.partition not in read_again:
                self._assignment.hold(hold)
        self.status.consumed += len(consumed)
        if folded and self._is_of_source(source, stop):
            self._flusher.submit(self._sequence, folded)
            self._count(folded)

    def _was_skipped_to(self, part: pl.DataFrame) -> bool:
        """Whether these messages are to be read again, since there may be events before them."""
        try:
            return self._assignment.needs_reseek(part["partition"][0], part["offset"][0])
        except Retryable as error:  # the next messages do not follow either: looked at again then
            _LOG.warning("%s", error)
            return True

    def _is_of_source(self, answer: Callable[[], None], stop: Event) -> bool:
        """Whether the batch came from the topic that is folded; False only when the worker stops. Raises Fatal if not.

        `answer`: of a question that was asked after the batch was consumed. It is asked again until there is one.
        """
        answers = chain([answer], iter(self._opening.ask_source, None))

        def attempt() -> bool:
            next(answers)()
            return True

        return self._retry_while_polling(attempt, stop) is not None

    def _retry_while_polling(self, attempt: Callable[[], T], stop: Event) -> T | None:
        """Try until it succeeds; while a server does not answer, keep polling with everything paused. None when the
        worker stops."""
        backoff = Backoff()
        report = self.status.errors.of("fold")
        while not stop.is_set():
            try:
                answer = attempt()
            except Retryable as error:
                report(error)
                _LOG.warning("%s; trying again in %.1f s", error, backoff.pause)
                self._assignment.pause()
                self._take(self._consumer.consume(1, backoff.next()))
                self._look_at_ends()
            else:
                self._assignment.resume()
                report(None)
                return answer
        return None

    def _wait_for_room(self) -> None:
        self._flusher.wait(_ROOM_SECONDS)
        if not self._flusher.has_room:
            # ClickHouse takes long. Without a poll the group would give our partitions away.
            self._assignment.pause()
            self._take(self._consumer.consume(1, 0.1))
            self._look_at_ends()

    def _look_at_ends(self) -> None:
        """Ask where the log ends: of paused partitions nothing is fetched, and the lag would stand still."""
        now = time.monotonic()
        if now < self._ends_due:
            return
        self._ends_due = now + _ENDS_SECONDS
        try:
            ends = log_edge(self._consumer, self._topic, list(self._assignment.active), OFFSET_END, _EDGE_SECONDS)
        except Retryable as error:
            _LOG.info("the ends of the log are not known: %s", error)
            return
        self.status.log_ends.update({partition: (end, end) for partition, end in ends.items()})

    def _acknowledge(self) -> None:
        max_windows = self._settings.windows_in_memory // max(1, len(self._assignment.active))
        for sequence in self._flusher.finished():
            for fold in self._assignment.active.values():
                fold.acknowledge(sequence, max_windows)
            self.status.flushes += 1
            self.status.last_flush = time.monotonic()
            self.status.step_seconds = dict(self._effects.seconds)
            self.status.memory = self._sizes()
        if self._flushed:
            self._commit()

    def _sizes(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for fold in self._assignment.active.values():
            total.update(fold.sizes())
        return dict(total)

    def _flushed_to(self, offsets: dict[int, int]) -> None:
        """The last step of a flush, on the flusher's thread: leave the offsets for our own thread to commit."""
        self._flushed.append(offsets)

    def _count(self, folded: list[Folded]) -> None:
        for done in folded:
            self.status.counted += done.records.num_rows
            self.status.duplicates += done.duplicates.num_rows
            self.status.rejected += done.rejected.num_rows
            if done.rejected.num_rows:
                self.status.reasons.update(map(str, done.rejected["reason"].to_pylist()))
                self.status.rejections.add(done.rejected)

    def _commit(self) -> None:
        """Show how far we are. The progress row decides, so a commit that fails is not repeated.

        Only this thread commits: a commit beside a `consume` waits for it, and then for the next one.
        """
        flushed: dict[int, int] = {}
        while self._flushed:
            flushed.update(self._flushed.popleft())
        ours = [at(self._topic, p, offset) for p, offset in flushed.items() if p in self._assignment.active]
        if not ours:
            return
        for place in ours:
            fold = self._assignment.active[place.partition]
            fold.flushed(place.offset)
            if fold.flushed_stamp is not None:
                now, stamp = time.time(), fold.flushed_stamp / MICROS_PER_SECOND
                self.status.readable.observe(max(0.0, now - stamp))
                recorded = None if fold.flushed_time is None else fold.flushed_time / MICROS_PER_SECOND
                if recorded is not None and stamp - recorded <= _BACK_FILLED_SECONDS:
                    self.status.recorded.observe(max(0.0, now - recorded))
        try:
            self._consumer.commit(offsets=ours, asynchronous=True)
        except (KafkaException, RuntimeError) as error:
            _LOG.info("the group's offsets were not committed: %s", error)

    def _close(self) -> None:
        self._flusher.stop(self._settings.stop_seconds)
        if self._flusher.idle:  # else its thread still waits for an answer on this connection
            self._writer.close()
        self._commit()
        self._consumer.close()

    def _default_consumer(self) -> Consumer:
        """Large fetches: with librdkafka's defaults a backlog is read at a quarter of the speed."""
        classic = {"session.timeout.ms": self._settings.session_timeout_seconds * 1000}
        return clients.consumer(
            self._kafka_settings,
            self._kafka_settings.topic_prefix + self._settings.group_id,
            self._settings.group_protocol,
            **{
                "fetch.min.bytes": 1_000_000,
                "fetch.wait.max.ms": 100,
                "fetch.message.max.bytes": 8_000_000,
                "queued.min.messages": 500_000,
                "queued.max.messages.kbytes": 131_072,
                "enable.partition.eof": True,
                **self.status.membership.settings(self._topic),
                **(classic if self._settings.group_protocol == "classic" else {}),
            },
        )
