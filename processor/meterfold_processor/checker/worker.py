"""One checker process: join, open, judge, until it is stopped.

There is one response to every Retryable: leave no transaction open, drop everything in memory, wait, and open all
partitions again from committed state. Nothing else is ever repaired.
"""

from __future__ import annotations

import logging
import time
from threading import Event, Thread
from typing import Any

from confluent_kafka import KafkaException

from meterfold_processor.backoff import Backoff, Stopped, persist
from meterfold_processor.checker.checker import Checker
from meterfold_processor.checker.clock import Clock, SystemClock
from meterfold_processor.checker.driver import Driver
from meterfold_processor.checker.event_spans import EventSpans
from meterfold_processor.checker.group import CheckerGroup
from meterfold_processor.checker.mirror import Mirror
from meterfold_processor.checker.opening import check
from meterfold_processor.checker.operations import Drive, drive_all
from meterfold_processor.checker.partition import CheckPlan
from meterfold_processor.checker.rules import WindowRules
from meterfold_processor.checker.settings import CheckerSettings, MetricPatterns
from meterfold_processor.checker.slots import Slot, SlotTaken
from meterfold_processor.checker.status import CheckerStatus
from meterfold_processor.checker.stored import CheckerStore
from meterfold_processor.checker.transactions import FencedOut, Transactions
from meterfold_processor.kafka import clients, errors
from meterfold_processor.tracing import NO_SPANS, Spans
from meterfold_schemas.errors import Fatal, Retryable
from meterfold_schemas.settings import ClickHouseSettings, KafkaSettings
from meterfold_schemas.topics import Topics

__all__ = ["CheckerWorker"]

_LOG = logging.getLogger("meterfold.checker")

FENCED_AGAIN_SECONDS = 60.0
_MIRROR_STOP_SECONDS = 3.0


class CheckerWorker:
    """`run` blocks until `stop` is set, or raises Fatal. `drive` performs the operations of each step."""

    def __init__(
        self,
        settings: CheckerSettings,
        kafka_settings: KafkaSettings,
        clickhouse_settings: ClickHouseSettings,
        *,
        drive: Drive = drive_all,
        clock: Clock | None = None,
        mirror: bool = True,
        spans: Spans = NO_SPANS,
    ) -> None:
        self.status = CheckerStatus()
        self._settings = settings
        self._kafka = kafka_settings
        self._clickhouse = clickhouse_settings
        self._drive = drive
        self._spans = spans
        self._clock = clock or SystemClock()
        self._topics = Topics(kafka_settings.topic_prefix)
        self._with_mirror = mirror
        classic = settings.group_protocol == "classic"
        session = settings.session_timeout_seconds if classic else None
        self._slot = Slot(kafka_settings, self._group_id, settings.slot, session)
        self._fenced_at: float | None = None
        self._backoff = Backoff()
        self._poison: set[tuple[str, int]] = set()

    def run(self, stop: Event) -> None:
        """Judge until `stop` is set. Raises Fatal."""
        clients.with_fresh_clients(lambda: self._serve(stop), stop, self.status.errors.of("group"))

    def _serve(self, stop: Event) -> None:
        self._stop = stop
        stored = CheckerStore(self._clickhouse)
        try:
            rules = persist(lambda: check(self._kafka, stored), stop, self.status.errors.of("start"))
            self._slot.wait_until_free(stop, self.status.errors.of("slot"))
        except Stopped:
            return
        mirror = self._start_mirror(stop)
        self._checker = Checker(self._plan(rules), self._clock)
        self._group = CheckerGroup(self._consumer(), self._topics.usage_windows, self._checker.drop)
        self._transactions = Transactions(self._kafka, self._transactional_id)
        self._judged = 0
        self._driver = Driver(self._kafka, self._group_id, self._group, self._transactions, stored, self._pump)
        self._perform = self._driver.perform
        if self._spans.enabled:
            self._perform = EventSpans(self._spans, self._topics, self._driver.perform).perform
        try:
            self._group.join()
            while not stop.is_set():
                mirror.raise_failure()
                self._turn()
        except Stopped:
            pass
        finally:
            self._transactions.close()
            self._group.leave()
            self._driver.close()
            stored.close()
            mirror.stop(_MIRROR_STOP_SECONDS)

    def _turn(self) -> None:
        """Open what waits for it, or judge one step."""
        opening = sorted(self._group.to_open)
        committed = self._checker.transactions
        try:
            if opening:
                if not self._transactions.is_prepared:
                    self._slot.require()
                # Fences a predecessor on this slot before anything of it is read.
                self._transactions.prepare()
                self._drive(self._checker.open(opening), self._perform)
            else:
                self._drive(self._checker.step(), self._perform)
        except FencedOut as error:
            self._fenced(error)
        except Retryable as error:
            self._start_again(error)
        except KafkaException as error:
            cause = errors.as_error(error.args[0], "checking")
            if not isinstance(cause, Retryable) or error.args[0].fatal():
                raise Fatal(str(cause)) from error
            self._start_again(cause)
        else:
            self._backoff.reset()
            self.status.errors.pop("step", None)
        self._update_status(committed)

    def _start_again(self, error: Retryable) -> None:
        pause = self._backoff.next()
        _LOG.warning("%s; everything is read again in %.1f s", error, pause)
        self.status.errors["step"] = str(error)
        self.status.aborts += 1
        self._checker.drop()
        self._transactions.give_up()
        self._group.start_again()
        until = time.monotonic() + pause
        while not self._stop.is_set() and time.monotonic() < until:
            self._group.pump(0.1)

    def _fenced(self, error: FencedOut) -> None:
        """Another producer has taken our transactional id, or our transaction took longer than its timeout. The latter
        can happen repeatedly to a process that is paused. In the former case, the checker that was started later ends
        when it is about to take the id again (see _turn)."""
        if not self._transactions.is_overdue:
            now = time.monotonic()
            if self._fenced_at is not None and now - self._fenced_at < FENCED_AGAIN_SECONDS:
                raise Fatal(
                    f"another producer has taken the transactional id {self._transactional_id!r} twice within "
                    f"{FENCED_AGAIN_SECONDS:.0f} s: give each checker of group {self._group_id!r} its own slot "
                    f"(METERFOLD_CHECKER_SLOT, here {self._settings.slot}), and each installation on a cluster its own "
                    f"topic prefix ({error})",
                    code=SlotTaken.code,
                ) from error
            self._fenced_at = now
        self._transactions.reset()
        self._start_again(error)

    def _update_status(self, transactions_before: int) -> None:
        checker, status = self._checker, self.status
        status.consumed, status.damaged = checker.consumed, checker.damaged
        poison = {(kind, offset) for (kind, _), offset in checker.definitions.poison.items()}
        for kind, offset in sorted(poison - self._poison):
            _LOG.warning("%s.defined, partition 0, offset %d cannot be read: it is not judged", kind, offset)
        self._poison = poison
        status.poison_definitions = len(poison)
        status.emitted = dict(checker.emitted)
        status.assigned = sorted(self._group.assigned)
        status.partitions = checker.ready
        status.positions = checker.positions
        status.waiting = checker.waiting
        status.sweeps = checker.sweeps
        status.windows = checker.windows
        status.memory = checker.memory
        if checker.transactions != transactions_before:
            status.transactions = checker.transactions
            status.last_step = time.monotonic()
        if self._driver.judged != self._judged:
            self._judged = self._driver.judged
            status.step_seconds = self._driver.step_seconds
            status.durations.observe(status.step_seconds)
        if self._driver.unavailable is not None:
            status.errors["windows"] = f"stored windows cannot be read: {self._driver.unavailable}"
        else:
            status.errors.pop("windows", None)

    def _pump(self) -> None:
        if self._stop.is_set():
            raise Stopped
        self._group.pump()

    def _plan(self, rules: WindowRules) -> CheckPlan:
        return CheckPlan(
            topics=self._topics,
            rules=rules,
            aggregated=frozenset(self._settings.aggregated_periods),
            interval=self._settings.emit_interval_seconds,
            is_aggregated=MetricPatterns(self._settings.aggregated_metrics).wants,
            per_second=self._settings.aggregated_per_second or float("inf"),
        )

    @property
    def _group_id(self) -> str:
        """Behind the topic prefix, so that installations can share a cluster."""
        return self._kafka.topic_prefix + self._settings.group_id

    @property
    def _transactional_id(self) -> str:
        return f"{self._group_id}-{self._settings.slot}"

    def _consumer(self) -> Any:
        more: dict[str, Any] = {
            "fetch.wait.max.ms": 50,
            "fetch.message.max.bytes": 4_000_000,
            "client.id": self._slot.client_id,
            **self.status.membership.settings(self._topics.usage_windows),
        }
        if self._settings.group_protocol == "classic":
            more["session.timeout.ms"] = self._settings.session_timeout_seconds * 1000
        return clients.consumer(self._kafka, self._group_id, self._settings.group_protocol, **more)

    def _start_mirror(self, stop: Event) -> _MirrorThread:
        thread = _MirrorThread(
            Mirror(
                self._kafka,
                self._clickhouse,
                f"{self._group_id}-mirror",
                self._settings.group_protocol,
                self._settings.session_timeout_seconds,
                self.status,
            ),
            stop,
        )
        if self._with_mirror:
            thread.start()
        return thread


class _MirrorThread:
    """The mirror beside the checker; its failure ends the process, since commands wait for it."""

    def __init__(self, mirror: Mirror, stop: Event) -> None:
        self._mirror = mirror
        self._outer = stop
        self._stop = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, name="meterfold-mirror", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def stop(self, seconds: float) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self._mirror.run(self._stop)
        except BaseException as failure:
            self._failure = failure
